"""Runs sequences of operations, and makes a failing one small."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Callable

from harness.daemon import DaemonFailed
from servers import Server

from .check import Mismatch
from .gen import Maker
from .around import Player
from .play import op_text
from .world import Variant, World, make_world, unmount_leftovers

HANG_SECONDS = 90.0
IDLE = float("-inf")


@dataclass
class Failure:
    backend: str
    seed: int
    variant: Variant
    ops: list[list]
    text: str

    def save(self, path: Path) -> None:
        path.write_text(json.dumps({"backend": self.backend, "seed": self.seed,
                                    "variant": asdict(self.variant), "text": self.text,
                                    "ops": self.ops}, indent=0))

    @staticmethod
    def load(path: Path) -> "Failure":
        found = json.loads(path.read_text())
        return Failure(found["backend"], found["seed"], Variant(**found["variant"]), found["ops"],
                       found["text"])

    def describe(self) -> str:
        lines = [f"backend {self.backend}, seed {self.seed}, {self.variant}"]
        lines += [f"  {op_text(op)}" for op in self.ops[-60:]]
        return "\n".join([*lines, self.text])


class Watch:
    """Kills the daemons when one operation takes too long: a hanging call cannot be interrupted."""

    def __init__(self, world: World):
        self.world, self.age, self.hung, self.ended = world, IDLE, False, False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while not self.ended:
            time.sleep(1)
            self.age += 1  # of the operation; a tester that is stopped (SIGSTOP) gets no older
            if self.age > HANG_SECONDS and not self.hung:
                self.hung = True
                getattr(self.world, "dump", lambda: None)()

    def end(self) -> None:
        self.ended = True


@dataclass
class Trial:
    """One backend and variant; `play` may be called again and again."""

    backend: str
    build: Path
    folder: Path
    server: Server | None
    variant: Variant
    played: int = 0
    skipped: int = 0
    pause: Path | None = None  # do nothing while this file exists
    paused_s: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)

    def play(self, source: Callable[[Player], list | None]) -> tuple[list[list], str]:
        """Operations from `source` until it gives None. The ones played, and "" or what went wrong."""
        world = make_world(self.backend, self.folder / "w", self.build, self.variant, self.server)
        ops: list[list] = []
        umask = os.umask(0o022)
        player, text = None, ""
        watch = Watch(world)
        try:
            world.open()
            player = Player(world)
            text = self._until_wrong(world, player, source, ops, watch)
        finally:
            watch.end()
            os.umask(umask)
            if text and hasattr(world, "logs"):
                text += "\n" + world.logs()
            if player:
                close_descriptors(player)
            world.close()
            unmount_leftovers(self.folder / "w")
        for name, count in player.done.items():
            self.counts[name] = self.counts.get(name, 0) + count
        return ops, text

    def _until_wrong(self, world: World, player: Player, source, ops: list[list], watch: Watch) -> str:
        try:
            while (op := source(player)) is not None:
                self._wait_while_paused()
                ops.append(op)
                watch.age = 0
                if player.play(op):
                    self.played += 1
                else:
                    self.skipped += 1
                watch.age = IDLE
            watch.age = 0
            ops.append(["check"])
            player.play(["check"])
            player.close_all()
            player.play(["check"])
        except (Mismatch, DaemonFailed) as error:
            return "hung: " * watch.hung + str(error)
        except OSError as error:
            return "hung: " * watch.hung + f"{op_text(ops[-1])}: {error!r}"
        return "; ".join(world.complaints()[:5])


    def _wait_while_paused(self) -> None:
        begun = time.monotonic()
        while self.pause and os.path.exists(self.pause):
            time.sleep(0.2)
            self.paused_s += time.monotonic() - begun
            begun = time.monotonic()


def close_descriptors(player: Player) -> None:
    for descriptor, _ in player.slots.values():
        quiet_close(descriptor)
    for held in player.held.values():
        quiet_close(held.descriptor)


def quiet_close(descriptor: int) -> None:
    try:
        os.close(descriptor)
    except OSError:
        pass


def random_source(seed: int, count: int, until: float) -> Callable[[Player], list | None]:
    made: list[Maker] = []
    left = [count]

    def next_op(player: Player) -> list | None:
        if not made:
            made.append(Maker(seed, player))
        if left[0] <= 0 or time.monotonic() > until:
            return None
        left[0] -= 1
        return made[0].next()

    return next_op


def list_source(ops: list[list]) -> Callable[[Player], list | None]:
    rest = iter(ops)
    return lambda player: next(rest, None)


def kind_of(text: str) -> str:
    """What is wrong, without the operation, the names and the numbers."""
    first = re.sub(r"^(hung: )?.*?\): ", r"\1", text.split("\n")[0]).split(": got ")[0]
    return re.sub(r"\S*\d\S*", "", first)


def shrink(trial: Trial, failure: Failure, seconds: float) -> Failure:
    """Leaves out operations, ever smaller runs of them, as long as it still fails in the same way: another mistake,
    perhaps one of the moment, would take the place of the one that was found."""
    until = time.monotonic() + seconds - trial.paused_s
    ops, text = failure.ops, failure.text

    def is_late() -> bool:
        return time.monotonic() - trial.paused_s > until

    def fails(shorter: list[list]) -> tuple[list[list], str]:
        played, wrong = trial.play(list_source(shorter)) if shorter and not is_late() else ([], "")
        return played, wrong if kind_of(wrong) == kind_of(failure.text) else ""

    for kind in sorted({op[0] for op in ops[:-1]}):  # whole kinds first: most have nothing to do with it
        shorter = [op for op in ops[:-1] if op[0] != kind] + ops[-1:]
        played, wrong = fails(shorter)
        if wrong:
            ops, text = played, wrong
    step, shorter_now = len(ops) // 2, False
    while step >= 1:
        at = 0
        while at < len(ops):
            if is_late():
                return Failure(failure.backend, failure.seed, failure.variant, ops, text)
            shorter = ops[:at] + ops[at + step:]
            played, wrong = fails(shorter)
            if wrong:
                ops, text, shorter_now = played, wrong, True
            else:
                at += step
        if step > 1:
            step //= 2
        elif shorter_now:
            shorter_now = False
        else:
            break
    return Failure(failure.backend, failure.seed, failure.variant, ops, text)


def run_seed(backend: str, build: Path, folder: Path, server: Server | None, seed: int, count: int,
             until: float, pause: Path | None = None) -> tuple[Trial, Failure | None]:
    """One seed: its variant, then `count` operations (or until that time)."""
    dice = random.Random(seed ^ 0x5EED)
    variant = Variant.random(dice, backend) if backend != "plain" else Variant(second=False)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    trial = Trial(backend, build, folder, server, variant, pause=pause)
    ops, text = trial.play(random_source(seed, count, until))
    return trial, Failure(backend, seed, variant, ops, text) if text else None
