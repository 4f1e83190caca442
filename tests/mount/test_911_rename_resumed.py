"""Renames of directories that go on after a restart, while somebody uses both trees."""

import errno
import os

import pytest

from harness.data import pattern
from harness.tools import eventually, fails_with
from servers import Fault

from .test_910_rename_journal import copied, goes_on, in_it, rename_in_thread, settled, stands, start_rename


@pytest.fixture
def opened(mount):
    """open(2); all are closed before the mount ends."""
    fds: list[int] = []

    def make(path, flags: int) -> int:
        fds.append(os.open(path, flags))
        return fds[-1]

    yield make
    for fd in fds:
        os.close(fd)


def killed_before_the_removals(mount, bucket, proxy, files: dict[str, bytes]):
    """A mount that goes on with the rename of old to new, whose copies are there, when proxy.fault is taken away."""
    for key, data in files.items():
        bucket.put(key, data)
    m = mount({"store k": {**stands(bucket, "op=remove_many"), "endpoint_url": proxy.endpoint, "retries": "0"}})
    thread = start_rename(m)
    eventually(lambda: copied(bucket) == len(files))
    m.crash()
    thread.join()
    proxy.fault = Fault(status=403, only="^GET [^ ]*list-type=2&max-keys=1000&.*prefix=old%2F ")
    goes_on(m)
    eventually(lambda: "the interrupted rename of old to new waits" in m.log())
    return m


def test_what_is_open_at_the_new_names_goes_on(mount, bucket, proxy, opened):
    """Story: while it waited to go on, both names of a file were opened. Then whoever had the new one got ESTALE."""
    files = {f"old/{name}": pattern(1_500_000, seed=n) for n, name in enumerate("rwus")}
    m = killed_before_the_removals(mount, bucket, proxy, files)
    old = {name: opened(m / "k/old" / name, os.O_RDWR if name == "s" else os.O_RDONLY) for name in "rwus"}
    new = {name: opened(m / "k/new" / name, os.O_RDONLY if name == "r" else os.O_RDWR) for name in "rwus"}
    assert all(os.read(fd, 1) for fd in (*old.values(), *new.values()))
    os.pwrite(new["u"], b"unsaved", 0)
    proxy.fault = None
    eventually(lambda: settled(m, bucket))
    assert os.pread(new["r"], 2_000_000, 0) == files["old/r"]
    eventually(lambda: not (m / "k/old/r").exists())
    (m / "k/old/r").write_bytes(b"another")
    assert (m / "k/old/r").read_bytes() == b"another" and (m / "k/new/r").stat().st_size == 1_500_000
    for name in "rw":  # who has only read goes on, too
        assert os.pread(old[name], 2_000_000, 0) == files[f"old/{name}"]
    with fails_with(errno.ESTALE):
        os.pwrite(old["s"], b"nowhere", 0)
    for name in "ws":
        os.pwrite(new[name], b"written", 0)
        os.fsync(new[name])
    changed = {**{f"new/{name}": b"written" + files[f"old/{name}"][7:] for name in "ws"}, "new/r": files["old/r"],
               "new/u": b"unsaved" + files["old/u"][7:], "old/u": files["old/u"], "old/r": b"another"}
    assert in_it(bucket) == changed  # what differs from its source is no copy of it: that stays, and is told
    assert "old/u stays" in m.log()


def test_what_is_open_at_an_old_name_only_goes_on(mount, bucket, proxy, opened):
    """The file is elsewhere afterwards, and what is made anew at the old name is another: neither shows bytes of the other."""
    files = {f"old/{name}": pattern(1_500_000, seed=n) for n, name in enumerate("ab")}
    m = killed_before_the_removals(mount, bucket, proxy, files)
    old = {name: opened(m / "k/old" / name, os.O_RDONLY) for name in "ab"}
    assert os.pread(old["a"], 4096, 0) == files["old/a"][:4096]
    proxy.fault = None
    eventually(lambda: settled(m, bucket))
    eventually(lambda: not (m / "k/old/a").exists() and not (m / "k/old").exists())
    (m / "k/old").mkdir()
    for name in "ab":
        (m / "k/old" / name).write_bytes(pattern(1_400_000, seed=9))
    for name in "ab":
        assert os.pread(old[name], 2_000_000, 0) == files[f"old/{name}"]
        assert (m / "k/old" / name).read_bytes() == pattern(1_400_000, seed=9)
        assert os.pread(old[name], 2_000_000, 0) == files[f"old/{name}"]
        assert (m / "k/new" / name).read_bytes() == files[f"old/{name}"]


def test_what_is_open_at_the_old_name_of_one_file_goes_on(mount, bucket, proxy, opened):
    """The same where one file was being renamed."""
    data, other = pattern(1_500_000), pattern(1_400_000, seed=9)
    bucket.put("d/old", data)
    m = mount({"store k": {**stands(bucket, "op=remove"), "endpoint_url": proxy.endpoint, "retries": "0",
                           "cache.ttl": "1h"}})
    thread = rename_in_thread(m, "d/old", "d/new")
    eventually(lambda: "d/new" in bucket.names())
    m.crash()
    thread.join()
    proxy.fault = Fault(status=403, only="^(HEAD|GET) [^ ]*d/new")
    goes_on(m)
    old = opened(m / "k/d/old", os.O_RDONLY)
    assert os.pread(old, 4096, 0) == data[:4096]
    proxy.fault = None
    eventually(lambda: "d/old" not in bucket.names())
    (m / "k/d/old").write_bytes(other)
    assert (m / "k/d/old").read_bytes() == other and (m / "k/d/new").read_bytes() == data
    assert os.pread(old, 2_000_000, 0) == data
