"""quayctl top: what the mount is doing now, as a table, as JSON and on a terminal."""

import errno
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time
import fcntl

from harness.data import pattern
from harness.tools import eventually, fails_with
from servers.proxy import Fault

MIB = 1024 * 1024


def one(m, *arguments) -> dict:
    return json.loads(m.quayctl("top", "--json", "--once", *arguments).stdout)


def has_looked_once(pid: int) -> None:
    """Until it sleeps before its second look; where the kernel does not tell, for a while."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        with open(f"/proc/{pid}/wchan") as file:
            if "nanosleep" in file.read():
                return
        time.sleep(0.02)


def while_top_looks(m, work, seconds: str = "6") -> dict:
    """The key `k` over an interval in which work() was done: top does not look again before that is over."""
    running = subprocess.Popen([str(m.build / "ctl/quayctl"), "-c", str(m.conf), "top", "--json", "--once",
                                "-d", seconds], env=m.env, stdout=subprocess.PIPE, text=True)
    has_looked_once(running.pid)
    running.send_signal(signal.SIGSTOP)
    try:
        work()
    finally:
        running.send_signal(signal.SIGCONT)
    out, _ = running.communicate(timeout=100)
    rates = json.loads(out)
    (key,) = [k for k in rates["keys"] if k["name"] == "k"]
    key["interval_s"] = rates["interval_s"]
    return key


def test_both_sides_are_counted(mount, bucket):
    bucket.put("f", pattern(4 * MIB))
    m = mount({"store k": bucket.store(), "store other": {"backend": "memory"}})

    def work():
        assert (m / "k/f").read_bytes() == pattern(4 * MIB)
        (m / "k/new").write_bytes(b"x" * 100_000)

    k = while_top_looks(m, work)
    s = k["interval_s"]
    assert abs(k["read_bytes_per_s"] * s - 4 * MIB) < 1
    assert abs(k["written_bytes_per_s"] * s - 100_000) < 1
    assert abs(k["backend_read_bytes_per_s"] * s - 4 * MIB) < 1
    assert abs(k["backend_written_bytes_per_s"] * s - 100_000) < 1
    assert k["ops"]["put"]["per_s"] * s == 1 or abs(k["ops"]["put"]["per_s"] * s - 1) < 0.01
    for op in k["ops"].values():
        assert 0 < op["p50_ms"] <= op["p99_ms"] and op["mean_ms"] > 0
    assert 0 <= k["hit_rate"] <= 1 and k["state"] == "ok"
    eventually(lambda: one(m, "-d", "0.1")["keys"][0]["cache_bytes"] >= 4 * MIB)
    idle = one(m, "-d", "0.2")
    assert idle["keys"][0]["read_bytes_per_s"] == 0 and idle["keys"][0]["ops"] == {}
    assert idle["keys"][0]["hit_rate"] is None
    assert [key["name"] for key in idle["keys"]] == ["k", "other"]
    assert 0 <= idle["memory"]["used"] <= idle["memory"]["limit"]


def test_gauges_errors_and_retries(mount, bucket, proxy):
    bucket.put("f", b"x")
    m = mount({"store k": {**bucket.store(), "endpoint_url": proxy.endpoint, "retries": "1",
                           "retry_delay": "10ms"}})
    with open(m / "k/f", "rb"):
        assert one(m, "-d", "0.1")["keys"][0]["open_files"] == 1
    eventually(lambda: one(m, "-d", "0.1")["keys"][0]["open_files"] == 0)
    proxy.fault = Fault(status=503, only="^PUT")

    def work():
        with fails_with(errno.EIO):
            (m / "k/new").write_bytes(b"kept")

    k = while_top_looks(m, work)
    assert k["errors"] >= 1 and k["retries"] >= 1
    assert k["pending_files"] == 1 and k["pending_bytes"] >= 4
    proxy.fault = None
    m.quayctl("sync")
    assert one(m, "-d", "0.1")["keys"][0]["pending_files"] == 0


def test_requests_in_flight(mount, bucket, proxy):
    bucket.put("f", pattern(MIB))
    m = mount({"store k": {**bucket.store(), "endpoint_url": proxy.endpoint}})
    os.stat(m / "k/f")
    answer = threading.Event()
    proxy.fault = Fault(until=answer, only="^GET /[^?]*/f ")
    reader = threading.Thread(target=lambda: (m / "k/f").read_bytes())
    reader.start()
    eventually(lambda: one(m, "-d", "0.1")["keys"][0]["inflight"] >= 1)
    answer.set()
    reader.join()
    eventually(lambda: one(m, "-d", "0.1")["keys"][0]["inflight"] == 0)


def test_plain_text(mount, bucket):
    bucket.put("f", b"x")
    m = mount({"store k": bucket.store(), "store a-key-with-a-rather-long-name": {"backend": "memory"}})
    text = m.quayctl("top", "-n", "2", "-d", "0.2").stdout
    lines = text.splitlines()
    assert max(map(len, lines)) <= 79 and "\033" not in text
    assert sum(line.startswith("quayfs ") for line in lines) == 2
    assert sum(line.startswith("k  ") for line in lines) == 2
    assert str(m.pid) in lines[0] and lines[1].startswith("cache ")
    once = m.quayctl("top", "-d", "0.2").stdout  # without a terminal: one table
    assert sum(line.startswith("quayfs ") for line in once.splitlines()) == 1


class Terminal:
    """quayctl on a pseudo terminal of 80 columns."""

    def __init__(self, m, *arguments):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.slave = slave
        self.settings = termios.tcgetattr(slave)
        self.process = subprocess.Popen([str(m.build / "ctl/quayctl"), "-c", str(m.conf), *arguments],
                                        env=m.env, stdin=slave, stdout=slave, stderr=slave)
        self.text = b""

    def read(self) -> bytes:
        while select.select([self.master], [], [], 0.05)[0]:
            self.text += os.read(self.master, 65536)
        return self.text

    def shows(self, words: bytes) -> None:
        eventually(lambda: words in self.read())

    def end(self) -> int:
        def ended():
            self.read()
            return self.process.poll() is not None
        eventually(ended)
        self.read()
        assert termios.tcgetattr(self.slave) == self.settings
        os.close(self.slave)
        os.close(self.master)
        return self.process.returncode


def test_on_a_terminal(mount):
    m = mount({"store k": {"backend": "memory"}})
    for way in ("q", signal.SIGINT, signal.SIGTERM):
        t = Terminal(m, "top", "-d", "0.2")
        t.shows(b"\033[?1049h")
        t.shows(b"fly wait")
        if way == "q":
            os.write(t.master, b"xq")
        else:
            t.process.send_signal(way)
        assert t.end() == 0
        assert t.text.rstrip().endswith(b"\033[?1049l") and b"\033[?25h" in t.text
        for line in re.sub(rb"\033\[[?0-9;]*[a-zA-Z]", b"", t.text).split(b"\r\n"):
            assert len(line) <= 79, line
    t = Terminal(m, "top", "-n", "2", "-d", "0.1")
    assert t.end() == 0


def test_the_daemon_ends_meanwhile(mount):
    m = mount({"store k": {"backend": "memory"}})
    t = Terminal(m, "top", "-d", "0.2")
    t.shows(b"fly wait")
    m.stop()
    assert t.end() == 2
    after = t.text.split(b"\033[?1049l")[-1]
    assert b"quayfs is not running" in after


def test_progress_on_a_terminal(mount, bucket, proxy):
    for number in range(4):
        bucket.put(f"f{number}", pattern(2 * MIB, seed=number))
    proxy.fault = Fault(delay=0.5, only="^GET /[^?]*/f")
    m = mount({"store k": {**bucket.store(), "endpoint_url": proxy.endpoint}})
    t = Terminal(m, "warm", "k:")
    assert t.end() == 0
    assert re.search(rb"\[[#-]{24}\] \d+\.\d% .* of 8.0 MiB", t.text), t.text
    assert b"4 fetched" in t.text


def test_progress_of_a_copy(mount, bucket, folder):
    """A bar that grows; when all is read, that it is being stored; at the end the summary, and no bar without a terminal."""
    (folder / "f").write_bytes(pattern(24 * MIB))
    bucket.put("f", pattern(12 * MIB))
    m = mount({"store k": bucket.store(read_bandwidth="6M", write_bandwidth="12M")})
    t = Terminal(m, "cp", "k:f", folder / "out")
    assert t.end() == 0
    shown = {float(p) for p in re.findall(rb"\[[#-]{24}\] (\d+\.\d)% [^\r]* of 12.0 MiB", t.text)}
    assert len([p for p in shown if 0 < p < 100]) >= 1, t.text
    assert b"cp: 1 copied (12.0 MiB), 0 the same already, 0 failed" in t.text
    t = Terminal(m, "cp", folder / "f", "k:g")
    assert t.end() == 0
    assert re.search(rb"100.0% 24.0 MiB of 24.0 MiB, storing, 0/1 files", t.text), t.text
    done = m.quayctl("cp", "-f", folder / "f", "k:h")
    assert "[" not in done.stdout + done.stderr
