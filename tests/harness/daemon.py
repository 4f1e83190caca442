"""A daemon of ours in the foreground: its log kept in a file and scanned for what must never be there."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from servers.base import die_with_parent  # noqa: E402

# A daemon that prints one of these fails the test that ran it, whatever else the test saw.
DISASTER = re.compile(
    r"ERROR: AddressSanitizer|LeakSanitizer|ThreadSanitizer|runtime error:|[Aa]ssertion|"
    r"==\d+==|stack smashing|double free|corrupted|Segmentation fault"
)

RUN_ENVIRONMENT = {
    "LSAN_OPTIONS": f"suppressions={Path(__file__).with_name('leaks.supp')}:print_suppressions=0",
    "ASAN_OPTIONS": "detect_leaks=1:strict_string_checks=1:check_initialization_order=1:"
                    "detect_stack_use_after_return=0:handle_abort=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "TSAN_OPTIONS": "halt_on_error=0:second_deadlock_stack=1",
    "LC_ALL": "C.UTF-8",
}

STOP_SECONDS = 90.0  # a leak check under load takes its time


def clean_environment(**more: str) -> dict[str, str]:
    ours = ("AWS_", "AZURE_", "CLOUDSDK_", "GCE_", "GOOGLE_", "QUAYFS_", "XDG_", "PG")
    env = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    env.update(RUN_ENVIRONMENT)
    env.update(more)
    return env


def disasters(text: str) -> list[str]:
    return [line for line in text.splitlines() if DISASTER.search(line)]


def with_known_leaks(conf: Path, env: dict[str, str]) -> dict[str, str]:
    """With SFTP also those in leaks-sftp.supp."""
    if b"sftp" not in conf.read_bytes():
        return env
    return {**env, "LSAN_OPTIONS": env["LSAN_OPTIONS"].replace("leaks.supp", "leaks-sftp.supp")}


class DaemonFailed(Exception):
    """The program ended, or did not become ready."""

    def __init__(self, message: str, code: int | None = None, output: str = ""):
        super().__init__(f"{message}\n{output}")
        self.code = code
        self.output = output


class Daemon:
    """One program, started and stopped any number of times on the same arguments."""

    start_seconds = 90.0

    def __init__(self, program: Path, conf: Path, arguments: list[str], log: Path, env: dict[str, str]):
        self.program = Path(program)
        self.conf = conf
        self.arguments = ["-f", "-c", str(conf), *arguments]
        self.log_path = log
        self.env = env
        self.process: subprocess.Popen | None = None
        self._mark = 0
        self.may_fail = False  # its exit code was seen by the test already

    def ready(self) -> bool:
        raise NotImplementedError

    def start(self) -> None:
        assert not self.running(), f"{self.program.name} runs already"
        self._mark = self.log_path.stat().st_size if self.log_path.exists() else 0
        self.may_fail = False
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [str(self.program), *self.arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env=with_known_leaks(self.conf, self.env),
                preexec_fn=die_with_parent,
            )
        deadline = time.monotonic() + self.start_seconds
        while not self.ready():
            code = self.process.poll()
            if code is not None:
                self.may_fail = True
                raise DaemonFailed(f"{self.program.name} ended with {code}", code, self.log())
            if time.monotonic() > deadline:
                self.dump_stacks()
                self.kill9()
                raise DaemonFailed(f"{self.program.name} was not ready in time", None, self.log())
            time.sleep(0.005)

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """The exit code; a daemon that does not end is killed and fails the test."""
        assert self.process is not None
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.dump_stacks()
            self.kill9()
            raise DaemonFailed(f"{self.program.name} did not end", None, self.log()) from None

    def terminate(self) -> int:
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill9(self) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()

    def dump_stacks(self) -> None:
        """Where it hangs, into its log; best effort."""
        gdb = shutil.which("gdb")
        if gdb is None or not self.running():
            return
        with open(self.log_path, "ab") as log:
            try:
                subprocess.run(
                    [gdb, "-p", str(self.pid), "-batch", "-nx", "-ex", "thread apply all bt 12"],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.DEVNULL, timeout=60,
                )
            except subprocess.TimeoutExpired:
                pass

    # The log.
    def log(self) -> str:
        """All that was printed since the last start()."""
        try:
            with open(self.log_path, "rb") as file:
                file.seek(self._mark)
                return file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def whole_log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_lines(self, *levels: str) -> list[str]:
        """Lines of these levels ("error", "warn"); all without an argument."""
        lines = self.log().splitlines()
        if not levels:
            return lines
        words = "|".join(re.escape(level) for level in levels)
        return [line for line in lines if re.search(rf"\b({words})(ing)?\b", line[:60], re.I)]

    # What the kernel says of it.
    def _status_kib(self, field: str) -> int:
        text = Path(f"/proc/{self.pid}/status").read_text()
        match = re.search(rf"^{field}:\s+(\d+) kB", text, re.M)
        return int(match.group(1)) if match else 0

    def sanitized(self) -> bool:
        """Built with AddressSanitizer: its memory figures are not the program's own."""
        return b"__asan_init" in self.program.read_bytes()

    def rss(self) -> int:
        """Resident bytes now."""
        return self._status_kib("VmRSS") * 1024

    def peak_rss(self) -> int:
        return self._status_kib("VmHWM") * 1024

    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))
