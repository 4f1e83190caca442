#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# venv.sh: makes (once per requirements.txt) the Python environment of the tests; prints its python.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${QUAY_TEST_CACHE:-$HOME/.cache/quayfs-tests}
venv=$cache/venv
python=${PYTHON:-/usr/bin/python3}
mkdir -p "$cache"
exec 9>"$cache/.venv.lock"
flock 9
want=$("$python" -V; sha256sum <"$here/requirements.txt")
if [ ! -x "$venv/bin/python" ] || [ "$(cat "$venv/stamp" 2>/dev/null)" != "$want" ]; then
    echo "venv.sh: making $venv" >&2
    rm -rf "$venv"
    "$python" -m venv "$venv"
    "$venv/bin/pip" install --disable-pip-version-check -q --no-deps --use-pep517 \
        -r "$here/requirements.txt" >&2
    echo "$want" >"$venv/stamp"
fi
echo "$venv/bin/python"
