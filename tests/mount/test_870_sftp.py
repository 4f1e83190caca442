"""backend = sftp beside what every backend does: endpoints, host keys, logins, lost connections."""

import errno
import os
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.data import pattern
from harness.tools import descriptors, eventually, fails_with, no_temporaries, run
from servers import Relay, free_port
from servers.sshd import descendants, generate_key

MIB = 1024 * 1024
QUICK = {"retry_delay": "20ms", "connection_timeout": "30s"}


def endpoints(*ports: int) -> str:
    return ", ".join(f"127.0.0.1:{port}" for port in ports)


def test_a_later_endpoint_is_used_when_the_first_refuses(mount, sshd, place):
    (place / "f").write_bytes(b"content")
    m = mount({"store k": sshd.store(place.name, endpoints=endpoints(free_port(), sshd.port), **QUICK)})
    assert (m / "k/f").read_bytes() == b"content"
    (m / "k/g").write_bytes(b"new")
    assert (place / "g").read_bytes() == b"new"


def test_a_later_endpoint_is_used_when_the_first_says_nothing(mount, sshd, place):
    """It takes the connection, and that is all."""
    (place / "f").write_bytes(b"content")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ports = endpoints(silent.getsockname()[1], sshd.port)
        m = mount({"store k": sshd.store(place.name, endpoints=ports, retry_delay="20ms", connection_timeout="3s")})
        assert (m / "k/f").read_bytes() == b"content"


def test_no_endpoint_answers(mount, sshd):
    m = mount({"store k": sshd.store(endpoints=endpoints(free_port(), free_port()), retries="0", **QUICK)})
    with fails_with(errno.EHOSTUNREACH):
        os.listdir(m / "k")


def test_a_read_goes_on_at_the_next_endpoint(mount, sshd, place, relay):
    data = pattern(24 * MIB, seed=3)
    (place / "big").write_bytes(data)
    first, second = relay(), relay()
    first.cut_after = 3 * MIB
    gone = threading.Thread(target=lambda: first.cut.wait(60) and first.stop(), daemon=True)
    gone.start()
    m = mount({"store k": sshd.store(place.name, endpoints=endpoints(first.port, second.port), **QUICK)})
    assert (m / "k/big").read_bytes() == data
    assert first.cut.is_set() and second.connections > 0


def test_a_write_goes_on_at_the_next_endpoint(mount, sshd, place, relay):
    """The connections are lost while the bytes are on their way; close() succeeds and nothing is left behind."""
    first, second = relay(), relay()
    m = mount({"store k": sshd.store(place.name, endpoints=endpoints(first.port, second.port), **QUICK)})
    (m / "k/other").write_bytes(b"x")  # connected
    data = pattern(32 * MIB, seed=4)

    with open(m / "k/big", "wb", buffering=0) as file:
        file.write(data[:20 * MIB])
        eventually(lambda: not no_temporaries(place))
        first.stop()
        file.write(data[20 * MIB:])
    assert (place / "big").read_bytes() == data
    assert second.connections > 0
    eventually(lambda: no_temporaries(place), what="the half of the first try is removed")
    assert sorted(os.listdir(m / "k")) == ["big", "other"]


def test_back_to_the_first_endpoint(mount, sshd, place, relay):
    first, second = relay(), relay()
    first.stop()
    m = mount({"store k": sshd.store(place.name, endpoints=endpoints(first.port, second.port), fail_back="1s", **QUICK)})
    (m / "k/f").write_bytes(b"by the second")
    assert second.connections > 0
    first.start()
    eventually(lambda: first.connections > 0, what="the first is asked again")
    eventually(lambda: not second._open, what="the second is not needed any more")
    before = second.connections
    (m / "k/g").write_bytes(b"by the first")
    assert (place / "g").read_bytes() == b"by the first"
    assert second.connections == before


def test_lost_idle_connections_are_replaced(mount, sshd, place, relay):
    first = relay()
    m = mount({"store k": sshd.store(place.name, endpoints=endpoints(first.port), **QUICK, **{"cache.ttl": "1ms"})})
    (m / "k/f").write_bytes(b"content")
    for number in range(3):
        first.drop()
        (m / f"k/g{number}").write_bytes(b"x")
    assert sorted(os.listdir(m / "k")) == ["f", "g0", "g1", "g2"]


def test_the_server_restarts(mount, sftp_server_factory):
    server = sftp_server_factory()
    m = mount({"store k": server.store(**QUICK, **{"cache.ttl": "1ms"})})
    (m / "k/f").write_bytes(b"content")
    server.kill()
    with fails_with(errno.EHOSTUNREACH, errno.EIO):
        (m / "k/absent").read_bytes()
    server.start()
    eventually(lambda: listed(m) == ["f"])
    (m / "k/g").write_bytes(b"again")
    assert (server.data / "g").read_bytes() == b"again"


def test_a_hanging_server_fails_in_time(mount, sftp_server_factory):
    server = sftp_server_factory()
    m = mount({"store k": server.store(timeout="5s", retries="0", **{"cache.ttl": "1ms"}, connection_timeout="5s")})
    (m / "k/f").write_bytes(b"content")
    server.pause()
    with fails_with(errno.ETIMEDOUT, errno.EHOSTUNREACH):
        (m / "k/absent").stat()
    server.resume()
    eventually(lambda: listed(m) == ["f"])


# ---- host keys ----

def reason(m) -> str:
    return str(m.health()["keys"]["k"])


def test_a_connection_lost_in_the_login_is_no_refusal(mount, sshd, relay):
    """Story: where the server's answer to a key did not come, libssh2 says that the key is wrong. The login was told to be
    refused (EACCES, not tried again); it is a lost connection."""
    far, seen = relay(), []
    for far.cut_after in [*range(900, 2600, 60), -1]:
        m = mount({"store k": sshd.store(endpoints=f"127.0.0.1:{far.port}", retries="0", auto_connect="no", **QUICK)})
        try:
            os.listdir(m / "k")
            seen.append(0)
        except OSError as error:
            seen.append(error.errno)
        m.stop()
    assert set(seen[:-1]) <= {errno.EHOSTUNREACH, 0} and seen[0] and not seen[-1], seen


def refused(m) -> str:
    with fails_with(errno.EACCES):
        os.listdir(m / "k")
    return reason(m)


def test_an_unknown_host_key_is_refused_before_the_login(mount, sftp_server_factory, folder):
    server = sftp_server_factory()
    empty = folder / "known"
    empty.write_text("# nobody\n")
    m = mount({"store k": server.store(known_hosts=empty, **QUICK)})
    text = refused(m)
    assert "is not known" in text and "SHA256:" in text and "host_key_sha256" in text
    assert server.logins() == 0
    empty.write_text(server.known_hosts.read_text())  # the owner has compared it: no restart is needed
    eventually(lambda: listed(m) == [])


def listed(m):
    try:
        return os.listdir(m / "k")
    except OSError:
        return None


def test_a_changed_host_key_is_refused(mount, sftp_server_factory, folder):
    server = sftp_server_factory()
    other = generate_key(folder / "other_host").with_suffix(".pub").read_text()
    known = folder / "known"
    known.write_text(f"[127.0.0.1]:{server.port} {other}")
    text = refused(mount({"store k": server.store(known_hosts=known, **QUICK)}))
    assert "HAS CHANGED" in text and "line 1" in text
    assert server.logins() == 0


def test_a_hashed_known_host(mount, sshd, folder):
    hashed = folder / "known"
    hashed.write_text(sshd.known_hosts.read_text())
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(hashed)], check=True, stderr=subprocess.DEVNULL)
    assert hashed.read_text().startswith("|1|")
    m = mount({"store k": sshd.store(known_hosts=hashed, create_if_missing="no")})
    os.listdir(m / "k")


def test_a_pinned_host_key(mount, sshd, sftp_server_factory, folder):
    shown = subprocess.run(["ssh-keygen", "-l", "-f", str(sshd.host_key)], check=True, text=True, stdout=subprocess.PIPE)
    pin = shown.stdout.split()[1]
    assert pin.startswith("SHA256:")
    m = mount({"store k": sshd.store(known_hosts=folder / "absent", host_key_sha256=pin)})
    os.listdir(m / "k")
    other = sftp_server_factory()
    n = mount({"store k": other.store(host_key_sha256=pin, **QUICK), "cache": {"dir": folder / "cache2"}}, name="n")
    assert "host_key_sha256" in refused(n)
    assert other.logins() == 0


# ---- logins ----

def test_a_key_with_a_passphrase(mount, sftp_server_factory, folder):
    server = sftp_server_factory()
    locked = generate_key(folder / "locked", "open sesame")
    server.authorized.write_text(locked.with_suffix(".pub").read_text())
    passphrase = folder / "passphrase"
    passphrase.write_text("open sesame\n")
    passphrase.chmod(0o600)
    m = mount({"store k": server.store(key_file=locked, key_passphrase_file=passphrase)})
    (m / "k/f").write_bytes(b"x")
    m.stop()
    m = mount({"store k": server.store(key_file=locked, key_passphrase_env="QUAY_T_PASSPHRASE")}, name="n",
              env={"QUAY_T_PASSPHRASE": "open sesame"})
    assert (m / "k/f").read_bytes() == b"x"
    assert "sesame" not in m.whole_log()


def test_the_agent(mount, sshd, folder):
    path = folder / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
    try:
        eventually(path.exists)
        subprocess.run(["ssh-add", "-q", str(sshd.key)], check=True, env={**os.environ, "SSH_AUTH_SOCK": str(path)},
                       stderr=subprocess.DEVNULL)
        options = sshd.store(agent="yes", agent_socket=path)
        del options["key_file"]
        m = mount({"store k": options})
        os.listdir(m / "k")
    finally:
        agent.terminate()
        agent.wait()


def test_a_refused_login_says_what_was_tried(mount, sftp_server_factory, folder):
    server = sftp_server_factory(extra="PasswordAuthentication yes")
    stranger = generate_key(folder / "stranger")
    m = mount({"store k": server.store(key_file=stranger, password="not-the-password-4711", **QUICK)})
    text = refused(m)
    assert "login" in text and str(stranger) in text and "password" in text
    assert server.logins() == 0
    assert "4711" not in text and "4711" not in m.whole_log()


def test_a_server_without_sftp_that_must_have_it(mount, sftp_server_factory):
    """transfer = auto: test_871_commands."""
    m = mount({"store k": sftp_server_factory(subsystem=False).store(transfer="sftp", **QUICK)})
    with fails_with(errno.EIO):
        os.listdir(m / "k")
    assert "no SFTP subsystem" in reason(m)


SECRET = "correct horse 'battery' $taple"
BY_PASSWORD = "PasswordAuthentication yes"
BY_QUESTIONS = "UsePAM yes\nKbdInteractiveAuthentication yes"


@pytest.fixture
def password_server(sftp_server_factory):
    if os.geteuid() != 0:
        pytest.skip("a password of a test's own needs root")
    return lambda extra: sftp_server_factory(extra=extra, password=SECRET)


def by_password(server, **more):
    options = server.store(**QUICK, **more)
    del options["key_file"]
    return options


@pytest.mark.parametrize("how", [BY_PASSWORD, BY_QUESTIONS])
def test_a_password(mount, password_server, folder, how):
    """From a file, from the environment; to the method of that name, and to keyboard-interactive's questions."""
    server = password_server(how)
    path = folder / "password"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    m = mount({"store k": by_password(server, password_file=path)})
    (m / "k/f").write_bytes(b"content")
    assert (server.data / "f").read_bytes() == b"content"
    m.stop()
    n = mount({"store k": by_password(server, password_env="QUAY_T_PASSWORD")}, name="n",
              env={"QUAY_T_PASSWORD": SECRET})
    assert (n / "k/f").read_bytes() == b"content"
    word = "password" if how == BY_PASSWORD else "keyboard-interactive"
    assert f"Accepted {word}" in server.log.read_text(errors="replace")
    for one in (m, n):
        assert "battery" not in one.whole_log()


def test_a_wrong_password_is_not_tried_again_and_again(mount, password_server):
    """Not by the next access, nor after the seconds for which other refusals are remembered, nor elsewhere."""
    server = password_server(BY_PASSWORD)
    other = Relay(server.port).start()
    server.trust(other.port)
    try:
        ports = endpoints(server.port, other.port)
        m = mount({"store k": by_password(server, endpoints=ports, password="not-the-password-4711")})
        with ThreadPoolExecutor(8) as threads:  # beside the first connection, which the store makes by itself
            text = list(threads.map(lambda _: refused(m), range(8)))[-1]
        assert "login" in text and "password" in text and "2 minutes" in text and "4711" not in text + m.whole_log()
        time.sleep(6)  # other refusals: 5 s
        for _ in range(3):
            refused(m)
        assert server.log.read_text(errors="replace").count("Failed password") == 1
        assert other.connections == 0
    finally:
        other.stop()


# ---- places ----

def test_the_home_directory(mount, sshd, folder):
    """~ is the server's, which in the tests is that of the user who runs them."""
    name = f".quay-test-{folder.name}"
    try:
        m = mount({"store k": sshd.store(base_path=f"~/{name}/sub")})
        (m / "k/f").write_bytes(b"x")
        home = os.path.expanduser(f"~{sshd.user}")
        with open(f"{home}/{name}/sub/f", "rb") as file:
            assert file.read() == b"x"
        m.stop()
        m = mount({"store k": sshd.store(base_path=f"~/{name}")}, name="n")
        assert os.listdir(m / "k") == ["sub"]
    finally:
        subprocess.run(["rm", "-rf", os.path.expanduser(f"~{sshd.user}/{name}")], check=True)


def test_a_missing_base_path_is_an_error_and_not_an_empty_store(mount, sshd):
    m = mount({"store k": sshd.store("not-there", create_if_missing="no", retries="0")})
    with fails_with(errno.EIO):
        os.listdir(m / "k")
    assert "create_if_missing" in reason(m)


def test_a_uri(mount, sshd, place):
    (place / "f").write_bytes(b"content")
    options = {"uri": f"sftp://{sshd.user}@127.0.0.1:{sshd.port}{place}", "key_file": sshd.key,
               "known_hosts": sshd.known_hosts, "agent": "no"}
    m = mount({"store k": options})
    assert (m / "k/f").read_bytes() == b"content"


@pytest.mark.parametrize("bad, words", [
    ({"transfer": "rsync"}, ["transfer", "exec"]),
    ({"endpoints": "host:port"}, ["endpoints", "host:port"]),
    ({"host_key_sha256": "SHA256:abc"}, ["host_key_sha256"]),
    ({"base_path": "~other/x"}, ["~other"]),
    ({"password_env": "QUAY_NOT_SET"}, ["QUAY_NOT_SET"]),
])
def test_wrong_options(mount, sshd, bad, words):
    m = mount({"store k": sshd.store(**bad), "quayfs": {"strict": "yes"}}, start=False)
    m.may_fail = True
    done = subprocess.run([str(m.program), *m.arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=110)
    assert done.returncode != 0
    for word in words:
        assert word in done.stdout


def test_special_files_and_links(mount, sshd, place):
    os.mkfifo(place / "fifo")
    (place / "f").write_bytes(b"content")
    (place / "to-f").symlink_to("f")
    (place / "away").symlink_to("/etc/passwd")
    m = mount({"store k": sshd.store(place.name)})
    assert sorted(os.listdir(m / "k")) == ["away", "f", "to-f"]
    assert (m / "k/to-f").read_bytes() == b"content"
    assert os.readlink(m / "k/away") == "/etc/passwd"
    assert oct((m / "k/to-f").lstat().st_mode & 0o170000) == oct(0o120000)


@pytest.mark.parametrize("size", [16 * 1024, 3 * MIB], ids=["small", "large"])
def test_a_disk_that_is_full_there(mount, sshd, place, size):
    """What makes a file complete is sent with its bytes: a write that fails is told all the same, the old content
    stays, and nothing is left of the try."""
    run("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place)
    try:
        old = pattern(64 * 1024, seed=6)
        (place / "f").write_bytes(old)
        with open(place / "hog", "wb", buffering=0) as hog, fails_with(errno.ENOSPC):
            while hog.write(bytes(4096)) == 4096:
                pass
        m = mount({"store k": sshd.store(place.name, **QUICK)})
        descriptor = os.open(m / "k/f", os.O_WRONLY | os.O_TRUNC)
        os.write(descriptor, pattern(size, seed=7))
        with fails_with(errno.ENOSPC):
            os.fsync(descriptor)
        assert (place / "f").read_bytes() == old
        (place / "hog").unlink()
        run("mount", "-o", "remount,size=16m", place)
        os.fsync(descriptor)
        os.close(descriptor)
        assert (place / "f").read_bytes() == pattern(size, seed=7)
        eventually(lambda: no_temporaries(place))
    finally:
        run("umount", "-l", place)


def test_what_is_made_durable_is_opened_once_and_closed(mount, sshd, place):
    """Handles of directories that are opened ahead are given back: a server has few of them (100 here)."""
    (place / "d").mkdir()
    m = mount({"store k": sshd.store(place.name, max_connections="1", **QUICK)})
    for number in range(150):
        (m / f"k/d/{number}").write_bytes(b"x" * number)
        if number % 3 == 0:
            os.rename(m / f"k/d/{number}", m / f"k/{number}")
    for number in range(150):
        assert ((place if number % 3 == 0 else place / "d") / str(number)).read_bytes() == b"x" * number
    programs = descendants(sshd.process.pid)
    assert any(descriptors(pid) for pid in programs)
    eventually(lambda: not [link for pid in programs for link in descriptors(pid) if link.startswith(str(place))])


def test_far_away(mount, sshd, place, relay):
    """Every byte is 20 ms on its way: many requests are under way at once, and answers belong to their requests."""
    far = relay()
    far.delay = 0.02
    data = pattern(6 * MIB, seed=5)
    (place / "f").write_bytes(data)
    m = mount({"store k": sshd.store(place.name, endpoints=endpoints(far.port))})
    assert (m / "k/f").read_bytes() == data
    (m / "k/g").write_bytes(data[::-1])
    assert (place / "g").read_bytes() == data[::-1]
    for number in range(20):
        (place / f"n{number}").write_bytes(b"x")
    assert len([entry.stat() for entry in os.scandir(m / "k")]) >= 2
