"""The plain operations, on each backend through a real mount."""

import errno
import os
import socket
import stat

from harness.data import pattern
from harness.tools import fails_with

MISSING = errno.ENOENT


def test_the_key_is_a_directory(mounted):
    assert "k" in os.listdir(mounted.path)
    info = (mounted / "k").stat()
    assert stat.S_ISDIR(info.st_mode)
    assert info.st_ino != 0


def test_unknown_key_is_not_there(mounted):
    with fails_with(errno.ENOENT):
        os.stat(mounted / "nokey")
    with fails_with(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT):
        os.mkdir(mounted / "nokey")


def test_control_directories_are_listed(mounted):
    assert {".load", ".quay", "k"} <= set(os.listdir(mounted.path))


def test_empty_directory(root):
    assert os.listdir(root) == []


def test_create_write_read(root):
    (root / "f").write_bytes(b"hello\n")
    assert (root / "f").read_bytes() == b"hello\n"
    assert os.listdir(root) == ["f"]
    info = (root / "f").stat()
    assert (info.st_size, stat.S_ISREG(info.st_mode), info.st_nlink) == (6, True, 1)


def test_empty_file(root):
    (root / "empty").touch()
    assert (root / "empty").stat().st_size == 0
    assert (root / "empty").read_bytes() == b""


def test_size_while_open(root):
    with open(root / "f", "wb", buffering=0) as file:
        file.write(b"x" * 1000)
        assert os.fstat(file.fileno()).st_size == 1000
        assert (root / "f").stat().st_size == 1000
        file.write(b"y" * 500)
        assert (root / "f").stat().st_size == 1500
    assert (root / "f").stat().st_size == 1500


def test_read_at_offsets_and_past_the_end(root):
    data = pattern(100_000)
    (root / "f").write_bytes(data)
    descriptor = os.open(root / "f", os.O_RDONLY)
    try:
        for offset, length in ((0, 1), (4095, 2), (65_536, 10_000), (99_999, 10), (50_000, 200_000)):
            assert os.pread(descriptor, length, offset) == data[offset:offset + length]
        assert os.pread(descriptor, 10, 100_000) == b""
        assert os.pread(descriptor, 10, 1_000_000) == b""
    finally:
        os.close(descriptor)


def test_missing_file(root):
    with fails_with(MISSING):
        os.stat(root / "no")
    with fails_with(MISSING):
        os.open(root / "no", os.O_RDONLY)
    with fails_with(MISSING):
        os.open(root / "no", os.O_WRONLY)
    with fails_with(MISSING):
        os.unlink(root / "no")
    with fails_with(MISSING):
        os.open(root / "no/deeper", os.O_CREAT | os.O_WRONLY)


def test_a_file_is_no_directory(root):
    (root / "f").write_text("x")
    with fails_with(errno.ENOTDIR):
        os.stat(root / "f/below")
    with fails_with(errno.ENOTDIR):
        os.listdir(root / "f")
    with fails_with(errno.ENOTDIR):
        os.rmdir(root / "f")
    (root / "d").mkdir()
    with fails_with(errno.EISDIR):
        os.unlink(root / "d")
    with fails_with(errno.EISDIR):
        os.open(root / "d", os.O_WRONLY)


def test_mkdir_and_rmdir(root):
    (root / "d").mkdir()
    assert (root / "d").is_dir() and os.listdir(root / "d") == []
    with fails_with(errno.EEXIST):
        (root / "d").mkdir()
    (root / "d/sub").mkdir()
    (root / "d/sub/f").write_text("x")
    with fails_with(errno.ENOTEMPTY):
        (root / "d").rmdir()
    with fails_with(errno.ENOTEMPTY):
        (root / "d/sub").rmdir()
    (root / "d/sub/f").unlink()
    (root / "d/sub").rmdir()
    assert os.listdir(root / "d") == []
    (root / "d").rmdir()
    assert not (root / "d").exists()
    with fails_with(MISSING):
        (root / "d").rmdir()


def test_an_emptied_directory_stays(root):
    (root / "d").mkdir()
    (root / "d/f").write_text("x")
    (root / "d/f").unlink()
    assert (root / "d").is_dir()


def test_directory_times_and_groups_are_the_stores(root, key):
    """What is made in a directory touches it, and has its group if that is set-gid, where it is a real one."""
    real = key.backend in ("local", "sftp")
    (root / "d").mkdir()
    os.chown(root / "d", -1, 5)
    (root / "d").chmod(0o2775)
    os.utime(root / "d", (1_000_000_000, 1_000_000_000))
    (root / "d/f").write_text("x")
    assert (real and (root / "d").stat().st_mtime > 1_600_000_000) or (root / "d").stat().st_mtime == 1_000_000_000
    (root / "d/e").mkdir()
    assert {(root / "d" / name).stat().st_gid for name in ("f", "e")} == {5 if real else os.getgid()}


def test_deep_directories(root):
    deep = root / "/".join("abcdefghij")
    deep.mkdir(parents=True)
    (deep / "f").write_text("deep")
    assert (deep / "f").read_text() == "deep"
    assert os.listdir(root) == ["a"]


def test_unlink(root):
    (root / "f").write_text("x")
    (root / "f").unlink()
    assert not (root / "f").exists()
    assert os.listdir(root) == []
    (root / "f").write_text("again")
    assert (root / "f").read_text() == "again"


def test_listing_agrees_with_stat(root):
    for number in range(50):
        (root / f"file-{number:02}").write_bytes(b"x" * number)
    (root / "sub").mkdir()
    found = {entry.name: entry for entry in os.scandir(root)}
    assert len(found) == 51
    assert found["sub"].is_dir()
    for number in range(50):
        entry = found[f"file-{number:02}"]
        assert entry.is_file() and entry.stat().st_size == number
        assert entry.inode() == entry.stat().st_ino


def test_listing_a_large_directory(root):
    (root / "many").mkdir()
    wanted = [f"entry-with-a-rather-long-name-{number:04}" for number in range(300)]
    for name in wanted:
        (root / "many" / name).touch()
    assert sorted(os.listdir(root / "many")) == wanted
    for name in wanted[::2]:
        (root / "many" / name).unlink()
    assert sorted(os.listdir(root / "many")) == wanted[1::2]


def test_rewinding_a_directory_shows_what_is_new(root):
    """rewinddir(3) reads the directory as it is now (found by stress-ng's dir)."""
    (root / "d").mkdir()
    (root / "d/old").write_bytes(b"")
    fd = os.open(root / "d", os.O_RDONLY | os.O_DIRECTORY)
    assert os.listdir(fd) == ["old"]
    (root / "d/new").write_bytes(b"x")
    assert sorted(os.listdir(fd)) == ["new", "old"]  # listdir rewinds what it was given
    os.unlink(root / "d/old")
    assert os.listdir(fd) == ["new"]
    os.close(fd)


def test_listing_while_removing(root):
    """What `rm -r` does: no entry is left over, none is reported twice."""
    (root / "d").mkdir()
    for number in range(200):
        (root / "d" / f"n{number}").touch()
    seen = []
    with os.scandir(root / "d") as entries:
        for entry in entries:
            seen.append(entry.name)
            os.unlink(entry.path)
    assert len(seen) == len(set(seen)) == 200
    (root / "d").rmdir()


def test_exclusive_create(root):
    descriptor = os.open(root / "f", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    os.write(descriptor, b"mine")
    os.close(descriptor)
    with fails_with(errno.EEXIST):
        os.open(root / "f", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    assert (root / "f").read_bytes() == b"mine"


def test_open_truncates(root):
    (root / "f").write_bytes(b"a long first content")
    descriptor = os.open(root / "f", os.O_WRONLY | os.O_TRUNC)
    assert os.fstat(descriptor).st_size == 0
    os.write(descriptor, b"short")
    os.close(descriptor)
    assert (root / "f").read_bytes() == b"short"
    os.close(os.open(root / "f", os.O_WRONLY | os.O_TRUNC))
    assert (root / "f").read_bytes() == b""


def test_access_modes_hold(root):
    (root / "f").write_bytes(b"x")
    reader = os.open(root / "f", os.O_RDONLY)
    with fails_with(errno.EBADF):
        os.write(reader, b"y")
    os.close(reader)
    writer = os.open(root / "f", os.O_WRONLY)
    with fails_with(errno.EBADF):
        os.read(writer, 1)
    os.close(writer)


def test_long_names(root):
    name = "n" * 255
    (root / name).write_text("long")
    assert os.listdir(root) == [name]
    assert (root / name).read_text() == "long"
    with fails_with(errno.ENAMETOOLONG):
        (root / ("n" * 256)).touch()


def test_inode_numbers_are_stable_and_distinct(root):
    (root / "a").touch()
    (root / "b").touch()
    first = (root / "a").stat().st_ino
    assert first != (root / "b").stat().st_ino
    (root / "a").write_text("changed")
    assert (root / "a").stat().st_ino == first
    assert {e.name: e.inode() for e in os.scandir(root)}["a"] == first


def test_statfs(root):
    info = os.statvfs(root)
    assert info.f_bsize > 0 and info.f_blocks > 0 and info.f_namemax == 255


def test_special_files_are_refused(root):
    for kind in (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK):
        with fails_with(errno.EPERM):
            os.mknod(root / "special", kind | 0o600, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as server, fails_with(errno.EPERM):
        os.chdir(root)  # a socket's path is short
        try:
            server.bind("special")
        finally:
            os.chdir("/")
    assert os.listdir(root) == []


def test_hard_links_are_refused(root):
    (root / "f").touch()
    with fails_with(errno.EPERM):
        os.link(root / "f", root / "g")
