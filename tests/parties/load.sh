#!/usr/bin/env bash
# h2load and wrk: some thousand requests at once, and not one of them may fail.
source "$(dirname "${BASH_SOURCE[0]}")/_lib.sh"
need h2load wrk openssl python3 curl

{
    listeners
    app 2
} >"$work/edge.toml"
start_edge "$work/edge.toml"

# h2load_checks NAME REQUESTS OPTIONS…: all succeed with 2xx, none fails.
h2load_checks() {
    local name=$1 requests=$2 output
    shift 2
    output=$(timeout 60 h2load --requests="$requests" "$@" 2>&1) || true
    printf '      %s\n' "$(grep '^finished in' <<<"$output")"
    expect "$name: requests" "$(sed -n 's/^requests: *//p' <<<"$output")" \
        "$requests total, $requests started, $requests done, $requests succeeded, 0 failed, 0 errored, 0 timeout"
    expect "$name: statuses" "$(sed -n 's/^status codes: *//p' <<<"$output")" "$requests 2xx, 0 3xx, 0 4xx, 0 5xx"
}

h2load_checks "h1" 3000 --h1 --clients=50 "$http/bytes/1024"
h2load_checks "h1 over TLS" 2000 --h1 --clients=20 "$https/bytes/1024"
h2load_checks "h2c" 3000 --clients=10 --max-concurrent-streams=20 "$http/bytes/1024"
h2load_checks "h2 over TLS" 3000 --clients=10 --max-concurrent-streams=20 "$https/bytes/1024"
h2load_checks "h2 with bodies of 256 KiB" 200 --clients=4 --max-concurrent-streams=10 "$https/bytes/262144"
head -c 20000 /dev/zero >"$work/20k"
h2load_checks "h2 uploads of 20 kB" 1000 --clients=5 --max-concurrent-streams=10 --data="$work/20k" "$https/upload"
h2load_checks "h1 uploads of 20 kB" 1000 --h1 --clients=20 --data="$work/20k" "$http/upload"

output=$(wrk --threads 2 --connections 50 --duration 2s --timeout 5s "$http/bytes/1024" 2>&1)
printf '      %s\n' "$(grep 'requests in' <<<"$output")"
expect_match "wrk: h1" "$output" "Requests/sec"
expect_no_match "wrk: no failure" "$output" "Socket errors|Non-2xx"
output=$(wrk --threads 2 --connections 20 --duration 1s --timeout 5s "$https/bytes/1024" 2>&1)
printf '      %s\n' "$(grep 'requests in' <<<"$output")"
expect_match "wrk: h1 over TLS" "$output" "Requests/sec"
expect_no_match "wrk: no failure over TLS" "$output" "Socket errors|Non-2xx"

echo "afterwards"
expect "the edge answers" "$(curl -s -o /dev/null -w '%{http_code}' "$http/health")" 200
expect "no request ended with an error" "$(grep -c '"status":5' "$work/access.log" || true)" 0
served=$(python3 - "$work/access.log" <<'PY'
import json, sys
seen = set()
for line in open(sys.argv[1]):
    seen.add(json.loads(line).get("endpoint"))
print(len(seen - {None}))
PY
)
expect "both replicas served" "$served" 2
in_flight=$(curl -s "$admin/metrics" | awk '/^tollgate_upstream_in_flight/ { n += $NF; seen++ } END { print n + 0, "at", seen }')
expect "nothing is in flight any more" "$in_flight" "0 at 2"
