# For scripts to source after _lib.sh: a real PostgreSQL and a real Redis of the test's own, on free ports.
# shellcheck shell=bash

need redis-server redis-cli setpriv
pg_bin=$(dirname "$(printf '%s\n' /usr/lib/postgresql/*/bin/postgres | sort -V | tail -n 1)")
[[ -x $pg_bin/initdb ]] || { echo "no PostgreSQL below /usr/lib/postgresql" >&2; exit 1; }
mapfile -t ports < <(free_ports 2)
pg_port=${ports[0]} redis_port=${ports[1]}
# It serves for nobody but its own user, who must get through to its folder.
pg_folder=$work/postgres
mkdir "$pg_folder"
chmod 711 "$work"

as_postgres() {
    if ((EUID == 0)); then
        exec setpriv --reuid=postgres --regid=postgres --clear-groups "$@"
    else
        exec "$@"
    fi
}

# Asks until it succeeds.
await() {
    local what=$1 deadline=$((SECONDS + ready_limit_s))
    shift
    until "$@" >/dev/null 2>&1; do
        if ((SECONDS > deadline)); then
            echo "$what was not ready within $ready_limit_s s" >&2
            exit 1
        fi
        sleep 0.05
    done
}

# serve_postgres FOLDER PORT
serve_postgres() {
    (as_postgres "$pg_bin/postgres" -D "$pg_folder/$1" -p "$2" -k "$pg_folder" \
        -c listen_addresses=127.0.0.1 -c max_connections=400) >>"$work/$1.log" 2>&1 &
    # What the edge stands on ends after the edge.
    pids=("$!" "${pids[@]}")
}

start_postgres() {
    serve_postgres data "$pg_port"
    pg_pid=$!
}

start_redis() {
    redis-server --bind 127.0.0.1 --port "$redis_port" --save '' --appendonly no --dir "$work" >>"$work/redis.log" 2>&1 &
    redis_pid=$!
    pids=("$redis_pid" "${pids[@]}")
}

# start_stores: both, empty, and in the environment of what is started after them.
start_stores() {
    ((EUID != 0)) || chown postgres: "$pg_folder"
    (as_postgres "$pg_bin/initdb" -D "$pg_folder/data" -U tollgate --auth=trust --no-sync) >"$work/initdb.log" 2>&1
    start_postgres
    start_redis
    await PostgreSQL "$pg_bin/pg_isready" -h 127.0.0.1 -p "$pg_port" -d postgres -U tollgate
    await Redis redis-cli -p "$redis_port" ping
    export DATABASE_URL=postgres://tollgate@127.0.0.1:$pg_port/postgres
    export REDIS_URL=redis://127.0.0.1:$redis_port
    export PASSWORD_COST=64,1
}
