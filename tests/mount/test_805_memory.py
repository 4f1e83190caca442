"""backend = memory with persist: what close() has told is there after the end of the daemon, whatever the end."""

import errno
import os
import sqlite3
import subprocess

import pytest

from harness.tools import eventually, fails_with


@pytest.fixture
def kept(folder):
    return folder / "kept.sqlite"


@pytest.fixture
def section(kept):
    return {"store k": {"backend": "memory", "persist": kept}}


def rows(path) -> dict[str, bytes | None]:
    """What another program sees, without quayfs: the daemon has ended."""
    with sqlite3.connect(path) as database:
        return dict(database.execute("SELECT key, content FROM quay_object"))


def test_all_is_there_again(mount, section, kept):
    m = mount(section)
    (m / "k/dir/empty").mkdir(parents=True)
    (m / "k/f").write_bytes(b"content")
    (m / "k/dir/big").write_bytes(os.urandom(20 << 20))
    big = (m / "k/dir/big").read_bytes()
    os.symlink("f", m / "k/link")
    (m / "k/f").chmod(0o640)
    os.utime(m / "k/f", ns=(1, 1_500_000_000_123_456_789))
    os.setxattr(m / "k/f", "user.meta.colour", b"blue")
    (m / "k/gone").write_bytes(b"x")
    (m / "k/gone").unlink()
    os.rename(m / "k/dir/big", m / "k/dir/moved")
    m.remount()
    assert sorted(os.listdir(m / "k")) == ["dir", "f", "link"]
    assert sorted(os.listdir(m / "k/dir")) == ["empty", "moved"]
    assert (m / "k/dir/moved").read_bytes() == big and os.readlink(m / "k/link") == "f"
    there = os.stat(m / "k/f")
    assert (there.st_mode & 0o777, there.st_mtime_ns) == (0o640, 1_500_000_000_123_456_789)
    assert os.getxattr(m / "k/f", "user.meta.colour") == b"blue"
    m.stop()
    assert rows(kept)["f"] == b"content" and rows(kept)["dir/moved"] == big
    assert kept.stat().st_mode & 0o777 == 0o600


def test_what_was_closed_survives_kill_9(mount, section):
    m = mount(section)
    for number in range(50):
        (m / f"k/{number}").write_text(str(number))
    m.crash()
    m.start()
    assert {name: (m / "k" / name).read_text() for name in os.listdir(m / "k")} == {str(n): str(n) for n in range(50)}


def test_nothing_is_kept_without_it(mount):
    m = mount({"store k": {"backend": "memory"}})
    (m / "k/f").write_bytes(b"x")
    m.remount()
    assert os.listdir(m / "k") == []


def test_what_cannot_be_saved_has_not_happened(mount, folder):
    """The disk of the file is full: close() says so, the old content is there, and the new one goes out later."""
    small = folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)], check=True)
    try:
        m = mount({"store k": {"backend": "memory", "persist": small / "kept.sqlite", "retry_delay": "50ms"}})
        (m / "k/f").write_bytes(b"old")
        (small / "filler").write_bytes(bytes(3 << 20))
        descriptor = os.open(m / "k/f", os.O_WRONLY)
        os.pwrite(descriptor, os.urandom(2 << 20), 0)
        with fails_with(errno.ENOSPC):
            os.close(descriptor)
        assert "k/f" in m.quayctl("status").stdout
        (small / "filler").unlink()
        eventually(lambda: "k/f" not in m.quayctl("status").stdout)
        new = (m / "k/f").read_bytes()
        m.remount()
        assert len(new) == 2 << 20 and (m / "k/f").read_bytes() == new
        m.stop()
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_one_mount_at_a_time(mount, section, folder):
    first = mount(section)
    (first / "k/f").write_bytes(b"first")
    second = mount({**section, "cache": {"dir": folder / "second"}}, name="second")
    with fails_with(errno.EIO):
        (second / "k/f").read_bytes()
    assert "another program has it open" in second.log()
    first.stop()
    assert eventually(lambda: os.listdir(second / "k") == ["f"])
    assert (second / "k/f").read_bytes() == b"first"


def test_a_file_of_somebody_else_is_left_alone(mount, section, kept):
    kept.write_bytes(b"My diary. " * 1000)
    m = mount(section)
    with fails_with(errno.EIO):
        os.listdir(m / "k")
    with fails_with(errno.EIO):
        (m / "k/f").write_bytes(b"x")
    assert str(kept) in m.quayctl("doctor", "k", check=False).stderr
    m.stop(check=False)
    assert kept.read_bytes() == b"My diary. " * 1000


def test_a_newer_form_is_refused(mount, section, kept):
    with sqlite3.connect(kept) as database:
        database.execute("PRAGMA user_version = 99")
    m = mount(section)
    with fails_with(errno.ENOTSUP):
        os.listdir(m / "k")
    assert "newer quayfs" in m.quayctl("doctor", "k", check=False).stderr


@pytest.mark.parametrize("name", ["kept.json", "kept.PICKLE"])
def test_other_formats_are_refused_by_name(mount, folder, name):
    m = mount({"store k": {"backend": "memory", "persist": folder / name}}, start=False)
    with pytest.raises(Exception, match=r"quayfs.conf:\d+.*SQLite"):
        m.start()


def test_a_loader_reads_it_through_the_mount(mount, section, loader, folder):
    """It does not open the file, which the mount has."""
    sections = {**section, "database lite": {"driver": "sqlite", "dsn": folder / "lite.db"}}
    m = mount(sections)
    loader(sections)
    (m / "k/f.csv").write_text("a\n1\n2\n")
    with sqlite3.connect(folder / "lite.db") as database:
        database.execute("CREATE TABLE t (a integer)")
    assert "2" in m.quayctl("load", "lite.t", "k/f.csv").stdout
    (m / "k/g").write_text("the file is ours still")
