#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""lengths.py [ROOT]: files of at most 700 lines; functions of at most 100, 60 wanted.

Functions over 60 lines are listed; the build fails when there are more of them than LONG_BUDGET."""

from __future__ import annotations

import re

from source import c_files, finish, root_from_arguments

FILE_LINES = 700
FUNCTION_LINES = 100
WANTED_LINES = 60
LONG_BUDGET = 0


def functions(lines: list[str]):
    """(name, first line, length) of each function: our layout opens its body with a `{` in column 0."""
    start = None
    for number, line in enumerate(lines):
        if line.rstrip() == "{":
            start = number
        elif line.startswith("}") and start is not None:
            yield name_of(lines, start), start + 1, number - start + 1
            start = None


def name_of(lines: list[str], brace: int) -> str:
    """From the declaration's lines above the brace."""
    head: list[str] = []
    for line in reversed(lines[:brace]):
        if not line.strip() or line.startswith(("}", "#", " *", "/*")) or line.rstrip().endswith((";", "*/")):
            break
        head.insert(0, line.strip())
    match = re.search(r"(\w+)\(", " ".join(head))
    return match.group(1) if match else "?"


def check(root) -> tuple[list[str], int]:
    findings: list[str] = []
    long: list[str] = []
    files = c_files(root) + c_files(root, ("tests",))
    for path in files:
        name = path.relative_to(root)
        lines = path.read_text().splitlines()
        if len(lines) > FILE_LINES:
            findings.append(f"{name}: {len(lines)} lines, at most {FILE_LINES}")
        for function, line, length in functions(lines):
            if length > FUNCTION_LINES:
                findings.append(f"{name}:{line}: {function} has {length} lines, at most {FUNCTION_LINES}")
            elif length > WANTED_LINES:
                long.append(f"{name}:{line}: {function} has {length} lines, {WANTED_LINES} wanted")
    print(*long, sep="\n") if long else None
    print(f"lengths: {len(long)} functions over {WANTED_LINES} lines, budget {LONG_BUDGET}")
    if len(long) > LONG_BUDGET:
        findings += long
    return findings, len(files)


if __name__ == "__main__":
    finish("lengths", *check(root_from_arguments()))
