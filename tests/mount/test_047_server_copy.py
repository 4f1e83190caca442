"""copy_file_range between two files of one S3 key: the store copies, and nobody gets other bytes than by reading and
writing."""

import errno
import os
import stat

import pytest

from harness.data import pattern
from harness.tools import eventually, fails_with, run
from servers import Fault

MIB = 1024 * 1024
QUICK = {"retries": "1", "retry_delay": "50ms", "timeout": "60s", "cache.ttl": "1s",
         "multipart_threshold": "6MiB", "multipart_chunksize": "5MiB"}
DATA = pattern(23 * MIB, seed=5)
SMALL = 64 * 1024  # what requests and listings may take


@pytest.fixture
def m(mount, bucket, proxy):
    bucket.put("source", DATA)
    made = mount({"store k": {**bucket.store(endpoint_url=proxy.endpoint), **QUICK}})
    (made / "k/warm-up").write_bytes(b"x")
    return made


class Moved:
    """Bytes that went to and came from the server inside the block."""

    def __init__(self, proxy):
        self.proxy = proxy

    def __enter__(self):
        self.before = self.proxy.sent, self.proxy.received
        return self

    def __exit__(self, *_):
        self.sent, self.received = self.proxy.sent - self.before[0], self.proxy.received - self.before[1]


class Copy:
    """A copy that is not closed yet; `pieces` as cp makes them of a very large file."""

    def __init__(self, m, target: str = "target", piece: int = 1 << 30):
        self.source = os.open(m / "k/source", os.O_RDONLY)
        self.target = os.open(m / "k" / target, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o640)
        while os.copy_file_range(self.source, self.target, piece):
            pass

    def close(self) -> None:
        os.close(self.source)
        os.close(self.target)


@pytest.mark.parametrize("tool", [["cp"], ["cp", "--reflink=auto"], ["cp", "-p"]], ids=" ".join)
def test_cp_moves_no_bytes(m, bucket, proxy, tool):
    (m / "k/source").chmod(0o600)
    os.utime(m / "k/source", (1_500_000_000, 1_500_000_000))
    with Moved(proxy) as moved:
        run(*tool, m / "k/source", m / "k/target")
    assert moved.sent < SMALL and moved.received < SMALL
    assert bucket.get("target") == DATA
    info = (m / "k/target").stat()
    assert info.st_size == len(DATA) and stat.S_IMODE(info.st_mode) == 0o600
    assert (info.st_mtime == 1_500_000_000) == (tool == ["cp", "-p"])
    assert (m / "k/target").read_bytes() == DATA
    assert bucket.uploads() == []


@pytest.mark.parametrize("piece", [4 * MIB, 1_234_567, 1 << 30])
def test_pieces_are_one_copy(m, bucket, proxy, piece):
    """As the kernel makes them of more than 2 GiB; it is there, whole, at the close."""
    with Moved(proxy) as moved:
        copy = Copy(m, piece=piece)
        assert os.fstat(copy.target).st_size == len(DATA)
        assert "target" not in bucket.keys()
        copy.close()
    assert moved.sent < SMALL and moved.received < SMALL
    assert bucket.get("target") == DATA


def test_a_copy_is_read_and_changed_before_it_is_closed(m, bucket):
    copy = Copy(m)
    expected = bytearray(DATA)
    assert os.pread(copy.target, 100, 11 * MIB) == DATA[11 * MIB:11 * MIB + 100]
    os.pwrite(copy.target, b"changed", 9 * MIB)
    expected[9 * MIB:9 * MIB + 7] = b"changed"
    os.truncate(copy.target, 20 * MIB)
    os.truncate(copy.target, 21 * MIB)
    expected[20 * MIB:] = bytes(MIB)
    assert os.pread(copy.target, 30 * MIB, 0) == expected
    copy.close()
    assert bucket.get("target") == expected
    assert (m / "k/target").read_bytes() == expected and (m / "k/source").read_bytes() == DATA


def test_ranges_elsewhere_are_copied_by_reading(m, bucket):
    """Other offsets, a piece of the file, a target that has content, the same file."""
    source, target = os.open(m / "k/source", os.O_RDWR), os.open(m / "k/t", os.O_RDWR | os.O_CREAT)
    expected = bytearray(DATA[:8 * MIB])
    assert os.copy_file_range(source, target, 8 * MIB, 0, 0) == 8 * MIB
    for length, off, to in ((MIB, 3 * MIB, 5), (100_000, 22 * MIB, 8 * MIB), (10, 0, 10 * MIB)):
        done = os.copy_file_range(source, target, length, off, to)
        assert done == length
        expected[len(expected):] = bytes(max(0, to + length - len(expected)))
        expected[to:to + length] = DATA[off:off + length]
    assert os.copy_file_range(source, target, 10, len(DATA), 0) == 0
    os.close(target)
    assert bucket.get("t") == expected
    assert os.copy_file_range(source, source, 6 * MIB, 0, 10 * MIB) == 6 * MIB
    os.close(source)
    assert bucket.get("source") == DATA[:10 * MIB] + DATA[:6 * MIB] + DATA[16 * MIB:]


def test_a_source_with_staged_bytes(m, bucket):
    source = os.open(m / "k/source", os.O_RDWR)
    os.pwrite(source, b"staged", 7 * MIB)
    expected = DATA[:7 * MIB] + b"staged" + DATA[7 * MIB + 6:]
    copy = Copy(m)
    copy.close()
    assert bucket.get("target") == expected
    assert bucket.get("source") == DATA
    os.close(source)
    assert bucket.get("source") == expected


def test_a_source_that_is_being_streamed(m, bucket):
    with open(m / "k/source", "wb", buffering=0) as source:
        for at in range(0, len(DATA), MIB):
            source.write(DATA[::-1][at:at + MIB])
        eventually(lambda: bucket.s3.list_multipart_uploads(Bucket=bucket.name, Prefix="source").get("Uploads"))
        copy = Copy(m)
        copy.close()
        assert bucket.get("target") == DATA[::-1]
    assert bucket.get("source") == DATA[::-1]


@pytest.mark.parametrize("change", ["rewritten", "truncated", "removed", "renamed", "replaced", "chmod", "folder"])
def test_a_source_that_changes_here_before_the_close(m, bucket, change):
    """The copy is of what was there when it was made."""
    (m / "k/other").write_bytes(b"other")
    if change == "folder":
        (m / "k/d").mkdir()
        (m / "k/source").rename(m / "k/d/source")
        source = os.open(m / "k/d/source", os.O_RDONLY)
        target = os.open(m / "k/target", os.O_WRONLY | os.O_CREAT)
        assert os.copy_file_range(source, target, 1 << 30) == len(DATA)
        (m / "k/d").rename(m / "k/e")
        os.close(source)
        os.close(target)
    else:
        copy = Copy(m)
        actions = {
            "rewritten": lambda f: f.write_bytes(b"new"), "truncated": lambda f: os.truncate(f, 5),
            "removed": lambda f: f.unlink(), "renamed": lambda f: f.rename(m / "k/moved"),
            "replaced": lambda f: (m / "k/other").rename(f), "chmod": lambda f: f.chmod(0o640),
        }
        actions[change](m / "k/source")
        assert os.pread(copy.target, len(DATA), 0) == DATA
        copy.close()
    assert bucket.get("target") == DATA
    assert (m / "k/target").read_bytes() == DATA


@pytest.mark.parametrize("cached", [False, True], ids=["not-cached", "cached"])
def test_a_source_that_another_client_changes_before_the_close(m, bucket, cached):
    """What is in the cache is stored; else the close says what has happened, and nothing is made up."""
    if cached:
        assert (m / "k/source").read_bytes() == DATA
    copy = Copy(m)
    bucket.put("source", DATA[::-1])
    os.close(copy.source)
    if cached:
        os.close(copy.target)
        assert bucket.get("target") == DATA
        return
    with fails_with(errno.EIO):
        os.close(copy.target)
    assert "target" not in bucket.keys()
    assert any("source" in line and "copy of" in line for line in m.log_lines("error", "warn"))
    (m / "k/target").unlink()
    assert sorted(os.listdir(m / "k")) == ["source", "warm-up"]


def test_a_copy_that_cannot_be_stored_now(m, bucket, proxy):
    """It is fetched and staged, survives, and is stored later."""
    copy = Copy(m)
    proxy.fault = Fault(status=500, only="^(PUT|POST)")
    with fails_with(errno.EIO):
        os.close(copy.target)
    os.close(copy.source)
    assert "k/target" in m.quayctl("status").stdout
    m.crash()
    proxy.fault = None
    bucket.put("source", b"another")
    m.start()
    eventually(lambda: "target" in bucket.keys())
    assert bucket.get("target") == DATA


def test_a_copy_with_write_back(mount, bucket, proxy):
    """It is at the store already: so it is at the close."""
    bucket.put("source", DATA)
    m = mount({"store k": {**bucket.store(endpoint_url=proxy.endpoint), **QUICK, "write": "back"}})
    with Moved(proxy) as moved:
        Copy(m).close()
        assert bucket.get("target") == DATA
    assert moved.sent < SMALL


def test_a_copy_onto_a_version_that_has_changed(m, bucket):
    """The lost race of any writer: ESTALE, and both are kept."""
    bucket.put("target", b"first")
    os.stat(m / "k/target")
    copy = Copy(m)
    bucket.put("target", b"second")
    with fails_with(errno.ESTALE):
        os.close(copy.target)
    os.close(copy.source)
    assert bucket.get("target") == b"second"
    [kept] = [key for key in bucket.keys() if "conflict" in key]
    assert bucket.get(kept) == DATA


def test_a_copy_that_is_never_closed(m, bucket):
    copy = Copy(m)
    m.crash()
    for descriptor in (copy.source, copy.target):
        with fails_with(errno.ENOTCONN, errno.EIO, errno.ECONNABORTED):
            os.fsync(descriptor)
    m.start()
    assert "target" not in bucket.keys() and (m / "k/source").read_bytes() == DATA
    assert bucket.uploads() == []
