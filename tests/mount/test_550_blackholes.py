"""Stores that nothing comes back from, beside stores that work: nobody waits for the others."""

import errno
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harness.tools import eventually
from servers import Fault
from servers.blackhole import Blackhole
from servers.sshd import generate_key

CLASSES = ("s3", "gcs", "azure", "http", "api", "sftp", "postgres", "mysql")
# What has taken the connection and says nothing has not answered in time. To a database there is no connection before
# it has said who it is.
SILENT = {name: errno.ETIMEDOUT for name in ("s3", "gcs", "azure", "http", "api", "sftp")}
SILENT |= {name: errno.EHOSTUNREACH for name in ("postgres", "mysql")}
DEAF = {name: errno.EHOSTUNREACH for name in CLASSES}


def section(name: str, port: int, folder, connect: str, answer: str) -> dict[str, str]:
    url = f"http://127.0.0.1:{port}"
    own = {
        "s3": {"bucket": "buck", "endpoint_url": url, "access_key_id": "a", "secret_access_key": "s"},
        "gcs": {"bucket": "bucket", "endpoint_url": url, "anonymous": "yes"},
        "azure": {"container": "cont", "endpoint_url": f"{url}/acc", "account": "acc", "account_key": "a2V5"},
        "http": {"url": f"{url}/files/"},
        "api": {"endpoint": f"{url}/v1"},
        "sftp": {"endpoints": f"127.0.0.1:{port}", "user": "u", "base_path": "/srv", "agent": "no",
                 "key_file": folder / "key", "known_hosts": folder / "known"},
        "postgres": {"host": "127.0.0.1", "port": port, "dbname": "d", "user": "u", "password": "p", "sslmode": "disable"},
        "mysql": {"host": "127.0.0.1", "port": port, "dbname": "d", "user": "u", "password": "p", "tls": "no"},
    }[name]
    connecting = {"connection_timeout" if name == "sftp" else "connect_timeout": connect}
    return {"backend": name, "retries": "0", "timeout": answer, **connecting, **own}


@pytest.fixture(params=["silent", "deaf"])
def holes(request, folder):
    """(kind, {class: hole})"""
    generate_key(folder / "key")
    (folder / "known").write_text("")
    made = {name: Blackhole(request.param).start() for name in CLASSES}
    yield request.param, made
    for hole in made.values():
        hole.stop()


class Calls:
    """A call into each dead store, each in a thread of its own."""

    def __init__(self, m, names):
        self.told: dict[str, int] = {}
        self.threads = {name: threading.Thread(target=self._list, args=(m, name), daemon=True) for name in names}
        for thread in self.threads.values():
            thread.start()

    def _list(self, m, name: str) -> None:
        try:
            os.listdir(m / name / "d")
            self.told[name] = 0
        except OSError as error:
            self.told[name] = error.errno

    def pending(self) -> list[str]:
        return [name for name, thread in self.threads.items() if thread.is_alive()]


def live_sections(bucket, folder) -> dict[str, dict]:
    return {"store memory": {"backend": "memory"}, "store local": {"backend": "local", "base_path": folder / "here"},
            "store minio": bucket.store()}


def work(m, turn: int) -> None:
    """Whole operations on every store that lives, and on what belongs to all of them."""
    for name in ("memory", "local", "minio"):
        path = m / name / f"f{turn}"
        path.write_bytes(b"%d" % turn)
        assert path.read_bytes() == b"%d" % turn and path.stat().st_size == len(b"%d" % turn)
        assert f"f{turn}" in os.listdir(m / name)
    for name in os.listdir(m.path):
        os.stat(m / name)
    assert os.statvfs(m.path).f_bsize
    assert set(json.loads((m / ".quay/health.json").read_text())["keys"]) >= set(CLASSES)


def test_a_dead_store_holds_up_nobody(mount, bucket, folder, holes):
    """Work goes on beside eight stores that are waited for, for longer than a test may take."""
    _, made = holes
    dead = {f"store {name}": section(name, hole.port, folder, "500s", "500s") for name, hole in made.items()}
    m = mount({**live_sections(bucket, folder), **dead, "cache": {"ttl": "1s"}})
    work(m, 0)
    calls = Calls(m, CLASSES)
    eventually(lambda: all(hole.met() for hole in made.values()), what="nobody has asked")
    for turn in range(1, 11):
        work(m, turn)
    assert "memory" in m.quayctl("status").stdout
    assert sorted(calls.pending()) == sorted(CLASSES)
    assert m.terminate() == 0
    eventually(lambda: not calls.pending(), what=f"{calls.pending()} still wait")


def test_each_caller_is_told(mount, bucket, folder, holes):
    """By the timeout of its store."""
    kind, made = holes
    dead = {f"store {name}": section(name, hole.port, folder, "2s", "3s") for name, hole in made.items()}
    m = mount({**live_sections(bucket, folder), **dead, "cache": {"ttl": "1s"}})
    calls = Calls(m, CLASSES)
    eventually(lambda: not calls.pending(), what=f"{calls.pending()} still wait")
    assert calls.told == (SILENT if kind == "silent" else DEAF)
    keys = m.health()["keys"]
    assert all(keys[name]["state"] in ("down", "failing") for name in CLASSES), keys
    assert all(keys[name]["state"] == "ok" for name in ("memory", "local", "minio"))
    work(m, 1)
    m.stop()


def test_the_end_of_the_daemon(mount, bucket, folder, holes):
    """Calls are under way that nobody will answer: the daemon ends, and what was written is stored."""
    _, made = holes
    dead = {f"store {name}": section(name, hole.port, folder, "8s", "12s") for name, hole in made.items()}
    m = mount({**live_sections(bucket, folder), **dead})
    calls = Calls(m, CLASSES)
    eventually(lambda: all(hole.met() for hole in made.values()), what="nobody has asked")
    (m / "minio/f").write_bytes(b"written")
    assert m.terminate() == 0
    eventually(lambda: not calls.pending(), what=f"{calls.pending()} still wait")
    assert 0 not in calls.told.values()
    assert bucket.get("f") == b"written"


def test_nobody_waits_at_the_end(mount, bucket, folder, holes):
    """Nothing is staged, and who only asks is told at once: the timeouts of the stores are longer than a test may take."""
    _, made = holes
    dead = {f"store {name}": section(name, hole.port, folder, "500s", "500s") for name, hole in made.items()}
    m = mount({"store minio": bucket.store(), **dead})
    calls = Calls(m, CLASSES)
    eventually(lambda: all(hole.met() for hole in made.values()), what="nobody has asked")
    assert m.terminate() == 0
    eventually(lambda: not calls.pending(), what=f"{calls.pending()} still wait")
    assert 0 not in calls.told.values()


ASKING = {
    "read": "os.pread(int(sys.argv[2]), 100, 10_000_000)",
    "list": "os.listdir(sys.argv[1] + '/d')",
    "stat": "os.stat(sys.argv[1] + '/unknown')",
    "create": "os.open(sys.argv[1] + '/made', os.O_CREAT | os.O_EXCL | os.O_WRONLY)",
}


@pytest.mark.parametrize("end", ["sigterm", "unmount"])
def test_a_store_that_dies_keeps_no_daemon(mount, bucket, proxy, end):
    """Requests are under way when the store goes silent; the file that was written before is there."""
    bucket.put("big", bytes(20_000_000))
    bucket.put("d/x", b"x")
    m = mount({"store k": {**bucket.store(endpoint_url=proxy.endpoint), "timeout": "500s", "cache.ttl": "10ms"}})
    (m / "k/f").write_bytes(b"written")
    with open(m / "k/big", "rb") as big:
        proxy.fault = Fault(stall=True)
        asking = [subprocess.Popen([sys.executable, "-c", f"import os, sys\n{text}", m / "k", str(big.fileno())],
                                   pass_fds=[big.fileno()], stderr=subprocess.PIPE) for text in ASKING.values()]
        eventually(lambda: proxy.count("^GET .*/big") and proxy.count("^(HEAD|GET) .*(unknown|made|prefix=)"))
    if end == "sigterm":
        assert m.terminate() == 0
    else:
        subprocess.run(["fusermount3", "-u", "-z", str(m.path)], check=True)
        for process in asking:  # a lazy unmount ends with the last who is in it
            process.kill()
        assert m.wait() == 0
    for process in asking:
        assert process.wait(100) != 0
    proxy.fault = None
    proxy.reset_all()
    assert bucket.get("f") == b"written"


# Changes that wait for their store, each in a directory of its own (the kernel lets one at a time change one), and the
# request that they wait for.
CHANGING = {
    "mkdir": ("os.mkdir(top + '/made')", "PUT .*mkdir/made/"),
    "rename": ("os.rename(top + '/old', top + '/new')", "PUT .*rename/new"),
    "rename-dir": ("os.rename(top + '/d', top + '/e')", "(PUT|POST) .*rename-dir/e/"),
    "unlink": ("os.unlink(top + '/old')", "DELETE .*unlink/old"),
    "chmod": ("os.chmod(top + '/old', 0o600)", "PUT .*chmod/old"),
    "symlink": ("os.symlink('x', top + '/new')", "PUT .*symlink/new"),
    "close": ("f = open(top + '/new', 'wb'); f.write(b'closed'); f.close()", "PUT .*close/new"),
    "fsync": ("f = open(top + '/new', 'wb'); f.write(b'synced'); f.flush(); os.fsync(f.fileno())", "PUT .*fsync/new"),
    "large": ("f = open(top + '/new', 'wb'); f.write(bytes(30_000_000)); f.close()", "PUT .*large/new"),
}


@pytest.mark.parametrize("end", ["sigterm", "unmount"])
def test_a_silent_store_is_given_up(mount, bucket, proxy, end):
    """Nothing that is changed is waited for longer than unmount_wait; what was written is stored by the next mount."""
    before = {f"{case}/{name}": f"{case} {name}".encode() for case in CHANGING for name in ("old", "d/1", "d/2")}
    for name, data in before.items():
        bucket.put(name, data)
    m = mount({"quayfs": {"unmount_wait": "2s"},
               "store k": {**bucket.store(endpoint_url=proxy.endpoint), "timeout": "500s", "retries": "0"}})
    (m / "k/warm-up").write_bytes(b"x")
    proxy.fault = Fault(stall=True, only="^(PUT|POST|DELETE) ")
    cases = dict(CHANGING)
    if end == "unmount":  # an interrupted rename of a directory waits for the copies that are under way
        del cases["rename-dir"]
    changing = [subprocess.Popen([sys.executable, "-c", f"import os, sys\ntop = sys.argv[1]\n{text}", m / "k" / case],
                                 stderr=subprocess.PIPE) for case, (text, _) in cases.items()]
    eventually(lambda: all(proxy.count(asked) for _, asked in cases.values()), 50, "not all have asked")
    if end == "sigterm":
        assert m.terminate() == 3
    else:
        subprocess.run(["fusermount3", "-u", "-z", str(m.path)], check=True)
        for process in changing:
            process.kill()
        assert m.wait() == 3
    assert all(process.wait(100) != 0 for process in changing)
    assert end == "unmount" or "k: the store has answered nothing for 2 s" in m.log()
    assert "k: 3 files are not stored yet" in m.log()
    proxy.fault = None
    proxy.reset_all()
    m.start()
    written = {"close/new": b"closed", "fsync/new": b"synced", "large/new": bytes(30_000_000)}
    eventually(lambda: written.keys() <= set(bucket.keys()), 60)
    eventually(lambda: not json.loads(m.quayctl("status", "--json").stdout)["renames"], 60)
    assert {key: bucket.get(key) for key in written} == written
    assert {bucket.get(key) for key in bucket.keys()} >= set(before.values())
    assert [key for key in bucket.keys() if key.startswith("rename-dir/e/")] == []
    m.stop()


@pytest.mark.parametrize("size", [15_000_000, 30_000_000])
def test_a_slow_upload_is_not_silence(mount, bucket, proxy, size):
    """Story: a request that took longer than unmount_wait on a slow line was given up at the end of the mount, although its
    bytes moved: nothing was counted but requests that had come to their end."""
    m = mount({"quayfs": {"unmount_wait": "3s"},
               "store k": {**bucket.store(endpoint_url=proxy.endpoint), "timeout": "500s", "retries": "0"}})
    (m / "k/warm-up").write_bytes(b"x")
    proxy.fault = Fault(pace=2_000_000, only="^PUT ")
    writing = subprocess.Popen([sys.executable, "-c", f"f = open({str(m / 'k/f')!r}, 'wb'); f.write(bytes({size})); f.close()"])
    eventually(lambda: proxy.count("^PUT .*/f") and proxy.sent > 100_000)
    assert m.terminate() == 0
    assert writing.wait(100) == 0
    assert bucket.get("f") == bytes(size)


def threads(pid: int) -> list[str]:
    return [task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/comm")]


@pytest.mark.parametrize("command", [("cp", "k:big", "other:big"), ("cp", "k:big", "k:copy"), ("sync",)], ids=["cp", "cp-within", "sync"])
def test_a_command_does_not_keep_the_daemon(mount, bucket, make_bucket, minio, proxy, command):
    """Story: SIGTERM waited for a control command for ever when its store had fallen silent: unmount_wait was for the
    mount's requests alone."""
    bucket.put("big", bytes(8_000_000))
    far = {"timeout": "500s", "retries": "0", "write": "back"}
    other = make_bucket(minio)
    m = mount({"quayfs": {"unmount_wait": "2s"}, "store k": {**bucket.store(endpoint_url=proxy.endpoint), **far},
               "store other": {**other.store(endpoint_url=proxy.endpoint), **far}, "store idle": {"backend": "memory"}})
    assert (m / "k/big").stat().st_size == 8_000_000 and os.listdir(m / "other") == []
    proxy.fault = Fault(stall=True, only="^(PUT|POST) ")
    if command == ("sync",):
        (m / "k/new").write_bytes(b"staged")
    asking = subprocess.Popen([str(m.build / "ctl/quayctl"), "-c", str(m.conf), *command], env=m.env, stderr=subprocess.PIPE)
    eventually(lambda: proxy.count("^(PUT|POST) ") and "rpc-conn\n" in threads(m.process.pid))
    began = time.monotonic()
    assert m.terminate() == (3 if command == ("sync",) else 0)
    assert time.monotonic() - began < 30
    assert asking.wait(100) != 0
    assert "the store has answered nothing for 2 s" in m.log() and "idle: the store has" not in m.log()
    proxy.fault = None
    proxy.reset_all()
    m.start()
    if command == ("sync",):
        eventually(lambda: "new" in bucket.keys())
        assert bucket.get("new") == b"staged"
    assert bucket.get("big") == bytes(8_000_000)
