"""A restart with 100,000 cached objects: all of them are there at once, from the index, without the store's bytes."""

import hashlib
import os
import sqlite3
import time
from pathlib import Path

import pytest

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
