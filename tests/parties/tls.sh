#!/usr/bin/env bash
# sslyze against the TLS listener: what it offers, and that it has none of the known weaknesses.
source "$(dirname "${BASH_SOURCE[0]}")/_lib.sh"
need openssl python3 curl

{
    listeners
    app 1
} >"$work/edge.toml"
start_edge "$work/edge.toml"

python_checks tls_scan.py "$https_port" "$work/cert.pem"

echo "openssl s_client"
client() { openssl s_client -connect "127.0.0.1:$https_port" -servername localhost -CAfile "$work/ca.pem" "$@" </dev/null 2>&1 || true; }
expect_match "TLS 1.3 with verification" "$(client -tls1_3 -verify_return_error)" "Verify return code: 0"
expect_match "TLS 1.2 with verification" "$(client -tls1_2 -verify_return_error)" "Verify return code: 0"
expect_match "ALPN chooses h2" "$(client -alpn h2,http/1.1)" "ALPN protocol: h2"
expect_match "ALPN chooses http/1.1" "$(client -alpn http/1.1)" "ALPN protocol: http/1.1"
expect_match "an ALPN of nothing known is refused" "$(client -alpn spdy/3)" "no application protocol"
expect_match "no ALPN is HTTP/1.1" "$(client)" "No ALPN negotiated"
for version in -tls1 -tls1_1; do
    expect_no_match "no handshake with ${version#-}" "$(client "$version" -cipher ALL:@SECLEVEL=0)" "Cipher is (ECDHE|AES|DHE)"
done
client -tls1_2 -sess_out "$work/session" >"$work/first"
expect_match "a TLS 1.2 session is resumed" "$(client -tls1_2 -sess_in "$work/session")" "Reused, TLSv1.2"
expect_no_match "plain HTTP to the TLS listener" "$(curl -s --max-time 5 "http://127.0.0.1:$https_port/" 2>&1 || true)" "Replica"
expect "the edge still answers" "$(curl -s -o /dev/null -w '%{http_code}' --cacert "$work/ca.pem" "$https/health")" 200
