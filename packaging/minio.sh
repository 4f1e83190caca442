#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# minio.sh: builds the MinIO server that the tests, the bench and `quickstart --s3` talk to, once, and prints its path.
#
#     minio=$(packaging/minio.sh)
set -euo pipefail

# RELEASE.2025-09-07T16-13-09Z, by the name that the module proxy serves it under.
exec "$(dirname "$0")/go-server.sh" minio github.com/minio/minio v0.0.0-20250907161309-07c3a429bfed
