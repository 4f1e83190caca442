#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""seeds.py FOLDER: what the fuzzers begin with: FOLDER/TARGET/* are inputs, FOLDER/TARGET.dict the words of the language.

Sound replies of each kind of server, so that what is behind the first check is reached; the fuzzer spoils them."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

END = b"\x1e"

# ---- XML, JSON, pages by themselves ----

S3_LIST = b"""<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>\
<EncodingType>url</EncodingType><KeyCount>3</KeyCount><IsTruncated>true</IsTruncated><NextContinuationToken>t1</NextContinuationToken>\
<Contents><Key>p/d/f%201</Key><LastModified>2023-11-14T22:13:20.000Z</LastModified><ETag>&quot;e1&quot;</ETag><Size>5</Size>\
<UserMetadata><X-Amz-Meta-Mode>33188</X-Amz-Meta-Mode><X-Amz-Meta-Mtime>1700000000.5</X-Amz-Meta-Mtime></UserMetadata></Contents>\
<Contents><Key>p/d/</Key><LastModified>2023-11-14T22:13:20Z</LastModified><ETag>"e2"</ETag><Size>0</Size></Contents>\
<CommonPrefixes><Prefix>p/d/sub/</Prefix></CommonPrefixes></ListBucketResult>"""
S3_LAST = S3_LIST.replace(b"true", b"false").replace(b"<NextContinuationToken>t1</NextContinuationToken>", b"")
S3_DELETE = (b"<DeleteResult><Deleted><Key>p/d/f</Key></Deleted><Error><Key>p/d/g</Key><Code>InternalError</Code>"
             b"<Message>m</Message></Error></DeleteResult>")
S3_ERROR = b"<Error><Code>%s</Code><Message>why</Message><Region>eu-west-1</Region><Endpoint>x</Endpoint></Error>"
STS = (b"<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
       b"<SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult>"
       b"</AssumeRoleResponse>")
IMDS = (b'{"Code":"Success","AccessKeyId":"ASIA","SecretAccessKey":"s","Token":"t","Expiration":"2099-01-01T00:00:00Z"}')
AZURE_LIST = b"""\xef\xbb\xbf<?xml version="1.0" encoding="utf-8"?><EnumerationResults ContainerName="c"><Prefix>p/d/</Prefix><Blobs>\
<Blob><Name>p/d/f</Name><Properties><Last-Modified>Tue, 14 Nov 2023 22:13:20 GMT</Last-Modified><Etag>0x8D</Etag>\
<Content-Length>7</Content-Length><Content-Type>text/plain</Content-Type><BlobType>BlockBlob</BlobType></Properties>\
<Metadata><mode>33188</mode><mtime>1700000000</mtime><hdi_isfolder>true</hdi_isfolder></Metadata></Blob>\
<BlobPrefix><Name>p/d/s/</Name></BlobPrefix></Blobs><NextMarker>m1</NextMarker></EnumerationResults>"""
AZURE_LAST = AZURE_LIST.replace(b"<NextMarker>m1</NextMarker>", b"<NextMarker />")
GCS_OBJECT = {"kind": "storage#object", "name": "p/d/f", "bucket": "buck", "generation": "1700000000000001",
              "metageneration": "2", "size": "7", "timeCreated": "2023-11-14T22:13:20.123Z", "contentType": "text/plain",
              "updated": "2023-11-14T22:13:20.123Z", "crc32c": "AAAAAA==", "metadata": {"mode": "33188", "mtime": "1700000000"}}
GCS_LIST = json.dumps({"kind": "storage#objects", "items": [GCS_OBJECT], "prefixes": ["p/d/s/"],
                       "nextPageToken": "t1"}).encode()
GCS_LAST = json.dumps({"items": [GCS_OBJECT], "prefixes": ["p/d/s/"]}).encode()
API_PAGE = b'{"data":{"rows":[{"id":1,"n":"x"},{"id":"b/c","updated_at":"2023-11-14T22:13:20Z"}]},"meta":{"next":"c2"}}'
API_LIST = b'[{"id":"a"},{"id":2},{"id":"%2e"}]'
NGINX = (b'<html><head><title>Index of /files/</title></head><body><h1>Index of /files/</h1><hr><pre><a href="../">../</a>\n'
         b'<a href="d/">d/</a>   14-Nov-2023 22:13    -\n<a href="f%20g">f g</a>  14-Nov-2023 22:13   1234\n</pre></body></html>')
APACHE = (b'<table id="indexlist"><tr><td class="indexcolname"><a href="f.txt">f.txt</a></td><td>2023-11-14 22:13  </td>'
          b"<td>1.2K</td></tr></table>")
AUTOINDEX = b'[{"name":"d","type":"directory","mtime":"Tue, 14 Nov 2023 22:13:20 GMT"},{"name":"f","type":"file","size":7}]'
MANIFEST = b"# files\nd/f 7\nd/g\t12\td41d8cd98f00b204e9800998ecf8427e\nhttp://127.0.0.1:1/files/h\n"


def reply(status: int, body: bytes = b"", *headers: str) -> bytes:
    return str(status).encode() + b"\n" + b"".join(h.encode() + b"\n" for h in headers) + b"\n" + body + END


ETAG = ("ETag: \"e1\"", "Last-Modified: Tue, 14 Nov 2023 22:13:20 GMT")
S3_META = ("x-amz-meta-mode: 33188", "x-amz-meta-mtime: 1700000000.5", "x-amz-meta-xattr: %7B%22user.a%22%3A%22Yg%3D%3D%22%7D",
           "content-type: text/plain", "content-length: 7", "x-amz-tagging-count: 1")
RANGE = "Content-Range: bytes 0-6/7"


def s3_replies() -> list[bytes]:
    head = reply(200, b"", *ETAG, *S3_META)
    begin = reply(200, b"<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>")
    part = reply(200, b"", ETAG[0])
    copied = reply(200, b"<CopyPartResult><ETag>\"e2\"</ETag></CopyPartResult>")
    done = reply(200, b"<CompleteMultipartUploadResult><ETag>\"e3-2\"</ETag></CompleteMultipartUploadResult>")
    tagging = reply(200, b"<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>")
    refusals = [reply(status, S3_ERROR % code) for status, code in [
        (404, b"NoSuchKey"), (403, b"AccessDenied"), (301, b"PermanentRedirect"), (400, b"AuthorizationHeaderMalformed"),
        (503, b"SlowDown"), (412, b"PreconditionFailed"), (501, b"NotImplemented"), (400, b"RequestTimeTooSkewed")]]
    return [
        b"0l\n" + reply(200, S3_LIST) + reply(200, S3_LAST), b"0L\n" + reply(200, S3_LAST), b"0s\n" + head,
        b"0sr\n" + head + reply(206, b"content", RANGE, *ETAG), b"0pP\n" + part * 4, b"0sqc\n" + head + part + head + copied,
        b"0su\n" + head + begin + part + copied + done + head, b"0a\n" + begin + part + reply(404, S3_ERROR % b"NoSuchUpload"),
        b"0D\n" + reply(200, S3_DELETE), b"0t\n" + tagging + reply(200), b"0kK\n" + reply(200, S3_LAST) * 3,
        b"0m\n" + head + reply(200, b"<CopyObjectResult><ETag>\"e2\"</ETag></CopyObjectResult>") + head,
        b"0u\n" + begin + part + copied + reply(200, S3_ERROR % b"InternalError"), b"1sl\n" + reply(200, STS) + head + reply(200, S3_LAST),
        b"1s\n" + reply(403, b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"),
        b"2s\n" + reply(200, b"token") + reply(200, b"role") + reply(200, IMDS) + head,
        *[b"0sl\n" + refused + refused for refused in refusals], b"0bd\n" + reply(200, S3_LAST) + reply(204)]


def gcs_replies() -> list[bytes]:
    one = json.dumps(GCS_OBJECT).encode()
    media = reply(200, b"content", "x-goog-generation: 1700000000000001", "x-goog-hash: crc32c=AAAAAA==",
                  "x-goog-stored-content-length: 7", "content-type: text/plain", "x-goog-meta-mode: 33188")
    token = reply(200, b'{"access_token":"ya29.x","expires_in":3599,"token_type":"Bearer"}')
    refusals = [reply(status, json.dumps({"error": {"code": status, "message": "why", "errors": [{"reason": reason}]}}).encode())
                for status, reason in [(404, "notFound"), (403, "forbidden"), (429, "rateLimitExceeded"), (412, "conditionNotMet")]]
    begin = reply(200, b"", "Location: http://127.0.0.1:1/upload?upload_id=u1")
    return [b"0l\n" + reply(200, GCS_LIST) + reply(200, GCS_LAST), b"0L\n" + reply(200, GCS_LAST), b"0sr\n" + reply(200, one) + media,
            b"0pPq\n" + reply(200, one) * 3, b"0su\n" + reply(200, one) + reply(200, one) * 8, b"0u\n" + begin + reply(308, b"", "Range: bytes=0-6"),
            b"0m\n" + reply(200, one) * 2, b"0c\n" + reply(200, json.dumps({"done": True, "resource": GCS_OBJECT}).encode()),
            b"0c\n" + reply(200, b'{"done":false,"rewriteToken":"r"}') * 2, b"0kKdD\n" + reply(200, one) * 2 + reply(204) * 4,
            b"1sl\n" + token + reply(200, one) + reply(200, GCS_LAST), b"1s\n" + reply(400, b'{"error":"invalid_grant","error_description":"x"}'),
            *[b"0sl\n" + refused * 2 for refused in refusals]]


def azure_replies() -> list[bytes]:
    head = reply(200, b"", "ETag: \"0x8D\"", ETAG[1], "Content-Length: 7", "x-ms-blob-type: BlockBlob", "x-ms-meta-mode: 33188",
                 "Content-Type: text/plain")
    refusals = [reply(status, b"", f"x-ms-error-code: {code}") for status, code in [
        (404, "BlobNotFound"), (403, "AuthenticationFailed"), (409, "LeaseIdMissing"), (503, "ServerBusy"), (412, "ConditionNotMet")]]
    made = reply(201, b"", "ETag: \"0x8E\"", ETAG[1])
    pending = reply(202, b"", "x-ms-copy-id: c1", "x-ms-copy-status: pending", "ETag: \"0x8E\"", ETAG[1])
    return [b"0l\n" + reply(200, AZURE_LIST) + reply(200, AZURE_LAST), b"0L\n" + reply(200, AZURE_LAST),
            b"0sr\n" + head + reply(206, b"content", RANGE, "ETag: \"0x8D\"", ETAG[1]), b"0pPq\n" + made * 3,
            b"0su\n" + head + made * 6, b"0a\n" + made * 3, b"0c\n" + pending + head * 3, b"0c\n" + pending + reply(
                200, b"", "x-ms-copy-id: c1", "x-ms-copy-status: success", "ETag: \"0x8F\"", ETAG[1], "Content-Length: 7") * 2,
            b"0m\n" + head + made + head, b"0t\n" + reply(200, b"<Tags><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tags>"),
            b"0kKdD\n" + made + reply(202) * 5, *[b"0sl\n" + refused * 2 for refused in refusals]]


def web_replies() -> list[bytes]:
    file = ("Content-Length: 7", "Accept-Ranges: bytes", *ETAG)
    html = "Content-Type: text/html"
    return [b"0l\n" + reply(200, NGINX, html) * 2, b"0L\n" + reply(200, APACHE, html) * 3, b"0l\n" + reply(200, AUTOINDEX, "Content-Type: application/json"),
            b"0sr\n" + reply(200, b"", *file) + reply(206, b"content", RANGE, *ETAG), b"0srR\n" + reply(200, b"", *ETAG) + reply(200, b"content" * 99),
            b"0s\n" + reply(301, b"", "Location: http://127.0.0.1:1/files/d/f/") + reply(200, NGINX, html),
            b"0s\n" + reply(302, b"", "Location: https://elsewhere/x"), b"0sl\n" + reply(404) + reply(403), b"1lL\n" + reply(200, MANIFEST) * 2,
            b"1sr\n" + reply(200, MANIFEST) + reply(200, b"", *file) + reply(206, b"content", RANGE), b"1l\n" + reply(200, AUTOINDEX)]


def api_replies() -> list[bytes]:
    js = "Content-Type: application/json"
    return [b"0l\n" + reply(200, API_LIST, js, 'Link: <http://127.0.0.1:1/v1/d?page=2>; rel="next"') + reply(200, API_LIST.replace(b"a", b"b"), js),
            b"0sr\n" + reply(200, b"", js, "Content-Length: 9", *ETAG) + reply(200, b'{"id":"f"}', js), b"1l\n" + reply(200, API_LIST) + reply(200, b"[]"),
            b"1lL\n" + reply(200, API_LIST) + reply(404), b"2l\n" + reply(200, API_PAGE) + reply(200, API_PAGE.replace(b'"c2"', b"null")),
            b"2sr\n" + reply(200, b"", js) + reply(200, b"record", js, *ETAG), b"0pdc\n" + reply(201, b'{"id":"f"}', js) + reply(204),
            b"0l\n" + reply(429, b"", "Retry-After: 3", "X-RateLimit-Reset: 1700000000") + reply(401, b"no")]


# ---- SFTP ----

def u32(*numbers: int) -> bytes:
    return b"".join(struct.pack(">I", n) for n in numbers)


def text(data: bytes) -> bytes:
    return u32(len(data)) + data


def packet(kind: int, body: bytes = b"") -> bytes:
    return struct.pack(">BH", kind, len(body)) + body


def shell(output: bytes = b"", status: int = 0, reason: bytes = b"", said: bytes = b"", extra: bytes = b"") -> bytes:
    return b"%d\t%s\t%s\t%s\n" % (status, reason, said, extra) + output + END


def shell_inputs() -> list[bytes]:
    file = b"81a4 0 0 7 1700000000 1700000000 12|2023-11-14 22:13:20.000000000 +0000|"
    folder = file.replace(b"81a4", b"41ed")
    ready, done = shell(extra=b"1"), shell()
    gone = shell(b"", 1, b"No such file or directory", b"stat: cannot stat 'f': No such file or directory")
    denied = shell(b"", 1, b"Permission denied", b"Permission denied")
    names = file + b"/srv/d/f/\n" + folder + b"/srv/d/sub/\n" + file.replace(b"81a4", b"a1ff") + b"/srv/d/l/\n"
    return [b"xs\n" + ready + shell(file), b"xl\n" + ready + shell(names), b"xL\n" + ready + shell(names) + shell(b"") + done,
            b"xsr\n" + ready + shell(file) + ready + shell(file + b"content", extra=file), b"xsd\n" + ready + gone + ready + denied,
            b"xp\n" + ready + gone + shell(extra=file) + done * 4, b"xkKm\n" + (ready + shell(folder) + done * 2) * 3,
            b"xb\n" + ready + shell(b"4096 1000 900 800 100 90\n") * 3, b"xs\n!This account is not available.\n" + END,
            b"xD\n" + ready + shell(b"0".ljust(63) + b"\n" + b"1 No such file or directory".ljust(63) + b"\n"), b"xs\n" + shell(extra=b"0 stat")]


def sftp_inputs() -> list[bytes]:
    extensions = [b"posix-rename@openssh.com", b"statvfs@openssh.com", b"fsync@openssh.com", b"lsetstat@openssh.com", b"copy-data"]
    # INIT: the body comes as it is; what follows the version are names and values.
    hello = u32(3) + b"".join(text(e) + text(b"1") for e in extensions)
    version = packet(0, u32(len(hello) + 1) + b"\x02" + hello)
    limits = u32(3) + text(b"limits@openssh.com") + text(b"1")
    version_limits = packet(0, u32(len(limits) + 1) + b"\x02" + limits) + packet(201, struct.pack(">4Q", 262144, 261120, 261120, 128))
    file = u32(15) + struct.pack(">Q", 7) + u32(0, 0, 0o100644, 1_700_000_000, 1_700_000_000)
    folder = u32(15) + struct.pack(">Q", 0) + u32(0, 0, 0o40755, 1_700_000_000, 1_700_000_000)
    link = u32(4) + u32(0o120777)
    ok, eof, gone, failure = (packet(101, u32(n) + text(b"why") + text(b"en")) for n in (0, 1, 2, 4))
    handle, attrs, dir_attrs = packet(102, text(b"h1")), packet(105, file), packet(105, folder)
    names = packet(104, u32(4) + b"".join(text(n) + text(b"-rw " + n) + a for n, a in [
        (b"f", file), (b"sub", folder), (b"l", link), (b"..", folder)]))
    bare = packet(104, u32(1) + text(b"bare") + text(b"") + u32(0))
    data = packet(103, text(b"content"))
    unasked = packet(0, u32(13) + b"\x65" + u32(77, 0, 0, 0))  # a status with the id of a request that was never sent
    space = packet(201, struct.pack(">11Q", 4096, 4096, 1000, 900, 800, 100, 90, 80, 1, 2, 255))
    return [b"l\n" + version + handle + names + eof * 8, b"L\n" + version + handle + names + eof * 4 + handle + eof * 8,
            b"l\n" + version_limits + handle + bare + eof * 4 + attrs, b"sr\n" + version + attrs + version + attrs + handle + attrs + data + eof + ok,
            b"r\n" + version + handle + attrs + data * 3, b"p\n" + version + gone + handle + ok * 9, b"P\n" + version + attrs + ok * 8,
            b"q\n" + version + attrs + handle + ok * 8, b"d\n" + version + attrs + ok, b"D\n" + version + attrs + ok + gone + failure * 3,
            b"kK\n" + version + ok * 3 + version + dir_attrs + ok * 3, b"m\n" + version + attrs + ok + attrs * 2,
            b"s\n" + version + unasked + attrs, *shell_inputs(), b"sl\n" + version + failure + version + failure + attrs, b"b\n" + version + dir_attrs + handle + space + eof, b"s\n" + packet(0, b"\xff" * 40)]


SIMPLE: dict[str, list[bytes]] = {
    "fuzz_s3_xml": [S3_LIST, S3_LAST, S3_DELETE],
    "fuzz_azure_xml": [AZURE_LIST, AZURE_LAST],
    "fuzz_gcs_json": [GCS_LIST, GCS_LAST, json.dumps(GCS_OBJECT).encode()],
    "fuzz_api_page": [API_PAGE, API_LIST, b'<http://host/a?page=2>; rel="next", </b>; rel=last', b'{"items":[{"id":"x"}],"next":"/p?2"}'],
    "fuzz_web_index": [b"\0" + NGINX, b"\0" + APACHE, b"\1" + AUTOINDEX, b"\2" + MANIFEST, b"\2" + AUTOINDEX],
    "fuzz_http_util": [b"bytes 0-99/1234", b"bytes 0-0/*", b"Tue, 14 Nov 2023 22:13:20 GMT", b"2023-11-14T22:13:20.123Z",
                       b"1700000000.25", b"http://[::1]:80/a%20b?c=d", b"%7B%22user.a%22%3A%22Yg%3D%3D%22%7D", b"33188", b"120"],
    "fuzz_attr_json": [b'{"kind":"file","size":7,"mode":420,"uid":0,"gid":0,"mtime":"1700000000.5","version":"e1","xattrs":{"user.a":"Yg=="}}'],
    "fuzz_conf": [b"[quayfs]\nlog_level = info\n[store k]\nbackend = s3\nbucket = ${B:-x}\nkey_file = ~/k ; why\n[store k@dev]\n"],
    "fuzz_job": [b"[load]\nsource = k:d/*.csv\ntarget = db:t\nformat = csv\nheader = yes\n[columns]\na = int\n"],
    "fuzz_name": [b"a/b%2Fc/../d", b"**/*.[ch]", b"a{b,c}?"],
    "fuzz_rows": [b"\0\0a,b\n1,\"x\"\"y\"\r\n", b"\1\3a\tb\n#c\n1\t2\n", b"\2\1'a\\'b' ; c\n", b"\3\0{\"a\":1.50,\"b\":[1,{\"c\":null}],\"d\":\"\\u00e9\\ud83d\\ude00\"}\n\n{}\n",
                  b"\0\x40a,b\n" + b"x" * 6000 + b",1\n2,3\n", b"\3\x40{\"a\":\"" + b"x" * 6000 + b"\"}\n{\"b\":1}\n"],
    "fuzz_reply_s3": s3_replies(),
    "fuzz_reply_gcs": gcs_replies(),
    "fuzz_reply_azure": azure_replies(),
    "fuzz_reply_web": web_replies(),
    "fuzz_reply_api": api_replies(),
    "fuzz_sftp": sftp_inputs(),
}


def words(inputs: list[bytes]) -> set[bytes]:
    """Tags, names, header names and numbers of the seeds."""
    found: set[bytes] = set()
    for data in inputs:
        word = bytearray()
        for byte in data + b"\n":
            if chr(byte).isalnum() or byte in b"-_.%":
                word.append(byte)
            else:
                if 2 < len(word) < 40:
                    found.add(bytes(word))
                word.clear()
    return found


def main() -> None:
    top = Path(sys.argv[1])
    for target, inputs in SIMPLE.items():
        (top / target).mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(inputs):
            (top / target / f"seed-{number:02}").write_bytes(data)
        extra = {b"\\x1e", b"<![CDATA[", b"&#x0;", b"\\xef\\xbb\\xbf", b"18446744073709551616", b"-1", b"/", b"..", b"%00"}
        lines = sorted(f'"{word.decode("ascii", "ignore")}"' for word in words(inputs) | extra)
        (top / f"{target}.dict").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
