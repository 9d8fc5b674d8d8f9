#!/usr/bin/env bash
# Spans to a real collector, rotel, by OTLP over HTTP and over gRPC: edge, app and job in one trace, under the names that
# the response and the log have. And requests go on while the collector is stopped. At last the same of an app on a real
# PostgreSQL and a real Redis, and what is said of a Redis that is gone.
source "$(dirname "${BASH_SOURCE[0]}")/_lib.sh"
source "$here/_stores.sh"
need curl openssl python3
agent=$(python3 -c 'import os, rotel; print(os.path.join(os.path.dirname(rotel.__file__), "rotel-agent"))')

mapfile -t collector_ports < <(free_ports 2)
"$agent" start --exporter blackhole --debug-log traces --debug-log-verbosity detailed \
    --otlp-http-endpoint "127.0.0.1:${collector_ports[0]}" --otlp-grpc-endpoint "127.0.0.1:${collector_ports[1]}" \
    --pid-file "$work/rotel.pid" --log-file "$work/rotel-file.log" >"$work/rotel.out" 2>&1 &
rotel_pid=$!
pids+=("$rotel_pid")
export OTEL_BSP_SCHEDULE_DELAY=50

# trace_by PROTOCOL PORT STORE…: one edge with its app on these, and what the collector has of one request.
trace_by() {
    # The one before keeps its name, and the app its database.
    rm -rf "$work/edge.ready" "$TOLLGATE_DATA"
    OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:$2 OTEL_EXPORTER_OTLP_PROTOCOL=$1 OTEL_TRACES_SAMPLER=always_on
    export OTEL_EXPORTER_OTLP_ENDPOINT OTEL_EXPORTER_OTLP_PROTOCOL OTEL_TRACES_SAMPLER
    start_edge "$work/edge.toml"
    python_checks traces.py "$1" "$http" "$work/rotel.out" "$work/access.log" "${@:3}"
}

{ listeners; app 1; } >"$work/edge.toml"
trace_by http/protobuf "${collector_ports[0]}" sqlite
exported=$(curl -s "$admin/metrics" | sed -n 's/^tollgate_spans_exported_total //p')
expect_match 'spans are counted' "$exported" '^[1-9]'

# Frozen: it accepts and never answers.
kill -STOP "$rotel_pid"
codes=$(for _ in {1..200}; do curl -s -o /dev/null -w '%{http_code}\n' --max-time 5 "$http/echo"; done | sort | uniq -c)
kill -CONT "$rotel_pid"
expect_match 'requests go on while the collector is stopped' "$codes" '^ *200 200$'
stop "$edge_pid"

trace_by grpc "${collector_ports[1]}" sqlite
stop "$edge_pid"

start_stores
trace_by http/protobuf "${collector_ports[0]}" postgresql redis
