#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""headers.py [ROOT]: every header compiles alone, and twice, so it includes what it needs."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

from source import c_files, finish, root_from_arguments

PACKAGES = ["fuse3", "libcurl", "libcrypto", "inih", "sqlite3", "jansson", "expat", "libpq"]


def flags(root) -> list[str]:
    asked = subprocess.run(["pkg-config", "--cflags", *PACKAGES], stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True)
    if asked.returncode != 0:
        raise SystemExit("headers: " + asked.stderr)
    return ["-std=gnu11", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-Wundef", "-D_GNU_SOURCE",
            "-D_FILE_OFFSET_BITS=64", '-DQUAY_VERSION="0"', f"-I{root}", *asked.stdout.split(),
            "-x", "c", "-"]


def main() -> None:
    root = root_from_arguments()
    compiler = [os.environ.get("CC", "cc"), *flags(root)]
    headers = [path for path in c_files(root) if path.suffix == ".h" and path.name != "banned.h"]

    def compile_alone(path) -> str:
        name = path.relative_to(root)
        source = f'#include "{name}"\n#include "{name}"\nextern int unused_;\n'
        done = subprocess.run(compiler, input=source, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        return f"{name} does not compile alone:\n{done.stdout}" if done.returncode else ""

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        findings = [text for text in pool.map(compile_alone, headers) if text]
    finish("headers", findings, len(headers))


if __name__ == "__main__":
    main()
