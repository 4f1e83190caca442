"""An S3 whose bucket has one directory `many/` of so many empty objects; their listing is made as it is asked.

    million.py PORT COUNT    (a process of its own: class Million starts it)
The keys are many/e00000000, many/e00000001, ...: a name says its place, so nothing is kept."""

from __future__ import annotations

import sys
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler
from pathlib import Path

try:
    from .base import HttpServer, Server
except ImportError:  # run as a program
    from base import HttpServer, Server

BUCKET = "million"
PAGE = 1000
META = "<UserMetadata><content-type>application/octet-stream</content-type></UserMetadata>"
TAIL = ("</Key><LastModified>2023-11-14T22:13:20.000Z</LastModified><ETag>&quot;d41d8cd98f00b204e9800998ecf8427e"
        "&quot;</ETag><Size>0</Size><StorageClass>STANDARD</StorageClass>")


def name_of(place: int) -> str:
    return f"many/e{place:08}"


def place_of(key: str) -> int:
    """The place of the first key behind this one."""
    digits = key.removeprefix("many/e")
    return int(digits) + 1 if key.startswith("many/e") and len(digits) == 8 and digits.isdigit() else 0


def page_of(query: dict[str, str], count: int) -> str:
    """ListObjectsV2 for the prefixes that a listing of `/` or `many/` asks for, with MinIO's `metadata=true`."""
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    most = min(int(query.get("max-keys", PAGE)), PAGE)
    entries, more, token = "", False, ""
    if "many/".startswith(prefix) and prefix != "many/" and delimiter:
        entries = "<CommonPrefixes><Prefix>many/</Prefix></CommonPrefixes>"
    elif "many/".startswith(prefix) or prefix == "many/":
        first = place_of(query.get("continuation-token") or query.get("start-after", ""))
        last = min(first + most, count)
        tail = TAIL + (META if query.get("metadata") == "true" else "") + "</Contents>"
        entries = "".join([f"<Contents><Key>many/e{place:08}{tail}" for place in range(first, last)])
        more = last < count
        token = f"<NextContinuationToken>{name_of(last - 1)}</NextContinuationToken>" if more else ""
    return (f'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><Name>{BUCKET}</Name><Prefix>{prefix}</Prefix>'
            f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{token}{entries}</ListBucketResult>")


class Million(Server):
    name = "million"

    def __init__(self, folder: Path, count: int):
        super().__init__(folder)
        self.count = count

    def command(self) -> list[str]:
        return [sys.executable, str(Path(__file__).resolve()), str(self.port), str(self.count)]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.endpoint}/{BUCKET}", timeout=10):
                return True
        except OSError:
            return False


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    count = 0

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        if status == 200 and self.path.count("/") > 1 and "?" not in self.path:
            self.send_header("ETag", '"d41d8cd98f00b204e9800998ecf8427e"')
            self.send_header("Last-Modified", "Tue, 14 Nov 2023 22:13:20 GMT")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        raw, _, query = self.path.partition("?")
        key = urllib.parse.unquote(raw.removeprefix("/").partition("/")[2])
        if not key:
            self.answer(200, page_of(dict(urllib.parse.parse_qsl(query, keep_blank_values=True)), self.count))
        elif 0 < place_of(key) <= self.count:
            self.answer(200, "")
        else:
            self.answer(404, "<Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>")

    do_HEAD = do_GET


def serve(port: int, count: int) -> None:
    handler = type("Counted", (Handler,), {"count": count, "wbufsize": 1 << 20})
    server = HttpServer(("127.0.0.1", port), handler)
    server.serve_forever()


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
