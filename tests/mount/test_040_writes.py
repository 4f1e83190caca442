"""Every way of writing: sequential, random, appended, truncated, mapped, shared."""

import mmap
import os
import platform
import random
import threading

import pytest

from harness.data import pattern
from harness.tools import kept_pages, patched, spread_writes

KIB, MIB = 1024, 1024 * 1024


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 65_536, 131_073, MIB - 1, MIB, MIB + 1, 5 * MIB + 3])
def test_sizes(root, size):
    data = pattern(size)
    (root / "f").write_bytes(data)
    assert (root / "f").read_bytes() == data
    assert (root / "f").stat().st_size == size


def test_sequential_in_small_pieces(root):
    data = pattern(300_000)
    with open(root / "f", "wb", buffering=0) as file:
        for offset in range(0, len(data), 777):
            file.write(data[offset:offset + 777])
    assert (root / "f").read_bytes() == data


def test_read_back_what_was_just_written(root):
    descriptor = os.open(root / "f", os.O_CREAT | os.O_RDWR)
    try:
        data = pattern(200_000)
        for offset in range(0, len(data), 50_000):
            os.pwrite(descriptor, data[offset:offset + 50_000], offset)
            assert os.pread(descriptor, 50_000, offset) == data[offset:offset + 50_000]
        assert os.pread(descriptor, len(data), 0) == data
    finally:
        os.close(descriptor)


def test_append(root):
    (root / "log").write_bytes(b"first\n")
    for number in range(20):
        with open(root / "log", "ab") as file:
            file.write(b"line %d\n" % number)
    assert (root / "log").read_bytes() == b"first\n" + b"".join(b"line %d\n" % n for n in range(20))


def test_append_from_two_handles(root):
    one = os.open(root / "log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    two = os.open(root / "log", os.O_WRONLY | os.O_APPEND)
    for number in range(10):
        os.write(one, b"a")
        os.write(two, b"b")
    os.close(one)
    os.close(two)
    assert (root / "log").read_bytes() == b"ab" * 10


def test_edit_in_the_middle(root):
    data = pattern(3 * MIB)
    (root / "f").write_bytes(data)
    writes = [(5, b"edit"), (MIB - 2, b"across"), (3 * MIB - 1, b"end and beyond")]
    spread_writes(root / "f", writes)
    assert (root / "f").read_bytes() == patched(data, writes)


def test_edit_twice_with_reads_between(root):
    data = pattern(500_000)
    (root / "f").write_bytes(data)
    for number in range(5):
        writes = [(number * 90_000, b"edit %d" % number)]
        spread_writes(root / "f", writes)
        data = patched(data, writes)
        assert (root / "f").read_bytes() == data


def test_random_writes_against_a_model(root):
    dice = random.Random(7)
    model = b""
    descriptor = os.open(root / "f", os.O_CREAT | os.O_RDWR)
    try:
        for _ in range(150):
            kind = dice.random()
            if kind < 0.7:
                offset = dice.randrange(0, 400_000)
                data = dice.randbytes(dice.randrange(1, 20_000))
                os.pwrite(descriptor, data, offset)
                model = patched(model, [(offset, data)])
            elif kind < 0.8:
                size = dice.randrange(0, 400_000)
                os.ftruncate(descriptor, size)
                model = model[:size] + bytes(max(0, size - len(model)))
            elif kind < 0.9:
                offset = dice.randrange(0, 400_000)
                assert os.pread(descriptor, 10_000, offset) == model[offset:offset + 10_000]
            else:
                os.fsync(descriptor)
        assert os.fstat(descriptor).st_size == len(model)
        assert os.pread(descriptor, len(model) + 1, 0) == model
    finally:
        os.close(descriptor)
    assert (root / "f").read_bytes() == model


def test_holes_read_as_zeros(root):
    descriptor = os.open(root / "f", os.O_CREAT | os.O_RDWR)
    os.pwrite(descriptor, b"end", 2 * MIB)
    assert os.pread(descriptor, 10, MIB) == bytes(10)
    os.close(descriptor)
    assert (root / "f").read_bytes() == bytes(2 * MIB) + b"end"


def test_truncate(root):
    data = pattern(100_000)
    (root / "f").write_bytes(data)
    os.truncate(root / "f", 1234)
    assert (root / "f").read_bytes() == data[:1234]
    os.truncate(root / "f", 5000)
    assert (root / "f").read_bytes() == data[:1234] + bytes(3766)
    os.truncate(root / "f", 0)
    assert (root / "f").stat().st_size == 0


def test_truncate_then_grow_shows_no_old_bytes(root):
    (root / "f").write_bytes(b"\xff" * 200_000)
    descriptor = os.open(root / "f", os.O_RDWR)
    os.ftruncate(descriptor, 10)
    os.pwrite(descriptor, b"x", 150_000)
    os.close(descriptor)
    assert (root / "f").read_bytes() == b"\xff" * 10 + bytes(149_990) + b"x"


def test_fsync_makes_it_visible_behind(mount, lasting_key):
    m = mount({"store k": lasting_key.options})
    descriptor = os.open(m / "k/f", os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, b"synced")
    os.fsync(descriptor)
    assert lasting_key.behind("f") == b"synced"
    os.write(descriptor, b" and more")
    os.close(descriptor)
    assert lasting_key.behind("f") == b"synced and more"


@pytest.mark.parametrize("flags", ["O_WRONLY", "O_RDWR", "O_WRONLY | O_DIRECT"])
@pytest.mark.parametrize("how", ["O_SYNC", "O_DSYNC", "RWF_DSYNC", "RWF_SYNC"])
def test_a_synchronous_write_is_visible_behind(mount, lasting_key, flags, how):
    """Story: handles that only write go past the kernel's pages, where the kernel leaves O_SYNC to the file system."""
    m = mount({"store k": lasting_key.options})
    opened = sum(getattr(os, flag) for flag in flags.split(" | ")) | os.O_CREAT
    descriptor = os.open(m / "k/f", opened | (getattr(os, how) if how[0] == "O" else 0))
    data = mmap.mmap(-1, 8192)  # aligned
    data.write(pattern(8192))
    assert os.pwritev(descriptor, [data], 0, 0 if how[0] == "O" else getattr(os, how)) == 8192
    assert lasting_key.behind("f") == pattern(8192)
    os.close(descriptor)


def test_close_makes_it_visible_behind(mount, lasting_key):
    m = mount({"store k": lasting_key.options})
    data = pattern(2 * MIB + 5)
    (m / "k/f").write_bytes(data)
    assert lasting_key.behind("f") == data


def test_create_leaves_no_stub_behind(mount, lasting_key):
    """An object appears when it has its bytes, not as an empty one before."""
    m = mount({"store k": lasting_key.options})
    descriptor = os.open(m / "k/f", os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, b"x" * 100_000)
    assert (m / "k/f").stat().st_size == 100_000
    assert not lasting_key.exists_behind("f")
    os.close(descriptor)
    assert lasting_key.behind("f") == b"x" * 100_000


def test_unlinked_while_open(root):
    (root / "f").write_bytes(b"still here")
    with open(root / "f", "r+b", buffering=0) as file:
        (root / "f").unlink()
        assert os.listdir(root) == []
        assert file.read() == b"still here"
        file.write(b", longer")
        file.seek(0)
        assert file.read() == b"still here, longer"
    assert os.listdir(root) == []


def test_two_handles_see_one_file(root):
    with open(root / "f", "wb", buffering=0) as writer:
        writer.write(b"one")
        with open(root / "f", "rb", buffering=0) as reader:
            assert reader.read() == b"one"
            writer.write(b"two")
            assert reader.read() == b"two"
    assert (root / "f").read_bytes() == b"onetwo"


def test_mapped_memory(root, key):
    data = pattern(300_000)
    (root / "f").write_bytes(data)
    with open(root / "f", "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        assert mapped[200_000:200_010] == data[200_000:200_010]
        mapped[100_000:100_005] = b"mmap!"
        mapped.flush()
        os.fsync(file.fileno())
        data = patched(data, [(100_000, b"mmap!")])
        assert not key.lasting or key.behind("f") == data
        mapped[299_990:] = b"unsynced.."
    data = patched(data, [(299_990, b"unsynced..")])
    assert (root / "f").read_bytes() == data
    assert not key.lasting or key.behind("f") == data


@pytest.mark.parametrize("mode", ["rb", "r+b"])
def test_private_mapping(root, key, mode):
    """What is written into it is its own, also where the descriptor could write; the rest of it is the file."""
    data = pattern(300_000)
    (root / "f").write_bytes(data)
    with open(root / "f", mode) as file, \
            mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as private, \
            mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as shared:
        assert private[:] == data
        private[100_000:100_005] = b"mmap!"
        private.flush()
        assert private[:] == patched(data, [(100_000, b"mmap!")])
        assert os.pread(file.fileno(), 300_000, 0) == data and shared[:] == data
    assert (root / "f").read_bytes() == data
    assert not key.lasting or key.behind("f") == data


def test_writes_of_one_handle_meet_the_mapping_of_another(root):
    """Who only writes goes past the kernel's pages (op_file.c): those that others have must not stay as they were."""
    data = pattern(200_000)
    (root / "f").write_bytes(data)
    with open(root / "f", "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped, \
            open(root / "f", "rb", buffering=0) as reader:
        assert mapped[:] == data and reader.read() == data
        mapped[100_000:100_005] = b"mmap!"  # in the kernel, and not yet written
        writer = os.open(root / "f", os.O_WRONLY)
        os.pwrite(writer, b"write", 100_010)
        os.pwrite(writer, b"begin", 0)
        wanted = patched(data, [(100_000, b"mmap!"), (100_010, b"write"), (0, b"begin")])
        assert mapped[:] == wanted
        assert os.pread(reader.fileno(), 200_000, 0) == wanted
        os.close(writer)
    assert (root / "f").read_bytes() == wanted


def test_a_reader_follows_a_writer(root):
    with open(root / "f", "wb", buffering=0) as writer, open(root / "f", "rb", buffering=0) as reader:
        for number in range(50):
            line = b"%04d" % number * 333  # ends within a page
            writer.write(line)
            assert reader.read(10_000) == line
            assert os.fstat(reader.fileno()).st_size == (number + 1) * len(line)


def test_readers_race_with_a_writer(root):
    """What was read while a write was on its way is old when it has ended. Linux below 6.19 keeps such pages, with zeros or
    old bytes where the write went, also for those who open the file later, so quayfs has them dropped."""
    line, over = b"0123456789", threading.Event()

    def read() -> None:
        with open(root / "f", "rb", buffering=0) as kept:
            while not over.is_set():
                os.pread(kept.fileno(), 100_000, 0)
                (root / "f").read_bytes()  # opened, read and closed within one write

    with open(os.open(root / "f", os.O_CREAT | os.O_WRONLY | os.O_APPEND), "wb", buffering=0) as writer:
        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        try:
            for number in range(1, 1500):
                writer.write(line)
                assert (root / "f").read_bytes() == line * number
        finally:
            over.set()
            for reader in readers:
                reader.join()
    assert (root / "f").read_bytes() == line * 1499


def test_what_is_only_written_leaves_no_pages(root):
    """One copy less of each byte, where the kernel drops what others have of it (Linux 6.6)."""
    (root / "f").write_bytes(bytes(200_000))
    # Opened first: where others may change pages already, writes go into those.
    with open(os.open(root / "f", os.O_WRONLY), "wb", buffering=0) as writer:
        kept = kept_pages(root / "f", lambda: writer.write(pattern(200_000)))
    assert (root / "f").read_bytes() == pattern(200_000)
    release = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
    assert (kept == 0) == (release >= (6, 6))


def test_many_writers_at_once(root):
    """Each thread its own file; none mixes with another."""
    def work(number: int) -> None:
        for turn in range(5):
            (root / f"t{number}").write_bytes(pattern(50_000, seed=number * 100 + turn))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(8):
        assert (root / f"t{number}").read_bytes() == pattern(50_000, seed=number * 100 + 4)


def test_large_file_streams(mount, lasting_key):
    """Over the multipart threshold, written and read in pieces."""
    m = mount({"store k": lasting_key.options})
    block = pattern(MIB)
    with open(m / "k/big", "wb", buffering=0) as file:
        for number in range(70):
            file.write(number.to_bytes(8, "big") + block[8:])
    assert (m / "k/big").stat().st_size == 70 * MIB
    with open(m / "k/big", "rb", buffering=0) as file:
        for number in range(70):
            got = file.read(MIB)
            while len(got) < MIB:
                got += file.read(MIB - len(got))
            assert got == number.to_bytes(8, "big") + block[8:], number
    whole = lasting_key.behind("big")
    assert len(whole) == 70 * MIB and whole[:8] == bytes(8) and whole[69 * MIB:69 * MIB + 8] == (69).to_bytes(8, "big")
