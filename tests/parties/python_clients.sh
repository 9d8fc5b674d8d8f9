#!/usr/bin/env bash
# requests, httpx and websockets against the edge: kept connections, streams, many at once, tunnels, events.
source "$(dirname "${BASH_SOURCE[0]}")/_lib.sh"
need openssl python3

# An origin that chooses a subprotocol and a close code, which the backend app does not.
start_origin
start socket python3 -u "$here/_socket_origin.py"
{
    listeners
    app 2
    cat <<TOML
[upstream.socket]
endpoints = ["$ready"]

[[route]]
path_exact = "/chat"
upstream = "socket"

[upstream.origin]
endpoints = ["$origin"]

[[route]]
path_exact = "/text"
upstream = "origin"

[[route]]
path_exact = "/small"
upstream = "app"
body_max = "100KiB"
TOML
} >"$work/edge.toml"
start_edge "$work/edge.toml"

python_checks python_clients.py "$http" "$https" "$work/ca.pem"
