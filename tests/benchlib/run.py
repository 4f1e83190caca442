"""Runs the cases: rounds in which the contenders' order rotates, failures that end nothing, progress."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

from servers import ServerFailed

from .contenders import Contender
from .model import Case, Failed, Sample
from .report import Result, number
from .world import World

# What a contender or a raw client can do wrong. Anything else is our own mistake and ends the run.
WRONG = (Failed, OSError, subprocess.SubprocessError, ServerFailed)


def rounds_of(case: Case, asked: int, full: bool) -> int:
    return min(asked, case.rounds) if case.rounds and not full else asked


def expected(cases: list[Case], rounds: int, full: bool) -> float:
    """Seconds, about; the sizes of --full are not in it."""
    return sum(case.cost * rounds_of(case, rounds, full) for case in cases)


@contextmanager
def watched(contender: Contender | None, seconds: float):
    """A daemon that takes longer is killed: whoever waits in its mount gets an error then."""
    late = threading.Event()

    def end() -> None:
        late.set()
        if contender is not None:
            contender.kill()
    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


def free_on_signal(contenders: list[Contender]) -> None:
    """Python runs a handler when the main thread is out of its system call. One that hangs in a mount would never
    be: a thread that hears of every handled signal kills the daemons, and the call returns with an error."""
    heard, told = socket.socketpair()
    told.setblocking(False)
    signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)

    def listen() -> None:
        with heard, told:
            while number := heard.recv(1):
                if number[0] in (signal.SIGINT, signal.SIGTERM):
                    for contender in contenders:
                        contender.kill()
    threading.Thread(target=listen, daemon=True).start()


def one(case: Case, world: World, contender: Contender | None, limit: float) -> Sample:
    from botocore.exceptions import BotoCoreError, ClientError

    with watched(contender, limit) as late:
        try:
            sample = case.run(world, contender)
            if contender is not None and contender.process is not None and not contender.running():
                raise Failed(f"the daemon ended:\n{contender.log_tail()}")
            return sample
        except (*WRONG, BotoCoreError, ClientError) as error:
            if late.is_set():
                raise Failed(f"took more than {limit:.0f} s") from error
            raise Failed(str(error) or repr(error)) from error
        finally:
            if contender is not None:
                contender.stop()


def takes_part(case: Case, contender: Contender | None) -> bool:
    if contender is None:
        return bool(case.against)
    return (not case.only or contender.name in case.only) and (contender.durable or not case.writes)


class Runner:
    def __init__(self, world: World, contenders: dict[str, Contender], rounds: int, full: bool):
        self.world, self.contenders, self.rounds, self.full = world, contenders, rounds, full
        self.results: list[Result] = []
        self.peaks: dict[str, int] = {}
        self.start = time.monotonic()

    def run(self, cases: list[Case], only: tuple[str, ...] = ()) -> None:
        for case in cases:
            result = Result(case)
            self.results.append(result)
            everybody = [(name, c) for name, c in self.contenders.items()
                         if takes_part(case, c) and (not only or name in only)]
            if takes_part(case, None):
                everybody.append((case.against, None))
            for turn in range(rounds_of(case, self.rounds, self.full)):
                first = turn % max(1, len(everybody))
                for name, contender in everybody[first:] + everybody[:first]:
                    if name not in result.errors:
                        self.turn(result, name, contender)

    def turn(self, result: Result, name: str, contender: Contender | None) -> None:
        case, began = result.case, time.monotonic()
        self.world.turn += 1
        try:
            sample = one(case, self.world, contender, case.limit * (5 if self.full else 1))
            result.add(name, sample)
            shown = f"{number(sample.seconds if case.seconds else sample.rate):>9} {case.unit:9} cpu {sample.cpu:.2f} s"
            facts = " ".join(f"{fact} {number(value)}" for fact, value in sample.facts.items())
        except Failed as error:
            result.errors[name] = str(error)
            shown, facts = f"FAILED: {error}", ""
        if contender is not None:
            peak = contender.take_peak()
            if case.peak:
                self.peaks[name] = max(peak, self.peaks.get(name, 0))
        now = time.monotonic()
        print(f"bench: {now - self.start:4.0f} s  {case.name:12} {name[:16]:16} {shown} {facts} "
              f"(took {now - began:.1f} s)", file=sys.stderr, flush=True)
