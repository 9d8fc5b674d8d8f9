#!/usr/bin/env bash
# A browser without a window loads the app's page through the edge. Set TOLLGATE_NO_BROWSER=1 to leave this out where
# Chromium is not wanted.
source "$(dirname "${BASH_SOURCE[0]}")/_lib.sh"
if [[ ${TOLLGATE_NO_BROWSER:-} == 1 ]]; then
    echo "left out: TOLLGATE_NO_BROWSER is 1"
    exit 0
fi
need chromium openssl python3 curl

{
    listeners
    app 1
} >"$work/edge.toml"
start_edge "$work/edge.toml"
name=$(curl -s "$http/health" | json_field 'v["replica"]["name"] if isinstance(v.get("replica"), dict) else v.get("replica")')
echo "the replica is $name"

browse() {
    # A root needs --no-sandbox; the page is our own.
    timeout 60 chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
        --no-proxy-server --disable-background-networking --ignore-certificate-errors --user-data-dir="$work/profile" \
        --window-size=1000,800 "$@" 2>>"$work/chromium.log"
}

dom=$(browse --dump-dom "$https/" || true)
expect_match "the page says who answered" "$dom" "<h1>Answered by replica</h1>"
expect_match "it is our replica" "$dom" "<p class=\"name\">$name</p>"
browse --screenshot="$work/page.png" "$https/" >/dev/null || true
size=$(python3 -c '
import struct, sys
data = open(sys.argv[1], "rb").read()
assert data[:8] == b"\x89PNG\r\n\x1a\n"
print("%dx%d" % struct.unpack(">II", data[16:24]), len(data) > 10000)' "$work/page.png" 2>&1 || true)
expect "a screenshot of the page" "$size" "1000x800 True"
expect "an error page" "$(browse --dump-dom "$https/status/404" | grep -c '"status":404' || true)" 1
protocols=$(python3 - "$work/access.log" <<'PY'
import json, sys
lines = map(json.loads, open(sys.argv[1]))
print(sorted({line["protocol"] for line in lines if "Chrome" in line.get("user_agent", "")}))
PY
)
expect "the browser spoke HTTP/2" "$protocols" "['HTTP/2.0']"
