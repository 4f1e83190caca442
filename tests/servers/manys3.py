"""A bucket with one directory of very many objects, made up as they are listed: what a listing costs its
client, and when its first entries are there. It can hold back the last page."""

from __future__ import annotations

import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler

from .base import Fake


class ManyS3(Fake):
    """`count` objects many/entry-0000000, many/entry-0000001, ... of one byte."""

    def __init__(self, count: int, metadata: bool = False) -> None:
        super().__init__(_Handler, "many")
        self.count = count
        self.metadata = metadata           # answers metadata=true, as MinIO does
        self.last_page = threading.Event()  # set: may be given
        self.last_page.set()
        self.lists = 0
        self.heads = 0

    def stop(self) -> None:
        self.last_page.set()
        super().stop()

    def store(self, **more: str) -> dict[str, str]:
        return {"backend": "s3", "bucket": "fake", "endpoint_url": self.endpoint, "region": "us-east-1",
                "access_key_id": "fake", "secret_access_key": "fakesecret", **more}

    def name(self, number: int) -> str:
        return f"many/entry-{number:07}"

    def behind(self, after: str) -> int:
        """The first number whose name sorts behind `after`."""
        low, high = 0, self.count
        while low < high:
            middle = (low + high) // 2
            if self.name(middle) <= after:
                low = middle + 1
            else:
                high = middle
        return low


class _Handler(BaseHTTPRequestHandler):
    many: ManyS3
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.many.heads += 1
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        ask = dict(urllib.parse.parse_qsl(self.path.partition("?")[2], keep_blank_values=True))
        if "list-type" not in ask:
            self.answer(200, b"<ListMultipartUploadsResult></ListMultipartUploadsResult>")
        elif not ask["prefix"]:
            self.page(["<CommonPrefixes><Prefix>many/</Prefix></CommonPrefixes>"], None)
        else:
            self.objects(ask)

    def objects(self, ask: dict[str, str]) -> None:
        many = self.many
        if not ask["prefix"].startswith("many/"):
            self.page([], None)
            return
        many.lists += 1
        token = ask.get("continuation-token")
        first = int(token) if token else many.behind(ask.get("start-after", ""))
        end = min(first + min(int(ask.get("max-keys", "1000")), 1000), many.count)
        if end == many.count:
            many.last_page.wait()
        meta = "<UserMetadata><X-Amz-Meta-Mode>33188</X-Amz-Meta-Mode></UserMetadata>" \
            if many.metadata and "metadata" in ask else ""
        tail = ("</Key><Size>1</Size><ETag>&quot;9dd4e461268c8034f5c8564e155c67a6&quot;</ETag>"
                f"<LastModified>2023-11-14T22:13:20.000Z</LastModified>{meta}</Contents>")
        self.page([f"<Contents><Key>{many.name(n)}{tail}" for n in range(first, end)],
                  end if end < many.count else None)

    def page(self, entries: list[str], token: int | None) -> None:
        more = "false" if token is None else "true"
        next_one = "" if token is None else f"<NextContinuationToken>{token}</NextContinuationToken>"
        self.answer(200, (f'<?xml version="1.0"?><ListBucketResult><IsTruncated>{more}</IsTruncated>{next_one}'
                          f'{"".join(entries)}</ListBucketResult>').encode())
