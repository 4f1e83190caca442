"""The table of the POSIX suite: one line per case, `call | setup | errno`.

Setup words: `f` a file of 10 bytes, `d` an empty directory, `n` a directory with a file `x` in it, `l` a symlink to
`f`, `ld` a symlink to `d`, `lx` a dangling one, `lo` a symlink to itself, `p`: nothing of that name. `L` stands for a
name of 256 bytes, `P` for a path of more than PATH_MAX bytes. Expected is what Linux does; the oracle run on
the host's own file system shows that the table is right before any mount is judged by it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

LONG = "L" * 256
PATH = "/".join(["d"] * 2100)


def make(top: Path) -> None:
    """One of each kind."""
    (top / "f").write_bytes(b"0123456789")
    (top / "g").write_bytes(b"other")
    (top / "d").mkdir()
    (top / "e").mkdir()
    (top / "n").mkdir()
    (top / "n/x").write_bytes(b"x")
    (top / "n/y").mkdir()
    (top / "l").symlink_to("f")
    (top / "ld").symlink_to("d")
    (top / "lx").symlink_to("nowhere")
    (top / "lo").symlink_to("lo")
    (top / "la").symlink_to("lb")
    (top / "lb").symlink_to("la")


def flags(text: str) -> int:
    value = 0
    for word in text.split("|"):
        value |= getattr(os, "O_" + word)
    return value


def call(top: Path, words: list[str]) -> None:
    name, *rest = words
    at = [str(top) + "/" + w for w in rest]
    simple = {
        "unlink": os.unlink, "rmdir": os.rmdir, "stat": os.stat, "lstat": os.lstat, "readlink": os.readlink,
        "listdir": os.listdir, "rename": os.rename, "link": os.link, "listxattr": os.listxattr,
    }
    if name in simple:
        simple[name](*at)
    elif name == "open":
        os.close(os.open(at[0], flags(rest[1]), 0o644))
    elif name == "mkdir":
        os.mkdir(at[0])
    elif name == "symlink":
        os.symlink(rest[0], at[1])
    elif name == "mkfifo":
        os.mkfifo(at[0])
    elif name == "mknod":
        os.mknod(at[0], 0o100644)
    elif name == "truncate":
        os.truncate(at[0], int(rest[1]))
    elif name == "chmod":
        os.chmod(at[0], int(rest[1], 8))
    elif name == "chown":
        os.chown(at[0], int(rest[1]), int(rest[2]))
    elif name == "utime":
        os.utime(at[0], (1, 1))
    elif name == "setxattr":
        os.setxattr(at[0], rest[1], b"v")
    elif name == "getxattr":
        os.getxattr(at[0], rest[1])
    elif name == "removexattr":
        os.removexattr(at[0], rest[1])
    elif name == "chdir":
        os.close(os.open(at[0], os.O_PATH | os.O_DIRECTORY))
    else:
        raise AssertionError(name)


# What every path-taking call says of a path that does not lead to anything.
WALKS = [
    ("p/x", "ENOENT"), ("f/x", "ENOTDIR"), ("l/x", "ENOTDIR"), ("lx/x", "ENOENT"), ("lo/x", "ELOOP"),
    ("la/x", "ELOOP"), (LONG, "ENAMETOOLONG"), (LONG + "/x", "ENAMETOOLONG"), (PATH, "ENAMETOOLONG"),
]
ON_PATH = [
    "unlink {}", "rmdir {}", "stat {}", "lstat {}", "readlink {}", "listdir {}", "mkdir {}", "symlink t {}",
    "mknod {}", "mkfifo {}", "truncate {} 1", "chmod {} 600", "chown {} 0 0", "utime {}", "rename {} p2", "rename f {}",
    "setxattr {} user.a", "getxattr {} user.a", "removexattr {} user.a", "listxattr {}", "chdir {}",
    "open {} RDONLY", "open {} WRONLY", "open {} RDWR|CREAT", "open {} WRONLY|CREAT|EXCL", "open {} RDONLY|DIRECTORY",
    "open {} WRONLY|TRUNC", "open {} RDONLY|NOFOLLOW", "link {} p2", "link f {}",
]

KINDS = """
unlink p ENOENT | unlink f - | unlink d EISDIR | unlink n EISDIR | unlink l - | unlink ld - | unlink lx - | unlink lo -
unlink f/ ENOTDIR | unlink d/ EISDIR | unlink l/ ENOTDIR | unlink ld/ ENOTDIR | unlink p/ ENOENT | unlink . EISDIR
rmdir p ENOENT | rmdir f ENOTDIR | rmdir d - | rmdir n ENOTEMPTY | rmdir l ENOTDIR | rmdir ld ENOTDIR | rmdir lx ENOTDIR
rmdir d/ - | rmdir f/ ENOTDIR | rmdir ld/ ENOTDIR | rmdir d/. EINVAL | rmdir n/y/.. ENOTEMPTY | rmdir n/y -
mkdir p - | mkdir p/ - | mkdir f EEXIST | mkdir d EEXIST | mkdir l EEXIST | mkdir ld EEXIST | mkdir lx EEXIST | mkdir lo EEXIST
mkdir d/ EEXIST | mkdir . EEXIST | mkdir d/.. EEXIST | mkdir f/ EEXIST
symlink t p - | symlink t f EEXIST | symlink t d EEXIST | symlink t l EEXIST | symlink t lx EEXIST | symlink t p/ ENOENT
symlink t d/ EEXIST
mknod p - | mknod f EEXIST | mknod d EEXIST | mknod l EEXIST | mknod lx EEXIST | mknod p/ ENOENT
readlink f EINVAL | readlink d EINVAL | readlink l - | readlink lx - | readlink lo - | readlink p ENOENT | readlink ld/ EINVAL
stat p ENOENT | stat f - | stat d - | stat l - | stat ld - | stat lx ENOENT | stat lo ELOOP | stat la ELOOP | stat f/ ENOTDIR
stat d/ - | stat l/ ENOTDIR | stat ld/ - | stat lx/ ENOENT | stat d/.. - | stat f/.. ENOTDIR | stat f/. ENOTDIR | stat p/.. ENOENT
lstat p ENOENT | lstat f - | lstat l - | lstat lx - | lstat lo - | lstat l/ ENOTDIR | lstat ld/ - | lstat lo/ ELOOP
listdir p ENOENT | listdir f ENOTDIR | listdir d - | listdir n - | listdir l ENOTDIR | listdir ld - | listdir lx ENOENT
listdir lo ELOOP
truncate p 1 ENOENT | truncate f 5 - | truncate f 100 - | truncate d 1 EISDIR | truncate l 1 - | truncate ld 1 EISDIR
truncate lx 1 ENOENT | truncate lo 1 ELOOP | truncate f/ 1 ENOTDIR | truncate f -1 EINVAL
chmod p 600 ENOENT | chmod f 600 - | chmod d 700 - | chmod l 600 - | chmod lx 600 ENOENT | chmod lo 600 ELOOP
chown p 0 0 ENOENT | chown f 1 2 - | chown d 1 2 - | chown lx 0 0 ENOENT
utime p ENOENT | utime f - | utime d - | utime l - | utime lx ENOENT
setxattr f user.a - | setxattr d user.a - | setxattr p user.a ENOENT | setxattr l user.a - | setxattr lx user.a ENOENT
getxattr f user.none ENODATA | removexattr f user.none ENODATA | getxattr p user.a ENOENT
open p RDONLY ENOENT | open p WRONLY ENOENT | open p RDWR|CREAT - | open p WRONLY|CREAT|EXCL - | open p RDONLY|CREAT -
open f RDONLY - | open f WRONLY|CREAT|EXCL EEXIST | open f RDWR|CREAT|TRUNC - | open f RDONLY|DIRECTORY ENOTDIR
open f/ RDONLY ENOTDIR | open p/ RDWR|CREAT EISDIR | open f/ RDWR|CREAT EISDIR | open f RDONLY|NOFOLLOW -
open f WRONLY|APPEND -
open d RDONLY - | open d WRONLY EISDIR | open d RDWR EISDIR | open d RDONLY|CREAT EISDIR | open d WRONLY|CREAT|EXCL EEXIST
open d RDONLY|TRUNC EISDIR | open d RDONLY|DIRECTORY - | open d/ RDONLY - | open d/ WRONLY EISDIR
open l RDONLY - | open l WRONLY|CREAT|EXCL EEXIST | open l RDONLY|NOFOLLOW ELOOP | open l RDWR|CREAT - | open l RDONLY|DIRECTORY ENOTDIR
open ld RDONLY - | open ld WRONLY EISDIR | open ld RDONLY|DIRECTORY - | open ld RDONLY|NOFOLLOW|DIRECTORY ENOTDIR
open lx RDONLY ENOENT | open lx RDWR|CREAT - | open lx WRONLY|CREAT|EXCL EEXIST | open lx RDONLY|NOFOLLOW ELOOP
open lo RDONLY ELOOP | open lo RDWR|CREAT ELOOP | open la RDONLY ELOOP
rename p p2 ENOENT | rename f p - | rename f g - | rename f f - | rename f d EISDIR | rename f n EISDIR | rename f l -
rename f lx - | rename f ld - | rename f lo -
rename d p - | rename d e - | rename d n ENOTEMPTY | rename d f ENOTDIR | rename d l ENOTDIR | rename d d - | rename d p/ -
rename n d - | rename n e/ - | rename n n/y/z EINVAL | rename n n/y EINVAL | rename n/y n ENOTEMPTY | rename n/x n ENOTEMPTY
rename d d/z EINVAL | rename l p - | rename l f - | rename l d EISDIR | rename lx g - | rename ld p - | rename lo p -
rename f p/ ENOTDIR | rename f/ p ENOTDIR | rename f d/ ENOTDIR | rename d f/ ENOTDIR | rename d/ p - | rename n/x d/x - | rename n/y d/y -
rename . p EBUSY | rename d . EBUSY | rename d/.. p EBUSY | rename f d/.. EBUSY | rename n/x p -
chdir f ENOTDIR | chdir d - | chdir l ENOTDIR | chdir ld - | chdir p ENOENT | chdir lo ELOOP
"""


def cases() -> list[tuple[list[str], str]]:
    """(words of the call, name of the errno or "-")."""
    found = []
    for line in KINDS.strip().splitlines():
        for case in line.split(" | "):
            *words, wanted = case.split()
            found.append((words, wanted))
    for path, wanted in WALKS:
        for text in ON_PATH:
            found.append((text.format(path).split(), wanted))
    return found


def outcome(top: Path, words: list[str]) -> str:
    try:
        call(top, words)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "-"


def shape(top: Path) -> dict[str, object]:
    """What is there afterwards: names, kinds, sizes, targets."""
    found: dict[str, object] = {}
    for folder, names, files in os.walk(top):
        for name in names + files:
            path = Path(folder) / name
            key = str(path.relative_to(top))
            if path.is_symlink():
                found[key] = os.readlink(path)
            else:
                found[key] = "dir" if path.is_dir() else path.stat().st_size
    return found
