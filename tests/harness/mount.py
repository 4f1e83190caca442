"""A quayfs mount under test."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from .conf import Sections, write_conf
from .daemon import Daemon, DaemonFailed, clean_environment


class Mount(Daemon):
    """`m.path / "key" / "file"` is an ordinary path; the rest is for tests that look behind it."""

    def __init__(self, build: Path, folder: Path, sections: Sections | str,
                 arguments: tuple[str, ...] = (), env: dict[str, str] | None = None):
        self.build = build
        self.folder = folder
        self.path = folder / "mnt"
        self.path.mkdir(parents=True, exist_ok=True)
        super().__init__(
            build / "fs/quayfs",
            write_conf(folder / "quayfs.conf", sections),
            [*arguments, str(self.path)],
            folder / "quayfs.log",
            clean_environment(**(env or {})),
        )

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def ready(self) -> bool:
        return is_mounted(self.path)

    def rewrite(self, sections: Sections | str) -> None:
        write_conf(self.conf, sections)

    def stop(self, check: bool = True) -> int:
        """Unmounts as a user would, and waits for the daemon."""
        if not self.running():
            self.detach()
            return self.process.returncode if self.process else 0
        unmount = subprocess.run(["fusermount3", "-u", str(self.path)],
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if unmount.returncode != 0:
            self.detach()
        code = self.wait()
        if check and (unmount.returncode != 0 or code != 0):
            raise DaemonFailed(f"unmount: {unmount.stdout.strip() or 'done'}, exit code {code}",
                               code, self.log())
        return code

    def remount(self, sections: Sections | str | None = None) -> "Mount":
        self.stop()
        if sections is not None:
            self.rewrite(sections)
        self.start()
        return self

    def crash(self) -> None:
        """kill -9, and the dead mount taken away."""
        self.kill9()
        self.detach()

    def detach(self) -> None:
        if is_mounted(self.path):
            subprocess.run(["fusermount3", "-u", "-z", str(self.path)], stderr=subprocess.DEVNULL)

    def __enter__(self) -> "Mount":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # Looking behind the mount.
    def quayctl(self, *arguments: str, check: bool = True, timeout: float = 120,
                input: str | None = None, stdin=None,
                stdout=subprocess.PIPE) -> subprocess.CompletedProcess:
        feed = {"stdin": stdin} if stdin else {"input": input if input is not None else ""}
        done = subprocess.run(
            [str(self.build / "ctl/quayctl"), "-c", str(self.conf), *arguments],
            stdout=stdout, stderr=subprocess.PIPE, text=True, env=self.env, timeout=timeout, **feed,
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"quayctl {' '.join(map(str, arguments))}: exit {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def cache_stats(self) -> dict[str, float]:
        """`quayctl cache stats` as numbers: size_mb, file_count, hits, misses ..."""
        text = self.quayctl("cache", "stats").stdout
        if text.lstrip().startswith("{"):
            return json.loads(text)
        found: dict[str, float] = {}
        for line in text.splitlines():
            words = line.replace("=", " ").replace(":", " ").split()
            if len(words) >= 2:
                try:
                    found[words[0]] = float(words[1])
                except ValueError:
                    continue
        return found

    def metric(self, name: str, **labels: str) -> float:
        """The sum over `.quay/metrics` lines of that name with those labels."""
        total = 0.0
        for line in (self.path / ".quay/metrics").read_text().splitlines():
            if line.startswith("#") or not line.startswith((name + "{", name + " ")):
                continue
            head, value = line.rsplit(" ", 1)
            if all(f'{label}="{text}"' in head for label, text in labels.items()):
                total += float(value)
        return total

    def staged(self) -> list[dict]:
        return json.loads((self.path / ".quay/staged.json").read_text())

    def health(self) -> dict:
        return json.loads((self.path / ".quay/health.json").read_text())


def is_mounted(path: Path) -> bool:
    """By the kernel's own table: stat() of a dead or hanging mount would fail or hang."""
    wanted = os.path.realpath(path.parent) + "/" + path.name
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as table:
        return any(line.split(" ")[4].encode().decode("unicode_escape") == wanted for line in table)
