"""Plays operations on a world and on the model at once.

An operation is a list: a name and plain values. Every operation may be played in any state: one whose
file handle is not there is skipped, and a call that must fail must fail the same way on both sides. So
any part of a sequence is a sequence, which is what shrinking needs."""

from __future__ import annotations

import errno
import mmap
import os
import random
import time
from dataclasses import dataclass, field
from typing import Callable

from . import check, system
from .check import Mismatch, differ, same_bytes
from .state import Dir, File, Link, Node, Tree, Wrong, since_now
from .world import World

TICK = time.clock_getres(6)  # CLOCK_MONOTONIC_COARSE: of the kernel's timer, to which it rounds a ttl up
PASSED = 0.002  # what a daemon was still asking about when something changed has been answered and forgotten


class Skip(Exception):
    """Nothing to do here."""


class Alike(Exception):
    """Both have failed, in the same way."""


def bytes_of(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


@dataclass
class Open:
    """An open file description; `fds` are the descriptors that share it."""

    node: File
    flags: int
    offset: int = 0
    fds: list[int] = field(default_factory=list)
    made: bool = False  # the file, by this open
    wrote: bool = False
    inode: int = 0

    @property
    def reads(self) -> bool:
        return self.flags & os.O_ACCMODE in (os.O_RDONLY, os.O_RDWR)

    @property
    def writes(self) -> bool:
        return self.flags & os.O_ACCMODE in (os.O_WRONLY, os.O_RDWR)

    @property
    def changes(self) -> bool:
        """Opening alone may be a change, which close then stores."""
        return self.writes or self.made or bool(self.flags & os.O_TRUNC)

    @property
    def appends(self) -> bool:
        return bool(self.flags & os.O_APPEND)


class Base:
    def __init__(self, world: World):
        self.world = world
        self.tree = Tree(world.key.time_ns if world.key else 1, world.keeps)
        self.slots: dict[int, tuple[int, Open]] = {}  # slot -> descriptor, description
        self.held: dict = {}  # open files of the second mount
        self.done: dict[str, int] = {}
        self.foreign = 0  # files put by others
        self.others_did = 0.0  # when somebody else has last changed something
        self.looked = self.second_looked = 0.0  # when each mount has last been asked anything
        self.top = str(world.top)
        self.believes = world.variant.ttl_s + 2 * TICK + 0.0005  # what it has heard, for so long at most

    def full(self, path: str) -> str:
        return f"{self.top}/{path}" if path else self.top

    def slot(self, number: int) -> tuple[int, Open]:
        if number not in self.slots:
            raise Skip
        return self.slots[number]

    def both(self, model: Callable[[], object], real: Callable[[], object]) -> object:
        """Both succeed, or both fail alike. Gives what the real call gave; the model has changed then."""
        wrong = None
        try:
            model()
        except Wrong as error:
            wrong = error
        try:
            got = real()
        except OSError as error:
            if wrong is None:
                raise Mismatch(f"failed with {errno.errorcode.get(error.errno, error.errno)}, "
                               f"must succeed: {error}") from None
            if error.errno not in wrong.numbers:
                raise Mismatch(f"failed with {errno.errorcode.get(error.errno, error.errno)}, "
                               f"must fail with {wrong}") from None
            raise Alike from None
        if wrong is not None:
            if isinstance(got, int) and real.__name__ == "opened":
                os.close(got)
            raise Mismatch(f"succeeded, must fail with {wrong}")
        return got

    def settle(self) -> None:
        """Somebody else has just changed something: until this mount believes nothing that it heard before."""
        wait_until(max(self.looked + self.believes, time.monotonic() + PASSED))

    def play(self, op: list) -> bool:
        """False: skipped."""
        name, *arguments = op
        self.done[name] = self.done.get(name, 0) + 1
        try:
            getattr(self, "do_" + name)(*arguments)
        except Skip:
            return False
        except Alike:
            pass
        except Mismatch as error:
            raise Mismatch(f"{op_text(op)}: {error}") from None
        except OSError as error:
            raise Mismatch(f"{op_text(op)}: a check failed: {error!r}") from error
        if name.startswith("b_"):
            self.second_looked = time.monotonic()
        else:
            self.looked = time.monotonic()
        return True

    def forget_slot(self, number: int) -> None:
        descriptor, shared = self.slots.pop(number)
        shared.fds.remove(descriptor)
        if not shared.fds:
            shared.node.opens -= 1
        if shared.changes and not self._is_only_begun(shared):
            self.flushed(shared.node)

    def _is_only_begun(self, shared: Open) -> bool:
        """What an open has only made or emptied is not stored before the close that follows (docs/semantics.md)."""
        writers = {id(other) for _, other in self.slots.values() if other.node is shared.node and other.writes}
        return bool(shared.fds and shared.writes and not shared.wrote and not shared.node.data and len(writers) == 1)

    def flushed(self, node: File) -> None:
        if node.linked:
            node.publish()
        else:
            node.dirty = False


def wait_until(at: float) -> None:
    if (left := at - time.monotonic()) > 0:
        time.sleep(left)


def op_text(op: list) -> str:
    return f"{op[0]}({', '.join(repr(a) for a in op[1:])})"


class FileOps(Base):
    """What is done through descriptors."""

    def do_open(self, number: int, path: str, flags: int, mode: int) -> None:
        if number in self.slots:
            raise Skip
        since = since_now()
        made: list[File] = []
        result: list[Node] = []

        def model() -> None:
            node = self._model_open(path, flags, mode, made)
            result.append(node)

        def opened() -> int:
            return os.open(self.full(path), flags, mode)

        descriptor = self.both(model, opened)
        node = result[0]
        if not isinstance(node, File):
            os.close(descriptor)
            return
        shared = Open(node, flags, 0, [descriptor], bool(made))
        node.opens += 1
        if made or (flags & os.O_TRUNC):
            node.resize(0)
            node.touched(since)
        self.slots[number] = (descriptor, shared)
        info = os.fstat(descriptor)
        shared.inode = info.st_ino
        check.same_stat("fstat after open", info, node)

    def _model_open(self, path: str, flags: int, mode: int, made: list[File]) -> Node:
        creates, exclusive = flags & os.O_CREAT, flags & os.O_EXCL
        if creates and exclusive or flags & os.O_NOFOLLOW:
            parent, name, node = self.tree.place(path)
        else:
            parent, name, node = self.tree.place_following(path)
        if node is None and not creates:
            raise Wrong(errno.ENOENT)
        if node is not None and creates and exclusive:
            raise Wrong(errno.EEXIST)
        if isinstance(node, Link):
            raise Wrong(errno.ENOTDIR if flags & os.O_DIRECTORY else errno.ELOOP)
        if isinstance(node, Dir) and (creates or flags & os.O_ACCMODE != os.O_RDONLY or
                                      flags & os.O_TRUNC):
            raise Wrong(errno.EISDIR)
        if flags & os.O_DIRECTORY and not isinstance(node, Dir):
            raise Wrong(errno.ENOTDIR)
        if node is None:
            node = File(mode & ~0o022)
            parent.add(name, node)
            made.append(node)
        return node

    def do_close(self, number: int) -> None:
        descriptor, _ = self.slot(number)
        os.close(descriptor)
        self.forget_slot(number)

    def do_dup(self, number: int, to: int) -> None:
        descriptor, shared = self.slot(number)
        if to in self.slots:
            raise Skip
        copy = os.dup(descriptor)
        shared.fds.append(copy)
        self.slots[to] = (copy, shared)

    def do_read(self, number: int, size: int) -> None:
        descriptor, shared = self.slot(number)
        got = self.both(lambda: self._readable(shared), lambda: os.read(descriptor, size))
        at = shared.offset
        same_bytes(f"read at {at}", got, bytes(shared.node.data[at:at + size]))
        shared.offset += len(got)

    def _readable(self, shared: Open) -> None:
        if not shared.reads:
            raise Wrong(errno.EBADF)

    def _writable(self, shared: Open) -> None:
        if not shared.writes:
            raise Wrong(errno.EBADF)

    def do_pread(self, number: int, off: int, size: int) -> None:
        descriptor, shared = self.slot(number)
        got = self.both(lambda: self._readable(shared), lambda: os.pread(descriptor, size, off))
        same_bytes(f"pread at {off}", got, bytes(shared.node.data[off:off + size]))

    def do_write(self, number: int, size: int, seed: int) -> None:
        descriptor, shared = self.slot(number)
        data, since = bytes_of(seed, size), since_now()
        wrote = self.both(lambda: self._writable(shared), lambda: os.write(descriptor, data))
        if wrote != size:
            differ("bytes written", wrote, size)
        at = len(shared.node.data) if shared.appends else shared.offset
        if size:
            shared.node.put(at, data)
            self._wrote(shared, since)
            shared.offset = at + size

    def do_pwrite(self, number: int, off: int, size: int, seed: int) -> None:
        descriptor, shared = self.slot(number)
        data, since = bytes_of(seed, size), since_now()
        wrote = self.both(lambda: self._writable(shared), lambda: os.pwrite(descriptor, data, off))
        if wrote != size:
            differ("bytes written", wrote, size)
        if size:  # Linux appends with O_APPEND whatever the offset
            shared.node.put(len(shared.node.data) if shared.appends else off, data)
            self._wrote(shared, since)

    def _wrote(self, shared: Open, since: int) -> None:
        shared.wrote = True
        shared.node.touched(since)
        if shared.flags & os.O_DSYNC:  # O_SYNC has that bit too: each write is followed by an fsync
            self.flushed(shared.node)

    def do_lseek(self, number: int, off: int, whence: int) -> None:
        descriptor, shared = self.slot(number)
        size = len(shared.node.data)
        want = {os.SEEK_SET: 0, os.SEEK_CUR: shared.offset, os.SEEK_END: size}[whence] + off

        def model() -> None:
            if want < 0:
                raise Wrong(errno.EINVAL)

        got = self.both(model, lambda: os.lseek(descriptor, off, whence))
        if got != want:
            differ("lseek", got, want)
        shared.offset = want

    def do_seek_data(self, number: int, off: int, hole: bool) -> None:
        """Any answer is right that skips nothing but zeros; behind the end it is ENXIO."""
        descriptor, shared = self.slot(number)
        data = shared.node.data
        try:
            got = os.lseek(descriptor, off, os.SEEK_HOLE if hole else os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO or (off < len(data) and (hole or any(data[off:]))):
                raise Mismatch(f"failed with {errno.errorcode[error.errno]}, the size is "
                               f"{len(data)}") from None
            return
        shared.offset = got
        if off >= len(data) or not off <= got <= len(data):
            differ("seek", got, f"ENXIO or {off}..{len(data)}")
        if hole and got < len(data) and data[got]:
            raise Mismatch(f"no hole at {got}")
        if not hole and any(data[off:got]):
            raise Mismatch(f"data was skipped between {off} and {got}")

    def do_ftruncate(self, number: int, size: int) -> None:
        descriptor, shared = self.slot(number)
        since = since_now()

        def model() -> None:
            if not shared.writes:
                raise Wrong(errno.EINVAL)

        self.both(model, lambda: os.ftruncate(descriptor, size))
        shared.wrote = True
        self._resized(shared.node, size, since)

    def _resized(self, node: File, size: int, since: int) -> None:
        before = node.meta.mtime
        same = size == len(node.data)
        node.resize(size)
        node.touched(since, not same)
        if same:
            node.perhaps_touched(before)

    def do_truncate(self, path: str, size: int) -> None:
        since = since_now()
        found: list[File] = []

        def model() -> None:
            node = self.tree.walk(path)
            if isinstance(node, Dir):
                raise Wrong(errno.EISDIR)
            found.append(node)

        self.both(model, lambda: os.truncate(self.full(path), size))
        self._resized(found[0], size, since)
        self.flushed(found[0])

    def do_fallocate(self, number: int, mode: int, off: int, size: int) -> None:
        descriptor, shared = self.slot(number)
        since, node = since_now(), shared.node

        def model() -> None:
            if mode & system.COLLAPSE_RANGE:
                raise Wrong(errno.EOPNOTSUPP, errno.EBADF, errno.EINVAL)
            self._writable(shared)

        def real() -> None:
            system.fallocate(descriptor, mode, off, size)

        try:
            self.both(model, real)
        except Mismatch:
            if self.world.quay:
                raise
            raise Skip from None  # what a plain file system cannot do
        before = node.meta.mtime
        end, changed = min(off + size, len(node.data)), False
        if mode & (system.PUNCH_HOLE | system.ZERO_RANGE) and off < end:
            changed = any(node.data[off:end])
            shared.wrote = True
            node.data[off:end] = bytes(end - off)
        if not mode & system.KEEP_SIZE and off + size > len(node.data):
            node.resize(off + size)
            changed = True
        node.touched(since, changed)
        if not changed:
            node.perhaps_touched(before)

    def do_fsync(self, number: int, data_only: bool) -> None:
        descriptor, shared = self.slot(number)
        (os.fdatasync if data_only else os.fsync)(descriptor)
        self.flushed(shared.node)

    def do_mmap_read(self, number: int, page: int, size: int) -> None:
        descriptor, shared = self.slot(number)
        at = page * mmap.PAGESIZE
        length = min(size, len(shared.node.data) - at)
        if not shared.reads or length <= 0:
            raise Skip
        with mmap.mmap(descriptor, length, mmap.MAP_SHARED, mmap.PROT_READ, offset=at) as mapped:
            same_bytes(f"mapped at {at}", mapped[:], bytes(shared.node.data[at:at + length]))
        self._unmapped(shared)

    def do_mmap_write(self, number: int, page: int, skip: int, size: int, seed: int) -> None:
        descriptor, shared = self.slot(number)
        at = page * mmap.PAGESIZE
        length = min(skip + size, len(shared.node.data) - at)
        if not (shared.reads and shared.writes) or length <= skip:
            raise Skip
        data, since = bytes_of(seed, length - skip), since_now()
        with mmap.mmap(descriptor, length, offset=at) as mapped:
            mapped[skip:length] = data
            mapped.flush()
        shared.node.put(at + skip, data)
        shared.node.touched(since)
        self._unmapped(shared)

    def _unmapped(self, shared: Open) -> None:
        """Python maps a duplicate of the descriptor, and closes that."""
        if shared.changes:
            self.flushed(shared.node)

    def do_copy_range(self, one: int, off_one: int, two: int, off_two: int, size: int) -> None:
        source, src = self.slot(one)
        target, dst = self.slot(two)
        since = since_now()
        count = max(0, min(size, len(src.node.data) - off_one))
        one_file = src.node is dst.node
        overlap = one_file and off_two + count > off_one and off_two < off_one + count
        if one_file and src.inode != dst.inode:
            os.fstat(source)  # now the kernel knows where it ends (fs/passthrough.h)

        def model() -> None:
            if not src.reads or not dst.writes or dst.appends:
                raise Wrong(errno.EBADF)
            if overlap:
                raise Wrong(errno.EINVAL)

        got = self.both(model, lambda: os.copy_file_range(source, target, size, off_one, off_two))
        if got == 0 and count and not src.writes:  # the kernel takes the size that it knows (fs/passthrough.h)
            os.fstat(source)
            got = os.copy_file_range(source, target, size, off_one, off_two)
        if got > count or (got == 0 and count > 0):
            differ("bytes copied", got, count)
        if got:
            dst.node.put(off_two, bytes(src.node.data[off_one:off_one + got]))
            self._wrote(dst, since)

    def do_fstat(self, number: int) -> None:
        descriptor, shared = self.slot(number)
        check.same_stat("fstat", os.fstat(descriptor), shared.node)

    def do_whole(self, number: int) -> None:
        """All bytes of an open file."""
        descriptor, shared = self.slot(number)
        if not shared.reads:
            raise Skip
        size = len(shared.node.data)
        same_bytes("content", os.pread(descriptor, size + 1, 0), bytes(shared.node.data))
