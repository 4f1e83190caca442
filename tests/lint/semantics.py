#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""semantics.py [ROOT]: every sentence of docs/semantics.md names tests that show it, and they exist."""

from __future__ import annotations

import re

from source import finish, root_from_arguments


def promises(text: str) -> list[tuple[int, str]]:
    """(line, text) of each bullet, with its continuation lines, and each row of a table."""
    found: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("- ") or (line.startswith("| ") and not line.startswith("| |")):
            found.append((number, line))
        elif line.startswith("  ") and found:
            found[-1] = (found[-1][0], found[-1][1] + " " + line.strip())
    return found


def main() -> None:
    root = root_from_arguments()
    tests: set[str] = set()
    for path in (root / "tests").rglob("*.py"):
        tests |= set(re.findall(r"^def (test_\w+)\(", path.read_text(), re.M))
    findings: list[str] = []
    all_promises = promises((root / "docs/semantics.md").read_text())
    for number, text in all_promises:
        named = re.findall(r"`(test_\w+)`", text)
        if not named:
            findings.append(f"docs/semantics.md:{number}: no test is named: {text[:70]}")
        findings += [f"docs/semantics.md:{number}: there is no {name}" for name in named if name not in tests]
    finish("semantics", findings, len(all_promises))


if __name__ == "__main__":
    main()
