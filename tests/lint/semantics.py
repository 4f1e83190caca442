#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""semantics.py [ROOT]: every sentence of docs/semantics.md names tests that show it, and they exist, each once; every
row of docs/requirements.md names one, or says that it is not done, and none of the rows is missing."""

from __future__ import annotations

import re
from pathlib import Path

from source import finish, root_from_arguments


# The rows of the requirements that docs/requirements.md answers: section, first, last.
ROWS = [(0, 6, 36), (0, 47, 47), (1, 20, 32), (3, 1, 33), (4, 5, 26), (4, 33, 46)]


def missing_rows(root: Path) -> list[str]:
    listed: list[str] = []
    for cell in re.findall(r"^\| ([\d., ]+) \|", (root / "docs/requirements.md").read_text(), re.M):
        listed += re.split(r",\s*", cell)
    wanted = [f"{section}.{row}" for section, first, last in ROWS for row in range(first, last + 1)]
    return [f"docs/requirements.md: row {row} is there {listed.count(row)} times" for row in wanted if listed.count(row) != 1]


def promises(text: str) -> list[tuple[int, str]]:
    """(line, text) of each bullet, with its continuation lines, and each row of a table."""
    found: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("- ") or (line.startswith("| ") and not line.startswith("| |")):
            found.append((number, line))
        elif line.startswith("  ") and found:
            found[-1] = (found[-1][0], found[-1][1] + " " + line.strip())
    return found


def check(root: Path, document: str, tests: dict[str, int], excuses: tuple[str, ...]) -> tuple[int, list[str]]:
    findings: list[str] = []
    found = promises((root / document).read_text())
    for number, text in found:
        named = re.findall(r"`(test_\w+)`", text)
        if not named and not any(excuse in text for excuse in excuses):
            findings.append(f"{document}:{number}: no test is named: {text[:70]}")
        findings += [f"{document}:{number}: there are {tests.get(name, 0)} tests of the name {name}"
                     for name in named if tests.get(name) != 1]
    return len(found), findings


def main() -> None:
    root = root_from_arguments()
    tests: dict[str, int] = {}
    for path in (root / "tests").rglob("test_*.py"):  # what pytest collects
        for name in re.findall(r"^def (test_\w+)\(", path.read_text(), re.M):
            tests[name] = tests.get(name, 0) + 1
    promised, findings = check(root, "docs/semantics.md", tests, ())
    rows, more = check(root, "docs/requirements.md", tests, ("not done", "(a note", "| row |", "|---|"))
    finish("semantics", findings + more + missing_rows(root), promised + rows)


if __name__ == "__main__":
    main()
