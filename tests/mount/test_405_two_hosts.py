"""Two hosts, each with a mount of its own, write one name: on every kind of store that lasts."""

import errno
import os
import threading

import pytest

from harness.backends import ServerTables
from harness.tools import fails_with

MIB = 1024 * 1024
NAMES = 50


@pytest.fixture
def two_hosts(mount, lasting_key, folder):
    """They believe nothing for long."""
    options = {"store k": {**lasting_key.options, "cache.ttl": "1ms"}}
    one = mount(options, name="one")
    two = mount({**options, "cache": {"dir": folder / "cache-two"}, "loader": {"spool": folder / "load-two"}}, name="two")
    return one / "k", two / "k"


def names_behind(key) -> list[str]:
    """Without the temporary files that connections of sftp have opened ahead."""
    names = key.box.names() if key.box else os.listdir(key.folder)
    return sorted(name for name in names if not name.startswith(".quay-tmp-"))


class Race:
    """Both make each name with O_EXCL at the same moment; of every second one both have it open before either closes."""

    def __init__(self, hosts):
        self.step = threading.Barrier(len(hosts), timeout=200)
        self.came_to: dict[tuple[int, int], str] = {}  # name, host: what came of it
        self.failed: list[BaseException] = []
        threads = [threading.Thread(target=self.run, args=pair) for pair in enumerate(hosts)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not self.failed, self.failed

    def run(self, host: int, top) -> None:
        try:
            for number in range(NAMES):
                self.step.wait()
                self.came_to[number, host] = self.make(number, top / f"n{number:02}", b"host %d" % host)
        except BaseException as error:
            self.failed.append(error)
            self.step.abort()

    def make(self, number: int, path, data: bytes) -> str:
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except OSError as error:
            assert error.errno == errno.EEXIST
            descriptor = -1
        if number % 2:
            self.step.wait()
        if descriptor < 0:
            return "open"
        os.write(descriptor, data)
        try:
            os.close(descriptor)
        except OSError as error:
            assert error.errno == errno.EEXIST
            return "close"
        return "made"


def test_one_of_two_hosts_makes_a_name(two_hosts, lasting_key):
    """Of two that create with O_EXCL one succeeds, the other is told EEXIST; what it has written already is kept."""
    came_to = Race(two_hosts).came_to
    there, names = names_behind(lasting_key), [f"n{number:02}" for number in range(NAMES)]
    for number, name in enumerate(names):
        ends = [came_to[number, host] for host in (0, 1)]
        assert ends.count("made") == 1, (name, ends)
        winner = ends.index("made")
        assert lasting_key.behind(name) == b"host %d" % winner
        copies = [other for other in there if other.startswith(name + ".conflict-")]
        assert [lasting_key.behind(copy) for copy in copies] == [b"host %d" % (1 - winner)] * ends.count("close")
        assert all((top / name).read_bytes() == b"host %d" % winner for top in two_hosts)
    assert "close" in came_to.values(), "none has raced to its end"
    assert {name.partition(".conflict-")[0] for name in there} == set(names)


@pytest.fixture
def connected_key(lasting_key):
    """It starts no process when it is asked: that would have our descriptors for a moment, and their close() is a commit."""
    server = isinstance(lasting_key.box, ServerTables)
    if server:
        lasting_key.box.keep()
    yield lasting_key
    if server:
        lasting_key.box.close()


def test_a_conflict_copy_without_its_base(mount, connected_key):
    """Opened and edited in the middle, then replaced by somebody else: what was neither written nor read is nowhere any
    more. It is zeros in the copy, whose name says so."""
    m = mount({"store k": connected_key.options})
    (m / "k/f").write_bytes(b"theirs" * MIB)
    m.quayctl("cache", "clear")
    with open(m / "k/f", "r+b", buffering=0) as file:
        os.pwrite(file.fileno(), b"edited", 2 * MIB)
        connected_key.put_behind("f", b"theirs")
        with fails_with(errno.ESTALE):
            file.close()
    assert connected_key.behind("f") == b"theirs"
    (copy,) = [name for name in names_behind(connected_key) if name.startswith("f.conflict-")]
    assert copy.endswith("-incomplete")
    assert connected_key.behind(copy) == bytes(2 * MIB) + b"edited" + bytes(4 * MIB - 6)
    assert [line for line in m.log_lines("warn") if copy in line and "the base is gone" in line]
