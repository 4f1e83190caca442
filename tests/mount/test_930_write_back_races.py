"""write = back, and another client stores the same name while ours is on its way: theirs has the name and ours is whole
beside it, also when the process was killed in between and the next one sends what it finds staged."""

import os
import sqlite3
import threading
from urllib.parse import urlsplit

import pytest

from harness.backends import BlobTables, make_key
from harness.data import pattern
from harness.tools import eventually
from servers import Fault, FaultProxy

MIB = 1024 * 1024
THEIRS = b"what another client has stored"
PARTS = {"multipart_threshold": "6MiB", "multipart_chunksize": "5MiB"}
# The request that publishes `f`: a small file, and one that goes in parts.
PUBLISHES = {"s3": (r"^PUT /[^?]*/f ", r"^POST .*uploadId="), "gcs": (r"^POST /upload/", "/compose"),
             "azure": (r"^PUT /[^?]*/f ", r"^PUT .*comp=blocklist")}


class Proxied:
    """A service by HTTP: the request that publishes the file is held, and goes on when it has lost the race."""

    def __init__(self, backend: str, place):
        key = make_key(backend, None, place)
        port = urlsplit(key.options["endpoint_url"]).port
        self.proxy = FaultProxy(port).start()
        endpoint = key.options["endpoint_url"].replace(f":{port}", f":{self.proxy.port}")
        self.box, self.options = key.box, {**key.options, "endpoint_url": endpoint, **PARTS}
        self.patterns, self.gate = PUBLISHES[backend], threading.Event()

    def hold(self, size: int) -> None:
        self.pattern = self.patterns[size > MIB]
        self.seen = self.proxy.count(self.pattern)
        self.proxy.fault = Fault(until=self.gate, only=self.pattern)

    def wait_until_held(self) -> None:
        eventually(lambda: self.proxy.count(self.pattern) > self.seen, what="nothing is sent")

    def put_first(self) -> None:
        self.box.put("f", THEIRS)
        self.proxy.fault = None
        self.gate.set()

    def stop(self) -> None:
        self.gate.set()
        self.proxy.stop()


class Locked(BlobTables):
    """backend = sqlite: another client's transaction is open, and has stored the name when it ends."""

    def __init__(self, path):
        super().__init__(path)
        self.box, self.db = self, None
        self.options = {"backend": "sqlite", "path": path}

    def hold(self, _: int) -> None:
        self.db = sqlite3.connect(self.path, timeout=60, isolation_level=None)
        self.db.execute("BEGIN IMMEDIATE")

    def wait_until_held(self) -> None:
        """Nobody can tell from outside who waits for a lock."""

    def put_first(self) -> None:
        self.put("f", THEIRS)
        self.db.execute("COMMIT")
        self.stop()

    def _make(self) -> None:
        """The mount has made them."""

    def _ask(self, *statements: tuple) -> list[tuple]:
        if self.db is None:
            return super()._ask(*statements)
        return [self.db.execute(text, values).fetchall() for text, *values in statements][-1]

    def stop(self) -> None:
        if self.db:
            self.db.close()
        self.db = None


PLACES = {"s3": "bucket", "gcs": "gcs", "azure": "container"}
CASES = [(how, size, killed) for how in ("new", "rewrite", "edit") for size in (3000, 7 * MIB) for killed in (False, True)]
ELSEWHERE = [("new", 7 * MIB, False), ("rewrite", 3000, True), ("edit", 7 * MIB, True)]  # what is the cache's own is tried on s3


@pytest.fixture
def race(request, folder):
    made = (Locked(folder / "box.db") if request.param == "sqlite"
            else Proxied(request.param, request.getfixturevalue(PLACES[request.param])))
    yield made
    made.stop()


def change(m, how: str, size: int) -> bytes:
    """What is closed here, and not stored yet."""
    ours = bytearray(pattern(size, seed=5))
    if how == "edit":
        ours[:] = (m / "k/f").read_bytes()
        ours[size // 2:size // 2 + 10] = b"0123456789"
        with open(m / "k/f", "r+b", buffering=0) as file:
            file.seek(size // 2)
            file.write(b"0123456789")
    else:
        (m / "k/f").write_bytes(ours)
    return bytes(ours)


def words(case) -> str:
    how, size, killed = case
    return f"{how}-{'parts' if size > MIB else 'small'}{'-killed' * killed}"


@pytest.mark.parametrize("race,case", [("s3", case) for case in CASES] + [
    (backend, case) for backend in ("gcs", "azure", "sqlite") for case in ELSEWHERE],
    ids=lambda value: value if isinstance(value, str) else words(value), indirect=["race"])
def test_a_race_behind_close_keeps_both(mount, race, case):
    how, size, killed = case
    m = mount({"store k": {**race.options, "write": "back", "cache.ttl": "100ms", "retry_delay": "50ms"}})
    (m / "k/other").write_bytes(b"the server has been tried")
    if how != "new":
        (m / "k/f").write_bytes(pattern(size, seed=4))
    m.quayctl("sync")
    if how != "new":
        m.remount()  # what it has cached is known to the next process, whatever happens to this one
    race.hold(size)
    ours = change(m, how, size)
    race.wait_until_held()
    if killed:
        m.crash()
    race.put_first()
    if killed:
        m.start()
    eventually(lambda: '"staged": []' in m.quayctl("status", "--json").stdout, what="something stays staged")
    assert race.box.get("f") == THEIRS
    eventually(lambda: (m / "k/f").read_bytes() == THEIRS)
    (kept,) = eventually(lambda: beside(race.box.names()), what="what was begun is not taken away")
    assert kept.startswith("f.conflict-") and not kept.endswith("-incomplete")
    assert race.box.get(kept) == ours == (m / "k" / kept).read_bytes()
    assert sorted(os.listdir(m / "k")) == ["f", kept, "other"]


def beside(names: list[str]) -> list[str] | None:
    """What is not `f`; None: parts of an upload are still there."""
    if any(name.startswith(".quay-parts/") for name in names):
        return None
    return [name for name in names if name not in ("f", "other") and not name.startswith(".quay-probe-")]
