"""The three programs from the command line: help, versions, refusals, life in the background."""

import os
import signal
import subprocess
import time

import pytest

from harness.daemon import RUN_ENVIRONMENT, disasters
from harness.mount import is_mounted
from harness.tools import call, eventually

PROGRAMS = ("fs/quayfs", "loader/quayload", "ctl/quayctl")


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_and_version(build_dir, program):
    done = call(build_dir / program, "--help")
    assert done.returncode == 0 and done.stderr == ""
    assert "usage" in done.stdout.lower() and "--help" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 110
    done = call(build_dir / program, "--version")
    assert done.returncode == 0 and done.stdout.startswith(os.path.basename(program))


@pytest.mark.parametrize("program", PROGRAMS)
def test_unknown_option(build_dir, program):
    done = call(build_dir / program, "--no-such-option")
    assert done.returncode not in (0, 139) and "--no-such-option" in done.stderr


def test_missing_mount_point(build_dir, tmp_path):
    done = call(build_dir / "fs/quayfs")
    assert done.returncode != 0 and "usage" in done.stderr.lower()
    conf = tmp_path / "c.conf"
    conf.write_text("[store k]\nbackend = memory\n")
    done = call(build_dir / "fs/quayfs", "-c", conf, tmp_path / "nowhere")
    assert done.returncode != 0 and str(tmp_path / "nowhere") in done.stderr


def test_missing_configuration(build_dir, tmp_path):
    (tmp_path / "mnt").mkdir()
    done = call(build_dir / "fs/quayfs", "-c", tmp_path / "none.conf", tmp_path / "mnt")
    assert done.returncode != 0 and "none.conf" in done.stderr
    assert not is_mounted(tmp_path / "mnt")


@pytest.fixture
def place(tmp_path):
    """Folders and a configuration for runs in the background; whatever is mounted goes away."""
    (tmp_path / "mnt").mkdir()
    (tmp_path / "c.conf").write_text(
        f"[cache]\ndir = {tmp_path}/cache\n[loader]\nspool = {tmp_path}/load\n"
        f"[quayfs]\nlog_file = {tmp_path}/log\n[store k]\nbackend = local\nbase_path = {tmp_path}/data\n")
    yield tmp_path
    if is_mounted(tmp_path / "mnt"):
        subprocess.run(["fusermount3", "-u", "-z", str(tmp_path / "mnt")])
    reports = "".join(path.read_text(errors="replace") for path in tmp_path.glob("sanitizer.*"))
    assert not reports, reports


def background(build_dir, place, *arguments):
    """quayfs without -f: a sanitizer's report goes to a file, for its standard error is gone."""
    log_path = f":log_path={place}/sanitizer"
    env = {name: RUN_ENVIRONMENT[name] + log_path for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS")}
    done = call(build_dir / "fs/quayfs", *arguments, env=env)
    assert done.returncode == 0, done.stderr
    return done


def daemons_of(place) -> list[int]:
    """Processes that were started with this test's folder in their arguments."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                arguments = open(f"/proc/{name}/cmdline", "rb").read()
            except OSError:
                continue
            if b"quayfs\0" in arguments and os.fsencode(place) in arguments:
                found.append(int(name))
    return found


def test_goes_to_the_background_when_the_mount_works(build_dir, place):
    background(build_dir, place, "-c", place / "c.conf", place / "mnt")
    assert is_mounted(place / "mnt")
    (place / "mnt/k/f").write_bytes(b"x")  # at once: no waiting for it
    assert (place / "data/f").read_bytes() == b"x"
    assert len(daemons_of(place)) == 1
    subprocess.run(["fusermount3", "-u", str(place / "mnt")], check=True)
    eventually(lambda: not daemons_of(place))
    log = (place / "log").read_text() if (place / "log").exists() else ""
    assert not disasters(log), log


def test_sigterm_unmounts(build_dir, place):
    background(build_dir, place, "-c", place / "c.conf", place / "mnt")
    (pid,) = daemons_of(place)
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: not daemons_of(place))
    assert not is_mounted(place / "mnt")
    assert os.listdir(place / "mnt") == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_in_the_foreground(mount, number):
    m = mount({"store k": {"backend": "memory"}})
    (m / "k/f").write_bytes(b"x")
    m.signal(number)
    if number == signal.SIGHUP:  # reads its configuration again
        time.sleep(0.5)
        assert (m / "k/f").read_bytes() == b"x"
        m.stop()
    else:
        assert m.wait() == 0
    assert not is_mounted(m.path)


def test_unmount_ends_with_zero(mount):
    m = mount({"store k": {"backend": "memory"}})
    assert m.stop() == 0


def test_a_directory_instead_of_a_configuration(build_dir, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/f").write_text("hello")
    (tmp_path / "mnt").mkdir()
    done = call(build_dir / "fs/quayfs", tmp_path / "data", tmp_path / "mnt",
                env={"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"),
                     "XDG_STATE_HOME": str(tmp_path / "state")})
    assert done.returncode == 0, done.stderr
    try:
        keys = [name for name in os.listdir(tmp_path / "mnt") if not name.startswith(".")]
        assert keys == ["data"]
        assert (tmp_path / "mnt/data/f").read_text() == "hello"
    finally:
        subprocess.run(["fusermount3", "-u", str(tmp_path / "mnt")], check=True)
        eventually(lambda: not daemons_of(tmp_path))


def test_configuration_errors_are_told_to_who_starts_it(build_dir, place):
    (place / "c.conf").write_text("[store k]\nbackend = locl\n")
    done = call(build_dir / "fs/quayfs", "-c", place / "c.conf", place / "mnt")
    assert done.returncode != 0 and "c.conf:2" in done.stderr
    assert not is_mounted(place / "mnt") and not daemons_of(place)


def test_mount_options(mount):
    m = mount({"store k": {"backend": "memory"}}, "-o", "ro")
    with pytest.raises(OSError):
        (m / "k/f").write_bytes(b"x")


def test_as_mount_fuse_calls_it(build_dir, place):
    """mount -t fuse.quayfs CONFIG MOUNTPOINT runs: quayfs CONFIG MOUNTPOINT -o rw,nosuid,dev"""
    background(build_dir, place, place / "c.conf", place / "mnt", "-o", "rw,nosuid,nodev")
    assert os.listdir(place / "mnt/k") == []


def test_quayctl_completions_name_the_commands(build_dir):
    done = call(build_dir / "ctl/quayctl", "--help")
    for command in ("keys", "cache", "load", "export", "jobs", "wait", "status"):
        assert command in done.stdout
