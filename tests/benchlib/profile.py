"""perf on a daemon while a case is timed, and the pictures of it."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from servers.base import die_with_parent

from . import flame
from .model import Failed

FREQUENCY = 997


class Profiler:
    """begin(pid) and end() around what is timed; each pair is a recording of its own."""

    def __init__(self, folder: Path, stacks: str = "dwarf"):
        self.folder, self.stacks = folder, stacks
        self.folder.mkdir(parents=True, exist_ok=True)
        self.recordings: list[Path] = []
        self.process: subprocess.Popen | None = None
        self.pipes: list[int] = []

    def begin(self, pid: int) -> None:
        """Returns when perf records: it says so through a pipe. perf ends when its pipes are closed."""
        path = self.folder / f"perf-{len(self.recordings)}.data"
        told, ack = os.pipe()
        control, order = os.pipe()
        self.pipes = [told, order]
        with open(self.folder / "perf.log", "ab") as log:
            self.process = subprocess.Popen(
                ["perf", "record", "-q", "-F", str(FREQUENCY), "--call-graph", self.stacks, "-p", str(pid),
                 "-D", "-1", "--control", f"fd:{control},{ack}", "-o", str(path)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(control, ack),
                preexec_fn=die_with_parent)
        os.close(ack)
        os.close(control)
        os.write(order, b"enable\n")
        if not os.read(told, 16).startswith(b"ack"):
            raise Failed("perf does not record:\n" + self.said())
        self.recordings.append(path)

    def end(self) -> None:
        if self.process is None:
            return
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)
        self.process = None
        for descriptor in self.pipes:
            os.close(descriptor)
        self.pipes = []

    def said(self) -> str:
        return (self.folder / "perf.log").read_text(errors="replace")[-1000:]

    def folded(self) -> flame.Stacks:
        whole: flame.Stacks = flame.Stacks()
        for path in self.recordings:
            told = subprocess.run(["perf", "script", "-i", str(path), "-F", "comm,ip,sym,dso", "--no-inline"],
                                  capture_output=True)
            if told.returncode != 0:
                raise Failed(f"perf script: {told.stderr.decode(errors='replace').strip()[-500:]}\n{self.said()}")
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
