"""The exact model: what a POSIX file system holds after each operation, in memory.

Nothing here touches a disk. A call either changes the model and returns what the system call would, or
raises Wrong(errno). Beside the present content each file knows `states`: what the store may hold for it
if the daemon is killed now (after fsync, close and rename exactly one state; ABSENT: nothing)."""

from __future__ import annotations

import errno
import time
from dataclasses import dataclass, field, replace

ABSENT = None
LINKS_MAX = 40
COARSE = 5  # CLOCK_REALTIME_COARSE: the kernel stamps files with it; late ticks (a busy hypervisor) leave it far behind
CLOCK_SLACK = 2_000_000  # for times that a store keeps as decimal numbers


class Wrong(Exception):
    """The call must fail, with one of these errno values."""

    def __init__(self, *numbers: int):
        super().__init__(*[errno.errorcode[n] for n in numbers])
        self.numbers = numbers


@dataclass
class Meta:
    """None: not known (made by somebody else); learnt at the next look."""

    mode: int | None = 0o644
    uid: int | None = 0
    gid: int | None = 0
    xattrs: dict[str, bytes] = field(default_factory=dict)
    mtime: tuple[int, int] | None = None  # (at least, at most), ns
    step: int = 1  # of the times that the store can keep, ns; that of the directory
    atime: int | None = None  # as it was set; None: never, or by others, or the content is another one since
    keeps: frozenset[str] = frozenset()  # which times are the ones that were given; that of the directory

    def copy(self) -> "Meta":
        return replace(self, xattrs=dict(self.xattrs))


def since_now() -> int:
    """The earliest time that a call which begins now can leave on a file; for Node.touched()."""
    return time.clock_gettime_ns(COARSE)


class Node:
    kind = "?"

    def __init__(self, mode: int):
        self.meta = Meta(mode=mode)
        self.parent: Dir | None = None
        self.name = ""

    @property
    def linked(self) -> bool:
        node: Node = self
        while node.parent is not None:
            node = node.parent
        return getattr(node, "root", False)

    def path(self) -> str:
        names = []
        node: Node = self
        while node.parent is not None:
            names.append(node.name)
            node = node.parent
        return "/".join(reversed(names))


class File(Node):
    kind = "f"

    def __init__(self, mode: int):
        super().__init__(mode)
        self.data = bytearray()
        self.states: list[tuple[bytes, Meta] | None] = [ABSENT]
        self.dirty = True     # something may be staged
        self.vague = False    # dirty, or clean already (a change that may be none): metadata may be stored at once
        self.opens = 0        # open descriptions
        self.stale = False    # somebody else has overwritten it while it was open here

    def snapshot(self) -> tuple[bytes, Meta]:
        return bytes(self.data), self.meta.copy()

    def publish(self) -> None:
        """The store has the present content for certain."""
        if self.dirty:
            self.states = [self.snapshot()]
            self.dirty = self.vague = False

    def maybe_publish(self) -> None:
        if self.dirty:
            self.states.append(self.snapshot())
            self.vague = True

    def meta_changed(self) -> None:
        """Metadata of a clean file is stored at once; of one that is staged, with its content."""
        if not self.dirty:
            self.states = [self.snapshot()]
        elif self.vague:
            self.states.append(self.snapshot())

    def touched(self, since: int, changed: bool = True) -> None:
        self.vague = not changed and (self.vague or not self.dirty)
        self.dirty = True
        self.meta.mtime = (since - CLOCK_SLACK, time.time_ns() + CLOCK_SLACK)
        self.meta.atime = None

    def perhaps_touched(self, before: tuple[int, int] | None) -> None:
        """Whether what touched() has noted is a change of the time is left open."""
        now = self.meta.mtime
        self.meta.mtime = (min(before[0], now[0]), max(before[1], now[1])) if before else None

    def put(self, off: int, data: bytes) -> None:
        if len(self.data) < off:
            self.data += bytes(off - len(self.data))
        self.data[off:off + len(data)] = data

    def resize(self, size: int) -> None:
        if size < len(self.data):
            del self.data[size:]
        else:
            self.data += bytes(size - len(self.data))


class Link(Node):
    kind = "l"

    def __init__(self, target: str):
        super().__init__(0o777)
        self.target = target


class Dir(Node):
    kind = "d"

    def __init__(self, mode: int, root: bool = False):
        super().__init__(mode)
        self.children: dict[str, Node] = {}
        self.root = root

    def add(self, name: str, node: Node) -> None:
        self.children[name] = node
        node.parent, node.name = self, name
        node.meta.step, node.meta.keeps = self.meta.step, self.meta.keeps

    def take(self, name: str) -> Node:
        node = self.children.pop(name)
        node.parent = None
        return node


def split(path: str) -> tuple[str, str]:
    head, _, tail = path.rpartition("/")
    return head, tail


class Tree:
    def __init__(self, step: int = 1, keeps: frozenset[str] = frozenset()) -> None:
        self.root = Dir(0o755, root=True)
        self.root.meta.step, self.root.meta.keeps = step, keeps

    # Paths.
    def walk(self, path: str, follow: bool = True) -> Node:
        node, parent, name = self._walk(path, follow, [0])
        if node is None:
            raise Wrong(errno.ENOENT)
        return node

    def place(self, path: str) -> tuple[Dir, str, Node | None]:
        """The directory, the last name in it, and what is there (a symbolic link is not followed)."""
        node, parent, name = self._walk(path, False, [0])
        return parent, name, node

    def place_following(self, path: str) -> tuple[Dir, str, Node | None]:
        """As open(O_CREAT) without O_EXCL: through a dangling link."""
        node, parent, name = self._walk(path, True, [0])
        return parent, name, node

    def _walk(self, path: str, follow: bool, count: list[int],
              start: Dir | None = None) -> tuple[Node | None, Dir, str]:
        here: Node = start or self.root
        names = path.split("/")
        for at, name in enumerate(names):
            last = at == len(names) - 1
            if not isinstance(here, Dir):
                raise Wrong(errno.ENOTDIR)
            folder = here
            if name == "":
                return here, folder, "."
            if name == "..":
                here = folder.parent or folder
                if last:
                    return here, folder, name
                continue
            node = folder.children.get(name)
            if isinstance(node, Link) and (follow or not last):
                count[0] += 1
                if count[0] > LINKS_MAX:
                    raise Wrong(errno.ELOOP)
                node, parent, final = self._walk(node.target, True, count, folder)
                if last:
                    return node, parent, final
            if node is None:
                if last:
                    return None, folder, name
                raise Wrong(errno.ENOENT)
            if last:
                return node, folder, name
            here = node
        raise AssertionError(path)

    # What may be changed by name.
    def mkdir(self, path: str, mode: int) -> Dir:
        parent, name, node = self.place(path)
        if node is not None:
            raise Wrong(errno.EEXIST)
        made = Dir(mode)
        parent.add(name, made)
        return made

    def rmdir(self, path: str) -> None:
        parent, name, node = self.place(path)
        if node is None:
            raise Wrong(errno.ENOENT)
        if not isinstance(node, Dir):
            raise Wrong(errno.ENOTDIR)
        if node.children:
            raise Wrong(errno.ENOTEMPTY)
        parent.take(name)

    def unlink(self, path: str) -> Node:
        parent, name, node = self.place(path)
        if node is None:
            raise Wrong(errno.ENOENT)
        if isinstance(node, Dir):
            raise Wrong(errno.EISDIR)
        return parent.take(name)

    def symlink(self, target: str, path: str) -> Link:
        parent, name, node = self.place(path)
        if node is not None:
            raise Wrong(errno.EEXIST)
        made = Link(target)
        parent.add(name, made)
        return made

    def rename(self, old: str, new: str, no_replace: bool = False, exchange: bool = False) -> None:
        from_dir, from_name, src = self.place(old)
        to_dir, to_name, dst = self.place(new)
        if src is None:
            raise Wrong(errno.ENOENT)
        if no_replace and dst is not None:
            raise Wrong(errno.EEXIST)
        if exchange and dst is None:
            raise Wrong(errno.ENOENT)
        if isinstance(src, Dir) and is_below(to_dir, src):
            raise Wrong(errno.EINVAL)
        if isinstance(dst, Dir) and is_below(from_dir, dst):
            raise Wrong(errno.EINVAL if exchange else errno.ENOTEMPTY)
        if src is dst:
            return
        if exchange:
            from_dir.take(from_name)
            to_dir.take(to_name)
            from_dir.add(from_name, dst)
            to_dir.add(to_name, src)
            return
        if dst is not None:
            if isinstance(src, Dir) and not isinstance(dst, Dir):
                raise Wrong(errno.ENOTDIR)
            if isinstance(dst, Dir) and not isinstance(src, Dir):
                raise Wrong(errno.EISDIR)
            if isinstance(dst, Dir) and dst.children:
                raise Wrong(errno.ENOTEMPTY)
            to_dir.take(to_name)
        from_dir.take(from_name)
        to_dir.add(to_name, src)

    # Looking.
    def all(self, kind: str | None = None) -> list[Node]:
        found: list[Node] = []
        todo: list[Dir] = [self.root]
        while todo:
            for node in todo.pop().children.values():
                if kind is None or node.kind == kind:
                    found.append(node)
                if isinstance(node, Dir):
                    todo.append(node)
        return found


def is_below(node: Node, top: Node) -> bool:
    at: Node | None = node
    while at is not None:
        if at is top:
            return True
        at = at.parent
    return False
