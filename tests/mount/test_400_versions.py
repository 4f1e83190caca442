"""Other clients change what we have: no read mixes versions, no write is lost in silence."""

import errno
import os
import threading

import pytest

from harness.data import pattern
from harness.tools import eventually, fails_with
from servers import FakeS3

MIB = 1024 * 1024
QUICK = {"cache.ttl": "1s"}


def test_overwrite_is_seen_at_the_next_open(mount, lasting_key):
    lasting_key.put_behind("f", b"first version")
    m = mount({"store k": lasting_key.options})
    assert (m / "k/f").read_bytes() == b"first version"
    lasting_key.put_behind("f", b"second, of another length")
    assert (m / "k/f").read_bytes() == b"second, of another length"
    lasting_key.put_behind("f", b"third one, of same length")
    assert (m / "k/f").read_bytes() == b"third one, of same length"


def test_same_size_same_second(mount, bucket):
    """The etag tells, where size and time do not."""
    bucket.put("f", b"AAAA")
    m = mount({"store k": bucket.store()})
    for text in (b"BBBB", b"CCCC", b"DDDD"):
        bucket.put("f", text)
        assert (m / "k/f").read_bytes() == text


def test_open_file_gives_estale(mount, bucket):
    bucket.put("f", pattern(30 * MIB))
    m = mount({"store k": bucket.store()})
    descriptor = os.open(m / "k/f", os.O_RDONLY)
    try:
        assert len(os.pread(descriptor, 4096, 0)) == 4096
        bucket.put("f", pattern(30 * MIB, seed=2))
        with fails_with(errno.ESTALE):
            os.pread(descriptor, 4096, 25 * MIB)
    finally:
        os.close(descriptor)
    assert (m / "k/f").read_bytes() == pattern(30 * MIB, seed=2)
    assert any("f" in line for line in m.log_lines("error", "warn"))


def by_open(path, size: int) -> None:
    assert len(path.read_bytes()) == size


def by_stat(path, size: int) -> None:
    eventually(lambda: path.stat().st_size == size)


def by_listing(path, size: int) -> None:
    def listed() -> bool:
        with os.scandir(path.parent) as entries:
            return [entry.stat().st_size for entry in entries if entry.name == path.name] == [size]
    eventually(listed)


@pytest.mark.parametrize("learn", [by_open, by_stat, by_listing])
@pytest.mark.parametrize("passthrough", ["auto", "no"])
def test_an_old_descriptor_keeps_its_size(mount, bucket, learn, passthrough):
    """The kernel has one size for an inode: that of a shorter new version would be an early end for the old one."""
    old, new = pattern(10 * MIB), pattern(5000, seed=2)
    bucket.put("f", old)
    m = mount({"store k": {**bucket.store(), **QUICK}, "quayfs": {"passthrough": passthrough}})
    if passthrough == "auto":
        eventually(lambda: (m / "k/f").read_bytes() == old and m.cache_stats()["size_mb"] >= 10)
    descriptor = os.open(m / "k/f", os.O_RDONLY)
    try:
        assert os.pread(descriptor, 4096, 0) == old[:4096]
        for turn in range(3):
            bucket.put("f", new[turn:])
            learn(m / "k/f", len(new) - turn)
            assert os.fstat(descriptor).st_size == len(old)
            assert os.lseek(descriptor, 0, os.SEEK_END) == len(old)
            for place in (0, 4 * MIB, 9 * MIB):
                try:
                    assert os.pread(descriptor, 4096, place) == old[place:place + 4096]
                except OSError as error:
                    assert error.errno in (errno.ESTALE, errno.EIO)
            assert (m / "k/f").stat().st_size == len(new) - turn
            assert (m / "k/f").read_bytes() == new[turn:]
    finally:
        os.close(descriptor)
    assert (m / "k/f").read_bytes() == new[2:]


def test_two_versions_can_be_read_at_a_time(mount, bucket):
    """Each from its beginning to its end, and what is written here next is seen by name."""
    versions = [pattern(3 * MIB - turn * MIB, seed=turn) for turn in range(3)]
    m = mount({"store k": bucket.store()})
    descriptors = []
    for data in versions:
        bucket.put("f", data)
        eventually(lambda data=data: (m / "k/f").read_bytes() == data)
        descriptors.append(os.open(m / "k/f", os.O_RDONLY))
        assert os.pread(descriptors[-1], len(data), 0) == data
    (m / "k/f").write_bytes(b"ours")
    assert (m / "k/f").read_bytes() == b"ours" and bucket.get("f") == b"ours"
    assert os.fstat(descriptors[2]).st_size == 4 and os.pread(descriptors[2], 10, 0) == b"ours"
    for descriptor, data in zip(descriptors[:2], versions):
        assert os.fstat(descriptor).st_size == len(data)
        try:
            assert data.startswith(os.pread(descriptor, len(data), 0))  # up to where the kernel has given pages up
        except OSError as error:
            assert error.errno in (errno.ESTALE, errno.EIO)
    for descriptor in descriptors:
        os.close(descriptor)


def test_a_name_that_has_become_a_directory(mount, lasting_key):
    """To who has the file open, its version is gone."""
    data = pattern(20 * MIB if lasting_key.backend in ("local", "s3") else MIB)
    lasting_key.put_behind("f", data)
    m = mount({"store k": {**lasting_key.options, "cache.ttl": "100ms"}})
    descriptor = os.open(m / "k/f", os.O_RDONLY)
    try:
        assert os.pread(descriptor, 4096, 0) == data[:4096]
        lasting_key.delete_behind("f")
        lasting_key.put_behind("f/below", b"x")
        eventually(lambda: os.path.isdir(m / "k/f"))
        assert (m / "k/f/below").read_bytes() == b"x"
        assert os.fstat(descriptor).st_size == len(data)
        try:
            assert os.pread(descriptor, 4096, len(data) - 5000) == data[-5000:-904]
        except OSError as error:
            assert error.errno in (errno.ESTALE, errno.EIO)
    finally:
        try:
            os.close(descriptor)
        except OSError as error:  # the kernel gives an inode up whose name has become another kind of file
            assert error.errno == errno.EIO


def test_truncated_by_a_writer_while_it_is_read(mount, bucket):
    """The size of a reader's descriptor is that of the file at once, whichever inode the writer was given."""
    data = pattern(2 * MIB)
    bucket.put("f", data)
    m = mount({"store k": {**bucket.store(), "cache.ttl": "1h"}})
    eventually(lambda: (m / "k/f").read_bytes() == data and m.cache_stats()["size_mb"] >= 2)
    descriptor = os.open(m / "k/f", os.O_RDONLY)
    try:
        assert os.lseek(descriptor, 0, os.SEEK_END) == len(data) == os.fstat(descriptor).st_size
        with open(m / "k/f", "wb", buffering=0) as writer:
            assert os.lseek(descriptor, 0, os.SEEK_END) == 0 == os.fstat(descriptor).st_size
            with fails_with(errno.ENXIO):
                os.lseek(descriptor, 100, os.SEEK_DATA)
            for turn in range(1, 4):
                writer.write(b"12345")
                assert os.lseek(descriptor, 0, os.SEEK_END) == 5 * turn == os.fstat(descriptor).st_size
        assert os.pread(descriptor, 100, 0) == b"12345" * 3
    finally:
        os.close(descriptor)


def test_no_read_mixes_versions(mount, bucket):
    """Each whole read is one version or an error, while another client overwrites all the time."""
    size = 6 * MIB
    versions = {bytes([n]) * size for n in range(6)}
    bucket.put("f", bytes(size))
    m = mount({"store k": bucket.store()})
    stop = threading.Event()

    def overwrite() -> None:
        turn = 0
        while not stop.is_set():
            bucket.put("f", bytes([turn % 6]) * size)
            turn += 1

    writer = threading.Thread(target=overwrite)
    writer.start()
    whole = stale = 0
    try:
        while whole + stale < 40:
            try:
                got = (m / "k/f").read_bytes()
            except OSError as error:
                assert error.errno == errno.ESTALE
                stale += 1
                continue
            assert got in versions, sorted(set(got))
            whole += 1
    finally:
        stop.set()
        writer.join()
    assert (m / "k/f").read_bytes() == bucket.get("f")


def test_lost_update_is_refused(mount, bucket):
    """Opened, changed by somebody else, then closed by us: an error, and both versions are kept."""
    bucket.put("f", b"original")
    m = mount({"store k": bucket.store()})
    descriptor = os.open(m / "k/f", os.O_RDWR)
    os.pwrite(descriptor, b"OURS", 0)
    bucket.put("f", b"of somebody else")
    with fails_with(errno.ESTALE):
        os.close(descriptor)
    assert bucket.get("f") == b"of somebody else"
    (kept,) = [key for key in bucket.keys() if key != "f"]
    assert kept.startswith("f.conflict-") and bucket.get(kept)[:4] == b"OURS"
    assert any(kept in line for line in m.log_lines("error", "warn"))


def test_exclusive_create_races(mount, bucket):
    """O_EXCL: whoever comes second is told, at the latest by close()."""
    m = mount({"store k": bucket.store()})
    descriptor = os.open(m / "k/lock", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    os.write(descriptor, b"ours")
    bucket.put("lock", b"theirs")
    with fails_with(errno.EEXIST):
        os.close(descriptor)
    assert bucket.get("lock") == b"theirs"
    (kept,) = [key for key in bucket.keys() if key != "lock"]
    assert kept.startswith("lock.conflict-") and bucket.get(kept) == b"ours"


def test_new_and_removed_names_show_after_the_ttl(mount, lasting_key):
    lasting_key.put_behind("old", b"x")
    m = mount({"store k": {**lasting_key.options, **QUICK}})
    assert os.listdir(m / "k") == ["old"]
    assert not (m / "k/new").exists()
    lasting_key.put_behind("new", b"y")
    eventually(lambda: (m / "k/new").exists())
    eventually(lambda: sorted(os.listdir(m / "k")) == ["new", "old"])
    lasting_key.delete_behind("old")
    eventually(lambda: os.listdir(m / "k") == ["new"])
    with fails_with(errno.ENOENT):
        os.open(m / "k/old", os.O_RDONLY)


def test_removed_by_another_is_enoent_at_open(mount, lasting_key):
    lasting_key.put_behind("f", b"x")
    m = mount({"store k": lasting_key.options})
    assert (m / "k/f").read_bytes() == b"x"
    lasting_key.delete_behind("f")
    with fails_with(errno.ENOENT):
        (m / "k/f").read_bytes()


def test_a_file_that_another_has_removed_is_made_anew(mount, lasting_key):
    """Story: within the ttl, open(O_CREAT) of such a name was ENOENT: the kernel takes it for an open of the old file."""
    for name in "fgh":
        lasting_key.put_behind(name, b"theirs")
    m = mount({"store k": {**lasting_key.options, "cache.ttl": "1h"}})
    assert (m / "k/f").read_bytes() == b"theirs"
    assert (m / "k/g").stat().st_size == 6 and (m / "k/h").stat().st_size == 6
    for name in "fgh":
        lasting_key.delete_behind(name)
    lasting_key.put_behind("h/x", b"a directory now")
    for name in "fg":
        (m / "k" / name).write_bytes(b"ours")
        assert lasting_key.behind(name) == b"ours" and (m / "k" / name).read_bytes() == b"ours"
    with fails_with(errno.EISDIR):
        (m / "k/h").write_bytes(b"ours")
    assert os.listdir(m / "k/h") == ["x"]


def test_two_mounts_of_one_bucket(mount, bucket, folder):
    one = mount({"store k": bucket.store()}, name="one")
    two = mount({"cache": {"dir": folder / "cache-two"}, "loader": {"spool": folder / "load-two"},
                 "store k": bucket.store()}, name="two")
    for turn in range(10):
        writer, reader = (one, two) if turn % 2 else (two, one)
        text = b"turn %d" % turn
        (writer / "k/f").write_bytes(text)
        assert (reader / "k/f").read_bytes() == text


def test_attributes_of_an_open_file_change_elsewhere(mount, bucket, folder):
    """Metadata changes without a new version of the content: who has that version open sees it as everybody does."""
    store = {"store k": bucket.store()}
    one = mount(store, name="one")
    two = mount({**store, "cache": {"dir": folder / "cache-two"}, "loader": {"spool": folder / "load-two"}}, name="two")
    (one / "k/f").write_bytes(b"the content stays")
    with open(two / "k/f", "rb") as held:
        assert held.read() == b"the content stays"
        for when, mode in ((1_234_567_890_123_456_789, 0o600), (1_600_000_000_000_000_000, 0o640)):
            os.utime(one / "k/f", ns=(when, when))
            os.chmod(one / "k/f", mode)
            assert (two / "k/f").read_bytes() == b"the content stays"
            for shown in (os.stat(two / "k/f"), os.fstat(held.fileno())):
                assert (shown.st_mtime_ns, shown.st_mode & 0o777) == (when, mode)


@pytest.fixture
def blind_server():
    """It takes If-Match and If-None-Match and writes all the same."""
    fake = FakeS3().start()
    fake.conditions = False
    yield fake
    fake.stop()


@pytest.mark.parametrize("flags, wanted", [(os.O_WRONLY | os.O_TRUNC, errno.ESTALE),
                                           (os.O_WRONLY | os.O_CREAT | os.O_EXCL, errno.EEXIST)])
@pytest.mark.parametrize("size", [100, 6 * MIB], ids=["put", "upload"])
def test_server_without_conditions(mount, blind_server, flags, wanted, size):
    """It is found out and told of; each write is preceded by a look, and what somebody else has written since the open stays."""
    fake, ours = blind_server, pattern(size)
    m = mount({"store k": fake.store(multipart_threshold="5MiB")})
    if not flags & os.O_EXCL:
        fake.put(b"f", b"x")
        assert (m / "k/f").read_bytes() == b"x"
        (m / "k/f").write_bytes(b"y")
        assert fake.objects[b"f"].data == b"y"
    with open(os.open(m / "k/f", flags), "wb", buffering=0) as file:
        file.write(ours)
        fake.put(b"f", b"theirs")
        fake.requests.clear()
        with fails_with(wanted):
            file.close()
    assert fake.objects[b"f"].data == b"theirs"
    (kept,) = [name for name in fake.objects if name.startswith(b"f.conflict-")]
    assert fake.objects[kept].data == ours and (m / "k/f").read_bytes() == b"theirs"
    assert "HEAD /fake/f" in fake.requests
    assert [line for line in m.log_lines("warn") if "ignores conditional writes" in line]
    assert [line for line in m.log_lines("warn") if kept.decode() in line]


@pytest.mark.parametrize("what", ["link", "file", "nothing", "folder"])
def test_the_way_to_an_open_file_is_another(mount, folder, what):
    """Its folder has become something else at the store: the version that is open is gone, whatever is there."""
    store = folder / "store"
    (store / "d").mkdir(parents=True)
    (store / "d/f").write_bytes(pattern(300_000))
    (store / "e").mkdir()
    (store / "e/f").write_bytes(b"another")
    m = mount({"store k": {"backend": "local", "base_path": store, "cache.ttl": "1ms"}})
    descriptor = os.open(m / "k/d/f", os.O_RDONLY | os.O_DIRECT)
    cached = os.open(m / "k/d/f", os.O_RDONLY)
    (store / "d").rename(store / "gone")
    if what == "link":
        (store / "d").symlink_to("e")
    elif what == "file":
        (store / "d").write_bytes(b"x")
    elif what == "folder":
        (store / "d/f").mkdir(parents=True)
    with fails_with(errno.ESTALE):
        os.pread(descriptor, 4096, 8192)
    with fails_with(errno.ESTALE, errno.EIO):  # the kernel asks for the attributes first
        os.pread(cached, 4096, 8192)
    assert os.fstat(cached).st_size == 300_000
    os.close(descriptor)
    os.close(cached)
