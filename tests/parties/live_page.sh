#!/usr/bin/env bash
# The live page in a browser without a window: numbers move under load, a replica that is killed turns red, an endpoint
# is drained by its button, a bad file and hostile names show as text, and it can be read on a phone and by who uses
# assistive technology. Set TOLLGATE_NO_BROWSER=1 to leave this out where Chromium is not wanted.
#
# SHOTS      a folder for screenshots, light and dark, wide and narrow
# PAGE_FROM  a folder with the files of the page, to work on them without a build
source "$(dirname "${BASH_SOURCE[0]}")/_lib.sh"
if [[ ${TOLLGATE_NO_BROWSER:-} == 1 ]]; then
    echo "left out: TOLLGATE_NO_BROWSER is 1"
    exit 0
fi
need chromium node openssl python3
modules=$root/target/page-tools/node_modules
if [[ ! -d $modules/playwright-core || ! -d $modules/axe-core ]]; then
    echo "$modules is missing; .ci/run says how the tools are installed" >&2
    exit 1
fi

token=0123456789abcdef-of-a-test
printf %s "$token" >"$work/token"
start_backend
first=$backend
start second bash -c 'exec "$0" backend --listen 127.0.0.1:0 2>&3' "$tollgate"
second=${ready##*http://} second_pid=$started
{
    listeners
    cat <<TOML
[upstream.app]
run = { command = ["{self}", "backend", "--listen", "{address}"], replicas = 3 }
balance = "round-robin"
health = { path = "/health", interval = "2s", unhealthy_after = 1 }
breaker = { failures = 1000 }

# Two that nobody starts again.
[upstream.shop]
endpoints = ["$first", "$second"]
balance = "round-robin"
health = { path = "/health", interval = "2s", unhealthy_after = 1 }

[upstream.partner]
endpoints = ["$first", "127.0.0.1:9"]
balance = "round-robin"
fail_timeout = "60s"

[rate_limit.per-ip]
key = "client-ip"
requests = 40
window = "60s"

[cache]
memory = "24MiB"

[[route]]
path = "/health"
upstream = "app"

[[route]]
path = "/bytes"
upstream = "app"
cache = { default_ttl = "10s" }

[[route]]
path = "/slow"
upstream = "shop"

[[route]]
path = "/partner"
upstream = "partner"

[[route]]
path = "/limited"
text = "a page for few"
rate_limit = ["per-ip"]

[[route]]
path = "/"
upstream = "app"
TOML
} | sed 's|^address = "127.0.0.3:0"|&\ncontrol = { token_file = "'"$work"'/token" }|' >"$work/edge.toml"
start_edge "$work/edge.toml"

count_checks live_page timeout 240 node --no-warnings "$here/_live_page.mjs" --modules "$modules" --admin "$admin" \
    --edge "$http" --victim "$second" --victim-pid "$second_pid" --token "$token" --config "$work/edge.toml" --tollgate "$tollgate" --shots "${SHOTS:-}" \
    --page-from "${PAGE_FROM:-}"
