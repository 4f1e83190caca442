"""The way to a server with latency: slow_proxy.c in front of it."""

from __future__ import annotations

import socket
from pathlib import Path

from .base import Server, ServerFailed


class SlowProxy(Server):
    name = "slow_proxy"

    def __init__(self, folder: Path, build: Path, target_port: int, delay: float):
        super().__init__(folder)
        self.program, self.target_port, self.delay = build / "tests/servers/slow_proxy", target_port, delay

    def prepare(self) -> None:
        if not self.program.exists():
            raise ServerFailed(f"{self.program} is not built")

    def command(self) -> list[str]:
        return [str(self.program), str(self.port), str(self.target_port), str(round(self.delay * 1_000_000))]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ready(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=10).close()
            return True
        except OSError:
            return False
