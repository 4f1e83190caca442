"""What all S3 servers of the tests have in common: credentials, a client that is not ours, a [store] section."""

from __future__ import annotations

from .base import Server


class S3Server(Server):
    user = "quaytest"
    password = "quaytest-secret-0123"
    region = "us-east-1"

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ready(self) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self.client().list_buckets()
            return True
        except (OSError, BotoCoreError, ClientError):
            return False

    def client(self, **more: object):
        """A boto3 client with the root credentials (or others, by keyword)."""
        import boto3
        from botocore.config import Config

        settings = dict(
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.user,
            aws_secret_access_key=self.password,
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"max_attempts": 4, "mode": "standard"}),
        )
        settings.update(more)
        return boto3.client("s3", **settings)

    def store(self, bucket: str, **more: str) -> dict[str, str]:
        """The options of a [store] section on this server."""
        return {
            "backend": "s3",
            "bucket": bucket,
            "endpoint_url": self.endpoint,
            "region": self.region,
            "access_key_id": self.user,
            "secret_access_key": self.password,
            **more,
        }
