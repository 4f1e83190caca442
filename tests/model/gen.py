"""Makes operations: mostly sensible ones (it looks at the model), now and then absurd ones."""

from __future__ import annotations

import os
import random

from . import system
from .around import Player

FOLDERS = ["", "d0", "d1", "d0/e", "d1/e"]
NAMES = ["f0", "f1", "f2", "f3", "e", "s"]
SLOTS = 10
KIB, MIB = 1024, 1024 * 1024
XATTRS = ["user.t.a", "user.t.b", "user.t.c"]
EDGES = [0, 1, 511, 4095, 4096, 4097, 8192, 65535, 65536, 131071, 131072, 131073]

WEIGHTS = {
    "open": 120, "close": 60, "dup": 12, "read": 30, "pread": 70, "write": 60, "pwrite": 90, "lseek": 20,
    "seek_data": 6, "ftruncate": 25, "truncate": 10, "fallocate": 14, "fsync": 14, "mmap_read": 12,
    "mmap_write": 12, "copy_range": 10, "fstat": 30, "whole": 25,
    "mkdir": 12, "rmdir": 8, "unlink": 22, "symlink": 8, "readlink": 6, "rename": 34, "link": 2,
    "mkfifo": 2, "chmod": 10, "chown": 6, "utimens": 10, "futimens": 6, "fchmod": 6, "setxattr": 12,
    "removexattr": 5, "xattrs": 6, "stat": 60, "list": 16, "seekdir": 6, "statfs": 1, "check": 2,
    "foreign_put": 8, "foreign_delete": 3, "race": 2, "race_behind": 2, "b_read": 20, "b_write": 6, "b_edit": 5,
    "b_unlink": 3, "b_open": 5, "b_pread": 8, "b_close": 5, "cache_clear": 0.6, "remount": 0.5, "crash": 0.5,
    "crash_in_close": 0.4, "crash_in_chmod": 0.3, "crash_in_rename": 0.4,
}


class Maker:
    def __init__(self, seed: int, player: Player, big: bool = True):
        self.dice = random.Random(seed)
        self.player = player
        self.big = big
        self.names = list(WEIGHTS)
        self.weights = [WEIGHTS[name] for name in self.names]

    def next(self) -> list:
        name = self.dice.choices(self.names, self.weights)[0]
        return [name, *getattr(self, "_" + name)()]

    # Values.
    def path(self) -> str:
        folder = self.dice.choice(FOLDERS)
        name = self.dice.choice(NAMES)
        return f"{folder}/{name}" if folder else name

    def _existing(self, kind: str | None) -> str:
        if self.dice.random() < 0.15:
            return self.path()
        nodes = self.player.tree.all(kind)
        return self.dice.choice(nodes).path() if nodes else self.path()

    def file(self) -> str:
        return self._existing("f")

    def folder(self) -> str:
        if self.dice.random() < 0.2:
            return ""
        return self._existing("d")

    def any(self) -> str:
        return self._existing(None)

    def slot(self) -> int:
        used = list(self.player.slots)
        return self.dice.choice(used) if used and self.dice.random() < 0.97 else self.dice.randrange(SLOTS)

    def free(self) -> int:
        left = [n for n in range(SLOTS) if n not in self.player.slots]
        return self.dice.choice(left) if left else self.dice.randrange(SLOTS)

    def size(self) -> int:
        kind = self.dice.random()
        if kind < 0.1:
            return self.dice.choice(EDGES)
        if kind < 0.6:
            return self.dice.randrange(1, 5000)
        if kind < 0.97:
            return self.dice.randrange(1, 40_000)
        return self.dice.randrange(1, 400_000)

    def offset(self, number: int | None = None) -> int:
        kind = self.dice.random()
        length = 0
        if number is not None and number in self.player.slots:
            length = len(self.player.slots[number][1].node.data)
        if kind < 0.2:
            return self.dice.choice(EDGES)
        if kind < 0.4:
            return length
        if kind < 0.85 and length:
            return self.dice.randrange(length)
        return self.dice.randrange(300_000)

    def seed(self) -> int:
        return self.dice.randrange(1 << 30)

    # Arguments.
    def _open(self) -> list:
        d = self.dice
        access = d.choice([os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR, os.O_RDWR])
        flags = access
        for flag, chance in ((os.O_CREAT, 0.5), (os.O_EXCL, 0.08), (os.O_TRUNC, 0.15), (os.O_APPEND, 0.2),
                             (os.O_NOFOLLOW, 0.05), (os.O_SYNC, 0.03), (os.O_DIRECTORY, 0.02)):
            if d.random() < chance:
                flags |= flag
        if flags & os.O_CREAT:
            flags &= ~os.O_DIRECTORY
        else:
            flags &= ~os.O_EXCL
        path = self.path() if flags & os.O_CREAT and d.random() < 0.6 else self.any()
        return [self.free(), path, flags, d.choice([0o644, 0o600, 0o666, 0o755, 0o640])]

    def _close(self) -> list:
        return [self.slot()]

    def _dup(self) -> list:
        return [self.slot(), self.free()]

    def _read(self) -> list:
        return [self.slot(), self.size()]

    def _pread(self) -> list:
        number = self.slot()
        return [number, self.offset(number), self.size()]

    def _write(self) -> list:
        return [self.slot(), self.size(), self.seed()]

    def _pwrite(self) -> list:
        number = self.slot()
        if self.big and self.dice.random() < 0.004:
            return [number, self.dice.randrange(MIB), self.dice.randrange(5 * MIB, 11 * MIB), self.seed()]
        if self.big and self.dice.random() < 0.01:
            return [number, self.dice.randrange(12 * MIB), self.size(), self.seed()]
        return [number, self.offset(number), self.size(), self.seed()]

    def _lseek(self) -> list:
        number = self.slot()
        whence = self.dice.choice([os.SEEK_SET, os.SEEK_CUR, os.SEEK_END])
        off = self.offset(number)
        return [number, off if whence == os.SEEK_SET else self.dice.choice([-10, 0, 7, -5000]), whence]

    def _seek_data(self) -> list:
        number = self.slot()
        return [number, self.offset(number), self.dice.random() < 0.5]

    def _ftruncate(self) -> list:
        number = self.slot()
        return [number, self.offset(number)]

    def _truncate(self) -> list:
        return [self.file(), self.offset()]

    def _fallocate(self) -> list:
        number = self.slot()
        modes = [0, system.KEEP_SIZE, system.PUNCH_HOLE | system.KEEP_SIZE, system.ZERO_RANGE,
                 system.ZERO_RANGE | system.KEEP_SIZE, system.COLLAPSE_RANGE]
        return [number, self.dice.choices(modes, [3, 2, 4, 3, 2, 1])[0], self.offset(number),
                max(1, self.size())]

    def _fsync(self) -> list:
        return [self.slot(), self.dice.random() < 0.5]

    def _mmap_read(self) -> list:
        return [self.slot(), self.dice.choice([0, 0, 1, 2, 7, 30]), self.size()]

    def _mmap_write(self) -> list:
        return [self.slot(), self.dice.choice([0, 0, 1, 3]), self.dice.randrange(5000), self.size(),
                self.seed()]

    def _copy_range(self) -> list:
        one, two = self.slot(), self.slot()
        return [one, self.offset(one), two, self.offset(two), self.size()]

    def _fstat(self) -> list:
        return [self.slot()]

    def _whole(self) -> list:
        return [self.slot()]

    def _mkdir(self) -> list:
        path = self.dice.choice(FOLDERS[1:]) if self.dice.random() < 0.8 else self.path()
        return [path, self.dice.choice([0o755, 0o700, 0o777])]

    def _rmdir(self) -> list:
        return [self._existing("d")]

    def _unlink(self) -> list:
        return [self.any() if self.dice.random() < 0.2 else self.file()]

    def _symlink(self) -> list:
        target = self.dice.choice(["f0", "f1", "e/f2", "d0", "e", "s", "no/such", "f0/x"])
        return [target, self.path()]

    def _readlink(self) -> list:
        return [self._existing("l")]

    def _rename(self) -> list:
        d = self.dice
        old = self.any() if d.random() < 0.5 else self.file()
        new = d.choice([self.path(), self.any(), self.file(), self.folder() or "d0"])
        flags = d.choices([0, system.RENAME_NOREPLACE, system.RENAME_EXCHANGE], [8, 2, 1])[0]
        return [old, new, flags]

    def _link(self) -> list:
        return [self.any(), self.path()]

    def _mkfifo(self) -> list:
        return [self.path()]

    def _chmod(self) -> list:
        return [self.any(), self.dice.choice([0o600, 0o644, 0o755, 0o700, 0o640, 0o444])]

    def _fchmod(self) -> list:
        return [self.slot(), self.dice.choice([0o600, 0o644, 0o444])]

    def _chown(self) -> list:
        return [self.any(), self.dice.choice([0, 1, 1000, 65534]), self.dice.choice([0, 5, 1000])]

    def _utimens(self) -> list:
        return [self.file() if self.dice.random() < 0.7 else self.any(), self.seed() * 1_000_000_000, self._time()]

    def _futimens(self) -> list:
        return [self.slot(), self._time()]

    def _time(self) -> int:
        return self.dice.choice([0, 1, 1_234_567_890_123_456_789, self.seed() * 1_700_000_001])

    def _setxattr(self) -> list:
        flags = self.dice.choice([0, 0, os.XATTR_CREATE, os.XATTR_REPLACE])
        return [self.any(), self.dice.choice(XATTRS), self.dice.choice([0, 1, 20, 100]), self.seed(), flags]

    def _removexattr(self) -> list:
        return [self.any(), self.dice.choice(XATTRS)]

    def _xattrs(self) -> list:
        return [self.any()]

    def _stat(self) -> list:
        return [self.any(), self.dice.random() < 0.7]

    def _list(self) -> list:
        return [self.folder()]

    def _seekdir(self) -> list:
        return [self.folder(), self.dice.randrange(10)]

    def _statfs(self) -> list:
        return []

    def _check(self) -> list:
        return []

    def _foreign_put(self) -> list:
        return [self.file() if self.dice.random() < 0.6 else self.path(), self.size(), self.seed()]

    def _foreign_delete(self) -> list:
        return [self.file()]

    def _race(self) -> list:
        return [self.file(), self.dice.choice([0, 10, 5000, 70_000]), self.dice.randrange(1, 20_000),
                self.seed()]

    def _race_behind(self) -> list:
        return [self.file() if self.dice.random() < 0.6 else self.path(), self.size(), self.seed()]

    def _b_read(self) -> list:
        return [self.any()]

    def _b_write(self) -> list:
        return self._foreign_put()

    def _b_edit(self) -> list:
        return [self.file(), self.offset(), self.dice.randrange(1, 20_000), self.seed()]

    def _b_unlink(self) -> list:
        return [self.file()]

    def _b_open(self) -> list:
        return [self.dice.randrange(4), self.file()]

    def _b_pread(self) -> list:
        return [self.dice.randrange(4), self.offset(), self.size()]

    def _b_close(self) -> list:
        return [self.dice.randrange(4)]

    def _cache_clear(self) -> list:
        return []

    def _remount(self) -> list:
        return []

    def _crash(self) -> list:
        return []

    def _crash_in_close(self) -> list:
        return [self.slot(), self.dice.randrange(4000)]

    def _crash_in_chmod(self) -> list:
        return [self.file(), self.dice.choice([0o600, 0o644, 0o640]), self.dice.randrange(2000)]

    def _crash_in_rename(self) -> list:
        return [self.file(), self.dice.choice([self.path(), self.file()]), self.dice.randrange(4000)]
