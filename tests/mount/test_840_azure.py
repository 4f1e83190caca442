"""Azure Blob Storage through the mount, against Azurite."""

import errno
import os
import shutil
import subprocess
import time
import urllib.request

import pytest

from harness.data import pattern
from harness.tools import content, eventually, fails_with, sample_tree
from servers import Fault, FaultProxy, Relay
from servers.azurite import Azurite, Container

MIB = 1024 * 1024


def test_a_tree_comes_back_as_it_was(mount, container, folder):
    source = sample_tree(folder / "source")
    m = mount({"store k": container.store()})
    subprocess.run(["cp", "-a", str(source), str(m / "k/tree")], check=True)
    m.remount()
    assert content(m / "k/tree") == content(source)
    subprocess.run(["diff", "-r", "--no-dereference", str(source), str(m / "k/tree")], check=True)
    os.rename(m / "k/tree", m / "k/moved")
    assert content(m / "k/moved") == content(source)
    shutil.rmtree(m / "k/moved")
    assert os.listdir(m / "k") == [] and container.names() == []


def test_modes_times_links_and_xattrs_of_blobs(mount, container):
    container.put("theirs", b"x", owner="team a")
    m = mount({"store k": container.store()})
    path = m / "k/f"
    path.write_bytes(b"x")
    path.chmod(0o640)
    os.utime(path, ns=(1_600_000_000_123456789, 1_700_000_000_987654321))
    os.setxattr(path, "user.meta.owner", b"team b")  # an identifier: metadata of its own
    os.setxattr(path, "user.meta.not-one", b"x")     # not one: kept with the other xattrs
    os.symlink("f", m / "k/link")
    m.remount()
    assert path.stat().st_mode & 0o7777 == 0o640 and path.stat().st_mtime_ns == 1_700_000_000_987654321
    assert os.getxattr(path, "user.meta.owner") == b"team b" and os.getxattr(path, "user.meta.not-one") == b"x"
    assert container.head("f")["x-ms-meta-owner"] == "team b" and os.readlink(m / "k/link") == "f"
    assert os.getxattr(m / "k/theirs", "user.meta.owner") == b"team a"
    (m / "k/theirs").chmod(0o600)
    assert container.head("theirs")["x-ms-meta-owner"] == "team a"  # foreign metadata stays


def test_large_files_stream_in_blocks_that_nobody_sees(mount, container):
    m = mount({"store k": container.store(multipart_threshold="1MiB", multipart_chunksize="256KiB")})
    data = pattern(12 * MIB)
    with open(m / "k/big", "wb") as file:
        file.write(data[:8 * MIB])
        eventually(lambda: m.metric("quayfs_backend_written_bytes_total", key="k") > 2 * MIB,
                   what="blocks while it is written")
        assert container.names() == []
        file.write(data[8 * MIB:])
    assert container.get("big") == data
    (m / "k/big").chmod(0o600)
    m.remount()
    assert (m / "k/big").read_bytes() == data and (m / "k/big").stat().st_mode & 0o777 == 0o600


def test_a_renamed_blob_keeps_the_time_that_was_shown(mount, container):
    """A copy has a time of its own: of a blob without a stored one the rename writes down what was shown."""
    container.put("a", b"old", owner="ann")
    container.put("timed", b"old", mtime="1700000000")
    container.put("full", b"x", owner="x" * 8100)  # has no room for a time
    m = mount({"store k": container.store()})
    shown = {name: (m / "k" / name).stat().st_mtime_ns for name in ("a", "timed")}
    eventually(lambda: time.time_ns() > shown["a"] + 1_100_000_000)
    for name in ("a", "timed", "full"):
        (m / "k" / name).rename(m / "k" / (name + "2"))
    for _ in range(2):
        assert (m / "k/a2").stat().st_mtime_ns == shown["a"]
        assert (m / "k/timed2").stat().st_mtime_ns == shown["timed"] == 1_700_000_000 * 10**9
        m.remount()
    assert container.head("a2")["x-ms-meta-owner"] == "ann" and container.get("a2") == b"old"
    assert container.head("full2")["x-ms-meta-owner"] == "x" * 8100


def test_a_lost_race_of_blobs_keeps_both(mount, container):
    container.put("f", b"before")
    m = mount({"store k": container.store()})
    descriptor = os.open(m / "k/f", os.O_RDWR)
    os.pwrite(descriptor, b"ours!!", 0)
    container.put("f", b"theirs")
    with fails_with(errno.ESTALE):
        os.close(descriptor)
    assert container.get("f") == b"theirs"
    kept = [name for name in container.names() if name.startswith("f.conflict-")]
    assert len(kept) == 1 and container.get(kept[0]) == b"ours!!"


def test_a_change_of_mode_that_others_overtake(mount, container):
    """Each time between its look and its change: it looks again, without a wait, and is not told that it has failed."""
    container.put("f", b"x")
    proxy = FaultProxy(container.server.port).start()
    m = mount({"store k": container.store(endpoint_url=f"{proxy.endpoint}/{container.server.account}", retries="0")})
    change = "^PUT .*comp=metadata"
    proxy.fault = Fault(status=412, headers="x-ms-error-code: ConditionNotMet\r\n", only=change, times=12)
    (m / "k/f").chmod(0o640)
    assert proxy.count(change) == 13 and int(container.head("f")["x-ms-meta-mode"]) & 0o7777 == 0o640
    m.stop()
    proxy.stop()


def test_names_that_azure_would_change_are_refused(mount, container):
    m = mount({"store k": container.store()})
    for name in ("dot.", "back\\slash", "control\x01"):
        with fails_with(errno.EINVAL):
            (m / "k" / name).write_bytes(b"x")
    assert container.names() == []
    container.put("a//b", b"x")
    assert (m / "k/a/%2F/b").read_bytes() == b"x"


def test_a_wrong_key_says_why(mount, container):
    m = mount({"store k": container.store(account_key="d3Jvbmc=")})
    with fails_with(errno.EACCES):
        os.listdir(m / "k")
    assert "check account, key or SAS" in m.log() and "d3Jvbmc=" not in m.log()


def test_a_sas_is_enough(mount, container):
    """Made by `quayctl sign` for one blob; here it opens a whole store, read-only as it says."""
    m = mount({"store k": container.store()})
    (m / "k/a b").write_bytes(b"content")
    url = m.quayctl("sign", "k/a b").stdout.strip()
    assert url.startswith(f"{container.server.endpoint}/{container.name}/a%20b?se=")
    with urllib.request.urlopen(url, timeout=60) as reply:
        assert reply.read() == b"content"
    upload = m.quayctl("sign", "--upload", "k/new").stdout.strip()
    put = urllib.request.Request(upload, data=b"sent", method="PUT",
                                 headers={"x-ms-blob-type": "BlockBlob", "Content-Type": "text/plain"})
    urllib.request.urlopen(put, timeout=60).close()
    assert container.get("new") == b"sent"
    options = container.store(sas_token=url.partition("?")[2])
    del options["account_key"]
    guest = mount({"store k": options, "cache": {"dir": m.folder / "cache2"}}, name="guest")
    assert (guest / "k/a b").read_bytes() == b"content"
    with fails_with(errno.EACCES):
        (guest / "k/a b").write_bytes(b"x")
    assert "sig=" not in guest.log()


def test_a_connection_string(mount, container, folder):
    server = container.server
    secret = folder / "secret"
    secret.write_text(f"AccountName={server.account};AccountKey={server.key};BlobEndpoint={server.endpoint};")
    secret.chmod(0o600)
    m = mount({"store k": {"uri": f"az://{container.name}/p", "connection_string_file": secret}})
    (m / "k/f").write_bytes(b"x")
    assert container.names() == ["p/f"]


def test_a_sas_does_not_go_over_an_open_wire(mount):
    m = mount({"store k": {"backend": "azure", "container": "some", "endpoint_url": "http://192.0.2.1:80",
                           "sas_token": "sv=1&sig=s3cret"}}, start=False)
    with pytest.raises(Exception, match="not sent over http"):
        m.start()
    assert "s3cret" not in m.log()


# ---- the service goes away and comes back ----

QUICK = {"retries": "1", "retry_delay": "50ms", "timeout": "5s", "connect_timeout": "5s", "cache.ttl": "1s"}


class Restartable:
    """An Azurite that keeps its blobs, and a relay before it: to lose it is to lose every connection at once."""

    def __init__(self, folder):
        self.server = Azurite(folder, lasting=True).start()
        self.relay = Relay(self.server.port).start()
        self.container: Container | None = None

    def store(self, **more: str) -> dict[str, str]:
        there = f"http://127.0.0.1:{self.relay.port}/{self.server.account}"
        return {**self.container.store(**{**QUICK, **more}), "endpoint_url": there}

    def lose(self) -> None:
        self.relay.stop()
        self.server.stop()

    def come_back(self) -> None:
        self.server.start()
        self.relay.start()


@pytest.fixture(scope="module")
def restartable(tmp_path_factory):
    made = Restartable(tmp_path_factory.mktemp("azurite-restarted"))
    yield made
    made.relay.stop()
    made.server.stop()


@pytest.fixture
def service(restartable):
    """With a container of the test's own."""
    restartable.container = Container(restartable.server)
    yield restartable
    if not restartable.server.running():  # the test has failed in between
        restartable.come_back()


def test_what_is_staged_goes_out_after_a_restart(mount, service):
    """close() has said that it failed; the bytes are visible here, listed, and uploaded when the service is back."""
    m = mount({"store k": service.store()})
    (m / "k/before").write_bytes(b"before")
    descriptor = os.open(m / "k/f", os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, b"precious")
    service.lose()
    with fails_with(errno.EHOSTUNREACH):
        os.close(descriptor)
    assert (m / "k/f").read_bytes() == b"precious"
    assert "k/f" in m.quayctl("status").stdout
    with fails_with(errno.EHOSTUNREACH):
        (m / "k/other").read_bytes()
    service.come_back()
    eventually(lambda: "f" in service.container.names())
    assert service.container.get("f") == b"precious" and service.container.get("before") == b"before"
    eventually(lambda: not m.health()["keys"]["k"].get("outage"))
    assert sorted(os.listdir(m / "k")) == ["before", "f"]


def test_a_restart_in_the_middle_of_an_upload(mount, service):
    """Blocks are on their way, and the service may have forgotten those it had: nothing of the file is lost."""
    data = pattern(24 * MIB, seed=7)
    m = mount({"store k": service.store(write="back", multipart_threshold="1MiB", multipart_chunksize="256KiB",
                                        bandwidth="8MiB")})
    (m / "k/before").write_bytes(b"before")
    with open(m / "k/big", "wb") as file:
        file.write(data[:16 * MIB])
        eventually(lambda: m.metric("quayfs_backend_written_bytes_total", key="k") > 2 * MIB)
        service.lose()
        file.write(data[16 * MIB:])
    assert (m / "k/big").read_bytes() == data
    service.come_back()
    eventually(lambda: "big" in service.container.names())
    assert service.container.get("big") == data
    (m / "k/after").write_bytes(b"after")
    eventually(lambda: sorted(service.container.names()) == ["after", "before", "big"])


def test_reads_recover_from_a_restart(mount, service):
    data = pattern(12 * MIB, seed=8)
    service.container.put("big", data)
    service.container.put("small", b"small")
    m = mount({"store k": service.store()})
    with open(m / "k/big", "rb", buffering=0) as file:
        assert file.read(64 * 1024) == data[:64 * 1024]
        service.lose()
        with fails_with(errno.EHOSTUNREACH):
            (m / "k/small").read_bytes()
        with fails_with(errno.EHOSTUNREACH, errno.EIO):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            os.pread(file.fileno(), 64 * 1024, 11 * MIB)
        service.come_back()
        eventually(lambda: not m.health()["keys"]["k"].get("outage"))
        assert os.pread(file.fileno(), len(data), 0) == data
    assert (m / "k/small").read_bytes() == b"small"
