#!/usr/bin/env bash
# The public suite of HTTP caching: its own origin, the edge in front of it, its own client. Prints a table and what
# failed. A required test that fails must stand in cache_suite_differences.txt, with a reason; what stands there must fail.
# Too few optimal ones are a failure too.
#
#   tests/parties/cache_suite.sh              every test of the packaged edition
#   tests/parties/cache_suite.sh --id ID      one test or one group of tests, with all that was sent and received
#   tests/parties/cache_suite.sh --nginx      nginx in place of the edge, to compare; with --id too
#
# CACHE_SUITE   a checkout of the suite's repository, after `npm install --omit=dev` there: its current edition
# CACHE_ROUTE   the line of the route that switches the cache on
source "$(dirname "${BASH_SOURCE[0]}")/_lib.sh"
need node

run_limit_s=300
nginx=0
chosen=()
while (($#)); do
    case $1 in
        --nginx) nginx=1 ;;
        --id) chosen=(--id "${2:?--id needs a test or a group}"); shift ;;
        *) echo "unknown argument: $1" >&2; exit 2 ;;
    esac
    shift
done

# The current edition has tests of a targeted field (RFC 9213), so the edge is told to obey it.
if [[ -n ${CACHE_SUITE:-} ]]; then
    suite=$CACHE_SUITE
    server=$suite/test-engine/server/server.mjs
    targets='"CDN-Cache-Control"'
    optimal_min=95
else
    suite=$root/target/cache-suite/node_modules/http-cache-tests
    server=$suite/server/server.mjs
    targets=
    optimal_min=78
fi
# Fair settings: a cache, and nothing else that changes responses.
route=${CACHE_ROUTE-'cache = {}'}
if [[ ! -f $server ]]; then
    echo "$server is missing; .ci/run says how the packaged edition is installed" >&2
    exit 1
fi

start origin node "$here/_cache_origin.mjs" "$server"
origin=$ready
differences=(--differences "$here/cache_suite_differences.txt")

if ((nginx)); then
    need nginx
    backend=$origin
    differences=()
    start_nginx "$here/nginx/cache_suite.conf" 1
    http=http://127.0.0.1:${nginx_ports[0]}
else
    # What the suite does on purpose, such as closing a connection, must neither be repeated nor take the origin out.
    cat >"$work/edge.toml" <<TOML
compress = false

[server]
drain_timeout = "2s"

[cache]
targets = [$targets]

[[listen]]
address = "127.0.0.2:0"

[upstream.origin]
endpoints = ["$origin"]
fails_max = 0
endpoint_requests_max = 0
retry = { attempts = 1 }

[[route]]
path = "/"
upstream = "origin"
$route

[log]
access = { format = "json", path = "$work/access.log" }
TOML
    start_edge "$work/edge.toml"
fi

run_suite() {
    timeout "$run_limit_s" node --no-warnings "$here/_cache_suite.mjs" \
        --suite "$suite" --base "$http" --optimal-min "$optimal_min" \
        "${differences[@]}" "${chosen[@]}"
}
if ((${#chosen[@]})); then
    # Origin and client write to one file, which has their lines in the order of time.
    run_suite >>"$work/origin.out" || fail "${chosen[1]}" "a required test failed, or none ran"
    cat "$work/origin.out"
else
    count_checks cache_suite run_suite
fi
