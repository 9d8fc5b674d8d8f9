#!/usr/bin/env bash
# The public suite of HTTP caching: its own origin, the edge in front of it, its own client. Prints a table and what
# failed; a required test that fails is a failure here, and so are too few optimal ones.
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
    route=${CACHE_ROUTE-'cache = { targets = ["CDN-Cache-Control"] }'}
    optimal_min=95
else
    suite=$root/target/cache-suite/node_modules/http-cache-tests
    server=$suite/server/server.mjs
    route=${CACHE_ROUTE-'cache = {}'}
    optimal_min=78
fi
if [[ ! -f $server ]]; then
    echo "$server is missing; .ci/run says how the packaged edition is installed" >&2
    exit 1
fi

# Its first line says where it listens; what else it says belongs to the dialogue of --id.
export npm_config_protocol=http npm_config_port=0 npm_config_pidfile=$work/origin.pid
# shellcheck disable=SC2016
start origin bash -c 'exec node "$0" > >(read -r line; echo "$line" >&3; exec cat)' "$server"
origin=127.0.0.1:${ready##*:}
origin=${origin%/}

if ((nginx)); then
    need nginx
    backend=$origin
    start_nginx "$here/nginx/cache_suite.conf" 1
    http=http://127.0.0.1:${nginx_ports[0]}
else
    # What the suite does on purpose, such as closing a connection, must neither be repeated nor take the origin out.
    cat >"$work/edge.toml" <<TOML
[server]
drain_timeout = "2s"

[[listen]]
address = "127.0.0.2:0"

[upstream.origin]
endpoints = ["$origin"]
fails_max = 0
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
        --suite "$suite" --base "$http" --optimal-min "$optimal_min" "${chosen[@]}"
}
if ((${#chosen[@]})); then
    # Origin and client write to one file, which has their lines in the order of time.
    run_suite >>"$work/origin.out" || fail "${chosen[1]}" "a required test failed"
    cat "$work/origin.out"
else
    count_checks cache_suite run_suite
fi
