"""Files as rows of a database: restarts, two hosts, crashes, large files, directories renamed by one statement."""

import errno
import hashlib
import os
import subprocess
import sys

import pytest

from harness.backends import BlobTables, MariaTables, PostgresTables
from harness.data import pattern
from harness.tools import eventually, fails_with
from servers import CommitProxy

MIB = 1024 * 1024
WRITER = """
import os, sys, time
file = os.open(sys.argv[1], os.O_WRONLY | os.O_TRUNC)
for _ in range(60):
    os.write(file, bytes(1 << 20))
print("wrote", flush=True)
time.sleep(600)
"""


EACH = pytest.mark.parametrize("kind", ["sqlite", "postgres", "mysql"])  # elsewhere two of them tell enough
SERVERS = pytest.mark.parametrize("kind", ["postgres", "mysql"])


@pytest.fixture(params=["sqlite", "postgres"])
def kind(request):
    return request.param


@pytest.fixture
def place(kind, folder, request):
    """(the tables as another program sees them, the section, the server or None)"""
    if kind == "sqlite":
        return BlobTables(folder / "box.db"), {"path": folder / "box.db"}, None
    database = request.getfixturevalue("postgres" if kind == "postgres" else "mariadb")
    (folder / "password").write_text(database.server.password + "\n")
    (folder / "password").chmod(0o600)
    return (PostgresTables if kind == "postgres" else MariaTables)(database), {
        "host": "127.0.0.1", "port": database.server.port, "dbname": database.name, "user": database.server.user,
        "password_file": folder / "password"}, database.server


@pytest.fixture
def box(place):
    return place[0]


@pytest.fixture
def section(kind, place):
    return {"backend": kind, **place[1], "cache.ttl": "100ms", "retry_delay": "50ms"}


@pytest.fixture
def server(place):
    """That of the store; it is running again when the test is over."""
    yield place[2]
    if place[2] and not place[2].running():
        place[2].start()


def two_hosts(mount, section, folder):
    one = mount({"store k": section, "cache": {"dir": folder / "cache1"}}, name="one")
    other = mount({"store k": section, "cache": {"dir": folder / "cache2"}}, name="other")
    return one, other


@EACH
def test_everything_outlives_the_mount(mount, section, box):
    m = mount({"store k": section})
    os.makedirs(m / "k/d/empty")
    (m / "k/d/f").write_bytes(b"content")
    os.chmod(m / "k/d/f", 0o640)
    os.utime(m / "k/d/f", ns=(10**18, 1234567890123456789))
    os.setxattr(m / "k/d/f", "user.note", b"\x00bytes")
    os.symlink("d/f", m / "k/link")
    name = os.fsencode(m / "k") + b"/not utf-8 \xff"
    with open(name, "wb") as file:
        file.write(b"x")
    m.quayctl("cache", "clear")
    m.remount()
    found = os.stat(m / "k/d/f")
    assert (found.st_mode & 0o777, found.st_mtime_ns) == (0o640, 1234567890123456789)
    assert os.getxattr(m / "k/d/f", "user.note") == b"\x00bytes"
    assert (m / "k/link").read_bytes() == b"content" and os.readlink(m / "k/link") == "d/f"
    assert os.listdir(m / "k/d/empty") == [] and b"not utf-8 \xff" in os.listdir(os.fsencode(m / "k"))
    assert box.get("d/f") == b"content" and "d/empty/" in box.names()


@EACH
def test_a_large_file_and_ranges_of_it(mount, section, box):
    data = pattern(64 * MIB + 12345)
    m = mount({"store k": section})
    (m / "k/big").write_bytes(data)
    assert hashlib.sha256(box.get("big")).digest() == hashlib.sha256(data).digest()
    m.quayctl("cache", "clear")
    m.remount()
    with open(m / "k/big", "rb", buffering=0) as file:
        for at, length in [(0, 1), (MIB - 1, 2), (33 * MIB + 7, 3 * MIB), (len(data) - 5, 100), (len(data), 1)]:
            assert os.pread(file.fileno(), length, at) == data[at:at + length]
    assert (m / "k/big").read_bytes() == data


def test_a_change_within_a_large_file_writes_what_changes(mount, section, box):
    data = bytearray(pattern(40 * MIB))
    m = mount({"store k": section})
    (m / "k/big").write_bytes(data)
    before = set(box.ask("SELECT content, part, pos FROM files_chunk"))
    with open(m / "k/big", "r+b") as file:
        file.seek(20 * MIB + 5)
        file.write(b"changed")
    data[20 * MIB + 5:20 * MIB + 12] = b"changed"
    os.truncate(m / "k/big", 39 * MIB + 1)
    assert box.get("big") == bytes(data[:39 * MIB + 1])
    assert before >= set(box.ask("SELECT content, part, pos FROM files_chunk"))  # no chunk is new


def test_two_hosts_and_one_file(mount, section, folder, box):
    """Both have it open; the second to close has lost, and nothing of it is lost."""
    one, other = two_hosts(mount, section, folder)
    (one / "k/f").write_bytes(b"the first content")
    with open(one / "k/f", "r+b") as mine, open(other / "k/f", "r+b") as theirs:
        mine.write(b"MINE")
        theirs.write(b"THEIRS")
        mine.close()
        with fails_with(errno.ESTALE):
            theirs.close()
    assert box.get("f") == b"MINEfirst content"[:4] + b"the first content"[4:]
    kept = [path for path in box.names() if ".conflict-" in path]
    assert len(kept) == 1 and box.get(kept[0]).startswith(b"THEIRS")
    eventually(lambda: (other / "k/f").read_bytes().startswith(b"MINE"))


def test_only_one_host_makes_it(mount, section, folder):
    one, other = two_hosts(mount, section, folder)
    with open(one / "k/x", "xb") as mine:
        mine.write(b"mine")
    with fails_with(errno.EEXIST), open(other / "k/x", "xb"):
        pass
    assert (other / "k/x").read_bytes() == b"mine"


@EACH
def test_a_directory_is_renamed_by_one_step(mount, section, folder, box):
    one, other = two_hosts(mount, section, folder)
    os.makedirs(one / "k/old/sub/empty")
    for number in range(50):
        (one / f"k/old/sub/{number}").write_bytes(b"%d" % number)
    (one / "k/old0").write_bytes(b"not below it")
    contents = box.ask("SELECT content FROM files WHERE content > 0 ORDER BY content")
    os.rename(one / "k/old", one / "k/new")
    assert sorted(os.listdir(one / "k")) == ["new", "old0"]
    assert not [path for path in box.names() if path.startswith("old/")]
    assert contents == box.ask("SELECT content FROM files WHERE content > 0 ORDER BY content")  # nothing was copied
    eventually(lambda: sorted(os.listdir(other / "k")) == ["new", "old0"])
    assert all((other / f"k/new/sub/{number}").read_bytes() == b"%d" % number for number in range(50))
    assert os.listdir(one / "k/new/sub/empty") == []
    os.mkdir(one / "k/full")
    (one / "k/full/x").write_bytes(b"x")
    with fails_with(errno.ENOTEMPTY, errno.EEXIST):
        os.rename(one / "k/new", one / "k/full")


def test_the_last_entry_leaves_its_directory(mount, section):
    """A directory that is only there because something is below it stays when that is renamed away."""
    m = mount({"store k": section})
    os.makedirs(m / "k/a/b")
    (m / "k/a/b/f").write_bytes(b"x")
    os.rename(m / "k/a/b", m / "k/c")
    assert sorted(os.listdir(m / "k")) == ["a", "c"] and os.listdir(m / "k/a") == []


@EACH
def test_killed_in_the_middle_of_an_upload(mount, section, box):
    m = mount({"store k": {**section, "write": "through"}})
    (m / "k/big").write_bytes(b"as before")
    # A process of its own: whatever this one starts has our descriptors for a moment, and their close() is a commit.
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(m / "k/big")], stdout=subprocess.PIPE)
    assert writer.stdout.read(5) == b"wrote"
    eventually(lambda: box.ask("SELECT count(*) FROM files_part WHERE etag <> ''")[0][0])  # parts are leaving
    m.crash()
    writer.kill()
    writer.wait()
    assert box.get("big") == b"as before" and box.names() == ["big"]
    m.start()
    assert (m / "k/big").exists()
    # what was staged is removed by the start, or completes it: nothing in between stays
    eventually(lambda: not box.ask("SELECT id FROM files_content WHERE state <> 1"))
    assert box.get("big") in (b"as before", bytes(60 * MIB))


def test_tables_of_others_are_refused(mount, section, folder, box):
    box.ask("CREATE TABLE files (id int, name int)")
    m = mount({"store k": section})
    with fails_with(errno.EIO):
        os.listdir(m / "k")
    assert "was not made by quayfs" in m.log()


def test_removed_files_leave_no_rows(mount, section, box):
    m = mount({"store k": section})
    os.mkdir(m / "k/d")
    for number in range(30):
        (m / f"k/d/{number}").write_bytes(pattern(MIB + number))
    subprocess.run(["rm", "-r", str(m / "k/d")], check=True)
    assert box.names() == []
    assert box.ask("SELECT count(*) FROM files_chunk UNION ALL SELECT count(*) FROM files_content") == [(0,), (0,)]


# ---- with a server ----


@SERVERS
def test_the_server_is_restarted(mount, section, box, server):
    """Connections break; the next operations make new ones, and nobody is told."""
    m = mount({"store k": section})
    (m / "k/f").write_bytes(b"before")
    server.stop()
    server.start()
    assert (m / "k/f").read_bytes() == b"before"
    (m / "k/g").write_bytes(pattern(5 * MIB))
    assert box.get("g") == pattern(5 * MIB)


@SERVERS
def test_the_server_is_away(mount, section, box, server):
    """close() tells; what was written is staged, and stored by itself when the server is back."""
    m = mount({"store k": {**section, "retries": "0", "cache.ttl": "1h"}})
    (m / "k/f").write_bytes(b"before")
    file = open(m / "k/f", "r+b")
    server.stop()
    file.write(b"AFTER")
    with fails_with(errno.EHOSTUNREACH, errno.EIO):
        file.close()
    server.start()
    eventually(lambda: box.get("f") == b"AFTERe")


@SERVERS
def test_a_password_is_never_told(mount, section, server, folder):
    (folder / "password").write_text("not-the-password\n")
    m = mount({"store k": section, "quayfs": {"log_level": "debug"}})
    with fails_with(errno.EACCES):
        os.listdir(m / "k")
    health = (m / ".quay/health.json").read_text()
    assert "password authentication failed" in m.log() + health or "Access denied" in m.log() + health
    assert "not-the-password" not in m.log() + health


@pytest.fixture
def behind(mount, section, server):
    """A mount that reaches its server through a proxy that loses COMMITs, with one new file in it."""
    proxy = CommitProxy(server.port).start()
    m = mount({"store k": {**section, "port": proxy.port, "sslmode": "disable"} if section["backend"] == "postgres"
               else {**section, "port": proxy.port}})
    (m / "k/f").write_bytes(b"before")
    yield m, proxy
    proxy.stop()


@SERVERS
def test_the_answer_to_a_commit_is_lost(behind, box):
    """It was done, and the version says so: nobody is told of a failure, nothing is written twice."""
    m, proxy = behind
    proxy.lose = "answer"
    (m / "k/f").write_bytes(b"after")
    assert proxy.lost == 1 and box.get("f") == b"after" and box.names() == ["f"]
    proxy.lose = "answer"
    (m / "k/new").write_bytes(b"new")
    proxy.lose = "answer"
    os.rename(m / "k/new", m / "k/moved")
    assert proxy.lost == 3 and box.get("moved") == b"new" and box.names() == ["f", "moved"]


@SERVERS
def test_a_commit_is_lost(behind, box):
    """It was not done. Whoever closed is told, or it was repeated; in the end the bytes are there, once."""
    m, proxy = behind
    proxy.lose = "request"
    try:
        (m / "k/f").write_bytes(b"after")
    except OSError as error:
        assert error.errno in (errno.EHOSTUNREACH, errno.EIO)
    assert proxy.lost == 1
    eventually(lambda: box.get("f") == b"after")
    assert box.names() == ["f"]
