#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# deps.sh: what quayfs needs from Debian (12 and 13), in one place.
#
#     packaging/deps.sh build             what `cmake --preset release` needs, and to mount
#     packaging/deps.sh build test bench  also what tests/run and tests/bench need
#     packaging/deps.sh --list build      prints the names, installs nothing
#
# Installs only what is missing; needs root or sudo only then.
set -euo pipefail

deps_build=(
    gcc libc6-dev cmake ninja-build pkg-config
    libfuse3-dev libcurl4-openssl-dev libssl-dev libinih-dev libsqlite3-dev libjansson-dev
    libexpat1-dev libxml2-dev zlib1g-dev libzstd-dev libpq-dev libmariadb-dev libssh2-1-dev
    fuse3 ca-certificates
)
deps_quickstart=(sqlite3 procps)
deps_s3=(python3 python3-venv curl ca-certificates)
deps_test=(
    clang libclang-rt-dev nginx-light openssl python3 python3-venv postgresql postgresql-client mariadb-server-core mariadb-client-core
    sqlite3 rsync tar git attr e2fsprogs zstd gzip procps util-linux curl fio stress-ng
    nodejs npm
    openssh-server openssh-client busybox s3fs
)
deps_bench=(s3fs rclone sshfs openssh-server openssh-client curl procps fuse3 git rsync tar findutils linux-perf)

names_of() {
    case "$1" in
    build) printf '%s\n' "${deps_build[@]}" ;;
    quickstart) printf '%s\n' "${deps_quickstart[@]}" ;;
    s3) printf '%s\n' "${deps_s3[@]}" ;;
    test) printf '%s\n' "${deps_test[@]}" ;;
    bench) printf '%s\n' "${deps_bench[@]}" ;;
    *)
        echo "deps.sh: unknown group '$1' (build, quickstart, s3, test, bench)" >&2
        return 2
        ;;
    esac
}

list_only=no
if [ "${1:-}" = --list ]; then
    list_only=yes
    shift
fi
[ $# -gt 0 ] || set -- build
wanted=$(for group in "$@"; do names_of "$group" || exit 2; done | sort -u)
if [ "$list_only" = yes ]; then
    echo "$wanted"
    exit 0
fi

command -v dpkg-query >/dev/null || {
    echo "deps.sh: this is not Debian (no dpkg-query); install the equivalents of:" $wanted >&2
    exit 1
}
missing=()
for name in $wanted; do
    # Node may come from elsewhere, with an npm of its own that Debian's package would be in the way of.
    case "$name" in nodejs | npm) ! command -v npm >/dev/null || continue ;; esac
    status=$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null || true)
    [ "$status" = installed ] || missing+=("$name")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || {
        echo "deps.sh: these Debian packages are missing, and installing them needs root or sudo:" \
            "${missing[*]}" >&2
        exit 1
    }
    as_root=(sudo)
fi
echo "+ apt-get install ${missing[*]}" >&2
quiet=$(mktemp)
policy=/usr/sbin/policy-rc.d # Debian's way to say that a service is not to be started
clean_up() {
    rm -f "$quiet"
    [ "$policy" = "" ] || "${as_root[@]}" rm -f "$policy"
}
if [ -e "$policy" ]; then policy=""; fi
trap clean_up EXIT
run_apt() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 "$@" \
        </dev/null >"$quiet" 2>&1
}
# Lists may be absent or old: update first, but let a broken third-party list not stop us.
run_apt update || echo "deps.sh: warning: apt-get update: $(tail -n 1 "$quiet")" >&2
# Packages of servers (nginx, sshd, PostgreSQL) would start them at install; ours are started by the tests.
if [ -n "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
fi
if printf '%s\n' "${missing[@]}" | grep -qx postgresql && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    "${as_root[@]}" mkdir -p /etc/postgresql-common
    echo 'create_main_cluster = false' |
        "${as_root[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
fi
if ! run_apt install -y --no-install-recommends "${missing[@]}"; then
    tail -n 20 "$quiet" >&2
    echo "deps.sh: apt-get install failed; the packages were: ${missing[*]}" >&2
    exit 1
fi
