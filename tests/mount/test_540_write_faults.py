"""Faults while a file is being stored, each against each way of storing it. Whatever happens: the object is whole, old or
new; a caller who was told of success has it at the store; one who was told of a failure has it staged, and it is stored
by itself when the fault ends."""

import errno
import os
import subprocess

import pytest

from harness.data import pattern
from harness.tools import eventually, fails_with, run
from servers import Fault

MIB = 1024 * 1024
QUICK = {"retries": "1", "retry_delay": "50ms", "timeout": "5s", "cache.ttl": "1s",
         "multipart_threshold": "6MiB", "multipart_chunksize": "5MiB"}
XML = "Content-Type: application/xml\r\n"
SLOW_DOWN = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
BROKEN = "<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>"
CONFLICT = "<Error><Code>ConditionalRequestConflict</Code><Message>A conflicting operation was made.</Message></Error>"

# What happens to the request that carries the bytes (or ends the upload).
FAULTS = {
    "500": {"status": 500},
    "slow-down": {"status": 503, "body": SLOW_DOWN, "headers": XML},
    "reset-in-the-body": {"cut_after": 40_000},
    "no-answer": {"stall": True},
    "reset-after-commit": {"reset_after": 0},
    "timeout-after-commit": {"silent": True},
    "200-with-error": {"status": 200, "body": BROKEN, "headers": XML},
    "conflict": {"status": 409, "body": CONFLICT, "headers": XML},  # of requests, on AWS: another client need not have won
}
# The ways: what is written, and which request is hit.
SENDS = {"put": r"^PUT /[^?]*/f[ ?]", "part": "^PUT .*partNumber=2&", "complete": "^POST .*uploadId="}
# A transfer without an end of its own: a server that copies may be silent for ten minutes before it has completed an
# upload. A PUT or part that is answered 200 without an ETag is not what a server does. Parts have no condition.
NOT_TRIED = {("complete", "reset-in-the-body"), ("complete", "no-answer"), ("complete", "timeout-after-commit"),
             ("put", "200-with-error"), ("part", "200-with-error"), ("part", "conflict")}
CASES = [(send, fault) for send in SENDS for fault in FAULTS if (send, fault) not in NOT_TRIED]


@pytest.fixture
def behind(mount, bucket, proxy):
    """A mount behind the proxy that knows by now what its server can do."""
    m = mount({"store k": {**bucket.store(endpoint_url=proxy.endpoint), **QUICK}})
    (m / "k/warm-up").write_bytes(b"x")
    return m


def unfinished(bucket, key: str) -> list:
    """MinIO lists uploads only for a full key."""
    return bucket.s3.list_multipart_uploads(Bucket=bucket.name, Prefix=key).get("Uploads", [])


def content(send: str) -> bytes:
    return pattern(300_000 if send == "put" else 12 * MIB, seed=7)


def streamed(path, data: bytes) -> None:
    with open(path, "wb", buffering=0) as file:
        for at in range(0, len(data), MIB):
            file.write(data[at:at + MIB])


def backwards(path, data: bytes) -> None:
    """Nothing can leave before the close."""
    with open(path, "wb", buffering=0) as file:
        for at in reversed(range(0, len(data), MIB)):
            os.pwrite(file.fileno(), data[at:at + MIB], at)


def alike(found: bytes, wanted: bytes) -> None:
    """Says where they differ: pytest would compare megabytes line by line, for minutes."""
    if found != wanted:
        at = next((i for i, (a, b) in enumerate(zip(found, wanted)) if a != b), min(len(found), len(wanted)))
        pytest.fail(f"{len(found)} bytes instead of {len(wanted)}, another one at {at}: {found[at:at + 32]!r}")


def attempt(m, bucket, data: bytes, old: bytes | None, write) -> bool:
    """Writes k/f: True when that succeeded, and then the store has it."""
    try:
        write(m / "k/f", data)
    except OSError as error:
        assert error.errno in (errno.EIO, errno.ETIMEDOUT, errno.EHOSTUNREACH), error
        alike((m / "k/f").read_bytes(), data)    # here it is what was written
        staged = "k/f" in m.quayctl("status").stdout
        there = bucket.get("f") if "f" in bucket.keys() else None
        assert there in (old, data)              # never a part of it
        assert staged or there == data           # a fault may be over before we have looked
        return False
    alike(bucket.get("f"), data)
    return True


def settled(m, bucket, data: bytes) -> None:
    """The fault has ended."""
    eventually(lambda: "k/f" not in m.quayctl("status").stdout)
    alike(bucket.get("f"), data)
    alike((m / "k/f").read_bytes(), data)
    assert [key for key in bucket.keys() if "conflict" in key] == []
    eventually(lambda: unfinished(bucket, "f") == [])


@pytest.mark.parametrize("write", [streamed, backwards], ids=["streamed", "at-close"])
@pytest.mark.parametrize("send, fault", CASES, ids=["-".join(case) for case in CASES])
def test_a_fault_that_passes(behind, bucket, proxy, send, fault, write):
    """It hits one request."""
    data = content(send)
    proxy.fault = Fault(only=SENDS[send], times=1, **FAULTS[fault])
    stored = attempt(behind, bucket, data, None, write)
    assert proxy.fault.times == 0, "the fault has hit nothing"
    assert stored or fault != "conflict"
    settled(behind, bucket, data)


@pytest.mark.parametrize("send, fault", CASES, ids=["-".join(case) for case in CASES])
def test_a_fault_that_stays(behind, bucket, proxy, send, fault):
    """It hits every request while an existing file is replaced."""
    data, old = content(send), b"what was there before"
    bucket.put("f", old)
    proxy.fault = Fault(only=SENDS[send], **FAULTS[fault])
    stored = attempt(behind, bucket, data, old, streamed)
    committed = fault.endswith("after-commit") and send != "part"
    assert stored == committed, "stored without the store's word" if stored else "what is stored is found there"
    proxy.fault = None
    settled(behind, bucket, data)


@pytest.mark.parametrize("send, fault", [("put", "500"), ("part", "slow-down"), ("complete", "200-with-error"),
                                         ("complete", "reset-after-commit")])
def test_killed_while_it_fails(behind, bucket, proxy, send, fault):
    """What is staged when the daemon is killed is stored by the next one, which sweeps the upload of the first and no
    other."""
    data = content(send)
    foreign = bucket.s3.create_multipart_upload(Bucket=bucket.name, Key="foreign")["UploadId"]
    proxy.fault = Fault(only=SENDS[send], **FAULTS[fault])
    attempt(behind, bucket, data, None, streamed)
    behind.crash()
    proxy.fault = None
    behind.start()
    settled(behind, bucket, data)
    assert [upload["UploadId"] for upload in unfinished(bucket, "foreign")] == [foreign]
    bucket.s3.abort_multipart_upload(Bucket=bucket.name, Key="foreign", UploadId=foreign)


def test_an_upload_that_cannot_be_taken_away_at_once(behind, bucket, proxy):
    """Its removal fails as well, while the server answers: it is tried again."""
    data = content("part")
    proxy.fault = Fault(only="^PUT .*partNumber=2&|^DELETE .*uploadId=", status=500)
    assert not attempt(behind, bucket, data, None, streamed)
    assert unfinished(bucket, "f")
    proxy.fault = None
    settled(behind, bucket, data)


# ---- the local side ----

@pytest.fixture
def tmpfs(folder):
    """tmpfs("size=16m") -> a file system of that size."""
    made = []

    def make(options: str):
        place = folder / f"tmpfs{len(made)}"
        place.mkdir()
        run("mount", "-t", "tmpfs", "-o", options + ",mode=0700", "tmpfs", place)
        made.append(place)
        return place

    yield make
    for place in made:
        subprocess.run(["umount", "-l", str(place)])


def filled(place) -> object:
    """Somebody else's file takes what is left."""
    hog = open(place / "hog", "wb", buffering=0)
    try:
        while hog.write(bytes(65536)) == 65536:
            pass
    except OSError as error:
        assert error.errno == errno.ENOSPC
    return hog


def until_full(descriptor: int, data: bytes) -> int:
    """Writes from the end to the beginning, so that nothing can leave; how much was not written."""
    for at in reversed(range(0, len(data), MIB)):
        try:
            assert os.pwrite(descriptor, data[at:at + MIB], at) == MIB
        except OSError as error:
            assert error.errno == errno.ENOSPC
            return at + MIB
    return 0


@pytest.mark.parametrize("store_is_down", [False, True], ids=["store-up", "store-down"])
def test_a_disk_that_others_have_filled(mount, bucket, proxy, tmpfs, store_is_down):
    """What a write was answered for is stored; what did not fit was told. min_free does not see it coming."""
    disk = tmpfs("size=24m")
    m = mount({"cache": {"dir": disk / "cache", "max_size": "1GiB", "min_free": "0"},
               "store k": {**bucket.store(endpoint_url=proxy.endpoint), **QUICK}})
    (m / "k/warm-up").write_bytes(b"x")
    data = pattern(8 * MIB)
    descriptor = os.open(m / "k/f", os.O_CREAT | os.O_RDWR)
    for at in (7, 6, 5, 4):
        os.pwrite(descriptor, data[at * MIB:(at + 1) * MIB], at * MIB)
    filled(disk)
    missing = until_full(descriptor, data)
    assert missing, "the disk is not full"
    for at in range(missing, 8 * MIB, MIB):
        assert os.pread(descriptor, MIB, at) == data[at:at + MIB]
    expected = bytes(missing) + data[missing:]
    if store_is_down:
        proxy.fault = Fault(status=500, only=r"^(PUT|POST) .*/f[ ?]")
        with fails_with(errno.EIO):
            os.close(descriptor)
        assert (m / "k/f").read_bytes()[missing:] == data[missing:]
        assert "k/f" in m.quayctl("status").stdout
        proxy.fault = None
    else:
        os.close(descriptor)
    eventually(lambda: "f" in bucket.keys())
    there = bucket.get("f")
    assert there[missing:] == data[missing:] and len(there) == len(expected)
    (disk / "hog").unlink()
    (m / "k/after").write_bytes(data)
    assert bucket.get("after") == data


def test_a_disk_without_inodes(mount, bucket, tmpfs):
    """No file can be made in the cache directory: what needs one is told, what does not goes on."""
    disk = tmpfs("size=64m,nr_inodes=64")
    m = mount({"cache": {"dir": disk / "cache", "max_size": "1GiB", "min_free": "0"},
               "store k": {**bucket.store(), **QUICK}})
    (m / "k/warm-up").write_bytes(b"x")
    bucket.put("old", pattern(3 * MIB))
    hogs = 0
    with fails_with(errno.ENOSPC):
        while True:
            (disk / f"hog{hogs}").touch()
            hogs += 1
    data = pattern(2 * MIB)
    with fails_with(errno.ENOSPC):
        (m / "k/large").write_bytes(data)
    assert data.startswith(bucket.get("large"))  # as any file system would: what was written before
    (m / "k/small").write_bytes(b"fits into memory")
    assert bucket.get("small") == b"fits into memory"
    assert (m / "k/old").read_bytes() == pattern(3 * MIB)
    for number in range(hogs):
        (disk / f"hog{number}").unlink()
    (m / "k/large").write_bytes(data)
    assert bucket.get("large") == data
