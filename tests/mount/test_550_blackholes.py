"""Stores that nothing comes back from, beside stores that work: nobody waits for the others."""

import errno
import json
import os
import subprocess
import sys
import threading

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
    return {"backend": name, "retries": "0", "timeout": answer, **({} if name in ("http", "api") else connecting), **own}


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
    """Work goes on beside eight stores that are waited for; their callers are told, each by its own timeout."""
    kind, made = holes
    dead = {f"store {name}": section(name, hole.port, folder, "8s", "12s") for name, hole in made.items()}
    m = mount({**live_sections(bucket, folder), **dead, "cache": {"ttl": "1s"}})
    work(m, 0)
    calls = Calls(m, CLASSES)
    eventually(lambda: all(hole.met() for hole in made.values()), what="nobody has asked")
    turns = 0
    while len(calls.pending()) == len(CLASSES) and turns < 20:
        turns += 1
        work(m, turns)
    assert turns >= 5, "the work has waited for a dead store"
    assert "memory" in m.quayctl("status").stdout
    eventually(lambda: not calls.pending(), what=f"{calls.pending()} still wait")
    assert calls.told == (SILENT if kind == "silent" else DEAF)
    keys = m.health()["keys"]
    assert all(keys[name]["state"] in ("down", "failing") for name in CLASSES), keys
    assert all(keys[name]["state"] == "ok" for name in ("memory", "local", "minio"))
    work(m, turns + 1)
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
