"""The tests' own servers do what the tests believe of them."""

import pytest
from botocore.exceptions import ClientError, ConnectionError, EndpointConnectionError, ResponseStreamingError

from servers import FakeS3, Fault


def test_minio_counts_its_requests(minio, bucket):
    before = minio.counts()
    bucket.put("a", b"x" * 1000)
    for _ in range(3):
        bucket.get("a")
    after = minio.counts()
    assert after.get("GetObject", 0) - before.get("GetObject", 0) == 3
    assert after.get("PutObject", 0) - before.get("PutObject", 0) == 1
    assert minio.count("getobject") == after["GetObject"]


def test_postgres_answers(postgres):
    postgres.execute("CREATE TABLE t (a integer)")
    postgres.execute("INSERT INTO t VALUES (1), (2)")
    assert postgres.count("t") == 2


def test_proxy_faults(minio, proxy, bucket):
    bucket.put("a", b"x" * 1_000_000)
    s3 = minio.client(endpoint_url=proxy.endpoint)

    def read() -> int:
        return len(s3.get_object(Bucket=bucket.name, Key="a")["Body"].read())

    assert read() == 1_000_000
    for fault in (Fault(reset_after=5000, times=1), Fault(close_after=5000, times=1)):
        proxy.fault = fault
        with pytest.raises((ConnectionError, ResponseStreamingError)):
            read()
    proxy.fault = Fault(status=503, times=1, only="^GET")
    assert read() == 1_000_000  # boto3 tried again
    assert proxy.count("^GET") == 5
    proxy.stop()
    with pytest.raises(EndpointConnectionError):
        read()


def test_fake_s3_takes_any_key(minio):
    fake = FakeS3().start()
    s3 = minio.client(endpoint_url=fake.endpoint)
    for key in ("plain", "a//b", "../escape", "/leading", "x" * 300, "a", "a/b"):
        fake.put(key.encode(), key.encode())
    fake.page = 2
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="fake")
    assert sorted(e["Key"] for page in pages for e in page["Contents"]) == sorted(
        key.decode() for key in fake.objects)
    assert s3.get_object(Bucket="fake", Key="plain", Range="bytes=1-2")["Body"].read() == b"la"
    s3.put_object(Bucket="fake", Key="new", Body=b"1", IfNoneMatch="*", Metadata={"colour": "blue"})
    with pytest.raises(ClientError):
        s3.put_object(Bucket="fake", Key="new", Body=b"2", IfNoneMatch="*")
    s3.copy_object(Bucket="fake", Key="copy", CopySource="fake/new")
    assert s3.head_object(Bucket="fake", Key="copy")["Metadata"] == {"colour": "blue"}
    upload = s3.create_multipart_upload(Bucket="fake", Key="big")["UploadId"]
    parts = [{"PartNumber": n, "ETag": s3.upload_part(Bucket="fake", Key="big", UploadId=upload,
              PartNumber=n, Body=b"%d" % n)["ETag"]} for n in (1, 2)]
    s3.complete_multipart_upload(Bucket="fake", Key="big", UploadId=upload,
                                 MultipartUpload={"Parts": parts})
    assert fake.objects[b"big"].data == b"12"
    s3.delete_objects(Bucket="fake", Delete={"Objects": [{"Key": "big"}, {"Key": "copy"}]})
    assert b"big" not in fake.objects and b"copy" not in fake.objects
    fake.stop()
