"""Large files go to an SFTP server in parts while they are written; what a kill leaves there goes."""

import errno
import os

from harness.data import pattern
from harness.tools import eventually, fails_with, no_temporaries

MIB = 1024 * 1024


def sent(path) -> int:
    """Bytes of uploads that are under way."""
    return sum(entry.stat().st_size for entry in os.scandir(path) if entry.name.startswith(".quay-tmp-"))


def test_a_large_file_leaves_while_it_is_written(mount, sshd, place):
    data = bytearray(pattern(40 * MIB + 12345, seed=7))
    m = mount({"store k": sshd.store(place.name)})
    with open(m / "k/big", "wb", buffering=0) as file:
        write_all(file, data[:24 * MIB])
        eventually(lambda: sent(place) >= 8 * MIB)
        assert "big" not in os.listdir(place)
        write_all(file, data[24 * MIB:])
        data[:6] = b"header"  # a part that has left
        file.seek(0)
        file.write(b"header")
        data = data[:33 * MIB + 7]  # and others
        file.truncate(len(data))
        os.fchmod(file.fileno(), 0o440)
    assert (place / "big").read_bytes() == data
    assert (place / "big").stat().st_mode & 0o777 == 0o440
    assert os.listdir(place) == ["big"]


def write_all(file, data) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view):]


def test_a_large_file_that_is_removed_leaves_nothing(mount, sshd, place):
    m = mount({"store k": sshd.store(place.name)})
    (m / "k/d").mkdir()
    with open(m / "k/d/big", "wb", buffering=0) as file:
        write_all(file, pattern(24 * MIB, seed=8))
        eventually(lambda: sent(place / "d") >= 8 * MIB)
        os.unlink(m / "k/d/big")
        os.rmdir(m / "k/d")
        file.write(b"for nobody")
    assert os.listdir(place) == []


def test_a_large_file_meets_another(mount, sshd, place):
    """Somebody else makes the name while the parts are on their way: both are kept."""
    m = mount({"store k": sshd.store(place.name)})
    data = pattern(24 * MIB, seed=9)
    file = os.open(m / "k/big", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    with open(file, "wb", buffering=0, closefd=False) as stream:
        write_all(stream, data)
    eventually(lambda: sent(place) >= 8 * MIB)
    (place / "big").write_bytes(b"theirs")
    with fails_with(errno.EEXIST):
        os.close(file)
    assert (place / "big").read_bytes() == b"theirs"
    kept = [name for name in os.listdir(place) if name.startswith("big.conflict-")]
    assert len(kept) == 1 and (place / kept[0]).read_bytes() == data
    eventually(lambda: no_temporaries(place))


def test_what_a_kill_left_goes(mount, sshd, place):
    m = mount({"store k": sshd.store(place.name)})
    (m / "k/d").mkdir()
    file = os.open(m / "k/d/big", os.O_WRONLY | os.O_CREAT)
    with open(file, "wb", buffering=0, closefd=False) as stream:
        write_all(stream, pattern(24 * MIB, seed=10))
    eventually(lambda: sent(place / "d") >= 8 * MIB)
    m.crash()
    with fails_with(errno.ENOTCONN, errno.ECONNABORTED, errno.EIO):
        os.close(file)
    assert not no_temporaries(place / "d")
    m.start()
    os.rmdir(m / "k/d")
    assert os.listdir(place) == []


def test_an_upload_that_a_restart_takes_up_is_whole(mount, sftp_server_factory, folder):
    """The cache had no room for all of it. Another quayfs that meets its temporary file leaves it alone."""
    server = sftp_server_factory()
    place = server.data / "d"
    place.mkdir()
    store = server.store("d", retries="0", connection_timeout="1s")
    m = mount({"cache": {"dir": folder / "little", "max_size": "24MiB"}, "store k": store})
    data = pattern(60 * MIB, seed=11)
    file = os.open(m / "k/big", os.O_WRONLY | os.O_CREAT)
    with open(file, "wb", buffering=0, closefd=False) as stream:
        write_all(stream, data)
    server.kill()
    with fails_with(errno.EHOSTUNREACH, errno.EIO):
        os.close(file)
    m.crash()
    server.start()
    assert sent(place) >= 24 * MIB
    old = place / ".quay-tmp-0123456789abcdef"
    for path in (old, *place.iterdir()):
        path.touch()
        os.utime(path, (1_600_000_000, 1_600_000_000))
    other = mount({"store k": store}, name="other")
    assert os.listdir(other / "k") == []
    eventually(lambda: not old.exists())
    other.stop()
    m.start()
    eventually(lambda: (place / "big").exists())
    assert (place / "big").read_bytes() == data
    assert os.listdir(place) == ["big"]
