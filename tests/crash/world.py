# SPDX-License-Identifier: MIT
"""One store, one cache directory, one mount; made anew for each kill point."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

from harness.conf import write_conf
from harness.mount import is_mounted
from servers.fakes3 import FakeS3

CONFLICT = ".conflict-"


class Lost(Exception):
    pass


class LocalStore:
    """On the disk whose power is cut."""

    edited_in_place = True  # a kill can leave an edit half done, and what was closed beside it

    def __init__(self, disk: Path):
        self.folder = disk / "store"
        self.folder.mkdir()

    def options(self) -> dict[str, str]:
        return {"backend": "local", "base_path": str(self.folder)}

    def read(self, name: str) -> bytes | None:
        path = self.folder / name
        return path.read_bytes() if path.exists() else None

    def names(self) -> list[str]:
        found = [str(p.relative_to(self.folder)) for p in self.folder.rglob("*") if p.is_file()]
        return [name for name in found if "/.quay-tmp-" not in name]

    def uploads(self) -> list[str]:
        return []


class S3Store:
    """Another machine's: it keeps what it has answered. A prefix of the server's for each kill point."""

    edited_in_place = False
    server: FakeS3 | None = None
    process = made = 0

    def __init__(self, _: Path):
        if S3Store.process != os.getpid():
            S3Store.server, S3Store.process = FakeS3().start(), os.getpid()
            S3Store.server.server.handle_error = lambda *_: None  # clients are killed here
        S3Store.made += 1
        self.prefix = f"p{S3Store.made}/"

    def options(self) -> dict[str, str]:
        return self.server.store(base_path=self.prefix, multipart_threshold="5MiB", multipart_chunksize="5MiB")

    def _key(self, name: str) -> bytes:
        return (self.prefix + name).encode()

    def read(self, name: str) -> bytes | None:
        found = self.server.objects.get(self._key(name))
        return found.data if found else None

    def names(self) -> list[str]:
        keys = [key.decode() for key in list(self.server.objects)]
        mine = [key.removeprefix(self.prefix) for key in keys if key.startswith(self.prefix)]
        return [name for name in mine if not name.endswith("/") and not name.startswith(".quay-probe-")]

    def uploads(self) -> list[str]:
        """Those with parts: one whose beginning was never answered is known to nobody."""
        return [key.decode() for key, _, parts in list(self.server.uploads.values())
                if parts and key.startswith(self.prefix.encode())]


STORES = {"local": LocalStore, "s3": S3Store}
SLOW = ";".join(f"op={op},latency=15ms" for op in ("put", "patch", "upload_part"))
AWAY = "op=put,errno=EHOSTUNREACH;op=patch,errno=EHOSTUNREACH"


class World:
    """`disk` is what a power cut takes back: the cache, and the store where it is on this machine."""

    def __init__(self, folder: Path, build: Path, shim: Path, store: str, away: bool):
        self.folder, self.build, self.shim, self.away = folder, build, shim, away
        self.disk, self.mnt = folder / "disk", folder / "mnt"
        self.kept, self.log = folder / "kept", folder / "undo.log"
        for path in (self.disk, self.mnt, self.kept):
            path.mkdir(parents=True)
        self.store = STORES[store](self.disk)
        self.root = self.mnt / "k"
        self.conf = folder / "quayfs.conf"
        self.process: subprocess.Popen | None = None

    def configure(self, work: bool) -> None:
        """Uploads lag behind, so that a kill finds several files staged; with --edits they fail: all are."""
        key = {**self.store.options(), "write": "back", "retry_delay": "20ms"}
        if work:
            key |= {"retries": "0", "fault": AWAY} if self.away else {"fault": SLOW}
        write_conf(self.conf, {"store k": key, "cache": {"dir": str(self.disk / "cache")},
                               "loader": {"spool": str(self.folder / "load")}})

    def start(self, kill_at: int | None) -> None:
        self.configure(kill_at is not None)
        env = {k: v for k, v in os.environ.items() if not k.startswith("QUAY")}
        env["ASAN_OPTIONS"] = "verify_asan_link_order=0:detect_leaks=0"
        if kill_at is not None:
            env.update(LD_PRELOAD=str(self.shim), QUAY_CRASH_DIR=str(self.disk),
                       QUAY_CRASH_AT=str(kill_at), QUAY_CRASH_LOG=str(self.log),
                       QUAY_CRASH_SAVE=str(self.kept), QUAY_CRASH_COUNT=str(self.folder / "count"))
        with open(self.folder / "quayfs.log", "ab") as out:
            self.process = subprocess.Popen(
                [str(self.build / "fs/quayfs"), "-f", "-c", str(self.conf), str(self.mnt)],
                stdout=out, stderr=out, env=env)
        deadline = time.monotonic() + 60
        while not is_mounted(self.mnt) and self.process.poll() is None:
            if time.monotonic() > deadline:
                raise SystemExit("crash: quayfs does not start")
            time.sleep(0.004)

    def unmount(self, kill: bool = False) -> None:
        if kill and self.process:
            self.process.kill()
        if is_mounted(self.mnt):
            subprocess.run(["fusermount3", "-u", "-z", str(self.mnt)], stderr=subprocess.DEVNULL)
        if self.process:
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise SystemExit("crash: quayfs does not end") from None

    def quayctl(self, *args: str) -> str:
        done = subprocess.run([str(self.build / "ctl/quayctl"), "-c", str(self.conf), *args],
                              capture_output=True, text=True)
        if done.returncode != 0:
            raise Lost(f"quayctl {' '.join(args)}: {done.stdout}{done.stderr}")
        return done.stdout

    def wait_until_stored(self, renames: bool, copying: bool) -> None:
        """And until uploads that nobody finishes are taken away, and renames that were cut off have gone on."""
        deadline = time.monotonic() + 90
        while self._waits(renames, copying):
            if time.monotonic() > deadline:
                raise Lost(f"not stored after 90 s: {self.quayctl('status')}{self.store.uploads()}")
            time.sleep(0.01)

    def _waits(self, renames: bool, copying: bool) -> bool:
        try:
            if json.loads((self.mnt / ".quay/staged.json").read_text()) or (self.store.uploads() and not copying):
                return True
        except OSError as error:
            raise Lost(f"the mount does not answer: {error}") from None
        return renames and bool(json.loads(self.quayctl("status", "--json"))["renames"])

    def keep(self) -> Path:
        """What is left, to be looked at."""
        keep = Path(os.path.join("/tmp", f"quayfs-crash-lost-{os.getpid()}-{self.folder.name}"))
        shutil.copytree(self.folder, keep, symlinks=True, ignore=shutil.ignore_patterns("mnt", "*.sock"))
        return keep
