"""Comparing what the file system says with what the model says."""

from __future__ import annotations

import os
import stat

from .state import Dir, File, Link, Meta, Node


class Mismatch(Exception):
    pass


def differ(what: str, got: object, want: object) -> None:
    raise Mismatch(f"{what}: got {got!r}, want {want!r}")


def same_bytes(what: str, got: bytes, want: bytes) -> None:
    """Names the first byte that differs."""
    if got == want:
        return
    at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
    raise Mismatch(f"{what}: {len(got)} bytes, want {len(want)}; they differ from byte {at} on: "
                   f"got {bytes(got[at:at + 24]).hex()}, want {bytes(want[at:at + 24]).hex()}")


PROBE = ".quay-probe-"  # what a daemon killed while it tried the server may leave in a bucket
KINDS = {"f": stat.S_IFREG, "d": stat.S_IFDIR, "l": stat.S_IFLNK}


def learn(info: os.stat_result, meta: Meta) -> None:
    """What the model does not know yet (an object that somebody else made)."""
    if meta.mode is None:
        meta.mode, meta.uid, meta.gid = stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid
    if meta.mtime is None:
        meta.mtime = (info.st_mtime_ns, info.st_mtime_ns)


def same_meta(what: str, info: os.stat_result, meta: Meta) -> None:
    learn(info, meta)
    got = (oct(stat.S_IMODE(info.st_mode)), info.st_uid, info.st_gid)
    if got != (oct(meta.mode), meta.uid, meta.gid):
        differ(f"{what}: mode, uid, gid", got, (oct(meta.mode), meta.uid, meta.gid))
    same_times(what, info, meta)


def same_times(what: str, info: os.stat_result, meta: Meta) -> None:
    low, high = meta.mtime
    if not low // meta.step * meta.step <= info.st_mtime_ns <= high:
        differ(f"{what}: mtime", info.st_mtime_ns, meta.mtime)
    meta.mtime = (info.st_mtime_ns, info.st_mtime_ns)  # from now on exactly this
    if "atime" in meta.keeps and meta.atime is not None:
        want = meta.atime // meta.step * meta.step
        if info.st_atime_ns != want:
            differ(f"{what}: atime", info.st_atime_ns, want)


def same_stat(what: str, info: os.stat_result, node: Node) -> None:
    if stat.S_IFMT(info.st_mode) != KINDS[node.kind]:
        differ(f"{what}: type", oct(stat.S_IFMT(info.st_mode)), node.kind)
    if isinstance(node, File):
        if info.st_size != len(node.data):
            differ(f"{what}: size", info.st_size, len(node.data))
        if info.st_nlink != (1 if node.linked else info.st_nlink):
            differ(f"{what}: links", info.st_nlink, 1)
        same_meta(what, info, node.meta)
    elif isinstance(node, Link):
        if info.st_size != len(node.target):
            differ(f"{what}: size", info.st_size, len(node.target))
        same_meta(what, info, node.meta)
    elif isinstance(node, Dir):
        learn(info, node.meta)
        got = (oct(stat.S_IMODE(info.st_mode)), info.st_uid, info.st_gid)
        want = (oct(node.meta.mode), node.meta.uid, node.meta.gid)
        if got != want:
            differ(f"{what}: mode, uid, gid", got, want)
        if "directories" in node.meta.keeps and not node.root:
            same_times(what, info, node.meta)


def same_xattrs(what: str, target: object, node: Node) -> None:
    got = {name: os.getxattr(target, name) for name in os.listxattr(target)
           if name.startswith("user.t.")}
    if got != node.meta.xattrs:
        differ(f"{what}: extended attributes", got, node.meta.xattrs)


def read_whole(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        parts = []
        while part := os.read(descriptor, 1 << 20):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def same_names(what: str, path: str, node: Dir) -> None:
    got = {}
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name.startswith(PROBE):
                continue
            if entry.name in got:
                raise Mismatch(f"{what}: {entry.name} is listed twice")
            got[entry.name] = ("l" if entry.is_symlink() else
                               "d" if entry.is_dir(follow_symlinks=False) else "f")
    want = {name: child.kind for name, child in node.children.items()}
    if got != want:
        differ(f"{what}: listing", dict(sorted(got.items())), dict(sorted(want.items())))


def same_tree(top: str, node: Node, what: str = "") -> None:
    """Everything below, byte by byte."""
    path = f"{top}/{what}" if what else top
    shown = what or "/"
    same_stat(shown, os.lstat(path), node)
    if isinstance(node, Link):
        if os.readlink(path) != node.target:
            differ(f"{shown}: target", os.readlink(path), node.target)
    elif isinstance(node, File):
        same_bytes(shown, read_whole(path), bytes(node.data))
        same_xattrs(shown, path, node)
    elif isinstance(node, Dir):
        same_names(shown, path, node)
        same_xattrs(shown, path, node)
        for name, child in list(node.children.items()):
            same_tree(top, child, f"{what}/{name}" if what else name)
