"""A server that does what it was sent long after nobody waits for its answer: what was removed stays removed, what was written
behind it stays, and so does what others have put there."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from harness.data import pattern
from harness.tools import eventually, fails_with
from servers import Fault

HOLD = 6.0  # at least: longer than anybody waits; then until done_late()
LONG = 12.0
MIB = 1024 * 1024
PUT_F = r"^PUT /[^?]*/f "
COMPLETE = "^POST .*uploadId="


@pytest.fixture
def late(mount, bucket, proxy):
    """make(write): a mount behind the proxy, whose requests to store `f` are answered, and done, late."""
    def make(write: str, hold: float = HOLD):
        m = mount({"store k": {**bucket.store(endpoint_url=proxy.endpoint), "write": write, "cache.ttl": "1s",
                               "multipart_threshold": "6MiB", "multipart_chunksize": "5MiB"}})
        (m / "k/warm-up").write_bytes(b"the server has been tried")
        eventually(lambda: "warm-up" in bucket.keys())
        proxy.release = threading.Event()
        proxy.fault = Fault(hold=hold, until=proxy.release, only=f"{PUT_F}|{COMPLETE}", times=1)
        return m
    return make


def closing(path, size: int) -> subprocess.Popen:
    """A process in close(2)."""
    return subprocess.Popen([sys.executable, "-c", "import os, sys\nfd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)\n"
                             "os.write(fd, b'x' * int(sys.argv[2]))\nos.close(fd)", str(path), str(size)],
                            stderr=subprocess.PIPE)


def on_its_way(proxy) -> None:
    eventually(lambda: proxy.count(f"{PUT_F}|{COMPLETE}") == 1)


def done_late(proxy) -> None:
    proxy.release.set()
    eventually(lambda: proxy.held, what="the proxy has not passed on what it holds")


def content(bucket, name):
    """None: it is not there (any more)."""
    try:
        return bucket.get(name)
    except bucket.s3.exceptions.NoSuchKey:
        return None


def stays_away(m, bucket, keys=("warm-up",)) -> None:
    eventually(lambda: sorted(bucket.keys()) == sorted(keys), what=f"{bucket.keys()}")
    time.sleep(2)
    assert sorted(bucket.keys()) == sorted(keys) and ("f" in keys) == (m / "k/f").exists()


def unlink(m, proxy) -> None:
    (m / "k/f").unlink()
    assert not proxy.held, "who removes a file has waited for its upload"
    assert not (m / "k/f").exists() and "f" not in os.listdir(m / "k")


def interrupted_close(m, proxy, size: int, name: str = "k/f") -> None:
    """The file was sent, and who closed it is gone."""
    writer = closing(m / name, size)
    on_its_way(proxy)
    writer.send_signal(signal.SIGKILL)
    writer.wait(100)


@pytest.mark.parametrize("size,hold", [(1000, LONG), (7 * MIB, HOLD)], ids=["put", "multipart"])
def test_removed_while_its_upload_is_held(late, bucket, proxy, size, hold):
    m = late("back", hold)
    (m / "k/f").write_bytes(b"x" * size)
    on_its_way(proxy)
    unlink(m, proxy)
    done_late(proxy)
    stays_away(m, bucket)
    assert not bucket.uploads() and "k/f" not in m.quayctl("status").stdout


def test_removed_while_another_process_closes_it(late, bucket, proxy):
    """Who closes is told nothing wrong: a file without a name is stored nowhere."""
    m = late("through")
    writer = closing(m / "k/f", 1000)
    on_its_way(proxy)
    unlink(m, proxy)
    proxy.release.set()
    assert writer.wait(100) == 0, writer.stderr.read()
    stays_away(m, bucket)
    assert proxy.held


@pytest.mark.parametrize("how", ["unlink", "rename"])
def test_removed_after_an_interrupted_close(late, bucket, proxy, how):
    m = late("through")
    interrupted_close(m, proxy, 1000)
    if how == "unlink":
        unlink(m, proxy)
    else:
        (m / "k/f").rename(m / "k/g")
    assert not proxy.held
    done_late(proxy)
    stays_away(m, bucket, ("warm-up",) if how == "unlink" else ("warm-up", "g"))


@pytest.mark.parametrize("when", ["flying", "given-up"])
def test_another_clients_object_stays(late, bucket, proxy, when):
    """Put there after the removal, before or after the server has come to what it holds."""
    m = late("back" if when == "flying" else "through")
    if when == "flying":
        (m / "k/f").write_bytes(b"x" * 1000)
        on_its_way(proxy)
    else:
        interrupted_close(m, proxy, 1000)
    unlink(m, proxy)
    bucket.put("f", b"y" * 1000)
    done_late(proxy)
    stays_away(m, bucket, ("warm-up", "f"))
    assert bucket.get("f") == b"y" * 1000


@pytest.mark.parametrize("write", ["back", "through"])
def test_written_again_after_the_removal(late, bucket, proxy, write):
    m = late(write)
    if write == "back":
        (m / "k/f").write_bytes(b"first")
        on_its_way(proxy)
    else:
        interrupted_close(m, proxy, 5)
    unlink(m, proxy)
    proxy.release.set()  # who writes may wait for it
    (m / "k/f").write_bytes(b"second")
    assert (m / "k/f").read_bytes() == b"second"
    done_late(proxy)
    eventually(lambda: bucket.keys() == ["f", "warm-up"] and content(bucket, "f") == b"second")
    stays_away(m, bucket, ("warm-up", "f"))
    assert bucket.get("f") == b"second" and (m / "k/f").read_bytes() == b"second"


def test_changed_after_an_interrupted_close(late, bucket, proxy):
    """What was sent first comes to be there late, in the way of what was written then: no other client was it."""
    m = late("through")
    interrupted_close(m, proxy, 1000)
    proxy.fault = Fault(status=503, only=PUT_F)
    with pytest.raises(OSError):
        (m / "k/f").write_bytes(b"changed")
    done_late(proxy)
    assert bucket.get("f") == b"x" * 1000
    proxy.fault = None
    (m / "k/f").write_bytes(b"changed")
    assert bucket.get("f") == b"changed" and sorted(bucket.keys()) == ["f", "warm-up"]


@pytest.mark.parametrize("how", ["goes on", "killed"])
def test_attributes_set_after_an_interrupted_close(late, bucket, proxy, how):
    """Story: what was sent came to be there late, and was rightly taken for ours; what chmod and setxattr had been told to be done
    meanwhile was forgotten."""
    m = late("through", 0.5)
    interrupted_close(m, proxy, 1000)
    proxy.fault = Fault(status=503, only=PUT_F)
    os.chmod(m / "k/f", 0o600)
    os.setxattr(m / "k/f", "user.note", b"kept")
    if how == "killed":
        m.crash()
    done_late(proxy)
    assert int(bucket.head("f")["Metadata"]["mode"]) & 0o7777 != 0o600
    proxy.fault = None
    if how == "killed":
        m.start()
    eventually(lambda: "k/f" not in m.quayctl("status").stdout)
    assert int(bucket.head("f")["Metadata"]["mode"]) & 0o7777 == 0o600
    assert os.stat(m / "k/f").st_mode & 0o7777 == 0o600 and os.getxattr(m / "k/f", "user.note") == b"kept"
    assert bucket.get("f") == b"x" * 1000 and sorted(bucket.keys()) == ["f", "warm-up"]


def test_removed_and_killed(late, bucket, proxy):
    """The next process goes on with it."""
    m = late("back")
    (m / "k/f").write_bytes(b"x" * 1000)
    on_its_way(proxy)
    unlink(m, proxy)
    m.crash()
    assert not proxy.held
    m.start()
    done_late(proxy)
    stays_away(m, bucket)


def test_killed_and_removed(late, bucket, proxy):
    """Sent by a process that was killed, removed under the next."""
    m = late("back")
    (m / "k/f").write_bytes(b"x" * 1000)
    on_its_way(proxy)
    m.crash()
    proxy.fault.times = 0
    proxy.fault = Fault(status=503, only=PUT_F)
    m.start()
    unlink(m, proxy)
    assert not proxy.held
    done_late(proxy)
    stays_away(m, bucket)


def test_unmounted_while_it_flies(late, bucket, proxy):
    m = late("back")
    (m / "k/f").write_bytes(b"x" * 1000)
    on_its_way(proxy)
    unlink(m, proxy)
    m.stop()
    assert not proxy.held, "the unmount has waited for it"
    done_late(proxy)
    m.start()
    stays_away(m, bucket)


@pytest.mark.parametrize("write", ["through", "back"])
def test_a_renamed_directory_leaves_behind_what_was_removed_in_it(late, bucket, proxy, write):
    """Story: `rm d/f; mv d e` while the upload of d/f was on its way, or given up: what the server stored as d/f was hidden there,
    but not from the rename, which copied it to e/f: the file was back for good."""
    m = late(write)
    (m / "k/d").mkdir()
    (m / "k/d/other").write_bytes(b"other")
    eventually(lambda: "d/other" in bucket.keys())
    if write == "back":
        (m / "k/d/f").write_bytes(b"x" * 1000)
        on_its_way(proxy)
    else:
        interrupted_close(m, proxy, 1000, "k/d/f")
    (m / "k/d/f").unlink()
    proxy.fault = Fault(status=403, only="^DELETE /[^?]*/d/f ")
    done_late(proxy)
    eventually(lambda: proxy.count("^DELETE /[^?]*/d/f ") > 0)
    assert "d/f" in bucket.keys(), "it could be taken away before the rename"
    proxy.fault = None
    (m / "k/d").rename(m / "k/e")
    assert sorted(bucket.keys()) == ["e/", "e/other", "warm-up"] and os.listdir(m / "k/e") == ["other"]


@pytest.mark.parametrize("write", ["through", "back"])
def test_what_was_in_the_way_is_gone(late, bucket, proxy, write):
    """Story: the name of a new file was taken for a moment, by an upload of the same file that had been given up, came late
    and was taken away: the file went to a conflict copy beside nothing."""
    m = late(write)
    proxy.fault = Fault(status=412, body="<Error><Code>PreconditionFailed</Code></Error>", only=PUT_F, times=1)
    (m / "k/f").write_bytes(b"content")
    eventually(lambda: proxy.count(PUT_F) == 2 and sorted(bucket.keys()) == ["f", "warm-up"], what=f"{bucket.keys()}")
    assert bucket.get("f") == b"content" == (m / "k/f").read_bytes() and not m.quayctl("status").stdout.count("conflict")


def test_readers_do_not_make_a_writer_impatient(late, bucket, proxy):
    """Story: a writer waits two seconds for an upload that was sent as a whole before it is given up. It counted how often it
    was woken, which each read of the file did: with a reader, the upload was given up after 20 reads."""
    m = late("back", 1.0)
    proxy.release.set()
    (m / "k/f").write_bytes(b"x" * 1000)
    on_its_way(proxy)
    reader, writer, written = os.open(m / "k/f", os.O_RDONLY | os.O_DIRECT), os.open(m / "k/f", os.O_WRONLY), threading.Event()

    def read():
        while not written.is_set():
            os.pread(reader, 1000, 0)

    reading = threading.Thread(target=read)
    reading.start()
    os.pwrite(writer, b"y", 0)
    in_time = bool(proxy.held)
    written.set()
    reading.join(60)
    os.close(reader)
    os.close(writer)
    assert in_time, "the upload was given up"
    eventually(lambda: content(bucket, "f") == b"y" + b"x" * 999)


@pytest.mark.parametrize("ends", ["write", "shorter", "longer"])
def test_edits_behind_one_that_nobody_knows_the_end_of(mount, bucket, proxy, ends):
    """It was stored, the answer is lost, and so is that to the question what is there. The file is changed again before anybody
    knows: it was taken for another client's, and what had never been fetched was zeros in the conflict copy."""
    old = pattern(14 * MIB, seed=3)
    bucket.put("f", old)
    m = mount({"store k": {**bucket.store(endpoint_url=proxy.endpoint), "cache.ttl": "1s", "retries": "0", "retry_delay": "50ms",
                           "multipart_threshold": "6MiB", "multipart_chunksize": "5MiB"}})
    (m / "k/warm-up").write_bytes(b"the server has been tried")
    new = bytearray(old)
    with open(m / "k/f", "r+b", buffering=0) as file:
        os.pwrite(file.fileno(), b"first", 1000)
        proxy.fault = Fault(reset_after=0, only=COMPLETE, times=1, then=Fault(reset_after=0, only="^HEAD /[^?]*/f "))
        with fails_with(errno.EIO):
            os.fsync(file.fileno())
        new[1000:1005] = b"first"
        assert bucket.get("f") == new, "the server has done it"
        os.pwrite(file.fileno(), b"second", 9 * MIB)
        new[9 * MIB:9 * MIB + 6] = b"second"
        if ends != "write":
            size = len(old) - MIB if ends == "shorter" else len(old) + MIB
            os.ftruncate(file.fileno(), size)
            new = (new + bytes(MIB))[:size]
        proxy.fault = None
        os.fsync(file.fileno())
    assert bucket.get("f") == new and (m / "k/f").read_bytes() == new
    assert sorted(bucket.keys()) == ["f", "warm-up"]
