"""Attributes that two clients change, each knowing those of a while ago; and as many of them as a store takes."""

import errno
import os
import stat
import time

import pytest

from harness.backends import PLACES, make_key
from harness.tools import fails_with

ROOM = {"s3": 2048, "gcs": 8192, "azure": 8192}


def attributes(path):
    return {name: os.getxattr(path, name) for name in os.listxattr(path) if name != "user.etag"}


def key_at(request, folder, backend):
    return make_key(backend, folder, request.getfixturevalue(PLACES[backend]))


@pytest.fixture(params=ROOM)
def two(request, mount, folder):
    """A file through two mounts of one store, and both have looked at it for an hour."""
    section = {**key_at(request, folder, request.param).options, "cache.ttl": "1h"}
    one = mount({"store k": section}) / "k/f"
    other = mount({"store k": section, "cache": {"dir": folder / "cache2"}}, name="other") / "k/f"
    one.write_bytes(b"content")
    os.setxattr(one, "user.old", b"0")
    assert os.getxattr(other, "user.old") == b"0"
    return one, other


def test_two_clients_change_attributes(two):
    one, other = two
    os.setxattr(one, "user.meta.a", b"1")
    os.setxattr(one, "user.A", b"1")
    os.removexattr(one, "user.old")
    one.chmod(0o600)
    os.utime(one, (5, 6))
    os.setxattr(other, "user.meta.b", b"2")
    os.setxattr(other, "user.B", b"2")
    assert attributes(other) == {"user.A": b"1", "user.B": b"2", "user.meta.a": b"1", "user.meta.b": b"2"}
    assert stat.S_IMODE(other.stat().st_mode) == 0o600 and other.stat().st_mtime == 6
    with open(other, "rb"):  # what was learnt by the open is old, too
        os.setxattr(one, "user.C", b"3")
        os.setxattr(other, "user.B", b"4")
        other.chmod(0o640)
    assert attributes(other) == {"user.A": b"1", "user.B": b"4", "user.C": b"3", "user.meta.a": b"1",
                                 "user.meta.b": b"2"}
    assert stat.S_IMODE(other.stat().st_mode) == 0o640 and other.stat().st_mtime == 6


def test_what_another_client_has_set_decides(two):
    """XATTR_CREATE, XATTR_REPLACE and removexattr ask the store."""
    one, other = two
    os.setxattr(one, "user.new", b"1")
    os.removexattr(one, "user.old")
    with fails_with(errno.EEXIST):
        os.setxattr(other, "user.new", b"2", os.XATTR_CREATE)
    os.setxattr(one, "user.late", b"1")
    os.setxattr(other, "user.late", b"2", os.XATTR_REPLACE)
    os.setxattr(one, "user.later", b"1")
    os.removexattr(other, "user.later")
    with fails_with(errno.ENODATA):
        os.removexattr(other, "user.old")


@pytest.mark.parametrize("backend", ROOM)
def test_a_change_of_mode_keeps_the_time_of_what_is_there(request, mount, folder, backend):
    """Not that of the version which was there when we looked: an object of others has no stored time."""
    key = key_at(request, folder, backend)
    path = mount({"store k": {**key.options, "cache.ttl": "1h"}}) / "k/f"
    key.put_behind("f", b"old")
    before = path.stat().st_mtime
    time.sleep(1.1)
    key.put_behind("f", b"new content")
    path.chmod(0o640)
    assert path.stat().st_mtime >= before + 1 and path.read_bytes() == b"new content"


@pytest.mark.parametrize("backend", ROOM)
def test_more_attributes_than_the_store_takes(request, mount, folder, backend):
    """Refused when they are set, also of a file that is being written: it could not be stored with them."""
    key = key_at(request, folder, backend)
    m = mount({"store k": key.options})
    f, half, more = m / "k/f", b"x" * (ROOM[backend] // 2), b"x" * (ROOM[backend] * 3 // 2)
    f.write_bytes(b"stored")
    os.setxattr(f, "user.meta.a", half)
    with open(f, "r+b", buffering=0) as edited, open(m / "k/g", "wb", buffering=0) as new:
        for value in (half, more):
            with fails_with(errno.E2BIG):
                os.setxattr(f, "user.meta.b", value)
        edited.write(b"edited")
        new.write(b"new")
        os.setxattr(new.fileno(), "user.meta.a", half)
        for file in (edited, new):
            for value in (half, more):
                with fails_with(errno.E2BIG):
                    os.setxattr(file.fileno(), "user.meta.b", value)
            os.setxattr(file.fileno(), "user.c", b"1")
            os.fchmod(file.fileno(), 0o604)
    assert key.behind("f") == b"edited" and key.behind("g") == b"new"
    m.remount()
    for name in "fg":
        assert attributes(m / "k" / name) == {"user.meta.a": half, "user.c": b"1"}
        assert stat.S_IMODE((m / "k" / name).stat().st_mode) == 0o604


def test_the_last_attribute_that_fits(mount, bucket):
    """What can be set while a file is written is stored with it, whatever time it has then."""
    f = mount({"store k": bucket.store()}) / "k/f"
    with open(f, "wb", buffering=0) as file:
        os.utime(file.fileno(), (5, 5))
        size = 2048
        while size:
            try:
                os.setxattr(file.fileno(), "user.meta.a", b"x" * size)
                break
            except OSError as error:
                assert error.errno == errno.E2BIG
                size -= 1
        file.write(b"content")
    assert bucket.get("f") == b"content" and len(os.getxattr(f, "user.meta.a")) == size > 1800


def test_an_edit_of_what_has_no_room_for_its_time(mount, bucket):
    """Metadata of others may fill what S3 takes; the content is stored all the same, with the time of its upload."""
    metadata = {"a": "x" * 2030}
    for name in ("edited", "appended", "large"):
        bucket.put(name, b"old" if name != "large" else b"x" * (6 << 20), Metadata=metadata)
    bucket.put("mode", b"old", Metadata={"a": "x" * 2010})
    m = mount({"store k": bucket.store(multipart_threshold="5MiB", multipart_chunksize="5MiB")})
    began = int(time.time())
    (m / "k/edited").write_bytes(b"content")
    with open(m / "k/appended", "ab") as file:
        file.write(b" and new")
    (m / "k/large").write_bytes(b"y" * (12 << 20))
    with open(m / "k/mode", "ab", buffering=0) as file:
        file.write(b" and new")
        os.fchmod(file.fileno(), 0o604)  # for which there is room
    assert bucket.get("mode") == b"old and new" and stat.S_IMODE((m / "k/mode").stat().st_mode) == 0o604
    assert bucket.get("edited") == b"content" and bucket.get("appended") == b"old and new"
    assert bucket.get("large") == b"y" * (12 << 20)
    for name in ("edited", "appended", "large"):
        assert bucket.head(name)["Metadata"] == metadata
        assert began - 2 <= (m / "k" / name).stat().st_mtime <= time.time() + 2
