#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""scripts.py [ROOT]: every shell script parses, every Python file compiles and stays under 500 lines."""

from __future__ import annotations

import ast
import subprocess

from source import finish, root_from_arguments

PLACES = ("tests", "packaging", ".ci", "etc")
PYTHON_LINES = 500


def main() -> None:
    root = root_from_arguments()
    findings: list[str] = []
    looked_at = 0
    for path in sorted(p for place in PLACES for p in (root / place).rglob("*") if p.is_file()):
        name = path.relative_to(root)
        with open(path, "rb") as file:
            first = file.readline(100)
        if path.suffix == ".py" or (first.startswith(b"#!") and b"python" in first):
            looked_at += 1
            text = path.read_text()
            try:
                ast.parse(text, str(name))
            except SyntaxError as error:
                findings.append(f"{name}:{error.lineno}: {error.msg}")
            if text.count("\n") > PYTHON_LINES:
                findings.append(f"{name}: more than {PYTHON_LINES} lines")
        elif path.suffix == ".sh" or (first.startswith(b"#!") and b"sh" in first):
            looked_at += 1
            done = subprocess.run(["bash", "-n", str(path)], stderr=subprocess.PIPE, text=True)
            if done.returncode:
                findings.append(done.stderr.strip())
    finish("scripts", findings, looked_at)


if __name__ == "__main__":
    main()
