#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# azurite.sh: installs Azurite, Microsoft's emulator of Azure Blob Storage, that the tests talk to, from npm,
# once, into ~/.cache/quayfs-tests/azurite, and prints the program for node to run.
#
#     node "$(packaging/azurite.sh)" --blobPort 10000 ...
set -euo pipefail

AZURITE_VERSION=3.37.0

cache=${QUAY_TEST_CACHE:-$HOME/.cache/quayfs-tests}
place=$cache/azurite
program=$place/node_modules/azurite/dist/src/blob/main.js
stamp=$place/version
mkdir -p "$place"
exec 9>"$cache/.azurite.lock"
flock 9
if [ -f "$program" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$AZURITE_VERSION" ]; then
    echo "$program"
    exit 0
fi
command -v npm >/dev/null || {
    echo "azurite.sh: no npm here (packaging/deps.sh test installs it)" >&2
    exit 1
}
echo "azurite.sh: installing Azurite $AZURITE_VERSION (once; about a minute)" >&2
log=$cache/azurite-install.log
# What Azurite tells about itself comes through packages that release often, not always whole: one that is.
cat >"$place/package.json" <<END
{"private": true, "dependencies": {"azurite": "$AZURITE_VERSION"}, "overrides": {"applicationinsights": "3.16.0"}}
END
# Its own scripts are not needed, and nothing of a stranger's runs at install.
if ! nice npm install --prefix "$place" --no-audit --no-fund --no-package-lock --omit=dev --omit=optional \
    --ignore-scripts >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "azurite.sh: installing Azurite failed; the whole log is $log" >&2
    exit 1
fi
[ -f "$program" ] || {
    echo "azurite.sh: Azurite $AZURITE_VERSION brought no $program" >&2
    exit 1
}
echo "$AZURITE_VERSION" >"$stamp"
echo "$program"
