"""Renames of large directories on a store that has none: object by object, journaled, gone on with after a
kill. At no moment is a file at neither name."""

import json
import os
import threading
import time

import pytest

from harness.data import pattern
from harness.tools import eventually

FILES = 300


def seed(bucket, count: int = FILES) -> dict[str, bytes]:
    files = {f"old/sub{n % 7}/f{n:04}": pattern(20 + n * 37 % 4000, seed=n) for n in range(count)}
    for key, data in files.items():
        bucket.put(key, data)
    return files


def slow(bucket, latency: str = "20ms") -> dict[str, str]:
    """Copies take a while, so that there is a middle to be killed in."""
    return {**bucket.store(), "fault": f"op=copy,latency={latency};op=remove_many,latency=150ms"}


def start_rename(m) -> threading.Thread:
    def work() -> None:
        try:
            os.rename(m / "k/old", m / "k/new")
        except OSError:
            pass
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def nowhere(bucket, files: dict[str, bytes]) -> list[str]:
    keys = set(bucket.keys())
    return [key for key in files if key not in keys and "new" + key[3:] not in keys]


def renames(m) -> list[dict]:
    return json.loads(m.quayctl("status", "--json").stdout)["renames"]


def pending(m) -> bool:
    return bool(renames(m))


def settled(m, bucket) -> bool:
    """The resumer has said so: it begins a moment after the mount is there."""
    return "rename of old to new that was interrupted" in m.log() and not pending(m)


def check_whole(bucket, files: dict[str, bytes]) -> None:
    assert [key for key in bucket.keys() if key.startswith("old/")] == []
    for key, data in files.items():
        assert bucket.get("new" + key[3:]) == data


@pytest.mark.deadline(240)
@pytest.mark.parametrize("delay", [0.15, 0.45, 0.9])
def test_killed_in_the_middle(mount, bucket, delay):
    files = seed(bucket)
    m = mount({"store k": slow(bucket)})
    thread = start_rename(m)
    time.sleep(delay)
    m.crash()
    thread.join()
    assert nowhere(bucket, files) == []
    m.start()
    began = any(key.startswith("new/") for key in bucket.keys())
    if began:
        eventually(lambda: settled(m, bucket), 60)
        assert [key for key in bucket.keys() if key.startswith("old/")] == []
        check_whole(bucket, files)
        assert not (m / "k/old").exists()
        assert len(list((m / "k/new").rglob("f*"))) == FILES
    assert nowhere(bucket, files) == []


@pytest.mark.deadline(240)
def test_killed_again_while_it_goes_on(mount, bucket):
    files = seed(bucket)
    m = mount({"store k": slow(bucket)})
    thread = start_rename(m)
    for _ in range(5):
        time.sleep(0.25)
        m.crash()
        assert nowhere(bucket, files) == []
        m.start()
    thread.join()
    time.sleep(1)
    eventually(lambda: not pending(m), 60)
    assert nowhere(bucket, files) == []
    if any(key.startswith("new/") for key in bucket.keys()):
        check_whole(bucket, files)


def test_progress_is_shown(mount, bucket):
    files = seed(bucket)
    m = mount({"store k": slow(bucket, "40ms")})
    thread = start_rename(m)
    seen = []

    def moving() -> bool:
        seen.extend(renames(m))
        return any(0 < r["done"] < r["total"] for r in seen)

    eventually(moving, 20)
    text = m.quayctl("status").stdout
    thread.join()
    assert seen[-1]["from"] == "old" and seen[-1]["to"] == "new" and seen[-1]["total"] >= FILES
    assert seen[-1]["phase"] in ("copying", "removing")
    assert "old -> new" in text
    assert not pending(m)
    check_whole(bucket, files)


@pytest.mark.deadline(240)
def test_what_was_changed_meanwhile_stays(mount, bucket):
    """After the kill somebody writes to both trees: none of that is overwritten or removed."""
    files = seed(bucket)
    m = mount({"store k": slow(bucket)})
    thread = start_rename(m)
    time.sleep(0.5)
    m.crash()
    thread.join()
    bucket.put("old/sub1/f0001", b"newer content at the old name")
    bucket.put("old/added", b"a new file at the old name")
    taken = "new" + sorted(files)[-1][3:]
    bucket.put(taken, b"somebody's own object at the new name")
    m.start()
    eventually(lambda: settled(m, bucket), 60)
    everything = [bucket.get(key) for key in bucket.keys()]
    assert b"newer content at the old name" in everything
    assert b"a new file at the old name" in everything
    assert bucket.get(taken) == b"somebody's own object at the new name"
    for key, data in files.items():
        if key != "old/sub1/f0001":
            assert data in everything, key


def test_the_source_written_to_during_the_rename(mount, bucket):
    """Another client overwrites an object that is already copied: its new content is not removed."""
    files = seed(bucket, 60)
    m = mount({"store k": {**bucket.store(), "fault": "op=remove_many,latency=1ms;op=copy,latency=60ms"}})
    thread = start_rename(m)
    eventually(lambda: any(k.startswith("new/") for k in bucket.keys()), 20)
    first = next(k for k in bucket.keys() if k.startswith("new/"))
    old = "old" + first[3:]
    bucket.put(old, b"written while it was being renamed")
    thread.join()
    assert bucket.get(old) == b"written while it was being renamed"
    assert bucket.get(first) == files[old]


@pytest.mark.deadline(240)
def test_waits_for_the_store(mount, own_minio, make_bucket):
    """The store is away at the start: the rename goes on when it is back, without a remount."""
    bucket = make_bucket(own_minio)
    files = seed(bucket, 120)
    m = mount({"store k": {**slow(bucket), "retries": "1", "timeout": "3s"}})
    thread = start_rename(m)
    time.sleep(0.4)
    m.crash()
    thread.join()
    own_minio.stop()
    m.start()
    time.sleep(1.5)
    own_minio.start()
    eventually(lambda: not pending(m) and not any(k.startswith("old/") for k in bucket.keys()), 90)
    check_whole(bucket, files)
