#!/usr/bin/env bash
# The backend app behind the edge on a real PostgreSQL with a streaming replica, and a real Redis: every route, and what
# clients notice when one of them, or a replica, goes away and comes back.
source "$(dirname "${BASH_SOURCE[0]}")/_lib.sh"
source "$here/_stores.sh"
need python3 openssl psql
pg_replica_port=$(free_ports 1)

start_pg_replica() {
    serve_postgres replica "$pg_replica_port"
    pg_replica_pid=$!
    await "the replica of PostgreSQL" "$pg_bin/pg_isready" -h 127.0.0.1 -p "$pg_replica_port" -d postgres -U tollgate
}

# end SIGNAL PID: without giving it the time to take leave.
end() {
    kill "-$1" "$2"
    wait "$2" 2>/dev/null || true
}

start_stores
(as_postgres "$pg_bin/pg_basebackup" -h 127.0.0.1 -p "$pg_port" -U tollgate -D "$pg_folder/replica" \
    --write-recovery-conf --checkpoint=fast --no-sync) >"$work/basebackup.log" 2>&1
start_pg_replica
export DATABASE_REPLICA_URL=postgres://tollgate@127.0.0.1:$pg_replica_port/postgres
# Three replicas on an empty database: one of them makes the tables.
{ listeners; app 3; } >"$work/edge.toml"
start_edge "$work/edge.toml"
checks() { python_checks app_stores.py "$@" "$https" "$work/ca.pem" "$admin" "$redis_port"; }

echo "routes"
checks routes
checks media
"$tollgate" backend seed --size small 2>>"$work/seed.log"
python_checks app_goods.py routes "$https" "$work/ca.pem"

python_checks app_replica.py paused "$https" "$work/ca.pem"
end QUIT "$pg_replica_pid"
python_checks app_replica.py gone "$https" "$work/ca.pem"
start_pg_replica
python_checks app_replica.py back "$https" "$work/ca.pem"

# during NAME SECONDS: clients ask and order in the background for so long.
during() {
    python3 -u "$here/app_stores.py" "$@" "$https" "$work/ca.pem" "$admin" "$redis_port" >"$work/asked" 2>&1 &
    asking=$!
    python3 -u "$here/app_goods.py" "$@" "$https" "$work/ca.pem" >"$work/ordered" 2>&1 &
    ordering=$!
    pids+=("$asking" "$ordering")
    await "those who ask" grep -q '^asking' "$work/asked"
    await "those who order" grep -q '^asking' "$work/ordered"
}

answered() {
    wait "$asking" "$ordering" || true
    cat "$work/asked" "$work/ordered" | grep -v '^asking' >"$work/during.checks" || true
    count_checks "$1" cat "$work/during.checks"
}

echo "PostgreSQL killed, and back after four seconds"
during outage 9
end QUIT "$pg_pid"
sleep 4
start_postgres
answered outage

echo "Redis killed, and back after three seconds"
during redis 7
end KILL "$redis_pid"
sleep 3
start_redis
answered redis

echo "a replica killed"
during replica 4
replica=$(curl --silent "$admin/status" | json_field 'v["replicas"][0]["pid"]')
kill -KILL "$replica"
answered replica

echo "afterwards"
checks afterwards
