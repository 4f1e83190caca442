"""fake-gcs-server: Cloud Storage's JSON API as others understood it. Weaker than the service: it ignores most
preconditions and repeats prefixes on every page (fakegcs.py keeps to them). Built by packaging/fake-gcs-server.sh."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request

from .base import Server


class FakeGcsServer(Server):
    name = "fake-gcs-server"

    def prepare(self) -> None:
        self.binary = self.installed("fake-gcs-server.sh")

    def command(self) -> list[str]:
        return [self.binary, "-scheme", "http", "-host", "127.0.0.1", "-port", str(self.port), "-backend", "memory",
                "-external-url", self.endpoint, "-public-host", f"127.0.0.1:{self.port}", "-log-level", "warn"]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str, data: bytes | None = None, method: str | None = None) -> bytes:
        request = urllib.request.Request(self.endpoint + path, data=data, method=method,
                                         headers={"Content-Type": "application/json"} if data else {})
        with urllib.request.urlopen(request, timeout=20) as reply:
            return reply.read()

    def ready(self) -> bool:
        try:
            self.ask("/storage/v1/b?project=test")
            return True
        except (urllib.error.URLError, OSError):
            return False

    def make_bucket(self, name: str) -> None:
        self.ask("/storage/v1/b?project=test", json.dumps({"name": name}).encode())

    def put(self, bucket: str, name: str, data: bytes) -> None:
        self.ask(f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={urllib.parse.quote(name, safe='')}", data)

    def get(self, bucket: str, name: str) -> bytes:
        return self.ask(f"/storage/v1/b/{bucket}/o/{urllib.parse.quote(name, safe='')}?alt=media")

    def names(self, bucket: str) -> list[str]:
        return sorted(item["name"] for item in json.loads(self.ask(f"/storage/v1/b/{bucket}/o")).get("items", []))

    def store(self, bucket: str, **more: str) -> dict[str, str]:
        return {"backend": "gcs", "bucket": bucket, "endpoint_url": self.endpoint, "anonymous": "yes", **more}
