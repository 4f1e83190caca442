#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# fake-gcs-server.sh: builds fake-gcs-server, Cloud Storage's API in memory, for the tests, once, and prints its path.
set -euo pipefail
exec "$(dirname "$0")/go-server.sh" fake-gcs-server github.com/fsouza/fake-gcs-server v1.56.1
