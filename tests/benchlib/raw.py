"""What the machine and the server can do without a file system: curl, a keep-alive HTTP loop, a disk."""

from __future__ import annotations

import os
import socket
import subprocess
from urllib.parse import urlsplit

PART = 128 * 1024


class Requests:
    """One keep-alive connection and requests signed beforehand: little more than the server's own time."""

    def __init__(self, endpoint: str):
        where = urlsplit(endpoint)
        self.host = f"{where.hostname}:{where.port}"
        self.socket = socket.create_connection((where.hostname, where.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray(1 << 20)

    def close(self) -> None:
        self.socket.close()

    def get(self, url: str, first: int = -1, last: int = -1) -> int:
        wanted = f"Range: bytes={first}-{last}\r\n" if first >= 0 else ""
        return self._send("GET", url, wanted, b"")

    def put(self, url: str, body: bytes) -> int:
        return self._send("PUT", url, f"Content-Length: {len(body)}\r\n", body)

    def copy(self, url: str, source: str) -> int:
        return self._send("PUT", url, f"x-amz-copy-source: {source}\r\nContent-Length: 0\r\n", b"")

    def delete(self, url: str) -> int:
        return self._send("DELETE", url, "", b"")

    def _send(self, method: str, url: str, headers: str, body: bytes) -> int:
        """Bytes of the reply's body."""
        path = url[url.index("/", 8):]
        self.socket.sendall(f"{method} {path} HTTP/1.1\r\nHost: {self.host}\r\n{headers}\r\n".encode() + body)
        view = memoryview(self.buffer)
        have = self.socket.recv_into(view)
        while (end := self.buffer.find(b"\r\n\r\n", 0, have)) < 0:
            got = self.socket.recv_into(view[have:])
            if not got:
                raise ConnectionError("the server closed the connection")
            have += got
        head = bytes(self.buffer[:end]).lower()
        if not head.startswith((b"http/1.1 200", b"http/1.1 204", b"http/1.1 206")):
            raise ConnectionError(bytes(self.buffer[:have]).decode(errors="replace")[:500])
        if head.startswith(b"http/1.1 204"):
            return 0
        at = head.find(b"\r\ncontent-length:")
        if at >= 0:
            stop = head.find(b"\r\n", at + 2)
            length = int(head[at + 17:stop if stop > 0 else end])
            left = length - (have - end - 4)
            while left > 0:
                left -= self.socket.recv_into(view)
            return length
        return self._chunked(bytes(self.buffer[end + 4:have]))

    def _chunked(self, data: bytes) -> int:
        """MinIO sends long listings in chunks."""
        total = 0
        while True:
            while b"\r\n" not in data:
                data += self.socket.recv(262144)
            line, data = data.split(b"\r\n", 1)
            size = int(line, 16)
            while len(data) < size + 2:
                data += self.socket.recv(262144)
            data = data[size + 2:]
            total += size
            if size == 0:
                return total


def curl_get(url: str) -> None:
    subprocess.run(["curl", "-fsS", "-o", "/dev/null", url], check=True)


def curl_to(url: str, path: "os.PathLike[str]") -> None:
    subprocess.run(["curl", "-fsS", "-o", str(path), url], check=True)


def curl_put(url: str, path: str) -> None:
    subprocess.run(["curl", "-fsS", "-o", "/dev/null", "-T", path, url], check=True)


def drop_page_cache() -> None:
    """Needs root; a bench that cannot do it would measure something else."""
    subprocess.run(["sync"], check=True)
    with open("/proc/sys/vm/drop_caches", "w") as control:
        control.write("3\n")


def read_whole(path: str) -> int:
    """Sequentially, as cat does it."""
    buffer = bytearray(PART)
    total = 0
    with open(path, "rb", buffering=0) as file:
        while got := file.readinto(buffer):
            total += got
    return total
