"""Operations by name."""

from __future__ import annotations

import errno
import os

from . import check, system
from .check import Mismatch, differ
from .play import FileOps, Skip, bytes_of
from .state import Dir, File, Link, Meta, Node, Wrong


class NameOps(FileOps):
    def do_mkdir(self, path: str, mode: int) -> None:
        self.both(lambda: self.tree.mkdir(path, mode & ~0o022), lambda: os.mkdir(self.full(path), mode))

    def do_rmdir(self, path: str) -> None:
        self.both(lambda: self.tree.rmdir(path), lambda: os.rmdir(self.full(path)))

    def do_unlink(self, path: str) -> None:
        self.both(lambda: self.tree.unlink(path), lambda: os.unlink(self.full(path)))

    def do_symlink(self, target: str, path: str) -> None:
        self.both(lambda: self.tree.symlink(target, path), lambda: os.symlink(target, self.full(path)))

    def do_readlink(self, path: str) -> None:
        def model() -> None:
            _, _, node = self.tree.place(path)
            if node is None:
                raise Wrong(errno.ENOENT)
            if not isinstance(node, Link):
                raise Wrong(errno.EINVAL)

        got = self.both(model, lambda: os.readlink(self.full(path)))
        want = self.tree.place(path)[2].target
        if got != want:
            differ("target", got, want)

    def do_rename(self, old: str, new: str, flags: int) -> None:
        moved: list[Node] = []

        def model() -> None:
            node = self.tree.place(old)[2]
            other = self.tree.place(new)[2] if flags & system.RENAME_EXCHANGE else None
            if flags & system.RENAME_EXCHANGE and self.world.quay:
                self._may_exchange(node, other)
            self.tree.rename(old, new, bool(flags & system.RENAME_NOREPLACE),
                             bool(flags & system.RENAME_EXCHANGE))
            moved.extend(n for n in (node, other) if n is not None)

        def real() -> None:
            if flags:
                system.renameat2(self.full(old), self.full(new), flags)
            else:
                os.rename(self.full(old), self.full(new))

        self.both(model, real)
        for node in moved:
            if isinstance(node, File) and old != new:
                node.publish()
            elif isinstance(node, Dir):
                for below in files_below(node):
                    below.maybe_publish()

    def _may_exchange(self, src: Node | None, dst: Node | None) -> None:
        """Local swaps any two names in one step, memory files; the kernel answers for one and the same by itself."""
        if src is None or dst is None:
            raise Wrong(errno.ENOENT)
        able = self.world.backend == "local" or (self.world.backend == "memory" and not isinstance(src, Dir)
                                                 and not isinstance(dst, Dir))
        if src is not dst and not able:
            raise Wrong(errno.EINVAL)

    def do_link(self, old: str, new: str) -> None:
        def model() -> None:
            if self.tree.place(old)[2] is None:
                raise Wrong(errno.ENOENT)
            if self.tree.place(new)[2] is not None:
                raise Wrong(errno.EEXIST)
            raise Wrong(errno.EPERM)

        if not self.world.quay:
            raise Skip
        self.both(model, lambda: os.link(self.full(old), self.full(new), follow_symlinks=False))

    def do_mkfifo(self, path: str) -> None:
        def model() -> None:
            if self.tree.place(path)[2] is not None:
                raise Wrong(errno.EEXIST)
            raise Wrong(errno.EPERM)

        if not self.world.quay:
            raise Skip
        self.both(model, lambda: os.mkfifo(self.full(path)))

    def do_chmod(self, path: str, mode: int) -> None:
        self._change(path, lambda: os.chmod(self.full(path), mode), lambda m: setattr(m, "mode", mode))

    def do_chown(self, path: str, uid: int, gid: int) -> None:
        def change(meta: Meta) -> None:
            meta.uid, meta.gid = uid, gid

        self._change(path, lambda: os.chown(self.full(path), uid, gid), change)

    def do_utimens(self, path: str, at: int, mt: int) -> None:
        def change(meta: Meta) -> None:
            meta.atime, meta.mtime = at, (mt, mt)

        self._change(path, lambda: os.utime(self.full(path), ns=(at, mt)), change)

    def do_futimens(self, number: int, mt: int) -> None:
        descriptor, shared = self.slot(number)
        os.utime(descriptor, ns=(mt, mt))
        shared.node.meta.atime, shared.node.meta.mtime = mt, (mt, mt)
        shared.node.meta_changed()

    def do_fchmod(self, number: int, mode: int) -> None:
        descriptor, shared = self.slot(number)
        os.fchmod(descriptor, mode)
        shared.node.meta.mode = mode
        shared.node.meta_changed()

    def _change(self, path: str, real, change) -> None:
        found: list[Node] = []
        self.both(lambda: found.append(self.tree.walk(path)), real)
        node = found[0]
        if node.meta.mode is None:  # made by somebody else: now we know what it was
            check.learn(os.stat(self.full(path)), node.meta)
        change(node.meta)
        if isinstance(node, File):
            node.meta_changed()
        check.same_stat("stat after the change", os.stat(self.full(path)), node)

    def do_setxattr(self, path: str, name: str, size: int, seed: int, flags: int) -> None:
        value = bytes_of(seed, size)
        found: list[Node] = []

        def model() -> None:
            node = self.tree.walk(path)
            self._keeps_xattrs()
            if flags == os.XATTR_CREATE and name in node.meta.xattrs:
                raise Wrong(errno.EEXIST)
            if flags == os.XATTR_REPLACE and name not in node.meta.xattrs:
                raise Wrong(errno.ENODATA)
            found.append(node)

        self.both(model, lambda: os.setxattr(self.full(path), name, value, flags))
        self._xattr_changed(found[0], name, value)

    def _keeps_xattrs(self) -> None:
        if self.world.key is not None and not self.world.key.has_xattrs:
            raise Wrong(errno.EOPNOTSUPP, errno.ENODATA)

    def _xattr_changed(self, node: Node, name: str, value: bytes | None) -> None:
        if value is None:
            del node.meta.xattrs[name]
        else:
            node.meta.xattrs[name] = value
        if isinstance(node, File):
            node.meta_changed()

    def do_removexattr(self, path: str, name: str) -> None:
        found: list[Node] = []

        def model() -> None:
            node = self.tree.walk(path)
            self._keeps_xattrs()
            if name not in node.meta.xattrs:
                raise Wrong(errno.ENODATA)
            found.append(node)

        self.both(model, lambda: os.removexattr(self.full(path), name))
        self._xattr_changed(found[0], name, None)

    def do_xattrs(self, path: str) -> None:
        found: list[Node] = []
        self.both(lambda: found.append(self.tree.walk(path)), lambda: os.listxattr(self.full(path)))
        check.same_xattrs("xattrs", self.full(path), found[0])

    def do_stat(self, path: str, follow: bool) -> None:
        found: list[Node] = []
        real = os.stat if follow else os.lstat

        def model() -> None:
            node = self.tree.walk(path) if follow else self.tree.place(path)[2]
            if node is None:
                raise Wrong(errno.ENOENT)
            found.append(node)

        info = self.both(model, lambda: real(self.full(path)))
        check.same_stat("stat", info, found[0])

    def do_list(self, path: str) -> None:
        found: list[Node] = []

        def model() -> None:
            node = self.tree.walk(path)
            if not isinstance(node, Dir):
                raise Wrong(errno.ENOTDIR)
            found.append(node)

        self.both(model, lambda: os.listdir(self.full(path)))
        check.same_names("listing", self.full(path), found[0])

    def do_seekdir(self, path: str, at: int) -> None:
        """What follows a position that telldir gave is what followed it the first time."""
        node = self._dir(path)
        stream = system.OpenDir(self.full(path))
        try:
            first = stream.rest()
            names = {name for name, _ in first} - {".", ".."}
            if names != set(node.children):
                differ("readdir", sorted(names), sorted(node.children))
            entry = at % len(first)
            stream.seek(first[entry][1])
            again = stream.rest()
            if again != first[entry + 1:]:
                differ("readdir after seekdir", again, first[entry + 1:])
            stream.rewind()
            if stream.rest() != first:
                raise Mismatch("readdir after rewinddir gives something else")
        finally:
            stream.close()

    def _dir(self, path: str) -> Dir:
        try:
            node = self.tree.walk(path)
        except Wrong:
            raise Skip from None
        if not isinstance(node, Dir):
            raise Skip
        return node

    def do_statfs(self) -> None:
        info = os.statvfs(self.top)
        if info.f_namemax != 255 or info.f_bfree > info.f_blocks:
            differ("statvfs", info, "sense")

    def do_check(self) -> None:
        check.same_tree(self.top, self.tree.root)


def files_below(node: Dir) -> list[File]:
    found = []
    for child in node.children.values():
        if isinstance(child, File):
            found.append(child)
        elif isinstance(child, Dir):
            found += files_below(child)
    return found
