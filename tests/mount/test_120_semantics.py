"""What docs/semantics.md promises and no other file shows; much of it was found by tests/model."""

import errno
import fcntl
import mmap
import os
import stat
import struct
import subprocess
import sys
from contextlib import contextmanager

import pytest

from harness.tools import eventually, fails_with, run
from model import system

STRICT = {"cache.ttl": "1ms"}


@pytest.fixture
def two_mounts(mount, lasting_key, folder):
    """One store, two mounts with caches of their own, that believe nothing for long."""
    options = {"store k": {**lasting_key.options, **STRICT}}
    one = mount(options, name="one")
    two = mount({**options, "cache": {"dir": folder / "cache-two"},
                 "loader": {"spool": folder / "load-two"}}, name="two")
    return one / "k", two / "k"


def test_mapped_write_through_an_appending_handle(root):
    """A page of a mapping goes where it belongs, not to the end."""
    (root / "f").write_bytes(b"a" * 5000)
    descriptor = os.open(root / "f", os.O_RDWR | os.O_APPEND)
    with mmap.mmap(descriptor, 5000) as mapped:
        mapped[10:13] = b"new"
        mapped.flush()
    os.close(descriptor)
    assert (root / "f").read_bytes() == b"a" * 10 + b"new" + b"a" * 4987


def test_append_switched_on_and_off(root):
    descriptor = os.open(root / "f", os.O_CREAT | os.O_RDWR)
    os.write(descriptor, b"0123456789")
    fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_APPEND)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, b"end")
    fcntl.fcntl(descriptor, fcntl.F_SETFL, 0)
    os.pwrite(descriptor, b"front", 0)
    os.close(descriptor)
    assert (root / "f").read_bytes() == b"front56789end"


def test_renamed_directory_brings_its_attributes(root):
    """Over an empty one that has others."""
    (root / "a").mkdir(0o700)
    os.setxattr(root / "a", "user.colour", b"blue")
    (root / "b").mkdir()
    os.chown(root / "b", 1, 2)
    (root / "a").rename(root / "b")
    info = (root / "b").stat()
    assert (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid) == (0o700, os.getuid(), os.getgid())
    assert os.getxattr(root / "b", "user.colour") == b"blue"


def test_symlink_replaced_by_another_client(two_mounts):
    """The kernel keeps targets; a new one is seen all the same."""
    one, two = two_mounts
    (one / "old").write_text("old")
    (one / "new").write_text("new")
    (one / "l").symlink_to("old")
    assert (two / "l").read_text() == "old"
    (one / "l").unlink()
    (one / "l").symlink_to("new")
    eventually(lambda: os.readlink(two / "l") == "new")
    assert (two / "l").read_text() == "new"


def test_an_old_descriptor_does_not_hide_the_new_version(two_mounts):
    """Size and content by name are those of the new version while somebody has the old one open."""
    one, two = two_mounts
    (one / "f").write_bytes(b"short")
    with open(two / "f", "rb", buffering=0) as old:
        assert old.read(2) == b"sh"
        for size in (20_000, 300_000, 7):
            (one / "f").write_bytes(b"n" * size)
            for _ in range(5):
                assert (two / "f").read_bytes() == b"n" * size
                assert (two / "f").stat().st_size == size
        (one / "f").unlink()
        eventually(lambda: not (two / "f").exists())
        try:
            assert old.read(1) == b"o"  # of its own version
        except OSError as error:
            assert error.errno in (errno.ESTALE, errno.EIO)


def test_time_of_a_foreign_object_is_one(mount, bucket):
    """Listings tell milliseconds, HEAD seconds: what is shown does not depend on who was asked."""
    bucket.put("d/f", b"x")
    m = mount({"store k": {**bucket.store(), **STRICT}})
    seen = set()
    for _ in range(5):
        seen.add((m / "k/d/f").stat().st_mtime_ns)
        seen |= {entry.stat().st_mtime_ns for entry in os.scandir(m / "k/d")}
    assert len(seen) == 1


def test_hard_links(root):
    """One object has one name: link(2) says EPERM, as its manual has it for such file systems."""
    (root / "f").write_text("x")
    with fails_with(errno.EPERM):
        os.link(root / "f", root / "g")
    assert os.listdir(root) == ["f"] and (root / "f").stat().st_nlink == 1


def test_created_or_truncated_by_a_reader(mount, lasting_key):
    """open(O_RDONLY | O_CREAT), as flock(1) does it, and O_RDONLY | O_TRUNC: close stores that."""
    m = mount({"store k": lasting_key.options})
    os.close(os.open(m / "k/lock", os.O_RDONLY | os.O_CREAT, 0o644))
    assert lasting_key.behind("lock") == b""
    (m / "k/f").write_text("content")
    os.close(os.open(m / "k/f", os.O_RDONLY | os.O_TRUNC))
    assert lasting_key.behind("f") == b""


def test_no_half_written_file_by_somebody_elses_close(mount, lasting_key):
    """A handle that is closed late does not store what another has begun to write."""
    m = mount({"store k": lasting_key.options})
    for turn in range(20):
        whole = b"whole %d" % turn
        (m / "k/f").write_bytes(whole)  # its release may come behind the next open
        descriptor = os.open(m / "k/f", os.O_WRONLY | os.O_TRUNC)
        os.write(descriptor, b"half")
        os.stat(m / "k/f")
        for _ in range(20):
            assert lasting_key.behind("f") == whole
        os.close(descriptor)


def locked(path: str, kind: str) -> str:
    """Whether another process gets a lock without waiting."""
    script = ("import fcntl, sys\n"
              "f = open(sys.argv[1], 'r+')\n"
              "try:\n"
              f"    fcntl.{kind}(f, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
              "    print('free')\n"
              "except BlockingIOError:\n"
              "    print('locked')\n")
    return subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True,
                          check=True).stdout.strip()


@pytest.mark.parametrize("kind", ["flock", "lockf"])
def test_locks_of_one_mount(root, kind):
    (root / "f").write_text("x")
    with open(root / "f", "r+") as file:
        getattr(fcntl, kind)(file, fcntl.LOCK_EX)
        assert locked(str(root / "f"), kind) == "locked"
        getattr(fcntl, kind)(file, fcntl.LOCK_UN)
        assert locked(str(root / "f"), kind) == "free"


@pytest.mark.parametrize("kind", ["flock", "lockf"])
def test_locks_do_not_reach_another_mount(two_mounts, kind):
    one, two = two_mounts
    (one / "f").write_text("x")
    with open(one / "f", "r+") as file:
        getattr(fcntl, kind)(file, fcntl.LOCK_EX)
        assert locked(str(two / "f"), kind) == "free"


HOLDER = """
import fcntl, sys
with open(sys.argv[1], "r+") as f:
    fcntl.lockf(f, getattr(fcntl, sys.argv[2]), int(sys.argv[4]), int(sys.argv[3]))
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(path, start: int, length: int, kind: str = "LOCK_EX"):
    """Another process with a lock (soon, if it has to wait for it) of these bytes."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, path, kind, str(start), str(length)], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def may_lock(file, start: int, length: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.lockf(file, kind | fcntl.LOCK_NB, length, start)
    except BlockingIOError:
        return False
    fcntl.lockf(file, fcntl.LOCK_UN, length, start)
    return True


def test_locks_of_ranges(mount):
    """Bytes that overlap exclude each other, others do not; 0 bytes are all up to the end, wherever that will be."""
    path = mount({"store k": {"backend": "memory"}}) / "k/f"
    path.write_bytes(b"x" * 300)
    with open(path, "r+") as file, holder(path, 100, 100) as other, holder(path, 1000, 0, "LOCK_SH") as reader:
        assert other.stdout.readline() == reader.stdout.readline() == "held\n"
        for start, length, free in ((0, 100, True), (200, 800, True), (0, 101, False), (199, 1, False), (150, 10, False),
                                    (0, 0, False), (999, 2, False), (1 << 40, 1, False)):
            assert may_lock(file, start, length) == free, (start, length)
        assert may_lock(file, 1 << 40, 1, fcntl.LOCK_SH) and not may_lock(file, 150, 1, fcntl.LOCK_SH)
        asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 150, 0)
        told = struct.unpack("hhqqi4x", fcntl.fcntl(file, fcntl.F_GETLK, asked))
        assert told == (fcntl.F_WRLCK, os.SEEK_SET, 100, 100, other.pid)


def test_locks_end_with_their_process(mount):
    path = mount({"store k": {"backend": "memory"}}) / "k/f"
    path.write_bytes(b"x" * 300)
    with open(path, "r+") as file, holder(path, 100, 100) as other:
        assert other.stdout.readline() == "held\n"
        with holder(path, 150, 100) as waiter:
            fcntl.lockf(file, fcntl.LOCK_EX, 1, 0)
            other.kill()
            assert waiter.stdout.readline() == "held\n" and other.wait() == -9
            assert may_lock(file, 100, 50) and not may_lock(file, 100, 100)
        assert may_lock(file, 100, 100)
        with open(path, "rb"):
            pass  # who closes any descriptor of a file gives up his own fcntl locks of it
        with holder(path, 0, 0) as last:
            assert last.stdout.readline() == "held\n"


def test_seeking_data_and_holes(root):
    """All is data up to the end, where the one hole is."""
    descriptor = os.open(root / "f", os.O_CREAT | os.O_RDWR)
    os.pwrite(descriptor, b"end", 1_000_000)
    assert os.lseek(descriptor, 0, os.SEEK_DATA) == 0
    assert os.lseek(descriptor, 5, os.SEEK_HOLE) == 1_000_003
    with fails_with(errno.ENXIO):
        os.lseek(descriptor, 1_000_003, os.SEEK_DATA)
    os.close(descriptor)


def test_what_is_only_in_a_mapping_is_data(root):
    """A hole that a mapping has written into, and that only the kernel knows of, is not skipped by who copies holes."""
    descriptor = os.open(root / "f", os.O_CREAT | os.O_RDWR)
    os.truncate(descriptor, 1 << 20)
    with mmap.mmap(descriptor, 1 << 20) as mapped:
        mapped[600_000:600_006] = b"mapped"
        assert os.lseek(descriptor, 500_000, os.SEEK_DATA) <= 600_000
        run("cp", "--sparse=always", root / "f", root / "g")
    os.close(descriptor)
    assert (root / "g").read_bytes()[600_000:600_006] == b"mapped"


def test_copy_file_range(root):
    """Whoever does it."""
    data = os.urandom(700_000)
    (root / "f").write_bytes(data)
    source, target = os.open(root / "f", os.O_RDONLY), os.open(root / "g", os.O_CREAT | os.O_WRONLY)
    done = 0
    while done < len(data):
        done += os.copy_file_range(source, target, len(data) - done)
    os.close(source)
    os.close(target)
    assert (root / "g").read_bytes() == data


def test_preallocation(root):
    """fallocate gives size, not space at the store; ranges are punched and zeroed, but do not move."""
    descriptor = os.open(root / "f", os.O_CREAT | os.O_RDWR)
    os.write(descriptor, b"x" * 100_000)
    os.posix_fallocate(descriptor, 0, 200_000)
    assert os.fstat(descriptor).st_size == 200_000
    system.fallocate(descriptor, system.PUNCH_HOLE | system.KEEP_SIZE, 10, 50_000)
    system.fallocate(descriptor, system.ZERO_RANGE, 90_000, 5_000)
    for mode in (system.COLLAPSE_RANGE, system.INSERT_RANGE):
        with fails_with(errno.EOPNOTSUPP):
            system.fallocate(descriptor, mode, 0, 4096)
    os.close(descriptor)
    want = b"x" * 10 + bytes(50_000) + b"x" * 39_990 + bytes(5_000) + b"x" * 5_000 + bytes(100_000)
    assert (root / "f").read_bytes() == want


def test_metadata_of_others_is_seen_without_a_new_version(mount, bucket, folder):
    """chmod makes a copy with the same etag; the other mount shows the new mode all the same."""
    options = {**bucket.store(), **STRICT, "list_metadata": "no"}
    one = mount({"store k": options}, name="one") / "k"
    two = mount({"store k": options, "cache": {"dir": folder / "cache-two"},
                 "loader": {"spool": folder / "load-two"}}, name="two") / "k"
    (one / "f").write_text("x")
    assert stat.S_IMODE((two / "f").stat().st_mode) == 0o644
    (one / "f").chmod(0o600)
    eventually(lambda: stat.S_IMODE((two / "f").stat().st_mode) == 0o600)


def test_metadata_changed_within_the_second_it_was_looked_at(mount, bucket, folder):
    """The listing's whole seconds do not tell the two apart, in this process and, after a kill, in the next."""
    options = {**bucket.store(), **STRICT, "list_metadata": "no"}
    one = mount({"store k": options}, name="one") / "k"
    m = mount({"store k": options, "cache": {"dir": folder / "cache-two"},
               "loader": {"spool": folder / "load-two"}}, name="two")
    two = m / "k"
    for number in range(4):
        (two / "f").write_text("x")
        os.listdir(two)
        (one / "f").write_text("x")  # the same version
        (one / "f").chmod(0o600 + number)
        wanted = (one / "f").stat()
        if number == 3:
            m.crash()
            m.start()
        os.listdir(two)
        seen = (two / "f").stat()
        assert (seen.st_mode, seen.st_mtime_ns) == (wanted.st_mode, wanted.st_mtime_ns)


def test_the_directory_of_a_key_can_be_written_by_its_owner(mounted):
    """By the attributes of the first lookup as by those of any stat after it."""
    for _ in range(3):
        info = (mounted / "k").stat()
        assert (stat.S_IMODE(info.st_mode), info.st_uid) == (0o755, os.getuid())
    mounted.remount()
    with os.scandir(mounted.path) as entries:
        modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in entries}
    assert modes["k"] == 0o755 and modes[".quay"] == 0o555 and modes[".load"] == 0o700
