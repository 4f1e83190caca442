"""A TCP proxy in front of a server that misbehaves on demand: refuses, resets, stalls, cuts, answers 503.

    proxy = FaultProxy(minio.port).start()
    proxy.fault = Fault(reset_after=100_000)       # each later connection is reset after so many bytes
    proxy.fault = Fault(status=503, times=2)       # the next two requests are answered 503, then none
    proxy.fault = None
Counts: proxy.connections, proxy.requests (list of first lines of the requests it saw), proxy.sent and
proxy.received (bytes of the bodies of requests that were passed on; of answers, with their heads).
"""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from dataclasses import dataclass

from .base import free_port


@dataclass
class Fault:
    status: int = 0             # answer this HTTP status without asking the server
    headers: str = ""           # further header lines of that answer, each ended by \r\n
    body: str = ""
    reset_after: int = -1       # reset the connection after so many bytes of the answer
    close_after: int = -1       # the same with an orderly close: a short body
    cut_after: int = -1         # reset the connection after so many bytes of the request's body
    silent: bool = False        # let the server do it, and never pass its answer on
    delay: float = 0.0          # seconds before a request is passed on
    stall: bool = False         # take the request and never answer
    hold: float = 0.0           # take all of it, and let the server do it so many seconds later, whoever still waits
    pace: int = 0               # so many bytes a second of the request's body are taken
    until: threading.Event | None = None  # and (delay, hold) not before this is set
    only: str = ""              # regular expression on the request line; "" = every request
    times: int = -1             # how many requests; -1 = until taken away
    then: "Fault | None" = None  # what comes after the last of them


class FaultProxy:
    def __init__(self, target_port: int):
        self.target_port = target_port
        self.port = 0
        self.fault: Fault | None = None
        self.connections = 0
        self.requests: list[str] = []
        self.sent = 0
        self.received = 0
        self.held: list[str] = []   # first lines of requests that were held, when the server has answered
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._sockets: set[socket.socket] = set()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> "FaultProxy":
        self.port = self.port or free_port()
        listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Refuses connections from now on and resets those that are open."""
        if self._listener is not None:
            # close() alone leaves the listener open while accept() waits on it.
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.reset_all()

    def reset_all(self) -> None:
        with self._lock:
            sockets = list(self._sockets)
        for sock in sockets:
            _reset(sock)

    def count(self, pattern: str) -> int:
        return sum(1 for line in list(self.requests) if re.search(pattern, line))

    def _take_fault(self, line: str) -> Fault | None:
        with self._lock:
            fault = self.fault
            if fault is None or fault.times == 0 or not re.search(fault.only, line):
                return None
            if fault.times > 0:
                fault.times -= 1
                self.fault = fault if fault.times else fault.then or fault
            return fault

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self.target_port))
        except OSError:
            _reset(client)
            return
        with self._lock:
            self._sockets |= {client, server}
        state = _Answer()
        back = threading.Thread(target=self._answers, args=(server, client, state), daemon=True)
        back.start()
        try:
            self._requests(client, server, state)
        except OSError:
            pass
        finally:
            _shut(server)
            back.join(60)
            with self._lock:
                self._sockets -= {client, server}
            for sock in (client, server):
                sock.close()

    def _requests(self, client: socket.socket, server: socket.socket, state: "_Answer") -> None:
        """Reads whole requests so that a fault can be chosen for each."""
        buffer = b""
        while True:
            while b"\r\n\r\n" not in buffer:
                data = client.recv(65536)
                if not data:
                    return
                buffer += data
            head, buffer = buffer.split(b"\r\n\r\n", 1)
            line = head.split(b"\r\n", 1)[0].decode("latin-1")
            with self._lock:
                self.requests.append(line)
            fault = self._take_fault(line)
            length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            left = size = int(length.group(1)) if length else 0
            expects = re.search(rb"(?i)\r\nexpect: *100-continue", head) is not None
            if fault and not fault.hold:
                _wait(fault.delay, fault.until)
            if fault and fault.hold:
                while len(buffer) < left and (data := client.recv(262144)):
                    buffer += data
                self._hold(fault, line, head + b"\r\n\r\n" + buffer[:left], client)
                buffer = buffer[left:]
                continue
            if fault and fault.pace:  # little is on its way
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            passing = not (fault and (fault.status or fault.stall))
            if fault and fault.reset_after >= 0:
                state.limit(fault.reset_after, reset=True)
            elif fault and fault.close_after >= 0:
                state.limit(fault.close_after, reset=False)
            elif fault and fault.silent:
                state.limit(0, reset=False, silent=True)
            if passing:
                server.sendall(head + b"\r\n\r\n")
            elif expects and left and not buffer:
                client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            while left > 0:
                data = buffer[:left] or client.recv(min(left, 32768 if fault and fault.pace else 262144))
                if not data:
                    return
                if fault and fault.pace:
                    time.sleep(len(data) / fault.pace)
                buffer = buffer[len(data):]
                left -= len(data)
                if fault and 0 <= fault.cut_after <= size - left:
                    _reset(client)
                    return
                if passing:
                    server.sendall(data)
                    with self._lock:
                        self.sent += len(data)
            if fault and fault.status:
                body = fault.body.encode()
                client.sendall(
                    f"HTTP/1.1 {fault.status} Fault\r\nContent-Length: {len(body)}\r\n"
                    f"{fault.headers}\r\n".encode() + body
                )

    def _hold(self, fault: Fault, line: str, request: bytes, client: socket.socket) -> None:
        """By a connection of its own: nothing that happens to the client's reaches the server."""
        _wait(fault.hold, fault.until)
        with socket.create_connection(("127.0.0.1", self.target_port)) as server:
            server.sendall(request)
            answer = server.recv(262144)
        with self._lock:
            self.held.append(line)
        client.sendall(answer)

    def _answers(self, server: socket.socket, client: socket.socket, state: "_Answer") -> None:
        try:
            while True:
                data = server.recv(262144)
                if not data:
                    break
                with self._lock:
                    self.received += len(data)
                passed, ending = state.take(len(data))
                client.sendall(data[:passed])
                if ending == "silent":
                    continue
                if ending == "reset":
                    _reset(client)
                    return
                if ending == "close":
                    break
        except OSError:
            pass
        _shut(client)


class _Answer:
    """How many more bytes of answers may pass on one connection."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left = -1
        self._ending = ""

    def limit(self, count: int, reset: bool, silent: bool = False) -> None:
        with self._lock:
            self._left, self._ending = count, "silent" if silent else "reset" if reset else "close"

    def take(self, count: int) -> tuple[int, str]:
        with self._lock:
            if self._left < 0 or count <= self._left:
                if self._left >= 0:
                    self._left -= count
                return count, ""
            return self._left, self._ending


def _wait(seconds: float, until: threading.Event | None) -> None:
    time.sleep(seconds)
    if until is not None:
        until.wait()


def _shut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def _reset(sock: socket.socket) -> None:
    """Closes with a TCP reset instead of an orderly end."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass
    try:
        sock.shutdown(socket.SHUT_RD)
    except OSError:
        pass
    try:
        sock.close()
    except OSError:
        pass
