"""The block cache: what it saves, what it holds, and that it never answers with wrong bytes."""

import os
import sqlite3

from harness.conf import merged
from harness.data import pattern
from harness.tools import eventually, run

MIB = 1024 * 1024


def block_files(folder):
    return [p for p in (folder / "cache/blocks").rglob("*") if p.is_file()]


def used_bytes(folder) -> int:
    return sum(p.stat().st_blocks * 512 for p in block_files(folder))


def read_in_full(m, name: str) -> bytes:
    """Around the kernel's page cache, so that the daemon is asked each time."""
    run("bash", "-c", "sync; echo 1 > /proc/sys/vm/drop_caches 2>/dev/null || true")
    return (m / name).read_bytes()


def test_second_mount_reads_without_a_get(mount, bucket):
    data = pattern(12 * MIB + 7)
    bucket.put("d/f", data)
    m = mount({"store k": bucket.store()})
    assert (m / "k/d/f").read_bytes() == data
    m.remount()
    before = bucket.minio.counts()
    assert (m / "k/d/f").read_bytes() == data
    after = bucket.minio.counts()
    assert after.get("GetObject", 0) == before.get("GetObject", 0)


def test_what_was_written_is_cached(mount, bucket):
    data = pattern(3 * MIB)
    m = mount({"store k": bucket.store()})
    (m / "k/f").write_bytes(data)
    m.remount()
    before = bucket.minio.count("GetObject")
    assert (m / "k/f").read_bytes() == data
    assert bucket.minio.count("GetObject") == before


def test_survives_kill_9(mount, bucket, folder):
    data = pattern(6 * MIB)
    bucket.put("f", data)
    m = mount({"store k": bucket.store()})
    assert (m / "k/f").read_bytes() == data
    eventually(lambda: used_bytes(folder) >= 6 * MIB)
    m.crash()
    m.start()
    assert (m / "k/f").read_bytes() == data


def test_statistics(mount, bucket):
    bucket.put("a", pattern(2 * MIB))
    bucket.put("b", pattern(MIB, seed=2))
    m = mount({"store k": bucket.store()})
    (m / "k/a").read_bytes()
    (m / "k/b").read_bytes()
    stats = eventually(lambda: (s := m.cache_stats())["size_mb"] >= 3 and s)
    assert stats["file_count"] == 2 and 3 <= stats["size_mb"] <= 3.5


def test_clear(mount, bucket, folder):
    bucket.put("a", pattern(2 * MIB))
    m = mount({"store k": bucket.store()})
    assert len((m / "k/a").read_bytes()) == 2 * MIB
    eventually(lambda: m.cache_stats()["size_mb"] >= 2)
    m.quayctl("cache", "clear")
    stats = m.cache_stats()
    assert (stats["size_mb"], stats["file_count"]) == (0, 0)
    assert used_bytes(folder) == 0
    before = bucket.minio.count("GetObject")
    assert len(read_in_full(m, "k/a")) == 2 * MIB
    assert bucket.minio.count("GetObject") > before


def test_clear_keeps_unsent_data(mount, bucket):
    m = mount({"store k": bucket.store()})
    with open(m / "k/f", "wb", buffering=0) as file:
        file.write(b"not sent yet")
        m.quayctl("cache", "clear")
        file.write(b", still here")
    assert bucket.get("f") == b"not sent yet, still here"


def test_cleanup_removes_what_is_gone(mount, bucket):
    bucket.put("a", pattern(MIB))
    bucket.put("b", pattern(MIB, seed=2))
    m = mount({"store k": {**bucket.store(), "cache.ttl": "1s"}})
    (m / "k/a").read_bytes()
    (m / "k/b").read_bytes()
    eventually(lambda: m.cache_stats()["file_count"] == 2)
    (m / "k/a").unlink()
    m.quayctl("cache", "cleanup")
    assert m.cache_stats()["file_count"] == 1


def test_the_limit_is_hard(mount, bucket, folder):
    limit = 8 * MIB
    for number in range(6):
        bucket.put(f"f{number}", pattern(4 * MIB, seed=number))
    m = mount({"cache": {"max_size": "8MiB"}, "store k": bucket.store()})
    for _ in range(2):
        for number in range(6):
            assert (m / f"k/f{number}").read_bytes() == pattern(4 * MIB, seed=number)
            assert used_bytes(folder) <= limit + 2 * MIB
    eventually(lambda: used_bytes(folder) <= limit)
    assert m.cache_stats()["size_mb"] <= 8


def test_least_recently_used_goes_first(mount, bucket):
    for number in range(4):
        bucket.put(f"f{number}", pattern(2 * MIB, seed=number))
    m = mount({"cache": {"max_size": "6MiB"}, "store k": bucket.store()})
    for number in (0, 1, 2):
        read_in_full(m, f"k/f{number}")
    read_in_full(m, "k/f0")  # now 1 is the oldest
    read_in_full(m, "k/f3")
    before = bucket.minio.count("GetObject")
    assert read_in_full(m, "k/f0") == pattern(2 * MIB, seed=0)
    assert bucket.minio.count("GetObject") == before
    assert read_in_full(m, "k/f1") == pattern(2 * MIB, seed=1)
    assert bucket.minio.count("GetObject") > before


def test_a_file_larger_than_the_cache(mount, bucket):
    data = pattern(20 * MIB)
    bucket.put("big", data)
    m = mount({"cache": {"max_size": "4MiB"}, "store k": bucket.store()})
    assert (m / "k/big").read_bytes() == data


def test_a_damaged_block_is_fetched_again(mount, bucket, folder):
    data = pattern(4 * MIB)
    bucket.put("f", data)
    m = mount({"store k": bucket.store()})
    assert (m / "k/f").read_bytes() == data
    eventually(lambda: used_bytes(folder) >= 4 * MIB)
    m.stop()
    for path in block_files(folder):
        with open(path, "r+b") as file:
            file.seek(1_500_000)
            file.write(b"rotten")
    m.start()
    before = bucket.minio.count("GetObject")
    assert (m / "k/f").read_bytes() == data
    assert bucket.minio.count("GetObject") > before


def test_a_shortened_block_file(mount, bucket, folder):
    data = pattern(4 * MIB)
    bucket.put("f", data)
    m = mount({"store k": bucket.store()})
    assert (m / "k/f").read_bytes() == data
    eventually(lambda: used_bytes(folder) >= 4 * MIB)
    m.stop()
    for path in block_files(folder):
        os.truncate(path, 1_000_000)
    m.start()
    assert (m / "k/f").read_bytes() == data


def test_lost_index(mount, bucket, folder):
    """The index is the truth: without it the block files are nothing, and are cleaned away."""
    data = pattern(2 * MIB)
    bucket.put("f", data)
    m = mount({"store k": bucket.store()})
    assert (m / "k/f").read_bytes() == data
    m.stop()
    for name in ("index.db", "index.db-wal", "index.db-shm"):
        (folder / "cache" / name).unlink(missing_ok=True)
    m.start()
    assert (m / "k/f").read_bytes() == data


def test_damaged_index(mount, bucket, folder):
    data = pattern(2 * MIB)
    bucket.put("f", data)
    m = mount({"store k": bucket.store()})
    assert (m / "k/f").read_bytes() == data
    m.stop()
    (folder / "cache/index.db").write_bytes(b"this is no database" * 1000)
    m.start()
    assert (m / "k/f").read_bytes() == data


def test_the_index_is_sqlite(mount, bucket, folder):
    bucket.put("f", pattern(MIB))
    m = mount({"store k": bucket.store()})
    (m / "k/f").read_bytes()
    m.stop()
    db = sqlite3.connect(folder / "cache/index.db")
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert (folder / "cache").stat().st_mode & 0o777 == 0o700


def test_two_stores_do_not_mix(mount, bucket, make_bucket, minio):
    other = make_bucket(minio)
    bucket.put("same", b"one" * 1000)
    other.put("same", b"two" * 1000)
    sections = {"store a": bucket.store(), "store b": other.store()}
    m = mount(sections)
    assert (m / "a/same").read_bytes() == b"one" * 1000
    assert (m / "b/same").read_bytes() == b"two" * 1000
    # The names swapped: the cache must not answer for the other bucket.
    m.stop()
    text = m.conf.read_text()
    swapped = text.replace("[store a]", "[store x]").replace("[store b]", "[store a]") \
        .replace("[store x]", "[store b]")
    m.rewrite(swapped)
    m.start()
    assert (m / "a/same").read_bytes() == b"two" * 1000
    assert (m / "b/same").read_bytes() == b"one" * 1000


def test_a_second_daemon_is_refused_with_the_pid(mount, bucket, folder):
    m = mount({"store k": bucket.store()})
    second = mount({"store k": bucket.store()}, start=False, name="second")
    try:
        second.start()
    except Exception as error:
        assert str(m.pid) in str(error) and "cache" in str(error)
    else:
        raise AssertionError("two daemons share one cache directory")
    assert os.listdir(m / "k") == []


def test_cache_switched_off(mount, bucket, folder):
    data = pattern(3 * MIB)
    bucket.put("f", data)
    m = mount(merged({"cache": {"enabled": "no"}, "store k": bucket.store()}))
    assert (m / "k/f").read_bytes() == data
    (m / "k/g").write_bytes(data)
    assert bucket.get("g") == data
    assert used_bytes(folder) == 0


def test_ignored_for_o_direct(mount, bucket):
    bucket.put("f", pattern(MIB))
    m = mount({"store k": bucket.store()})
    (m / "k/f").read_bytes()
    descriptor = os.open(m / "k/f", os.O_RDONLY | os.O_DIRECT)
    try:
        before = bucket.minio.count("GetObject")
        import mmap
        buffer = mmap.mmap(-1, 4096)
        assert os.preadv(descriptor, [buffer], 0) == 4096
        assert buffer[:] == pattern(MIB)[:4096]
        assert bucket.minio.count("GetObject") > before
    finally:
        os.close(descriptor)
