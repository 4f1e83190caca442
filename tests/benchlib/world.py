"""What all cases share: the bucket, the sizes, two ways to the server, and the tools that time and check."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from .contenders import Contender, children_cpu
from .model import Failed, Sample
from .raw import curl_to
from .seed import Seed


@dataclass
class Sizes:
    """Of a run: quick, as usual, full."""
    big: int = 512 << 20          # bytes
    far: int = 128 << 20          # the object read over the slow way
    small: int = 1000             # files of 16 KiB
    many: int = 10_000            # entries of the large directory
    tree: int = 20_000            # files
    tar: int = 1600
    rename: int = 1000
    million: int = 200_000
    warm: int = 20_000
    wide: int = 64                # files read at once
    wide_size: int = 32 << 20
    writes: int = 300
    back: int = 1000


QUICK = Sizes(big=64 << 20, far=16 << 20, small=100, many=1000, tree=400, tar=100, rename=50, million=5000,
              warm=200, wide=8, wide_size=4 << 20, writes=50, back=100)
FULL = Sizes(tree=100_000, tar=6400, rename=10_000, million=1_000_000, warm=100_000)


@dataclass
class World:
    seed: Seed
    folder: Path                  # on the local disk
    sizes: Sizes
    quick: bool
    slow: str = ""                # endpoint with the latency
    delay: float = 0.0            # seconds of it
    turn: int = 0                 # a number that no two runs share
    checked: set[tuple[str, str]] = field(default_factory=set)

    def url(self, method: str, key: str) -> str:
        return self.seed.url(method, key)

    def slow_url(self, method: str, key: str) -> str:
        return self.seed.url(method, key, self.slow)

    def once(self, case: str, contender: Contender | None) -> bool:
        """True the first time: content is compared once for each case and contender, off the clock."""
        if contender is None or (case, contender.name) in self.checked:
            return False
        self.checked.add((case, contender.name))
        return True

    def local_copy(self, key: str = "big") -> Path:
        """An object as a file of the local disk."""
        path = self.folder / f"disk-{key}"
        if not path.exists():
            curl_to(self.url("GET", key), path)
        return path

    def check_whole(self, case: str, contender: Contender, path: Path, key: str) -> None:
        if self.once(case, contender):
            self.check_sum(path, key)

    def check_sum(self, path: Path, key: str) -> None:
        if (found := checksum(path)) != self.seed.sums[key]:
            raise Failed(f"{path} is not what is in the store (SHA-256 {found}, not {self.seed.sums[key]})")


def checksum(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def timed(amount: float, work: Callable[[], object], contender: Contender | None) -> Sample:
    cpu = contender.cpu if contender else lambda: children_cpu() + time.process_time()
    if contender:
        contender.profile(True)
    before, start = cpu(), time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    sample = Sample(amount, seconds, cpu() - before)
    if contender:
        contender.profile(False)
        contender.note_peak()
    return sample


def must_be(wanted: int, got: int) -> None:
    if wanted != got:
        raise Failed(f"got {got} instead of {wanted} (bytes or entries)")


def settle(contender: Contender | None) -> None:
    """Blocks reach the disk in the background: wait until the daemon is idle."""
    if contender is None:
        return
    before = contender.cpu()
    for _ in range(50):
        time.sleep(0.2)
        now = contender.cpu()
        if now - before < 0.005:
            return
        before = now


def read_at(path: Path, places: list[int], size: int = 4096) -> list[bytes]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return [os.pread(descriptor, size, place) for place in places]
    finally:
        os.close(descriptor)


def same_blocks(ours: list[bytes], path: Path, places: list[int]) -> None:
    """Every block that a contender gave, against the local copy."""
    for place, mine, true in zip(places, ours, read_at(path, places), strict=True):
        if mine != true:
            raise Failed(f"the {len(mine)} bytes at {place} are not those of the object")
