#!/usr/bin/env bash
# The comparison with other proxies, without its figures: every peer that is installed gets its configuration, answers each
# case with what it should, keeps its log and reads its configuration again.
source "$(dirname "${BASH_SOURCE[0]}")/_lib.sh"
need python3 openssl nginx wrk h2load

peers=(--peer nginx --peer tollgate)
if command -v haproxy >/dev/null; then peers+=(--peer haproxy); fi
python3 "$root/benches/versus/run.py" --smoke --tollgate "$tollgate" --generator "$root/target/debug/versus-load" \
    "${peers[@]}" >"$work/smoke" 2>&1 && outcome=passed || outcome=failed
expect "the smoke" "$outcome" passed
[[ $outcome == passed ]] || tail -n 20 "$work/smoke"
for peer in nginx tollgate; do
    expect_match "$peer answers what is passed on" "$(cat "$work/smoke")" "h1-1KiB +$peer +answers"
    expect_match "$peer is read again" "$(cat "$work/smoke")" "reloads +$peer "
    expect_match "$peer takes many routes" "$(cat "$work/smoke")" "routes +$peer "
done
expect_match "and all cases are there" "$(cat "$work/smoke")" "plain-hit-of-that-size +tollgate +answers"
