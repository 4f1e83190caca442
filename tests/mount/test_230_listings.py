"""Large directories: in order, complete, shown as they arrive, and in little memory."""

import os
import re
import time
from collections import Counter
from pathlib import Path

import pytest

from harness.tools import eventually
from servers import FakeS3, ManyS3

KIB = 1024


@pytest.fixture
def many():
    made: list[ManyS3] = []

    def make(count: int, metadata: bool = False) -> ManyS3:
        made.append(ManyS3(count, metadata).start())
        return made[-1]

    yield make
    for server in made:
        server.stop()


def peak(mount) -> int:
    """Bytes of memory that the daemon had at most."""
    for line in Path(f"/proc/{mount.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * KIB
    raise AssertionError("no VmHWM")


# A sanitizer keeps freed memory for a while: not so much that it hides what is looked at here.
SMALL_QUARANTINE = {"ASAN_OPTIONS": "detect_leaks=1:quarantine_size_mb=1:thread_local_quarantine_size_kb=16"}


def test_first_entries_come_before_the_last_page(mount, many):
    server = many(20_000)
    m = mount({"store k": server.store()})
    server.last_page.clear()
    with os.scandir(m / "k/many") as entries:
        first = [next(entries).name for _ in range(3000)]
        assert first == [f"entry-{n:07}" for n in range(3000)]
        server.last_page.set()
        rest = [entry.name for entry in entries]
    assert first + rest == [f"entry-{n:07}" for n in range(20_000)]


@pytest.mark.parametrize("metadata", [False, True])
def test_memory_does_not_grow_with_the_directory(mount, many, metadata):
    server = many(500_000, metadata)
    more = {"list_metadata": "yes"} if metadata else {}
    m = mount({"store k": server.store(**more)}, env=SMALL_QUARANTINE)
    count, small, wrong = 0, 0, 0
    with os.scandir(m / "k/many") as entries:
        for entry in entries:
            wrong += entry.name != f"entry-{count:07}"
            count += 1
            if count == 300_000:  # more than a listing that is kept may have
                small = peak(m)
    assert (count, wrong) == (500_000, 0)
    # With metadata the kernel keeps inodes, and so do we; without, nothing at all is kept. (A sanitizer's
    # allocations are larger.)
    allowed = (256 if metadata else 16) + (160 if "libasan" in Path(f"/proc/{m.pid}/maps").read_text() else 0)
    print(f"{(peak(m) - small) / 200_000:.0f} bytes an entry, {peak(m) >> 20} MiB in all")
    assert (peak(m) - small) / 200_000 < allowed
    assert server.heads < 10
    assert server.lists < 2 * 500


def test_a_long_listing_goes_back_and_on(mount, many):
    """rewinddir and seekdir to what is not kept any more: the same names at the same places."""
    server = many(30_000)
    m = mount({"store k": server.store()})
    descriptor = os.open(m / "k/many", os.O_RDONLY | os.O_DIRECTORY)
    try:
        names = sorted(os.listdir(descriptor))
        os.lseek(descriptor, 0, os.SEEK_SET)
        again = os.listdir(descriptor)
    finally:
        os.close(descriptor)
    assert names == again == [f"entry-{n:07}" for n in range(30_000)]


ODD = [b"plain", b"with space", b"100%", b"%41", b"a+b", b"a&b<c>", b"q?x=1#y", b"tab\tin", b"\xc3\xa4\xc3\xb6",
       b"\xf0\x9f\x98\x80", b"~", b"!", b"a", b"a-b", b"a0", b"'quote\""]


def test_odd_names_in_many_pages(mount, fake):
    """Names that are encoded in listings, a marker, sub-directories and objects of the same name: all are
    there once, with parts of the listing asked for at once."""
    server = fake
    server.page = 20
    wanted = set()
    server.put(b"d/", b"")
    for name in ODD:
        for number in range(12):
            key = b"%02d%s" % (number, name)
            server.put(b"d/" + key, b"x")
            wanted.add(key)
            if number % 4 == 0:
                server.put(b"d/" + key + b"/below/deep", b"x")
                server.put(b"d/" + key + b"/other", b"x")
                wanted.add(key + b"%2F")
    m = mount({"store k": server.store()})
    listed = os.listdir(os.fsencode(m / "k/d"))
    assert len(listed) == len(set(listed))
    assert set(listed) == wanted
    assert server.count("start-after") > 0


@pytest.fixture
def fake():
    server = FakeS3().start()
    yield server
    server.stop()


def test_a_server_that_ignores_start_after(mount, fake):
    """Told by its answers: the directory is listed page by page, and it is whole."""
    server = fake
    server.page = 50
    server.start_after = False
    names = [f"n{number:04}" for number in range(700)]
    for name in names:
        server.put(b"d/" + name.encode(), b"x")
    m = mount({"store k": server.store()})
    for _ in range(3):
        try:
            listed = os.listdir(m / "k/d")
            break
        except OSError:
            continue
    assert listed == names
    assert "page by page" in m.log()


def walked(top):
    return sorted(os.path.relpath(os.path.join(at, name), top) for at, _, names in os.walk(top) for name in names)


def listed_below(fake) -> Counter:
    """How often each sub-directory of t/ was listed."""
    return Counter(re.findall(r"prefix=t%2F(d\d+)%2F", " ".join(r for r in fake.requests if "list-type" in r)))


def quiet(m, fake) -> None:
    """Until nothing is being asked, and nothing new for a while, in which the daemon has had its turns."""
    def still() -> bool:
        before = len(fake.requests)
        for _ in range(4):
            time.sleep(0.05)
            if fake.busy or m.metric("quayfs_backend_inflight", key="k"):
                return False
        return len(fake.requests) == before

    eventually(still)


def test_a_walk_is_asked_for_ahead(mount, fake):
    """find over a tree: sub-directories are listed several at once and once each; again: not at all."""
    folders = [f"d{folder:02}" for folder in range(40)]
    wanted = sorted(f"{folder}/f{number}" for folder in folders for number in range(5))
    for name in wanted:
        fake.put(f"t/{name}".encode(), b"x")
    m = mount({"store k": fake.store(list_metadata="no"), "cache": {"ttl": "1h"}})
    os.listdir(m / "k/t")
    fake.at_once, fake.slow = 0, 0.05
    seen = []
    for number, folder in enumerate(folders):
        seen += [f"{folder}/{name}" for name in sorted(os.listdir(m / "k/t" / folder))]
        quiet(m, fake)  # else who walks overtakes those who ask ahead, and both ask for the same
        if number == 2:
            assert len(listed_below(fake)) >= 3 + 8, "nobody asks ahead"
    assert seen == wanted
    assert fake.at_once >= 3
    asked = listed_below(fake)
    assert set(asked) == set(folders)
    # Once each; those that nobody has asked for ahead are looked up (by a listing, too) and listed.
    assert sum(asked.values()) <= 40 + 10, asked
    fake.slow = 0
    assert walked(m / "k/t") == wanted  # os.walk asks what kind of thing each file is
    assert listed_below(fake) == asked
    before = len(fake.requests)
    assert walked(m / "k/t") == wanted
    assert fake.requests[before:] == []


def test_markers_are_not_asked_for(mount, bucket):
    """A directory that was made by mkdir has an object of its own: its mode comes with the listing of what is in it."""
    m = mount({"store k": bucket.store()})
    for number in range(40):
        folder = m / f"k/t/d{number:02}"
        folder.mkdir(parents=True)
        folder.chmod(0o700 + number % 8)
        (folder / "f").write_text("x")
    m.stop()
    m = mount({"store k": bucket.store(), "cache": {"ttl": "60s"}})
    before = bucket.minio.counts()
    modes = {at: os.lstat(at).st_mode & 0o777 for at, _, _ in os.walk(m / "k/t")}
    assert [modes[str(m / f"k/t/d{number:02}")] for number in range(40)] == [0o700 + n % 8 for n in range(40)]
    after = bucket.minio.counts()
    assert after.get("HeadObject", 0) - before.get("HeadObject", 0) <= 5


def test_ls_l_without_metadata_asks_ahead(mount, fake):
    """Where listings do not tell modes, `ls -l` needs a HEAD for each entry: several at once, one each, and the truth."""
    for number in range(150):
        fake.put(b"d/f%03d" % number, b"x", {"x-amz-meta-mode": str(0o100600 + number % 8)})
    m = mount({"store k": fake.store(), "cache": {"ttl": "60s"}})
    fake.slow = 0.1
    with os.scandir(m / "k/d") as entries:
        modes = {entry.name: entry.stat().st_mode & 0o777 for entry in entries}
    assert modes == {f"f{number:03}": 0o600 + number % 8 for number in range(150)}
    assert fake.at_once >= 3
    assert fake.count("^HEAD .*/d/f") < 150 * 3 // 2


def test_absent_names_are_not_asked_for_again(mount, bucket):
    bucket.put("d/there", b"x")
    m = mount({"store k": bucket.store(), "cache": {"ttl": "60s"}})
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            os.stat(m / "k/d/absent")
    before = bucket.minio.counts()
    for _ in range(20):
        with pytest.raises(FileNotFoundError):
            os.stat(m / "k/d/absent")
    after = bucket.minio.counts()
    asked = ("HeadObject", "ListObjectsV2", "GetObject")
    assert sum(after.get(name, 0) - before.get(name, 0) for name in asked) == 0
    (m / "k/d/absent").write_text("now it is")  # our own change is seen at once
    assert (m / "k/d/absent").read_text() == "now it is"
