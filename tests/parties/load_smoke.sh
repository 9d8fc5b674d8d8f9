#!/usr/bin/env bash
# The load tests themselves, short: every journey gets the answers that it should, none is refused for its rate, the
# report is made, and no order is lost while a replica is killed. No figure of time decides.
source "$(dirname "${BASH_SOURCE[0]}")/_lib.sh"
need python3 openssl k6 wrk redis-server

loadtest=$root/loadtest
report=$root/target/debug/tollgate-report
run=$work/run

echo "smoke"
"$loadtest/run.sh" --type smoke --time 0.02 --no-timing --no-report --binary "$tollgate" --results "$run" >"$work/smoke" 2>&1 &&
    outcome=passed || outcome=failed
expect "the run" "$outcome" passed
[[ $outcome == passed ]] || tail -n 30 "$work/smoke"
expect "endpoints that nobody asked" "$(json_field '" ".join(sorted(
    name.split(":")[1][:-1] for name, metric in v["metrics"].items()
    if name.startswith("http_req_duration{endpoint:") and not metric["values"]["count"]
))' <"$run/summary.json")" ""
expect "answers as they should be" "$(json_field 'v["metrics"]["checks"]["values"]["fails"]' <"$run/summary.json")" 0

echo "report"
"$report" baseline "$run" >"$work/report" && outcome=passed || outcome=failed
expect "written" "$outcome" passed
expect_match "it has the figures" "$(cat "$run/report.md")" "## Endpoints.*[|] order [|] [0-9]"
# Out of the edge's metrics, under the names that they have.
expect_match "and those of the edge" "$(cat "$run/report.md")" "[|] /api/v1 [|] [0-9].*hit ratio [0-9]"
expect_no_match "the page needs nothing else" "$(cat "$run/report.html")" "src=|https?://"
"$report" compare "$run" "$run" >"$work/comparison" && outcome=fine || outcome=worse
expect "a run is as good as itself" "$outcome" fine

echo "hits"
"$loadtest/run.sh" --type hits --seconds 2 --binary "$tollgate" --results "$work/hits" >"$work/hits.log" 2>&1 || true
for generator in wrk k6; do
    expect_match "$generator was answered, and nothing failed" "$(cat "$work/hits/hits.md")" "[|] $generator [|] [1-9][0-9]+ [|] 0 [|]"
done

echo "a replica killed under load"
"$loadtest/run.sh" --type failures --fault replica --binary "$tollgate" --results "$work/failures" >"$work/failures.log" 2>&1 || true
for rule in "no GET failed" "no order lost or made twice"; do
    expect "$rule" "$(grep -cF "| replica | $rule | pass |" "$work/failures/failures.md" || true)" 1
done
