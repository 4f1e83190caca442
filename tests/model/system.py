"""System calls that Python does not offer."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
CLONE_NEWNS, MS_REC, MS_PRIVATE, MNT_DETACH = 0x20000, 0x4000, 0x40000, 2
KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE, INSERT_RANGE = 1, 2, 8, 16, 32

_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_libc.renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
_libc.opendir.restype = ctypes.c_void_p
_libc.opendir.argtypes = [ctypes.c_char_p]
_libc.readdir64.restype = ctypes.c_void_p
_libc.readdir64.argtypes = [ctypes.c_void_p]
_libc.telldir.restype = ctypes.c_long
_libc.telldir.argtypes = [ctypes.c_void_p]
_libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
_libc.rewinddir.argtypes = [ctypes.c_void_p]
_libc.closedir.argtypes = [ctypes.c_void_p]


def _check(result: int, path: object = None) -> int:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result


def fallocate(descriptor: int, mode: int, offset: int, length: int) -> None:
    _check(_libc.fallocate(descriptor, mode, offset, length))


def renameat2(old: object, new: object, flags: int) -> None:
    _check(_libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags), old)


def own_mounts() -> None:
    """A mount namespace for this process, if it may have one: a copy of one of our mounts, which anybody takes who makes
    a namespace meanwhile, would keep its daemon running when we unmount it. What we have copied ourselves goes."""
    if _libc.unshare(CLONE_NEWNS) != 0 or _libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) != 0:
        return
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if " - fuse." in line or " - fuse " in line:
            _libc.umount2(line.split()[4].encode().decode("unicode_escape").encode(), MNT_DETACH)


class OpenDir:
    """A DIR of the C library: names with the positions that telldir(3) gives for what follows them."""

    def __init__(self, path: object):
        self.stream = _libc.opendir(os.fsencode(path))
        if not self.stream:
            _check(-1, path)

    def next(self) -> tuple[str, int] | None:
        ctypes.set_errno(0)
        entry = _libc.readdir64(self.stream)
        if not entry:
            if ctypes.get_errno():
                _check(-1)
            return None
        length = struct.unpack("H", ctypes.string_at(entry + 16, 2))[0]
        raw = ctypes.string_at(entry + 19, length - 19).split(b"\0", 1)[0]
        return os.fsdecode(raw), _libc.telldir(self.stream)

    def rest(self) -> list[tuple[str, int]]:
        found = []
        while (entry := self.next()) is not None:
            found.append(entry)
        return found

    def seek(self, position: int) -> None:
        _libc.seekdir(self.stream, position)

    def rewind(self) -> None:
        _libc.rewinddir(self.stream)

    def close(self) -> None:
        _libc.closedir(self.stream)
