"""user.tag.NAME: the tags of an S3 object, and what keeps them."""

import errno
import os
import shutil

import pytest

from harness.data import pattern
from harness.tools import fails_with, run
from servers import Fault
from servers.fakes3 import FakeS3

MIB = 1024 * 1024


class Tags:
    """The same questions to MinIO and to a server that does not tell how many tags there are."""

    def __init__(self, bucket=None, fake=None):
        self.bucket, self.fake = bucket, fake

    def get(self, key: str) -> dict[str, str]:
        if self.fake:
            import urllib.parse
            return dict(urllib.parse.parse_qsl(self.fake.objects[key.encode()].tags, keep_blank_values=True))
        found = self.bucket.s3.get_object_tagging(Bucket=self.bucket.name, Key=key)["TagSet"]
        return {tag["Key"]: tag["Value"] for tag in found}

    def put(self, key: str, data: bytes) -> None:
        """An object of somebody else with two tags."""
        if self.fake:
            self.fake.put(key.encode(), data).tags = "team=blue%20one&empty="
        else:
            self.bucket.put(key, data, Tagging="team=blue%20one&empty=")

    def store(self) -> dict[str, str]:
        return (self.fake or self.bucket).store(**{"cache.ttl": "1s", "multipart_threshold": "6MiB",
                                                   "multipart_chunksize": "5MiB"})


BOTH = {"team": "blue one", "empty": ""}


@pytest.fixture(params=["minio", "silent"])
def tags(request):
    if request.param == "minio":
        yield Tags(bucket=request.getfixturevalue("bucket"))
        return
    fake = FakeS3().start()
    yield Tags(fake=fake)
    fake.stop()


@pytest.fixture
def root(mount, tags):
    return mount({"store k": tags.store()}) / "k"


def test_tags_of_others_are_attributes(root, tags):
    tags.put("f", b"x")
    assert sorted(os.listxattr(root / "f")) == ["user.tag.empty", "user.tag.team"]
    assert os.getxattr(root / "f", "user.tag.team") == b"blue one"
    assert os.getxattr(root / "f", "user.tag.empty") == b""
    with fails_with(errno.ENODATA):
        os.getxattr(root / "f", "user.tag.none")


def test_tags_are_set_and_removed(root, tags):
    (root / "f").write_bytes(b"content")
    version = os.getxattr(root / "f", "user.etag")
    os.setxattr(root / "f", "user.tag.a", b"1")
    os.setxattr(root / "f", "user.tag.sp ace", b"value +-=._:/@")
    assert tags.get("f") == {"a": "1", "sp ace": "value +-=._:/@"}
    assert os.getxattr(root / "f", "user.tag.sp ace").decode() == "value +-=._:/@"
    os.setxattr(root / "f", "user.tag.a", b"2", os.XATTR_REPLACE)
    with fails_with(errno.EEXIST):
        os.setxattr(root / "f", "user.tag.a", b"3", os.XATTR_CREATE)
    with fails_with(errno.ENODATA):
        os.setxattr(root / "f", "user.tag.b", b"3", os.XATTR_REPLACE)
    os.removexattr(root / "f", "user.tag.sp ace")
    with fails_with(errno.ENODATA):
        os.removexattr(root / "f", "user.tag.sp ace")
    assert tags.get("f") == {"a": "2"} and os.listxattr(root / "f") == ["user.tag.a"]
    assert os.getxattr(root / "f", "user.etag") == version
    os.removexattr(root / "f", "user.tag.a")
    assert tags.get("f") == {} and os.listxattr(root / "f") == []
    assert (root / "f").read_bytes() == b"content"


def test_limits_of_tags(root, tags):
    (root / "f").write_bytes(b"x")
    for number in range(10):
        os.setxattr(root / "f", f"user.tag.t{number}", b"v" * 256)
    with fails_with(errno.E2BIG):
        os.setxattr(root / "f", "user.tag.t10", b"v")
    os.removexattr(root / "f", "user.tag.t0")
    with fails_with(errno.E2BIG):
        os.setxattr(root / "f", "user.tag.t0", b"v" * 257)
    with fails_with(errno.E2BIG):
        os.setxattr(root / "f", "user.tag." + "n" * 129, b"v")
    with fails_with(errno.EINVAL):
        os.setxattr(root / "f", "user.tag.t0", b"\xff\x00")
    os.setxattr(root / "f", "user.tag." + "n" * 128, b"v")
    assert len(tags.get("f")) == 10
    (root / "d").mkdir()
    with fails_with(errno.EOPNOTSUPP):
        os.setxattr(root / "d", "user.tag.a", b"1")


@pytest.mark.parametrize("size", [100, 13 * MIB], ids=["small", "parts"])
def test_tags_are_kept(root, tags, size):
    """By whatever is done to the file through the mount."""
    data = pattern(size)
    tags.put("f", data)
    (root / "f").chmod(0o600)
    assert tags.get("f") == BOTH, "chmod"
    os.setxattr(root / "f", "user.colour", b"blue")
    assert tags.get("f") == BOTH, "setxattr"
    (root / "f").rename(root / "g")
    assert tags.get("g") == BOTH, "rename"
    with open(root / "g", "r+b") as file:
        file.seek(size // 2)
        file.write(b"edited")
    assert tags.get("g") == BOTH, "edit"
    with open(root / "g", "ab") as file:
        file.write(b"more")
    assert tags.get("g") == BOTH, "append"
    with open(root / "g", "wb", buffering=0) as file:
        for at in range(0, size, MIB):
            file.write(data[at:at + MIB])
    assert tags.get("g") == BOTH, "rewrite"
    os.truncate(root / "g", 10)
    assert tags.get("g") == BOTH, "truncate"
    (root / "d").mkdir()
    (root / "g").rename(root / "d/f")
    (root / "d").rename(root / "e")
    assert tags.get("e/f") == BOTH, "rename of a directory"
    os.truncate(root / "e/f", 0)
    (root / "e/f").rename(root / "empty")
    assert tags.get("empty") == BOTH, "rename of an empty file"
    (root / "empty").write_bytes(b"x")
    assert (root / "empty").read_bytes() == b"x" and os.getxattr(root / "empty", "user.colour") == b"blue"


def test_tools_copy_tags(root, tags, folder):
    tags.put("f", pattern(1000))
    run("cp", "-p", "--preserve=all", root / "f", root / "g")
    assert tags.get("g") == BOTH
    run("rsync", "-aX", f"{root}/f", f"{root}/h")
    assert tags.get("h") == BOTH
    shutil.copy2(root / "f", root / "i")
    assert tags.get("i") == BOTH


def test_tags_of_a_file_that_is_being_written(root, tags):
    """They are stored with it, and publish nothing before the close."""
    tags.put("old", b"old content")
    with open(root / "new", "wb", buffering=0) as new, open(root / "old", "r+b", buffering=0) as old:
        new.write(b"half")
        old.write(b"OLD")
        os.setxattr(root / "new", "user.tag.a", b"1")
        os.setxattr(root / "new", "user.plain", b"2")
        os.setxattr(root / "new", "user.tag.b", b"3")
        os.removexattr(root / "new", "user.tag.a")
        os.setxattr(root / "old", "user.tag.a", b"1")
        os.removexattr(root / "old", "user.tag.empty")
        assert sorted(os.listxattr(root / "old")) == ["user.tag.a", "user.tag.team"]
        assert tags.get("old") == BOTH
        new.write(b" and half")
    assert tags.get("new") == {"b": "3"} and os.getxattr(root / "new", "user.plain") == b"2"
    assert tags.get("old") == {"team": "blue one", "a": "1"}
    assert (root / "old").read_bytes() == b"OLD content"
    assert sorted(os.listxattr(root / "new")) == ["user.plain", "user.tag.b"]


def test_tags_of_a_streamed_file(root, tags):
    data = pattern(20 * MIB)
    with open(root / "f", "wb", buffering=0) as file:
        for at in range(0, len(data), MIB):
            file.write(data[at:at + MIB])
        os.setxattr(root / "f", "user.tag.late", b"1")
    assert tags.get("f") == {"late": "1"}
    assert (root / "f").read_bytes() == data


def test_staged_tags_survive_a_crash(mount, bucket, proxy):
    m = mount({"store k": {**bucket.store(endpoint_url=proxy.endpoint), "retries": "0", "timeout": "30s"}})
    (m / "k/warm-up").write_bytes(b"x")
    bucket.put("f", b"old", Tagging="team=blue&gone=1")
    bucket.put("g", b"old", Tagging="team=blue")
    proxy.fault = Fault(status=500, only="^PUT")
    for name in ("f", "g"):
        with open(m / "k" / name, "wb", buffering=0) as file:
            file.write(b"new content")
            if name == "f":
                os.removexattr(m / "k/f", "user.tag.gone")
            with fails_with(errno.EIO):
                os.fsync(file.fileno())
            with fails_with(errno.EIO):
                file.close()
    m.crash()
    proxy.fault = None
    m.start()
    m.quayctl("sync")
    assert bucket.get("f") == bucket.get("g") == b"new content"
    assert Tags(bucket).get("f") == Tags(bucket).get("g") == {"team": "blue"}


def test_a_server_without_tags(mount):
    fake = FakeS3().start()
    try:
        fake.tagging = False
        root = mount({"store k": fake.store()}) / "k"
        (root / "f").write_bytes(b"x")
        with fails_with(errno.EOPNOTSUPP):
            os.setxattr(root / "f", "user.tag.a", b"1")
        assert os.listxattr(root / "f") == []
        (root / "f").write_bytes(b"rewritten")
        (root / "f").rename(root / "g")
        assert (root / "g").read_bytes() == b"rewritten"
        assert fake.count("tagging") <= 2
    finally:
        fake.stop()


def test_no_tags_cost_nothing(mount, bucket):
    """MinIO tells of tags by itself: rewriting and listing attributes of what has none asks for none."""
    m = mount({"store k": bucket.store()})
    bucket.put("f", b"x")
    before = bucket.minio.counts().get("GetObjectTagging", 0)
    (m / "k/f").write_bytes(b"rewritten")
    assert os.listxattr(m / "k/f") == []
    (m / "k/f").rename(m / "k/g")
    assert bucket.minio.counts().get("GetObjectTagging", 0) == before


def test_tags_elsewhere_are_plain_attributes(mount, folder):
    (folder / "store").mkdir()
    m = mount({"store k": {"backend": "local", "base_path": folder / "store"}, "store m": {"backend": "memory"}})
    for key in "km":
        (m / key / "f").write_bytes(b"x")
        os.setxattr(m / key / "f", "user.tag.a", b"\xff" * 300)
        assert os.getxattr(m / key / "f", "user.tag.a") == b"\xff" * 300
        (m / key / "f").write_bytes(b"y")
        assert os.listxattr(m / key / "f") == ["user.tag.a"]
