# SPDX-License-Identifier: MIT
"""What a power cut leaves: takes back, from the undo log of shim.c, changes that were not synced.

"none":   nothing that was not synced has reached the disk
"some":   of each page a random number of its unsynced changes, of each file its size or not, of each name
          a random number of its unsynced changes, oldest first
Synced as on ext4: fsync of a file makes its data, size and names durable, of a directory its names. Strict: names by
that of their directory only, which is all that POSIX says."""

from __future__ import annotations

import os
import random
import struct
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

HEAD = struct.Struct("<c7xQQQQIIQQ")
PAGE = 4096


@dataclass
class Record:
    kind: str
    ino: int
    off: int
    size: int
    path: str
    other: str
    saved: int
    mtime_ns: int
    old: bytes


def read_log(path: Path) -> list[Record]:
    data, at, found = path.read_bytes() if path.exists() else b"", 0, []
    while at + HEAD.size <= len(data):
        kind, ino, off, length, size, n_path, n_other, saved, mtime_ns = HEAD.unpack_from(data, at)
        at += HEAD.size
        if at + n_path + n_other + length > len(data):
            break  # killed while it was written: the change was not made
        name = data[at:at + n_path].decode()
        other = data[at + n_path:at + n_path + n_other].decode()
        at += n_path + n_other
        found.append(Record(kind.decode(), ino, off, size, name, other, saved, mtime_ns, data[at:at + length]))
        at += length
    return found


def unsynced(log: list[Record], strict: bool) -> list[Record]:
    """Those changes that no later fsync covers, in order."""
    left: list[Record] = []
    for r in log:
        if r.kind == "S":
            left = [x for x in left if x.ino != r.ino or (strict and x.kind in "CMU")]
        elif r.kind == "D":
            left = [x for x in left if x.kind not in "CMU" or os.path.dirname(x.other or x.path) != r.path]
        else:
            left.append(r)
    return left


def choose(left: list[Record], dice: random.Random | None) -> list[Record]:
    """The changes to be taken back: all, or of each thing the newest ones."""
    if dice is None:
        return left
    kept_names: dict[str, int] = {}
    by_name = defaultdict(list)
    for r in left:
        if r.kind in "CMU":
            by_name[os.path.dirname(r.other or r.path)].append(r)
    taken = []
    for name, records in by_name.items():
        kept_names[name] = dice.randint(0, len(records))
        taken += records[kept_names[name]:]
    pages = defaultdict(list)
    sizes = {}
    for r in left:
        if r.kind not in "WT":
            continue
        sizes.setdefault(r.ino, dice.random() < 0.5)
        end = r.off + max(len(r.old), 1)
        for page in range(r.off // PAGE, (end + PAGE - 1) // PAGE):
            start, stop = max(page * PAGE, r.off), min(page * PAGE + PAGE, end)
            pages[r.ino, page].append(
                Record("W", r.ino, start, r.size if sizes[r.ino] else -1, r.path, "", 0, r.mtime_ns,
                       r.old[start - r.off:stop - r.off]))
    order = {id(r): n for n, r in enumerate(left)}
    chosen = [(order[id(r)], r) for r in taken]
    for (ino, _), records in pages.items():
        cut = dice.randint(0, len(records))
        chosen += [(len(left) + n, r) for n, r in enumerate(records[cut:])]
    return [r for _, r in sorted(chosen, key=lambda pair: pair[0])]


def file_of(ino: int, folder: Path) -> Path | None:
    for base, _, files in os.walk(folder):
        for name in files:
            path = Path(base, name)
            if path.lstat().st_ino == ino:
                return path
    return None


def take_back(r: Record, folder: Path, kept: Path) -> None:
    if r.kind == "C":
        Path(r.path).unlink(missing_ok=True)
    elif r.kind == "U":
        if not os.path.lexists(r.path):
            os.link(kept / str(r.saved), r.path)
    elif r.kind == "M":
        if os.path.lexists(r.other):
            os.rename(r.other, r.path)
        if r.saved:
            os.link(kept / str(r.saved), r.other)
    else:
        path = file_of(r.ino, folder) or file_of(r.ino, kept)
        if path is None:
            return
        with open(path, "r+b") as file:
            if r.old:
                file.seek(r.off)
                file.write(r.old)
            if r.size >= 0:
                file.truncate(r.size)
        os.utime(path, ns=(r.mtime_ns, r.mtime_ns))


def power_cut(log: Path, folder: Path, kept: Path, dice: random.Random | None, strict: bool) -> int:
    """Returns how many changes were taken back."""
    chosen = choose(unsynced(read_log(log), strict), dice)
    for r in reversed(chosen):
        take_back(r, folder, kept)
    return len(chosen)
