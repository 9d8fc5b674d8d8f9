#!/usr/bin/env bash
# promtool of Prometheus reads the metrics of the edge and of the app, while both have had requests of many kinds.
source "$(dirname "${BASH_SOURCE[0]}")/_lib.sh"
need curl promtool openssl

{
    listeners
    app 2
    cat <<TOML
[rate_limit.few]
requests = 5
window = "60s"

[[route]]
path = "/bytes"
upstream = "app"
cache = { default_ttl = "1min" }
rate_limit = ["few"]
TOML
} >"$work/edge.toml"
start_edge "$work/edge.toml"

for _ in {1..8}; do
    curl -s -o /dev/null "$http/bytes/1000"
    curl -s -o /dev/null --cacert "$work/ca.pem" "$https/echo" -d x=y
done
curl -s -o /dev/null "$http/status/500"
curl -s -o /dev/null --path-as-is "$http/%"

# reads NAME URL: what promtool has to say of a page; nothing, if it is good.
reads() {
    local said
    curl -s "${@:2}" >"$work/page"
    said=$(promtool check metrics <"$work/page" 2>&1) || true
    expect "$1" "$said" ""
}

reads "promtool finds nothing in the metrics of the edge" "$admin/metrics"
expect_match "the edge counts what was refused" "$(<"$work/page")" \
    'tollgate_rate_limit_requests_total\{decision="limited",limit="few"\} 3'
reads "nor in those that are compressed" --compressed "$admin/metrics"
reads "nor in those of the app" "$http/metrics"
