"""What a change of a large object costs: the bytes that are sent, counted on their way to the server."""

import errno
import os
import subprocess

import pytest

from harness.data import pattern
from harness.tools import fails_with

MIB = 1024 * 1024
SIZE = 64 * MIB
DATA = pattern(SIZE, seed=9)
REQUESTS = 16 * 1024  # bodies of requests that carry no content


@pytest.fixture
def root(mount, bucket, proxy):
    bucket.put("f", DATA)
    m = mount({"store k": {**bucket.store(endpoint_url=proxy.endpoint), "multipart_threshold": "6MiB",
                           "multipart_chunksize": "5MiB"}})
    (m / "k/warm-up").write_bytes(b"x")
    return m / "k"


def append(path, data: bytes) -> None:
    with open(path, "ab") as file:
        file.write(data)


def write_at(path, off: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(off)
        file.write(data)


@pytest.mark.parametrize("change, most, expected", [
    (lambda f: append(f, b"!"), 1, DATA + b"!"),
    (lambda f: append(f, DATA[:100_000]), 100_000, DATA + DATA[:100_000]),
    (lambda f: os.truncate(f, 40 * MIB), 0, DATA[:40 * MIB]),
    (lambda f: os.truncate(f, 40 * MIB - 1), 0, DATA[:40 * MIB - 1]),
    (lambda f: os.truncate(f, SIZE + 5), 5, DATA + bytes(5)),
    (lambda f: write_at(f, 0, b"header"), 5 * MIB, b"header" + DATA[6:]),
    (lambda f: write_at(f, 30 * MIB, b"x"), 5 * MIB, DATA[:30 * MIB] + b"x" + DATA[30 * MIB + 1:]),
    (lambda f: write_at(f, SIZE - 1, b"x"), 5 * MIB, DATA[:-1] + b"x"),
    (lambda f: f.chmod(0o600), 0, DATA),
    (lambda f: f.rename(f.with_name("g")), 0, None),
], ids=["append-1", "append", "truncate-to-a-part", "truncate", "extend", "first-byte", "middle", "last-byte", "chmod",
        "rename"])
def test_only_what_changes_is_sent(root, bucket, proxy, change, most, expected):
    os.stat(root / "f")
    sent, received = proxy.sent, proxy.received
    change(root / "f")
    assert proxy.sent - sent <= most + REQUESTS
    assert proxy.received - received <= 3 * most + 64 * 1024  # the rest of the part, and what is read ahead
    assert bucket.get("f" if expected else "g") == (expected or DATA)
    assert (root / ("f" if expected else "g")).read_bytes() == (expected or DATA)


def test_too_large_for_the_store(root, bucket):
    """48.8 TiB are 10,000 parts of 5 GiB: more is told at once, and nothing has changed."""
    most = 10_000 * 5 * 1024 ** 3
    with fails_with(errno.EFBIG):
        os.truncate(root / "f", most + 1)
    descriptor = os.open(root / "f", os.O_RDWR)
    with fails_with(errno.EFBIG):
        os.pwrite(descriptor, b"x", most)
    with fails_with(errno.EFBIG):
        os.posix_fallocate(descriptor, most, 1)
    os.close(descriptor)
    assert bucket.get("f") == DATA


@pytest.fixture
def mounted_bucket(mount, bucket):
    return mount({"store k": bucket.store()}), bucket


def test_a_redirection_stores_once(mount, versioned_bucket):
    """A shell makes the file, gives its descriptor the number 1 and closes the first, before a byte is written."""
    bucket = versioned_bucket
    m = mount({"store k": bucket.store()})
    for turn in range(1, 4):
        subprocess.run(["bash", "-c", f'echo {turn} > "{m / "k/f"}"'], check=True)
        assert bucket.get("f") == b"%d\n" % turn
        assert len(bucket.versions("f")) == turn
    subprocess.run(["bash", "-c", f'cat /dev/null > "{m / "k/empty"}"'], check=True)
    assert bucket.get("empty") == b""


@pytest.mark.parametrize("first", ["made", "emptied"])
def test_an_empty_file_is_stored_by_the_last_close_of_a_process(mounted_bucket, first):
    m, bucket = mounted_bucket
    if first == "emptied":
        bucket.put("f", b"before")
    one = os.open(m / "k/f", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    two = os.dup(one)
    reader = os.open(m / "k/f", os.O_RDONLY)
    os.close(one)
    assert bucket.keys() == ([] if first == "made" else ["f"]) and (not bucket.keys() or bucket.get("f") == b"before")
    os.close(two)
    assert bucket.get("f") == b""
    os.close(reader)


def test_who_has_opened_it_twice_stores_an_empty_file(mounted_bucket):
    """The other open is no part of this one: its close may be hours away."""
    m, bucket = mounted_bucket
    log = os.open(m / "k/f", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.write(log, b"line")
    os.close(os.dup(log))
    assert bucket.get("f") == b"line"
    os.close(os.open(m / "k/f", os.O_WRONLY | os.O_TRUNC))
    assert bucket.get("f") == b""
    os.ftruncate(log, 3)
    os.close(os.dup(log))
    os.ftruncate(log, 0)
    os.close(os.dup(log))
    assert bucket.get("f") == b""
    os.close(log)


def test_what_another_process_has_open_is_stored(mounted_bucket):
    """Who closes the last descriptor of a process has closed it."""
    m, bucket = mounted_bucket
    one = os.open(m / "k/f", os.O_CREAT | os.O_WRONLY)
    child = subprocess.Popen(["sleep", "1000"], pass_fds=[one])
    os.close(one)
    assert bucket.get("f") == b""
    child.kill()
    child.wait()
