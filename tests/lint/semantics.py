#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""semantics.py [ROOT]: every sentence of docs/semantics.md names tests that show it, and they exist; every row of
docs/requirements.md names one, or says that it is not done."""

from __future__ import annotations

import re
from pathlib import Path

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


def check(root: Path, document: str, tests: set[str], excuses: tuple[str, ...]) -> tuple[int, list[str]]:
    findings: list[str] = []
    found = promises((root / document).read_text())
    for number, text in found:
        named = re.findall(r"`(test_\w+)`", text)
        if not named and not any(excuse in text for excuse in excuses):
            findings.append(f"{document}:{number}: no test is named: {text[:70]}")
        findings += [f"{document}:{number}: there is no {name}" for name in named if name not in tests]
    return len(found), findings


def main() -> None:
    root = root_from_arguments()
    tests: set[str] = set()
    for path in (root / "tests").rglob("*.py"):
        tests |= set(re.findall(r"^def (test_\w+)\(", path.read_text(), re.M))
    promised, findings = check(root, "docs/semantics.md", tests, ())
    rows, more = check(root, "docs/requirements.md", tests, ("not done", "(a note", "| row |", "|---|"))
    finish("semantics", findings + more, promised + rows)


if __name__ == "__main__":
    main()
