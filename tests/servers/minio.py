"""MinIO, built from the Go module proxy by packaging/minio.sh. Counts its own requests for the tests."""

from __future__ import annotations

import base64
import os
import re
import secrets
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from .s3server import S3Server


class MinIO(S3Server):
    name = "minio"

    def prepare(self) -> None:
        self.binary = self.installed("minio.sh")
        self.data = self.folder / "minio-data"
        self.data.mkdir(exist_ok=True)

    def command(self) -> list[str]:
        address = f"127.0.0.1:{self.port}"
        return [self.binary, "server", "--quiet", "--address", address,
                "--console-address", "127.0.0.1:0", str(self.data)]

    def environment(self) -> dict[str, str]:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("MINIO_", "AWS_"))}
        env.update(
            MINIO_ROOT_USER=self.user,
            MINIO_ROOT_PASSWORD=self.password,
            MINIO_PROMETHEUS_AUTH_TYPE="public",
            MINIO_BROWSER="off",
            MINIO_UPDATE="off",
            MINIO_CALLHOME_ENABLE="off",
        )
        return env

    def open(self, path: str, timeout: float):
        return urllib.request.urlopen(self.endpoint + path, timeout=timeout)

    def ready(self) -> bool:
        """Also behind its health check: for a moment that says yes while requests are still refused."""
        try:
            with self.open("/minio/health/ready", timeout=10):
                pass
        except (urllib.error.URLError, OSError):
            return False
        return super().ready()

    # The server's own figures: immediate, unlike those of /minio/v2.
    def metrics(self) -> str:
        with self.open("/minio/metrics/v3/api/requests", timeout=60) as reply:
            return reply.read().decode()

    def counts(self) -> dict[str, int]:
        """Requests answered so far, by S3 operation: {"GetObject": 3, "PutObject": 1, ...}."""
        pattern = re.compile(r'^minio_api_requests_total\{name="([^"]+)".*\} (\S+)$', re.M)
        found: dict[str, int] = {}
        for name, value in pattern.findall(self.metrics()):
            found[name] = found.get(name, 0) + int(float(value))
        return found

    def count(self, api: str = "GetObject") -> int:
        """Requests of one operation, its name in any case; "getobject" counts reads of data."""
        return sum(n for name, n in self.counts().items() if name.lower() == api.lower())


class SecureMinIO(MinIO):
    """By TLS, with a certificate of its own, and with a KMS: SSE-S3, SSE-KMS and SSE-C are real here."""

    name = "secure-minio"
    kms_key = "quay-kms-key"

    @property
    def endpoint(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca_file(self) -> Path:
        return self.folder / "certs/public.crt"

    def prepare(self) -> None:
        super().prepare()
        self.ca_file.parent.mkdir(exist_ok=True)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-days", "2", "-subj", "/CN=quayfs tests", "-addext", "subjectAltName=IP:127.0.0.1",
                        "-keyout", str(self.ca_file.with_name("private.key")), "-out", str(self.ca_file)],
                       check=True, capture_output=True)

    def command(self) -> list[str]:
        command = super().command()
        return command[:2] + ["--certs-dir", str(self.ca_file.parent)] + command[2:]

    def environment(self) -> dict[str, str]:
        key = base64.b64encode(bytes(range(32))).decode()
        return {**super().environment(), "MINIO_KMS_SECRET_KEY": f"{self.kms_key}:{key}"}

    def open(self, path: str, timeout: float):
        trust = ssl.create_default_context(cafile=str(self.ca_file))
        return urllib.request.urlopen(self.endpoint + path, timeout=timeout, context=trust)

    def client(self, **more: object):
        return super().client(**{"verify": str(self.ca_file), **more})

    def store(self, bucket: str, **more: str) -> dict[str, str]:
        return super().store(bucket, ca_file=str(self.ca_file), **more)


class Bucket:
    """A fresh bucket and a client that is not ours."""

    def __init__(self, minio: MinIO, name: str = ""):
        self.minio = minio
        self.name = name or "t-" + secrets.token_hex(5)
        self.s3 = minio.client()
        self.s3.create_bucket(Bucket=self.name)

    def put(self, key: str, data: bytes, **more) -> str:
        return self.s3.put_object(Bucket=self.name, Key=key, Body=data, **more)["ETag"]

    def get(self, key: str) -> bytes:
        return self.s3.get_object(Bucket=self.name, Key=key)["Body"].read()

    def head(self, key: str) -> dict:
        return self.s3.head_object(Bucket=self.name, Key=key)

    def delete(self, key: str) -> None:
        self.s3.delete_object(Bucket=self.name, Key=key)

    def keys(self, prefix: str = "") -> list[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def names(self) -> list[str]:
        return self.keys()

    def uploads(self) -> list[str]:
        """Multipart uploads that were begun and not finished."""
        listed = self.s3.list_multipart_uploads(Bucket=self.name)
        return [upload["Key"] for upload in listed.get("Uploads", [])]

    def remove(self) -> None:
        """Everything, as somebody else would do it behind our back."""
        for key in self.keys():
            self.delete(key)
        self.s3.delete_bucket(Bucket=self.name)

    def store(self, **more: str) -> dict[str, str]:
        return self.minio.store(self.name, **more)


class VersionedBucket(Bucket):
    """It keeps what is replaced or deleted."""

    def __init__(self, minio: MinIO):
        super().__init__(minio)
        self.set_versioning("Enabled")

    def set_versioning(self, status: str) -> None:
        self.s3.put_bucket_versioning(Bucket=self.name, VersioningConfiguration={"Status": status})

    def versions(self, key: str) -> list[dict]:
        """Those with content, the oldest first."""
        found = self.s3.list_object_versions(Bucket=self.name, Prefix=key).get("Versions", [])
        return [v for v in reversed(found) if v["Key"] == key]
