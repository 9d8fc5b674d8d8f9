# For the scripts beside it to source: an edge in front of real servers, checks that print one line each, and an
# end that leaves no process behind.
#
# Every process says itself when it is ready, over a pipe on descriptor 3; nothing here waits for a fixed time.
# Ports are chosen by the kernel. The edge listens on 127.0.0.1 with TLS, so that https://localhost names it, and
# on 127.0.0.2 without.
# shellcheck shell=bash

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
tollgate=${TOLLGATE_BIN:-$root/target/debug/tollgate}
# The clients in Python live in an environment of their own, if .ci/run made one; Debian keeps nginx where an ordinary
# user's PATH does not look.
export PATH=$root/target/parties-venv/bin:$PATH:/usr/sbin
export PYTHONPATH=$here PYTHONDONTWRITEBYTECODE=1
# Proxies and roots that the environment prescribes must not come between a client and the edge.
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
# Replicas of the app keep what they store with the test.
unset DATABASE_URL DATABASE_REPLICA_URL REDIS_URL TOKEN_KEY
unset CURL_CA_BUNDLE REQUESTS_CA_BUNDLE SSL_CERT_FILE SSL_CERT_DIR GRPC_DEFAULT_SSL_ROOTS_FILE_PATH

ready_limit_s=30
stop_limit_s=15
work=$(mktemp -d)
export TOLLGATE_DATA=$work/data
pids=()
passed=0
failed=0

finish() {
    local status=$? pid
    trap - EXIT
    # The edge was started last; those behind it go after it.
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
        stop "${pids[i]}"
    done
    if ((status != 0 || failed)) && [[ -s $work/edge.log ]]; then
        printf -- '--- the last lines of the edge\n' >&2
        tail -n 20 "$work/edge.log" >&2
    fi
    rm -rf "$work"
    ((status != 0)) || ((failed == 0)) || status=1
    printf '%d checks passed, %d failed\n' "$passed" "$failed"
    exit "$status"
}
trap finish EXIT

# Asks a process to end, and ends it if it takes longer than it may.
stop() {
    kill -TERM "$1" 2>/dev/null || return 0
    local deadline=$((SECONDS + stop_limit_s))
    while [[ -d /proc/$1 && $(process_state "$1") != Z ]]; do
        if ((SECONDS > deadline)); then
            echo "process $1 did not end within $stop_limit_s s" >&2
            kill -KILL "$1" 2>/dev/null || true
        fi
        sleep 0.02
    done
    wait "$1" 2>/dev/null || true
}

process_state() {
    sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null || true
}

# Stops here if a command is missing: a check that silently does not run is worse than none.
need() {
    local tool missing=0
    for tool in "$@"; do
        command -v "$tool" >/dev/null || { echo "$tool is not installed" >&2; missing=1; }
    done
    [[ -x $tollgate ]] || { echo "$tollgate is missing: cargo build --workspace" >&2; missing=1; }
    ((missing == 0)) || exit 1
}

pass() {
    passed=$((passed + 1))
    printf 'ok    %s\n' "$1"
}

fail() {
    failed=$((failed + 1))
    printf 'FAIL  %s: %s\n' "$1" "$2"
}

# expect NAME ACTUAL WANTED
expect() {
    if [[ $2 == "$3" ]]; then pass "$1"; else fail "$1" "got '${2:0:300}', wanted '${3:0:300}'"; fi
}

# expect_match NAME ACTUAL REGEX
expect_match() {
    if [[ $2 =~ $3 ]]; then pass "$1"; else fail "$1" "'${2:0:300}' does not match '$3'"; fi
}

# expect_no_match NAME ACTUAL REGEX
expect_no_match() {
    if [[ $2 =~ $3 ]]; then fail "$1" "'${2:0:300}' matches '$3'"; else pass "$1"; fi
}

# count_checks NAME COMMAND…: runs a command whose lines are checks, as those of _checks.py, and counts them in.
count_checks() {
    local name=$1 status=0 failures
    shift
    "$@" | tee "$work/checks" || status=$?
    passed=$((passed + $(grep -c '^ok ' "$work/checks" || true)))
    failures=$(grep -c '^FAIL ' "$work/checks" || true)
    failed=$((failed + failures))
    ((status == 0 || failures > 0)) || fail "$name" "ended with status $status"
}

python_checks() {
    count_checks "$1" python3 -u "$here/$1" "${@:2}"
}

# json_field EXPRESSION: evaluates it on standard input as the value `v`.
json_field() {
    python3 -c 'import json, sys; v = json.load(sys.stdin); r = eval(sys.argv[1]); print("" if r is None else r)' "$1"
}

# start NAME COMMAND…: starts it, waits for the line that it writes to descriptor 3, and leaves that in `ready`.
start() {
    local name=$1
    shift
    mkfifo "$work/$name.ready"
    "$@" 3>"$work/$name.ready" >>"$work/$name.out" 2>>"$work/$name.log" &
    started=$!
    pids+=("$started")
    if ! read -r -t "$ready_limit_s" ready <"$work/$name.ready"; then
        echo "$name was not ready within $ready_limit_s s" >&2
        tail -n 40 "$work/$name.log" >&2
        exit 1
    fi
}

# start_edge CONFIG: sets edge_pid, http (127.0.0.2, cleartext), https (localhost), their ports and admin.
start_edge() {
    "$tollgate" check -c "$1" >"$work/check" 2>&1 || { cat "$work/check" >&2; exit 1; }
    start edge "$tollgate" run -c "$1" --ready-fd 3
    edge_pid=$started
    http_port=$(json_field 'v["listeners"].get("127.0.0.2:0", "").rpartition(":")[2]' <<<"$ready")
    https_port=$(json_field 'v["listeners"].get("127.0.0.1:0", "").rpartition(":")[2]' <<<"$ready")
    admin=$(json_field '"http://" + (v["admin"] or "")' <<<"$ready")
    http=http://127.0.0.2:$http_port
    https=https://localhost:$https_port
    echo "edge $edge_pid: $http, $https"
}

# start_origin: a small origin in Python; sets origin (address and port).
start_origin() {
    start origin python3 -u "$here/_origin.py"
    origin=$ready
}

# start_backend: one backend app that is no child of the edge; sets backend (address and port).
start_backend() {
    # It says on stderr where it listens.
    start backend bash -c 'exec "$0" backend --listen 127.0.0.1:0 2>&3' "$tollgate"
    backend=${ready##*http://}
}

# start_nginx CONFIG PORT-COUNT: fills @PORT1@, @PORT2@…, @BACKEND@ and @WORK@ in, starts it in the foreground, and waits until it
# answers. nginx takes no listening socket whose port it would say, so the ports are free ones of a moment ago.
start_nginx() {
    local config=$1 count=$2 name i
    name=nginx-$(basename "$config" .conf)
    mapfile -t nginx_ports < <(free_ports "$count")
    cp "$config" "$work/$name.conf"
    for ((i = 1; i <= count; i++)); do
        sed -i "s/@PORT$i@/${nginx_ports[i - 1]}/g" "$work/$name.conf"
    done
    sed -i "s|@WORK@|$work|g; s|@BACKEND@|${backend:-}|g" "$work/$name.conf"
    # Its workers must be able to write below $work, which root alone may enter.
    local user=''
    ((EUID != 0)) || user='user root;'
    nginx -p "$work" -e "$work/$name.log" -c "$work/$name.conf" -g "daemon off; $user" >>"$work/$name.out" 2>&1 &
    pids+=("$!")
    python3 -c '
import socket, sys, time
deadline = time.monotonic() + float(sys.argv[2])
while True:
    try:
        socket.create_connection(("127.0.0.1", int(sys.argv[1])), 1).close()
        break
    except OSError:
        if time.monotonic() > deadline:
            sys.exit("nginx was not ready in time")
        time.sleep(0.02)
' "${nginx_ports[0]}" "$ready_limit_s" || { cat "$work/$name.log" "$work/$name.out" >&2; exit 1; }
}

free_ports() {
    python3 -c '
import socket, sys
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
for s in sockets:
    print(s.getsockname()[1])
' "$1"
}

# A root in $work/ca.pem, and from it a certificate for localhost, 127.0.0.1 and 127.0.0.2 in $work/cert.pem with its key
# in $work/key.pem.
make_certificate() {
    local key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)
    {
        openssl req -x509 "${key[@]}" -days 2 -subj '/CN=Root of a test' -addext 'keyUsage=critical,keyCertSign' \
            -keyout "$work/ca.key" -out "$work/ca.pem" &&
            openssl req "${key[@]}" -subj /CN=localhost -keyout "$work/key.pem" -out "$work/cert.csr" &&
            openssl x509 -req -in "$work/cert.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -CAcreateserial -days 2 \
                -extfile <(echo 'subjectAltName=DNS:localhost,IP:127.0.0.1,IP:127.0.0.2
basicConstraints=critical,CA:FALSE
extendedKeyUsage=serverAuth') -out "$work/cert.pem"
    } 2>"$work/openssl.log" >&2 || { cat "$work/openssl.log" >&2; exit 1; }
}

# Prints the part of a configuration that all scripts share: both listeners, their certificate, a quiet log.
# shellcheck disable=SC2120
listeners() {
    make_certificate
    cat <<TOML
[server]
drain_timeout = "2s"

[[listen]]
address = "127.0.0.1:0"
tls = true

[[listen]]
address = "127.0.0.2:0"
protocols = ["h1", "h2"]

[[certificate]]
hosts = ["localhost", "127.0.0.1", "127.0.0.2"]
certificate = "$work/cert.pem"
key = "$work/key.pem"

[admin]
address = "127.0.0.3:0"

[log]
access = { format = "json", path = "$work/access.log" }

TOML
}

# Prints an upstream "app" of replicas of the backend app, and a route to it.
app() {
    cat <<TOML
[upstream.app]
run = { command = ["{self}", "backend", "--listen", "{address}"], replicas = ${1:-2} }
health = { path = "/health", interval = "1s" }

[[route]]
path = "/"
upstream = "app"
body_max = "64MiB"

TOML
}
