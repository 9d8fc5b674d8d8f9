#!/usr/bin/env bash
# gRPC through the edge: TLS and HTTP/2 to the edge, HTTP/2 by prior knowledge to the service.
source "$(dirname "${BASH_SOURCE[0]}")/_lib.sh"
need openssl python3

start service python3 -u "$here/_grpc_service.py"
{
    listeners
    cat <<TOML
[upstream.service]
endpoints = ["$ready"]
protocol = "h2"

[[route]]
path = "/party.Service"
upstream = "service"
TOML
} >"$work/edge.toml"
start_edge "$work/edge.toml"

python_checks grpc_calls.py "localhost:$https_port" "127.0.0.2:$http_port" "$work/ca.pem"
