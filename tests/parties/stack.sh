#!/usr/bin/env bash
# What deploy/ ships, with the real programs that are packaged: rules and their tests, routes of alerts, and a Prometheus that
# scrapes the edge, three replicas and the exporters. Whatever a rule or a dashboard asks for must be there.
# What cannot run here stands in stack_left_out.txt, with the reason.
source "$(dirname "${BASH_SOURCE[0]}")/_lib.sh"
source "$here/_stores.sh"
need python3 curl openssl promtool amtool prometheus prometheus-alertmanager prometheus-node-exporter \
    prometheus-postgres-exporter prometheus-redis-exporter docker-compose systemd-analyze logrotate
deploy=$root/deploy

# run NAME COMMAND…: one check, that it ends well; what it says is shown if it does not.
run() {
    local name=$1
    shift
    if "$@" >"$work/said" 2>&1; then pass "$name"; else fail "$name" "$(tail -c 300 "$work/said")"; fi
}

echo "files"
python_checks stack_files.py "$deploy"
# Debian's is older than the key `name`.
compose() { (cd "$deploy" && sed '/^name:/d' compose.yaml | docker-compose --env-file "$work/env" -p tollgate -f - config --quiet); }
sed 's/^[A-Z_]*=$/&secret/' "$deploy/.env.example" >"$work/env"
run "compose.yaml is valid" compose
# Its control socket has a folder in the container.
sed "s|/run/tollgate/|$work/|" "$deploy/edge/config.toml" >"$work/shipped.toml"
run "the edge's configuration" "$tollgate" check -c "$work/shipped.toml"
run "rules" promtool check rules "$deploy"/prometheus/rules/*.yml
run "the configuration of Prometheus" promtool check config "$deploy/prometheus/prometheus.yml"
for file in "$deploy"/prometheus/tests/*.test.yml; do
    run "rules as ${file##*/} wants them" promtool test rules "$file"
done
routing=$deploy/alertmanager/alertmanager.yml
run "the configuration of the Alertmanager" amtool check-config "$routing"
while read -r receiver labels; do
    # shellcheck disable=SC2086
    expect "$labels goes to" "$(amtool config routes test --config.file="$routing" $labels 2>/dev/null)" "$receiver"
done <<'ROUTES'
pager alertname=TollgateDown severity=critical
chat alertname=TollgateErrorRatio severity=warning
chat alertname=HighErrorRate severity=critical
dead-mans-switch alertname=Watchdog severity=none
ROUTES

# systemd wants the command to be there, and /usr/local/bin/tollgate is not.
mkdir "$work/units"
cp "$deploy"/systemd/* "$work/units"
sed -i "s|/usr/local/bin/tollgate|$tollgate|" "$work/units/tollgate.service"
run "units of systemd" systemd-analyze verify "$work/units/tollgate.service" "$work/units/tollgate.socket"
# In tenths: 1.5 of 10.
run "exposure of the service" systemd-analyze security --offline=true --threshold=15 "$work/units/tollgate.service"

echo "live"
start_stores
# As in its container, where nothing can be written.
TOKEN_KEY=$(openssl rand -hex 24)
export TOKEN_KEY
for replica in 1 2 3; do
    start "app$replica" bash -c 'exec "$0" backend --listen 127.0.0.1:0 2>&3' "$tollgate"
    replicas+=("${ready##*http://}") started_last=$started
done
expect "the app writes nothing beside its database" "$(ls -A "$TOLLGATE_DATA" 2>/dev/null)" ""
# Replaces in the edge's configuration what must be there, and stops if it is not.
edit() {
    grep -qF "$1" "$work/edge.toml" || { echo "deploy/edge/config.toml has no $1" >&2; exit 1; }
    python3 -c 'import sys; p, old, new = sys.argv[1:]; s = open(p).read(); open(p, "w").write(s.replace(old, new))' \
        "$work/edge.toml" "$1" "$2"
}
cp "$deploy/edge/config.toml" "$work/edge.toml"
edit 0.0.0.0:8080 127.0.0.2:0
edit 0.0.0.0:8443 127.0.0.1:0
edit 0.0.0.0:9900 127.0.0.1:0
edit /run/tollgate/control.sock "$work/tollgate.sock"
edit '"app:3000"' "$(printf '"%s", ' "${replicas[@]}")"
# Clients of several addresses, each with a rate limit of its own; and a log to rotate.
mkdir "$work/logs"
printf '\n[client]\ntrusted = ["127.0.0.0/8"]\n\n[log]\naccess = { path = "%s" }\n' "$work/logs/access.log" >>"$work/edge.toml"
start_edge "$work/edge.toml"

mapfile -t ports < <(free_ports 5)
exporter() {
    "$@" >>"$work/${1##*/}.log" 2>&1 &
    pids+=("$!")
}
exporter prometheus-node-exporter --web.listen-address="127.0.0.1:${ports[0]}"
DATA_SOURCE_URI=127.0.0.1:$pg_port/postgres?sslmode=disable DATA_SOURCE_USER=tollgate \
    exporter prometheus-postgres-exporter --web.listen-address="127.0.0.1:${ports[1]}"
exporter prometheus-redis-exporter -redis.addr="redis://127.0.0.1:$redis_port" -web.listen-address="127.0.0.1:${ports[2]}"
exporter prometheus-alertmanager --config.file="$routing" --storage.path="$work/alertmanager" --cluster.listen-address= \
    --web.listen-address="127.0.0.1:${ports[3]}"
python3 "$here/stack_scrapes.py" "$deploy/prometheus" "tollgate=${admin#http://}" "app=$(IFS=,; echo "${replicas[*]}")" \
    "node=127.0.0.1:${ports[0]}" "postgres=127.0.0.1:${ports[1]}" "redis=127.0.0.1:${ports[2]}" \
    "alertmanager=127.0.0.1:${ports[3]}" "prometheus=127.0.0.1:${ports[4]}" >"$work/prometheus.yml"
exporter prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/prometheus" \
    --web.listen-address="127.0.0.1:${ports[4]}" --rules.alert.resend-delay=2s

check_metrics() { curl --silent --fail "$1" | promtool check metrics; }
run "metrics of the edge" check_metrics "$admin/metrics"
run "metrics of the app" check_metrics "http://${replicas[0]}/metrics"
python_checks stack.py "$deploy" "$http" "$https" "http://127.0.0.1:${ports[4]}" "http://127.0.0.1:${ports[3]}" \
    "${replicas[0]}"

echo "a replica killed"
kill -KILL "$started_last"
waiting() {
    curl --silent --fail --data-urlencode "query=ALERTS{alertname=\"$1\", instance=\"$2\", alertstate=\"pending\"}" \
        "http://127.0.0.1:${ports[4]}/api/v1/query" | grep -q '"pending"'
}
await "the alert of its endpoint" waiting TollgateEndpointDown "${admin#http://}"
await "the alert of its target" waiting TargetDown "${replicas[2]}"
pass "Prometheus is about to tell of its endpoint and of its target"

echo "rotation"
sed "s|/var/log/tollgate|$work/logs|; s|systemctl kill .*|kill -USR1 $edge_pid|" "$deploy/logrotate/tollgate" >"$work/rotate"
chmod 600 "$work/rotate"
run "logrotate" logrotate --force --state "$work/rotate.state" "$work/rotate"
asked() { curl --silent --fail --output /dev/null "$http/status/200?after" && grep -q 'after' "$work/logs/access.log"; }
await "the log that was opened again" asked
pass "the edge writes to the new file"
expect "the old one is kept" "$(basename -a "$work"/logs/* | tr '\n' ' ')" "access.log access.log.1 "
