#!/usr/bin/env bash
# curl and nghttp against the edge: methods, protocols, sizes and framings as people use them by hand.
source "$(dirname "${BASH_SOURCE[0]}")/_lib.sh"
need curl nghttp openssl python3

start_origin
{
    listeners
    printf '[client]\ntrusted = ["192.0.2.1"]\n\n'
    app 2
    cat <<TOML
[upstream.origin]
endpoints = ["$origin"]

TOML
    for path in range redirect trailers gzip text drip; do
        printf '[[route]]\npath_exact = "/%s"\nupstream = "origin"\n\n' "$path"
    done
} >"$work/edge.toml"
start_edge "$work/edge.toml"

ask() { curl --silent --show-error --max-time 30 --cacert "$work/ca.pem" "$@"; }
summary() { ask --output /dev/null --write-out '%{http_code} HTTP/%{http_version}' "$@"; }

echo "methods and protocols"
for base in "$http" "$https"; do
    name=${base%%:*}
    expect "$name h1 GET" "$(summary --http1.1 "$base/")" "200 HTTP/1.1"
    expect "$name h1 HEAD" "$(summary --http1.1 --head "$base/")" "200 HTTP/1.1"
    expect "$name h1 POST" "$(ask --http1.1 --data 'a=b' "$base/echo" | json_field 'v["method"], v["body"]["content"]')" "('POST', 'a=b')"
    expect "$name h1 PUT" "$(ask --http1.1 --request PUT --data 'c=d' "$base/echo" | json_field 'v["method"], v["body"]["content"]')" "('PUT', 'c=d')"
    expect "$name h1 DELETE" "$(ask --http1.1 --request DELETE "$base/echo" | json_field 'v["method"]')" DELETE
    expect "$name h1 OPTIONS" "$(ask --http1.1 --request OPTIONS "$base/echo" | json_field 'v["method"]')" OPTIONS
done
expect "https ALPN chooses h2" "$(summary "$https/")" "200 HTTP/2"
expect "https h2 HEAD" "$(summary --head "$https/")" "200 HTTP/2"
expect "https h2 POST" "$(ask --data 'a=b' "$https/echo" | json_field 'v["method"], v["version"], v["body"]["content"]')" "('POST', 'HTTP/1.1', 'a=b')"
expect "h2c by prior knowledge" "$(summary --http2-prior-knowledge "$http/")" "200 HTTP/2"
expect "an offer of h2c is not taken up" "$(summary --http2 "$http/")" "200 HTTP/1.1"
expect "HTTP/1.0" "$(summary --http1.0 "$http/")" "200 HTTP/1"
expect "-k with a name that is not in the certificate" \
    "$(summary --insecure --connect-to "other.example:443:127.0.0.1:$https_port" https://other.example/ || true)" "200 HTTP/2"
expect "a connection is used again" "$(ask --http1.1 --output /dev/null --output /dev/null --output /dev/null \
    --write-out '%{num_connects} ' "$http/" "$http/" "$http/")" "1 0 0 "

echo "fields"
fields=$(ask "$https/echo/a%20b?c=%2F&d" --header 'X-Forwarded-For: 6.6.6.6' --header 'X-Own: kept')
expect "path and query arrive as sent" "$(json_field 'v["path"], v["query"]' <<<"$fields")" "('/echo/a%20b', 'c=%2F&d')"
expect "X-Forwarded-For of a stranger is replaced" "$(json_field 'dict(v["fields"])["x-forwarded-for"]' <<<"$fields")" "127.0.0.1"
expect "X-Forwarded-Proto" "$(json_field 'dict(v["fields"])["x-forwarded-proto"]' <<<"$fields")" "https"
expect "Host is preserved" "$(json_field 'dict(v["fields"])["host"]' <<<"$fields")" "localhost:$https_port"
expect "other fields pass" "$(json_field 'dict(v["fields"])["x-own"]' <<<"$fields")" "kept"

echo "bodies to the origin"
head -c 50000000 /dev/zero >"$work/50MB"
for version in --http1.1 --http2; do
    expect "50 MB with Expect: 100-continue ($version)" \
        "$(ask $version --header 'Expect: 100-continue' --upload-file "$work/50MB" "$https/upload" | json_field 'v["bytes"]')" 50000000
done
expect_match "the edge says 100 Continue" \
    "$(ask --http1.1 --verbose --header 'Expect: 100-continue' --data x "$http/upload" 2>&1)" "HTTP/1.1 100 Continue"
expect "an upload in chunks" \
    "$(ask --http1.1 --header 'Transfer-Encoding: chunked' --data-binary @"$work/50MB" --request POST "$http/upload" | json_field 'v["bytes"]')" 50000000
expect "an upload of unknown length" "$(head -c 300000 "$work/50MB" | ask --upload-file - "$https/upload" | json_field 'v["bytes"]')" 300000
expect "a form with a file" "$(ask --form "file=@$here/_lib.sh" "$https/upload" | json_field 'v["bytes"] > 1000')" True
head -c 68000000 /dev/zero >"$work/68MB"
expect "a body over the limit is 413" "$(summary --http1.1 --header 'Expect: 100-continue' --upload-file "$work/68MB" "$http/upload")" "413 HTTP/1.1"
expect "a body over the limit in chunks is 413" "$(summary --http1.1 --header 'Transfer-Encoding: chunked' --upload-file "$work/68MB" "$http/upload")" "413 HTTP/1.1"
expect "a body over the limit is 413 (h2)" "$(summary --upload-file "$work/68MB" "$https/upload")" "413 HTTP/2"
# The edge ends the stream with NO_ERROR after the whole answer (RFC 9113 §8.1), and curl 7.88 loses the answer then.
expect_match "a body over the limit of unknown length is 413 (h2)" \
    "$(nghttp --verbose --no-content-length --data="$work/68MB" "$https/upload" 2>&1 | grep -a ':status' || true)" ":status: 413"
expect "a body over the limit, without Expect, is 413" "$(summary --http1.1 --header 'Expect:' --upload-file "$work/68MB" "$http/upload")" "413 HTTP/1.1"
expect "a body over the limit, without Expect, is 413 (TLS)" "$(summary --http1.1 --header 'Expect:' --upload-file "$work/68MB" "$https/upload")" "413 HTTP/1.1"

echo "bodies from the origin"
wanted=$(python3 -c '
import hashlib
line = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-\n"
print(hashlib.sha256((line * (20_000_000 // 64 + 1))[:20_000_000]).hexdigest())')
digest() { sha256sum | cut -d' ' -f1; }
expect "20 MB with a length (h1)" "$(ask --http1.1 "$https/bytes/20000000" | digest)" "$wanted"
expect "20 MB with a length (h2)" "$(ask "$https/bytes/20000000" | digest)" "$wanted"
expect "20 MB in chunks (h1)" "$(ask --http1.1 "$http/bytes/20000000?chunked=1" | digest)" "$wanted"
expect "20 MB in chunks (h2)" "$(ask "$https/bytes/20000000?chunked=1" | digest)" "$wanted"
expect "a slow download is whole (h1)" "$(ask --http1.1 --limit-rate 8M "$http/bytes/20000000" | digest)" "$wanted"
expect "a slow download is whole (h2)" "$(ask --limit-rate 8M "$https/bytes/20000000" | digest)" "$wanted"
expect "twenty downloads at once over one h2 connection" "$(ask --parallel --parallel-max 20 --output /dev/null \
    --write-out '%{http_code} %{size_download}\n' "$https/bytes/100000?n=[1-20]" | sort | uniq -c | tr -s ' ')" " 20 200 100000"
expect "content in gzip arrives as it was" "$(ask --compressed "$https/gzip" | wc -c)" 11000
expect "content in gzip is decoded for who cannot take it" "$(ask --header 'Accept-Encoding: br' "$https/gzip" | wc -c)" 11000
expect "--compressed where nothing is compressed" "$(ask --compressed "$https/bytes/1000" | wc -c)" 1000
expect "an answer that drips" "$(ask --no-buffer "$https/drip" | tr -d '\n')" 0123456789

echo "compression"
text=$(ask "$https/text" | digest)
for version in --http1.1 --http2; do
    for coding in gzip br zstd; do
        compressed=("$version" --compressed --header "Accept-Encoding: $coding")
        expect "a text in $coding ($version)" "$(ask "${compressed[@]}" --dump-header "$work/head" "$https/text" | digest)" "$text"
        expect_match "the head of a text in $coding ($version)" "$(tr -d '\r' <"$work/head")" "content-encoding: $coding"
        expect "a text in $coding is not sent again ($version)" \
            "$(ask "${compressed[@]}" --output /dev/null --write-out '%{http_code} %header{etag}' --header "If-None-Match: \"text~$coding\"" "$https/text")" \
            "304 \"text~$coding\""
    done
done
expect "x-no-compression" "$(ask --compressed --header 'x-no-compression: 1' --output /dev/null --write-out '%header{content-encoding}' "$https/text")" ""
expect "an answer that drips is compressed as it comes" "$(ask --compressed --no-buffer "$https/drip" | tr -d '\n')" 0123456789

echo "ranges, redirects, trailers"
expect "a range" "$(ask --range 256-259 "$https/range" | od -An -tx1 | tr -d ' ')" 00010203
expect "a range is 206" "$(summary --range 256-259 "$https/range")" "206 HTTP/2"
expect "a range past the end is 416" "$(summary --http1.1 --range 99999999- "$http/range")" "416 HTTP/1.1"
expect "a download resumed at its end" "$(head -c 1000000 /dev/zero >"$work/part"
    ask --continue-at - --output "$work/part" "$https/range" && wc -c <"$work/part")" 1048576
expect "a redirect is followed" "$(ask --location --output /dev/null --write-out '%{http_code} %{num_redirects} %{url_effective}' "$https/redirect")" \
    "200 1 $https/range?after=redirect"
expect "a redirect passes unchanged" "$(ask --output /dev/null --write-out '%{http_code} %header{location}' "$http/redirect")" "302 /range?after=redirect"
expect_match "trailers of the origin (h1, TE: trailers)" \
    "$(ask --http1.1 --header 'TE: trailers' --header 'Connection: TE' --include --raw "$http/trailers" | tr -d '\r')" "x-checksum: 12345|X-Checksum: 12345"
expect_match "trailers of the origin (h2)" "$(ask --header 'TE: trailers' --include "$https/trailers" | tr -d '\r')" $'\n'"x-checksum: 12345"
printf 'content' >"$work/content"
for length in --content-length --no-content-length; do
    [[ $length == --content-length ]] && option=() || option=("$length")
    expect "trailers of the client (h2, ${length#--})" \
        "$(nghttp --data="$work/content" --header='trailer: x-checksum' --trailer='x-checksum: 6789' "${option[@]}" "$https/echo" 2>/dev/null |
            json_field 'v["body"]["content"], v["trailers"]')" "('content', [['x-checksum', '6789']])"
done

echo "refusals"
expect "CONNECT is 405" "$(summary --http1.1 --request CONNECT "$http/")" "405 HTTP/1.1"
expect "TRACE is 405" "$(summary --request TRACE "$https/")" "405 HTTP/2"
expect "two lengths are 400" "$(summary --http1.1 --header 'Content-Length: 3' --header 'Content-Length: 3' --data abc "$http/echo")" "400 HTTP/1.1"
expect "a target over 8 KiB is 414" "$(summary --http1.1 "$http/$(head -c 9000 /dev/zero | tr '\0' a)")" "414 HTTP/1.1"
expect "a head over 32 KiB is 431" "$(summary --http1.1 --header "X-Long: $(head -c 40000 /dev/zero | tr '\0' a)" "$http/")" "431 HTTP/1.1"
expect "404 of the app passes" "$(summary "$https/nowhere")" "404 HTTP/2"
expect "the edge still answers" "$(summary "$https/health")" "200 HTTP/2"
