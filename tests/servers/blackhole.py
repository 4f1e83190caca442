"""Places on the network that nothing comes back from.

    hole = Blackhole("silent").start()    # accepts every connection, reads what comes, never says a word
    hole = Blackhole("deaf").start()      # its queue is full: SYNs are dropped, connecting never ends
    hole.port, hole.met()                 # somebody has tried
    hole.stop()
"""

from __future__ import annotations

import selectors
import socket
import threading
from pathlib import Path


class Blackhole:
    def __init__(self, kind: str):
        assert kind in ("silent", "deaf")
        self.kind = kind
        self.port = 0
        self.accepted = 0
        self._sockets: list[socket.socket] = []
        self._ended = threading.Event()

    def start(self) -> "Blackhole":
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self._sockets.append(listener)
        if self.kind == "silent":
            listener.listen(256)
            threading.Thread(target=self._swallow, args=(listener,), daemon=True).start()
        else:
            listener.listen(0)
            self._fill()
        return self

    def stop(self) -> None:
        self._ended.set()
        for sock in self._sockets:
            sock.close()

    def met(self) -> bool:
        """Is somebody in it (or before it)?"""
        return self.accepted > 0 if self.kind == "silent" else self._knocking()

    def _swallow(self, listener: socket.socket) -> None:
        selector = selectors.DefaultSelector()
        listener.setblocking(False)
        selector.register(listener, selectors.EVENT_READ)
        while not self._ended.is_set():
            for key, _ in selector.select(0.2):
                try:
                    if key.fileobj is listener:
                        client, _ = listener.accept()
                        client.setblocking(False)
                        self._sockets.append(client)
                        selector.register(client, selectors.EVENT_READ)
                        self.accepted += 1
                    elif not key.fileobj.recv(65536):
                        selector.unregister(key.fileobj)
                except OSError:
                    if key.fileobj is not listener:
                        selector.unregister(key.fileobj)
        selector.close()

    def _fill(self) -> None:
        """Connects until a connection is not made: the queue of the listener is full then, and stays so."""
        for _ in range(16):
            sock = socket.socket()
            self._sockets.append(sock)
            sock.settimeout(0.5)
            try:
                sock.connect(("127.0.0.1", self.port))
            except TimeoutError:
                sock.close()
                return
        raise AssertionError("a full listener still takes connections")

    def _knocking(self) -> bool:
        """A socket in SYN_SENT (02) to the port."""
        wanted = f"0100007F:{self.port:04X}"
        lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
        return any(line.split()[2] == wanted and line.split()[3] == "02" for line in lines)
