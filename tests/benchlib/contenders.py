"""The file systems that are compared, each mounted on the same bucket of the same MinIO."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import time
from pathlib import Path

from harness.conf import write_conf
from harness.mount import is_mounted
from servers import MinIO
from servers.base import die_with_parent

from .model import Failed
from .profile import Profiler

TICKS = os.sysconf("SC_CLK_TCK")


def plain_environment() -> dict[str, str]:
    """Without the cloud settings of whoever runs the bench."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "QUAYFS_", "RCLONE_"))}


def cpu_seconds(pid: int) -> float:
    """Of a process with all its threads and ended children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(int(fields[i]) for i in (11, 12, 13, 14)) / TICKS


def children_cpu() -> float:
    """Of programs that this process has run and waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def peak_bytes(pid: int) -> int:
    return status_bytes(pid, "VmHWM")


def resident_bytes(pid: int) -> int:
    return status_bytes(pid, "VmRSS")


def status_bytes(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return 0


class Contender:
    """start() with an empty cache; stop(); the CPU and memory that its daemon took."""

    name = ""
    durable = True  # close() returns when the store has the bytes

    def __init__(self, folder: Path, minio: MinIO, bucket: str):
        self.folder = folder / self.name
        self.minio, self.bucket = minio, bucket
        self.endpoint = minio.endpoint
        self.options: dict[str, str] = {}   # of the store, for this start
        self.mount = self.folder / "mnt"
        self.cache = self.folder / "cache"
        self.mount.mkdir(parents=True, exist_ok=True)
        self.process: subprocess.Popen | None = None
        self.peak = 0                       # since it was last asked for: take_peak()
        self.profiler: Profiler | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    @property
    def root(self) -> Path:
        """The directory that shows the bucket."""
        return self.mount

    def version(self) -> str:
        raise NotImplementedError

    def start(self, endpoint: str = "", keep_cache: bool = False, **options: str) -> None:
        """Mounts; `endpoint`: another way to the server; `options`: of quayfs's [store], with `backend`
        all of them."""
        self.spawn(endpoint, keep_cache, **options)
        deadline = time.monotonic() + 60
        while not is_mounted(self.mount):
            if not self.running() or time.monotonic() > deadline:
                self.stop()
                raise Failed(f"{self.name} does not mount:\n{self.log_tail()}")
            time.sleep(0.02)
        os.listdir(self.root)

    def spawn(self, endpoint: str = "", keep_cache: bool = False, **options: str) -> None:
        """The daemon only: whoever calls waits for the mount."""
        self.stop()
        self.endpoint, self.options = endpoint or self.minio.endpoint, options
        if not keep_cache:
            shutil.rmtree(self.cache, ignore_errors=True)
        self.cache.mkdir(mode=0o700, exist_ok=True)
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, env=plain_environment(), start_new_session=True,
                                            preexec_fn=die_with_parent)

    def log_tail(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-2000:]

    def stop(self) -> None:
        """Unmounts and waits; a daemon that does not end is killed."""
        if self.process is None:
            return
        self.profile(False)
        self.note_peak()
        for _ in range(50):
            if not is_mounted(self.mount):
                break
            if subprocess.run(["fusermount3", "-u", str(self.mount)], stderr=subprocess.DEVNULL).returncode:
                time.sleep(0.1)
        else:
            subprocess.run(["fusermount3", "-u", "-z", str(self.mount)])
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
            self.process.wait()
        self.process = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """What hangs in a call into the mount gets an error."""
        if self.running():
            self.process.kill()

    def profile(self, on: bool) -> None:
        if self.profiler is not None and self.process is not None:
            self.profiler.begin(self.process.pid) if on else self.profiler.end()

    def cpu(self) -> float:
        return cpu_seconds(self.process.pid) if self.process else 0.0

    def note_peak(self) -> None:
        if self.running():
            self.peak = max(self.peak, peak_bytes(self.process.pid))

    def take_peak(self) -> int:
        peak, self.peak = self.peak, 0
        return peak


class Quayfs(Contender):
    name = "quayfs"

    def __init__(self, folder: Path, minio: MinIO, bucket: str, build: Path):
        super().__init__(folder, minio, bucket)
        self.build = build
        self.conf = self.folder / "quayfs.conf"

    def command(self) -> list[str]:
        bucket = {**self.minio.store(self.bucket), "endpoint_url": self.endpoint}
        write_conf(self.conf, {
            "store lake": {**({} if "backend" in self.options else bucket), **self.options},
            "cache": {"dir": self.cache, "max_size": "20GiB"},
            "loader": {"spool": self.folder / "load"},
        })
        return [str(self.program), "-f", "-c", str(self.conf), str(self.mount)]

    @property
    def program(self) -> Path:
        return self.build / "fs/quayfs"

    @property
    def root(self) -> Path:
        return self.mount / "lake"

    def version(self) -> str:
        return subprocess.run([str(self.program), "--version"], capture_output=True, text=True).stdout.strip()


class S3fs(Contender):
    name = "s3fs"

    def command(self) -> list[str]:
        passwords = self.folder / "passwd"
        passwords.write_text(f"{self.minio.user}:{self.minio.password}\n")
        passwords.chmod(0o600)
        return ["s3fs", self.bucket, str(self.mount), "-f", "-o",
                f"url={self.endpoint},use_path_request_style,passwd_file={passwords},"
                f"use_cache={self.cache},endpoint={self.minio.region}"]

    def version(self) -> str:
        return subprocess.run(["s3fs", "--version"], capture_output=True, text=True).stdout.split("\n")[0]


class Rclone(Contender):
    name = "rclone"
    durable = False  # with a cache, close() returns before the upload

    def command(self) -> list[str]:
        conf = write_conf(self.folder / "rclone.conf", {"minio": {
            "type": "s3", "provider": "Minio", "endpoint": self.endpoint,
            "access_key_id": self.minio.user, "secret_access_key": self.minio.password,
            "region": self.minio.region}})
        return ["rclone", "--config", str(conf), "mount", f"minio:{self.bucket}", str(self.mount),
                "--vfs-cache-mode", "full", "--cache-dir", str(self.cache)]

    def version(self) -> str:
        return subprocess.run(["rclone", "version"], capture_output=True, text=True).stdout.split("\n")[0]
