"""S3 as others speak it: moto and versitygw beside MinIO, each a key of one mount."""

import errno
import os
import shutil

import pytest

from harness.data import pattern
from harness.tools import content, eventually, sample_tree, tree
from servers import Moto, VersityGW
from servers.minio import Bucket

KIB, MIB = 1024, 1024 * 1024
SERVERS = {"moto": Moto, "versitygw": VersityGW}
DIALECTS = ["moto", "versitygw"]


@pytest.fixture(scope="module")
def servers(tmp_path_factory, minio):
    """Started when first asked for."""
    started = {"minio": minio}

    def get(name: str):
        if name not in started:
            started[name] = SERVERS[name](tmp_path_factory.mktemp(name)).start()
        return started[name]

    yield get
    for name, server in started.items():
        if name != "minio":
            server.stop()


@pytest.fixture(params=DIALECTS)
def other(request, servers) -> Bucket:
    return Bucket(servers(request.param))


def test_three_dialects_in_one_mount(mount, servers, folder):
    """A tree goes round by cp, rename and remount, and is the same at the end."""
    buckets = {name: Bucket(servers(name)) for name in ("minio", *DIALECTS)}
    m = mount({f"store {name}": b.store() for name, b in buckets.items()})
    sample_tree(folder / "tree")
    at = folder / "tree"
    for name in buckets:
        shutil.copytree(at, m / name / "copy", symlinks=True)
        os.rename(m / name / "copy", m / name / "moved")
        at = m / name / "moved"
    m.remount()
    for name, bucket in buckets.items():
        assert tree(m / name / "moved") == tree(folder / "tree"), name
        assert content(m / name / "moved") == content(folder / "tree"), name
        assert not bucket.keys("copy")
    m.quayctl("rm", "-r", *(f"{name}:moved" for name in buckets))
    for name, bucket in buckets.items():
        assert os.listdir(m / name) == [] and bucket.keys() == [], name


def test_objects_of_others(mount, other):
    data = pattern(3 * MIB + 1)
    for key in ("a", "deep/er/b", "with space+and%25/\u00e9", "deep-not/x"):
        other.put(key, data)
    m = mount({"store k": other.store()})
    found = sorted(os.path.relpath(os.path.join(at, n), m / "k") for at, _, names in os.walk(m / "k") for n in names)
    assert found == ["a", "deep-not/x", "deep/er/b", "with space+and%25/\u00e9"]
    for name in found:
        assert (m / "k" / name).read_bytes() == data
    with pytest.raises(FileNotFoundError):
        (m / "k/deep/none").read_bytes()
    with open(m / "k/a", "rb") as f:
        f.seek(2 * MIB + 7)
        assert f.read(100) == data[2 * MIB + 7:2 * MIB + 107]


def test_many_parts_and_edits(mount, other):
    """Upload in parts, an edit that copies the rest on the server, append, truncate."""
    data = bytearray(pattern(23 * MIB + 11))
    m = mount({"store k": other.store(multipart_threshold="8MiB", multipart_chunksize="5MiB")})
    (m / "k/big").write_bytes(data)
    assert other.get("big") == data
    with open(m / "k/big", "r+b") as f:
        f.seek(12 * MIB)
        f.write(b"edited")
    data[12 * MIB:12 * MIB + 6] = b"edited"
    assert other.get("big") == data
    with open(m / "k/big", "ab") as f:
        f.write(b"more")
    data += b"more"
    assert other.get("big") == data
    os.truncate(m / "k/big", 6 * MIB + 1)
    assert other.get("big") == data[:6 * MIB + 1]
    m.remount()
    assert (m / "k/big").read_bytes() == data[:6 * MIB + 1]
    assert other.uploads() == []


def test_attributes(mount, other):
    m = mount({"store k": other.store()})
    (m / "k/f").write_bytes(b"x")
    os.chmod(m / "k/f", 0o640)
    os.utime(m / "k/f", ns=(1_700_000_000_123_456_789, 1_600_000_000_987_654_321))
    os.setxattr(m / "k/f", "user.colour", "bl\u00fce".encode())
    os.symlink("f", m / "k/l")
    m.remount()
    st = os.stat(m / "k/f")
    assert st.st_mode & 0o777 == 0o640 and st.st_mtime_ns == 1_600_000_000_987_654_321
    assert os.getxattr(m / "k/f", "user.colour") == "bl\u00fce".encode()
    assert os.readlink(m / "k/l") == "f" and (m / "k/l").read_bytes() == b"x"


def test_a_listing_of_pages(mount, other):
    for number in range(1105):
        other.put(f"d/f{number:05}", b"")
    m = mount({"store k": other.store()})
    assert os.listdir(m / "k/d") == [f"f{number:05}" for number in range(1105)]


def test_changes_of_others_are_seen_and_never_overwritten(mount, other):
    other.put("f", b"old")
    m = mount({"store k": other.store()})
    assert (m / "k/f").read_bytes() == b"old"
    other.put("f", b"theirs")
    eventually(lambda: (m / "k/f").read_bytes() == b"theirs")
    fd = os.open(m / "k/f", os.O_RDWR)
    os.write(fd, b"OURS")
    other.put("f", b"between")
    told = 0
    for end in (os.fsync, os.close):
        try:
            end(fd)
        except OSError as e:
            told = e.errno
    assert told == errno.ESTALE
    assert other.get("f") == b"between"  # both are there
    [conflict] = [key for key in other.keys() if key.startswith("f.conflict-")]
    assert other.get(conflict) == b"OURSrs"


def test_create_exclusively(mount, other, folder):
    one = mount({"store k": other.store()})
    two = mount({"store k": other.store(), "cache": {"dir": str(folder / "cache2")}}, name="m2")
    for number in range(5):
        made = 0
        for m in (one, two):
            try:
                os.close(os.open(m / f"k/lock{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                made += 1
            except FileExistsError:
                pass
        assert made == 1
