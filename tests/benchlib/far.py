"""Cases with latency: a proxy delays each request of every contender, and of the raw clients."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

from .contenders import Contender
from .model import MIB, Case, Sample, Target
from .raw import Requests, curl_get, read_whole
from .reads import offsets
from .world import World, must_be, same_blocks, timed

READERS = 16


def seq_far(world: World, contender: Contender | None) -> Sample:
    """The limit's name says what it is: GETs of 1 MiB, one after the other, on one kept connection."""
    size = world.sizes.far
    curl_get(world.url("GET", "far"))
    if contender is None:
        url, requests = world.slow_url("GET", "far"), Requests(world.slow)
        sample = timed(size / MIB, lambda: must_be(size, sum(
            requests.get(url, at, min(at + MIB, size) - 1) for at in range(0, size, MIB))), None)
        requests.close()
        return sample
    contender.start(world.slow)
    path = contender.root / "far"
    sample = timed(size / MIB, lambda: must_be(size, read_whole(str(path))), contender)
    world.check_whole("seq-far", contender, path, "far")
    return sample


def random_far(readers: int):
    """Each reader its own places; every one has the file open before the clock starts."""
    def run(world: World, contender: Contender | None) -> Sample:
        each = 4 if world.quick else 24
        places = [offsets(world.sizes.big, each, world.turn * READERS + i) for i in range(readers)]
        curl_get(world.url("GET", "big"))
        with ThreadPoolExecutor(readers) as pool:
            gate = threading.Barrier(readers)
            list(pool.map(lambda _: gate.wait(), range(readers)))   # the threads exist
            if contender is None:
                url = world.slow_url("GET", "big")
                lines = [Requests(world.slow) for _ in range(readers)]
                sample = timed(readers * each, lambda: list(pool.map(
                    lambda line, mine: [line.get(url, p, p + 4095) for p in mine], lines, places)), None)
                for line in lines:
                    line.close()
                return sample
            contender.start(world.slow)
            files, got = [os.open(contender.root / "big", os.O_RDONLY) for _ in range(readers)], []
            try:
                sample = timed(readers * each, lambda: got.extend(pool.map(
                    lambda file, mine: [os.pread(file, 4096, place) for place in mine], files, places)), contender)
            finally:
                for file in files:
                    os.close(file)
        for ours, mine in zip(got, places, strict=True):
            same_blocks(ours, world.local_copy(), mine)
        return sample
    return run


CASES = [
    Case("seq-far", "first sequential read, 30 ms away", "MiB/s", seq_far, "1 MiB GETs, one connection",
         [Target("5 x one connection", "1 MiB GETs, one connection", 5.0), Target("the best peer", "best", 1.0)],
         needs=("far",), cost=13, rounds=2),
    Case("rand-far-1", "random 4 KiB, cold, 30 ms away, 1 reader", "reads/s", random_far(1), "http loop",
         [Target("the best peer", "best", 1.0)], needs=("big",), cost=8, rounds=2),
    Case("rand-far-16", "random 4 KiB, cold, 30 ms away, 16 readers", "reads/s", random_far(READERS),
         "16 http loops", [Target("8 x one reader", "case:rand-far-1", 8.0), Target("the best peer", "best", 1.0)],
         needs=("big",), cost=12, rounds=2),
]
