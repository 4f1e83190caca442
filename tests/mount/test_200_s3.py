"""S3 as seen from its server: which requests are sent, and which are not."""

import errno
import os
import threading
import time

import pytest

from harness.data import pattern
from harness.tools import eventually, fails_with
from servers.fakes3 import FakeS3

MIB = 1024 * 1024


class Counted:
    """with Counted(minio) as sent: ...; sent["GetObject"] = requests inside the block."""

    def __init__(self, minio):
        self.minio = minio

    def __enter__(self):
        self.before = self.minio.counts()
        return self

    def __exit__(self, *_):
        after = self.minio.counts()
        self.sent = {name: n - self.before.get(name, 0) for name, n in after.items()}

    def __getitem__(self, name):
        return self.sent.get(name, 0)


def test_objects_of_others_are_files(mount, bucket):
    bucket.put("dir/sub/file.txt", b"from boto3", ContentType="text/plain")
    m = mount({"store k": bucket.store()})
    assert os.listdir(m / "k") == ["dir"]
    assert (m / "k/dir/sub/file.txt").read_bytes() == b"from boto3"
    info = (m / "k/dir/sub/file.txt").stat()
    assert info.st_size == 10 and info.st_mtime > 1_600_000_000


@pytest.mark.parametrize("list_metadata", ["yes", "no"])
def test_times_and_modes_of_rclone(mount, bucket, list_metadata):
    """rclone writes the names of s3fs: mtime as that does, and with --metadata the mode in octal and atime in RFC 3339."""
    bucket.put("plain", b"x", Metadata={"mtime": "1683824051.523399602"})
    bucket.put("short", b"x", Metadata={"mtime": "1683824051.5"})
    bucket.put("before-1970", b"x", Metadata={"mtime": "-1.25"})
    bucket.put("whole", b"x", Metadata={
        "mtime": "1683824051.523399602", "atime": "2023-05-11T17:54:11.25+01:00", "mode": "100640", "uid": "1234",
        "gid": "4321", "btime": "2023-05-11T17:54:11.523399602+01:00"})
    m = mount({"store k": bucket.store(list_metadata=list_metadata)})
    times = {"plain": 1683824051_523399602, "short": 1683824051_500000000, "before-1970": -1_250000000,
             "whole": 1683824051_523399602}
    for _ in range(2):
        if list_metadata == "yes":
            assert sorted(os.listdir(m / "k")) == sorted(times)
        assert {name: (m / "k" / name).stat().st_mtime_ns for name in times} == times
        info = (m / "k/whole").stat()
        assert (info.st_mode, info.st_uid, info.st_gid) == (0o100640, 1234, 4321)
        assert info.st_atime_ns == 1683824051_250000000
        assert os.getxattr(m / "k/whole", "user.meta.btime") == b"2023-05-11T17:54:11.523399602+01:00"
        m.remount()
    (m / "k/whole").chmod(0o600)
    assert (m / "k/whole").stat().st_mtime_ns == times["whole"]
    assert float(bucket.head("whole")["Metadata"]["mtime"]) == 1683824051.523399602


def test_listing_is_paged(mount, bucket):
    names = [f"n{number:05}" for number in range(2100)]
    threads = [threading.Thread(target=lambda part: [bucket.put(f"many/{n}", b"") for n in part],
                                args=(names[start::4],)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    m = mount({"store k": bucket.store()})
    with Counted(bucket.minio) as sent:
        assert sorted(os.listdir(m / "k/many")) == names
        for name in names[:5]:
            assert (m / "k/many" / name).stat().st_size == 0
    assert sent["ListObjectsV2"] <= 8
    assert sent["HeadObject"] + sent["GetObject"] <= 8


def test_ls_l_sends_no_head_per_entry(mount, bucket):
    for number in range(100):
        bucket.put(f"d/f{number}", b"x" * number)
    m = mount({"store k": bucket.store()})
    with Counted(bucket.minio) as sent:
        sizes = sorted(entry.stat().st_size for entry in os.scandir(m / "k/d"))
    assert sizes == list(range(100))
    assert sent["HeadObject"] + sent["GetObject"] <= 5


def test_a_small_read_fetches_little(mount, bucket):
    bucket.put("big", pattern(MIB) * 48)
    m = mount({"store k": bucket.store()})
    descriptor = os.open(m / "k/big", os.O_RDONLY)
    assert len(os.pread(descriptor, 4096, 20 * MIB)) == 4096
    os.close(descriptor)
    assert m.metric("quayfs_backend_read_bytes_total", key="k") <= 8 * MIB


def test_small_file_is_one_put(mount, bucket):
    m = mount({"store k": bucket.store()})
    (m / "k/warm-up").write_bytes(b"x")  # whatever is probed once is probed now
    with Counted(bucket.minio) as sent:
        (m / "k/f").write_bytes(b"x" * 10_000)
    assert sent["PutObject"] == 1
    assert sent["GetObject"] == 0 and sent["NewMultipartUpload"] == 0


def test_multipart_above_the_threshold_only(mount, bucket):
    m = mount({"store k": bucket.store()})
    (m / "k/warm-up").write_bytes(b"x")
    with Counted(bucket.minio) as sent:
        (m / "k/at").write_bytes(bytes(64 * MIB))
    assert (sent["PutObject"], sent["NewMultipartUpload"]) == (1, 0)
    with Counted(bucket.minio) as sent:
        (m / "k/above").write_bytes(bytes(64 * MIB + 1))
    assert sent["CompleteMultipartUpload"] == 1 and sent["PutObjectPart"] == 5
    assert bucket.uploads() == []


def test_a_closed_unchanged_file_is_not_sent_again(mount, bucket):
    bucket.put("f", b"content")
    m = mount({"store k": bucket.store()})
    with Counted(bucket.minio) as sent:
        with open(m / "k/f", "r+b") as file:
            file.read()
            os.fsync(file.fileno())
    assert sent["PutObject"] == 0


def test_an_edit_copies_the_rest_on_the_server(mount, bucket):
    data = bytearray(pattern(MIB) * 80)
    bucket.put("big", bytes(data))
    m = mount({"store k": bucket.store()})
    with open(m / "k/big", "r+b", buffering=0) as file:
        file.seek(40 * MIB)
        file.write(b"8 bytes!")
    data[40 * MIB:40 * MIB + 8] = b"8 bytes!"
    assert bucket.get("big") == bytes(data)
    assert m.metric("quayfs_backend_read_bytes_total", key="k") <= 24 * MIB
    assert m.metric("quayfs_backend_write_bytes_total", key="k") <= 24 * MIB


def test_rename_copies_on_the_server(mount, bucket):
    data = pattern(5 * MIB)
    bucket.put("a", data)
    m = mount({"store k": bucket.store()})
    with Counted(bucket.minio) as sent:
        (m / "k/a").rename(m / "k/b")
    assert sent["CopyObject"] == 1 and sent["GetObject"] == 0 and sent["PutObject"] == 0
    assert bucket.get("b") == data and bucket.keys() == ["b"]


def test_a_renamed_object_keeps_the_time_that_was_shown(mount, bucket):
    """Of an object whose owner stores no times that is its upload's, and its copy's another: the rename writes it down."""
    bucket.put("a", b"old", ContentType="text/csv", CacheControl="no-cache", Metadata={"owner": "ann"})
    bucket.put("timed", b"old", Metadata={"mtime": "1700000000"})
    bucket.put("d/empty", b"")
    bucket.put("full", b"x", Metadata={"owner": "x" * 2015})  # has no room for a time
    m = mount({"store k": bucket.store()})
    shown = {name: (m / "k" / name).stat().st_mtime_ns for name in ("a", "timed", "d/empty")}
    eventually(lambda: time.time_ns() > max(shown.values()) + 1_100_000_000)
    with Counted(bucket.minio) as sent:
        (m / "k/a").rename(m / "k/b")
    with Counted(bucket.minio) as sent_otherwise:
        (m / "k/timed").rename(m / "k/timed2")
    assert sent.sent == sent_otherwise.sent and sent["CopyObject"] == 1  # no request more
    (m / "k/d").rename(m / "k/e")
    (m / "k/full").rename(m / "k/full2")
    for _ in range(2):
        assert (m / "k/b").stat().st_mtime_ns == shown["a"]
        assert (m / "k/e/empty").stat().st_mtime_ns == shown["d/empty"]
        m.remount()
    head = bucket.head("b")
    assert (head["ContentType"], head["CacheControl"], head["Metadata"]["owner"]) == ("text/csv", "no-cache", "ann")
    assert bucket.head("full2")["Metadata"] == {"owner": "x" * 2015}


def test_directories_of_others_vanish_with_their_last_object(mount, bucket):
    """What is removed here leaves its directory, also one of others."""
    for key in ("d/only", "e/other", "e/deep/er", "mine/f"):
        bucket.put(key, b"x")
    m = mount({"store k": {**bucket.store(), "cache.ttl": "100ms"}})
    (m / "k/made").mkdir()
    (m / "k/made/f").write_bytes(b"x")
    assert os.listdir(m / "k/d") == ["only"] and sorted(os.listdir(m / "k/e")) == ["deep", "other"]
    for key in ("d/only", "e/other", "made/f"):
        bucket.delete(key)
    eventually(lambda: sorted(os.listdir(m / "k")) == ["e", "made", "mine"])
    eventually(lambda: os.listdir(m / "k/e") == ["deep"] and os.listdir(m / "k/made") == [])
    with fails_with(errno.ENOENT):
        os.stat(m / "k/d")
    bucket.delete("e/deep/er")
    eventually(lambda: not (m / "k/e").exists())
    (m / "k/mine/f").unlink()
    assert (m / "k/mine").is_dir() and sorted(os.listdir(m / "k")) == ["made", "mine"]
    (m / "k/mine").rmdir()
    assert os.listdir(m / "k") == ["made"]


def test_upload_failure_is_told_by_close(mount, bucket, proxy):
    m = mount({"store k": {**bucket.store(endpoint_url=proxy.endpoint), "retries": "0"}})
    (m / "k/warm-up").write_bytes(b"x")
    from servers import Fault
    proxy.fault = Fault(status=403, only="^PUT", body="<Error><Code>AccessDenied</Code></Error>")
    descriptor = os.open(m / "k/f", os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, b"x" * 1000)
    with fails_with(errno.EACCES):
        os.close(descriptor)
    proxy.fault = None
    assert "f" not in bucket.keys()


def test_failed_multipart_upload_leaves_no_parts(mount, bucket, proxy):
    from servers import Fault
    m = mount({"store k": {**bucket.store(endpoint_url=proxy.endpoint), "retries": "0"}})
    proxy.fault = Fault(status=403, only="partNumber=3", body="<Error><Code>AccessDenied</Code></Error>")
    descriptor = os.open(m / "k/big", os.O_CREAT | os.O_WRONLY)
    with fails_with(errno.EACCES):
        try:
            for _ in range(70):
                os.write(descriptor, bytes(MIB))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    proxy.fault = None
    assert bucket.keys() == []
    m.stop(check=False)
    assert bucket.uploads() == []


def test_addressing(mount, bucket, proxy):
    """In path style the bucket is in the request line; in virtual-host style it is in the host's name
    (bucket.localhost is this machine), and MinIO, which was not told of that, looks for another bucket."""
    bucket.put("f", b"x")
    store = bucket.store(endpoint_url=f"http://localhost:{proxy.port}")
    m = mount({"store k": {**store, "addressing": "path"}})
    assert (m / "k/f").read_bytes() == b"x"
    assert proxy.count(rf" /{bucket.name}/") >= 1
    m.stop()
    before = len(proxy.requests)
    m = mount({"store k": {**store, "addressing": "virtual", "retries": "0"}}, name="virtual")
    with pytest.raises(OSError):
        (m / "k/f").read_bytes()
    assert len(proxy.requests) > before
    assert not [line for line in proxy.requests[before:] if bucket.name in line]


PROBE = ".quay-probe-0123456789abcdef"


def test_probes_that_a_killed_mount_has_left(mount, bucket):
    """Not shown; swept when they are an hour old, by the next mount that probes."""
    fake = FakeS3().start()
    try:
        others = [".quay-probe-0123456789ABCDEF", ".quay-probe-", PROBE + "0"]
        for name in [PROBE, *others]:
            fake.put(name.encode(), b"")
        fake.put(b"dir/" + PROBE.encode(), b"")
        m = mount({"store k": fake.store()})
        assert sorted(os.listdir(m / "k")) == sorted([*others, "dir"])
        (m / "k/f").write_bytes(b"x")
        assert sorted(key.decode() for key in fake.objects) == sorted([*others, "dir/" + PROBE, "f"])
    finally:
        fake.stop()
    bucket.put(PROBE, b"")
    bucket.put(PROBE.replace("0", "1"), b"somebody's content")
    m = mount({"store k": bucket.store(), "cache": {"dir": m.folder / "cache-2"}}, name="n")
    assert os.listdir(m / "k") == [PROBE.replace("0", "1")]
    (m / "k/f").write_bytes(b"x")
    assert PROBE in bucket.keys(), "it may be in use"
