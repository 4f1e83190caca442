"""perf on a daemon while a case is timed, and the pictures of it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from servers.base import die_with_parent

from . import flame
from .model import Failed

FREQUENCY = 997


class Profiler:
    """begin(pid) and end() around what is timed; each pair is a recording of its own."""

    def __init__(self, folder: Path, stacks: str = "fp"):
        self.folder, self.stacks = folder, stacks
        self.folder.mkdir(parents=True, exist_ok=True)
        self.recordings: list[Path] = []
        self.process: subprocess.Popen | None = None

    def begin(self, pid: int) -> None:
        """Returns when perf records: it says so through a pipe."""
        path = self.folder / f"perf-{len(self.recordings)}.data"
        told, ack = os.pipe()
        control, order = os.pipe()
        try:
            with open(self.folder / "perf.log", "ab") as log:
                self.process = subprocess.Popen(
                    ["perf", "record", "-q", "-F", str(FREQUENCY), "--call-graph", self.stacks, "-p", str(pid),
                     "-D", "-1", "--control", f"fd:{control},{ack}", "-o", str(path)],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(control, ack),
                    preexec_fn=die_with_parent)
            os.close(ack)
            ack = -1
            os.write(order, b"enable\n")
            if not os.read(told, 16).startswith(b"ack"):
                raise Failed("perf does not record:\n" + (self.folder / "perf.log").read_text()[-1000:])
            self.recordings.append(path)
        finally:
            for descriptor in (told, ack, control, order):
                if descriptor >= 0:
                    os.close(descriptor)

    def end(self) -> None:
        if self.process is not None:
            self.process.send_signal(2)
            self.process.wait(60)
            self.process = None

    def folded(self) -> flame.Stacks:
        whole: flame.Stacks = flame.Stacks()
        for path in self.recordings:
            told = subprocess.run(["perf", "script", "-i", str(path), "-F", "comm,ip,sym,dso", "--no-inline"],
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
            whole += flame.fold(told.stdout.decode(errors="replace"))
        return whole

    def publish(self, folder: Path, name: str, titles: list[str]) -> str:
        """NAME.svg and NAME.txt; returns the text."""
        stacks = self.folded()
        if not stacks:
            raise Failed("perf took no samples")
        folder.mkdir(parents=True, exist_ok=True)
        titles = [*titles, f"{sum(stacks.values())} samples at {FREQUENCY} Hz of CPU time"]
        text = "\n".join(titles) + "\n\n" + flame.cost_table(stacks) + "\n"
        (folder / f"{name}.svg").write_text(flame.svg(stacks, titles))
        (folder / f"{name}.txt").write_text(text)
        return text
