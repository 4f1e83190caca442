"""Modes, owners, times and extended attributes, and that they survive a remount."""

import errno
import os
import stat

from harness.tools import fails_with


def test_new_files_follow_the_umask(root):
    old = os.umask(0o027)
    try:
        (root / "f").touch()
        os.close(os.open(root / "g", os.O_CREAT | os.O_WRONLY, 0o600))
        (root / "d").mkdir()
    finally:
        os.umask(old)
    assert stat.S_IMODE((root / "f").stat().st_mode) == 0o640
    assert stat.S_IMODE((root / "g").stat().st_mode) == 0o600
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o750


def test_chmod(root):
    (root / "f").write_text("x")
    for mode in (0o600, 0o755, 0o444, 0o4755):
        (root / "f").chmod(mode)
        assert stat.S_IMODE((root / "f").stat().st_mode) == mode
    (root / "d").mkdir()
    (root / "d").chmod(0o711)
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o711
    assert (root / "f").read_text() == "x"


def test_chmod_of_an_open_file(root):
    with open(root / "f", "wb") as file:
        file.write(b"abc")
        os.fchmod(file.fileno(), 0o604)
    assert stat.S_IMODE((root / "f").stat().st_mode) == 0o604
    assert (root / "f").read_bytes() == b"abc"


def test_chown(root):
    (root / "f").write_text("x")
    if os.getuid() != 0:  # only root gives files away
        with fails_with(errno.EPERM):
            os.chown(root / "f", 1234, 4321)
        return
    os.chown(root / "f", 1234, 4321)
    info = (root / "f").stat()
    assert (info.st_uid, info.st_gid) == (1234, 4321)
    os.chown(root / "f", -1, 7)
    info = (root / "f").stat()
    assert (info.st_uid, info.st_gid) == (1234, 7)


def test_utimens(root, key):
    (root / "f").write_text("x")
    os.utime(root / "f", ns=(1_111_111_111_000_000_000, 1_234_567_890_123_456_789))
    assert (root / "f").stat().st_mtime_ns == 1_234_567_890_123_456_789 // key.time_ns * key.time_ns
    os.utime(root / "f", (0, 0))
    assert (root / "f").stat().st_mtime == 0
    (root / "d").mkdir()
    os.utime(root / "d", (1_000_000_000, 1_000_000_000))
    assert (root / "d").stat().st_mtime == 1_000_000_000


def test_utimens_of_an_open_file(root):
    """What cp -p and rsync do: write, set the times on the descriptor, close."""
    with open(root / "f", "wb", buffering=0) as file:
        file.write(b"data")
        os.utime(file.fileno(), (1_000_000_000, 1_000_000_000))
    assert (root / "f").stat().st_mtime == 1_000_000_000


def test_writing_sets_the_time(root):
    (root / "f").write_text("x")
    os.utime(root / "f", (1_000_000_000, 1_000_000_000))
    with open(root / "f", "ab") as file:
        file.write(b"more")
    assert (root / "f").stat().st_mtime > 1_600_000_000


def test_xattrs(root, key):
    (root / "f").write_text("x")
    if not key.has_xattrs:  # refused at once: also of a file that is still to be stored
        with fails_with(errno.EOPNOTSUPP):
            os.setxattr(root / "f", "user.colour", b"blue")
        with open(root / "f", "wb") as file, fails_with(errno.EOPNOTSUPP):
            file.write(b"y")
            os.setxattr(file.fileno(), "user.colour", b"blue")
        assert os.listxattr(root / "f") in ([], ["user.etag"])
        assert (root / "f").read_bytes() == b"y"
        return
    os.setxattr(root / "f", "user.colour", b"blue")
    os.setxattr(root / "f", "user.bytes", bytes(range(256)))
    os.setxattr(root / "f", "user.empty", b"")
    assert os.getxattr(root / "f", "user.colour") == b"blue"
    assert os.getxattr(root / "f", "user.bytes") == bytes(range(256))
    assert os.getxattr(root / "f", "user.empty") == b""
    assert {"user.colour", "user.bytes", "user.empty"} <= set(os.listxattr(root / "f"))
    with fails_with(errno.EEXIST):
        os.setxattr(root / "f", "user.colour", b"red", os.XATTR_CREATE)
    with fails_with(errno.ENODATA):
        os.setxattr(root / "f", "user.new", b"red", os.XATTR_REPLACE)
    os.setxattr(root / "f", "user.colour", b"green", os.XATTR_REPLACE)
    os.removexattr(root / "f", "user.empty")
    with fails_with(errno.ENODATA):
        os.getxattr(root / "f", "user.empty")
    with fails_with(errno.ENODATA):
        os.removexattr(root / "f", "user.empty")
    assert os.getxattr(root / "f", "user.colour") == b"green"
    assert (root / "f").read_text() == "x"


def test_other_xattr_namespaces_are_refused(root):
    (root / "f").write_text("x")
    acl = bytes.fromhex("0200000001000600ffffffff04000400ffffffff20000400ffffffff")  # as chmod 644: the kernel has looked at it
    for name in ("trusted.x", "security.x", "system.posix_acl_access"):
        with fails_with(errno.EOPNOTSUPP):
            os.setxattr(root / "f", name, acl)
        with fails_with(errno.EOPNOTSUPP):
            os.getxattr(root / "f", name)


def test_attributes_survive_a_rewrite(root, key):
    (root / "f").write_text("x")
    (root / "f").chmod(0o640)
    if key.has_xattrs:
        os.setxattr(root / "f", "user.colour", b"blue")
    with open(root / "f", "wb") as file:
        file.write(b"another content")
    assert stat.S_IMODE((root / "f").stat().st_mode) == 0o640
    if key.has_xattrs:
        assert os.getxattr(root / "f", "user.colour") == b"blue"


def test_attributes_survive_a_remount(mount, lasting_key):
    """And what has been read has the times that it was given (not on sftp: the server's file is read, and counts it)."""
    m = mount({"store k": {**lasting_key.options, "cache.ttl": "1ms"}})
    f, d, link, atime, mtime = m / "k/f", m / "k/d", m / "k/l", 1_111_111_111_987_654_321, 1_234_567_890_123_456_789
    f.write_bytes(b"content")
    f.chmod(0o640)
    if os.getuid() == 0:
        os.chown(f, 1234, 4321)
    if lasting_key.has_xattrs:
        os.setxattr(f, "user.colour", b"\x00blue\xff")
    os.utime(f, ns=(atime, mtime))
    d.mkdir()
    d.chmod(0o750)
    os.utime(d, ns=(atime, mtime))
    link.symlink_to("f")
    before = f.stat()
    m.quayctl("cache", "clear")
    m.remount()
    after = f.stat()
    for name in ("st_mode", "st_uid", "st_gid", "st_size"):
        assert getattr(after, name) == getattr(before, name), name
    step = lasting_key.time_ns
    wanted = (atime // step * step, mtime // step * step)
    for shown in (before, after):
        assert (shown.st_atime_ns, shown.st_mtime_ns) == wanted
    if lasting_key.has_xattrs:
        assert os.getxattr(f, "user.colour") == b"\x00blue\xff"
    assert stat.S_IMODE(d.stat().st_mode) == 0o750
    assert os.readlink(link) == "f"
    assert f.read_bytes() == b"content" and os.listdir(d) == []
    read = [(info.st_atime_ns, info.st_mtime_ns) for info in (f.stat(), d.stat())]
    assert read == [wanted, wanted] or lasting_key.backend == "sftp"


def test_metadata_changes_do_not_change_the_bytes(mount, lasting_key):
    m = mount({"store k": lasting_key.options})
    (m / "k/f").write_bytes(b"content" * 1000)
    (m / "k/f").chmod(0o600)
    if lasting_key.has_xattrs:
        os.setxattr(m / "k/f", "user.a", b"1")
    os.utime(m / "k/f", (5, 5))
    m.stop()
    assert lasting_key.behind("f") == b"content" * 1000
