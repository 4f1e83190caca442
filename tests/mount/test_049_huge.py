"""Objects of terabytes through a mount, at the limits that S3 has: 10,000 parts, 5 MiB to 5 GiB each, checked by the server
at the wire. What is not changed is copied there, so no bytes move. (Files of unknown size up to part 10,000, whose bytes
would have to: tests/unit/t_s3_parts.c, with sizes that are a 5120th.)"""

import os
import tempfile
from pathlib import Path

import pytest

from servers import HugeS3
from servers.huges3 import GIB, MIB, PART_MAX, PARTS, TIB, made_up


@pytest.fixture
def huge(mount):
    """A mount with the object k/huge. Its cache is in memory: files on ext4 end at 16 TiB, holes included."""
    made = []
    with tempfile.TemporaryDirectory(prefix="quay-huge-", dir="/dev/shm") as memory:
        def make(size: int) -> tuple[Path, HugeS3]:
            made.append(HugeS3(size).start())
            made.append(mount({"cache": {"dir": Path(memory) / "cache"}, "store k": made[-1].store(timeout="60s")}))
            return made[-1] / "k/huge", made[-2]
        yield make
        made[1].stop()
        made[0].stop()


def check(file: Path, server: HugeS3, place: int, data: bytes) -> None:
    """`data` is at `place`, and what was there is around it, at the server and here."""
    around = made_up(max(place - 4096, 0), place - max(place - 4096, 0)) + data
    around += made_up(place + len(data), min(4096, server.size - place - len(data)))
    assert server.read(max(place - 4096, 0), len(around)) == around
    with open(file, "rb", buffering=0) as again:
        assert os.pread(again.fileno(), len(around), max(place - 4096, 0)) == around
    assert server.refused == [] and server.uploads == {}


def test_append_up_to_five_tebibytes(huge):
    file, server = huge(5 * TIB - 4096)
    with open(file, "ab") as appended:
        appended.write(b"a" * 4096)
    assert server.size == 5 * TIB == file.stat().st_size
    assert server.sent < MIB  # of parts and their list
    check(file, server, 5 * TIB - 4096, b"a" * 4096)


@pytest.mark.parametrize("place", [0, 3 * TIB + 12345, 5 * TIB - 6], ids=["header", "middle", "end"])
def test_edit_in_five_tebibytes(huge, place):
    file, server = huge(5 * TIB)
    with open(file, "r+b", buffering=0) as edited:
        os.pwrite(edited.fileno(), b"edited", place)
    assert server.size == 5 * TIB == file.stat().st_size
    assert server.sent < 12 * MIB
    check(file, server, place, b"edited")


def test_all_parts_of_the_largest_size(huge):
    """10,000 parts: one of 5 MiB that was changed, and 9,999 of 5 GiB."""
    size = 5 * MIB + (PARTS - 1) * PART_MAX
    file, server = huge(size)
    with open(file, "r+b", buffering=0) as edited:
        os.pwrite(edited.fileno(), b"header", 0)
    assert server.size == size == file.stat().st_size
    assert [part.size for part in server.parts] == [5 * MIB] + [5 * GIB] * (PARTS - 1)
    check(file, server, 0, b"header")
