"""Running other people's programs on a mount, and small checks that many tests share."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import mmap
import os
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator

import pytest

from .daemon import clean_environment, disasters


def run(*arguments: object, cwd: Path | None = None, input: bytes | None = None,
        env: dict[str, str] | None = None, seconds: float = 110) -> str:
    """stdout of a command that must succeed."""
    done = subprocess.run(
        [str(a) for a in arguments], cwd=cwd, input=input, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, timeout=seconds, env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})},
        stdin=subprocess.DEVNULL if input is None else None,
    )
    if done.returncode != 0:
        raise AssertionError(
            f"{' '.join(str(a) for a in arguments)}: exit {done.returncode}\n"
            f"{done.stdout.decode(errors='replace')[-3000:]}\n{done.stderr.decode(errors='replace')[-3000:]}"
        )
    return done.stdout.decode(errors="replace")


def call(*arguments: object, env: dict[str, str] | None = None,
         seconds: float = 60) -> subprocess.CompletedProcess:
    """One of our programs, to its end, whatever its exit code."""
    done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True,
                          env=clean_environment(**(env or {})), stdin=subprocess.DEVNULL, timeout=seconds)
    assert not disasters(done.stdout + done.stderr), done.stderr
    return done


@contextmanager
def fails_with(*numbers: int) -> Iterator[None]:
    """The block must raise an OSError with one of these errno values."""
    with pytest.raises(OSError) as caught:
        yield
    got = caught.value.errno
    names = " or ".join(errno.errorcode[n] for n in numbers)
    assert got in numbers, f"wanted {names}, got {errno.errorcode.get(got or 0, got)}: {caught.value}"


def eventually(check: Callable[[], object], seconds: float = 120, what: str = "") -> object:
    """Until check() is true; for what another process does in its own time. `seconds` is for what never comes true."""
    deadline = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(what or f"not true within {seconds} s: {check}")
        time.sleep(0.05)


def tree(top: Path) -> dict[str, tuple]:
    """Everything below a directory that cp -a keeps: kind, mode, size, mtime in seconds, content."""
    found: dict[str, tuple] = {}
    for folder, names, files in os.walk(top):
        for name in names + files:
            path = Path(folder) / name
            info = path.lstat()
            relative = str(path.relative_to(top))
            mode = info.st_mode & 0o7777
            if path.is_symlink():
                found[relative] = ("link", os.readlink(path))
            elif path.is_dir():
                found[relative] = ("directory", mode)
            else:
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                found[relative] = ("file", mode, info.st_size, int(info.st_mtime), digest)
    return found


def content(top: Path) -> dict[str, str]:
    """Relative path -> sha256 of every regular file."""
    return {name: entry[4] for name, entry in tree(top).items() if entry[0] == "file"}


def sample_tree(top: Path) -> Path:
    """A small tree with what trees have: depth, an empty file and directory, modes, a link, odd names."""
    top.mkdir()
    (top / "deep/er/still").mkdir(parents=True)
    (top / "empty-dir").mkdir()
    (top / "empty").write_bytes(b"")
    (top / "one").write_bytes(b"1")
    (top / "deep/text").write_text("line\n" * 1000)
    (top / "deep/er/still/block").write_bytes(os.urandom(300_000))
    (top / "with space and ü").write_text("hi")
    (top / "100% sure").write_text("percent")
    (top / "script").write_text("#!/bin/sh\n")
    (top / "script").chmod(0o755)
    (top / "secret").write_text("x")
    (top / "secret").chmod(0o600)
    (top / "link").symlink_to("deep/text")
    for number, path in enumerate(sorted(p for p in top.rglob("*") if not p.is_symlink())):
        os.utime(path, (1_600_000_000 + number, 1_600_000_000 + number))
    return top


def spread_writes(path: Path, writes: list[tuple[int, bytes]]) -> None:
    """pwrite()s in that order on an existing file."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        for offset, data in writes:
            assert os.pwrite(descriptor, data, offset) == len(data)
    finally:
        os.close(descriptor)


def patched(data: bytes, writes: list[tuple[int, bytes]]) -> bytes:
    """What those writes make of `data`."""
    whole = bytearray(data)
    for offset, new in writes:
        if len(whole) < offset:
            whole += bytes(offset - len(whole))
        whole[offset:offset + len(new)] = new
    return bytes(whole)


def descriptors(pid: int) -> list[str]:
    """What a process has open; nothing when it has ended."""
    there = []
    try:
        for entry in os.scandir(f"/proc/{pid}/fd"):
            try:
                there.append(os.readlink(entry.path))
            except FileNotFoundError:  # closed meanwhile
                pass
    except OSError:
        return []
    return there


def no_temporaries(path) -> bool:
    """Of uploads to a server's directory."""
    return not [name for name in os.listdir(path) if name.startswith(".quay-tmp-")]


def kept_pages(path: Path, first: Callable[[], object] = lambda: None) -> int:
    """Pages that the kernel keeps of the mount's file: one that may be written is never passed through. With `first`:
    after that was done, with the file open."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        count = (len(mapped) + mmap.PAGESIZE - 1) // mmap.PAGESIZE
        resident = (ctypes.c_ubyte * count)()
        first()
        begin = ctypes.c_char.from_buffer(mapped)
        failed = libc.mincore(ctypes.c_void_p(ctypes.addressof(begin)), ctypes.c_size_t(len(mapped)), resident)
        del begin
        assert not failed, os.strerror(ctypes.get_errno())
        return sum(page & 1 for page in resident)
