"""Cases that read one file, many small ones, or a large directory."""

from __future__ import annotations

import os
import random
from typing import Callable

from .contenders import Contender
from .model import MIB, Case, Failed, Sample, Target
from .raw import Requests, curl_get, drop_page_cache, read_whole
from .world import World, must_be, read_at, same_blocks, settle, timed


def seq_cold(world: World, contender: Contender | None) -> Sample:
    size = world.sizes.big
    curl_get(world.url("GET", "big"))  # the server's own page cache is warm for all
    if contender is None:
        return timed(size / MIB, lambda: curl_get(world.url("GET", "big")), None)
    contender.start()
    path = contender.root / "big"
    sample = timed(size / MIB, lambda: must_be(size, read_whole(str(path))), contender)
    world.check_whole("seq-cold", contender, path, "big")
    return sample


def seq_again(name: str, drop: bool) -> Callable[[World, "Contender | None"], Sample]:
    def run(world: World, contender: Contender | None) -> Sample:
        size = world.sizes.big
        path = world.local_copy() if contender is None else contender.root / "big"
        if contender is not None:
            contender.start()
        read_whole(str(path))
        settle(contender)
        if drop:
            drop_page_cache()
        sample = timed(size / MIB, lambda: must_be(size, read_whole(str(path))), contender)
        if contender is not None:
            world.check_whole(name, contender, path, "big")
        return sample
    return run


def offsets(size: int, count: int, seed: int) -> list[int]:
    dice = random.Random(seed)
    return [dice.randrange(size // 4096) * 4096 for _ in range(count)]


def random_cached(world: World, contender: Contender | None) -> Sample:
    path = world.local_copy() if contender is None else contender.root / "big"
    if contender is not None:
        contender.start()
    read_whole(str(path))
    settle(contender)
    drop_page_cache()
    places = offsets(world.sizes.big, 500 if world.quick else 5000, world.turn)
    got: list[bytes] = []
    sample = timed(len(places), lambda: got.extend(read_at(path, places)), contender)
    same_blocks(got, world.local_copy(), places)
    return sample


def random_cold(world: World, contender: Contender | None) -> Sample:
    """Few enough reads that fetching the whole object for them does not pay."""
    places = offsets(world.sizes.big, 50 if world.quick else 300, world.turn)
    curl_get(world.url("GET", "big"))
    if contender is None:
        url, requests = world.url("GET", "big"), Requests(world.seed.minio.endpoint)
        sample = timed(len(places), lambda: [requests.get(url, p, p + 4095) for p in places], None)
        requests.close()
        return sample
    contender.start()
    got: list[bytes] = []
    sample = timed(len(places), lambda: got.extend(read_at(contender.root / "big", places)), contender)
    same_blocks(got, world.local_copy(), places)
    return sample


def small_read(world: World, contender: Contender | None) -> Sample:
    names = world.seed.small
    if contender is None:
        urls = [world.url("GET", f"small/{name}") for name in names]
        requests = Requests(world.seed.minio.endpoint)
        sample = timed(len(names), lambda: [requests.get(url) for url in urls], None)
        requests.close()
        return sample
    contender.start()
    folder = contender.root / "small"

    def work() -> None:
        for name in names:
            must_be(world.seed.small_size, read_whole(f"{folder}/{name}"))
    sample = timed(len(names), work, contender)
    if world.once("small-read", contender):
        true = world.seed.body(f"small/{names[0]}")
        for name in names:
            if (folder / name).read_bytes() != true:
                raise Failed(f"{folder / name} is not what is in the store")
    return sample


def list_long(world: World, contender: Contender | None) -> Sample:
    names = world.seed.many
    if contender is None:
        urls = world.seed.list_urls()
        requests = Requests(world.seed.minio.endpoint)
        sample = timed(len(names), lambda: [requests.get(url) for url in urls], None)
        requests.close()
        return sample
    contender.start()
    seen: list[str] = []

    def work() -> None:
        with os.scandir(contender.root / "many") as entries:
            seen.extend(entry.name for entry in entries if entry.stat().st_size == 1)
    sample = timed(len(names), work, contender)
    if sorted(seen) != names:
        raise Failed(f"{len(seen)} entries of one byte are shown, {len(names)} are there")
    return sample


CASES = [
    Case("seq-cold", "first sequential read", "MiB/s", seq_cold, "curl",
         [Target("0.85 of curl", "curl", 0.85)], needs=("big",), cost=4),
    Case("seq-warm", "read again, page cache warm", "MiB/s", seq_again("seq-warm", False), "disk",
         [Target("0.90 of the disk", "disk", 0.90)], needs=("big",), cost=6),
    Case("seq-dropped", "read again, page cache dropped", "MiB/s", seq_again("seq-dropped", True), "disk",
         [Target("0.90 of the disk", "disk", 0.90)], needs=("big",), cost=8),
    Case("rand-cached", "random 4 KiB, disk cache", "reads/s", random_cached, "disk",
         [Target("0.90 of the disk", "disk", 0.90)], needs=("big",), cost=8),
    Case("rand-cold", "random 4 KiB, cold", "reads/s", random_cold, "http loop",
         [Target("0.80 of the limit", "http loop", 0.80)], needs=("big",), cost=4),
    Case("small-read", "16 KiB files read cold, one thread", "files/s", small_read, "http loop",
         [Target("1.5 x the best peer", "best", 1.5)], needs=("small",), cost=7),
    Case("ls", "ls -l of a large directory, cold", "entries/s", list_long, "http loop",
         [Target("3 x the best peer", "best", 3.0)], needs=("many",), cost=11),
]
