"""A server process: started on a free loopback port, waited for, stopped by its pid, its log kept."""

from __future__ import annotations

import atexit
import ctypes
import os
import random
import re
import signal
import socket
import subprocess
import threading
import time
from http.server import ThreadingHTTPServer
from pathlib import Path


ROOT = Path(__file__).resolve().parents[2]


class ServerFailed(Exception):
    """A server that cannot start is a failure of the run, never a reason to skip."""


# Below the ports that the kernel gives to outgoing connections: else any of those could take the port of a server that
# is away for a moment, or a client that knocks at a closed port could be given that very port and reach itself.
PORTS = range(10_000, 32_000)
WORKERS = 16  # each pytest worker has a part of its own


def free_port() -> int:
    worker = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or 0) % WORKERS
    for port in random.sample(PORTS[worker::WORKERS], 100):
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ServerFailed("no free port")


class HttpServer(ThreadingHTTPServer):
    """The kernel keeps 5 connections waiting by default: on a busy machine others would be tried again after seconds."""

    request_queue_size = 256
    daemon_threads = True


class Fake:
    """A server in a thread of this process, on `port`, or any. Its handler finds it in its attribute `name`."""

    def __init__(self, handler: type, name: str, port: int = 0) -> None:
        self.server = HttpServer(("127.0.0.1", port), type("Handler", (handler,), {name: self}))
        self.port = self.server.server_address[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def start(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def die_with_parent() -> None:
    """preexec_fn: the kernel ends the child when the test run is killed, so that nothing is left."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Server:
    name = "server"
    start_seconds = 180.0  # for what never starts
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
        deadline = time.monotonic() + 100
        while not self._all_stopped():  # one thread stops the others, as soon as it gets to run
            assert time.monotonic() < deadline, "the server does not stop"
            time.sleep(0.01)

    def _all_stopped(self) -> bool:
        try:
            threads = [stat.read_text() for stat in Path(f"/proc/{self.pid}/task").glob("*/stat")]
        except (FileNotFoundError, ProcessLookupError):  # one has ended since they were listed
            return False
        return all(stat.rsplit(")", 1)[1].split()[0] == "T" for stat in threads)

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
