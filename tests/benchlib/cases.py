"""The cases of design.md's table. A case prepares, is timed, and says what it counted."""

from __future__ import annotations

import os
import random
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from .contenders import Contender, children_cpu
from .raw import Requests, curl_get, curl_put, drop_page_cache, read_whole
from .seed import Seed

MIB = 1 << 20


@dataclass
class Sample:
    amount: float         # MiB, files, entries, reads: what the unit counts
    seconds: float
    cpu: float            # of the client: the daemon, or the raw program itself

    @property
    def rate(self) -> float:
        return self.amount / self.seconds


@dataclass
class Target:
    text: str
    of: str               # contender, "best" (of the peers)
    need: float
    at_most: bool = False  # seconds: quayfs / other <= need


@dataclass
class Case:
    name: str
    title: str
    unit: str
    run: Callable[["World", "Contender | None"], Sample]  # None: the limit or the disk
    against: str                                          # the name of that
    targets: list[Target] = field(default_factory=list)
    writes: bool = False
    seconds: bool = False                                 # told in seconds: less is better


@dataclass
class World:
    seed: Seed
    folder: Path          # on the local disk
    quick: bool
    turn: int = 0         # a number that no two runs share

    def url(self, method: str, key: str) -> str:
        return self.seed.url(method, key)


def timed(amount: float, work: Callable[[], object], contender: Contender | None) -> Sample:
    cpu = contender.cpu if contender else lambda: children_cpu() + time.process_time()
    before, start = cpu(), time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    if contender:
        contender.note_peak()
    return Sample(amount, seconds, cpu() - before)


def local_copy(world: World) -> Path:
    """The big object as a file of the local disk."""
    path = world.folder / "disk-big"
    if not path.exists():
        curl_to(world.url("GET", "big"), path)
    return path


def curl_to(url: str, path: Path) -> None:
    import subprocess
    subprocess.run(["curl", "-fsS", "-o", str(path), url], check=True)


def seq_cold(world: World, contender: Contender | None) -> Sample:
    size = world.seed.size
    curl_get(world.url("GET", "big"))  # the server's own page cache is warm for all
    if contender is None:
        return timed(size / MIB, lambda: curl_get(world.url("GET", "big")), None)
    contender.start()
    return timed(size / MIB, lambda: must_be(size, read_whole(str(contender.root / "big"))), contender)


def must_be(wanted: int, got: int) -> None:
    if wanted != got:
        raise SystemExit(f"bench: read {got} bytes of {wanted}: no figure is worth anything")


def seq_again(drop: bool) -> Callable[[World, "Contender | None"], Sample]:
    def run(world: World, contender: Contender | None) -> Sample:
        size = world.seed.size
        path = local_copy(world) if contender is None else contender.root / "big"
        if contender is not None:
            contender.start()
        read_whole(str(path))
        settle(contender)
        if drop:
            drop_page_cache()
        return timed(size / MIB, lambda: must_be(size, read_whole(str(path))), contender)
    return run


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


def offsets(size: int, count: int, seed: int) -> list[int]:
    dice = random.Random(seed)
    return [dice.randrange(size // 4096) * 4096 for _ in range(count)]


def read_at(path: Path, places: list[int]) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        for place in places:
            if len(os.pread(descriptor, 4096, place)) != 4096:
                raise SystemExit("bench: short read")
    finally:
        os.close(descriptor)


def random_cached(world: World, contender: Contender | None) -> Sample:
    path = local_copy(world) if contender is None else contender.root / "big"
    if contender is not None:
        contender.start()
    read_whole(str(path))
    settle(contender)
    drop_page_cache()
    places = offsets(world.seed.size, 500 if world.quick else 5000, world.turn)
    return timed(len(places), lambda: read_at(path, places), contender)


def random_cold(world: World, contender: Contender | None) -> Sample:
    """Few enough reads that fetching the whole object for them does not pay."""
    places = offsets(world.seed.size, 50 if world.quick else 300, world.turn)
    curl_get(world.url("GET", "big"))
    if contender is None:
        url, requests = world.url("GET", "big"), Requests(world.seed.minio.endpoint)
        sample = timed(len(places), lambda: [requests.get(url, p, p + 4095) for p in places], None)
        requests.close()
        return sample
    contender.start()
    return timed(len(places), lambda: read_at(contender.root / "big", places), contender)


def small_read(world: World, contender: Contender | None) -> Sample:
    names = world.seed.small
    if contender is None:
        urls = [world.url("GET", f"small/{name}") for name in names]
        requests = Requests(world.seed.minio.endpoint)
        sample = timed(len(names), lambda: [requests.get(url) for url in urls], None)
        requests.close()
        return sample
    contender.start()

    def work() -> None:
        for name in names:
            must_be(world.seed.small_size, read_whole(f"{contender.root}/small/{name}"))
    return timed(len(names), work, contender)


def list_long(world: World, contender: Contender | None) -> Sample:
    names = world.seed.many
    if contender is None:
        urls = world.seed.list_urls()
        requests = Requests(world.seed.minio.endpoint)
        sample = timed(len(names), lambda: [requests.get(url) for url in urls], None)
        requests.close()
        return sample
    contender.start()

    def work() -> None:
        with os.scandir(contender.root / "many") as entries:
            must_be(len(names), sum(1 for entry in entries if entry.stat().st_size >= 0))
    return timed(len(names), work, contender)


def copy_in(world: World, contender: Contender | None) -> Sample:
    source, size = local_copy(world), world.seed.size
    read_whole(str(source))
    key = f"in-{world.turn}"
    if contender is None:
        sample = timed(size / MIB, lambda: curl_put(world.url("PUT", key), str(source)), None)
    else:
        contender.start()
        sample = timed(size / MIB, lambda: shutil.copyfile(source, contender.root / key), contender)
    world.seed.check(key, size)
    return sample


def small_write(world: World, contender: Contender | None) -> Sample:
    count, body = (50 if world.quick else 300), os.urandom(world.seed.small_size)
    keys = [f"w{world.turn}/{number:04}" for number in range(count)]
    if contender is None:
        urls = [world.url("PUT", key) for key in keys]
        requests = Requests(world.seed.minio.endpoint)
        sample = timed(count, lambda: [requests.put(url, body) for url in urls], None)
        requests.close()
    else:
        contender.start()
        (contender.root / f"w{world.turn}").mkdir()

        def work() -> None:
            for key in keys:
                with open(contender.root / key, "wb", buffering=0) as file:
                    file.write(body)
        sample = timed(count, work, contender)
    world.seed.check(keys[-1], len(body))
    return sample


def edit(world: World, contender: Contender | None) -> Sample:
    """An object of its own each time, known to the file system but not cached."""
    key, size = f"edit-{world.turn}", world.seed.size
    world.seed.copy("big", key)
    assert contender is not None
    contender.start()

    def work() -> None:
        descriptor = os.open(contender.root / key, os.O_RDWR)
        os.pwrite(descriptor, b"8 bytes!", size // 2)
        os.close(descriptor)
    sample = timed(1, work, contender)
    if world.seed.part(key, size // 2, 8) != b"8 bytes!":
        raise SystemExit(f"bench: the edit of {contender.name} did not reach the store")
    return sample


CASES = [
    Case("seq-cold", "first sequential read", "MiB/s", seq_cold, "curl",
         [Target("0.85 of curl", "curl", 0.85)]),
    Case("seq-warm", "read again, page cache warm", "MiB/s", seq_again(False), "disk",
         [Target("0.90 of the disk", "disk", 0.90)]),
    Case("seq-dropped", "read again, page cache dropped", "MiB/s", seq_again(True), "disk",
         [Target("0.90 of the disk", "disk", 0.90)]),
    Case("rand-cached", "random 4 KiB, disk cache", "reads/s", random_cached, "disk",
         [Target("0.90 of the disk", "disk", 0.90)]),
    Case("rand-cold", "random 4 KiB, cold", "reads/s", random_cold, "http loop",
         [Target("0.80 of the limit", "http loop", 0.80)]),
    Case("small-read", "16 KiB files read cold, one thread", "files/s", small_read, "http loop",
         [Target("1.5 x the best peer", "best", 1.5)]),
    Case("ls", "ls -l of a large directory, cold", "entries/s", list_long, "http loop",
         [Target("3 x the best peer", "best", 3.0)]),
    Case("cp-in", "cp in, durable at close", "MiB/s", copy_in, "curl",
         [Target("1.4 x the best peer", "best", 1.4), Target("0.8 of curl", "curl", 0.8)], writes=True),
    Case("small-write", "16 KiB files written, durable at close", "files/s", small_write, "http loop",
         [Target("0.6 of the limit", "http loop", 0.6)], writes=True),
    Case("edit", "8-byte edit inside, durable", "s", edit, "",
         [Target("0.25 of s3fs", "s3fs", 0.25, at_most=True)], writes=True, seconds=True),
]
