"""The bucket that all read: one big object, many small ones, a large directory."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from servers import MinIO

from .raw import Requests


class Seed:
    small_size = 16 * 1024

    def __init__(self, minio: MinIO, size: int, small: int, many: int):
        self.minio, self.size = minio, size
        self.bucket = "bench"
        self.s3 = minio.client()
        self.small = [f"s{number:05}" for number in range(small)]
        self.many = [f"entry-{number:05}" for number in range(many)]

    def url(self, method: str, key: str) -> str:
        """Signed beforehand: what a client without a file system asks."""
        name = {"GET": "get_object", "PUT": "put_object"}[method]
        return self.s3.generate_presigned_url(name, {"Bucket": self.bucket, "Key": key}, 86_400)

    def list_urls(self) -> list[str]:
        """The LIST calls that show `many/`, a page each."""
        starts = [""] + [f"many/{self.many[i - 1]}" for i in range(1000, len(self.many), 1000)]
        return [self.s3.generate_presigned_url("list_objects_v2", {
            "Bucket": self.bucket, "Prefix": "many/", "Delimiter": "/", "StartAfter": start,
            "EncodingType": "url"}, 86_400) for start in starts]

    def fill(self, needed: set[str]) -> None:
        self.s3.create_bucket(Bucket=self.bucket)
        requests = Requests(self.minio.endpoint)
        body = os.urandom(self.small_size)
        if "small" in needed:
            for name in self.small:
                requests.put(self.url("PUT", f"small/{name}"), body)
        if "many" in needed:
            for name in self.many:
                requests.put(self.url("PUT", f"many/{name}"), b"x")
        requests.close()
        from boto3.s3.transfer import TransferConfig
        config = TransferConfig(multipart_threshold=1 << 23, multipart_chunksize=1 << 24, max_concurrency=4)
        self.s3.upload_fileobj(_Noise(self.size), self.bucket, "big", Config=config)
        assert urlsplit(self.url("GET", "big")).path == f"/{self.bucket}/big"

    def copy(self, source: str, target: str) -> None:
        self.s3.copy_object(Bucket=self.bucket, Key=target, CopySource=f"{self.bucket}/{source}")

    def part(self, key: str, offset: int, length: int) -> bytes:
        span = f"bytes={offset}-{offset + length - 1}"
        return self.s3.get_object(Bucket=self.bucket, Key=key, Range=span)["Body"].read()

    def check(self, key: str, size: int) -> None:
        """What a case wrote is really there; then it makes room."""
        found = self.s3.head_object(Bucket=self.bucket, Key=key)["ContentLength"]
        if found != size:
            raise SystemExit(f"bench: {key} has {found} bytes in the store, {size} were written")
        self.remove(key)

    def remove(self, key: str) -> None:
        self.s3.delete_object(Bucket=self.bucket, Key=key)


class _Noise:
    """A file of that many bytes which do not compress."""

    def __init__(self, size: int):
        self.left = size
        self.block = os.urandom(1 << 20)

    def read(self, count: int = -1) -> bytes:
        if count < 0:
            count = self.left
        count = min(count, self.left)
        self.left -= count
        whole, rest = divmod(count, len(self.block))
        return self.block * whole + self.block[:rest]
