"""Every call on every kind of file, with the errno that Linux gives: harness/posix.py has the table, the host's own
file system is asked first, then each backend. What differs is in docs/semantics.md."""

import errno
import os
import stat
from pathlib import Path

import pytest

from harness import posix
from harness.tools import fails_with

OTHER = 65534  # a user who owns nothing


def play(top: Path, cases) -> list[tuple[str, str, str, object]]:
    """(call, got, wanted, what is there afterwards)."""
    found = []
    number, here, before = 0, None, None
    for words, wanted in cases:
        if here is None:
            number += 1
            here = top / f"c{number}"
            here.mkdir()
            posix.make(here)
            before = posix.shape(here)
        got = posix.outcome(here, words)
        after = posix.shape(here) if wanted == "-" or got == "-" else before
        found.append((" ".join(words), got, wanted, after))
        if after is not before:
            here = None
    if here is not None:
        assert posix.shape(here) == before, "a call that failed has changed something"
    return found


def short(found) -> list[tuple[str, str, str]]:
    return [(call[:60], got, wanted) for call, got, wanted, _ in found if got != wanted]


def as_on(key, words: list[str], wanted: str) -> str:
    """A store without attributes of users refuses to change one."""
    change = words[0] in ("setxattr", "removexattr") and wanted in ("-", "ENODATA")
    return "ENOTSUP" if change and not key.has_xattrs else wanted


@pytest.mark.deadline(300)
@pytest.mark.also_on("sqlite", "sftp")
def test_table(root, key, tmp_path):
    oracle_top = tmp_path / "oracle"
    oracle_top.mkdir()
    cases = posix.cases()
    assert len(cases) > 400
    oracle = play(oracle_top, cases)
    assert short(oracle) == [], "the table is wrong"
    ours = play(root, [(words, as_on(key, words, wanted)) for words, wanted in cases])
    assert short(ours) == []
    for (call, _, _, want), (_, _, _, got) in zip(oracle, ours):
        assert got == want, call


# ---- who may do what ----

# Owner's uid and mode of a directory and of the file in it; who; the call; what comes of it.
PERMISSIONS = """
0 755 0 600 other | open d/f RDONLY EACCES | open d/f WRONLY EACCES | stat d/f - | truncate d/f 1 EACCES
0 755 0 644 other | open d/f RDONLY - | open d/f RDWR EACCES | chmod d/f 600 EPERM | chown d/f 65534 0 EPERM | utime d/f EPERM
0 755 0 666 other | open d/f RDWR - | unlink d/f EACCES | rename d/f d/g EACCES | open d/g WRONLY|CREAT EACCES
0 755 0 666 other | setxattr d/f user.a - | chmod d/f 666 EPERM | mkdir d/g EACCES | symlink t d/g EACCES | mknod d/g EACCES
0 700 0 666 other | open d/f RDONLY EACCES | stat d/f EACCES | listdir d EACCES | unlink d/f EACCES
0 711 0 644 other | open d/f RDONLY - | listdir d EACCES | stat d/f -
0 744 0 644 other | open d/f RDONLY EACCES | listdir d - | stat d/f EACCES
0 777 0 600 other | open d/f RDONLY EACCES | unlink d/f - | mkdir d/g - | open d/h WRONLY|CREAT - | rename d/h d/i -
0 1777 0 666 other | unlink d/f EPERM | rename d/f d/g EPERM | open d/f WRONLY - | mkdir d/g - | rmdir d/g -
65534 755 0 600 other | unlink d/f - | open d/g WRONLY|CREAT - | rename d/g d/h - | chmod d 700 -
65534 755 65534 400 other | open d/f RDONLY - | open d/f WRONLY EACCES | chmod d/f 600 - | open d/f WRONLY - | chown d/f 0 0 EPERM
65534 1777 65534 644 other | unlink d/f - | utime d -
0 755 65534 644 other | utime d/f - | chmod d/f 4755 - | truncate d/f 0 - | chown d/f 65534 65534 - | unlink d/f EACCES
0 700 0 000 root | open d/f RDWR - | listdir d - | unlink d/f -
"""


def as_other(work) -> str:
    """What `work` gives in a child that is nobody."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(OTHER, OTHER, OTHER)
            os.setresuid(OTHER, OTHER, OTHER)
            text = work()
        except BaseException as error:  # must not return into pytest
            text = repr(error)
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    text = os.read(reader, 10_000).decode()
    os.close(reader)
    os.waitpid(child, 0)
    return text


def permission_play(top: Path) -> list[str]:
    found = []
    for number, line in enumerate(PERMISSIONS.strip().splitlines()):
        who, *calls = line.split(" | ")
        dir_uid, dir_mode, file_uid, file_mode, user = who.split()
        here = top / f"p{number}"
        here.mkdir()
        here.chmod(0o755)
        (here / "d").mkdir()
        (here / "d/f").write_bytes(b"0123456789")
        os.chown(here / "d/f", int(file_uid), int(file_uid))
        (here / "d/f").chmod(int(file_mode, 8))
        os.chown(here / "d", int(dir_uid), int(dir_uid))
        (here / "d").chmod(int(dir_mode, 8))
        for case in calls:
            *words, wanted = case.split()
            run = lambda: posix.outcome(here, words)  # noqa: E731
            got = as_other(run) if user == "other" else run()
            if got != wanted:
                found.append(f"{who}: {case}: {got}")
    return found


@pytest.fixture
def shared(mount, key):
    """A mount that others may enter."""
    m = mount({"store k": key.options}, "-o", "allow_other")
    at = m.path
    while at != at.parent:  # the tests' folders are nobody else's business otherwise
        if not stat.S_IMODE(at.stat().st_mode) & 0o001:
            at.chmod(at.stat().st_mode | 0o011)
        at = at.parent
    return m / "k"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_permissions(shared, tmp_path):
    oracle = tmp_path / "oracle"
    oracle.mkdir()
    assert permission_play(oracle) == [], "the table is wrong"
    assert permission_play(shared) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_new_files_belong_to_who_made_them(shared):
    (shared / "d").mkdir()
    (shared / "d").chmod(0o777)

    def work() -> str:
        os.umask(0o027)
        (shared / "d/f").write_text("x")
        (shared / "d/e").mkdir()
        (shared / "d/l").symlink_to("f")
        return "done"

    assert as_other(work) == "done"
    for name, mode in (("f", 0o640), ("e", 0o750), ("l", 0o777)):
        info = (shared / "d" / name).lstat()
        assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (OTHER, OTHER, mode), name


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_set_uid_goes_when_somebody_else_writes(shared):
    (shared / "f").write_text("program")
    (shared / "f").chmod(0o6777)

    def work() -> str:
        with open(shared / "f", "r+") as file:
            file.write("P")
        return "done"

    assert as_other(work) == "done"
    assert stat.S_IMODE((shared / "f").stat().st_mode) & 0o4000 == 0
    (shared / "g").write_text("program")
    (shared / "g").chmod(0o4755)
    os.chown(shared / "g", 1, 1)
    assert stat.S_IMODE((shared / "g").stat().st_mode) == 0o755


# ---- which call changes which time ----

def test_times(root):
    """mtime: changed by what changes the content, and by nothing else. ctime is mtime, atime only what was set."""
    old = 1_000_000_000

    def fresh() -> Path:
        (root / "f").write_bytes(b"0123456789")
        os.utime(root / "f", (old, old))
        return root / "f"

    keeps = {
        "read": lambda f: f.read_bytes(), "chmod": lambda f: f.chmod(0o600), "stat": lambda f: f.stat(),
        "chown": lambda f: os.chown(f, os.getuid(), os.getgid()),
        "setxattr": lambda f: os.setxattr(f, "user.a", b"1"),
        "open to write": lambda f: os.close(os.open(f, os.O_RDWR)),
        "rename": lambda f: (f.rename(root / "g"), (root / "g").rename(f)),
    }
    for name, change in keeps.items():
        file = fresh()
        change(file)
        assert file.stat().st_mtime == old, name
        assert file.stat().st_ctime == file.stat().st_mtime, name
        file.unlink()

    def write(f: Path) -> None:
        with open(f, "r+b") as file:
            file.write(b"x")

    changes = {
        "write": write, "truncate": lambda f: os.truncate(f, 3), "extend": lambda f: os.truncate(f, 30),
        "O_TRUNC": lambda f: f.write_bytes(b""), "utime": lambda f: os.utime(f),
    }
    for name, change in changes.items():
        file = fresh()
        change(file)
        assert file.stat().st_mtime > 1_700_000_000, name


def test_reading_changes_no_time(root, key):
    """What nobody has given an atime shows its mtime, on local when it was made."""
    (root / "f").write_bytes(b"x")
    written = (root / "f").stat()
    assert written.st_atime_ns == written.st_mtime_ns or key.backend == "local"
    for atime, mtime in ((5_123_456_789, 6_987_654_321), (7_123_456_789, 6_987_654_321)):
        os.utime(root / "f", ns=(atime, mtime))
        for _ in range(2):
            info = (root / "f").stat()
            assert (info.st_atime_ns, info.st_mtime_ns) == (atime, mtime)
            assert (root / "f").read_bytes() == b"x"


def test_the_longest_names(root):
    """255 bytes are a name, 256 are not."""
    longest = "n" * 255
    (root / longest).write_text("x")
    assert os.listdir(root) == [longest]
    (root / longest).rename(root / ("m" * 255))
    with fails_with(errno.ENAMETOOLONG):
        (root / ("n" * 256)).write_text("x")
    assert os.pathconf(root, "PC_NAME_MAX") == 255
