"""A store that never answers: every operation can be interrupted, nobody else has to wait."""

import os
import signal
import subprocess
import sys
import time

import pytest

from harness.data import pattern
from harness.tools import eventually
from servers import Fault

MIB = 1024 * 1024
SLOW = {"retries": "3", "timeout": "300s", "cache.ttl": "10ms"}


@pytest.fixture
def stuck(mount, bucket, proxy, folder):
    """Key `k` behind the proxy, key `other` beside it. Nothing is stuck yet."""
    bucket.put("f", pattern(8 * MIB))
    bucket.put("d/x", b"x")
    bucket.put("d/y", b"y")
    (folder / "other").mkdir()
    (folder / "other/fine").write_bytes(pattern(3 * MIB, seed=3))
    m = mount({"store k": {**bucket.store(endpoint_url=proxy.endpoint), **SLOW},
               "store other": {"backend": "local", "base_path": folder / "other"}})
    assert sorted(os.listdir(m / "k")) == ["d", "f"]
    time.sleep(0.05)  # the ttl
    yield m
    proxy.fault = None
    proxy.reset_all()


def stall(proxy, only: str = "") -> None:
    proxy.fault = Fault(stall=True, only=only)


def start(*arguments: object, process_group: int | None = None) -> subprocess.Popen:
    return subprocess.Popen([str(a) for a in arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            process_group=process_group)


def python(text: str, *arguments: object) -> subprocess.Popen:
    """With Python's own SIGINT: the signal is handled, the call must come back with EINTR."""
    return start(sys.executable, "-c", f"import os, sys\n{text}", *arguments)


def waits_in_the_daemon(process: subprocess.Popen, proxy, before: int) -> bool:
    """Its request has reached the server, which says nothing."""
    assert process.poll() is None, process.stdout.read()
    return len(proxy.requests) > before


def ends(process: subprocess.Popen, number: int = signal.SIGINT) -> None:
    """By the signal: the store's own timeout is far longer than what is waited for here, and it never answers."""
    process.send_signal(number)
    try:
        process.wait(100)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"{process.args} hangs: {open(f'/proc/{process.pid}/wchan').read()}")


COMMANDS = {
    "ls": lambda m: start("ls", m / "k/d"),
    "ls-l": lambda m: start("ls", "-l", m / "k"),
    "stat": lambda m: start("stat", m / "k/unknown"),
    "cat": lambda m: start("cat", m / "k/f"),
    "cp-out": lambda m: start("cp", m / "k/f", m.folder / "copy"),
    "cp-in": lambda m: start("cp", "/etc/passwd", m / "k/copy"),
    "cp-within": lambda m: start("cp", m / "k/f", m / "k/copy"),  # by the store
    "cp-by-reading": lambda m: start("cp", "--sparse=always", m / "k/f", m / "k/copy"),
    "dd-direct": lambda m: start("dd", f"if={m / 'k/f'}", "iflag=direct", "of=/dev/null", "bs=64k"),
    "mkdir": lambda m: start("mkdir", m / "k/new"),
    "rm": lambda m: start("rm", "-f", m / "k/f"),
    "rmdir": lambda m: start("rmdir", m / "k/d"),
    "mv": lambda m: start("mv", m / "k/f", m / "k/g"),
    "chmod": lambda m: start("chmod", "600", m / "k/f"),
    "touch": lambda m: start("touch", m / "k/f"),
    "truncate": lambda m: start("truncate", "-s", "5", m / "k/f"),
    "ln": lambda m: start("ln", "-s", "f", m / "k/link"),
    "find": lambda m: start("find", m / "k", "-name", "x"),
    "python-stat": lambda m: python("os.stat(sys.argv[1])", m / "k/unknown"),
    "python-list": lambda m: python("os.listdir(sys.argv[1])", m / "k/d"),
}


CASES = [(name, signal.SIGINT) for name in COMMANDS] + [
    (name, signal.SIGKILL) for name in ("ls", "stat", "cat", "cp-in", "python-stat")]


@pytest.mark.parametrize("name,number", CASES, ids=lambda value: getattr(value, "name", value))
def test_a_stuck_program_ends(stuck, proxy, name, number):
    before = len(proxy.requests)
    stall(proxy)
    process = COMMANDS[name](stuck)
    eventually(lambda: waits_in_the_daemon(process, proxy, before))
    assert (stuck / "other/fine").read_bytes() == pattern(3 * MIB, seed=3)
    ends(process, number)


@pytest.mark.parametrize("name", ["cat", "cp-out", "dd-direct", "cp-by-reading"])
def test_a_stuck_read_ends(stuck, proxy, name):
    """Names are answered, bytes are not."""
    stall(proxy, "^GET /[^?]+/f")
    before = proxy.count("^GET /[^?]+/f")
    process = COMMANDS[name](stuck)
    eventually(lambda: proxy.count("^GET /[^?]+/f") > before)
    ends(process)


def test_a_direct_read_gives_up_its_fetch(stuck, proxy):
    """Nobody else needs it: the connection is closed, the handle goes away."""
    stall(proxy, "^GET /[^?]+/f")
    process = COMMANDS["dd-direct"](stuck)
    eventually(lambda: proxy.count("^GET /[^?]+/f") > 0)
    eventually(lambda: stuck.metric("quayfs_backend_inflight", key="k") > 0)
    ends(process)
    eventually(lambda: stuck.metric("quayfs_backend_inflight", key="k") == 0)


@pytest.mark.parametrize("action", ["close", "fsync"])
def test_an_interrupted_commit_loses_nothing(stuck, bucket, proxy, action):
    stall(proxy, "^PUT")
    text = ("fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)\n"
            "os.write(fd, b'precious')\n" + ("os.fsync(fd)" if action == "fsync" else "os.close(fd)"))
    process = python(text, stuck / "k/new")
    eventually(lambda: proxy.count("^PUT") > 0)
    ends(process)
    assert (stuck / "k/new").read_bytes() == b"precious"
    assert "k/new" in stuck.quayctl("status").stdout
    proxy.fault = None
    proxy.reset_all()
    eventually(lambda: "new" in bucket.keys())
    assert bucket.get("new") == b"precious"


def test_many_stuck_programs_end_and_disturb_nobody(stuck, proxy):
    """More of them than the key has workers: those that wait for one end as well."""
    stall(proxy)
    before = len(proxy.requests)
    crowd = [start("stat", stuck / f"k/unknown-{number}") for number in range(60)]
    # All that the key has workers for, in one directory: the kernel does not queue them one by one.
    eventually(lambda: len(proxy.requests) - before >= 20)
    assert (stuck / "other/fine").read_bytes() == pattern(3 * MIB, seed=3)
    for process in reversed(crowd):
        process.send_signal(signal.SIGINT)
    for process in crowd:
        process.wait(100)  # the store's own timeout is 300 s
    proxy.fault = None
    assert sorted(os.listdir(stuck / "k")) == ["d", "f"]


def test_stuck_readers_leave_the_kernel_room_for_others(stuck, bucket, proxy):
    """Reads of a store that does not answer fill no queue that the other keys need."""
    for number in range(150):
        bucket.put(f"many/{number}", b"z" * 300_000)
    os.listdir(stuck / "k/many")
    stall(proxy, "^GET /[^?]+/many/")
    crowd = [start("cat", stuck / f"k/many/{number}") for number in range(150)]
    try:
        eventually(lambda: proxy.count("^HEAD .*many/") + proxy.count("^GET /[^?]+/many/") >= 100)
        time.sleep(1)
        done = start("cat", stuck / "other/fine")
        out, _ = done.communicate(timeout=100)
        assert out == pattern(3 * MIB, seed=3)
    finally:
        for process in crowd:
            process.kill()
        for process in crowd:
            process.wait(100)


TICKING = """
import ctypes, signal
libc = ctypes.CDLL(None, use_errno=True)
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
for n in range(6):
    for call in (lambda p: libc.mkdir(p, 0o755), lambda p: libc.rmdir(p)):
        if call(f"{sys.argv[1]}/new{n}".encode()) != 0:
            sys.exit(os.strerror(ctypes.get_errno()))
signal.setitimer(signal.ITIMER_REAL, 0)  # Python takes its handlers away before it ends: one more tick would kill it
"""


def test_a_progress_bar_interrupts_nothing(stuck, proxy):
    """git's SIGALRM, Go's SIGURG: handled signals of a program that wants its mkdir to go on."""
    proxy.fault = Fault(delay=0.03)
    process = python(TICKING, stuck / "k")
    out = process.communicate(timeout=100)[0]
    assert process.returncode == 0, out


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGTSTP])
def test_a_program_that_is_stopped_goes_on_later(stuck, proxy, number):
    """Ctrl-Z while a call waits: the program stops when it has its answer, and finds nothing wrong later."""
    before = len(proxy.requests)
    proxy.fault = Fault(delay=0.3)
    process = start("mkdir", stuck / "k/new", process_group=0)  # SIGTSTP does nothing where no shell is left to go on
    eventually(lambda: waits_in_the_daemon(process, proxy, before))
    process.send_signal(number)
    eventually(lambda: open(f"/proc/{process.pid}/stat").read().rsplit(")", 1)[1].split()[0] == "T")
    process.send_signal(signal.SIGCONT)
    out = process.communicate(timeout=100)[0]
    assert process.returncode == 0, out
    assert (stuck / "k/new").is_dir()


WAITING = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
sys.exit(os.strerror(ctypes.get_errno()) if libc.mkdir(sys.argv[1].encode(), 0o755) else 0)
"""
STOPPING = """
import ctypes, time
libc = ctypes.CDLL(None, use_errno=True)
SEIZE, INTERRUPT = 0x4206, 0x4207
for request in (SEIZE, INTERRUPT):
    if libc.ptrace(ctypes.c_long(request), ctypes.c_long(int(sys.argv[1])), None, None):
        sys.exit(os.strerror(ctypes.get_errno()))
time.sleep(1)  # its end lets go
"""


def test_attention_without_a_signal_interrupts_nothing(stuck, proxy):
    """A debugger that stops a thread, a completion of io_uring: the kernel tells of an interrupt, and there is no signal."""
    proxy.fault = Fault(delay=1.5)
    before = len(proxy.requests)
    process = python(WAITING, stuck / "k/new")
    eventually(lambda: waits_in_the_daemon(process, proxy, before))
    tracer = python(STOPPING, str(process.pid))
    assert tracer.wait(100) == 0, tracer.stdout.read()
    out = process.communicate(timeout=100)[0]
    assert process.returncode == 0, out
    proxy.fault = None
    for number in range(10):  # libfuse keeps an interrupt that came behind its request until there is another request
        assert not (stuck / f"k/none{number}").exists()
