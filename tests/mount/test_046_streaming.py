"""Files that leave for the store while they are still being written."""

import errno
import os
import threading
import time

import pytest

from harness.data import pattern
from harness.tools import eventually, fails_with
from servers import Fault

MIB = 1024 * 1024
SMALL_PARTS = {"multipart_threshold": "6MiB", "multipart_chunksize": "5MiB"}
QUICK = {"retries": "1", "retry_delay": "50ms", "timeout": "60s"}
SLOW_DOWN = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


@pytest.fixture
def seen(mount, bucket, proxy):
    m = mount({"store k": {**bucket.store(endpoint_url=proxy.endpoint), **SMALL_PARTS, **QUICK}})
    (m / "k/warm-up").write_bytes(b"x")
    return m


def write(file, data: bytes) -> None:
    for at in range(0, len(data), MIB):
        file.write(data[at:at + MIB])


def parts_sent(proxy, key: str) -> int:
    return proxy.count(rf"^PUT /[^/]+/{key}\?.*partNumber=")


def test_parts_leave_before_the_close(seen, bucket, proxy):
    data = pattern(33 * MIB)
    with open(seen / "k/big", "wb", buffering=0) as file:
        write(file, data[:30 * MIB])
        eventually(lambda: parts_sent(proxy, "big") >= 5)
        assert "big" not in bucket.keys()
        write(file, data[30 * MIB:])
    assert parts_sent(proxy, "big") == 7  # each part once
    assert bucket.get("big") == data
    assert (seen / "k/big").read_bytes() == data
    assert bucket.uploads() == []


def test_what_was_sent_in_parts_is_cached(seen, bucket):
    data = pattern(17 * MIB)
    (seen / "k/f").write_bytes(data)
    seen.remount()
    before = bucket.minio.count("GetObject")
    assert (seen / "k/f").read_bytes() == data
    assert bucket.minio.count("GetObject") == before


def test_a_rewritten_part_goes_again(seen, bucket, proxy):
    """As archivers do: the header is written last."""
    data = bytearray(pattern(22 * MIB))
    with open(seen / "k/zip", "w+b", buffering=0) as file:
        write(file, bytes(data))
        eventually(lambda: parts_sent(proxy, "zip") >= 4)
        for place in (0, 12 * MIB):
            data[place:place + 6] = b"header"
            os.pwrite(file.fileno(), b"header", place)
        assert os.pread(file.fileno(), 100, 12 * MIB - 50) == data[12 * MIB - 50:12 * MIB + 50]
    assert bucket.get("zip") == data
    assert parts_sent(proxy, "zip") == 5 + 2


def test_mode_and_times_of_a_streamed_file(seen, bucket):
    data = pattern(12 * MIB)
    with open(seen / "k/f", "wb", buffering=0) as file:
        write(file, data)
        os.fchmod(file.fileno(), 0o600)
        os.utime(file.fileno(), (1_600_000_000, 1_600_000_000))
    assert bucket.get("f") == data
    assert int(bucket.head("f")["Metadata"]["mode"]) & 0o7777 == 0o600
    assert (seen / "k/f").stat().st_mtime == 1_600_000_000


def test_time_of_a_streamed_file(seen, bucket, proxy):
    """That of its upload's beginning: the same for this mount, for others and at the store."""
    begun = time.time()
    with open(seen / "k/f", "wb", buffering=0) as file:
        write(file, pattern(12 * MIB))
        eventually(lambda: parts_sent(proxy, "f") >= 1)  # so it has begun
        time.sleep(0.2)
        finished = time.time()
        file.write(b"the end")
    told = (seen / "k/f").stat().st_mtime_ns
    assert begun - 0.1 < told / 1e9 < finished
    assert bucket.head("f")["Metadata"]["mtime"] == f"{told // 10**9}.{told % 10**9:09}"


@pytest.mark.parametrize("fault", [
    Fault(status=503, body=SLOW_DOWN, only="partNumber=", times=3),
    Fault(status=500, only="partNumber=2", times=2),
    Fault(reset_after=0, only="partNumber=", times=2),
    Fault(status=503, body=SLOW_DOWN, only=r"^POST .*uploads", times=1),
    Fault(status=500, only="^POST .*uploadId", times=1),
], ids=["slow-down", "500", "reset", "begin", "complete"])
def test_failures_that_pass(seen, bucket, proxy, fault):
    data = pattern(17 * MIB)
    proxy.fault = fault
    try:
        (seen / "k/f").write_bytes(data)
    except OSError:  # told; then it is staged whole and goes out by itself
        proxy.fault = None
        eventually(lambda: "f" in bucket.keys())
    assert bucket.get("f") == data
    assert (seen / "k/f").read_bytes() == data


@pytest.mark.parametrize("fault", [
    Fault(status=500, only="partNumber="),
    Fault(status=500, only="^POST .*uploadId"),
    Fault(status=200, body="<Error><Code>InternalError</Code><Message>no</Message></Error>",
          headers="Content-Type: application/xml\r\n", only="^POST .*uploadId"),
], ids=["parts", "complete", "complete-200-with-error"])
def test_failures_that_do_not_pass(seen, bucket, proxy, fault):
    data = pattern(17 * MIB)
    proxy.fault = fault
    with fails_with(errno.EIO):
        (seen / "k/f").write_bytes(data)
    assert (seen / "k/f").read_bytes() == data
    assert "f" in seen.quayctl("status").stdout
    proxy.fault = None
    eventually(lambda: "f" in bucket.keys())
    assert bucket.get("f") == data


def test_an_upload_that_somebody_else_has_ended(seen, bucket, proxy):
    """As a lifecycle rule does, and a request that met another: the parts have to be sent again. Story: the same upload was
    finished ten times more, and then the file went to a conflict copy, although nobody else had written it."""
    data = pattern(12 * MIB)
    with open(seen / "k/f", "wb", buffering=0) as file:
        write(file, data)
        eventually(lambda: parts_sent(proxy, "f") >= 1)
        [upload] = bucket.s3.list_multipart_uploads(Bucket=bucket.name, Prefix="f")["Uploads"]
        bucket.s3.abort_multipart_upload(Bucket=bucket.name, Key="f", UploadId=upload["UploadId"])
    assert bucket.get("f") == data
    assert sorted(bucket.keys()) == ["f", "warm-up"]


@pytest.fixture
def little_room(mount, bucket, proxy, folder):
    """A cache directory that holds a third of the file."""
    return mount({"cache": {"dir": folder / "little", "max_size": "24MiB"},
                  "store k": {**bucket.store(endpoint_url=proxy.endpoint), **SMALL_PARTS, **QUICK}})


def test_a_file_larger_than_the_cache(little_room, bucket):
    data = bytearray(pattern(70 * MIB))
    with open(little_room / "k/f", "w+b", buffering=0) as file:
        write(file, bytes(data))
        data[:6] = b"header"  # the first part never leaves the disk
        os.pwrite(file.fileno(), b"header", 0)
        with fails_with(errno.EIO):
            os.pread(file.fileno(), 4096, 8 * MIB)
        with fails_with(errno.ENOSPC):
            os.pwrite(file.fileno(), b"late", 8 * MIB)
    assert bucket.get("f") == data
    assert (little_room / "k/f").read_bytes() == data


@pytest.mark.parametrize("how", ["unlink", "rename"])
def test_a_file_larger_than_the_cache_loses_its_name(little_room, bucket, how):
    """Story: what had given up its place on the disk went with the upload when the file was removed, and whoever had it open read
    zeros instead."""
    data = pattern(40 * MIB)
    (little_room / "k/other").write_bytes(b"other")
    with open(little_room / "k/f", "w+b", buffering=0) as file:
        write(file, data)
        if how == "unlink":
            (little_room / "k/f").unlink()
        else:
            (little_room / "k/other").rename(little_room / "k/f")
        with fails_with(errno.ESTALE):
            os.pread(file.fileno(), 4096, 8 * MIB)
    eventually(lambda: not bucket.uploads())
    assert bucket.keys() == ["other" if how == "unlink" else "f"]


@pytest.mark.parametrize("how", ["crash", "unmount"])
def test_a_file_larger_than_the_cache_survives_failure_and_restart(little_room, bucket, proxy, how):
    """close() failed: what is at the store and what is here are put together by the next process."""
    data = pattern(70 * MIB)
    (little_room / "k/warm-up").write_bytes(b"x")
    proxy.fault = Fault(status=500, only="^POST .*uploadId")
    with fails_with(errno.EIO):
        (little_room / "k/f").write_bytes(data)
    if how == "crash":
        little_room.crash()
    else:
        little_room.stop(check=False)
    assert "f" not in bucket.keys()
    proxy.fault = None
    little_room.start()
    eventually(lambda: "f" in bucket.keys())
    assert bucket.get("f") == data
    assert (little_room / "k/f").read_bytes() == data


def test_a_header_that_was_sent_again_before_a_crash(little_room, bucket, proxy):
    """Story: the first part of a file whose rest was at the store only had been changed and sent again when quayfs was killed. The
    next start took the header back, as nobody had been promised the new one, but completed the upload with the tag of the
    part that was replaced: what was promised became a conflict copy of zeros."""
    data = pattern(40 * MIB)
    (little_room / "k/warm-up").write_bytes(b"x")
    proxy.fault = Fault(status=500, only="^POST .*uploadId")
    file = open(little_room / "k/f", "wb", buffering=0)
    write(file, data)
    with fails_with(errno.EIO):
        os.fsync(file.fileno())
    os.pwrite(file.fileno(), b"header", 0)
    proxy.fault = Fault(stall=True, only="^POST .*uploadId", times=1)
    closing = threading.Thread(target=lambda: pytest.raises(OSError, file.close))
    closing.start()
    eventually(lambda: proxy.fault.times == 0)
    little_room.crash()
    closing.join(60)
    proxy.fault = None
    little_room.start()
    eventually(lambda: "k/f" not in little_room.quayctl("status").stdout)
    assert sorted(bucket.keys()) == ["f", "warm-up"] and bucket.get("f") == data
