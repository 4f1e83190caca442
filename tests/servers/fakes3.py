"""A small S3 in memory that takes any key, also those that MinIO refuses ("..", "//", a leading slash),
and can be told to behave as bad servers do. Signatures are not checked."""

from __future__ import annotations

import hashlib
import re
import threading
import time
import urllib.parse
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from xml.sax.saxutils import escape, unescape

from .base import Fake

EPOCH = 1_700_000_000


@dataclass
class Object:
    data: bytes
    etag: str
    headers: dict[str, str] = field(default_factory=dict)
    mtime: int = EPOCH
    tags: str = ""                      # as in x-amz-tagging


class FakeS3(Fake):
    """objects: key bytes -> Object. Knobs may be changed while it runs."""

    def __init__(self, bucket: str = "fake") -> None:
        super().__init__(_Handler, "fake")
        self.bucket = bucket
        self.objects: dict[bytes, Object] = {}
        self.uploads: dict[str, tuple[bytes, dict[str, str], dict[int, bytes]]] = {}
        self.last_upload = 0
        self.ever: set[bytes] = set()   # keys that were ever stored
        self.requests: list[str] = []
        self.seen: list[tuple[str, str, dict[str, str]]] = []  # with their headers
        self.page = 1000                # entries in a listing page at most
        self.conditions = True          # honours If-Match and If-None-Match on PUT
        self.etags = True               # False: answers without an ETag
        self.tagging = True             # False: knows no tags; how many there are it never tells
        self.start_after = True         # False: lists from the beginning whatever is asked
        self.slow = 0.0                 # seconds before each answer
        self.before = lambda line: None  # called with "METHOD /path" before the request is served
        self.at_once = 0                # requests being answered at the same time, at most
        self.busy = 0
        self.lock = threading.Lock()

    def put(self, key: bytes, data: bytes, headers: dict[str, str] | None = None) -> Object:
        made = Object(data, '"' + hashlib.md5(data).hexdigest() + '"', dict(headers or {}))
        self.objects[key] = made
        self.ever.add(key)
        return made

    def store(self, **more: str) -> dict[str, str]:
        return {"backend": "s3", "bucket": self.bucket, "endpoint_url": self.endpoint,
                "region": "us-east-1", "access_key_id": "fake", "secret_access_key": "fakesecret", **more}

    def count(self, pattern: str) -> int:
        return sum(1 for line in self.requests if re.search(pattern, line))


class _Handler(BaseHTTPRequestHandler):
    fake: FakeS3
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if "Content-Length" not in (headers or {}):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str) -> None:
        text = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>"
        self.answer(status, text.encode(), {"Content-Type": "application/xml"})

    def serve(self) -> None:
        self.fake.requests.append(f"{self.command} {self.path}")
        self.fake.seen.append((self.command, self.path,
                               {name.lower(): value for name, value in self.headers.items()}))
        raw, _, query = self.path.partition("?")
        self.query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        bucket, _, key = raw.removeprefix("/").partition("/")
        self.key = urllib.parse.unquote_to_bytes(key)
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        if bucket != self.fake.bucket:
            self.refuse(404, "NoSuchBucket")
            return
        with self.fake.lock:
            self.fake.busy += 1
            self.fake.at_once = max(self.fake.at_once, self.fake.busy)
        time.sleep(self.fake.slow)
        self.fake.before(f"{self.command} {self.path}")
        with self.fake.lock:
            self.fake.busy -= 1
            getattr(self, "do_" + self.command.lower() + "_request")()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = serve

    # GET and HEAD
    def do_get_request(self) -> None:
        if not self.key and "uploads" in self.query:
            self.answer(200, b"<ListMultipartUploadsResult></ListMultipartUploadsResult>")
        elif not self.key and "location" in self.query:
            self.answer(200, b"<LocationConstraint></LocationConstraint>")
        elif not self.key:
            self.list()
        elif "tagging" in self.query:
            self.tags()
        else:
            self.read()

    def do_head_request(self) -> None:
        self.read() if self.key else self.answer(200)

    def read(self) -> None:
        found = self.fake.objects.get(self.key)
        if found is None:
            self.refuse(404, "NoSuchKey")
            return
        if self.headers.get("If-Match") not in (None, "*", found.etag):
            self.refuse(412, "PreconditionFailed")
            return
        headers = {**found.headers, "Last-Modified": formatdate(found.mtime, usegmt=True),
                   "Accept-Ranges": "bytes"}
        if self.fake.etags:
            headers["ETag"] = found.etag
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or "")
        size = len(found.data)
        if not asked:
            self.answer(200, found.data, {**headers, "Content-Length": str(size)})
            return
        first = int(asked[1]) if asked[1] else max(0, size - int(asked[2]))
        last = min(int(asked[2]) if asked[1] and asked[2] else size - 1, size - 1)
        if first >= size:
            self.refuse(416, "InvalidRange")
            return
        part = found.data[first:last + 1]
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        self.answer(206, part, {**headers, "Content-Length": str(len(part))})

    def list(self) -> None:
        ask = {name: value.encode("latin-1") for name, value in urllib.parse.parse_qsl(
            self.path.partition("?")[2], keep_blank_values=True, encoding="latin-1")}
        if "continuation-token" in ask:
            ask["continuation-token"] = urllib.parse.unquote_to_bytes(ask["continuation-token"])
        prefix, delimiter = ask.get("prefix", b""), ask.get("delimiter", b"")
        after = ask.get("continuation-token") or (ask.get("start-after", b"") if self.fake.start_after else b"")
        most = min(int(self.query.get("max-keys", "1000")), self.fake.page)
        encode = (lambda b: urllib.parse.quote(b, safe="/")) if "encoding-type" in self.query else \
            (lambda b: escape(b.decode("utf-8", "replace")))
        entries: list[str] = []
        seen: set[bytes] = set()
        last, more = b"", False
        for key in sorted(self.fake.objects):
            if not key.startswith(prefix):
                continue
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            shown = key[:cut + len(delimiter)] if cut >= 0 else key
            if shown <= after or shown in seen:
                continue
            if len(entries) == most:
                more = True
                break
            seen.add(shown)
            last = shown
            entries.append(self.entry(key, shown, cut >= 0, encode))
        token = f"<NextContinuationToken>{escape(urllib.parse.quote(last))}</NextContinuationToken>"
        encoding = "<EncodingType>url</EncodingType>" if "encoding-type" in self.query else ""
        body = (f'<?xml version="1.0"?><ListBucketResult><Name>{self.fake.bucket}</Name>{encoding}'
                f"<KeyCount>{len(entries)}</KeyCount><IsTruncated>{'true' if more else 'false'}"
                f"</IsTruncated>{token if more else ''}{''.join(entries)}</ListBucketResult>")
        self.answer(200, body.encode(), {"Content-Type": "application/xml"})

    def entry(self, key: bytes, shown: bytes, directory: bool, encode) -> str:
        if directory:
            return f"<CommonPrefixes><Prefix>{encode(shown)}</Prefix></CommonPrefixes>"
        found = self.fake.objects[key]
        etag = f"<ETag>{escape(found.etag)}</ETag>" if self.fake.etags else ""
        modified = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(found.mtime))
        return (f"<Contents><Key>{encode(shown)}</Key><Size>{len(found.data)}</Size>{etag}"
                f"<LastModified>{modified}</LastModified></Contents>")

    def tags(self) -> None:
        found = self.fake.objects.get(self.key)
        if not self.fake.tagging:
            self.refuse(501, "NotImplemented")
        elif found is None:
            self.refuse(404, "NoSuchKey")
        elif self.command == "GET":
            tags = "".join(f"<Tag><Key>{escape(k)}</Key><Value>{escape(v)}</Value></Tag>"
                           for k, v in urllib.parse.parse_qsl(found.tags, keep_blank_values=True))
            self.answer(200, f"<Tagging><TagSet>{tags}</TagSet></Tagging>".encode())
        else:
            names = re.findall(r"<Key>(.*?)</Key><Value>(.*?)</Value>", self.body.decode(), re.S)
            found.tags = urllib.parse.urlencode([(unescape(k), unescape(v)) for k, v in names])
            self.answer(200 if self.command == "PUT" else 204)

    # Changes
    def metadata(self) -> dict[str, str]:
        keep = ("content-type", "cache-control", "content-encoding")
        return {name: value for name, value in self.headers.items()
                if name.lower().startswith("x-amz-meta-") or name.lower() in keep}

    def refused(self) -> bool:
        found = self.fake.objects.get(self.key)
        if not self.fake.conditions:
            return False
        match = self.headers.get("If-Match")
        if match and (found is None or match != found.etag):
            self.refuse(412 if found else 404, "PreconditionFailed" if found else "NoSuchKey")
            return True
        if self.headers.get("If-None-Match") == "*" and found is not None:
            self.refuse(412, "PreconditionFailed")
            return True
        return False

    def do_put_request(self) -> None:
        upload = self.fake.uploads.get(self.query.get("uploadId", ""))
        if "uploadId" in self.query and upload is None:
            self.refuse(404, "NoSuchUpload")
        elif upload is not None:
            data = self.copied() if self.headers.get("x-amz-copy-source") else self.body
            if data is None:
                return
            upload[2][int(self.query["partNumber"])] = data
            etag = '"' + hashlib.md5(data).hexdigest() + '"'
            self.answer(200, f"<CopyPartResult><ETag>{escape(etag)}</ETag></CopyPartResult>".encode(),
                        {"ETag": etag})
        elif self.headers.get("x-amz-copy-source"):
            self.copy()
        elif "tagging" in self.query:
            self.tags()
        elif not self.refused():
            made = self.fake.put(self.key, self.body, self.metadata())
            made.tags = self.headers.get("x-amz-tagging") or ""
            self.answer(200, b"", {"ETag": made.etag})

    def source(self) -> Object | None:
        raw = self.headers["x-amz-copy-source"].removeprefix("/").partition("/")[2]
        found = self.fake.objects.get(urllib.parse.unquote_to_bytes(raw))
        if found is None:
            self.refuse(404, "NoSuchKey")
        elif self.headers.get("x-amz-copy-source-if-match") not in (None, found.etag):
            self.refuse(412, "PreconditionFailed")
            return None
        return found

    def copied(self) -> bytes | None:
        found = self.source()
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("x-amz-copy-source-range") or "")
        if found is None or asked is None:
            return found.data if found else None
        return found.data[int(asked[1]):int(asked[2]) + 1]

    def copy(self) -> None:
        found = self.source()
        if found is None or self.refused():
            return
        replace = self.headers.get("x-amz-metadata-directive") == "REPLACE"
        made = self.fake.put(self.key, found.data, self.metadata() if replace else found.headers)
        given = self.headers.get("x-amz-tagging-directive") == "REPLACE"
        made.tags = (self.headers.get("x-amz-tagging") or "") if given else found.tags
        self.answer(200, f"<CopyObjectResult><ETag>{escape(made.etag)}</ETag>"
                         f"<LastModified>2023-11-14T22:13:20.000Z</LastModified></CopyObjectResult>".encode())

    def do_post_request(self) -> None:
        if "delete" in self.query:
            for key in re.findall(rb"<Key>(.*?)</Key>", self.body, re.S):
                plain = key.replace(b"&lt;", b"<").replace(b"&gt;", b">").replace(b"&quot;", b'"')
                plain = re.sub(rb"&#(x?)([0-9a-fA-F]+);",
                               lambda m: chr(int(m[2], 16 if m[1] else 10)).encode(), plain)
                self.fake.objects.pop(plain.replace(b"&amp;", b"&"), None)
            self.answer(200, b"<DeleteResult></DeleteResult>")
        elif "uploads" in self.query:
            self.fake.last_upload += 1
            name = f"upload-{self.fake.last_upload}"
            self.fake.uploads[name] = (self.key, {**self.metadata(), "x-amz-tagging": self.headers.get(
                "x-amz-tagging") or ""}, {})
            self.answer(200, f"<InitiateMultipartUploadResult><UploadId>{name}</UploadId>"
                             f"</InitiateMultipartUploadResult>".encode())
        elif self.query.get("uploadId") in self.fake.uploads:
            if self.refused():
                return
            key, headers, parts = self.fake.uploads.pop(self.query["uploadId"])
            tags = headers.pop("x-amz-tagging")
            made = self.fake.put(key, b"".join(parts[n] for n in sorted(parts)), headers)
            made.tags = tags
            self.answer(200, f"<CompleteMultipartUploadResult><ETag>{escape(made.etag)}</ETag>"
                             f"</CompleteMultipartUploadResult>".encode())
        else:
            self.refuse(404, "NoSuchUpload")

    def do_delete_request(self) -> None:
        if "uploadId" in self.query:
            self.fake.uploads.pop(self.query["uploadId"], None)
        elif "tagging" in self.query:
            self.body = b""
            self.tags()
            return
        else:
            self.fake.objects.pop(self.key, None)
        self.answer(204, b"", {"Content-Length": "0"})
