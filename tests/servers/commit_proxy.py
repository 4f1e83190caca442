"""A TCP proxy in front of a database that loses a COMMIT: before the server has it, or the server's answer to it.

    proxy = CommitProxy(server.port).start()
    proxy.lose = "answer"     # or "request"; the next COMMIT, then it is "" again, and proxy.lost counts it
"""

from __future__ import annotations

import socket
import threading

from .base import free_port


class CommitProxy:
    def __init__(self, target_port: int):
        self.target_port = target_port
        self.port = 0
        self.lose = ""
        self.lost = 0
        self._listener: socket.socket | None = None

    def start(self) -> "CommitProxy":
        self.port = free_port()
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        return self

    def stop(self) -> None:
        self._listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target_port))
            except OSError:
                client.close()
                continue
            swallow = threading.Event()  # what the server says next is not passed on
            threading.Thread(target=self._requests, args=(client, server, swallow), daemon=True).start()
            threading.Thread(target=self._answers, args=(client, server, swallow), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket, swallow: threading.Event) -> None:
        while data := receive(client):
            how = self.lose if b"COMMIT" in data else ""
            if not how:
                if not send(server, data):
                    break
                continue
            self.lose = ""
            self.lost += 1
            if how == "answer":
                swallow.set()  # the client is cut off when the server has done it
                send(server, data)
                return
            break
        shut(client)
        shut(server)

    def _answers(self, client: socket.socket, server: socket.socket, swallow: threading.Event) -> None:
        while data := receive(server):
            if swallow.is_set() or not send(client, data):
                break
        shut(client)
        shut(server)


def receive(sock: socket.socket) -> bytes:
    try:
        return sock.recv(1 << 16)
    except OSError:
        return b""


def send(sock: socket.socket, data: bytes) -> bool:
    try:
        sock.sendall(data)
    except OSError:
        return False
    return True


def shut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
