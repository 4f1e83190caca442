"""Servers that answer a listing with what no service sends: an error on that key, in bounded time and memory, and the
other keys go on. What each parser makes of single bytes is for the fuzzers (tests/fuzz)."""

import errno
import json
import os
import re

import pytest

from harness.tools import eventually, fails_with
from servers.web import FakeWeb, Reply

MIB = 1 << 20
LISTINGS = {"s3": r"list-type=2", "azure": r"comp=list", "gcs": r"/o\?|/o$"}


def section(kind: str, server: FakeWeb) -> dict[str, str]:
    common = {"backend": kind, "endpoint_url": server.url.rstrip("/"), "retries": "0", "cache.ttl": "1ms"}
    return common | {
        "s3": {"bucket": "bucket", "region": "us-east-1", "access_key_id": "a", "secret_access_key": "s"},
        "azure": {"container": "bucket", "account": "a", "account_key": "a2V5"},
        "gcs": {"bucket": "bucket", "anonymous": "yes"},
    }[kind]


def s3(entries: str, cursor: str = "") -> bytes:
    more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{cursor}</NextContinuationToken>"
    return (f"<ListBucketResult><Name>bucket</Name><Prefix></Prefix>{more if cursor else '<IsTruncated>false</IsTruncated>'}"
            f"{entries}</ListBucketResult>").encode()


def s3_entry(key: str) -> str:
    return (f"<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;e&quot;</ETag>"
            "<Size>1</Size></Contents>")


def azure(entries: str, cursor: str = "") -> bytes:
    return f"<EnumerationResults><Blobs>{entries}</Blobs><NextMarker>{cursor}</NextMarker></EnumerationResults>".encode()


def azure_entry(key: str) -> str:
    return (f"<Blob><Name>{key}</Name><Properties><Last-Modified>Thu, 01 Jan 2026 00:00:00 GMT</Last-Modified>"
            "<Etag>0x1</Etag><Content-Length>1</Content-Length><BlobType>BlockBlob</BlobType></Properties></Blob>")


def gcs(items: list[dict], cursor: str = "") -> bytes:
    return json.dumps({"kind": "storage#objects", "items": items} | ({"nextPageToken": cursor} if cursor else {})).encode()


def gcs_entry(key: str) -> dict:
    return {"name": key, "size": "1", "generation": "1", "metageneration": "1", "updated": "2026-01-01T00:00:00Z"}


def page(kind: str, key: str, cursor: str = "") -> bytes:
    """A sound page of one entry."""
    return {"s3": lambda: s3(s3_entry(key), cursor), "azure": lambda: azure(azure_entry(key), cursor),
            "gcs": lambda: gcs([gcs_entry(key)], cursor)}[kind]()


BOMB = "<!DOCTYPE x [" + '<!ENTITY a0 "ha">' + "".join(
    f'<!ENTITY a{n} "&a{n - 1};&a{n - 1};&a{n - 1};&a{n - 1};&a{n - 1};&a{n - 1};&a{n - 1};&a{n - 1};&a{n - 1};">'
    for n in range(1, 12)) + "]>"
BODIES = {
    "entities": {"s3": BOMB.encode() + s3(s3_entry("&a11;")), "azure": BOMB.encode() + azure(azure_entry("&a11;"))},
    "an external entity": {"s3": b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + s3(s3_entry("&e;")),
                           "azure": b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + azure(azure_entry("&e;"))},
    "an encoding that lies": {"s3": b'<?xml version="1.0" encoding="UTF-8"?>' + s3(s3_entry("k")).replace(b"k<", b"\xff\xfe<"),
                              "azure": b'<?xml version="1.0" encoding="UTF-8"?>' + azure(azure_entry("k")).replace(b"k<", b"\xff\xfe<"),
                              "gcs": gcs([gcs_entry("k")]).replace(b'"k"', b'"\xff\xfe"')},
    "the half of it": {kind: page(kind, "k")[:-30] for kind in LISTINGS},
    "another language": {kind: b"<html><body>Please log in to the hotel's network.</body></html>" for kind in LISTINGS},
    "depth": {"s3": b"<a>" * 200_000, "azure": b"<a>" * 200_000, "gcs": b"[" * 200_000},
}


def is_listing(kind: str, request) -> bool:
    return request.method == "GET" and re.search(LISTINGS[kind], request.path) is not None


def only_listings(kind: str, body: bytes):
    return lambda r: Reply(200, body, Content_Type="application/xml") if is_listing(kind, r) else Reply(404)


@pytest.mark.parametrize("kind", LISTINGS)
def test_a_body_that_is_none(mount, fake_web, kind):
    """Each is an error, never an empty directory, and a sound answer works again."""
    answers = {"body": b""}
    server = fake_web(lambda r: only_listings(kind, answers["body"])(r))
    m = mount({"store k": section(kind, server), "store scratch": {"backend": "memory"}})
    for name, bodies in BODIES.items():
        if kind not in bodies:
            continue
        answers["body"] = bodies[kind]
        with fails_with(errno.EIO, errno.EHOSTUNREACH):  # after some the key counts as away
            pytest.fail(f"{name}: {os.listdir(m / 'k')}")
        (m / "scratch/f").write_bytes(b"x")
    answers["body"] = page(kind, "sound")

    def is_back() -> bool:
        try:
            return os.listdir(m / "k") == ["sound"]
        except OSError:
            return False

    assert eventually(is_back)


@pytest.mark.parametrize("kind", LISTINGS)
def test_a_gigabyte_of_listing(mount, fake_web, kind):
    """It is not read to its end, and not kept."""
    blanks = b" " * (1024 * MIB)
    server = fake_web(only_listings(kind, blanks))
    m = mount({"store k": section(kind, server)})
    os.listdir(m.path)
    before = m.peak_rss()
    with fails_with(errno.EIO):
        os.listdir(m / "k")
    assert m.peak_rss() - before < 100 * MIB


@pytest.mark.parametrize("kind", LISTINGS)
def test_pages_without_end(mount, fake_web, kind):
    """Each page says that the next is the one that was just given."""
    server = fake_web(only_listings(kind, page(kind, "k", "again")))
    m = mount({"store k": section(kind, server)})
    with fails_with(errno.EIO):
        os.listdir(m / "k")
    assert len(server.requests) < 20


@pytest.mark.parametrize("kind", LISTINGS)
def test_keys_that_climb(mount, fake_web, kind):
    """They are shown under escaped names, one each, and nothing outside of the mount is touched."""
    keys = ["../../etc/passwd", "/etc/passwd", "..", "a/../../b"]
    entries = {"s3": lambda: s3("".join(map(s3_entry, keys))), "azure": lambda: azure("".join(map(azure_entry, keys))),
               "gcs": lambda: gcs([gcs_entry(key) for key in keys])}[kind]()
    server = fake_web(only_listings(kind, entries))
    m = mount({"store k": section(kind, server)})
    names = os.listdir(m / "k")
    assert names and all("/" not in name and name not in (".", "..", "") for name in names)
