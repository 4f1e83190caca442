"""Where the operations are tried: a plain directory (to check the model itself) or a quayfs mount, with a
second mount of the same store beside it, and everything that may happen to them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness.backends import Key
from harness.conf import merged
from harness.daemon import DaemonFailed, disasters
from harness.mount import Mount
from servers import Server

from .stores import PARTS, VERSIONED, fresh_key


REAL_DIRS = {"local", "sftp"}


@dataclass
class Variant:
    """How the mount under test is configured; all of it from the seed."""

    ttl: str = "1ms"          # "1ms", "25ms": others' changes are waited for; "5s": there are none
    write: str = "through"
    max_size: str = "1GiB"
    memory: str = "128MiB"
    threshold: str = "64MiB"  # multipart
    second: bool = True       # a second mount of the same store
    list_metadata: str = "auto"

    @property
    def strict(self) -> bool:
        """Each mount must see what the other has done, when the ttl is over."""
        return self.ttl != "5s"

    @property
    def ttl_s(self) -> float:
        return float(self.ttl[:-2]) / 1000 if self.ttl.endswith("ms") else float(self.ttl[:-1])

    @staticmethod
    def random(dice, backend: str) -> "Variant":
        ttl = dice.choice(["1ms", "25ms", "5s"])
        write = dice.choice(["through", "through", "through", "back"])
        return Variant(
            ttl=ttl,
            write=write,
            max_size=dice.choice(["1GiB", "1GiB", "48MiB"]),
            memory=dice.choice(["128MiB", "128MiB", "32MiB"]),
            threshold=dice.choice(["64MiB", "64MiB", "5MiB"]),
            second=backend in VERSIONED and ttl != "5s" and write == "through",
            list_metadata=dice.choice(["auto", "no"]) if backend == "s3" else "auto",
        )


class World:
    """`top` is the directory under test."""

    lasting = True      # content outlives a remount
    quay = False
    variant = Variant(second=False)
    other: Path | None = None  # the same directory through the second mount
    key: Key | None = None
    keeps: frozenset[str] = frozenset()  # "atime": reading does not change it; "directories": what is made in them neither

    def __init__(self, folder: Path):
        self.folder = folder
        self.top = folder / "top"

    def open(self) -> None:
        shutil.rmtree(self.top, ignore_errors=True)
        self.top.mkdir(parents=True)
        self.top.chmod(0o755)

    def close(self) -> None:
        pass

    def remount(self) -> None:
        pass

    def crash(self) -> bool:
        """False: it cannot be done here."""
        return False

    def command(self, *arguments: str) -> bool:
        return False

    def staged(self) -> set[str]:
        """The paths of what is closed and not stored yet."""
        return set()

    def complaints(self) -> list[str]:
        return []


class Quay(World):
    quay = True

    def __init__(self, folder: Path, build: Path, backend: str, variant: Variant, server: Server | None):
        super().__init__(folder)
        self.build, self.backend, self.variant, self.server = build, backend, variant, server
        self.lasting = backend != "memory"
        self.keeps = frozenset({"sftp": (), "local": ("atime",)}.get(backend, ("atime", "directories")))
        self.mounts: list[Mount] = []
        self.remove_store = lambda: None

    def sections(self, name: str) -> dict:
        v = self.variant
        options = dict(self.key.options, **{"cache.ttl": v.ttl, "write": v.write})
        if self.backend in PARTS:
            options |= {"multipart_threshold": v.threshold, "multipart_chunksize": "5MiB"}
        if self.backend == "s3":
            options |= {"list_metadata": v.list_metadata}
        return merged({
            "quayfs": {"log_level": "info", "memory_limit": v.memory},
            "cache": {"dir": self.folder / f"cache-{name}", "max_size": v.max_size, "min_free": "16MiB"},
            "loader": {"spool": self.folder / f"load-{name}"},
            "store k": options,
        })

    def open(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.key, self.remove_store = fresh_key(self.backend, self.folder, self.server)
        if self.key.folder:
            self.key.folder.chmod(0o755)
        self.mounts = []
        self._mount("one")
        if self.variant.second:
            self._mount("two")
            self.other = self.mounts[1] / "k"
        self.top = self.mounts[0] / "k"

    def _mount(self, name: str) -> None:
        place = self.folder / name
        place.mkdir()
        self.mounts.append(Mount(self.build, place, self.sections(name)))
        self.mounts[-1].start()

    def close(self) -> None:
        for m in self.mounts:
            try:
                m.stop(check=False)
            except DaemonFailed as error:  # its mount may live on in a namespace that somebody has cloned
                print(f"{m.folder.name}: {error}"[:500], flush=True)
            finally:
                m.kill9()
                m.detach()
        self.remove_store()
        self.remove_store = lambda: None

    def remount(self) -> None:
        self.mounts[0].remount()

    def crash(self) -> bool:
        self.mounts[0].crash()
        self.mounts[0].start()
        return True

    def command(self, *arguments: str) -> bool:
        self.mounts[0].quayctl(*arguments)
        return True

    def staged(self) -> set[str]:
        return {entry["path"] for entry in json.loads((self.mounts[0] / ".quay/staged.json").read_text())}

    def complaints(self) -> list[str]:
        found = []
        for m in self.mounts:
            found += disasters(m.whole_log())
            if not m.running():
                found.append(f"{m.folder.name}: the daemon has ended with {m.process.returncode}")
        return found

    def dump(self) -> None:
        """Stacks of the daemons, and away with them: a call into the mount hangs."""
        for m in self.mounts:
            if m.running():
                m.dump_stacks()
                m.kill9()

    def logs(self) -> str:
        """What the store holds, and what the daemons have printed."""
        held = [f"at the end, {m.folder.name}: {listed(m / 'k')}" for m in self.mounts if m.running()]
        try:
            held += self.stored()
        except OSError as error:  # what was found is told all the same
            held.append(f"the server does not tell what it holds: {error}\n")
        return "".join(held) + "".join(f"--- {m.log_path}\n{m.whole_log()[-3000:]}" for m in self.mounts)

    def stored(self) -> list[str]:
        if self.key.folder:
            return [listed(self.key.folder)]
        if self.key.bucket:
            heads = [(name, self.key.bucket.head(name)) for name in self.key.bucket.names()]
            return [f"{name} {head['ContentLength']} {head['LastModified']} {head['Metadata']}\n" for name, head in heads]
        if self.key.box:
            return [f"{name} {len(self.key.box.get(name))}\n" for name in self.key.box.names()]
        return []


def listed(folder: Path) -> str:
    done = subprocess.run(["ls", "-lR", "--time-style=full-iso", str(folder)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    return done.stdout


def make_world(backend: str, folder: Path, build: Path, variant: Variant,
               server: Server | None) -> World:
    if backend == "plain":
        return World(folder)
    return Quay(folder, build, backend, variant, server)


def unmount_leftovers(folder: Path) -> None:
    with open("/proc/self/mounts", encoding="utf-8") as table:
        for line in table:
            place = line.split(" ")[1]
            if place.startswith(str(folder) + "/"):
                subprocess.run(["umount", "-l", place], stderr=subprocess.DEVNULL)
    if os.path.isdir(folder):
        shutil.rmtree(folder, ignore_errors=True)
