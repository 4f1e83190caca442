"""versitygw: a third S3 dialect, a gateway in front of a directory; built by packaging/versitygw.sh."""

from __future__ import annotations

import os

from .s3server import S3Server


class VersityGW(S3Server):
    name = "versitygw"

    def prepare(self) -> None:
        self.binary = self.installed("versitygw.sh")
        self.data = self.folder / "versitygw-data"
        self.data.mkdir(exist_ok=True)

    def command(self) -> list[str]:
        return [self.binary, "--port", f"127.0.0.1:{self.port}", "--quiet", "posix", str(self.data)]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "ROOT_ACCESS_KEY_ID": self.user, "ROOT_SECRET_ACCESS_KEY": self.password}
