#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""arrows.py [ROOT]: who may include whom (ARCHITECTURE.md), checked on every #include."""

from __future__ import annotations

import re

from source import FOLDERS, c_files, finish, root_from_arguments

# folder -> folders whose headers it may include
ALLOWED = {
    "base": {"base"},
    "backends": {"base", "backends"},
    "cache": {"base", "backends", "cache"},
    "fs": {"base", "backends", "cache", "fs"},
    "loader": {"base", "backends", "cache", "loader"},
    "ctl": {"base", "backends", "cache", "fs", "loader", "ctl"},
}

# header of a library (regular expression) -> the only files that may include it
LIBRARIES = [
    (r"fuse.*\.h|linux/fuse\.h", r"fs/.*"),
    (r"curl/.*", r"backends/http.*\.c"),
    (r"libssh2.*\.h", r"backends/sftp/.*"),
    (r"sqlite3\.h", r"base/sqldb\.c|loader/db_sqlite.*\.[ch]"),
    (r"libpq-fe\.h|libpq/.*", r"loader/db_postgres.*\.[ch]|backends/blob/blob_postgres\.c"),
    (r"mysql\.h|errmsg\.h|mysqld_error\.h", r"backends/blob/blob_mysql\.c"),
    (r"ini\.h", r"base/conf.*\.c"),
    (r"expat\.h", r"backends/.*|base/.*"),
    (r"libxml/.*", r"backends/web/web_index_html\.c"),
    (r"openssl/.*", r"base/crypto.*\.c|tests/unit/t_crypto.*\.c"),
    (r"zstd\.h|zlib\.h", r"loader/.*|base/.*"),
]

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^">]+)[">]', re.M)


def check(root) -> tuple[list[str], int]:
    findings: list[str] = []
    files = c_files(root)
    for path in files:
        name = str(path.relative_to(root))
        folder = name.split("/", 1)[0]
        text = path.read_text()
        for match in INCLUDE.finditer(text):
            quote, header = match.groups()
            where = f"{name}:{text.count(chr(10), 0, match.start()) + 1}"
            if quote == '"':
                findings += own_header(root, where, path, folder, header)
            else:
                findings += [
                    f"{where}: <{header}> may be included only by {allowed}"
                    for library, allowed in LIBRARIES
                    if re.fullmatch(library, header) and not re.fullmatch(allowed, name)
                ]
    return findings, len(files)


def own_header(root, where: str, path, folder: str, header: str) -> list[str]:
    target = header.split("/", 1)[0]
    if "/" not in header:
        if header in ("config.h", "features.h"):
            return []
        return [f'{where}: write "{folder}/.../{header}": includes are named from the root']
    if target not in FOLDERS:
        return [f'{where}: "{header}" is in none of {", ".join(FOLDERS)}']
    if target not in ALLOWED[folder]:
        return [f'{where}: {folder}/ may not include {target}/ ("{header}")']
    if header.endswith("_int.h"):
        if (root / header).parent not in (path.parent, *path.parent.parents):
            return [f'{where}: "{header}" is internal to {header.rsplit("/", 1)[0]}/']
        if target != folder:
            return [f'{where}: "{header}" is internal to {target}/']
    if not (root / header).exists():
        return [f'{where}: "{header}" does not exist']
    return []


if __name__ == "__main__":
    finish("arrows", *check(root_from_arguments()))
