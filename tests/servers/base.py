"""A server process: started on a free loopback port, waited for, stopped by its pid, its log kept."""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import socket
import subprocess
import time
from pathlib import Path


ROOT = Path(__file__).resolve().parents[2]


class ServerFailed(Exception):
    """A server that cannot start is a failure of the run, never a reason to skip."""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def die_with_parent() -> None:
    """preexec_fn: the kernel ends the child when the test run is killed, so that nothing is left."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Server:
    name = "server"
    start_seconds = 60.0
    stop_signal = signal.SIGTERM

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / f"{self.name}.log"
        self.port = 0
        self.process: subprocess.Popen | None = None

    # What a server says of itself.
    def prepare(self) -> None:
        """Once, before the first start."""

    def installed(self, script: str) -> str:
        """The program that packaging/SCRIPT builds or installs, once for a machine."""
        made = subprocess.run(["bash", str(ROOT / "packaging" / script)], stdout=subprocess.PIPE, text=True)
        if made.returncode != 0:
            raise ServerFailed(f"{self.name} could not be made (packaging/{script})")
        return made.stdout.strip()

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def ready(self) -> bool:
        raise NotImplementedError

    # Life.
    def start(self) -> "Server":
        """Starts (again, on the port it had) and returns when it answers."""
        if not self.port:
            self.prepare()
        for attempt in range(3):
            fresh = not self.port
            if fresh:
                self.port = free_port()
            if self._start_once():
                return self
            if not fresh:
                break
            self.port = 0  # somebody took the port between our look and the server's bind
        raise ServerFailed(f"{self.name} did not start:\n{self.log_tail()}")

    def _start_once(self) -> bool:
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment(),
                cwd="/",
                start_new_session=True,  # Ctrl-C is for us: mounts need their servers until they are gone
                preexec_fn=die_with_parent,
            )
        atexit.register(self.kill)
        deadline = time.monotonic() + self.start_seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                return False
            if self.ready():
                return True
            time.sleep(0.05)
        self.kill()
        return False

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def pause(self) -> None:
        """The process exists and its port accepts, but nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)
        deadline = time.monotonic() + 30
        while not self._all_stopped():  # one thread stops the others, as soon as it gets to run
            assert time.monotonic() < deadline, "the server does not stop"
            time.sleep(0.01)

    def _all_stopped(self) -> bool:
        threads = Path(f"/proc/{self.pid}/task").glob("*/stat")
        return all(stat.read_text().rsplit(")", 1)[1].split()[0] == "T" for stat in threads)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def log_tail(self, lines: int = 30) -> str:
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return "(no log)"

    def __enter__(self) -> "Server":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
