"""An S3 with one object of terabytes, made up as it is read, which takes multipart uploads as AWS does: numbers, sizes and
order of the parts are checked against S3's own limits, nothing is kept of what is copied, all of what is sent."""

from __future__ import annotations

import base64
import hashlib
import re
import threading
import urllib.parse
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from xml.sax.saxutils import escape

from .base import Fake

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
PARTS, PART_MIN, PART_MAX = 10_000, 5 * MIB, 5 * GIB
DATE = "Tue, 14 Nov 2023 22:13:20 GMT"


@dataclass
class Part:
    etag: str
    size: int
    start: int = -1       # where it begins in the object that it is a copy of
    data: bytes = b""


def made_up(start: int, size: int) -> bytes:
    """Of the object as it is at first: each 16 bytes say where they are."""
    first = start // 16
    text = b"".join(b"%015x\n" % place for place in range(first, (start + size) // 16 + 1))
    return text[start - first * 16:][:size]


class HugeS3(Fake):
    """Object `huge` of `size` bytes. parts: of the upload that was completed last, in order."""

    def __init__(self, size: int) -> None:
        super().__init__(_Handler, "huge")
        self.size = size
        self.etag = '"made-up"'
        self.parts: list[Part] = []
        self.uploads: dict[str, dict[int, Part]] = {}
        self.refused: list[str] = []
        self.sent = 0                   # bytes of bodies
        self.lock = threading.Lock()

    def store(self, **more: str) -> dict[str, str]:
        return {"backend": "s3", "bucket": "fake", "endpoint_url": self.endpoint, "region": "us-east-1",
                "access_key_id": "fake", "secret_access_key": "fakesecret", **more}

    def read(self, start: int, size: int) -> bytes:
        """Of the object as it is now."""
        if not self.parts:
            return made_up(start, size)
        got, at = [], 0
        for part in self.parts:
            first, last = max(start, at), min(start + size, at + part.size)
            if first < last:
                skip = first - at
                got.append(made_up(part.start + skip, last - first) if part.start >= 0
                           else part.data[skip:skip + last - first])
            at += part.size
        return b"".join(got)

    def wrong(self, numbers: list[int], etags: list[str], parts: dict[int, Part]) -> str:
        """Why S3 would not put them together."""
        if not numbers or numbers != sorted(set(numbers)):
            return "InvalidPartOrder"
        if any(n not in parts or parts[n].etag != etag for n, etag in zip(numbers, etags, strict=True)):
            return "InvalidPart"
        if any(parts[n].size < PART_MIN for n in numbers[:-1]):
            return "EntityTooSmall"
        return ""


class _Handler(BaseHTTPRequestHandler):
    huge: HugeS3
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response_only(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str) -> None:
        if status != 404:
            self.huge.refused.append(f"{code}: {self.command} {self.path}")
        self.answer(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

    def serve(self) -> None:
        path, _, query = self.path.partition("?")
        self.query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.huge.lock:
            self.huge.sent += len(self.body)
            if path.removeprefix("/fake").strip("/") in ("", "huge"):
                getattr(self, "serve_" + self.command.lower())(path.endswith("huge"))
            elif self.command == "PUT":  # does it honour conditions? The others are looked at before.
                self.answer(200, ETag='"probe"')
            else:
                self.refuse(404, "NoSuchKey") if self.command in ("GET", "HEAD") else self.answer(204)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = serve

    def serve_head(self, _: bool) -> None:
        huge = self.huge
        self.answer(200, ETag=huge.etag, Content_Length=str(huge.size), Last_Modified=DATE, Accept_Ranges="bytes")

    def serve_get(self, an_object: bool) -> None:
        huge = self.huge
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        if not an_object and "list-type" in self.query:
            self.answer(200, (f"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>huge</Key><Size>{huge.size}"
                              f"</Size><ETag>{escape(huge.etag)}</ETag><LastModified>2023-11-14T22:13:20.000Z"
                              "</LastModified></Contents></ListBucketResult>").encode())
        elif "tagging" in self.query:
            self.answer(200, b"<Tagging><TagSet></TagSet></Tagging>")
        elif not an_object:
            self.answer(200, b"<ListMultipartUploadsResult></ListMultipartUploadsResult>")
        elif not asked:
            self.refuse(400, "InvalidRange")
        else:
            first, last = int(asked[1]), min(int(asked[2]), huge.size - 1)
            self.answer(206, huge.read(first, last + 1 - first), ETag=huge.etag, Last_Modified=DATE,
                        Content_Range=f"bytes {first}-{last}/{huge.size}")

    def serve_put(self, _: bool) -> None:
        parts = self.huge.uploads.get(self.query.get("uploadId", ""))
        number = int(self.query.get("partNumber", "0"))
        copied = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("x-amz-copy-source-range") or "")
        if parts is None:
            self.refuse(404 if "uploadId" in self.query else 400, "NoSuchUpload")
        elif not 1 <= number <= PARTS:
            self.refuse(400, "InvalidArgument")
        elif copied:
            self.copy_part(parts, number, int(copied[1]), int(copied[2]) + 1)
        elif len(self.body) > PART_MAX:
            self.refuse(400, "EntityTooLarge")
        else:
            parts[number] = Part('"' + hashlib.md5(self.body).hexdigest() + '"', len(self.body), data=self.body)
            self.answer(200, ETag=parts[number].etag)

    def copy_part(self, parts: dict[int, Part], number: int, start: int, end: int) -> None:
        if self.headers.get("x-amz-copy-source-if-match") != self.huge.etag:
            self.refuse(412, "PreconditionFailed")
        elif self.huge.parts or end > self.huge.size or not 0 < end - start <= PART_MAX:
            self.refuse(400, "InvalidRange")
        else:
            parts[number] = Part(f'"copy-{start}-{end}"', end - start, start)
            self.answer(200, f"<CopyPartResult><ETag>{escape(parts[number].etag)}</ETag></CopyPartResult>".encode())

    def serve_post(self, _: bool) -> None:
        huge = self.huge
        name = self.query.get("uploadId", "")
        if "uploads" in self.query:
            name = base64.b16encode(str(len(huge.uploads)).encode()).decode()
            huge.uploads[name] = {}
            self.answer(200, f"<InitiateMultipartUploadResult><UploadId>{name}</UploadId>"
                             "</InitiateMultipartUploadResult>".encode())
            return
        text = self.body.decode().replace("&quot;", '"')
        numbers = [int(number) for number in re.findall(r"<PartNumber>(\d+)</PartNumber>", text)]
        parts = huge.uploads.get(name, {})
        code = huge.wrong(numbers, re.findall(r"<ETag>(.*?)</ETag>", text), parts)
        if code:
            self.refuse(400, code)
            return
        huge.parts = [parts[number] for number in numbers]
        huge.size, huge.etag = sum(part.size for part in huge.parts), f'"whole-{name}"'
        del huge.uploads[name]
        self.answer(200, f"<CompleteMultipartUploadResult><ETag>{escape(huge.etag)}</ETag>"
                         "</CompleteMultipartUploadResult>".encode())

    def serve_delete(self, _: bool) -> None:
        self.huge.uploads.pop(self.query.get("uploadId", ""), None)
        self.answer(204)
