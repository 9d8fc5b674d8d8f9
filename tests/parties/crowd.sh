#!/usr/bin/env bash
# A crowd of idle TLS connections, and a cache that is larger than the memory of its control group, each beside good
# requests that arrive in an open loop: not one of them may fail.
source "$(dirname "${BASH_SOURCE[0]}")/_lib.sh"
need python3 openssl curl

wanted=${TOLLGATE_CROWD:-8000}
# This side and the edge have the same limit: a descriptor a connection, and on either side some for the rest.
ulimit -Sn "$(ulimit -Hn)"
room=$(ulimit -n)
if [[ $room != unlimited ]] && ((room / 2 - 500 < wanted)); then
    wanted=$((room / 2 - 500))
    echo "      $wanted connections: the limit of open files is $room"
fi

start_backend
{
    listeners
    printf '[client]\nidle_timeout = "2min"\ntrusted = ["127.0.0.0/8"]\n\n'
    printf '[upstream.app]\nendpoints = ["%s"]\n\n[[route]]\npath = "/"\nupstream = "app"\n' "$backend"
} >"$work/edge.toml"

echo "$wanted idle connections over TLS"
start_edge "$work/edge.toml"
python_checks _crowd.py idle "$http_port" "$https_port" "$admin" "$edge_pid" "$wanted"
stop "$edge_pid"

echo "a control group with 128 MiB"
if [[ -w /sys/fs/cgroup/cgroup.procs && -f /sys/fs/cgroup/memory.max ]]; then
    group=/sys/fs/cgroup/tollgate-$$ limit=memory.max
elif [[ -w /sys/fs/cgroup/memory/cgroup.procs ]]; then
    group=/sys/fs/cgroup/memory/tollgate-$$ limit=memory.limit_in_bytes
else
    echo "      left out: this user may make no control group here"
    exit 0
fi
if ! mkdir "$group" 2>/dev/null || ! echo $((128 << 20)) >"$group/$limit"; then
    rmdir "$group" 2>/dev/null || true
    echo "      left out: the control groups here do not limit memory"
    exit 0
fi
leave_group() {
    ((started_in_group == 0)) || stop "$edge_pid"
    rmdir "$group" || true
    finish
}
started_in_group=0
trap leave_group EXIT
# The edge alone is in it.
printf '#!/bin/sh\necho $$ >"%s/cgroup.procs"\nexec "%s" "$@"\n' "$group" "$tollgate" >"$work/limited"
chmod +x "$work/limited"
tollgate=$work/limited
{
    printf '[cache]\nmemory = "512MiB"\nobject_max = "4MiB"\n\n'
    cat "$work/edge.toml"
    printf 'cache = { default_ttl = "1h" }\n'
} >"$work/limited.toml"
mv "$work/edge.log" "$work/edge.first.log"
rm "$work/edge.ready"
start_edge "$work/limited.toml"
started_in_group=1
python_checks _crowd.py cache "$http_port" "$https_port" "$admin" "$edge_pid" 200
expect "the edge runs" "$(process_state "$edge_pid")" S
