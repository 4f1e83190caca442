"""S3: temporary keys from STS, ECS and EC2, encryption at the server, requester pays."""

import base64
import errno
import os

import pytest

from harness.tools import call, eventually, fails_with
from servers.fakecloud import FakeCloud
from servers.fakes3 import FakeS3

ROLE = "arn:aws:iam::000000000000:role/quay"


@pytest.fixture
def cloud(minio):
    made = FakeCloud(minio)
    yield made
    made.stop()


def nameless(bucket, **more):
    """The store without keys."""
    return {name: value for name, value in bucket.store(**more).items() if "access_key" not in name}


def environment(folder, **more):
    return {"HOME": str(folder), "AWS_EC2_METADATA_DISABLED": "true", **more}


def works(m, bucket):
    (m / "k/f").write_bytes(b"by temporary keys")
    assert bucket.get("f") == b"by temporary keys" and (m / "k/f").read_bytes() == b"by temporary keys"


def test_assume_role(mount, bucket, folder):
    """MinIO's own STS checks our signature."""
    m = mount({"store k": bucket.store(role_arn=ROLE, sts_endpoint_url=bucket.minio.endpoint)})
    works(m, bucket)
    assert f"keys from AssumeRole of {ROLE}" in m.quayctl("doctor", "k").stdout
    assert "X-Amz-Security-Token" in m.quayctl("sign", "k/f").stdout
    m.stop()
    (folder / ".aws").mkdir()
    (folder / ".aws/config").write_text(f"[profile p]\nrole_arn = {ROLE}\nsource_profile = q\n")
    (folder / ".aws/credentials").write_text(
        f"[q]\naws_access_key_id = {bucket.minio.user}\naws_secret_access_key = {bucket.minio.password}\n")
    m = mount({"store k": nameless(bucket, profile="p", sts_endpoint_url=bucket.minio.endpoint)},
              env=environment(folder))
    works(m, bucket)
    m.stop()
    m = mount({"store k": bucket.store(role_arn=ROLE, sts_endpoint_url=bucket.minio.endpoint,
                                       secret_access_key="wrong", retries=0)})
    with fails_with(errno.EACCES):
        os.listdir(m / "k")
    done = m.quayctl("doctor", "k", check=False)
    assert "AssumeRole of" in done.stderr and "signature" in done.stderr


def test_web_identity(mount, bucket, cloud, folder):
    (folder / "token").write_text(cloud.identity + "\n")
    m = mount({"store k": nameless(bucket)}, env=environment(
        folder, AWS_ROLE_ARN=ROLE, AWS_WEB_IDENTITY_TOKEN_FILE=str(folder / "token"),
        AWS_ENDPOINT_URL_STS=cloud.endpoint))
    works(m, bucket)
    assert cloud.fetched == 1
    m.stop()
    (folder / "token").write_text("forged")
    m.start()
    with fails_with(errno.EACCES):
        os.listdir(m / "k")
    log = m.log()
    assert "InvalidIdentityToken: no such token" in log and "forged" not in log


def test_container(mount, bucket, cloud, folder):
    (folder / "token").write_text("ecs-secret\n")
    m = mount({"store k": nameless(bucket)}, env=environment(
        folder, AWS_CONTAINER_CREDENTIALS_FULL_URI=cloud.endpoint + "/ecs/keys",
        AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=str(folder / "token")))
    works(m, bucket)
    assert cloud.requests == ["GET /ecs/keys"]


def test_instance(mount, bucket, cloud, folder):
    """Keys are fetched again before they expire; while the service is away, good ones are used on."""
    cloud.life = 2
    m = mount({"store k": nameless(bucket)}, env={
        "HOME": str(folder), "AWS_EC2_METADATA_SERVICE_ENDPOINT": cloud.endpoint})
    works(m, bucket)
    assert cloud.requests[0] == "PUT /latest/api/token" and cloud.fetched >= 1
    eventually(lambda: (m / "k/f").write_bytes(b"again") and cloud.fetched >= 2)
    cloud.life = 3600
    eventually(lambda: (m / "k/f").write_bytes(b"again") and 3600 in cloud.lives)
    (m / "k/f").write_bytes(b"they have arrived")
    cloud.broken = True
    (m / "k/f").write_bytes(b"with the keys of before")
    assert bucket.get("f") == b"with the keys of before"
    m.remount()
    with fails_with(errno.EACCES):
        os.listdir(m / "k")
    assert "metadata service: answered 500 InternalFailure: try later" in m.log()
    cloud.broken = False
    assert os.listdir(m / "k") == ["f"]


def headers_of(fake, method, path):
    return [h for m, p, h in fake.seen if m == method and path in p and "tagging" not in p]


@pytest.fixture
def fake():
    made = FakeS3().start()
    yield made
    made.stop()


def fake_store(fake, **more):
    return {"backend": "s3", "bucket": fake.bucket, "endpoint_url": fake.endpoint, "access_key_id": "a",
            "secret_access_key": "b", "multipart_threshold": "5M", "multipart_chunksize": "5M", **more}


def test_encryption_by_the_server(mount, fake):
    m = mount({"store k": fake_store(fake, sse="aws:kms", sse_kms_key_id="key-1", request_payer="yes")})
    (m / "k/small").write_bytes(b"x")
    (m / "k/large").write_bytes(bytes(6 << 20))
    m.quayctl("cp", "k:small", "k:copy")
    assert (m / "k/small").read_bytes() == b"x"
    sse, kms = "x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id"
    for method, path in (("PUT", "/small"), ("POST", "/large?uploads"), ("POST", "/copy?uploads")):
        (h,) = headers_of(fake, method, path)
        assert h.get(sse) == "aws:kms" and h.get(kms) == "key-1", (method, path, h)
    assert not any(sse in h for h in headers_of(fake, "PUT", "partNumber") + headers_of(fake, "GET", ""))
    assert all(h["x-amz-request-payer"] == "requester" for _, _, h in fake.seen)


def test_encryption_with_our_key(mount, fake, folder):
    key = base64.b64encode(bytes(range(32))).decode()
    (folder / "key").write_text(key + "\n")
    (folder / "key").chmod(0o600)
    m = mount({"store k": fake_store(fake, sse_customer_key_file=folder / "key")})
    (m / "k/small").write_bytes(b"x")
    (m / "k/large").write_bytes(bytes(6 << 20))
    m.quayctl("cp", "k:small", "k:copy")
    m.quayctl("cache", "clear")
    m.remount()
    assert (m / "k/small").read_bytes() == b"x"
    name = "server-side-encryption-customer-"
    for method, path in (("PUT", "/small"), ("POST", "/large?uploads"), ("PUT", "partNumber"),
                         ("GET", "/small"), ("POST", "/copy?uploads"), ("PUT", "/copy?partNumber")):
        found = headers_of(fake, method, path)
        assert found, (method, path)
        assert all(h.get(f"x-amz-{name}key") == key and h.get(f"x-amz-{name}algorithm") == "AES256" and
                   h.get(f"x-amz-{name}key-md5") == "tP/LI3N87DFaSk0aoqYgzg==" for h in found), (method, path)
    (copy,) = headers_of(fake, "PUT", "/copy?partNumber")
    assert copy[f"x-amz-copy-source-{name}key"] == key
    assert key not in m.whole_log()


@pytest.mark.parametrize("options, text", [
    ({"sse": "rot13"}, "sse"), ({"sse": "AES256", "sse_kms_key_id": "x"}, "needs sse = aws:kms"),
    ({"sse_customer_key": "c2hvcnQ="}, "not 32 bytes"),
    ({"sse_customer_key": base64.b64encode(bytes(32)).decode(), "sse": "AES256"}, "either"),
    ({"sse_customer_key": base64.b64encode(bytes(32)).decode(), "endpoint_url": "http://example.org"},
     "https")])
def test_what_does_not_go_together(build_dir, folder, options, text):
    lines = {"backend": "s3", "bucket": "bucket", "access_key_id": "a", "secret_access_key": "b", **options}
    conf = folder / "c.conf"
    conf.write_text("[store k]\n" + "".join(f"{n} = {v}\n" for n, v in lines.items()))
    conf.chmod(0o600)
    done = call(build_dir / "fs/quayfs", "--check", "-c", conf)
    assert done.returncode == 2 and text in done.stderr, done.stderr
