"""Google Cloud Storage's JSON API in memory, as its documentation says: generations and preconditions on
every call, listings in pages of objects and prefixes in one order, compose, rewrites in several calls, patch.
With it a token endpoint (service accounts, refresh tokens) and the metadata server of a virtual machine.

Why not fake-gcs-server: its v1.56 ignores ifGenerationMatch on delete, compose, rewrite and patch, and gives
every prefix again on every page. What this one says was compared with it where it does what the service does
(tests/README.md)."""

from __future__ import annotations

import base64
import json
import re
import secrets
import threading
import time
import urllib.parse
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler

import google_crc32c

from .base import Fake


def crc32c(data: bytes) -> str:
    """In base64, as the service says it."""
    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


@dataclass
class Object:
    data: bytes
    generation: int
    metadata: dict[str, str] = field(default_factory=dict)
    content_type: str = ""
    storage_class: str = "STANDARD"
    metageneration: int = 1
    created: str = ""
    crc32c: str = ""
    deleted: str = ""


def stamp() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


class Refused(Exception):
    def __init__(self, status: int, reason: str, message: str = "") -> None:
        super().__init__(reason)
        self.status, self.reason, self.message = status, reason, message or reason


class FakeGCS(Fake):
    """objects: name -> Object. Knobs may be changed while it runs."""

    def __init__(self, bucket: str = "fake-bucket", port: int = 0) -> None:
        super().__init__(_Handler, "fake", port)
        self.bucket = bucket
        self.objects: dict[str, Object] = {}
        self.versioning = False
        self.older: dict[str, list[Object]] = {}  # noncurrent generations, rising
        self.rewrites: dict[str, tuple[str, int, int]] = {}
        self.requests: list[str] = []
        self.page = 1000
        self.rewrite_bytes = 1 << 40        # copied by one call
        self.troubles: list[dict] = []      # {"match": regex, "status": 503, "times": 2}
        self.tokens: set[str] | None = None  # None: nobody is asked
        self.token_life = 3600
        self.token_delay = 0.0
        self.token_status = 200
        self.grants: list[dict[str, str]] = []
        self.flip = False                   # answers media with one bit changed
        self.last = int(time.time() * 1e6)
        self.lock = threading.RLock()

    def store(self, **more: str) -> dict[str, str]:
        return {"backend": "gcs", "bucket": self.bucket, "endpoint_url": self.endpoint, "anonymous": "yes",
                **more}

    def put(self, name: str, data: bytes, metadata: dict[str, str] | None = None, content_type: str = "",
            storage_class: str = "STANDARD") -> Object:
        """As another client would."""
        with self.lock:
            self.last = max(self.last + 1, int(time.time() * 1e6))
            now = stamp()
            self.retire(name)
            made = Object(data, self.last, dict(metadata or {}), content_type, storage_class, 1, now, crc32c(data))
            self.objects[name] = made
            return made

    def retire(self, name: str) -> None:
        """What is live goes: kept when the bucket keeps versions."""
        with self.lock:
            old = self.objects.pop(name, None)
            if old and self.versioning:
                old.deleted = stamp()
                self.older.setdefault(name, []).append(old)

    def generation(self, name: str, number: str | None) -> Object | None:
        live = self.objects.get(name)
        if number is None:
            return live
        every = self.older.get(name, []) + ([live] if live else [])
        return next((o for o in every if str(o.generation) == number), None)

    def names(self) -> list[str]:
        return sorted(self.objects)

    def get(self, name: str) -> bytes:
        return self.objects[name].data

    def names(self) -> list[str]:
        return sorted(self.objects)

    def delete(self, name: str) -> None:
        self.retire(name)

    def count(self, pattern: str) -> int:
        return sum(1 for line in self.requests if re.search(pattern, line))

    def new_token(self) -> str:
        token = "ya29." + secrets.token_hex(12)
        with self.lock:
            if self.tokens is not None:
                self.tokens.add(token)
        return token

    def resource(self, name: str, o: Object) -> dict:
        shown = {"kind": "storage#object", "name": name, "bucket": self.bucket, "generation": str(o.generation),
                 "metageneration": str(o.metageneration), "size": str(len(o.data)), "timeCreated": o.created,
                 "updated": o.created, "storageClass": o.storage_class, "crc32c": o.crc32c}
        if o.deleted:
            shown["timeDeleted"] = o.deleted
        if o.content_type:
            shown["contentType"] = o.content_type
        if o.metadata:
            shown["metadata"] = dict(o.metadata)
        return shown


class _Handler(BaseHTTPRequestHandler):
    fake: FakeGCS
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        pass

    # Answers
    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def say(self, value: dict, status: int = 200) -> None:
        self.answer(status, json.dumps(value).encode(), {"Content-Type": "application/json; charset=UTF-8"})

    def refuse(self, status: int, reason: str, message: str = "") -> None:
        self.say({"error": {"code": status, "message": message or reason,
                            "errors": [{"domain": "global", "reason": reason, "message": message}]}}, status)

    def serve(self) -> None:
        fake = self.fake
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        fake.requests.append(f"{self.command} {self.path}")
        raw, _, query = self.path.partition("?")
        self.query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        try:
            for trouble in fake.troubles:
                if trouble["times"] > 0 and re.search(trouble["match"], f"{self.command} {self.path}"):
                    trouble["times"] -= 1
                    raise Refused(trouble["status"], trouble.get("reason", "backendError"))
            self.route(raw)
        except Refused as no:
            self.refuse(no.status, no.reason, no.message)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = serve

    def route(self, raw: str) -> None:
        fake = self.fake
        if raw == "/token":
            return self.token()
        if raw.startswith("/computeMetadata/"):
            return self.metadata_server()
        self.authorize()
        base = f"/storage/v1/b/{fake.bucket}/o"
        if raw == "/upload" + base and self.command == "POST":
            return self.insert()
        if raw == base.removesuffix("/o"):
            return self.say({"versioning": {"enabled": True}} if fake.versioning else {})
        if raw.startswith("/storage/v1/b/") and not raw.startswith(base):
            raise Refused(404, "notFound", "The specified bucket does not exist.")
        if raw == base and self.command == "GET":
            return self.list_generations() if self.query.get("versions") == "true" else self.list()
        copy = re.fullmatch(re.escape(base) + r"/([^/]+)/rewriteTo/b/([^/]+)/o/([^/]+)", raw)
        if copy and self.command == "POST":
            return self.rewrite(urllib.parse.unquote(copy[1]), urllib.parse.unquote(copy[3]))
        compose = re.fullmatch(re.escape(base) + r"/([^/]+)/compose", raw)
        if compose and self.command == "POST":
            return self.compose(urllib.parse.unquote(compose[1]))
        one = re.fullmatch(re.escape(base) + r"/([^/]+)", raw)
        if one:
            return self.one(urllib.parse.unquote(one[1], errors="strict"))
        if raw.startswith(f"/{fake.bucket}/"):
            return self.signed(urllib.parse.unquote(raw.removeprefix(f"/{fake.bucket}/")))
        raise Refused(404, "notFound", "Not Found")

    def authorize(self) -> None:
        allowed = self.fake.tokens
        given = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if allowed is not None and given not in allowed and "X-Goog-Signature" not in self.query:
            raise Refused(401, "authError", "Invalid Credentials")

    # Who
    def token(self) -> None:
        fake = self.fake
        form = dict(urllib.parse.parse_qsl(self.body.decode()))
        fake.grants.append(form)
        time.sleep(fake.token_delay)
        if fake.token_status != 200:
            self.say({"error": "invalid_grant", "error_description": "Invalid JWT Signature."}, fake.token_status)
            return
        self.say({"access_token": fake.new_token(), "expires_in": fake.token_life, "token_type": "Bearer"})

    def metadata_server(self) -> None:
        if self.headers.get("Metadata-Flavor") != "Google":
            raise Refused(403, "forbidden", "Missing Metadata-Flavor:Google header.")
        self.fake.grants.append({"grant_type": "metadata"})
        self.say({"access_token": self.fake.new_token(), "expires_in": self.fake.token_life,
                  "token_type": "Bearer"})

    # Preconditions
    def check(self, found: Object | None, creating: bool, prefix: str = "if") -> None:
        wanted = self.query.get(f"{prefix}GenerationMatch")
        meta = self.query.get(f"{prefix}MetagenerationMatch")
        if found is None and not creating:
            raise Refused(404, "notFound", "No such object")
        if wanted is not None and int(wanted) != (found.generation if found else 0):
            raise Refused(412, "conditionNotMet")
        if meta is not None and (found is None or int(meta) != found.metageneration):
            raise Refused(412, "conditionNotMet")

    # One object
    def one(self, name: str) -> None:
        with self.fake.lock:
            found = self.fake.generation(name, self.query.get("generation"))
            self.check(found, False)
            assert found is not None
            if self.command == "DELETE":
                self.fake.retire(name)
                self.answer(204)
                return
            if self.command == "PATCH":
                self.patch(found)
            resource = self.fake.resource(name, found)
        if self.query.get("alt") == "media":
            self.media(found)
        else:
            self.say(resource)

    def patch(self, found: Object) -> None:
        change = json.loads(self.body)
        for key, value in change.get("metadata", {}).items():
            if value is None:
                found.metadata.pop(key, None)
            else:
                found.metadata[key] = value
        found.content_type = change.get("contentType", found.content_type)
        found.metageneration += 1

    def media(self, found: Object) -> None:
        data, size = found.data, len(found.data)
        headers = {"x-goog-generation": str(found.generation), "x-goog-stored-content-length": str(size),
                   "Content-Type": found.content_type or "application/octet-stream", "x-goog-hash": "crc32c=" + found.crc32c}
        if self.fake.flip and data:
            data = bytes([data[0] ^ 1]) + data[1:]
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        if not asked:
            self.answer(200, data, headers)
            return
        first, last = int(asked[1]), min(int(asked[2]), size - 1)
        if first >= size:
            raise Refused(416, "requestedRangeNotSatisfiable")
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        self.answer(206, data[first:last + 1], headers)

    def signed(self, name: str) -> None:
        """GET or PUT of a signed URL (XML API); the signature itself is checked by the unit tests."""
        if self.fake.tokens is not None and "X-Goog-Signature" not in self.query:
            raise Refused(403, "forbidden")
        if self.command == "PUT":
            self.fake.put(name, self.body, content_type=self.headers.get("Content-Type") or "")
            self.answer(200)
        elif name in self.fake.objects:
            self.media(self.fake.objects[name])
        else:
            raise Refused(404, "notFound", "No such object")

    # Listing
    def list(self) -> None:
        q = self.query
        prefix, delimiter = q.get("prefix", "").encode(), q.get("delimiter", "").encode()
        start = q.get("startOffset", "").encode()
        behind = base64.b64decode(q["pageToken"]) if "pageToken" in q else b""
        most = min(int(q.get("maxResults", "1000")), self.fake.page)
        items: list[dict] = []
        prefixes: list[str] = []
        last, more, seen = b"", False, b""
        with self.fake.lock:
            for name in sorted(name.encode() for name in self.fake.objects):
                if not name.startswith(prefix) or name < start:
                    continue
                cut = name.find(delimiter, len(prefix)) if delimiter else -1
                shown = name[:cut + len(delimiter)] if cut >= 0 else name
                if shown <= behind or shown == seen:
                    continue
                if len(items) + len(prefixes) == most:
                    more = True
                    break
                last = seen = shown
                if cut >= 0:
                    prefixes.append(shown.decode())
                else:
                    items.append(self.fake.resource(name.decode(), self.fake.objects[name.decode()]))
        page: dict = {"kind": "storage#objects"}
        if items:
            page["items"] = items
        if prefixes:
            page["prefixes"] = prefixes
        if more:
            page["nextPageToken"] = base64.b64encode(last).decode()
        self.say(page)

    def list_generations(self) -> None:
        """Every generation, by name and age. A delimiter leaves out what lies deeper."""
        q = self.query
        prefix, delimiter, most = q.get("prefix", ""), q.get("delimiter"), self.fake.page
        start = int(q.get("pageToken", "0"))
        with self.fake.lock:
            names = sorted({*self.fake.objects, *self.fake.older}, key=str.encode)
            every = [self.fake.resource(name, o) for name in names if name.startswith(prefix)
                     and not (delimiter and delimiter in name[len(prefix):])
                     for o in [*self.fake.older.get(name, []), *filter(None, [self.fake.objects.get(name)])]]
        page = {"kind": "storage#objects", "items": every[start:start + most]}
        if start + most < len(every):
            page["nextPageToken"] = str(start + most)
        self.say(page)

    # Writing
    def insert(self) -> None:
        if self.query.get("uploadType") != "multipart":
            raise Refused(400, "invalid", "uploadType")
        boundary = re.search(r'boundary="?([^";]+)', self.headers.get("Content-Type") or "")
        if not boundary or not (self.headers.get("Content-Type") or "").startswith("multipart/related"):
            raise Refused(400, "badContent", "no boundary")
        mark = b"--" + boundary[1].encode()
        if not self.body.startswith(mark + b"\r\n") or not self.body.endswith(b"\r\n" + mark + b"--\r\n"):
            raise Refused(400, "badContent", "Missing end boundary in multipart body.")
        whole = self.body[len(mark) + 2:-len(mark) - 6]
        first, _, second = whole.partition(b"\r\n" + mark + b"\r\n")
        resource = json.loads(first.partition(b"\r\n\r\n")[2])
        head, _, data = second.partition(b"\r\n\r\n")
        name = resource.get("name", "")
        if not name or len(name.encode()) > 1024 or "\n" in name or "\r" in name or name in (".", ".."):
            raise Refused(400, "invalid", "Invalid object name")
        if sum(len(k.encode()) + len(v.encode()) for k, v in resource.get("metadata", {}).items()) > 8192:
            raise Refused(400, "invalid", "metadata too large")
        if resource.get("crc32c", "") not in ("", crc32c(data)):
            raise Refused(400, "invalid", "Provided CRC32C doesn't match calculated CRC32C")
        type_line = re.search(rb"(?i)content-type: *([^\r\n]+)", head)
        with self.fake.lock:
            self.check(self.fake.objects.get(name), True)
            made = self.fake.put(name, data, resource.get("metadata"),
                                 resource.get("contentType") or (type_line[1].decode() if type_line else ""),
                                 resource.get("storageClass", "STANDARD"))
            shown = self.fake.resource(name, made)
        self.say(shown)

    def compose(self, name: str) -> None:
        ask = json.loads(self.body)
        sources = ask["sourceObjects"]
        if not 1 <= len(sources) <= 32:
            raise Refused(400, "invalid", "The number of source components provided exceeds the maximum (32).")
        with self.fake.lock:
            self.check(self.fake.objects.get(name), True)
            pieces = []
            for source in sources:
                found = self.fake.objects.get(source["name"])
                if found is None or int(source.get("generation", found.generation)) != found.generation:
                    raise Refused(404, "notFound", f"Object {source['name']} (generation) not found.")
                match = source.get("objectPreconditions", {}).get("ifGenerationMatch")
                if match is not None and int(match) != found.generation:
                    raise Refused(412, "conditionNotMet")
                pieces.append(found.data)
            to = ask.get("destination", {})
            made = self.fake.put(name, b"".join(pieces), to.get("metadata"), to.get("contentType", ""),
                                 to.get("storageClass", "STANDARD"))
            shown = self.fake.resource(name, made)
        self.say(shown)

    def rewrite(self, source: str, target: str) -> None:
        with self.fake.lock:
            found = self.fake.generation(source, self.query.get("sourceGeneration"))
            if found is None:
                raise Refused(404, "notFound", f"No such object: {source}")
            self.check(found, False, "ifSource")
            self.check(self.fake.objects.get(target), True)
            token = self.query.get("rewriteToken")
            if token is not None and self.fake.rewrites.get(token, ("", 0, 0))[:2] != (target, found.generation):
                raise Refused(400, "invalid", "rewriteToken")
            done = self.fake.rewrites.pop(token)[2] if token else 0
            done = min(len(found.data), done + self.fake.rewrite_bytes)
            answer: dict = {"kind": "storage#rewriteResponse", "totalBytesRewritten": str(done),
                            "objectSize": str(len(found.data)), "done": done == len(found.data)}
            if answer["done"]:
                made = self.fake.put(target, found.data, found.metadata, found.content_type)
                answer["resource"] = self.fake.resource(target, made)
            else:
                answer["rewriteToken"] = secrets.token_hex(8)
                self.fake.rewrites[answer["rewriteToken"]] = (target, found.generation, done)
        self.say(answer)
