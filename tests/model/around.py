"""What happens around the mount under test: other clients, remounts, crashes."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from dataclasses import dataclass

from . import check
from .check import Mismatch, differ, same_bytes
from .names import NameOps, files_below
from .play import PASSED, Skip, bytes_of, wait_until
from .state import ABSENT, Dir, File, Link, Meta, Node, Wrong
from .world import REAL_DIRS


ROW_GOES = 0.3  # of a small file that is stored: at most 0.1 s later (ARCHITECTURE.md), on a slow machine more
COPIES = {"s3", "versitygw", "gcs", "azure"}  # a rename is a copy by the server, then a removal
CONFLICT = ".conflict-"
DECIDES = {"s3", "gcs", "azure", "sqlite", "postgres", "mysql"}  # which of two writers was first


@dataclass
class Held:
    descriptor: int
    data: bytes
    path: str
    written: bool = False  # by the second mount itself, perhaps


class Player(NameOps):
    """With what happens around it: remounts, crashes, other clients."""

    def _others_may(self, path: str) -> tuple[Dir, str, Node | None]:
        """The place of a file that nobody has open here, so that somebody else may change it."""
        if self.world.key is None or not self.world.lasting or not self.world.variant.strict:
            raise Skip
        try:
            parent, name, node = self.tree.place(path)
        except Wrong:
            raise Skip from None
        if isinstance(node, (Dir, Link)) or (isinstance(node, File) and (node.opens or node.dirty)):
            raise Skip
        if self.world.variant.write == "back":
            self._wait_until_stored(parent, name, node)
            self.others_did = time.monotonic()
        return parent, name, node

    def _wait_until_stored(self, parent: Dir, name: str, node: Node | None) -> None:
        """What another client's change is judged by. What was removed, and is on its way, is listed nowhere: there only a
        store that decides by itself who was first keeps what the other client puts."""
        if node is None and self.world.backend not in DECIDES:
            raise Skip
        where = f"{parent.path()}/{name}".lstrip("/")
        self._until_staged(lambda waiting: where not in waiting)

    def _until_staged(self, fits) -> None:
        until = time.monotonic() + 60
        while not fits(waiting := self.world.staged()):
            if time.monotonic() > until:
                raise Mismatch(f"still staged after a minute: {sorted(waiting)}")
            time.sleep(0.002)

    def do_foreign_put(self, path: str, size: int, seed: int) -> None:
        parent, name, _ = self._others_may(path)
        data = bytes_of(seed, size)
        where = f"{parent.path()}/{name}".lstrip("/")
        self._put_behind(where, data)
        self._replaced(parent, name, data)
        self.settle()
        same_bytes("content", check.read_whole(self.full(where)), data)

    def _put_behind(self, where: str, data: bytes) -> None:
        """At a time of its own where nothing but time and size tell versions apart."""
        key = self.world.key
        self.foreign += 1
        key.put_behind(where, data, (1_000_000_000 + self.foreign) * key.time_ns if key.time_ns > 1 else None)

    def _replaced(self, parent: Dir, name: str, data: bytes) -> File:
        made = File(0)
        made.foreign = True
        made.meta = Meta(None, None, None, {}, None)
        made.data = bytearray(data)
        made.states, made.dirty = [made.snapshot()], False
        if name in parent.children:
            parent.take(name)
        parent.add(name, made)
        return made

    def do_foreign_delete(self, path: str) -> None:
        parent, name, node = self._others_may(path)
        if node is None:
            raise Skip
        self.world.key.delete_behind(f"{parent.path()}/{name}".lstrip("/"))
        parent.take(name)
        self.settle()

    def do_race(self, path: str, off: int, size: int, seed: int) -> None:
        """We write, somebody else is first: our close fails (write = back: nobody is told), and both are kept."""
        parent, name, node = self._others_may(path)
        if node is None or not size:
            raise Skip
        where = f"{parent.path()}/{name}".lstrip("/")
        behind = self.world.variant.write == "back"
        ours, theirs, data = bytearray(node.data), bytes_of(seed + 1, size + 1), bytes_of(seed, size)
        descriptor = os.open(self.full(where), os.O_RDWR)
        os.pwrite(descriptor, data, off)
        self._put_behind(where, theirs)
        try:
            os.close(descriptor)
            if not behind:
                raise Mismatch("close has overwritten what another client wrote")
        except OSError as error:
            if error.errno != errno.ESTALE:
                differ("close", errno.errorcode[error.errno], "ESTALE")
        self._both_are_kept(parent, name, theirs, written(ours, off, data), (off, data), True)

    def do_race_behind(self, path: str, size: int, seed: int) -> None:
        """write = back, and somebody else stores the name while what we have closed may be on its way, or there."""
        if self.world.variant.write != "back" or self.world.backend not in DECIDES:
            raise Skip
        parent, name, _ = self._others_may(path)
        if not size:
            raise Skip
        where = f"{parent.path()}/{name}".lstrip("/")
        ours, theirs = bytes_of(seed, size), bytes_of(seed + 1, size + 1)
        with open(self.full(where), "wb", buffering=0) as file:
            file.write(ours)
        self._put_behind(where, theirs)
        self._both_are_kept(parent, name, theirs, ours, (0, ours), False)

    def _both_are_kept(self, parent: Dir, name: str, theirs: bytes, ours: bytes, edit: tuple[int, bytes],
                       certain: bool) -> None:
        """Theirs has the name, ours is beside it (not certain: or was stored before, and replaced)."""
        where = f"{parent.path()}/{name}".lstrip("/")
        if self.world.variant.write == "back":
            self._until_staged(lambda waiting: not any(p == where or p.startswith(where + CONFLICT) for p in waiting))
        self._replaced(parent, name, theirs)
        self.settle()
        same_bytes("theirs", check.read_whole(self.full(where)), theirs)
        folder = self.full(parent.path())
        kept = [n for n in os.listdir(folder) if n.startswith(name + CONFLICT)]
        if len(kept) != 1 and (certain or kept):
            differ("copies of ours", kept, "one")
        for copy in kept:
            got = check.read_whole(f"{folder}/{copy}")
            if copy.endswith("-incomplete"):  # the version that we have edited is nowhere any more
                off, data = edit
                same_bytes("ours", got[off:off + len(data)], data)
            else:
                same_bytes("ours", got, ours)
            os.unlink(f"{folder}/{copy}")

    # The second mount.
    def _second(self, path: str) -> str:
        if self.world.other is None:
            raise Skip
        wait_until(max(self.second_looked + self.believes, self.looked + PASSED))
        return f"{self.world.other}/{path}"

    def do_check(self) -> None:
        """Everything, and what the second mount has as well when all of it is stored."""
        super().do_check()
        if self.world.other is not None and settled(self.tree.root):
            wait_until(max(self.second_looked + self.believes, time.monotonic() + PASSED))
            try:
                check.same_tree(str(self.world.other), self.tree.root)
            except Mismatch as error:
                raise Mismatch(f"second mount: {error}") from None
            self.second_looked = time.monotonic()

    def do_b_read(self, path: str) -> None:
        full = self._second(path)
        try:
            node = self.tree.walk(path)
        except Wrong:
            node = None
        if isinstance(node, Dir):
            check.same_names("second mount", full, node) if settled(node) else None
            return
        allowed = [ABSENT] if node is None else [s if s is None else s[0] for s in node.states]
        if node is not None and node.dirty:
            allowed.append(bytes(node.data))
        try:
            got = check.read_whole(full)
        except OSError as error:
            if ABSENT in allowed and error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return
            raise Mismatch(f"second mount: {error}") from None
        if got not in allowed:
            wanted = [a if a is None else len(a) for a in allowed]
            if len(allowed) == 1 and allowed[0] is not None:
                same_bytes("second mount", got, allowed[0])
            raise Mismatch(f"second mount: {len(got)} bytes, none of the contents allowed {wanted}")
        if node is not None and not node.dirty:
            check.same_stat("second mount", os.stat(full), node)

    def do_b_write(self, path: str, size: int, seed: int) -> None:
        parent, name, node = self._others_may(path)
        full = self._second(path)
        data = bytes_of(seed, size)
        descriptor = os.open(full, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644)
        os.write(descriptor, data)
        os.close(descriptor)
        self._note_written()
        if node is None:
            self._replaced(parent, name, data)
        else:
            node.data = bytearray(data)
            node.meta.mtime = node.meta.atime = None
            node.states = [node.snapshot()]
        self.settle()

    def do_b_edit(self, path: str, off: int, size: int, seed: int) -> None:
        _, _, node = self._others_may(path)
        if node is None or not size:
            raise Skip
        full = self._second(path)
        data = bytes_of(seed, size)
        descriptor = os.open(full, os.O_RDWR)
        os.pwrite(descriptor, data, off)
        os.close(descriptor)
        self._note_written()
        node.put(off, data)
        node.meta.mtime = node.meta.atime = None
        node.states = [node.snapshot()]
        self.settle()

    def _note_written(self) -> None:
        for held in self.held.values():
            held.written = True

    def do_b_unlink(self, path: str) -> None:
        parent, name, node = self._others_may(path)
        if node is None:
            raise Skip
        full = self._second(path)
        os.unlink(full)
        parent.take(name)
        self.settle()

    def do_b_open(self, number: int, path: str) -> None:
        """An open file of the second mount, to be read later, when this one has changed it."""
        if number in self.held:
            raise Skip
        parent, name, node = self._others_may(path)
        if node is None:
            raise Skip
        full = self._second(path)
        self.held[number] = Held(os.open(full, os.O_RDONLY), bytes(node.data), path)

    def do_b_pread(self, number: int, off: int, size: int) -> None:
        """The version that was opened, or ESTALE; never a new one, but for what the second mount has written."""
        if number not in self.held:
            raise Skip
        held, got = self.held[number], b""
        try:  # to the end: what comes first is what the kernel has, and how it goes on is told by the next call
            while part := os.pread(held.descriptor, size - len(got), off + len(got)):
                got += part
        except OSError as error:
            if error.errno not in (errno.ESTALE, errno.EIO):  # EIO: the kernel had asked ahead
                raise
            size = len(got)
        if not held.written:
            same_bytes("second mount, open file", got, held.data[off:off + size])

    def do_b_close(self, number: int) -> None:
        if number not in self.held:
            raise Skip
        try:
            os.close(self.held.pop(number).descriptor)
        except OSError as error:  # the kernel gives an inode up whose name has become another kind of file
            if error.errno != errno.EIO:
                raise

    # The daemon.
    def do_cache_clear(self) -> None:
        if not self.world.command("cache", "clear"):
            raise Skip
        self._child_has_ended()

    def _child_has_ended(self) -> None:
        """A child that became another program has closed its copies of the descriptors: each close stores."""
        for _, shared in self.slots.values():
            if shared.changes:
                self.flushed(shared.node)

    def close_all(self) -> None:
        for number in list(self.slots):
            descriptor, _ = self.slots[number]
            os.close(descriptor)
            self.forget_slot(number)
        for number in list(self.held):
            self.do_b_close(number)

    def do_remount(self) -> None:
        if not self.world.lasting or not self.world.quay:
            raise Skip
        self.close_all()
        self.world.remount()
        for node in self.tree.all("f"):
            node.publish()
        self.do_check()

    def do_crash(self) -> None:
        """kill -9: what was closed or fsynced is there; the rest may be, in one piece, or may not."""
        self._kill_while(lambda: None, 0)
        self._restart(None)

    def _kill_while(self, call, delay_us: int) -> bool:
        """Whether the call has returned well before its daemon was gone."""
        if not self.world.lasting or not self.world.quay:
            raise Skip
        if self.world.variant.write == "back":  # a kill before its row is gone stores once more what others have removed
            wait_until(self.others_did + ROW_GOES)
        failed: list[OSError] = []

        def run() -> None:
            try:
                call()
            except OSError as error:
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        time.sleep(delay_us / 1e6)
        self.world.mounts[0].kill9()
        thread.join()
        return not failed

    def _restart(self, cut_off: File | None) -> None:
        """cut_off: its close may have been cut off."""
        for number in list(self.slots):
            descriptor, shared = self.slots.pop(number)
            try:
                os.close(descriptor)
            except OSError:
                pass
            shared.node.opens = 0
        self.world.crash()
        torn = self._torn() if self.world.variant.write == "back" else set()
        for node in self.tree.all("f"):
            if node.dirty or node in torn:
                self._adopt(node, node in torn, node is cut_off and self.world.backend in REAL_DIRS)
        self.do_check()

    def do_crash_in_close(self, number: int, delay_us: int) -> None:
        descriptor, shared = self.slot(number)
        node = shared.node
        stores = shared.changes and not self._is_only_begun(shared)
        if self._kill_while(lambda: os.close(os.dup(descriptor)), delay_us) and stores:
            self.flushed(node)
        self._restart(node)

    def do_crash_in_chmod(self, path: str, mode: int, delay_us: int) -> None:
        """Before, or after; when chmod has returned: after."""
        try:
            node = self.tree.walk(path)
        except Wrong:
            raise Skip from None
        if not isinstance(node, File) or node.dirty:
            raise Skip
        if node.meta.mode is None:
            check.learn(os.stat(self.full(path)), node.meta)
        before = node.snapshot()
        full = self.full(node.path())
        done = self._kill_while(lambda: os.chmod(full, mode), delay_us)
        node.meta.mode = mode
        node.states = [node.snapshot()] if done else [before, node.snapshot()]
        node.dirty = not done
        self._restart(None)

    def do_crash_in_rename(self, old: str, new: str, delay_us: int) -> None:
        """One step, or a copy and a removal; never is the file at neither name, and what it replaces is not lost before."""
        try:
            src_dir, src_name, src = self.tree.place(old)
            dst_dir, dst_name, dst = self.tree.place(new)
        except Wrong:
            raise Skip from None
        if src is dst or not all(isinstance(n, File) and not n.dirty and not n.opens for n in (src, dst or src)):
            raise Skip
        paths = [self.full(f"{place.path()}/{name}".lstrip("/")) for place, name in ((src_dir, src_name), (dst_dir, dst_name))]
        done = self._kill_while(lambda: os.rename(*paths), delay_us)
        was, over = bytes(src.data), ABSENT if dst is None else bytes(dst.data)
        self.world.crash()
        got = tuple(check.read_whole(path) if os.path.lexists(path) else ABSENT for path in paths)
        allowed = [(ABSENT, was)] if done else [(ABSENT, was), (was, over)]
        if not done and self.world.backend in COPIES:
            allowed.append((was, was))
        if got not in allowed:
            differ("sizes at both names after the crash", [g if g is None else len(g) for g in got],
                   [[a if a is None else len(a) for a in pair] for pair in allowed])
        if got[0] is ABSENT:
            self.tree.rename(old, new)
        elif got != (was, over):
            self._replaced(dst_dir, dst_name, was).meta.xattrs = dict(src.meta.xattrs)
        self._restart(None)

    def _torn(self) -> set[File]:
        """An upload that was cut off in a store that is edited in place (local): the file is as far as that
        came, and all that was written is in a copy beside it. What the next commit would take is waited for."""
        if self.world.backend != "local":
            return set()
        found = set()
        for node in [self.tree.root, *self.tree.all("d")]:
            folder = self.full(node.path())
            for name in os.listdir(folder):
                base, mark, _ = name.partition(CONFLICT)
                if mark:
                    os.unlink(f"{folder}/{name}")
                    found.add(node.children[base])
        return found

    def _adopt(self, node: File, torn: bool, half: bool) -> None:
        """half: where files are edited in place, an edit that was cut off may be."""
        path = self.full(node.path())
        present = node.snapshot()
        allowed = [*node.states, present]
        try:
            got = check.read_whole(path)
        except FileNotFoundError:
            if ABSENT not in allowed:
                raise Mismatch(f"{node.path()} is gone after the crash") from None
            node.parent.take(node.name)
            return
        if torn or ((half or self.world.variant.write == "back") and woven(got, allowed, half)):
            allowed.append((got, node.meta.copy()))
        fits = [s for s in allowed if s is not None and s[0] == got]
        if not fits:
            raise Mismatch(f"{node.path()} after the crash: {len(got)} bytes, none of what it was: "
                           f"{[s if s is None else len(s[0]) for s in allowed]}")
        info = os.stat(path)
        node.data = bytearray(got)
        modes = {s[1].mode for s in fits}
        if stat.S_IMODE(info.st_mode) not in modes and None not in modes:
            differ(f"{node.path()}: mode after the crash", oct(info.st_mode), modes)
        names = {n: os.getxattr(path, n) for n in os.listxattr(path) if n.startswith("user.t.")}
        if names not in [s[1].xattrs for s in fits]:
            differ(f"{node.path()}: xattrs after the crash", names, [s[1].xattrs for s in fits])
        node.meta = Meta(stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid, names,
                         (info.st_mtime_ns, info.st_mtime_ns), node.meta.step, None, node.meta.keeps)
        node.states, node.dirty = [node.snapshot()], False


def written(content: bytearray, off: int, data: bytes) -> bytes:
    made = File(0)
    made.data = content
    made.put(off, data)
    return bytes(made.data)


def woven(got: bytes, states: list, half: bool) -> bool:
    """write = back: later writes go into the file that the journal row stands for; without an fsync some of them
    may be there after a kill. But every byte is of one of the states."""
    sources = [s[0] for s in states if s is not None]
    sizes = [len(s) for s in sources]
    if not min(sizes, default=0) <= len(got) <= max(sizes, default=0) or not (half or len(got) in sizes):
        return False
    return all((half and not byte) or any(at < len(s) and s[at] == byte for s in sources) for at, byte in enumerate(got))


def settled(node: Dir) -> bool:
    return all(not f.dirty for f in files_below(node))
