"""Cases over whole trees: find, du, rsync, git status; a directory of a million; a start with a full cache;
many files read at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable

from servers import Million

from .contenders import Contender, peak_bytes, resident_bytes
from .model import MIB, Case, Fact, Failed, Sample, Target
from .raw import drop_page_cache, read_whole
from .world import World, must_be, timed

BUDGET = 128 * MIB        # [memory] memory_limit, its default
ENTRY = 256               # bytes of memory for an entry of a listing


def output(world: World, *words: str) -> str:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_CONFIG_COUNT": "1", "LC_ALL": "C",
                   "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
                          env=environment)
    if done.returncode != 0:
        raise Failed(f"{words[0]}: exit {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout


def find(world: World, root: Path) -> Callable[[], None]:
    return lambda: must_be(world.seed.tree_entries, output(world, "find", str(root)).count("\n"))


def du(world: World, root: Path) -> Callable[[], None]:
    """By the sizes that stat gives: the blocks of a remote file are nobody's truth."""
    def run() -> None:
        total = int(output(world, "du", "-s", "--apparent-size", "-B1", str(root)).split()[0])
        if total < len(world.seed.tree) * world.seed.leaf_size:
            raise Failed(f"du says {total} bytes")
    return run


def rsync(world: World, root: Path) -> Callable[[], None]:
    """Against the same tree on the local disk: sizes and times agree, nothing is to be sent."""
    def run() -> None:
        told = output(world, "rsync", "-n", "-r", "--stats", "--exclude", "/.git", f"{root}/",
                      f"{world.folder}/disk-tree/")
        wanted = ("Number of regular files transferred: 0",
                  f"reg: {len(world.seed.tree):,}")
        if missing := [text for text in wanted if text not in told]:
            raise Failed(f"rsync does not say '{missing[0]}': {told.strip()[:400]}")
    return run


def git(world: World, root: Path) -> Callable[[], None]:
    def run() -> None:
        if changes := output(world, "git", "-C", str(root), "status", "--porcelain"):
            raise Failed(f"git status sees {changes.count(chr(10))} changes: {changes[:200]}")
    return run


def over_tree(task: Callable[[World, Path], Callable[[], None]]):
    """Cold, then the same again at once in the same mount."""
    def run(world: World, contender: Contender | None) -> Sample:
        count = len(world.seed.tree)
        if contender is None:
            root = world.folder / "disk-tree"
        else:
            contender.start()
            root = contender.root / "tree"
        drop_page_cache()
        sample = timed(count, task(world, root), contender)
        sample.facts["again"] = timed(count, task(world, root), contender).rate
        return sample
    return run


def tree_case(name: str, what: str, task) -> Case:
    best = [Target("the best peer", "best", 1.0)]
    return Case(name, f"{what} of a tree, cold", "files/s", over_tree(task), "disk", best, needs=("tree",), cost=32,
                rounds=1, facts=[Fact("again", f"{what} of the tree again", "files/s", False, best)])


def million(world: World, contender: Contender | None) -> Sample:
    """quayfs alone, on a server that makes the listing up. ls -l: every entry is looked at."""
    count = world.sizes.million
    assert contender is not None and contender.process is None
    server = Million(world.folder / "million", count)
    server.start()
    try:
        contender.start(server.endpoint, bucket="million", list_metadata="yes")
        before = resident_bytes(contender.pid)
        first: list[float] = []

        def work() -> None:
            begin, seen = time.perf_counter(), 0
            with os.scandir(contender.root / "many") as entries:
                for entry in entries:
                    if not seen:
                        first.append(time.perf_counter() - begin)
                    seen += entry.stat().st_size == 0
            must_be(count, seen)
        sample = timed(count, work, contender)
        peak = peak_bytes(contender.pid)
        sample.facts = {"first": first[0], "entry": (peak - before) / count, "peak": peak / MIB,
                        "allowed": peak / (count * ENTRY + BUDGET)}
        contender.stop()
        return sample
    finally:
        server.stop()


def warm_start(world: World, contender: Contender | None) -> Sample:
    """From exec to the content of one cached file. The full cache is made once and put back each round."""
    assert contender is not None
    names, kept = world.seed.tree[:world.sizes.warm], contender.folder / "warm-cache"
    if not kept.exists():
        contender.start()
        with ThreadPoolExecutor(8) as pool:
            sizes = pool.map(lambda name: read_whole(f"{contender.root}/tree/{name}"), names)
            must_be(len(names) * world.seed.leaf_size, sum(sizes))
        contender.stop()
        contender.cache.rename(kept)
    shutil.rmtree(contender.cache, ignore_errors=True)
    kept.rename(contender.cache)
    drop_page_cache()
    wanted = (world.folder / "disk-tree" / names[len(names) // 2]).read_bytes()
    try:
        sample = timed(1, lambda: first_answer(contender, f"tree/{names[len(names) // 2]}", wanted), contender)
        sample.facts["memory"] = peak_bytes(contender.pid) / MIB
        contender.stop()
    finally:
        contender.stop()
        contender.cache.rename(kept)
    return sample


def first_answer(contender: Contender, name: str, wanted: bytes) -> None:
    contender.spawn(keep_cache=True)
    while True:
        try:
            if (contender.root / name).read_bytes() != wanted:
                raise Failed(f"{name} has another content after the restart")
            return
        except OSError:
            if not contender.running():
                raise Failed(f"{contender.name} ended:\n{contender.log_tail()}") from None
            time.sleep(0.002)


def wide(world: World, contender: Contender | None) -> Sample:
    count, size = world.sizes.wide, world.sizes.wide_size
    assert contender is not None
    contender.start()
    paths = [f"{contender.root}/wide/f{number:02}" for number in range(count)]
    with ThreadPoolExecutor(count) as pool:
        sample = timed(count * size / MIB, lambda: must_be(count * size, sum(pool.map(read_whole, paths))), contender)
    sample.facts["peak"] = peak_bytes(contender.pid) / MIB
    for path in paths[::max(1, count // 4)]:
        if world.once("wide" + path[-3:], contender):
            world.check_sum(Path(path), "wide/f00")
    return sample


CASES = [
    tree_case("find", "find", find),
    tree_case("du", "du -s", du),
    tree_case("rsync", "rsync -n -r", rsync),
    tree_case("git", "git status", git),
    Case("million", "ls -l of one huge directory, cold, a server without work", "entries/s", million, only=("quayfs",),
         rounds=1, cost=20, peak=False, facts=[
             Fact("first", "the same: first entry", "s"),
             Fact("entry", "the same: memory gained for an entry", "bytes", targets=[Target("256", "", 256, True)]),
             Fact("peak", "the same: peak memory", "MiB"),
             Fact("allowed", "the same: peak memory of what is allowed (256 bytes an entry + memory_limit)", "part",
                  targets=[Target("1", "", 1.0, True)])]),
    Case("warm-start", "start with a full cache, exec to first cat", "s", warm_start, only=("quayfs",), seconds=True,
         needs=("tree",), cost=10, facts=[Fact("memory", "the same: memory after it", "MiB")]),
    Case("wide", "64 files of 32 MiB read at once, cold", "MiB/s", wide, "", [Target("the best peer", "best", 1.0)],
         needs=("wide",), cost=25, rounds=1,
         facts=[Fact("peak", "the same: peak memory", "MiB", targets=[Target("128", "", 128, True)])]),
]
