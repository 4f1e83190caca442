"""backend = sftp beside sshfs, on one sshd of the bench's own: on this machine, and 30 ms away.

Both begin with nothing cached. sshfs gets its usual options: it is the limit's column of these cases."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from functools import partial
from pathlib import Path

from harness.mount import is_mounted
from servers import Relay
from servers.base import die_with_parent
from servers.sshd import SSHD

from .contenders import Contender, cpu_seconds, plain_environment
from .model import MIB, Case, Failed, Sample, Target
from .raw import drop_page_cache, read_whole
from .world import World, checksum, must_be, timed

SMALL = 16 * 1024


class Sshfs:
    """Mounted for one sample; its CPU is that of sshfs and its ssh."""

    def __init__(self, place: "Place", far: bool):
        self.place, self.mount, self.process = place, place.folder / "mnt", None
        self.mount.mkdir(exist_ok=True)
        server = place.server
        self.command = [
            "sshfs", f"{server.user}@127.0.0.1:{server.data}", str(self.mount), "-f", "-p", str(place.port(far)), "-F",
            "/dev/null", "-o", f"IdentityFile={server.key},UserKnownHostsFile={server.known_hosts},"
            "StrictHostKeyChecking=yes,BatchMode=yes,IdentitiesOnly=yes"]

    def __enter__(self) -> "Sshfs":
        with open(self.place.folder / "sshfs.log", "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=plain_environment(), preexec_fn=die_with_parent)
        deadline = time.monotonic() + 30
        while not is_mounted(self.mount):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Failed("sshfs does not mount: " + (self.place.folder / "sshfs.log").read_text()[-500:])
            time.sleep(0.02)
        os.listdir(self.mount)  # logged in, as quayfs is when it has started
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["fusermount3", "-u", "-z", str(self.mount)], check=False, stderr=subprocess.DEVNULL)
        self.process.terminate()
        self.process.wait(30)

    @property
    def root(self) -> Path:
        return self.mount

    def cpu(self) -> float:
        return sum(cpu_seconds(pid) for pid in [self.process.pid, *ssh_clients(self.place.server.known_hosts)])

    def profile(self, on: bool) -> None:
        pass

    def note_peak(self) -> None:
        pass


def ssh_clients(known_hosts: Path) -> list[int]:
    """sshfs's ssh is nobody's child: it forks twice."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else [b""]
        except OSError:  # ended meanwhile
            continue
        if words[0] == b"ssh" and any(str(known_hosts).encode() in word for word in words):
            found.append(int(entry.name))
    return found


class Place:
    """The server, the way to it with latency, and what is on it. `served`: where the server's files are."""

    def __init__(self, world: World, folder: Path, served: Path):
        self.world, self.folder = world, folder
        folder.mkdir()
        self.server = SSHD(served / "sshd")
        self.server.start()
        self.relay = Relay(self.server.port)
        self.relay.delay = world.delay / 2
        self.relay.start()
        self.server.trust(self.relay.port)

    def stop(self) -> None:
        self.relay.stop()
        self.server.stop()

    def port(self, far: bool) -> int:
        return self.relay.port if far else self.server.port

    def mounted(self, contender: Contender | None, far: bool):
        """A context with root and cpu(), of whom the sample is."""
        if contender is None:
            return Sshfs(self, far)
        return Started(contender, self.server.store(endpoints=f"127.0.0.1:{self.port(far)}"))

    def big(self) -> Path:
        path = self.server.data / "big"
        if not path.exists():
            with open(path, "wb") as file:
                for _ in range(self.world.sizes.far // MIB):
                    file.write(os.urandom(MIB))
        return path

    def tree(self) -> Path:
        path = self.server.data / "tree"
        if not path.exists():
            path.mkdir()
            for number in range(self.world.sizes.small):
                (path / f"{number:05}").write_bytes(b"x" * (number % 100))
        return path


class Started:
    """quayfs on the sftp store."""

    def __init__(self, contender: Contender, options: dict[str, object]):
        self.contender, self.options = contender, options

    def __enter__(self) -> Contender:
        self.contender.start(**{name: str(value) for name, value in self.options.items()})
        return self.contender

    def __exit__(self, *_: object) -> None:
        self.contender.stop()


def read(place: Place, far: bool, world: World, contender: Contender | None) -> Sample:
    source = place.big()
    size = source.stat().st_size
    drop_page_cache()
    read_whole(str(source))  # of the server's
    with place.mounted(contender, far) as one:
        path = one.root / "big"
        sample = timed(size / MIB, lambda: must_be(size, read_whole(str(path))), one)
        if world.once(f"sftp-read-{far}", contender) and checksum(path) != checksum(source):
            raise Failed("what was read is not what is there")
    return sample


def write(place: Place, far: bool, world: World, contender: Contender | None) -> Sample:
    source, name = place.big(), f"w{world.turn}"
    size = source.stat().st_size
    read_whole(str(source))

    def copy(root: Path) -> None:
        shutil.copyfile(source, root / name)
        descriptor = os.open(root / name, os.O_WRONLY)
        os.fsync(descriptor)
        os.close(descriptor)

    with place.mounted(contender, far) as one:
        sample = timed(size / MIB, lambda: copy(one.root), one)
    if checksum(place.server.data / name) != checksum(source):
        raise Failed("what is there is not what was written")
    (place.server.data / name).unlink()
    return sample


def small(place: Place, far: bool, world: World, contender: Contender | None) -> Sample:
    count = max(world.sizes.small // (40 if far else 4), 10)
    folder, body = f"s{world.turn}", os.urandom(SMALL)

    def make(root: Path) -> None:
        for number in range(count):
            with open(root / folder / f"{number:05}", "wb", buffering=0) as file:
                file.write(body)
                os.fsync(file.fileno())  # what our close promises anyway; sshfs's alone does not

    (place.server.data / folder).mkdir()
    with place.mounted(contender, far) as one:
        sample = timed(count, lambda: make(one.root), one)
    found = [path.read_bytes() for path in (place.server.data / folder).iterdir()]
    if found != [body] * count:
        raise Failed(f"{len(found)} files of {count} are there as they were written")
    shutil.rmtree(place.server.data / folder)
    return sample


def ls_l(place: Place, far: bool, world: World, contender: Contender | None) -> Sample:
    count = len(os.listdir(place.tree()))
    with place.mounted(contender, far) as one:
        found: list[os.stat_result] = []
        sample = timed(count, lambda: found.extend(entry.stat() for entry in os.scandir(one.root / "tree")), one)
    must_be(sum(number % 100 for number in range(count)), sum(status.st_size for status in found))
    return sample


WORKS = (  # name, title, unit, work, seconds that a round takes
    ("read", "first sequential read", "MiB/s", read, 12),
    ("write", "copy a file in, fsync", "MiB/s", write, 12),
    ("small", "create files of 16 KiB, fsync each", "files/s", small, 8),
    ("ls", "ls -l, cold", "entries/s", ls_l, 3),
)


def sftp_cases(place: Place | None = None) -> list[Case]:
    """Without a place only to be named."""
    cases = []
    for far in (False, True):
        for name, title, unit, work, cost in WORKS:
            cases.append(Case(f"sftp-{name}{'-far' if far else ''}", f"sftp: {title}{', 30 ms away' if far else ''}",
                              unit, partial(work, place, far), "sshfs", [Target("sshfs", "sshfs", 1.0)],
                              only=("quayfs",), rounds=2, cost=cost, peak=False))
    return cases
