"""What a case, a sample and a target are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Callable

if TYPE_CHECKING:
    from .contenders import Contender
    from .world import World

MIB = 1 << 20


class Failed(Exception):
    """What a contender did makes its figure worth nothing; the text says what."""


@dataclass
class Sample:
    amount: float         # MiB, files, entries, reads: what the unit counts
    seconds: float
    cpu: float            # of the client: the daemon, or the raw program itself
    facts: dict[str, float] = field(default_factory=dict)  # by the names of Case.facts

    @property
    def rate(self) -> float:
        return self.amount / self.seconds


@dataclass
class Target:
    text: str
    of: str               # a contender; "best" of the peers; "case:NAME", quayfs's figure there; "" a plain figure
    need: float           # the ratio wanted; with of == "": the figure itself
    at_most: bool = False


@dataclass
class Fact:
    """A further figure of the same run, with a row of its own."""
    name: str
    title: str
    unit: str
    less: bool = True     # less is better
    targets: list[Target] = field(default_factory=list)


@dataclass
class Case:
    name: str
    title: str
    unit: str
    run: "Callable[[World, Contender | None], Sample]"  # None: the limit or the disk
    against: str = ""                                   # the name of that
    targets: list[Target] = field(default_factory=list)
    writes: bool = False                                # compares what is in the store when close() returns
    seconds: bool = False                               # told in seconds: less is better
    facts: list[Fact] = field(default_factory=list)
    needs: tuple[str, ...] = ()                         # of what the bucket is filled with
    only: tuple[str, ...] = ()                          # contenders; empty: all
    rounds: int = 0                                     # at most so many without --full; 0: as many as asked
    cost: float = 0                                     # seconds that a round takes, about
    peak: bool = True                                   # counts for the row on peak memory
    limit: float = 180                                  # seconds; after that a contender has failed
