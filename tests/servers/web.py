"""Web servers for the http and api backends: nginx, Python's http.server, and one that does as it is told."""

from __future__ import annotations

import re
import subprocess
import sys
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Callable
from urllib.request import urlopen

from .base import Fake, Server, free_port


class _WebServer(Server):
    """Serves self.root at self.url."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.root = self.folder / "root"
        self.root.mkdir(exist_ok=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def ready(self) -> bool:
        try:
            urlopen(self.url, timeout=10).close()
            return True
        except OSError:
            return False

    def section(self, **more: str) -> dict[str, str]:
        return {"backend": "http", "url": self.url, **more}


class Nginx(_WebServer):
    """With index pages; /json/ shows the same tree with JSON ones, /private/ wants alice:secret."""

    name = "nginx"

    def command(self) -> list[str]:
        paths = "".join(f"{kind}_temp_path {self.folder}/{kind};\n"
                        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        # alice:secret, by `openssl passwd -apr1`
        (self.folder / "users").write_text("alice:$apr1$quayfs00$M93FatT.WbrPBnBN025UN0\n")
        (self.folder / "nginx.conf").write_text(f"""
daemon off; master_process off; pid {self.folder}/pid; error_log {self.folder}/error.log warn;
events {{ worker_connections 256; }}
http {{
    access_log {self.folder}/access.log; {paths}
    include /etc/nginx/mime.types; charset utf-8; keepalive_requests 100000; autoindex on;
    server {{
        listen 127.0.0.1:{self.port}; root {self.root};
        location /json/ {{ alias {self.root}/; autoindex_format json; }}
        location /private/ {{ alias {self.root}/; auth_basic "x"; auth_basic_user_file {self.folder}/users; }}
    }}
{self.more()}
}}
""")
        return ["/usr/sbin/nginx", "-c", str(self.folder / "nginx.conf"), "-p", str(self.folder)]

    def more(self) -> str:
        """Further servers."""
        return ""

    def requests(self) -> list[str]:
        """'GET /path 206' of each."""
        found = re.findall(r'"(\w+ \S+) HTTP/[\d.]+" (\d+)', (self.folder / "access.log").read_text())
        return [f"{what} {status}" for what, status in found]


class TlsNginx(Nginx):
    """Also on tls_port, with a certificate that nobody has signed; /down leads from there to http."""

    def prepare(self) -> None:
        self.certificate, self.tls_port = self.folder / "cert.pem", free_port()
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=here",
                        "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", self.folder / "key.pem",
                        "-out", self.certificate], check=True, capture_output=True)

    def more(self) -> str:
        return f"""
    server {{
        listen 127.0.0.1:{self.tls_port} ssl; root {self.root};
        ssl_certificate {self.certificate}; ssl_certificate_key {self.folder}/key.pem;
        location /down {{ return 302 http://127.0.0.1:{self.port}/f; }}
    }}"""


class PythonHttp(_WebServer):
    """python3 -m http.server: HTTP/1.0, no Range, no ETag."""

    name = "http.server"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "http.server", str(self.port), "--bind", "127.0.0.1",
                "--directory", str(self.root)]


class Reply(Exception):
    """What a FakeWeb answers: Reply(200, b"...", etag='"1"'); underscores in names are '-'."""

    def __init__(self, status: int = 200, body: bytes = b"", length: bool = True, **headers: str):
        super().__init__(status)
        self.status, self.body, self.length = status, body, length
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class FakeWeb(Fake):
    """answer(request) -> Reply, for each request: request.method, .path, .headers (lower-case names).

    `length=False` sends the body in chunks, without a Content-Length. HEAD's body is left out."""

    def __init__(self, answer: Callable[["Request"], Reply]):
        super().__init__(_Handler, "fake")
        self.answer = answer
        self.requests: list[Request] = []
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def section(self, **more: str) -> dict[str, str]:
        return {"backend": "http", "url": self.url, "retry_delay": "10ms", **more}

    def count(self, pattern: str) -> int:
        return sum(1 for r in list(self.requests) if re.search(pattern, f"{r.method} {r.path}"))

    def __enter__(self) -> "FakeWeb":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Request:
    def __init__(self, method: str, path: str, headers: dict[str, str]):
        self.method, self.path, self.headers = method, path, headers

    @property
    def range(self) -> tuple[int, int] | None:
        """First and last byte asked for."""
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range", ""))
        return (int(match[1]), int(match[2])) if match else None

    def ranged(self, data: bytes, **headers: str) -> Reply:
        """As a server that does it right."""
        if self.range is None:
            return Reply(200, data, **headers)
        first, last = self.range
        if first >= len(data):
            return Reply(416, b"", Content_Range=f"bytes */{len(data)}", **headers)
        part = data[first:last + 1]
        return Reply(206, part, Content_Range=f"bytes {first}-{first + len(part) - 1}/{len(data)}", **headers)


class _Handler(BaseHTTPRequestHandler):
    fake: FakeWeb
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:  # the client has had enough
            pass

    def _serve(self) -> None:
        request = Request(self.command, self.path, {k.lower(): v for k, v in self.headers.items()})
        self.fake.requests.append(request)
        reply = self.fake.answer(request)
        self.send_response_only(reply.status)
        if "Date" not in reply.headers:
            self.send_header("Date", formatdate(usegmt=True))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        body = reply.body if self.command != "HEAD" else b""
        try:
            if reply.length:
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(body)
                return
            if self.command != "HEAD":
                self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for at in range(0, len(body), 100_000):
                piece = body[at:at + 100_000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            if self.command != "HEAD":
                self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True

    do_GET = do_HEAD = _serve
