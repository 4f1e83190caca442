"""Cases that write. What is in the store is looked at after each."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

from .contenders import Contender
from .model import MIB, Case, Fact, Failed, Sample, Target
from .raw import Requests, curl_put, read_whole
from .world import World, timed

APPEND = MIB


def copy_in(name: str, far: bool):
    def run(world: World, contender: Contender | None) -> Sample:
        source, size = world.local_copy(), world.sizes.big
        read_whole(str(source))
        key = f"in-{world.turn}"
        if contender is None:
            url = world.slow_url("PUT", key) if far else world.url("PUT", key)
            sample = timed(size / MIB, lambda: curl_put(url, str(source)), None)
        else:
            contender.start(world.slow if far else "")
            sample = timed(size / MIB, lambda: shutil.copyfile(source, contender.root / key), contender)
        world.seed.check(key, size)
        if world.once(name, contender) and world.seed.sum(key) != world.seed.sums["big"]:
            raise Failed(f"{key} in the store is not what was written")
        world.seed.remove(key)
        return sample
    return run


def put_by_socket(world: World, urls: list[str], body: bytes) -> Sample:
    requests = Requests(world.seed.minio.endpoint)
    try:
        return timed(len(urls), lambda: [requests.put(url, body) for url in urls], None)
    finally:
        requests.close()


def put_by_curl(world: World, urls: list[str], body: bytes) -> Sample:
    """One curl, which keeps its connection."""
    source, todo = world.folder / "body", world.folder / "urls"
    source.write_bytes(body)
    todo.write_text("next\n".join(f'url = "{url}"\nupload-file = "{source}"\noutput = "/dev/null"\nfail\nsilent\n'
                                  for url in urls))
    return timed(len(urls), lambda: subprocess.run(["curl", "-K", str(todo)], check=True), None)


def small_write(name: str, loop):
    def run(world: World, contender: Contender | None) -> Sample:
        count, body = world.sizes.writes, os.urandom(world.seed.small_size)
        folder = f"w{world.turn}"
        names = [f"{number:04}" for number in range(count)]
        if contender is None:
            sample = loop(world, [world.url("PUT", f"{folder}/{file}") for file in names], body)
        else:
            contender.start()
            (contender.root / folder).mkdir()
            sample = timed(count, lambda: write_files(contender.root / folder, names, body), contender)
        check_files(world, folder, names, body, world.once(name, contender))
        world.seed.remove(folder + "/")
        return sample
    return run


def write_files(folder: Path, names: list[str], body: bytes, sync: bool = False) -> None:
    for name in names:
        with open(folder / name, "wb", buffering=0) as file:
            file.write(body)
            if sync:
                os.fsync(file.fileno())


def check_files(world: World, folder: str, names: list[str], body: bytes, thoroughly: bool) -> None:
    found = world.seed.keys(folder + "/")
    wrong = [name for name in names if found.get(f"{folder}/{name}") != len(body)]
    if not wrong and thoroughly:
        wrong = [name for name in names if world.seed.body(f"{folder}/{name}") != body]
    if wrong:
        raise Failed(f"{len(wrong)} of {len(names)} files are not in the store as written, such as {wrong[0]}")


def back_write(world: World, contender: Contender | None) -> Sample:
    """close() returns when the bytes are safe on the local disk; rclone returns before they are synced. The limit
    is the local disk with an fsync for each file."""
    count, body = world.sizes.back, os.urandom(world.seed.small_size)
    folder = f"b{world.turn}"
    names = [f"{number:05}" for number in range(count)]
    if contender is None:
        place = world.folder / folder
        place.mkdir()
        sample = timed(count, lambda: write_files(place, names, body, sync=True), None)
        shutil.rmtree(place)
        return sample
    contender.start(write="back")
    (contender.root / folder).mkdir()
    sample = timed(count, lambda: write_files(contender.root / folder, names, body), contender)
    deadline = time.monotonic() + 100
    while sum(size == len(body) for size in world.seed.keys(folder + "/").values()) < count:
        if time.monotonic() > deadline:
            break
        time.sleep(0.5)
    check_files(world, folder, names, body, world.once("write-back", contender))
    contender.stop()
    world.seed.remove(folder + "/")
    return sample


def edit(back: bool):
    """An object of its own each time, known to the file system but not cached. With `back`, quayfs's close() returns
    when the change is safe on the local disk; s3fs has nothing of the kind and stores it as ever."""
    def change(path: Path, size: int) -> None:
        descriptor = os.open(path, os.O_RDWR)
        os.pwrite(descriptor, b"8 bytes!", size // 2)
        os.close(descriptor)

    def run(world: World, contender: Contender | None) -> Sample:
        assert contender is not None
        options = {"write": "back"} if back and contender.name == "quayfs" else {}
        return changed(world, contender, "edit", change,
                       lambda data, size: data[:size // 2] + b"8 bytes!" + data[size // 2 + 8:], **options)
    return run


def append(world: World, contender: Contender | None) -> Sample:
    more = os.urandom(APPEND)

    def change(path: Path, _: int) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        if os.write(descriptor, more) != len(more):
            raise Failed("short write")
        os.close(descriptor)
    return changed(world, contender, "append", change, lambda data, _: data + more)


def changed(world: World, contender: Contender | None, name: str, change, wanted, **options: str) -> Sample:
    key, size = f"{name}-{world.turn}", world.sizes.big
    assert contender is not None
    world.seed.copy("big", key)
    contender.start(**options)
    sample = timed(1, lambda: change(contender.root / key, size), contender)
    if options:
        contender.stop()  # stores what is staged
    data = world.local_copy().read_bytes()
    if world.seed.sum(key) != hashlib.sha256(wanted(data, size)).hexdigest():
        raise Failed(f"the {name} did not reach the store")
    contender.stop()
    world.seed.remove(key)
    return sample


def tar_file(world: World) -> Path:
    """40 files in a folder, 1 to 16 KiB."""
    path = world.folder / "tree.tar"
    if not path.exists():
        folder = world.folder / "tar-source"
        for number in range(world.sizes.tar):
            file = folder / f"t/d{number // 40:03}/f{number:04}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(os.urandom(1024 + number * 997 % 15360))
        with tarfile.open(path, "w") as tar:
            tar.add(folder / "t", "t")
    return path


def untar(world: World, contender: Contender | None) -> Sample:
    """tar x into a new directory, then rm -r of it, in the same mount."""
    tar, count, turn = tar_file(world), world.sizes.tar, f"tar-{world.turn}"
    place = world.folder / turn if contender is None else contender.root / turn
    if contender is not None:
        contender.start()
    place.mkdir()
    sample = timed(count, lambda: command("tar", "xf", str(tar), "-C", str(place)), contender)
    if contender is not None:
        check_tar(world, turn, world.once("tar", contender))
    removal = timed(count, lambda: command("rm", "-r", str(place / "t")), contender)
    sample.facts["rm"] = removal.rate
    if contender is None:
        place.rmdir()
    elif left := [key for key in world.seed.keys(turn + "/") if key != turn + "/"]:
        raise Failed(f"{len(left)} objects are left after rm -r, such as {left[0]}")
    return sample


def check_tar(world: World, folder: str, thoroughly: bool) -> None:
    source, found = world.folder / "tar-source", world.seed.keys(folder + "/")
    for path in (p for p in sorted(source.rglob("*")) if p.is_file()):
        key = f"{folder}/{path.relative_to(source)}"
        if found.get(key) != path.stat().st_size or (thoroughly and world.seed.body(key) != path.read_bytes()):
            raise Failed(f"{key} in the store is not what was in the archive")


def command(*words: str) -> None:
    done = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace")
    if done.returncode != 0:
        raise Failed(f"{words[0]}: exit {done.returncode}: {done.stderr.strip()[-500:]}")


def rename(world: World, contender: Contender | None) -> Sample:
    count, old, new = world.sizes.rename, f"ren-{world.turn}", f"moved-{world.turn}"
    names = [f"f{number:05}" for number in range(count)]
    world.seed.clone(old, names, b"x" * 1024)
    if contender is None:
        copies = [world.seed.url("COPY", f"{new}/{name}", CopySource=f"{world.seed.bucket}/{old}/{name}")
                  for name in names]
        removals = [world.url("DELETE", f"{old}/{name}") for name in names]
        requests = Requests(world.seed.minio.endpoint)

        def move() -> None:
            for name, target, source in zip(names, copies, removals):
                requests.copy(target, f"{world.seed.bucket}/{old}/{name}")
                requests.delete(source)
        sample = timed(count, move, None)
        requests.close()
    else:
        contender.start()
        sample = timed(count, lambda: os.rename(contender.root / old, contender.root / new), contender)
    found = world.seed.keys(new + "/")
    if any(found.get(f"{new}/{name}") != 1024 for name in names) or \
            any(key != old + "/" for key in world.seed.keys(old + "/")):
        raise Failed(f"{len(found)} of {count} objects have the new name, {world.seed.count(old + '/')} the old one")
    world.seed.remove(new + "/")
    world.seed.remove(old + "/")
    return sample


CASES = [
    Case("cp-in", "cp in, durable at close", "MiB/s", copy_in("cp-in", False), "curl",
         [Target("1.4 x the best peer", "best", 1.4), Target("0.8 of curl", "curl", 0.8)],
         writes=True, needs=("big",), cost=7),
    Case("cp-far", "cp in, 30 ms away, durable at close", "MiB/s", copy_in("cp-far", True), "curl",
         [Target("the best peer", "best", 1.0)], writes=True, needs=("big",), cost=10, rounds=2),
    Case("small-write", "16 KiB files written, durable at close", "files/s", small_write("small-write", put_by_socket),
         "http loop", [Target("0.6 of the limit", "http loop", 0.6)], writes=True, cost=6),
    Case("small-curl", "16 KiB files written, durable at close, beside one curl", "files/s",
         small_write("small-curl", put_by_curl), "curl loop", [Target("0.6 of curl", "curl loop", 0.6)],
         writes=True, only=("quayfs",), cost=3),
    Case("write-back", "16 KiB files written, write = back", "files/s", back_write, "disk, fsynced",
         [Target("792 files/s (geesefs, measured elsewhere)", "", 792)],
         only=("quayfs", "rclone"), cost=13, rounds=2),
    Case("edit", "8-byte edit inside, durable", "s", edit(False), "",
         [Target("0.25 of s3fs", "s3fs", 0.25, at_most=True)], writes=True, seconds=True, needs=("big",), cost=8),
    Case("edit-back", "8-byte edit inside, write = back", "s", edit(True), "",
         [Target("0.25 of s3fs", "s3fs", 0.25, at_most=True)], writes=True, seconds=True, needs=("big",), cost=8),
    Case("append", "append of 1 MiB to the big object, durable", "s", append, "",
         [Target("the best peer", "best", 1.0, at_most=True)], writes=True, seconds=True, needs=("big",),
         cost=8, rounds=2),
    Case("tar", "tar x of small files, durable at close", "files/s", untar, "disk",
         [Target("the best peer", "best", 1.0)], writes=True, cost=40, rounds=1,
         facts=[Fact("rm", "rm -r of what tar made", "files/s", less=False,
                     targets=[Target("the best peer", "best", 1.0)])]),
    Case("rename", "rename of a directory of small files", "files/s", rename, "http loop",
         [Target("the best peer", "best", 1.0)], cost=12, rounds=1),
]
