"""What writing costs at the store, request by request; and that saving requests loses nobody's file."""

import errno
import os
import time

import pytest

from harness.data import pattern
from harness.tools import fails_with

QUICK = {"retries": "1", "retry_delay": "50ms", "timeout": "60s"}


@pytest.fixture
def seen(mount, bucket, proxy):
    """A mount behind a proxy that counts; the first write has learnt whether conditions are honoured."""
    m = mount({"store k": {**bucket.store(endpoint_url=proxy.endpoint), **QUICK}})
    (m / "k/warm-up").write_bytes(b"x")
    return m


def test_new_files_in_a_new_directory_cost_one_put_each(seen, bucket, proxy):
    (seen / "k/d").mkdir()
    before = len(proxy.requests)
    for number in range(5):
        (seen / f"k/d/f{number}").write_bytes(pattern(16_384, seed=number))
    made = proxy.requests[before:]
    assert len(made) == 5 and all(line.startswith("PUT ") for line in made), made
    for number in range(5):
        assert bucket.get(f"d/f{number}") == pattern(16_384, seed=number)


def test_the_first_file_in_a_new_directory_costs_one_put(mount, bucket, proxy):
    """Whether the server honours conditions is found out by then."""
    m = mount({"store k": {**bucket.store(endpoint_url=proxy.endpoint), **QUICK}})
    (m / "k/d").mkdir()
    before = len(proxy.requests)
    (m / "k/d/f").write_bytes(b"content")
    made = proxy.requests[before:]
    assert len(made) == 1 and made[0].startswith("PUT "), made
    assert sorted(bucket.keys()) == ["d/", "d/f"]


def test_mode_and_times_set_before_close_go_with_the_put(seen, bucket, proxy):
    (seen / "k/d").mkdir()
    before = len(proxy.requests)
    with open(seen / "k/d/f", "wb", buffering=0) as file:
        file.write(b"content")
        os.fchmod(file.fileno(), 0o640)
        os.utime(file.fileno(), (1_600_000_000, 1_600_000_001))
    assert len(proxy.requests) - before == 1, proxy.requests[before:]
    stored = bucket.head("d/f")["Metadata"]
    assert int(stored["mode"]) & 0o7777 == 0o640 and float(stored["mtime"]) == 1_600_000_001


def test_a_file_that_came_before_the_open_is_replaced(seen, bucket):
    """The directory was known to be empty, so the open asked nobody; what was there by then it has truncated."""
    (seen / "k/d").mkdir()
    bucket.put("d/f", b"of another client, longer than ours")
    time.sleep(4)  # the store tells ages in whole seconds
    with open(seen / "k/d/f", "wb") as file:
        file.write(b"ours")
    assert bucket.get("d/f") == b"ours"
    assert bucket.keys("d/") in (["d/", "d/f"], ["d/f"])
    assert (seen / "k/d/f").read_bytes() == b"ours"


def test_a_file_that_came_after_the_open_is_not_lost(seen, bucket):
    (seen / "k/d").mkdir()
    file = open(seen / "k/d/f", "wb", buffering=0)
    file.write(b"ours")
    bucket.put("d/f", b"theirs")
    with fails_with(errno.ESTALE):
        file.close()
    assert bucket.get("d/f") == b"theirs"
    (copy,) = [key for key in bucket.keys("d/") if ".conflict-" in key]
    assert bucket.get(copy) == b"ours"


def test_exclusive_creation_asks(seen, bucket):
    """O_EXCL is how programs take locks: the answer must be fresh, at the open."""
    (seen / "k/d").mkdir()
    bucket.put("d/lock", b"theirs")
    with fails_with(errno.EEXIST):
        os.open(seen / "k/d/lock", os.O_CREAT | os.O_EXCL | os.O_WRONLY)


def test_a_file_that_is_continued_is_asked_for(seen, bucket):
    """Without O_TRUNC the content that is there counts."""
    (seen / "k/d").mkdir()
    bucket.put("d/log", b"theirs, ")
    with open(seen / "k/d/log", "ab") as file:
        file.write(b"ours")
    assert bucket.get("d/log") == b"theirs, ours"
