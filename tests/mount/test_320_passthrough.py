"""Opens that the kernel serves from the cache's own file (fs/passthrough.h: the table of cases).

Where the kernel cannot do that, or this user may not, the same cases must hold without it; only what the
health file and the counter say differs, and that is asserted both ways."""

import errno
import mmap
import os
import platform
import threading
import time

import pytest

from harness.data import pattern
from harness.tools import eventually, fails_with, kept_pages, run

MIB = 1024 * 1024
OPENS = "quayfs_passthrough_opens_total"


def possible() -> bool:
    """By the kernel's own account, not by the daemon's."""
    release = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
    held = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("CapEff:"))
    return release >= (6, 9) and bool(int(held, 16) >> 21 & 1)


@pytest.fixture
def m(mount, bucket):
    # No ticket, no ttl: every open and every lookup asks the store.
    return mount({"store k": bucket.store()})


def cached(m, bucket, name="f", size=5 * MIB + 77, seed=1) -> bytes:
    """An object that is wholly in the cache."""
    data = pattern(size, seed=seed)
    bucket.put(name, data)
    before = m.metric("quayfs_cache_bytes", key="k")

    def whole() -> bool:
        with open(m / "k" / name, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            assert file.read() == data
        return m.metric("quayfs_cache_bytes", key="k") >= before + size

    eventually(whole)
    return data


def passed(m) -> float:
    return m.metric(OPENS)


class Opens:
    """How many of the opens inside were passed through."""

    def __init__(self, m):
        self.m = m

    def __enter__(self):
        self.before = passed(self.m)
        return self

    def __exit__(self, *_):
        self.count = passed(self.m) - self.before

    def were(self, wanted: int) -> None:
        assert self.count == (wanted if possible() else 0)


def settled(m, name="f") -> None:
    """The daemon has seen the release of what was closed: a new open is the first one."""
    if not possible():
        return

    def first() -> bool:
        before = passed(m)
        (m / "k" / name).open("rb").close()
        return passed(m) > before

    eventually(first)


def test_health_says_whether_and_why(m):
    health = m.health()
    assert health["passthrough"] is possible()
    if not possible():
        assert "CAP_SYS_ADMIN" in health["passthrough_reason"] or "kernel" in health["passthrough_reason"]
    else:
        assert "passthrough_reason" not in health


def test_it_can_be_switched_off(mount, bucket):
    m = mount({"quayfs": {"passthrough": "no"}, "store k": bucket.store()})
    cached(m, bucket)
    (m / "k/f").read_bytes()
    assert passed(m) == 0
    health = m.health()
    assert health["passthrough"] is False and health["passthrough_reason"] == "passthrough = no"


def test_a_cached_object_is_passed_through(m, bucket):
    data = cached(m, bucket)
    settled(m)
    hits = m.metric("quayfs_cache_hits_total", key="k")
    with Opens(m) as opens:
        assert (m / "k/f").read_bytes() == data
    opens.were(1)
    if possible():
        assert m.metric("quayfs_cache_hits_total", key="k") == hits  # the daemon was not asked


def test_not_before_it_is_whole(m, bucket):
    data = pattern(40 * MIB)
    bucket.put("f", data)
    with Opens(m) as opens, open(m / "k/f", "rb", buffering=0) as first:
        first.seek(20 * MIB)
        assert first.read(4096) == data[20 * MIB:20 * MIB + 4096]
        with open(m / "k/f", "rb") as second:  # the first is cached: so is this one
            assert second.read() == data
        eventually(lambda: m.metric("quayfs_cache_bytes", key="k") >= len(data))
        with open(m / "k/f", "rb") as third:
            assert third.read() == data
    opens.were(0)
    settled(m)


def test_pages_that_nobody_will_read_are_given_up(m, bucket):
    """Else the next open, which is passed through, waits until the kernel has dropped all of them."""
    turns = iter(range(1000))

    def given_up() -> bool:
        turn = next(turns)
        data = pattern(5 * MIB + 77, seed=turn)
        bucket.put(f"f{turn}", data)
        with open(m / f"k/f{turn}", "rb") as file:
            assert file.read() == data
        time.sleep(0.05 * turn)  # to look is to have it open
        return kept_pages(m / f"k/f{turn}") == 0

    if possible():
        eventually(given_up)
    else:
        assert not given_up()


def test_pages_that_somebody_will_read_are_kept(mount, bucket):
    m = mount({"quayfs": {"passthrough": "no"}, "store k": bucket.store()})
    cached(m, bucket)
    with open(m / "k/f", "rb") as file:
        file.read()
    for _ in range(3):
        assert kept_pages(m / "k/f") == (5 * MIB + 77 + mmap.PAGESIZE - 1) // mmap.PAGESIZE
        time.sleep(0.1)


def test_readers_share_it(m, bucket):
    data = cached(m, bucket)
    settled(m)
    with Opens(m) as opens:
        files = [open(m / "k/f", "rb", buffering=0) for _ in range(4)]
        for n, file in enumerate(files):
            assert os.pread(file.fileno(), 5000, n * MIB) == data[n * MIB:n * MIB + 5000]
        for file in files:
            file.close()
    opens.were(4)


def test_a_write_is_seen_by_a_passed_reader(m, bucket):
    data = cached(m, bucket)
    settled(m)
    with open(m / "k/f", "rb", buffering=0) as reader:
        mapped = mmap.mmap(reader.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ)
        assert mapped[:100] == data[:100]
        with open(m / "k/f", "r+b", buffering=0) as writer:
            writer.seek(2 * MIB - 5)
            writer.write(b"across two blocks")
            assert os.pread(reader.fileno(), 40, 2 * MIB - 10) == \
                data[2 * MIB - 10:2 * MIB - 5] + b"across two blocks" + data[2 * MIB + 12:2 * MIB + 30]
            assert mapped[2 * MIB - 5:2 * MIB + 12] == b"across two blocks"
            writer.seek(0, os.SEEK_END)
            writer.write(b"and the end")
            assert os.pread(reader.fileno(), 100, len(data)) == b"and the end"
        wanted = bytearray(data + b"and the end")
        wanted[2 * MIB - 5:2 * MIB + 12] = b"across two blocks"
        assert bucket.get("f") == wanted
        assert os.pread(reader.fileno(), len(wanted), 0) == wanted
        with open(m / "k/f", "r+b", buffering=0) as writer:  # once more, after a commit
            writer.write(b"again")
        assert os.pread(reader.fileno(), 5, 0) == b"again"
        assert os.fstat(reader.fileno()).st_size == len(wanted)
        mapped.close()
    wanted[:5] = b"again"
    assert bucket.get("f") == wanted
    assert (m / "k/f").read_bytes() == wanted
    m.remount()
    assert (m / "k/f").read_bytes() == wanted


def test_an_open_that_empties_a_file_which_is_passed(m, bucket):
    """The kernel opens it twice: the first time is not to send an empty file to the store."""
    data = cached(m, bucket, size=70_000)
    settled(m)
    with Opens(m) as opens:
        reader = os.open(m / "k/f", os.O_RDONLY)
    opens.were(1)
    writer = os.open(m / "k/f", os.O_RDWR | os.O_TRUNC)
    try:
        os.write(writer, b"not yet for others")
        for _ in range(10):
            assert bucket.get("f") == data
            time.sleep(0.05)
    finally:
        os.close(writer)
        os.close(reader)
    assert bucket.get("f") == b"not yet for others"


def test_truncations_are_seen(m, bucket):
    data = cached(m, bucket)
    settled(m)
    with open(m / "k/f", "rb", buffering=0) as reader:
        assert reader.read(10) == data[:10]
        os.truncate(m / "k/f", 1000)
        assert os.pread(reader.fileno(), 5000, 0) == data[:1000]
        os.truncate(m / "k/f", 3000)
        assert os.pread(reader.fileno(), 5000, 0) == data[:1000] + bytes(2000)
        with open(m / "k/f", "wb") as writer:
            writer.write(b"new")
        assert os.pread(reader.fileno(), 5000, 0) == b"new"
    assert bucket.get("f") == b"new" == (m / "k/f").read_bytes()


def test_attributes_changed_by_a_passed_reader(mount, bucket):
    """A writer beside it has another inode: what the kernel believes of that one for the ttl is out of date as well."""
    m = mount({"store k": bucket.store(**{"cache.ttl": "60s"})})
    cached(m, bucket)
    settled(m)
    path = m / "k/f"
    with Opens(m) as opens:
        reader = os.open(path, os.O_RDONLY)
    opens.were(1)
    writer = os.open(path, os.O_RDWR)
    try:
        mode, when = 0o604, 1_234_567_890_123_456_789
        assert os.stat(path).st_mode & 0o777 != mode and os.fstat(writer).st_mtime_ns != when
        os.fchmod(reader, mode)
        os.utime(reader, ns=(when, when))
        for shown in (os.stat(path), os.fstat(writer), os.fstat(reader)):
            assert (shown.st_mode & 0o777, shown.st_mtime_ns) == (mode, when)
    finally:
        os.close(reader)
        os.close(writer)


def test_a_writer_with_a_shared_mapping(m, bucket):
    data = cached(m, bucket)
    settled(m)
    with open(m / "k/f", "rb", buffering=0) as reader, open(m / "k/f", "r+b") as writer:
        mapped = mmap.mmap(writer.fileno(), 0)
        mapped[MIB:MIB + 6] = b"mapped"
        mapped.flush()
        os.fsync(writer.fileno())
        assert bucket.get("f") == data[:MIB] + b"mapped" + data[MIB + 6:]
        assert os.pread(reader.fileno(), 8, MIB - 1) == data[MIB - 1:MIB] + b"mapped" + data[MIB + 6:MIB + 7]
        mapped.close()


def test_another_version_leaves_the_old_one_whole(m, bucket):
    old = cached(m, bucket)
    settled(m)
    with open(m / "k/f", "rb", buffering=0) as reader:
        assert reader.read(100) == old[:100]
        new = pattern(4 * MIB, seed=9)
        bucket.put("f", new)
        eventually(lambda: (m / "k/f").read_bytes() == new)
        if possible():
            assert os.pread(reader.fileno(), len(old) + 1, 0) == old
        else:
            with pytest.raises(OSError):
                os.pread(reader.fileno(), MIB, MIB)
    assert (m / "k/f").read_bytes() == new


def test_direct_reads_beside_it(m, bucket):
    data = cached(m, bucket, size=4 * MIB)
    settled(m)
    with open(m / "k/f", "rb", buffering=0) as reader:
        direct = os.open(m / "k/f", os.O_RDONLY | os.O_DIRECT)
        buffer = mmap.mmap(-1, 65536)
        assert os.preadv(direct, [buffer], MIB) == 65536 and buffer[:] == data[MIB:MIB + 65536]
        assert os.pread(reader.fileno(), 100, 3 * MIB) == data[3 * MIB:3 * MIB + 100]
        os.close(direct)


def test_names_go_away_under_it(m, bucket):
    data = cached(m, bucket)
    settled(m)
    with open(m / "k/f", "rb", buffering=0) as reader:
        os.rename(m / "k/f", m / "k/g")
        assert os.pread(reader.fileno(), len(data), 0) == data
        with open(m / "k/g", "r+b") as writer:
            writer.write(b"moved")
        assert os.pread(reader.fileno(), 10, 0) == b"moved" + data[5:10]
        os.unlink(m / "k/g")
        assert os.pread(reader.fileno(), len(data), 5) == data[5:]
    assert "f" not in bucket.keys() and "g" not in bucket.keys()


def test_what_is_read_is_not_evicted(mount, bucket):
    m = mount({"cache": {"max_size": "16MiB"}, "store k": bucket.store()})
    data = cached(m, bucket, size=6 * MIB)
    settled(m)
    with open(m / "k/f", "rb", buffering=0) as reader:
        assert reader.read(100) == data[:100]
        m.quayctl("cache", "clear")
        for n in range(4):
            bucket.put(f"other{n}", pattern(6 * MIB, seed=50 + n))
            (m / f"k/other{n}").read_bytes()
        with open(m / "k/written", "wb") as writer:
            writer.write(pattern(7 * MIB, seed=60))
        run("bash", "-c", "sync; echo 3 > /proc/sys/vm/drop_caches 2>/dev/null || true")
        assert os.pread(reader.fileno(), len(data), 0) == data
    eventually(lambda: m.cache_stats()["size_mb"] <= 16)
    m.quayctl("cache", "clear")
    assert m.cache_stats()["size_mb"] == 0


def test_not_more_than_half_of_the_cache(mount, bucket):
    m = mount({"cache": {"max_size": "16MiB"}, "store k": bucket.store()})
    cached(m, bucket, "a", 5 * MIB)
    cached(m, bucket, "b", 5 * MIB, seed=2)
    settled(m, "a")
    with open(m / "k/a", "rb"), Opens(m) as opens:
        (m / "k/b").read_bytes()
    opens.were(0)


def test_after_a_restart_checksums_come_first(m, bucket, folder):
    data = cached(m, bucket, size=12 * MIB)
    m.remount()
    with Opens(m) as opens:
        with open(m / "k/f", "rb") as file:
            assert file.read(1000) == data[:1000]
    opens.were(0)  # more than is checked in an open
    settled(m)     # in the background
    m.stop()
    block = next(p for p in (folder / "cache/blocks").rglob("*") if p.is_file())
    with open(block, "r+b") as file:
        file.seek(7 * MIB)
        file.write(b"damage")
    m.start()
    for _ in range(3):
        assert (m / "k/f").read_bytes() == data
    settled(m)
    assert (m / "k/f").read_bytes() == data
    assert m.metric("quayfs_cache_corrupt_total", key="k") == 1


def test_a_small_file_is_checked_in_the_open(m, bucket):
    data = cached(m, bucket, size=MIB)
    m.remount()
    with Opens(m) as opens:
        assert (m / "k/f").read_bytes() == data
    opens.were(1)


def test_staged_writes_outlive_a_kill(mount, bucket):
    """The file that passed readers have becomes the stage file: the journal must find all of it."""
    m = mount({"store k": {**bucket.store(), "write": "back"}})
    data = cached(m, bucket)
    settled(m)
    reader = open(m / "k/f", "rb", buffering=0)
    writer = open(m / "k/f", "r+b", buffering=0)
    bucket.minio.stop()
    try:
        writer.seek(MIB)
        writer.write(b"staged")
        writer.close()
        assert os.pread(reader.fileno(), 6, MIB) == b"staged"
        m.crash()
    finally:
        reader.close()
        bucket.minio.start()
    m.start()
    wanted = data[:MIB] + b"staged" + data[MIB + 6:]
    eventually(lambda: bucket.get("f") == wanted)
    assert (m / "k/f").read_bytes() == wanted


def test_opens_never_fail_whatever_meets(m, bucket):
    """Readers, writers and other clients' changes at once: no open fails, and no read is a mix."""
    size = 256 * 1024
    bucket.put("f", b"a" * size)
    stop = threading.Event()
    wrong: list[str] = []

    def read() -> None:
        while not stop.is_set():
            try:
                with open(m / "k/f", "rb", buffering=0) as file:
                    got = b""
                    while part := os.pread(file.fileno(), size, len(got)):
                        got += part
            except OSError as failure:
                if failure.errno != errno.ESTALE or failure.filename:  # the promise of reads, not of opens
                    wrong.append(f"read: {failure}")
                continue
            if len(got) != size or len(set(got[4096:])) != 1:
                wrong.append(f"read {len(got)} bytes of {set(got[4096:])}")

    def write() -> None:
        while not stop.is_set():
            try:
                with open(m / "k/f", "r+b", buffering=0) as file:
                    file.write(b"w" * 4096)
            except OSError as failure:
                if failure.filename:
                    wrong.append(f"write: {failure}")

    threads = [threading.Thread(target=work) for work in (read, read, read, write)]
    for thread in threads:
        thread.start()
    for n in range(20):
        bucket.put("f", bytes([98 + n]) * size)
        stop.wait(0.1)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[:5]


def test_copying_within_a_file_that_has_two_inodes(m, bucket):
    """The kernel takes them for two files: it neither sees that ranges overlap nor, for the older one, where it ends."""
    cached(m, bucket, size=209_468)
    reader = os.open(m / "k/f", os.O_RDONLY)
    writer = os.open(m / "k/f", os.O_RDWR)
    os.ftruncate(writer, 0)
    os.pwrite(writer, b"y" * 3520, 0)
    with fails_with(errno.EINVAL):  # more than there is, up to and over where it goes
        os.copy_file_range(reader, writer, 39_984, 808, 4097)
    os.fstat(reader)
    with fails_with(errno.EINVAL):
        os.copy_file_range(reader, writer, 1000, 0, 500)
    assert os.pread(writer, 10_000, 0) == b"y" * 3520
    assert os.copy_file_range(reader, writer, 39_984, 808, 4097) == 2712  # the kernel knows the size now
    assert os.pread(writer, 10_000, 0) == b"y" * 3520 + bytes(4097 - 3520) + b"y" * 2712
    os.close(reader)
    os.close(writer)
