# SPDX-License-Identifier: MIT
"""What is done until the kill, and what may be found after it."""

from __future__ import annotations

import os
import random
import stat
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from crash.world import CONFLICT, Lost, World
from harness.data import pattern

FOLDERS = ["d0", "d1", "d2", "d3"]  # one of them is never there: the others can be renamed to it
NAMES = [f"{folder}/file{n}" for folder in FOLDERS for n in range(4)]
MIB = 1024 * 1024
EVER = 1 << 62
SLACK_NS = 20_000_000  # the kernel's coarse clock
MIXES = {
    "local": (["write", "write", "write", "append", "edit", "cut", "rename", "remove", "sync", "chmod", "times", "xattr",
               "folder"], [0, 10, 3000, 40_000, 300_000, 900_000]),
    "s3": (["write", "write", "sync", "append", "edit", "cut", "rename", "remove", "chmod", "times", "xattr", "folder",
            "folder", "large", "large"], [0, 10, 3000, 300_000]),
    "edits": (["write", "append", "cut", "sync", "edit", "edit", "edit"], [10, 3000, 100_000, 400_000, 900_000]),
}


@dataclass
class State:
    """What a file was closed with; mtime: at least, at most."""

    data: bytes
    mode: int = 0o644
    mtime: tuple[int, int] = (0, EVER)
    xattrs: dict[str, bytes] = field(default_factory=dict)

    def wrong(self, seen: "State") -> str:
        """How what was found differs from this."""
        if seen.data != self.data:
            return "content"
        if seen.mode != self.mode:
            return f"mode {oct(seen.mode)}, not {oct(self.mode)}"
        if not self.mtime[0] <= seen.mtime[0] <= self.mtime[1]:
            return f"mtime {seen.mtime[0]}, not {self.mtime}"
        return "" if seen.xattrs == self.xattrs else f"xattrs {seen.xattrs}, not {self.xattrs}"

    def __str__(self) -> str:
        return f"{len(self.data)} bytes ({self.data[:8].hex()}..)"


class Work:
    """The same operations for a seed. `may` says what each name may be: what it was last closed as, and what an operation
    that the kill has interrupted would have made of it (None: no such file)."""

    def __init__(self, seed: int, root: Path, mix: str, removals_last: bool):
        self.dice, self.root = random.Random(seed), root
        self.kinds, self.sizes = MIXES[mix]
        self.names = NAMES[:3] if mix == "edits" else NAMES
        self.now: dict[str, State | None] = dict.fromkeys(NAMES)
        self.may: dict[str, list[State | None]] = {name: [None] for name in NAMES}
        self.ever: dict[str, list[bytes]] = {name: [] for name in NAMES}
        self.removed: dict[str, State] = {}  # as with rm(1), the disk may not have heard of it (local_dir.c)
        self.removals_last = removals_last
        self.moving: list[tuple[str, str]] = []
        self.copying = False  # the server copies, perhaps in parts, of which no journal knows
        self.trail: list[str] = []
        self.has_xattrs = True

    def run(self, steps: int) -> None:
        try:
            for folder in FOLDERS[:3]:
                os.makedirs(self.root / folder, exist_ok=True)
            for _ in range(steps):
                self.step()
        except OSError:
            pass  # killed

    def free_folder(self) -> str:
        return next(folder for folder in FOLDERS if not (self.root / folder).exists())

    def data(self, sizes: list[int]) -> bytes:
        return pattern(self.dice.choice(sizes), seed=self.dice.randrange(1 << 30))

    def step(self) -> None:
        free = self.free_folder()
        names = [name for name in self.names if not name.startswith(free)]
        what, name = self.dice.choice(self.kinds), self.dice.choice(names)
        data, at, number = self.data(self.sizes), self.dice.random(), self.dice.randrange(1 << 30)
        other = self.dice.choice([n for n in names if n != name])
        old = self.now[name]
        if what == "folder":
            return self.rename_folder(name.split("/")[0], free)
        if what in ("write", "sync", "large") or old is None:
            data = pattern(5 * MIB + number % (6 * MIB), seed=number) if what == "large" else data
            return self.change({name: self.written(old, data)}, lambda: self.write(name, data, what == "sync"))
        if what == "append":
            self.change({name: self.written(old, old.data + data)}, lambda: self.patch(name, len(old.data), data))
        elif what == "edit":
            off = int(at * (len(old.data) + 1))
            new = old.data[:off] + data + old.data[off + len(data):]
            self.change({name: self.written(old, new)}, lambda: self.patch(name, off, data))
        elif what == "cut":
            cut = int(at * (len(old.data) + 1))
            self.change({name: self.written(old, old.data[:cut] + data)}, lambda: self.patch(name, cut, data, cut))
        elif what == "rename":
            self.move({name: other}, lambda: os.rename(self.root / name, self.root / other))
        elif what == "remove":
            self.change({name: None}, lambda: os.unlink(self.root / name))
            if self.removals_last:
                self.removed[name] = old
        else:
            self.copying = True
            self.describe(name, old, what, number)
            self.copying = False

    def written(self, old: State | None, data: bytes) -> State:
        mtime = (time.time_ns() - SLACK_NS, EVER)
        return replace(old, data=data, mtime=mtime) if old else State(data, mtime=mtime)

    def describe(self, name: str, old: State, what: str, number: int) -> None:
        path = self.root / name
        if what == "chmod":
            mode = (0o600, 0o644, 0o755)[number % 3]
            self.change({name: replace(old, mode=mode)}, lambda: os.chmod(path, mode))
        elif what == "times":
            at = number * 1_000_000_007
            self.change({name: replace(old, mtime=(at, at))}, lambda: os.utime(path, ns=(at, at)))
        elif self.has_xattrs:
            value = str(number).encode()
            self.change({name: replace(old, xattrs={"user.a": value})}, lambda: os.setxattr(path, "user.a", value))

    def rename_folder(self, folder: str, free: str) -> None:
        pairs = {name: name.replace(folder, free, 1) for name in NAMES if name.startswith(folder + "/")}
        self.move(pairs, lambda: os.rename(self.root / folder, self.root / free))
        for name, other in pairs.items():
            if name in self.removed:
                self.removed[other] = self.removed.pop(name)

    def move(self, pairs: dict[str, str], work) -> None:
        after = {other: self.now[name] for name, other in pairs.items()} | dict.fromkeys(pairs)
        for name, other in pairs.items():
            self.ever[other] += self.ever[name]
        self.moving = [pair for pair in pairs.items() if self.now[pair[0]]]
        self.copying = True
        self.change(after, work)
        self.moving, self.copying = [], False

    def write(self, name: str, data: bytes, sync: bool) -> None:
        with open(self.root / name, "wb", buffering=MIB) as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())

    def patch(self, name: str, off: int, data: bytes, cut: int | None = None) -> None:
        """In pieces: a kill finds some of them written."""
        piece = max(len(data) // 3, 1)
        with open(self.root / name, "r+b", buffering=0) as file:
            if cut is not None:
                file.truncate(cut)
            for at in range(0, len(data), piece):
                file.seek(off + at)
                file.write(data[at:at + piece])

    def change(self, after: dict[str, State | None], work) -> None:
        """Until work() returns both are possible; a file that was truncated to be written has a promise
        for the old content only as long as nobody opened it for writing: then either, or nothing new."""
        for name, state in after.items():
            self.may[name] = [self.now[name], state]
            self.ever[name] += [state.data] if state else []
        self.trail.append(", ".join(f"{name}: {self.now[name] or 'no file'} -> {state or 'no file'}" for name, state in
                                    after.items()))
        work()
        self.trail[-1] += ", done"
        for name, state in after.items():
            self.now[name], self.may[name] = state, [state]
            if state:
                self.removed.pop(name, None)
        for name, state in after.items():
            if state and state.mtime[1] == EVER:
                at = os.stat(self.root / name).st_mtime_ns
                state.mtime = (at, at)


class Judge:
    def __init__(self, world: World, work: Work):
        self.world, self.work, self.store = world, work, world.store
        self.names = self.store.names()

    def check(self) -> None:
        for name in NAMES:
            self._name(name)
        for name, other in self.work.moving:
            if not any(self.store.read(place) == self.work.now[name].data for place in (name, other)):
                raise Lost(f"{name} was being renamed to {other} and is at neither")
        strange = [name for name in self.names if name.split(CONFLICT)[0] not in NAMES]
        if strange:
            raise Lost(f"nobody has made {strange}")

    def _name(self, name: str) -> None:
        allowed = list(self.work.may[name])
        if name in self.work.removed:
            allowed.append(self.work.removed[name])
        copies = {copy: self.store.read(copy) for copy in self.names if copy.startswith(name + CONFLICT)}
        got, seen = self.store.read(name), self._seen(name)
        if (seen and seen.data) != got:
            raise Lost(f"{name}: the mount shows other bytes than the store has")
        wrong = ["it is there" if state is None and seen else "it is not there" if seen is None and state else
                 state.wrong(seen) if state and seen else "" for state in allowed]
        if "" in wrong and not copies:
            return
        closed = [state.data for state in allowed if state]
        if not self.store.edited_in_place or not copies or not all(
                any(copy == want or (place.endswith("-incomplete") and together(copy, got or b"", want)) for want in closed)
                for place, copy in copies.items()):
            raise Lost(f"{name}: {seen or 'no file'} and {list(copies)} beside it, allowed: "
                       + " or ".join(f"{state or 'no file'} ({how})" for state, how in zip(allowed, wrong)))
        if got is not None and not woven(got, self.work.ever[name]):  # it was killed while it was editing the store's file
            raise Lost(f"{name}: {seen} of no content that it ever had, and whole beside it: {list(copies)}")

    def _seen(self, name: str) -> State | None:
        path = self.world.root / name
        try:
            info = os.stat(path)
        except FileNotFoundError:
            return None
        xattrs = {n: os.getxattr(path, n) for n in os.listxattr(path) if n == "user.a"}
        at = info.st_mtime_ns
        return State(path.read_bytes(), stat.S_IMODE(info.st_mode), (at, at), xattrs)


def together(copy: bytes, got: bytes, want: bytes) -> bool:
    """What was edited is in the copy, the rest is still under the name."""
    return len(copy) == len(want) and all(
        copy[at] == byte or (not copy[at] and at < len(got) and got[at] == byte) for at, byte in enumerate(want))


def woven(got: bytes, contents: list[bytes]) -> bool:
    """Every byte is, at its place, of one of the contents (or of a hole), and so is the size."""
    if len(got) not in {len(content) for content in contents}:
        return False
    return all(not got[at] or any(at < len(c) and c[at] == got[at] for c in contents) for at in range(len(got)))
