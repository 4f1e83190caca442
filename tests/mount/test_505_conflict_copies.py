"""A conflict copy that the store does not take yet is an ordinary file that waits for its upload, to everybody who opens it
by its own name. Who had the file open under the name that it has lost is told so, always."""

import errno
import mmap
import os

import pytest

from harness.data import pattern
from harness.tools import fails_with, run
from servers import Fault

QUICK = {"retries": "0", "retry_delay": "50ms", "timeout": "5s", "cache.ttl": "1ms"}
OURS, THEIRS = pattern(100_000, seed=3), b"what another client has stored"
REFUSED = (errno.EIO, errno.EHOSTUNREACH)


class Conflicts:
    """Files that another client has changed while they were written here; their copies are refused until `end()`."""

    def __init__(self, m, bucket, proxy):
        self.m, self.bucket, self.proxy, self.top = m, bucket, proxy, m / "k"
        self.open: list[int] = []
        self.proxy.fault = Fault(status=500, only=r"^PUT /[^?]*\.conflict-")

    def lose(self, name: str, flags: int = 0) -> int:
        """A descriptor of the old name, to read and write."""
        if not flags & os.O_CREAT:
            self.bucket.put(name, bytes(len(OURS)))
        old = self.descriptor(self.top / name, os.O_RDWR | flags)
        os.pwrite(old, OURS, 0)
        self.bucket.put(name, THEIRS)
        with fails_with(errno.EEXIST if flags & os.O_EXCL else errno.ESTALE):
            os.fsync(old)
        return old

    def descriptor(self, path, flags: int) -> int:
        self.open.append(os.open(path, flags))
        return self.open[-1]

    def close_all(self) -> list[int]:
        """What each close fails with, or 0."""
        codes = []
        while self.open:
            try:
                os.close(self.open.pop(0))
                codes.append(0)
            except OSError as error:
                codes.append(error.errno)
        return codes

    def copy(self, name: str):
        (found,) = [other for other in os.listdir(self.top) if other.startswith(name + ".conflict-")]
        return self.top / found

    def staged(self) -> str:
        return self.m.quayctl("status").stdout

    def end(self) -> None:
        """The store takes them."""
        assert [key for key in self.bucket.keys() if "conflict" in key] == []
        self.proxy.fault = None
        self.m.quayctl("sync")

    def there(self) -> dict[str, bytes]:
        return {key: self.bucket.get(key) for key in self.bucket.keys()}


@pytest.fixture
def conflicts(mount, bucket, proxy):
    m = mount({"store k": {**bucket.store(endpoint_url=proxy.endpoint), **QUICK}})
    made = Conflicts(m, bucket, proxy)
    yield made
    made.close_all()


def is_stale(old: int, code: int = errno.ESTALE) -> None:
    """The descriptor of the old name."""
    os.posix_fadvise(old, 0, 0, os.POSIX_FADV_DONTNEED)  # the kernel's own pages
    with fails_with(errno.ESTALE):
        os.pread(old, 100, 50_000)
    with fails_with(errno.ESTALE):
        os.pwrite(old, b"too late", 0)
    with fails_with(errno.ESTALE):
        os.ftruncate(old, 5)
    with fails_with(errno.ESTALE):
        os.fchmod(old, 0o640)
    with fails_with(code):
        os.fsync(old)


def reads_as(copy, content: bytes, place) -> None:
    """By read, pread, a mapping, another program, stat."""
    assert copy.read_bytes() == content
    with open(copy, "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(file.fileno(), 1000, 50_000) == content[50_000:51_000]
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            assert mapped[:] == content
    run("cp", copy, place / "elsewhere")
    assert (place / "elsewhere").read_bytes() == content
    assert copy.stat().st_size == len(content)


def edited(copy, content: bytes) -> bytes:
    """As of any file that the store refuses, its close says so."""
    with open(copy, "r+b", buffering=0) as file:
        assert os.pread(file.fileno(), 100, 0) == content[:100]
        os.pwrite(file.fileno(), b"edited", 70_000)
        assert os.pread(file.fileno(), 6, 70_000) == b"edited"
        with fails_with(*REFUSED):
            file.close()
    return content[:70_000] + b"edited" + content[70_006:]


def test_a_waiting_conflict_copy_is_a_file(conflicts, folder):
    """Story: it was listed, but could be opened by nobody (ESTALE) as long as the store was away or refused it."""
    top, old = conflicts.top, conflicts.lose("f")
    is_stale(old)
    copy = conflicts.copy("f")
    assert str(copy.relative_to(top)) in conflicts.staged()
    reads_as(copy, OURS, folder)
    assert (top / "f").read_bytes() == THEIRS
    reader = conflicts.descriptor(copy, os.O_RDONLY)
    now = edited(copy, OURS)
    copy.chmod(0o640)
    os.setxattr(copy, "user.note", b"mine")
    with fails_with(*REFUSED):  # what is renamed is stored first
        copy.rename(top / "mine")
    conflicts.proxy.stop()
    reads_as(copy, now, folder)  # nobody is asked for it
    conflicts.proxy.start()
    assert os.pread(reader, 6, 70_000) == b"edited"
    is_stale(old)
    conflicts.end()
    assert conflicts.there() == {"f": THEIRS, copy.name: now}
    reads_as(copy, now, folder)
    assert copy.stat().st_mode & 0o7777 == 0o640 and os.getxattr(copy, "user.note") == b"mine"
    os.posix_fadvise(reader, 0, 0, os.POSIX_FADV_DONTNEED)
    assert os.pread(reader, len(now), 0) == now
    is_stale(old)
    assert conflicts.close_all() == [errno.ESTALE, 0]
    copy.rename(top / "mine")
    assert conflicts.there() == {"f": THEIRS, "mine": now}


def test_waiting_conflict_copies_are_removed_and_emptied(conflicts):
    """What is removed is never stored; what is rewritten is stored as it is then."""
    first, second = conflicts.lose("f"), conflicts.lose("g", os.O_CREAT | os.O_EXCL)
    conflicts.copy("f").unlink()
    copy = conflicts.copy("g")
    with fails_with(*REFUSED):
        copy.write_bytes(b"rewritten")
    assert copy.read_bytes() == b"rewritten" and sorted(os.listdir(conflicts.top)) == ["f", "g", copy.name]
    is_stale(first)
    is_stale(second, errno.EEXIST)
    assert conflicts.close_all() == [errno.ESTALE, errno.EEXIST]
    conflicts.end()
    assert conflicts.there() == {"f": THEIRS, "g": THEIRS, copy.name: b"rewritten"}


@pytest.mark.parametrize("killed", [False, True], ids=["restarted", "killed"])
def test_a_waiting_conflict_copy_after_a_restart(conflicts, folder, killed):
    m, top = conflicts.m, conflicts.top
    for name in ("f", "g"):
        conflicts.lose(name)
    copy, other = conflicts.copy("f"), conflicts.copy("g")
    now = edited(copy, OURS) if killed else OURS
    if killed:
        m.crash()
    assert conflicts.close_all() == [errno.ENOTCONN if killed else errno.ESTALE] * 2
    if not killed:
        m.stop(check=False)
    m.start()
    reads_as(copy, now, folder)
    now = edited(copy, now)
    other.unlink()
    reads_as(copy, now, folder)
    conflicts.end()
    assert conflicts.there() == {"f": THEIRS, "g": THEIRS, copy.name: now}
    assert sorted(os.listdir(top)) == ["f", copy.name, "g"]


def test_another_client_takes_the_name_of_a_waiting_conflict_copy(conflicts):
    """Then that is the conflict: who edits the copy is told, and all three are there."""
    old = conflicts.lose("f")
    copy = conflicts.copy("f")
    editor = conflicts.descriptor(copy, os.O_RDWR)
    os.pwrite(editor, b"edited", 0)
    conflicts.bucket.put(copy.name, b"of a host of the same name")
    conflicts.proxy.fault = None
    with fails_with(errno.ESTALE):
        os.fsync(editor)
    is_stale(editor)
    is_stale(old)
    assert conflicts.close_all() == [errno.ESTALE, errno.ESTALE]
    there = conflicts.there()
    (moved,) = set(there) - {"f", copy.name}
    assert there == {"f": THEIRS, copy.name: b"of a host of the same name", moved: b"edited" + OURS[6:]}
    assert moved.startswith(copy.name) and (conflicts.top / moved).read_bytes() == there[moved]
