"""One bucket, two file systems: what s3fs (the real one, of Debian) makes is the same file here, and the other way round."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from pathlib import Path

import pytest

from harness.mount import is_mounted
from harness.tools import eventually
from servers.base import die_with_parent

MTIME, ATIME = 1_500_000_000_987_654_321, 1_600_000_000_123_456_789


class S3fs:
    def __init__(self, folder: Path, bucket):
        self.root, self.log = folder / "s3fs", folder / "s3fs.log"
        self.root.mkdir()
        password = folder / "s3fs.passwd"
        password.write_text(f"{bucket.minio.user}:{bucket.minio.password}\n")
        password.chmod(0o600)
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                ["s3fs", bucket.name, str(self.root), "-f", "-o",
                 f"url={bucket.minio.endpoint},use_path_request_style,passwd_file={password},"
                 f"endpoint={bucket.minio.region},use_xattr,stat_cache_expire=0,attr_timeout=0,entry_timeout=0"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent)

    def start(self) -> "S3fs":
        deadline = time.monotonic() + 60
        while not is_mounted(self.root):
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)
        return self

    def stop(self) -> None:
        subprocess.run(["fusermount3", "-u", str(self.root)], check=False)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def s3fs(folder, bucket):
    made = S3fs(folder, bucket)
    try:
        yield made.start()
    finally:
        made.stop()


def make(root: Path) -> None:
    file = root / "file.txt"
    file.write_bytes(b"hello" * 100)
    file.chmod(0o640)
    os.chown(file, 1234, 2345)
    os.setxattr(file, "user.colour", b"blue\0\xff")
    os.utime(file, ns=(ATIME, MTIME))
    (root / "plain é+&%20.bin").write_bytes(b"x")
    (root / "empty").touch()
    (root / "dir").mkdir()
    (root / "dir").chmod(0o2750)
    os.chown(root / "dir", 77, 88)
    (root / "dir" / "inside").write_bytes(b"i")
    os.symlink("dir/inside", root / "link")


def seen(root: Path) -> dict[str, object]:
    """Everything that both keep, of every name."""
    whole: dict[str, object] = {}
    for folder, directories, files in os.walk(root):
        for name in directories + files:
            path = Path(folder) / name
            info = path.lstat()
            link, directory = path.is_symlink(), stat.S_ISDIR(info.st_mode)
            whole[str(path.relative_to(root))] = (
                oct(info.st_mode), info.st_uid, info.st_gid,
                None if directory else info.st_size,
                os.readlink(path) if link else None if directory else path.read_bytes(),
                {} if link else {x: os.getxattr(path, x) for x in os.listxattr(path)})
    file = (root / "file.txt").stat()
    whole["times"] = (file.st_atime_ns, file.st_mtime_ns)
    return whole


def is_what_was_made(found: dict[str, object]) -> None:
    assert found["file.txt"] == ("0o100640", 1234, 2345, 500, b"hello" * 100, {"user.colour": b"blue\0\xff"})
    assert found["times"] == (ATIME, MTIME)
    assert found["dir"][:3] == ("0o42750", 77, 88)
    assert found["link"][4] == "dir/inside" and found["dir/inside"][4] == b"i"
    assert found["plain é+&%20.bin"][4] == b"x" and found["empty"][3] == 0


def agreed(one: Path, other: Path) -> dict[str, object]:
    """s3fs believes what it has seen for a second."""
    def same() -> bool:
        return seen(one) == seen(other)

    try:
        eventually(same, 10)
    except AssertionError:
        pass
    whole = seen(one)
    assert whole == seen(other)
    return whole


def test_what_s3fs_has_made(mount, bucket, s3fs):
    m = mount({"store k": bucket.store()})
    make(s3fs.root)
    is_what_was_made(agreed(m / "k", s3fs.root))


def test_s3fs_sees_what_is_made_here(mount, bucket, s3fs):
    """A file with the default mode says nothing of it in its metadata: s3fs has a default of its own for that."""
    m = mount({"store k": bucket.store()})
    make(m / "k")
    is_what_was_made(seen(s3fs.root))
    for name in ("empty", "plain é+&%20.bin", "dir/inside"):
        (m / "k" / name).chmod(0o604)
    agreed(m / "k", s3fs.root)


def test_each_changes_what_the_other_has_made(mount, bucket, s3fs):
    """A change of one thing keeps the others, whoever makes it."""
    m = mount({"store k": bucket.store(**{"cache.ttl": "100ms"})})
    make(s3fs.root)
    for number, (writer, reader) in enumerate(((m / "k", s3fs.root), (s3fs.root, m / "k"))):
        file = writer / "file.txt"
        file.chmod(0o600 + number)
        agreed(writer, reader)
        os.setxattr(file, f"user.more{number}", b"1")
        agreed(writer, reader)
        with open(file, "r+b") as opened:
            opened.seek(number)
            opened.write(b"W")
        agreed(writer, reader)
        os.rename(writer / "dir", writer / f"dir{number}")
        os.rename(writer / f"dir{number}", writer / "dir")
        agreed(writer, reader)
    whole = seen(m / "k")
    assert whole["file.txt"][1:] == (1234, 2345, 500, b"WW" + (b"hello" * 100)[2:],
                                     {"user.colour": b"blue\0\xff", "user.more0": b"1", "user.more1": b"1"})
    assert whole["dir"][:3] == ("0o42750", 77, 88) and whole["dir/inside"][4] == b"i"
    (s3fs.root / "link").unlink()
    (m / "k" / "empty").unlink()
    assert "link" not in agreed(m / "k", s3fs.root) and "empty" not in seen(m / "k")
