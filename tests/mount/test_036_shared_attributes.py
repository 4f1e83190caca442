"""Attributes that two clients change, each knowing those of a while ago."""

import errno
import os
import stat
import time

import pytest

from harness.backends import PLACES, make_key
from harness.tools import fails_with

SERVERS = ["s3", "gcs", "azure"]


def attributes(path):
    return {name: os.getxattr(path, name) for name in os.listxattr(path) if name != "user.etag"}


def key_at(request, folder, backend):
    return make_key(backend, folder, request.getfixturevalue(PLACES[backend]))


@pytest.fixture(params=SERVERS)
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


@pytest.mark.parametrize("backend", SERVERS)
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
