"""Azurite, Microsoft's emulator of Azure Blob Storage, from npm by packaging/azurite.sh. Blobs are in memory; with
lasting=True in its folder, and there after a restart. It writes its tables as it ends (stop(), not kill())."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
import socket
import urllib.error
import urllib.parse
import urllib.request
from email.utils import formatdate

from .base import Server


class Azurite(Server):
    name = "azurite"
    account = "quaytest"
    key = base64.b64encode(b"a key that is only for these tests").decode()

    def __init__(self, folder: Path, lasting: bool = False):
        super().__init__(folder)
        self.lasting = lasting

    def prepare(self) -> None:
        self.program = self.installed("azurite.sh")

    def command(self) -> list[str]:
        where = ["--location", str(self.folder)] if self.lasting else ["--inMemoryPersistence"]
        return ["node", self.program, "--silent", *where, "--disableTelemetry", "--blobHost", "127.0.0.1",
                "--blobPort", str(self.port)]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "AZURITE_ACCOUNTS": f"{self.account}:{self.key}"}

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}/{self.account}"

    def ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 2):
                return True
        except OSError:
            return False

    def request(self, method: str, path: str, query: dict[str, str] | None = None, body: bytes = b"",
                headers: dict[str, str] | None = None) -> tuple[bytes, dict[str, str]]:
        """One signed request: another client than ours."""
        query = query or {}
        sent = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-12-02", **(headers or {})}
        if body or method == "PUT":
            sent["Content-Type"] = "application/octet-stream"
        raw = f"/{self.account}/" + urllib.parse.quote(path, safe="/")
        own = "".join(f"{name}:{sent[name]}\n" for name in sorted(sent) if name.startswith("x-ms-"))
        resource = f"/{self.account}{raw}" + "".join(f"\n{name}:{query[name]}" for name in sorted(query))
        text = "\n".join([method, "", "", str(len(body)) if body else "", "", sent.get("Content-Type", ""),
                          "", "", "", "", "", "", own + resource])
        mac = hmac.new(base64.b64decode(self.key), text.encode(), hashlib.sha256).digest()
        sent["Authorization"] = f"SharedKey {self.account}:{base64.b64encode(mac).decode()}"
        url = f"http://127.0.0.1:{self.port}{raw}"
        if query:
            url += "?" + urllib.parse.urlencode(query)
        ask = urllib.request.Request(url, data=body if method == "PUT" else None, headers=sent, method=method)
        with urllib.request.urlopen(ask, timeout=100) as reply:
            return reply.read(), {name.lower(): value for name, value in reply.headers.items()}


class Container:
    """A fresh container and a client that is not ours."""

    def __init__(self, server: Azurite):
        self.server = server
        self.name = "t-" + secrets.token_hex(5)
        server.request("PUT", self.name, {"restype": "container"})

    def put(self, name: str, data: bytes, **metadata: str) -> str:
        headers = {"x-ms-blob-type": "BlockBlob", **{f"x-ms-meta-{key}": value for key, value in metadata.items()}}
        return self.server.request("PUT", f"{self.name}/{name}", body=data, headers=headers)[1]["etag"]

    def get(self, name: str) -> bytes:
        return self.server.request("GET", f"{self.name}/{name}")[0]

    def head(self, name: str) -> dict[str, str]:
        return self.server.request("HEAD", f"{self.name}/{name}")[1]

    def delete(self, name: str) -> None:
        self.server.request("DELETE", f"{self.name}/{name}")

    def names(self) -> list[str]:
        query = {"restype": "container", "comp": "list"}
        return re.findall(r"<Name>([^<]*)</Name>", self.server.request("GET", self.name, query)[0].decode())

    def remove(self) -> None:
        self.server.request("DELETE", self.name, {"restype": "container"})

    def store(self, **more: str) -> dict[str, str]:
        return {"backend": "azure", "container": self.name, "endpoint_url": self.server.endpoint,
                "account": self.server.account, "account_key": self.server.key, **more}
