"""What a change of a large object costs: the bytes that are sent, counted on their way to the server."""

import errno
import os

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
