"""The Cloud Storage of fakegcs.py in a process of its own: for tests that may hold Python's lock while they wait for
the mount (a page fault in a mapped file), and that need another client of it."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from .base import Server

BUCKET = "fake-bucket"
PROGRAM = "import sys, time; from servers import FakeGCS; FakeGCS(port=int(sys.argv[1])).start(); time.sleep(1e9)"


class FakeGcsProcess(Server):
    """One bucket, in memory. get, put, delete, names: another client than ours."""

    name = "fakegcs"

    def command(self) -> list[str]:
        return [sys.executable, "-c", PROGRAM, str(self.port)]

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "PYTHONPATH": str(Path(__file__).resolve().parents[1])}

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str, data: bytes | None = None, method: str | None = None, kind: str = "") -> bytes:
        headers = {"Content-Type": kind} if kind else {}
        request = urllib.request.Request(self.endpoint + path, data=data, method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.read()

    def ready(self) -> bool:
        try:
            self.names()
            return True
        except (urllib.error.URLError, OSError):
            return False

    def _object(self, name: str) -> str:
        return f"/storage/v1/b/{BUCKET}/o/{urllib.parse.quote(name, safe='')}"

    def put(self, name: str, data: bytes) -> None:
        mark, resource = b"--part-of-a-test", json.dumps({"name": name}).encode()
        parts = [mark, b"Content-Type: application/json", b"", resource, mark, b"Content-Type: text/plain", b"", data]
        self.ask(f"/upload/storage/v1/b/{BUCKET}/o?uploadType=multipart", b"\r\n".join([*parts, mark + b"--\r\n"]),
                 kind="multipart/related; boundary=part-of-a-test")

    def get(self, name: str) -> bytes:
        return self.ask(self._object(name) + "?alt=media")

    def delete(self, name: str) -> None:
        self.ask(self._object(name), method="DELETE")

    def names(self) -> list[str]:
        return [item["name"] for item in json.loads(self.ask(f"/storage/v1/b/{BUCKET}/o")).get("items", [])]

    def store(self, **more: str) -> dict[str, str]:
        return {"backend": "gcs", "bucket": BUCKET, "endpoint_url": self.endpoint, "anonymous": "yes", **more}
