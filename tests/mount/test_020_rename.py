"""rename() of files and directories, and symbolic links."""

import ctypes
import errno
import os

import pytest

from harness.data import pattern
from harness.tools import content, eventually, fails_with, sample_tree, tree

LIBC = ctypes.CDLL(None, use_errno=True)
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2


def renameat2(old, new, flags):
    at_fdcwd = -100
    if LIBC.renameat2(at_fdcwd, os.fsencode(old), at_fdcwd, os.fsencode(new), flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def test_rename_a_file(root):
    data = pattern(10_000)
    (root / "a").write_bytes(data)
    (root / "a").rename(root / "b")
    assert os.listdir(root) == ["b"]
    assert (root / "b").read_bytes() == data


def test_rename_replaces(root):
    (root / "a").write_bytes(b"new")
    (root / "b").write_bytes(b"old and longer")
    (root / "a").rename(root / "b")
    assert os.listdir(root) == ["b"]
    assert (root / "b").read_bytes() == b"new"


def test_rename_into_another_directory(root):
    (root / "d/e").mkdir(parents=True)
    (root / "f").write_bytes(b"x")
    (root / "f").rename(root / "d/e/g")
    assert (root / "d/e/g").read_bytes() == b"x"
    assert os.listdir(root) == ["d"]


def test_rename_keeps_metadata(root, key):
    (root / "a").write_bytes(b"x")
    (root / "a").chmod(0o640)
    os.utime(root / "a", (1_500_000_000, 1_500_000_000))
    if key.has_xattrs:
        os.setxattr(root / "a", "user.colour", b"blue")
    (root / "a").rename(root / "b")
    info = (root / "b").stat()
    assert (info.st_mode & 0o777, int(info.st_mtime)) == (0o640, 1_500_000_000)
    if key.has_xattrs:
        assert os.getxattr(root / "b", "user.colour") == b"blue"


def test_rename_noreplace(root):
    (root / "a").write_bytes(b"a")
    (root / "b").write_bytes(b"b")
    (root / "d").mkdir()
    (root / "e").mkdir()
    for old, new in (("a", "b"), ("a", "d"), ("d", "a"), ("d", "e")):
        with fails_with(errno.EEXIST):
            renameat2(root / old, root / new, RENAME_NOREPLACE)
    assert (root / "b").read_bytes() == b"b"
    assert (root / "a").read_bytes() == b"a"
    renameat2(root / "a", root / "free", RENAME_NOREPLACE)
    renameat2(root / "d", root / "free-too", RENAME_NOREPLACE)
    assert sorted(os.listdir(root)) == ["b", "e", "free", "free-too"]
    assert (root / "free").read_bytes() == b"a" and (root / "free-too").is_dir()


def test_rename_an_open_file(root):
    with open(root / "a", "wb") as file:
        file.write(b"before ")
        file.flush()
        (root / "a").rename(root / "b")
        file.write(b"after")
    assert (root / "b").read_bytes() == b"before after"
    assert os.listdir(root) == ["b"]


def test_rename_over_an_open_file(root):
    """The save of an editor: a reader keeps what it opened."""
    (root / "f").write_bytes(b"old")
    with open(root / "f", "rb") as reader:
        assert reader.read(1) == b"o"
        (root / "f.new").write_bytes(b"new")
        (root / "f.new").rename(root / "f")
        assert (root / "f").read_bytes() == b"new"
        assert reader.read() == b"ld"


def test_rename_a_directory(root, tmp_path):
    source = sample_tree(tmp_path / "sample")
    os.system(f"cp -a '{source}' '{root / 'd'}'")
    before = tree(root / "d")
    (root / "d").rename(root / "moved")
    assert os.listdir(root) == ["moved"]
    assert tree(root / "moved") == before
    assert content(root / "moved") == content(source)


def test_rename_a_directory_over_an_empty_one(root):
    (root / "a").mkdir()
    (root / "a/f").write_text("x")
    (root / "b").mkdir()
    (root / "a").rename(root / "b")
    assert os.listdir(root) == ["b"] and os.listdir(root / "b") == ["f"]


def test_rename_errors(root):
    (root / "d/sub").mkdir(parents=True)
    (root / "full").mkdir()
    (root / "full/f").touch()
    (root / "f").touch()
    with fails_with(errno.ENOENT):
        (root / "no").rename(root / "x")
    with fails_with(errno.ENOTEMPTY, errno.EEXIST):
        (root / "d").rename(root / "full")
    with fails_with(errno.EISDIR):
        (root / "f").rename(root / "d")
    with fails_with(errno.ENOTDIR):
        (root / "d").rename(root / "f")
    with fails_with(errno.EINVAL):
        (root / "d").rename(root / "d/sub/below")
    (root / "f").rename(root / "f")
    assert sorted(os.listdir(root)) == ["d", "f", "full"]


def test_rename_directory_then_use_the_old_name(root):
    (root / "d").mkdir()
    (root / "d/f").write_text("first")
    (root / "d").rename(root / "e")
    (root / "d").mkdir()
    (root / "d/f").write_text("second")
    assert (root / "e/f").read_text() == "first"
    assert (root / "d/f").read_text() == "second"


def test_symlinks(root):
    (root / "f").write_text("target")
    (root / "l").symlink_to("f")
    assert os.readlink(root / "l") == "f"
    assert (root / "l").read_text() == "target"
    assert (root / "l").is_symlink() and (root / "l").lstat().st_size == 1
    (root / "dangling").symlink_to("/no/such/place")
    assert os.readlink(root / "dangling") == "/no/such/place"
    with fails_with(errno.ENOENT):
        os.stat(root / "dangling")
    with fails_with(errno.EEXIST):
        (root / "l").symlink_to("g")
    (root / "l").rename(root / "m")
    assert os.readlink(root / "m") == "f"
    (root / "m").unlink()
    assert (root / "f").read_text() == "target"
    assert {e.name for e in os.scandir(root) if e.is_symlink()} == {"dangling"}


def test_names_are_exchanged(root, key):
    """Where the store does it in one step; elsewhere EINVAL, and nothing has changed."""
    (root / "d").mkdir()
    (root / "a").write_bytes(b"of a")
    (root / "d/b").write_bytes(b"b")
    (root / "a").chmod(0o604)
    assert [len((root / name).read_bytes()) for name in ("a", "d/b")] == [4, 1]  # in all caches
    if key.backend in ("local", "memory"):
        renameat2(root / "a", root / "d/b", RENAME_EXCHANGE)
        assert (root / "a").read_bytes() == b"b" and (root / "d/b").read_bytes() == b"of a"
        assert (root / "d/b").stat().st_mode & 0o777 == 0o604 and (root / "a").stat().st_size == 1
        (root / "a").write_bytes(b"again")
    else:
        with fails_with(errno.EINVAL):
            renameat2(root / "a", root / "d/b", RENAME_EXCHANGE)
        assert (root / "a").read_bytes() == b"of a" and (root / "d/b").read_bytes() == b"b"
    with fails_with(errno.ENOENT):
        renameat2(root / "a", root / "absent", RENAME_EXCHANGE)
    with fails_with(errno.EINVAL):
        renameat2(root / "d", root / "d/b", RENAME_EXCHANGE)
    assert sorted(os.listdir(root)) == ["a", "d"] and os.listdir(root / "d") == ["b"]


@pytest.mark.parametrize("write", ["through", "back"])
@pytest.mark.parametrize("backend", ["local", "memory"])
def test_exchanged_while_open_and_waiting(mount, folder, backend, write):
    """Descriptors follow their file, what is written and not stored yet as well."""
    more = {"base_path": folder / "data", "create_if_missing": "yes"} if backend == "local" else {}
    root = mount({"store k": {"backend": backend, "write": write, **more}}) / "k"
    (root / "d").mkdir()
    large, other = pattern(700_000), pattern(300_000, seed=5)
    (root / "a").write_bytes(large)
    (root / "d/b").write_bytes(other)
    with open(root / "a", "r+b", buffering=0) as a, open(root / "d/b", "r+b", buffering=0) as b, \
            open(root / "a", "rb", buffering=0) as reader:
        a.write(b"dirty")
        assert reader.read(5) == b"dirty"
        renameat2(root / "a", root / "d/b", RENAME_EXCHANGE)
        assert (root / "d/b").read_bytes() == b"dirty" + large[5:] and (root / "a").read_bytes() == other
        assert os.pread(reader.fileno(), 5, 0) == b"dirty"
        a.write(b"more")
        b.write(b"B")
        assert os.fstat(a.fileno()).st_size == len(large) and os.fstat(b.fileno()).st_size == len(other)
        assert os.fstat(a.fileno()).st_ino == (root / "d/b").stat().st_ino
    assert (root / "d/b").read_bytes() == b"dirtymore" + large[9:] and (root / "a").read_bytes() == b"B" + other[1:]
    renameat2(root / "a", root / "d/b", RENAME_EXCHANGE)
    assert (root / "a").read_bytes() == b"dirtymore" + large[9:] and (root / "d/b").read_bytes() == b"B" + other[1:]
    if backend == "local":
        eventually(lambda: (folder / "data/a").read_bytes() == b"dirtymore" + large[9:])
        eventually(lambda: (folder / "data/d/b").read_bytes() == b"B" + other[1:])


def test_directories_are_exchanged(mount, folder):
    m = mount({"store k": {"backend": "local", "base_path": folder / "data", "create_if_missing": "yes"}})
    root = m / "k"
    sample_tree(root / "a")
    (root / "b/c").mkdir(parents=True)
    (root / "b/c/f").write_bytes(b"deep")
    (root / "file").write_bytes(b"plain")
    before = tree(root / "a")
    with open(root / "b/c/f", "r+b", buffering=0) as file:
        file.write(b"D")
        renameat2(root / "a", root / "b", RENAME_EXCHANGE)
        assert tree(root / "b") == before and os.listdir(root / "a/c") == ["f"]
        file.write(b"E")
        assert (root / "a/c/f").read_bytes() == b"DEep"
    renameat2(root / "a", root / "file", RENAME_EXCHANGE)  # a directory and a file
    assert (root / "a").read_bytes() == b"plain" and (root / "file/c/f").read_bytes() == b"DEep"
    with fails_with(errno.EINVAL):
        renameat2(root / "file", root / "file/c", RENAME_EXCHANGE)
    m.remount()
    assert (folder / "data/file/c/f").read_bytes() == b"DEep" and tree(m / "k/b") == before


def test_whiteouts_and_nameless_files(root):
    """What overlay file systems and O_TMPFILE want: refused, and nothing is left."""
    (root / "a").write_bytes(b"a")
    with fails_with(errno.EINVAL):
        renameat2(root / "a", root / "b", 4)  # RENAME_WHITEOUT
    with fails_with(errno.EOPNOTSUPP):
        os.open(root, os.O_TMPFILE | os.O_WRONLY)
    assert os.listdir(root) == ["a"]
