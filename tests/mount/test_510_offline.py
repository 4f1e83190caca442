"""The store goes away and comes back: what is served meanwhile, what fails at once, what is kept."""

import errno
import os
import threading

import pytest

from harness.data import pattern
from harness.tools import eventually, fails_with
from servers import Fault

MIB = 1024 * 1024
QUICK = {"retries": "1", "retry_delay": "50ms", "timeout": "5s", "cache.ttl": "1s"}
AWAY = (errno.EHOSTUNREACH, errno.ETIMEDOUT)


@pytest.fixture
def away(own_minio, make_bucket):
    """A bucket of the test's own server, with a small tree in it."""
    bucket = make_bucket(own_minio)
    bucket.put("top", b"top")
    bucket.put("d/whole", pattern(300_000))
    bucket.put("d/part", pattern(20 * MIB, seed=2))
    bucket.put("d/never-read", b"never")
    bucket.put("other/x", b"x")
    return bucket


def drop_pages() -> None:
    os.sync()
    try:
        with open("/proc/sys/vm/drop_caches", "w") as file:
            file.write("3")
    except PermissionError:
        pass


def pread(path, offset: int, length: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        return os.pread(descriptor, length, offset)
    finally:
        os.close(descriptor)


def outage(m) -> dict | None:
    return m.health()["keys"]["k"].get("outage")


def read_some(m) -> None:
    """What the tests below count on being cached."""
    assert sorted(os.listdir(m / "k")) == ["d", "other", "top"]
    assert sorted(os.listdir(m / "k/d")) == ["never-read", "part", "whole"]
    part = pattern(20 * MIB, seed=2)[5 * MIB:5 * MIB + 8192]

    def is_cached() -> bool:  # a handle that is closed at once may take its fetch with it
        assert pread(m / "k/d/whole", 0, 300_000) == pattern(300_000)
        assert pread(m / "k/d/part", 5 * MIB, 8192) == part
        return m.cache_stats()["file_count"] >= 2

    eventually(is_cached)


def expect_served(m) -> None:
    assert sorted(os.listdir(m / "k")) == ["d", "other", "top"]
    assert sorted(os.listdir(m / "k/d")) == ["never-read", "part", "whole"]
    assert os.stat(m / "k/d/whole").st_size == 300_000
    assert os.stat(m / "k/d/never-read").st_size == 5
    assert (m / "k/d/whole").read_bytes() == pattern(300_000)
    assert pread(m / "k/d/part", 5 * MIB, 8192) == pattern(20 * MIB, seed=2)[5 * MIB:5 * MIB + 8192]
    with fails_with(errno.EHOSTUNREACH):
        pread(m / "k/d/part", 15 * MIB, 8192)
    with fails_with(errno.EHOSTUNREACH):
        (m / "k/d/never-read").read_bytes()
    # A directory that nobody has listed: not empty, and no name in it is known not to be there.
    with fails_with(errno.EHOSTUNREACH):
        os.listdir(m / "k/other")
    with fails_with(errno.EHOSTUNREACH):
        os.stat(m / "k/other/unknown")
    assert os.statvfs(m / "k").f_blocks > 0


def test_served_while_the_store_is_away(mount, own_minio, away):
    m = mount({"store k": {**away.store(), **QUICK, "offline": "serve"}})
    read_some(m)
    own_minio.stop()
    drop_pages()
    eventually(lambda: _refused(m / "k/d/part", 10 * MIB))
    for _ in range(2):
        expect_served(m)
        drop_pages()
    down = outage(m)
    assert down["errno"] == errno.EHOSTUNREACH and str(own_minio.port) in down["reason"], down
    assert m.health()["keys"]["k"]["state"] == "down" and m.health()["ok"] is False
    assert m.metric("quayfs_backend_up", key="k") == 0
    own_minio.start()
    eventually(lambda: outage(m) is None)
    assert (m / "k/d/never-read").read_bytes() == b"never"
    assert os.listdir(m / "k/other") == ["x"]
    assert pread(m / "k/d/part", 15 * MIB, 8) == pattern(20 * MIB, seed=2)[15 * MIB:15 * MIB + 8]
    assert m.health()["keys"]["k"]["state"] == "ok" and m.metric("quayfs_backend_up", key="k") == 1


def _refused(path, offset: int) -> bool:
    try:
        pread(path, offset, 8)
    except OSError as error:
        assert error.errno in AWAY, error
        return True
    return False


def test_served_after_a_restart_without_the_store(mount, own_minio, away):
    m = mount({"store k": {**away.store(), **QUICK, "offline": "serve"}})
    read_some(m)
    m.stop()
    own_minio.stop()
    m.start()
    expect_served(m)
    own_minio.start()
    eventually(lambda: outage(m) is None)
    assert (m / "k/top").read_bytes() == b"top"


def test_nothing_is_made_up_without_offline(mount, own_minio, away):
    m = mount({"store k": {**away.store(), **QUICK, "cache.ttl": "1s"}})
    read_some(m)
    kept = os.open(m / "k/d/whole", os.O_RDONLY)
    own_minio.stop()
    eventually(lambda: _refused(m / "k/d/part", 10 * MIB))
    eventually(lambda: not _answers(lambda: os.listdir(m / "k/d")))  # the ttl
    for action in (lambda: os.listdir(m / "k"), lambda: os.listdir(m / "k/d"),
                   lambda: os.stat(m / "k/top"), lambda: os.stat(m / "k/no-such-name"),
                   lambda: os.open(m / "k/d/whole", os.O_RDONLY), lambda: (m / "k/n").write_bytes(b"x"),
                   lambda: os.mkdir(m / "k/new"), lambda: os.unlink(m / "k/top"),
                   lambda: os.rename(m / "k/top", m / "k/t2"), lambda: os.chmod(m / "k/top", 0o600),
                   lambda: os.getxattr(m / "k/top", "user.x")):
        with fails_with(errno.EHOSTUNREACH):
            action()
    assert os.pread(kept, 100, 0) == pattern(300_000)[:100]  # an open file reads what is cached
    os.close(kept)
    own_minio.start()
    eventually(lambda: outage(m) is None)
    read_some(m)


def _answers(action) -> bool:
    try:
        action()
    except OSError as error:
        assert error.errno in AWAY, error
        return False
    return True


def test_a_silent_store_is_asked_by_probes_only(mount, bucket, proxy):
    """Who comes later does not wait for the timeout again: no further request goes out."""
    bucket.put("f", b"x")
    m = mount({"store k": {**bucket.store(endpoint_url=proxy.endpoint), **QUICK, "retries": "0"}})
    assert (m / "k/f").read_bytes() == b"x"
    proxy.fault = Fault(stall=True)
    with fails_with(errno.ETIMEDOUT):
        os.stat(m / "k/unknown-0")
    eventually(lambda: outage(m) is not None)
    before = proxy.count("unknown")
    for number in range(1, 30):
        with fails_with(errno.EHOSTUNREACH):
            os.stat(m / f"k/unknown-{number}")
    assert proxy.count("unknown") == before
    assert outage(m)["errno"] == errno.ETIMEDOUT and "next_probe_s" in outage(m)
    proxy.fault = None
    proxy.reset_all()
    eventually(lambda: outage(m) is None)
    with fails_with(errno.ENOENT):
        os.stat(m / "k/unknown-1")


def test_one_object_that_hangs_does_not_stop_the_others(mount, bucket, proxy):
    bucket.put("bad", b"x")
    bucket.put("good", b"y")
    m = mount({"store k": {**bucket.store(endpoint_url=proxy.endpoint), **QUICK, "retries": "0"}})
    proxy.fault = Fault(stall=True, only="/bad")
    for _ in range(2):
        with fails_with(errno.ETIMEDOUT):
            (m / "k/bad").read_bytes()
        assert (m / "k/good").read_bytes() == b"y"
    assert outage(m) is None


def test_writes_go_out_when_the_store_is_back(mount, own_minio, away):
    """close() failed; the retry does not wait for its back-off once a probe was answered."""
    m = mount({"store k": {**away.store(), **QUICK}})
    (m / "k/warm-up").write_bytes(b"x")
    files = [os.open(m / f"k/w{number}", os.O_CREAT | os.O_WRONLY) for number in range(5)]
    for descriptor in files:
        os.write(descriptor, b"precious")
    own_minio.stop()
    for descriptor in files:
        with fails_with(errno.EHOSTUNREACH):
            os.close(descriptor)
    # Let the back-off grow to several times what is waited for below.
    eventually(lambda: m.quayctl("status").stdout.count("k/w") >= 5)
    eventually(lambda: all(entry["attempts"] >= 5 for entry in m.staged()))
    assert len(m.staged()) == 5
    own_minio.start()
    eventually(lambda: not m.staged(), 40)  # the back-off is longer
    assert all(away.get(f"w{number}") == b"precious" for number in range(5))


def test_writes_are_queued_with_write_back(mount, own_minio, away):
    m = mount({"store k": {**away.store(), **QUICK, "write": "back", "offline": "serve"}})
    assert sorted(os.listdir(m / "k")) == ["d", "other", "top"]
    assert (m / "k/top").read_bytes() == b"top"
    own_minio.stop()
    (m / "k/new").write_bytes(b"new")
    with open(m / "k/top", "r+b") as file:
        file.write(b"POT")
    assert (m / "k/new").read_bytes() == b"new" and (m / "k/top").read_bytes() == b"POT"
    assert sorted(os.listdir(m / "k")) == ["d", "new", "other", "top"]
    assert len(m.staged()) == 2
    own_minio.start()
    eventually(lambda: not m.staged())
    assert away.get("new") == b"new" and away.get("top") == b"POT"


# ---- uploads in parts that an outage has cut off ----

def uploads(bucket) -> list:
    """MinIO lists them only for a full key."""
    return bucket.s3.list_multipart_uploads(Bucket=bucket.name, Prefix="f").get("Uploads", [])


def streamed(path, data: bytes) -> None:
    path.write_bytes(data)


def at_close(path, data: bytes) -> None:
    """Nothing can leave before."""
    with open(path, "wb", buffering=0) as file:
        for at in reversed(range(0, len(data), MIB)):
            os.pwrite(file.fileno(), data[at:at + MIB], at)


@pytest.fixture
def cut_off(mount, bucket, proxy):
    """cut_off(write): a mount whose server went away in the middle of an upload of `f`."""
    def make(write):
        m = mount({"store k": {**bucket.store(endpoint_url=proxy.endpoint), **QUICK,
                               "multipart_threshold": "6MiB", "multipart_chunksize": "5MiB"}})
        (m / "k/warm-up").write_bytes(b"x")
        failed = []

        def work() -> None:
            try:
                write(m / "k/f", pattern(17 * MIB))
            except OSError as error:
                failed.append(error.errno)

        proxy.fault = Fault(stall=True, only="partNumber=2&")
        writer = threading.Thread(target=work)
        writer.start()
        eventually(lambda: proxy.count("partNumber=2&"))
        proxy.fault = Fault(stall=True)  # for a connection that is just being made
        proxy.stop()
        eventually(lambda: proxy.reset_all() or not writer.is_alive())
        assert failed and failed[0] in AWAY, failed
        assert len(uploads(bucket)) == 1
        return m
    return make


@pytest.mark.parametrize("write", [streamed, at_close], ids=["streamed", "at-close"])
def test_an_upload_that_an_outage_cut_off_is_taken_away(cut_off, bucket, proxy, write):
    """By the process that had begun it, when the server is back."""
    m = cut_off(write)
    eventually(lambda: outage(m) is not None)
    proxy.fault = None
    proxy.start()
    eventually(lambda: not m.staged())
    assert bucket.get("f") == pattern(17 * MIB)
    eventually(lambda: uploads(bucket) == [])
    eventually(lambda: "k: f: the parts of the upload that was given up are removed" in m.log())


def test_an_upload_that_an_outage_cut_off_is_taken_away_after_a_kill(cut_off, bucket, proxy):
    m = cut_off(streamed)
    m.crash()
    proxy.fault = None
    proxy.start()
    m.start()
    eventually(lambda: not m.staged())
    assert bucket.get("f") == pattern(17 * MIB)
    eventually(lambda: uploads(bucket) == [])
