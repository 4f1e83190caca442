"""A TCP relay in front of any server: counts connections, and can lose them, at once or after so many bytes.

    relay = Relay(sshd.port).start()
    relay.cut_after = 8 << 20     # every connection is reset when so many bytes of answers have passed
    relay.delay = 0.015           # seconds that every byte is on its way (connections made from now on)
    relay.stop()                  # refuses connections from now on and resets those that are open
    relay.start()                 # is back, on the port that it had
"""

from __future__ import annotations

import queue
import socket
import struct
import threading
import time

from .base import free_port


class Relay:
    def __init__(self, target_port: int):
        self.target_port = target_port
        self.port = free_port()
        self.connections = 0
        self.cut_after = -1
        self.delay = 0.0
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
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target_port))
            except OSError:  # the server is away just now
                _reset(client)
                continue
            for sock in (client, server):  # a network holds nothing back
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self.connections += 1
                self._open |= {client, server}
            for source, target, answers in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pass, args=(source, target, answers), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        passed = 0
        send = self._later(target) if self.delay else target.sendall
        try:
            while data := source.recv(65536):
                send(data)
                passed += len(data)
                if answers and 0 <= self.cut_after < passed:
                    self.cut.set()
                    break
        except OSError:
            pass
        with self._lock:
            self._open -= {source, target}
        if self.delay:
            send(b"")
        else:
            _reset(target)
        _reset(source)

    def _later(self, target: socket.socket):
        """A function that sends after the delay: what is on its way does not hold up what comes behind it."""
        waiting: queue.Queue = queue.Queue(4096)

        def work() -> None:
            try:
                while True:
                    due, data = waiting.get()
                    time.sleep(max(0.0, due - time.monotonic()))
                    if not data:
                        break
                    target.sendall(data)
            except OSError:
                pass
            _reset(target)

        threading.Thread(target=work, daemon=True).start()
        return lambda data: waiting.put((time.monotonic() + self.delay, data))


def _reset(sock: socket.socket) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    sock.close()
