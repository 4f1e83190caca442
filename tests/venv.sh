#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# venv.sh: makes (once for each requirements.txt) the Python environment of the tests; prints its python.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${QUAY_TEST_CACHE:-$HOME/.cache/quayfs-tests}
python=${PYTHON:-/usr/bin/python3}
mkdir -p "$cache"
exec 9>"$cache/.venv.lock"
flock 9
want=$("$python" -V; sha256sum <"$here/requirements.txt")
venv=$cache/venv-$(sha256sum <<<"$want" | head -c 12) # check-outs with other requirements have their own
if [ ! -e "$venv/complete" ]; then
    echo "venv.sh: making $venv" >&2
    rm -rf "$venv"
    "$python" -m venv "$venv"
    "$venv/bin/pip" install --disable-pip-version-check -q --no-deps --use-pep517 \
        -r "$here/requirements.txt" >&2
    touch "$venv/complete"
fi
find "$cache" -maxdepth 1 -name 'venv*' -mtime +30 ! -path "$venv" -exec rm -rf {} +
echo "$venv/bin/python"
