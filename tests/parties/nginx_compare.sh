#!/usr/bin/env bash
# The same requests through nginx and through the edge, each with the configuration of examples/from-nginx.toml. What
# differs must stand in nginx/differences.txt, with a reason; what stands there must differ.
source "$(dirname "${BASH_SOURCE[0]}")/_lib.sh"
need nginx python3

start_backend
start_nginx "$here/nginx/edge.conf" 1
sed -e "s|\"app:3000\"|\"$backend\"|" -e 's|"0.0.0.0:80"|"127.0.0.2:0"|' "$root/examples/from-nginx.toml" >"$work/edge.toml"
start_edge "$work/edge.toml"

python_checks nginx_compare.py "127.0.0.1:${nginx_ports[0]}" "127.0.0.2:$http_port" "$here/nginx/differences.txt"
