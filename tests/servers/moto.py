"""moto: a second S3 dialect (PyPI, in the venv of the tests). It does not check signatures."""

from __future__ import annotations

import sys

from .s3server import S3Server


class Moto(S3Server):
    name = "moto"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
