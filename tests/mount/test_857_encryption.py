"""S3: a server that really encrypts (MinIO with a KMS, by TLS): SSE-S3, SSE-KMS, SSE-C."""

import base64
import errno
import os
import subprocess

import pytest

from harness.data import pattern
from harness.tools import fails_with, run
from servers.minio import Bucket, SecureMinIO, VersionedBucket

MIB = 1024 * 1024
KEY, OTHER = (base64.b64encode(bytes(range(n, n + 32))).decode() for n in (0, 100))
KINDS = {"SSE-S3": {"sse": "AES256"}, "SSE-KMS": {"sse": "aws:kms", "sse_kms_key_id": SecureMinIO.kms_key},
         "SSE-C": {"sse_customer_key": KEY}}
PARTS = {"multipart_threshold": "6MiB", "multipart_chunksize": "5MiB"}


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    server = SecureMinIO(tmp_path_factory.mktemp("secure-minio"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def vault(secure) -> Bucket:
    return Bucket(secure)


def raw_key(key: str) -> dict:
    return {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": base64.b64decode(key)}


class Sealed:
    """What another client finds, with the key where one is needed; and that it is encrypted."""

    def __init__(self, bucket: Bucket, kind: str):
        self.bucket, self.kind = bucket, kind
        self.more = raw_key(KEY) if kind == "SSE-C" else {}

    def get(self, key: str) -> bytes:
        found = self.bucket.s3.get_object(Bucket=self.bucket.name, Key=key, **self.more)
        if self.kind == "SSE-C":
            assert found["SSECustomerAlgorithm"] == "AES256"
        else:
            assert found["ServerSideEncryption"] == {"SSE-S3": "AES256", "SSE-KMS": "aws:kms"}[self.kind]
        return found["Body"].read()

    def put(self, key: str, data: bytes) -> None:
        extra = dict(self.more)
        if self.kind == "SSE-KMS":
            extra = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": SecureMinIO.kms_key}
        elif self.kind == "SSE-S3":
            extra = {"ServerSideEncryption": "AES256"}
        self.bucket.put(key, data, **extra)


@pytest.fixture(params=list(KINDS))
def sealed(request, vault) -> Sealed:
    return Sealed(vault, request.param)


@pytest.fixture
def m(mount, sealed):
    return mount({"store k": sealed.bucket.store(**KINDS[sealed.kind], **PARTS, **{"cache.ttl": "1s"})})


def test_written_and_read_back(m, sealed):
    small, big = pattern(70_001, 1), pattern(17 * MIB + 3, 2)
    (m / "k/empty").write_bytes(b"")
    (m / "k/small").write_bytes(small)
    (m / "k/big").write_bytes(big)
    assert (sealed.get("empty"), sealed.get("small"), sealed.get("big")) == (b"", small, big)
    assert {n: (m / "k" / n).stat().st_size for n in os.listdir(m / "k")} == {
        "empty": 0, "small": len(small), "big": len(big)}  # not that of what is stored
    m.quayctl("cache", "clear")
    m.remount()
    with open(m / "k/big", "rb", buffering=0) as file:
        for at, n in ((0, 10), (5 * MIB - 3, 7), (11 * MIB + 1, 3 * MIB), (len(big) - 5, 100), (64 * 1024 - 1, 2)):
            assert os.pread(file.fileno(), n, at) == big[at:at + n]
    assert (m / "k/small").read_bytes() == small
    assert (m / "k/big").read_bytes() == big
    assert (m / "k/empty").read_bytes() == b""


def test_what_others_write(m, sealed):
    """Parts of another client, a version that is not an MD5, and its successor."""
    sealed.put("f", b"one")
    assert (m / "k/f").read_bytes() == b"one"
    sealed.put("f", b"three")
    assert (m / "k/f").read_bytes() == b"three"
    assert (m / "k/f").stat().st_size == 5
    file = os.open(m / "k/f", os.O_WRONLY)
    os.write(file, b"mine ")
    sealed.put("f", b"theirs")
    with fails_with(errno.ESTALE):
        os.close(file)
    assert sealed.get("f") == b"theirs"
    (copy,) = [n for n in os.listdir(m / "k") if n.startswith("f.conflict")]
    assert sealed.get(copy) == b"mine "


def test_edited_in_place(m, sealed):
    """Only what has changed goes up: the server copies encrypted parts."""
    data = bytearray(pattern(23 * MIB, 3))
    (m / "k/f").write_bytes(data)
    m.remount()
    sent = m.metric("quayfs_backend_written_bytes_total", key="k")
    with open(m / "k/f", "r+b") as file:
        file.seek(12 * MIB + 7)
        file.write(b"edited")
    data[12 * MIB + 7:12 * MIB + 13] = b"edited"
    assert m.metric("quayfs_backend_written_bytes_total", key="k") - sent <= 6 * MIB
    assert sealed.get("f") == bytes(data)
    with open(m / "k/f", "ab") as file:
        file.write(b"more")
    assert sealed.get("f") == bytes(data) + b"more"
    os.truncate(m / "k/f", 9 * MIB)
    assert sealed.get("f") == bytes(data[:9 * MIB])
    m.quayctl("cache", "clear")
    m.remount()
    assert (m / "k/f").read_bytes() == bytes(data[:9 * MIB])


def test_copied_moved_and_described(m, secure, sealed):
    small, big = pattern(1000, 4), pattern(11 * MIB, 5)
    (m / "k/d").mkdir()
    (m / "k/d/small").write_bytes(small)
    (m / "k/d/big").write_bytes(big)
    m.remount()
    gets = secure.count("GetObject")
    m.quayctl("cp", "k:d/big", "k:copy")
    (m / "k/d/small").rename(m / "k/moved")
    (m / "k/d").rename(m / "k/e")
    run("cp", m / "k/e/big", m / "k/cp")  # copy_file_range
    assert secure.count("GetObject") == gets, "all by the server"
    os.chmod(m / "k/moved", 0o640)
    os.setxattr(m / "k/moved", "user.colour", b"blue")
    os.setxattr(m / "k/moved", "user.tag.team", b"red")
    assert [sealed.get(n) for n in ("copy", "moved", "e/big", "cp")] == [big, small, big, big]
    m.remount()
    assert (m / "k/moved").stat().st_mode & 0o777 == 0o640
    assert os.getxattr(m / "k/moved", "user.colour") == b"blue"
    assert os.getxattr(m / "k/moved", "user.tag.team") == b"red"
    assert (m / "k/moved").read_bytes() == small
    assert sorted(os.listdir(m / "k")) == ["copy", "cp", "e", "moved"]


def test_a_second_read_comes_from_the_cache(m, secure, sealed):
    """The version of the listing is that of the object, or everything would be read again and again."""
    data = pattern(7 * MIB, 6)
    for name in ("a", "b"):
        sealed.put(name, data)
        assert (m / "k" / name).read_bytes() == data
    m.remount()
    gets = secure.count("GetObject")
    assert sorted(os.listdir(m / "k")) == ["a", "b"]
    assert (m / "k/a").read_bytes() == data and (m / "k/b").read_bytes() == data
    assert secure.count("GetObject") == gets


def test_older_versions(mount, secure):
    bucket = VersionedBucket(secure)
    m = mount({"store k": bucket.store(sse_customer_key=KEY)})
    (m / "k/f").write_bytes(b"one")
    (m / "k/f").write_bytes(b"two")
    shelf = m / "k/f@versions"
    first = sorted(os.listdir(shelf))[0]
    assert (shelf / first).read_bytes() == b"one"
    m.quayctl("cp", f"k:f@versions/{first}", "k:f")
    assert (m / "k/f").read_bytes() == b"one"


@pytest.mark.parametrize("options, words", [
    ({"sse_customer_key": OTHER}, "sse_customer_key is not the object's key"), ({}, "set sse_customer_key")])
def test_a_wrong_key_is_told(mount, vault, options, words):
    sealed = Sealed(vault, "SSE-C")
    sealed.put("d/f", b"secret")
    m = mount({"store k": vault.store(**options, retries="0")})
    assert os.listdir(m / "k/d") == ["f"]
    for attempt in (lambda: (m / "k/d/f").read_bytes(), lambda: os.chmod(m / "k/d/f", 0o600), lambda: (m / "k/d/f").rename(m / "k/g"),
                    lambda: open(m / "k/d/f", "ab")):
        with fails_with(errno.EACCES):
            attempt()
    assert words in m.log() and OTHER not in m.whole_log()
    assert sealed.get("d/f") == b"secret"
    failed = m.quayctl("cp", "k:d/f", "k:g", check=False)
    assert failed.returncode != 0 and words in failed.stderr, failed.stderr


def test_a_key_for_what_is_not_encrypted(mount, vault):
    vault.put("plain", b"plain")
    m = mount({"store k": vault.store(sse_customer_key=KEY, retries="0")})
    with fails_with(errno.EACCES, errno.EIO):
        (m / "k/plain").read_bytes()
    assert "sse_customer_key" in m.log()


def test_urls(mount, sealed, secure):
    """Of what our key encrypts there is no URL that others can use without it."""
    m = mount({"store k": sealed.bucket.store(**KINDS[sealed.kind])})
    (m / "k/f").write_bytes(b"by url")
    done = m.quayctl("sign", "k/f", check=False)
    if sealed.kind == "SSE-C":
        assert done.returncode != 0 and "sse_customer_key" in done.stderr, done.stderr
        return
    got = subprocess.run(["curl", "-sS", "--fail", "--cacert", str(secure.ca_file), done.stdout.strip()],
                         capture_output=True, timeout=110)
    assert got.stdout == b"by url", got.stderr


def test_an_unknown_kms_key(mount, vault):
    m = mount({"store k": vault.store(sse="aws:kms", sse_kms_key_id="no-such-key", retries="0")})
    with pytest.raises(OSError):
        (m / "k/f").write_bytes(b"x")
    assert "404 kms:KeyNotFound: key with given key ID does not exist" in m.log()
    m.stop(check=False)
