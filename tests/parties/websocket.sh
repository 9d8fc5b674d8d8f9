#!/usr/bin/env bash
# Frames of WebSocket, right and wrong, through the edge and direct.
source "$(dirname "${BASH_SOURCE[0]}")/_lib.sh"
need openssl python3

start socket python3 -u "$here/_frame_origin.py"
socket=$ready
{
    listeners
    cat <<TOML
[upstream.socket]
endpoints = ["$socket"]

[[route]]
path = "/"
upstream = "socket"
TOML
} >"$work/edge.toml"
start_edge "$work/edge.toml"

python_checks websocket_frames.py "$socket" "127.0.0.2:$http_port" "localhost:$https_port" "$work/ca.pem"
