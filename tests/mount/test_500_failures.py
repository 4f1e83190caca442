"""What breaks, and how it is told: the errno of design.md, and one log line that says what to do."""

import errno
import os
import re
import subprocess
import threading

import pytest

from harness.backends import make_key
from harness.data import pattern
from harness.tools import eventually, fails_with, run
from servers import FakeS3

MIB = 1024 * 1024
QUICK = {"retries": "1", "retry_delay": "50ms", "timeout": "5s", "cache.ttl": "1s"}


def one_line(m, *words: str) -> str:
    """The single error line of the log that holds all of these words."""
    lines = [line for line in m.log_lines("error", "warn") if all(word in line for word in words)]
    assert len(lines) == 1, "\n".join([f"wanted one line with {words}:", *m.log_lines("error", "warn")])
    return lines[0]


def test_refused_credentials(mount, bucket):
    bucket.put("f", b"x")
    m = mount({"store k": {**bucket.store(secret_access_key="wrong"), **QUICK}})
    with fails_with(errno.EACCES):
        (m / "k/f").read_bytes()
    line = one_line(m, "k", "SignatureDoesNotMatch")
    assert "secret_access_key" in line


def test_unknown_access_key(mount, bucket):
    bucket.put("f", b"x")
    m = mount({"store k": {**bucket.store(access_key_id="nobody"), **QUICK}})
    with fails_with(errno.EACCES):
        os.listdir(m / "k")
    assert "access_key_id" in one_line(m, "k", "InvalidAccessKeyId")


def test_deleted_bucket(mount, bucket):
    bucket.put("f", b"x")
    m = mount({"store k": {**bucket.store(), **QUICK}})
    assert (m / "k/f").read_bytes() == b"x"
    bucket.remove()
    with fails_with(errno.EIO, errno.ENXIO, errno.ENOENT):
        (m / "k/new").write_bytes(b"y")
    line = one_line(m, "NoSuchBucket", "new")
    assert bucket.name in line


def test_bucket_that_never_was(mount, minio):
    m = mount({"store k": {**minio.store("no-such-bucket"), **QUICK}})
    with fails_with(errno.EIO, errno.ENXIO):
        os.listdir(m / "k")
    line = one_line(m, "NoSuchBucket")
    assert "no-such-bucket" in line and "bucket" in line


def test_stopped_server(mount, own_minio, make_bucket):
    bucket = make_bucket(own_minio)
    bucket.put("f", b"x")
    bucket.put("g", b"y")
    m = mount({"store k": {**bucket.store(), **QUICK}})
    assert (m / "k/f").read_bytes() == b"x"
    own_minio.stop()
    with fails_with(errno.EHOSTUNREACH):
        (m / "k/g").read_bytes()
    assert own_minio.endpoint.removeprefix("http://") in one_line(m, "k/g")
    with fails_with(errno.EHOSTUNREACH):
        (m / "k/new").write_bytes(b"z")
    own_minio.start()
    eventually(lambda: "the store answers again" in m.log(), what="nobody has asked it again")
    assert (m / "k/g").read_bytes() == b"y"


def test_data_is_kept_when_the_store_is_down(mount, own_minio, make_bucket):
    """close() reported the failure; the bytes stay staged, visible and listed, and go out later."""
    bucket = make_bucket(own_minio)
    m = mount({"store k": {**bucket.store(), **QUICK}})
    (m / "k/warm-up").write_bytes(b"x")
    descriptor = os.open(m / "k/f", os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, b"precious")
    own_minio.stop()
    with fails_with(errno.EHOSTUNREACH):
        os.close(descriptor)
    assert (m / "k/f").read_bytes() == b"precious"
    assert "k/f" in m.quayctl("status").stdout
    own_minio.start()
    eventually(lambda: "f" in bucket.keys())
    assert bucket.get("f") == b"precious"


def test_staged_data_survives_a_remount(mount, own_minio, make_bucket):
    bucket = make_bucket(own_minio)
    m = mount({"store k": {**bucket.store(), **QUICK}})
    (m / "k/warm-up").write_bytes(b"x")
    descriptor = os.open(m / "k/f", os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, b"precious")
    own_minio.stop()
    with fails_with(errno.EHOSTUNREACH):
        os.close(descriptor)
    m.stop(check=False)
    own_minio.start()
    m.start()
    eventually(lambda: "f" in bucket.keys())
    assert bucket.get("f") == b"precious"


def test_silent_server_times_out(mount, own_minio, make_bucket):
    bucket = make_bucket(own_minio)
    bucket.put("f", b"x")
    m = mount({"store k": {**bucket.store(), **QUICK}})
    os.listdir(m / "k")
    own_minio.pause()
    try:
        with fails_with(errno.ETIMEDOUT):
            (m / "k/f").read_bytes()
    finally:
        own_minio.resume()
    assert (m / "k/f").read_bytes() == b"x"
    one_line(m, "k/f")


@pytest.fixture
def small_disk(folder):
    """A tmpfs of 16 MiB for the cache."""
    place = folder / "small"
    place.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=16m,mode=0700", "tmpfs", place)
    yield place
    subprocess.run(["umount", "-l", str(place)])


def test_reads_go_on_with_a_full_cache_disk(small_disk, mount, bucket):
    data = pattern(40 * MIB)
    bucket.put("f", data)
    m = mount({"cache": {"dir": small_disk / "cache", "max_size": "1GiB", "min_free": "1MiB"},
               "store k": bucket.store()})
    assert (m / "k/f").read_bytes() == data
    assert os.statvfs(small_disk).f_bavail > 0


def test_full_cache_disk_tells_the_writer(small_disk, mount, bucket):
    """What there was room for is stored, and nothing else."""
    m = mount({"cache": {"dir": small_disk / "cache", "max_size": "1GiB", "min_free": "1MiB"},
               "store k": {**bucket.store(), "write": "back"}})
    # Random order: nothing can be streamed out, all of it must be held.
    descriptor = os.open(m / "k/big", os.O_CREAT | os.O_RDWR)
    written = bytearray(40 * MIB)
    with fails_with(errno.ENOSPC):
        for number in reversed(range(40)):
            data = bytes([100 + number]) * MIB
            done = os.pwrite(descriptor, data, number * MIB)
            written[number * MIB:number * MIB + done] = data[:done]
    assert written[-4 * MIB:] != bytes(4 * MIB)
    os.close(descriptor)
    line = one_line(m, "k/big", "no room")
    assert re.search(r"max_size|min_free", line)
    (m / "k/small").write_bytes(b"goes on")
    eventually(lambda: {"small", "big"} <= set(bucket.keys()))
    stored = bucket.get("big")
    assert stored == bytes(written), [n for n in range(40) if stored[n * MIB:][:MIB] != written[n * MIB:][:MIB]]


def test_read_only_store(mount, lasting_key):
    lasting_key.put_behind("f", b"x")
    m = mount({"store k": {**lasting_key.options, "read_only": "yes"}})
    assert (m / "k/f").read_bytes() == b"x"
    with fails_with(errno.EROFS):
        (m / "k/new").write_bytes(b"x")
    with fails_with(errno.EROFS):
        os.unlink(m / "k/f")
    with fails_with(errno.EROFS):
        os.mkdir(m / "k/d")
    with fails_with(errno.EROFS):
        os.rename(m / "k/f", m / "k/g")


def test_rename_across_keys_is_exdev(mount, bucket, folder):
    m = mount({"store a": {"backend": "memory"}, "store b": {"backend": "memory"}})
    (m / "a/f").write_bytes(b"x")
    with fails_with(errno.EXDEV):
        os.rename(m / "a/f", m / "b/f")
    run("mv", m / "a/f", m / "b/f")
    assert (m / "b/f").read_bytes() == b"x" and os.listdir(m / "a") == []


def test_the_top_directory_is_fixed(mount):
    m = mount({"store k": {"backend": "memory"}})
    for action in (lambda: (m / "x").write_bytes(b""), lambda: os.rmdir(m / "k"),
                   lambda: os.rename(m / "k", m / "l"), lambda: os.unlink(m / "k")):
        with pytest.raises(OSError):
            action()
    assert os.listdir(m / "k") == []


def test_local_store_that_goes_away(mount, folder):
    store = folder / "gone"
    store.mkdir()
    (store / "f").write_bytes(b"x")
    m = mount({"store k": {"backend": "local", "base_path": store, "cache.ttl": "1s"},
               "store other": {"backend": "memory"}})
    assert (m / "k/f").read_bytes() == b"x"
    (store / "f").unlink()
    store.rmdir()
    with pytest.raises(OSError):
        (m / "k/f").read_bytes()
    (m / "other/g").write_bytes(b"fine")
    assert (m / "other/g").read_bytes() == b"fine"


def test_local_store_obeys_its_permissions(mount, folder):
    """A directory that the store may not read is EACCES, not empty."""
    if os.getuid() == 0:
        store = folder / "denied"
        store.mkdir()
        run("chattr", "+i", store)
        try:
            m = mount({"store k": {"backend": "local", "base_path": store}})
            with fails_with(errno.EACCES, errno.EPERM):
                (m / "k/f").write_bytes(b"x")
        finally:
            run("chattr", "-i", store)


def test_removed_while_its_upload_is_on_its_way(mount):
    """A server does what it was sent completely, whether we wait for its answer or not: the name must not come back."""
    fake = FakeS3().start()
    m = mount({"store k": {**fake.store(), "write": "back"}})
    (m / "k/before").write_bytes(b"the server has been tried")
    eventually(lambda: list(fake.objects) == [b"before"])
    assert not (m / "k/f").exists()  # or creating it would be slow
    arrived, answer = threading.Event(), threading.Event()

    def before(line: str) -> None:
        if line == "PUT /fake/f":
            arrived.set()
            answer.wait(100)

    fake.before = before
    (m / "k/f").write_bytes(b"on its way")
    eventually(arrived.is_set)
    (m / "k/f").unlink()
    assert list(fake.objects) == [b"before"]
    answer.set()
    eventually(lambda: b"f" in fake.ever, what="the server has not got to it")
    eventually(lambda: list(fake.objects) == [b"before"])
    m.stop()
    fake.stop()


def edit(path, data: bytes) -> bytes:
    """Three places of it; gives what it is then."""
    expected = bytearray(data)
    descriptor = os.open(path, os.O_RDWR)
    for at in (10, len(data) // 2, len(data) - 50):
        os.pwrite(descriptor, b"edited", at)
        expected[at:at + 6] = b"edited"
    os.close(descriptor)
    return bytes(expected)


@pytest.mark.parametrize("backend", ["local", "sftp", "exec"])
def test_an_edit_in_place_keeps_what_a_new_file_would_lose(mount, folder, backend, request):
    """Other hard links, and an ACL."""
    key = make_key(backend, folder, None if backend == "local" else request.getfixturevalue("sshd"))
    store, old = key.folder, pattern(100_000)
    for name in ("linked", "acl"):
        (store / name).write_bytes(old)
    os.link(store / "linked", store / "other")
    acl = bytes.fromhex("0200000001000600ffffffff02000400feff000004000400ffffffff10000600ffffffff20000400ffffffff")
    os.setxattr(store / "acl", "system.posix_acl_access", acl)
    m = mount({"store k": key.options})
    assert edit(m / "k/linked", old) == (store / "other").read_bytes() == (store / "linked").read_bytes()
    new = edit(m / "k/acl", old)
    assert (store / "acl").read_bytes() == new
    assert os.getxattr(store / "acl", "system.posix_acl_access") == acl
