"""A TCP relay in front of any server: counts connections, and can lose them, at once or after so many bytes.

    relay = Relay(sshd.port).start()
    relay.cut_after = 8 << 20     # every connection is reset when so many bytes of answers have passed
    relay.stop()                  # refuses connections from now on and resets those that are open
    relay.start()                 # is back, on the port that it had
"""

from __future__ import annotations

import socket
import struct
import threading

from .base import free_port


class Relay:
    def __init__(self, target_port: int):
        self.target_port = target_port
        self.port = free_port()
        self.connections = 0
        self.cut_after = -1
        self.cut = threading.Event()  # a connection was reset on account of cut_after
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()

    def start(self) -> "Relay":
        listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return self

    def stop(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown(socket.SHUT_RDWR)  # close() alone would leave accept() waiting
            listener.close()
        self.drop()

    def drop(self) -> None:
        """Resets what is open; new connections are taken."""
        with self._lock:
            sockets, self._open = self._open, set()
        for sock in sockets:
            _reset(sock)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target_port))
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self._open |= {client, server}
            for source, target, answers in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pass, args=(source, target, answers), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        passed = 0
        try:
            while data := source.recv(65536):
                target.sendall(data)
                passed += len(data)
                if answers and 0 <= self.cut_after < passed:
                    self.cut.set()
                    break
        except OSError:
            pass
        with self._lock:
            self._open -= {source, target}
        _reset(source)
        _reset(target)


def _reset(sock: socket.socket) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    sock.close()
