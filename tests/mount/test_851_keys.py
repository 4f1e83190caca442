"""Keys that come, change and go while the mount runs: SIGHUP, quayctl reload, add and remove."""

import errno
import mmap
import os
import signal
import subprocess
import sys
import threading

import pytest

from harness.conf import conf_text, merged
from harness.data import pattern
from harness.tools import eventually, fails_with
from servers.proxy import Fault

HOLDER = """import sys
f = open(sys.argv[1], sys.argv[2], buffering=0)
if 'w' in sys.argv[2]: f.write(b'begun')
print(flush=True)
input()
sys.stdout.buffer.write(f.read() if 'r' in sys.argv[2] else b'')
f.close()
"""


class Holder:
    """A process that has a file open."""

    def __init__(self, path, mode):
        self.process = subprocess.Popen([sys.executable, "-c", HOLDER, path, mode], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)
        assert self.process.stdout.readline()

    def finish(self) -> bytes:
        return self.process.communicate(b"\n", timeout=110)[0]


def local(folder, name, **options):
    (folder / name).mkdir(exist_ok=True)
    return {"backend": "local", "base_path": folder / name, **options}


@pytest.fixture
def base(folder):
    return {"cache": {"dir": folder / "cache"}, "loader": {"spool": folder / "load"}}


def hangup(m, text):
    """SIGHUP, and what the log says of it."""
    before = m.whole_log().count(text)
    m.process.send_signal(signal.SIGHUP)
    eventually(lambda: m.whole_log().count(text) > before, what=f"'{text}' in the log")


def test_a_hangup_adds_changes_and_removes(mount, folder, base):
    one = {"store a": local(folder, "a"), "store b": local(folder, "b"), "store c": local(folder, "c")}
    m = mount(merged(base, one))
    for key in "abc":
        (m / key / "f").write_bytes(key.encode())
    assert os.listdir(m.path) == ["a", "b", "c", ".load", ".quay"]
    two = {"store a": local(folder, "a"), "store b": local(folder, "other"), "store d": local(folder, "d")}
    m.rewrite(merged(base, two))
    (folder / "other/g").write_bytes(b"other")
    hangup(m, "keys: added d; changed b; removed c; 1 unchanged")
    assert sorted(os.listdir(m.path)) == [".load", ".quay", "a", "b", "d"]
    assert os.listdir(m / "b") == ["g"] and (m / "b/g").read_bytes() == b"other"
    with fails_with(errno.ENOENT):
        os.stat(m / "c")
    (m / "d/new").write_bytes(b"x")
    assert (folder / "d/new").exists() and (m / "a/f").read_bytes() == b"a"
    assert m.quayctl("reload").stdout == "nothing to do: 3 unchanged\n"
    assert m.health()["keys"].keys() == {"a", "b", "d"}


@pytest.mark.parametrize("backend", ["s3", "local"])
def test_who_reads_goes_on(mount, folder, base, bucket, backend):
    """A handle, a mapping and a directory of the old store, while the name means the new one."""
    data = pattern(3 << 20)
    stores = {"s3": [bucket.store(), bucket.store(prefix="else/")],
              "local": [local(folder, "a"), local(folder, "b")]}[backend]
    m = mount(merged(base, {"store k": stores[0]}))
    (m / "k/f").write_bytes(data)
    (m / "k/d").mkdir()
    held = open(m / "k/f", "rb", buffering=0)
    mapped = mmap.mmap(held.fileno(), 0, prot=mmap.PROT_READ)
    inside = os.open(m / "k/d", os.O_DIRECTORY)
    m.rewrite(merged(base, {"store k": stores[1]}))
    assert m.quayctl("reload").stdout == "changed k; 0 unchanged\n"
    assert not (m / "k/f").exists()
    (m / "k/f").write_bytes(b"new")
    assert held.read() == data and mapped[:] == data and os.fstat(held.fileno()).st_size == len(data)
    assert (m / "k/f").read_bytes() == b"new"
    with fails_with(errno.ENOENT, errno.ESTALE):
        os.stat("x", dir_fd=inside)
    mapped.close()
    held.close()
    os.close(inside)
    eventually(lambda: "the last handle of the removed key is closed" in m.whole_log())
    m.rewrite(merged(base, {"store k": stores[0]}))
    m.quayctl("reload")
    assert (m / "k/f").read_bytes() == data


def test_who_writes_is_waited_for(mount, folder, base):
    m = mount(merged(base, {"store a": local(folder, "a"), "store b": local(folder, "b")}))
    writer = Holder(m / "a/busy", "wb")
    done = m.quayctl("remove", "a", check=False)
    assert done.returncode == 1 and "busy (open for writing)" in done.stderr, done
    m.rewrite(merged(base, {"store b": local(folder, "other")}))
    done = m.quayctl("reload", check=False)
    assert done.returncode == 1 and "a is in use: busy" in done.stderr
    hangup(m, "the keys stay as they are: a is in use")
    assert sorted(os.listdir(m.path)) == [".load", ".quay", "a", "b"]
    (m / "b/still").write_bytes(b"the old b")  # it was about to change as well
    assert (folder / "b/still").exists()
    writer.finish()
    assert (folder / "a/busy").read_bytes() == b"begun"
    assert m.quayctl("remove", "a").stdout == "removed a; 0 unchanged\n"


def test_what_is_staged_is_stored_first_or_it_is_refused(mount, folder, base, bucket, proxy):
    store = bucket.store(endpoint_url=proxy.endpoint, write="back", retries=0)
    m = mount(merged(base, {"store k": store}))
    proxy.fault = Fault(status=403, only="^PUT .*/f", body="<Error><Code>AccessDenied</Code></Error>")
    (m / "k/f").write_bytes(b"staged")
    done = m.quayctl("remove", "k", check=False)
    assert done.returncode == 1 and "not everything is stored" in done.stderr and "AccessDenied" in done.stderr
    assert (m / "k/f").read_bytes() == b"staged"
    proxy.fault = None
    (m / "k/g").write_bytes(b"written after the refusal")
    assert m.quayctl("remove", "k").stdout.startswith("removed k")
    assert bucket.get("f") == b"staged" and bucket.get("g") == b"written after the refusal"


def test_a_mistake_changes_nothing(mount, folder, base):
    m = mount(merged(base, {"store a": local(folder, "a")}))
    good = conf_text(merged(base, {"store a": local(folder, "a")}))
    for bad, text in (("[store a]\nbackend = nosuch\n", "Unknown backend type: nosuch"),
                      (good + "[store b]\nbackend = local\nbase_paht = /tmp\n", "did you mean 'base_path'"),
                      (good + "[store a]\nbackend = memory\n", "already registered"),
                      (good + "[store b]\nbackend = local\nbase_path = /nope\ncreate_if_missing = no\n", "/nope")):
        m.conf.write_text(bad)
        hangup(m, "the keys stay as they are")
        line = [x for x in m.whole_log().splitlines() if "the keys stay as they are" in x][-1]
        assert text in line and (f"{m.conf}:" in line or "/nope" in text), line
        done = m.quayctl("reload", check=False)
        assert done.returncode in (1, 64) and text in done.stderr
        assert os.listdir(m.path) == ["a", ".load", ".quay"]
    (m / "a/f").write_bytes(b"x")
    m.conf.write_text(good)
    assert m.quayctl("reload").stdout == "nothing to do: 1 unchanged\n"


def test_add_and_remove_by_hand(mount, folder, base, bucket):
    m = mount(merged(base, {"store a": local(folder, "a")}))
    (folder / "x").mkdir()
    options = [f"{name}={value}" for name, value in bucket.store().items() if "secret" not in name]
    (folder / "secret").write_text(bucket.store()["secret_access_key"])
    (folder / "secret").chmod(0o600)
    m.quayctl("add", "s", *options, f"secret_access_key_file={folder}/secret")
    (m / "s/f").write_bytes(b"by hand")
    assert bucket.get("f") == b"by hand" and "s" in m.quayctl("keys").stdout.split()
    m.quayctl("add", "m", "type=memory")
    (m / "m/f").write_bytes(b"x")
    assert m.quayctl("reload").stdout == "nothing to do: 1 unchanged\n"  # those stay
    assert (m / "m/f").exists()
    for arguments, text in ((("s", "backend=memory"), "Backend key 's' is already registered."),
                            (("",), "Backend key must be a non-empty string."),
                            (("x/y", "backend=memory"), "it has a '/'"),
                            (("n", "bucket=b"), "Configuration must specify 'backend_type'"),
                            (("n",), "Configuration must specify 'backend_type'"),
                            (("n", "backend=papyrus"), "Unknown backend type: papyrus"),
                            (("n", "backend=s3", "bucket=b", "secret_access_key=x"), "can be read by others")):
        done = m.quayctl("add", *arguments, check=False)
        assert done.returncode == 1 and text in done.stderr, (arguments, done)
    m.quayctl("remove", "m")
    done = m.quayctl("remove", "m", check=False)
    assert done.returncode == 1 and "Backend key 'm' not found for unregistration." in done.stderr
    assert m.quayctl("remove", ".load", check=False).returncode == 1
    m.quayctl("remove", "a")
    assert m.quayctl("add", "a").returncode == 0  # as the configuration has it
    assert m.quayctl("add", "nothing=x", check=False).returncode != 0
    assert m.quayctl("add", "q", "x", check=False).returncode == 64


def test_without_auto_register_keys_come_by_hand(mount, folder, base):
    conf = merged(base, {"quayfs": {"auto_register": "no"}, "store a": local(folder, "a"),
                         "store b": local(folder, "b")})
    m = mount(conf)
    assert os.listdir(m.path) == [".load", ".quay"]
    m.quayctl("add", "b")
    (m / "b/f").write_bytes(b"x")
    assert m.quayctl("reload").stdout == "nothing to do: 1 unchanged\n"
    assert os.listdir(m.path) == [".load", "b", ".quay"]


def test_the_environment_of_the_configuration(mount, folder, base):
    """[store KEY@ENV] counts by --env, else QUAYFS_ENV, else environment = in [quayfs]."""
    (folder / "dev").mkdir()
    conf = merged(base, {"quayfs": {"environment": "dev"}, "store a": local(folder, "a"),
                         "store a@dev": {"base_path": folder / "dev"},
                         "store a@prod": {"base_path": folder / "prod"}})
    m = mount(conf)
    (m / "a/f").write_bytes(b"x")
    assert (folder / "dev/f").exists()
    m.stop()
    m = mount(conf, "--env", "prod")
    (m / "a/f").write_bytes(b"y")
    assert (folder / "prod/f").exists()
    m.rewrite(merged(conf, {"store b": local(folder, "b")}))
    m.quayctl("--env", "prod", "reload")
    (m / "a/g").write_bytes(b"y")  # still prod
    assert (folder / "prod/g").exists() and (m / "b").is_dir()


def test_changes_under_load(mount, folder, base):
    """Readers and writers of one key never see an error while another comes and goes."""
    m = mount(merged(base, {"store a": local(folder, "a"), "store b": local(folder, "b")}))
    (m / "a/f").write_bytes(pattern(1 << 20))
    stop, errors = threading.Event(), []

    def work(n):
        while not stop.is_set():
            try:
                (m / f"a/w{n}").write_bytes(bytes([n]) * 1000)
                assert (m / "a/f").read_bytes()[:10] == pattern(1 << 20)[:10]
                os.listdir(m.path)
            except OSError as error:
                errors.append(error)
            try:
                (m / f"b/w{n}").write_bytes(b"comes and goes")
                (m / f"b/w{n}").read_bytes()
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ESTALE, errno.EPERM):
                    errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    done = 0
    for _ in range(12):
        done += m.quayctl("remove", "b", check=False).returncode == 0
        m.quayctl("add", "b", check=False)
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors and done, errors[:5]
