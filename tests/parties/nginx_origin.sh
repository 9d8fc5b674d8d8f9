#!/usr/bin/env bash
# nginx as the origin of files behind the edge: what comes through must be what nginx sent, byte by byte.
source "$(dirname "${BASH_SOURCE[0]}")/_lib.sh"
need nginx curl h2load openssl python3

mkdir -p "$work/files/folder"
head -c 3000000 /dev/urandom >"$work/files/random.bin"
seq 1 20000 >"$work/files/numbers.txt"
: >"$work/files/empty.txt"
# What nginx sends is to come through as it is.
{ echo "compress = false"; listeners; } >"$work/edge.toml"
start_nginx "$here/nginx/origin.conf" 2
plain=127.0.0.1:${nginx_ports[0]}
{
    for upstream in 'clear ""' 'tls "h1"' 'h2 "h2"'; do
        read -r name protocol <<<"$upstream"
        printf '[upstream.%s]\n' "$name"
        if [[ $name == clear ]]; then
            printf 'endpoints = ["%s"]\n\n[[route]]\npath = "/"\nupstream = "clear"\n\n' "$plain"
        else
            cat <<TOML
endpoints = ["127.0.0.1:${nginx_ports[1]}"]
protocol = $protocol
tls = { server_name = "localhost", ca = "$work/ca.pem" }

[[route]]
path = "/$name"
upstream = "$name"
strip_prefix = "/$name"

TOML
        fi
    done
    cat <<TOML
[upstream.stranger]
endpoints = ["127.0.0.1:${nginx_ports[1]}"]
tls = { server_name = "other.example", ca = "$work/ca.pem" }

[[route]]
path = "/stranger"
upstream = "stranger"
TOML
} >>"$work/edge.toml"
start_edge "$work/edge.toml"

ask() { curl --silent --show-error --max-time 30 --cacert "$work/ca.pem" "$@"; }
digest() { sha256sum | cut -d' ' -f1; }
status() { ask --output /dev/null --write-out '%{http_code}' "$@"; }
# The fields of an answer without those that a proxy adds or that the way there decides.
fields() {
    ask --output /dev/null --dump-header - "$@" | tr -d '\r' | tr '[:upper:]' '[:lower:]' |
        sed -e '1d;/^$/d' -e '/^via:/d;/^date:/d;/^connection:/d;/^transfer-encoding:/d' | sort
}

echo "content"
for base in "$http" "$https" "$http/tls" "$http/h2" "$https/h2"; do
    name=${base#"$http"} name=${name/"$https"/https}
    for file in random.bin numbers.txt empty.txt; do
        expect "${name:-http}/$file" "$(ask "$base/$file" | digest)" "$(digest <"$work/files/$file")"
    done
done
expect "a length and no chunks" "$(ask --head "$http/random.bin" | tr -d '\r' | sed -n 's/^[Cc]ontent-[Ll]ength: //p')" 3000000

echo "fields are those of nginx"
for path in numbers.txt gzip/numbers.txt nowhere folder return/x; do
    expect "fields of /$path" "$(fields --http1.1 -H 'Host: localhost' "$http/$path")" "$(fields --http1.1 -H 'Host: localhost' "http://$plain/$path")"
    expect "status of /$path" "$(status "$http/$path")" "$(status "http://$plain/$path")"
done

echo "gzip and chunks"
for option in --http1.1 --http2; do
    expect "gzip in chunks, decoded ($option)" "$(ask $option --compressed "$https/gzip/numbers.txt" | digest)" "$(digest <"$work/files/numbers.txt")"
    expect_match "gzip in chunks ($option)" "$(fields $option -H 'Accept-Encoding: gzip' "$https/gzip/numbers.txt")" "content-encoding: gzip"
done
expect "gzip, the coded bytes" "$(ask -H 'Accept-Encoding: gzip' "$https/gzip/numbers.txt" | digest)" \
    "$(ask -H 'Accept-Encoding: gzip' "http://$plain/gzip/numbers.txt" | digest)"

echo "ranges and conditions"
expect "one range" "$(ask --range 1000-1999 "$https/random.bin" | digest)" "$(tail -c +1001 "$work/files/random.bin" | head -c 1000 | digest)"
expect "the last bytes" "$(ask --range -500 "$https/random.bin" | digest)" "$(tail -c 500 "$work/files/random.bin" | digest)"
expect "several ranges are 206" "$(status --range 0-9,20-29 "$https/random.bin")" 206
expect_match "several ranges in parts" "$(fields --range 0-9,20-29 "$https/random.bin")" "content-type: multipart/byteranges"
expect "past the end" "$(status --range 9999999- "$https/random.bin")" 416
etag=$(fields "$https/numbers.txt" | sed -n 's/^etag: //p')
expect "If-None-Match" "$(status -H "If-None-Match: $etag" "$https/numbers.txt")" 304
expect "If-Match of another" "$(status -H 'If-Match: "other"' "$https/numbers.txt")" 412
expect "If-Modified-Since" "$(status --time-cond "$work/files/numbers.txt" "$https/numbers.txt")" 304
expect "POST to a file" "$(status --data x "$https/numbers.txt")" 405

echo "endpoints over TLS"
expect "a certificate for another name is refused" "$(status "$http/stranger")" 502
expect "and said so" "$(ask --output /dev/null --write-out '%header{x-tollgate-reason}' "$http/stranger")" upstream-tls

echo "connections that nginx closes after five requests"
for path in "" /tls /h2; do
    output=$(timeout 60 h2load --requests=1000 --clients=10 --max-concurrent-streams=5 "$https$path/numbers.txt" 2>&1) || true
    expect "1000 requests of ${path:-/}" "$(sed -n 's/^status codes: *//p' <<<"$output")" "1000 2xx, 0 3xx, 0 4xx, 0 5xx"
done
