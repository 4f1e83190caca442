#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# versitygw.sh: builds versitygw, an S3 gateway in front of a directory, for the tests, once, and prints its path.
set -euo pipefail
exec "$(dirname "$0")/go-server.sh" versitygw github.com/versity/versitygw/cmd/versitygw v1.8.0
