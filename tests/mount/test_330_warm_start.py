"""A restart: cached objects, names and attributes are there at once, from the index; what has changed is seen."""

import hashlib
import os
import sqlite3
import time
from pathlib import Path

import pytest

from servers import FakeS3, ManyS3

COUNT = 100_000
BODY = b"x" * 4096


def grow(cache: Path, first: str) -> None:
    """The index of a cache that holds one object, with COUNT more like it (same bytes, same version)."""
    db = sqlite3.connect(cache / "index.db")
    ident, key, version, size, used = db.execute(
        "SELECT id, key, version, size, used FROM object WHERE path = ?", (first,)).fetchone()
    extents = db.execute("SELECT off, len, crc FROM extent WHERE object = ?", (ident,)).fetchall()
    top = db.execute("SELECT max(id) FROM object").fetchone()[0]
    objects, rows = [], []
    for n in range(COUNT):
        path = f"d{n % 100}/f{n}"
        name = hashlib.sha256(key.encode() + b"\0" + path.encode() + b"\0" + version.encode()).hexdigest()
        file = f"{name[:2]}/{name}"
        objects.append((top + 1 + n, key, path, version, size, file, used))
        rows += [(top + 1 + n, *extent) for extent in extents]
        target = cache / "blocks" / file
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(BODY)
    with db:
        db.executemany("INSERT INTO object VALUES (?, ?, ?, ?, ?, ?, ?)", objects)
        db.executemany("INSERT INTO extent VALUES (?, ?, ?, ?)", rows)
    db.close()


@pytest.mark.slow
@pytest.mark.deadline(300)
def test_a_large_cache_is_usable_at_once(mount, bucket, tmp_path, capsys):
    wanted = [f"d{n % 100}/f{n}" for n in range(0, COUNT, 5003)]
    bucket.put("first", BODY)
    for path in wanted:
        bucket.put(path, BODY)
    cache = tmp_path / "cache"
    m = mount({"store k": bucket.store(), "cache": {"dir": str(cache), "max_size": "4GiB"}})
    assert (m / "k/first").read_bytes() == BODY
    m.stop()
    grow(cache, "first")
    began = time.monotonic()
    m.start()
    mounted = time.monotonic() - began
    assert (m / "k" / wanted[0]).read_bytes() == BODY
    first_read = time.monotonic() - began
    for path in wanted:
        assert (m / "k" / path).read_bytes() == BODY
    print(f"mounted after {mounted:.2f} s, first cached read after {first_read:.2f} s")
    assert m.cache_stats()["file_count"] == COUNT + 1
    assert m.metric("quayfs_backend_read_bytes_total") == 0, "bytes were fetched that the cache has"
    assert os.path.exists(cache / "blocks")


HOUR = {"list_metadata": "no", "cache.ttl": "1h"}


@pytest.fixture
def fake():
    server = FakeS3().start()
    yield server
    server.stop()


def fill(server: FakeS3) -> None:
    """A directory whose listing is not the whole truth: every third object has a mode of its own."""
    for number in range(30):
        mode = {"x-amz-meta-mode": str(0o100600)} if number % 3 == 0 else {}
        server.put(b"d/f%02d" % number, b"x" * number, mode)


def seen(folder: Path) -> dict[str, tuple[int, int, int]]:
    with os.scandir(folder) as entries:
        facts = {entry.name: entry.stat() for entry in entries}
    return {name: (st.st_size, st.st_mode, st.st_mtime_ns) for name, st in facts.items()}


def lists(server: FakeS3) -> int:
    """Of its entries; of one or two is asked whether it is there."""
    return sum("prefix=d%2F" in line and "max-keys=1000" in line for line in list(server.requests))


def heads(server: FakeS3) -> set[str]:
    return {line.split("/d/")[1] for line in list(server.requests) if line.startswith("HEAD") and "/d/" in line}


def test_names_and_attributes_are_still_known(mount, fake):
    fill(fake)
    m = mount({"store k": fake.store(**HOUR)})
    first = seen(m / "k/d")
    assert len(first) == 30 and first["f03"][1] == 0o100600 and not (m / "k/d/none").exists()
    assert lists(fake) == 1 and heads(fake)
    for _ in range(2):
        m.stop()
        fake.requests.clear()
        m.start()
        assert seen(m / "k/d") == first
        assert not (m / "k/d/none").exists()
        assert (lists(fake), heads(fake)) == (0, set())


def test_an_old_listing_is_asked_for_once_and_only_what_has_changed(mount, fake):
    fill(fake)
    m = mount({"store k": fake.store(**{**HOUR, "cache.ttl": "6s"})})
    first = seen(m / "k/d")
    m.stop()
    fake.put(b"d/f07", b"other content")
    fake.put(b"d/new", b"new")
    del fake.objects[b"d/f08"]
    fake.objects[b"d/f09"].headers["x-amz-meta-mode"] = str(0o100640)  # as an S3 does it: the same ETag, a new time
    fake.objects[b"d/f09"].mtime += 60
    fake.requests.clear()
    time.sleep(6.1)  # the ttl
    m.start()
    now = seen(m / "k/d")
    assert set(now) == set(first) - {"f08"} | {"new"}
    assert now["f07"][0] == 13 and now["f09"][1] == 0o100640
    for name in set(first) - {"f07", "f08", "f09"}:
        assert now[name] == first[name]
    assert lists(fake) == 1
    assert heads(fake) <= {"f07", "f09", "new"}


def test_nothing_is_believed_after_a_kill(mount, fake):
    fill(fake)
    m = mount({"store k": fake.store(**HOUR)})
    first = seen(m / "k/d")
    m.remount()  # so there was something to believe once
    assert seen(m / "k/d") == first
    (m / "k/d/mine").write_bytes(b"mine")
    (m / "k/d/f00").unlink()
    m.crash()
    fake.put(b"d/theirs", b"theirs")
    fake.requests.clear()
    m.start()
    assert set(seen(m / "k/d")) == set(first) - {"f00"} | {"mine", "theirs"}
    assert lists(fake) >= 1


def test_our_own_changes_are_known(mount, fake):
    fill(fake)
    m = mount({"store k": fake.store(**HOUR)})
    first = seen(m / "k/d")
    (m / "k/d/mine").write_bytes(b"mine")
    (m / "k/d/f00").unlink()
    (m / "k/d/f01").rename(m / "k/d/moved")
    (m / "k/d/f02").write_bytes(b"a new content")
    (m / "k/d/f04").chmod(0o640)
    (m / "k/d/sub").mkdir()
    after = seen(m / "k/d")
    assert set(after) == set(first) - {"f00", "f01"} | {"mine", "moved", "sub"}
    m.remount()
    assert not (m / "k/d/f00").exists() and not (m / "k/d/f01").exists()
    assert {name: seen(m / "k/d")[name] for name in after if name != "sub"} == \
        {name: after[name] for name in after if name != "sub"}
    assert (m / "k/d/mine").read_bytes() == b"mine" and (m / "k/d/f02").read_bytes() == b"a new content"


def test_another_store_of_that_name_is_another_one(mount, fake):
    fill(fake)
    other = FakeS3().start()
    try:
        other.put(b"d/elsewhere", b"x")
        m = mount({"store k": fake.store(**HOUR)})
        assert len(seen(m / "k/d")) == 30
        m.remount({"store k": other.store(**HOUR)})
        assert set(seen(m / "k/d")) == {"elsewhere"}
    finally:
        other.stop()


def test_without_a_ttl_a_restart_asks_again(mount, fake):
    """What never expires would never be seen otherwise."""
    fill(fake)
    m = mount({"store k": fake.store(**{**HOUR, "cache.ttl": "0"})})
    first = seen(m / "k/d")
    m.stop()
    fake.put(b"d/theirs", b"theirs")
    fake.requests.clear()
    m.start()
    assert set(seen(m / "k/d")) == set(first) | {"theirs"}
    assert lists(fake) == 1 and heads(fake) <= {"theirs"}


def test_a_large_listing_is_there_at_once(mount):
    server = ManyS3(COUNT, True).start()
    try:
        m = mount({"store k": server.store(**{"list_metadata": "yes", "cache.ttl": "1h"})})
        wanted = [f"entry-{n:07}" for n in range(COUNT)]
        assert os.listdir(m / "k/many") == wanted
        m.stop()
        asked, began = server.lists, time.monotonic()
        m.start()
        mounted = time.monotonic() - began
        assert os.listdir(m / "k/many") == wanted
        print(f"mounted after {mounted:.2f} s, {COUNT} names listed after {time.monotonic() - began:.2f} s")
        assert server.lists == asked
    finally:
        server.stop()
