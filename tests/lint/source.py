"""What the lint programs share: the project's C files, and how a finding is reported."""

from __future__ import annotations

import sys
from pathlib import Path

FOLDERS = ("base", "backends", "cache", "fs", "loader", "ctl")


def root_from_arguments() -> Path:
    return Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[2]).resolve()


def c_files(root: Path, folders: tuple[str, ...] = FOLDERS) -> list[Path]:
    return sorted(path for folder in folders for ext in ("*.c", "*.h")
                  for path in (root / folder).rglob(ext))


def finish(rule: str, findings: list[str], looked_at: int) -> None:
    """Prints what was found and ends the program. Looking at nothing is a failure too."""
    for finding in findings:
        print(finding)
    if not looked_at:
        print(f"{rule}: found no files to check")
    print(f"{rule}: {looked_at} checked, {len(findings)} wrong")
    sys.exit(1 if findings or not looked_at else 0)
