"""backend = sftp by commands of a shell there: servers without an SFTP subsystem, GNU's and BusyBox's tools."""

import errno
import os
import subprocess
import threading

import pytest

from harness.data import pattern
from harness.tools import eventually, fails_with, no_temporaries
from servers import Relay
from servers.sshd import BUSYBOX, busybox_only

MIB = 1024 * 1024
QUICK = {"retry_delay": "20ms", "connection_timeout": "30s"}


def force(folder, name: str, script: str) -> str:
    """sshd's line that runs `script` instead of what a client asks for ($SSH_ORIGINAL_COMMAND)."""
    path = folder / name
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)
    return f"ForceCommand {path}"


@pytest.fixture(params=["gnu", "busybox"])
def far(request, sftp_server_factory, folder):
    """A server without SFTP."""
    extra = busybox_only(folder / "busybox") if request.param == "busybox" else ""
    return sftp_server_factory(subsystem=False, extra=extra)


def reason(m) -> str:
    return str(m.health()["keys"]["k"])


def refused(m) -> str:
    with fails_with(errno.EIO):
        os.listdir(m / "k")
    return reason(m)


def test_a_server_without_sftp(mount, far):
    """By itself: nothing has to be said. The probe names how it is spoken to."""
    data = pattern(5 * MIB + 3, seed=1)
    m = mount({"store k": far.store(**QUICK, **{"cache.ttl": "1ms"})})
    (m / "k/dir").mkdir()
    (m / "k/dir/file").write_bytes(data)
    assert (far.data / "dir/file").read_bytes() == data
    (far.data / "dir/other").write_bytes(data[::-1])
    assert (m / "k/dir/other").read_bytes() == data[::-1]
    os.rename(m / "k/dir/file", m / "k/dir/other")
    assert (far.data / "dir/other").read_bytes() == data
    os.remove(m / "k/dir/other")
    os.rmdir(m / "k/dir")
    assert os.listdir(far.data) == []
    assert os.statvfs(m / "k").f_blocks > 0
    assert "commands" in m.quayctl("doctor", "k").stdout


@pytest.mark.parametrize("spelling", ["exec", "scp"])
def test_commands_although_there_is_sftp(mount, sshd, folder, spelling):
    place = sshd.data / folder.name
    place.mkdir()
    m = mount({"store k": sshd.store(place.name, transfer=spelling)})
    (m / "k/f").write_bytes(b"content")
    assert (place / "f").read_bytes() == b"content"
    assert "commands" in m.quayctl("doctor", "k").stdout


def awkward_names() -> list[bytes]:
    each = [bytes([a, b"x"[0], b]) for a in range(1, 256) for b in (a, 39) if 47 not in (a, b)]
    return [*each, b"-rf", b"--", b"-", b" ", b"\n", b"a\nb\n", b"'", b"';touch owned;'", b"$(touch owned)", b"`touch owned`",
            b"$n", b'"$n"', b"\\", b"\\n", b"*", b"?", b"[a]", b"~", b"#", b"!", b"a/b".replace(b"/", b"|"), b"|x|", b"{}",
            b"x: No such file or directory", b"\xff\xfe", b"y" * 255, b"%s%n", b"..."]


def test_every_name(mount, far):
    """As a file of the server's, and as one that is made, renamed and removed through the mount."""
    names = sorted(set(awkward_names()))
    root = os.fsencode(far.data)
    for name in names:
        with open(root + b"/" + name, "wb") as file:
            file.write(name)
    m = mount({"store k": far.store(**QUICK, **{"cache.ttl": "1ms"})})
    here = os.fsencode(m / "k")
    assert sorted(os.listdir(here)) == names
    for name in sorted({*names[::7], *names[-40:]}):
        with open(here + b"/" + name, "rb") as file:
            assert file.read() == name
        os.rename(here + b"/" + name, here + b"/" + name[:200] + b"'\n.")
        with open(root + b"/" + name[:200] + b"'\n.", "rb") as file:
            assert file.read() == name
        with open(here + b"/" + name, "wb") as file:
            file.write(b"again")
        os.symlink(name, here + b"/link")
        assert os.readlink(root + b"/link") == name == os.readlink(here + b"/link")
        os.remove(here + b"/link")
        os.remove(here + b"/" + name)
        os.mkdir(here + b"/" + name)
        assert os.path.isdir(root + b"/" + name)
    assert not (far.data / "owned").exists()


def test_a_link_is_renamed_over_what_it_leads_to(mount, far):
    """GNU's mv calls them the same file, and does nothing."""
    m = mount({"store k": far.store(**QUICK, **{"cache.ttl": "1ms"})})
    (m / "k/d").mkdir()
    for name, target in (("l", "f"), ("l", far.data / "f"), ("d/l", "../f")):
        (m / "k/f").write_bytes(b"content")
        (m / "k" / name).symlink_to(target)
        assert (m / "k" / name).read_bytes() == b"content"
        os.rename(m / "k" / name, m / "k/f")
        assert os.readlink(far.data / "f") == str(target) == os.readlink(m / "k/f")
        assert sorted(os.listdir(far.data)) == ["d", "f"] and os.listdir(far.data / "d") == []
        (m / "k/f").unlink()


def test_changes_by_others_within_one_second(mount, far):
    """What SFTP 3 cannot tell apart: same size, same second. Here nanoseconds and the inode tell."""
    path = far.data / "f"
    path.write_bytes(b"one")
    os.utime(path, ns=(0, 1_500_000_000_000_000_001))
    m = mount({"store k": far.store(**QUICK, **{"cache.ttl": "1ms"})})
    assert (m / "k/f").read_bytes() == b"one"
    new = far.data / "g"
    new.write_bytes(b"two")
    os.utime(new, ns=(0, 1_500_000_000_000_000_001))
    new.rename(path)
    eventually(lambda: (m / "k/f").read_bytes() == b"two")


def test_a_file_of_command_lines_is_only_a_file(mount, far):
    """Bytes never become commands, whatever they look like."""
    line = b"\nrun touch owned; tell 0\nexit 0\n"
    data = line * (2 * MIB // len(line))
    m = mount({"store k": far.store(**QUICK)})
    (m / "k/f").write_bytes(data)
    with open(m / "k/f", "r+b") as file:
        for at in range(0, len(data), MIB // 2):
            file.seek(at)
            file.write(line)
    with fails_with(errno.ENOENT):
        (m / "k/none/f").write_bytes(data)
    assert (far.data / "f").stat().st_size == len(data)
    assert os.listdir(far.data) == ["f"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_full_disk(mount, far):
    """It fails in the middle of the bytes: the error is named, and the next write needs no repair."""
    small = far.data / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)], check=True)
    try:
        m = mount({"store k": far.store(**QUICK)})
        with fails_with(errno.ENOSPC):
            (m / "k/small/big").write_bytes(pattern(8 * MIB, seed=2))
        os.remove(m / "k/small/big")
        eventually(lambda: no_temporaries(small))
        (m / "k/small/f").write_bytes(b"fits")
        assert (small / "f").read_bytes() == b"fits"
    finally:
        m.stop()
        subprocess.run(["umount", str(small)], check=True)


def test_a_lost_connection_in_a_write(mount, far):
    relay = Relay(far.port).start()
    far.trust(relay.port)
    try:
        m = mount({"store k": far.store(endpoints=f"127.0.0.1:{relay.port}", **QUICK)})
        (m / "k/f").write_bytes(b"before")
        data = pattern(24 * MIB, seed=4)

        def lose_when_it_runs():
            eventually(lambda: not no_temporaries(far.data))
            relay.drop()

        breaker = threading.Thread(target=lose_when_it_runs, daemon=True)
        breaker.start()
        (m / "k/f").write_bytes(data)
        breaker.join(60)
        assert (far.data / "f").read_bytes() == data
        eventually(lambda: no_temporaries(far.data))
    finally:
        relay.stop()


def test_a_login_that_talks(mount, sftp_server_factory, folder):
    """A profile that prints something is no protocol error."""
    talk = force(folder, "talk", 'echo "Welcome to the lab"; echo; eval "$SSH_ORIGINAL_COMMAND"\n')
    server = sftp_server_factory(subsystem=False, extra=talk)
    (server.data / "f").write_bytes(b"content")
    m = mount({"store k": server.store(**QUICK)})
    assert (m / "k/f").read_bytes() == b"content"


def test_a_server_that_runs_nothing(mount, sftp_server_factory, folder):
    server = sftp_server_factory(subsystem=False, extra=force(folder, "no", 'echo "No shell for you."; exit 1\n'))
    text = refused(mount({"store k": server.store(retries="0", **QUICK)}))
    assert "no SFTP subsystem" in text and "runs no commands" in text and "No shell for you." in text


def with_broken(folder, tool, complaint):
    """A server on which this command only complains."""
    tools = folder / "tools"
    tools.mkdir()
    (tools / tool).write_text(f'#!/bin/sh\necho "{complaint}" >&2\nexit 1\n')
    (tools / tool).chmod(0o755)
    return force(folder, "broken", f'PATH={tools}:$PATH; export PATH; eval "$SSH_ORIGINAL_COMMAND"\n')


def test_tools_that_cannot(mount, sftp_server_factory, folder):
    """What is missing is named at the login, not in the middle of a write."""
    path = with_broken(folder, "dd", "dd: unknown operand")
    text = refused(mount({"store k": sftp_server_factory(subsystem=False, extra=path).store(retries="0", **QUICK)}))
    assert "dd iflag" in text


def test_unreadable_directories_are_errors(mount, sftp_server_factory, folder):
    """Not an empty listing: the tools' reasons are understood."""
    path = with_broken(folder, "find", "find: '$1': Input/output error")
    server = sftp_server_factory(subsystem=False, extra=path)
    (server.data / "f").write_bytes(b"x")
    m = mount({"store k": server.store(retries="0", **QUICK)})
    with fails_with(errno.EIO):
        os.listdir(m / "k")
    assert (m / "k/f").read_bytes() == b"x"


def test_busybox_is_what_is_tested(folder):
    busybox_only(folder / "busybox")
    assert os.readlink(folder / "busybox/applets/stat") == BUSYBOX
