"""quayctl cp, mv and sync: between keys, local directories and within one key."""

import json
import os
import signal
import subprocess

import pytest

from harness.data import pattern
from harness.tools import content, eventually, sample_tree, tree
from servers.azurite import Container
from servers.fakegcsserver import FakeGcsServer
from servers.minio import Bucket
from servers.proxy import Fault

MIB = 1024 * 1024


def summary(m, *arguments, check=True) -> dict:
    return json.loads(m.quayctl(*arguments, "--json", check=check).stdout)


def leftovers(top) -> list:
    return [p for p in top.rglob(".quaypart-*")]


@pytest.fixture
def both(mount, bucket, folder):
    """Keys `s` (S3), `l` (local) and `m` (memory), and a local tree."""
    (folder / "disk").mkdir()
    m = mount({"store s": bucket.store(), "store l": {"backend": "local", "base_path": folder / "disk"},
               "store m": {"backend": "memory"}})
    sample_tree(folder / "tree")
    return m


@pytest.mark.parametrize("where", ["s", "l", "m"])
def test_a_tree_goes_in_and_comes_out_the_same(both, folder, where):
    m = both
    done = m.quayctl("cp", "-r", folder / "tree", f"{where}:in/to/tree")
    assert "9 copied" in done.stdout and "0 failed" in done.stdout, done.stdout
    m.remount() if where != "m" else None
    m.quayctl("cp", "-r", f"{where}/in/to/tree", folder / "back")
    assert tree(folder / "back") == tree(folder / "tree")
    assert content(folder / "back") == content(folder / "tree")
    assert os.readlink(folder / "back/link") == "deep/text"
    assert (folder / "back/empty-dir").is_dir() and (folder / "back/script").stat().st_mode & 0o111
    for name in ("one", "deep/text", "script"):
        assert (folder / "back" / name).stat().st_mtime == (folder / "tree" / name).stat().st_mtime
    assert not leftovers(m.path) and not leftovers(folder / "back")
    again = summary(m, "cp", "-r", folder / "tree/", f"{where}:in/to/")  # into the directory: the same place
    assert again["copied_files"] == 0 and again["same_files"] == 9


def test_between_keys_with_attributes(both, bucket):
    m = both
    data = pattern(9 * MIB + 5)
    (m / "s/big").write_bytes(data)
    (m / "s/small").write_bytes(b"small")
    os.setxattr(m / "s/small", "user.colour", b"blue")
    m.quayctl("cp", "s:big", "s:small", "l:")
    assert (m / "l/big").read_bytes() == data
    assert os.getxattr(m / "l/small", "user.colour") == b"blue"
    m.quayctl("cp", "l/small", "s/renamed")
    assert bucket.get("renamed") == b"small" and os.getxattr(m / "s/renamed", "user.colour") == b"blue"


def test_within_a_key_the_store_copies(both, bucket):
    m = both
    data, other = pattern(3 * MIB), pattern(2 * MIB, seed=2)
    (m / "s/a").write_bytes(data)
    (m / "s/d").mkdir()
    (m / "s/d/old").write_bytes(other)
    os.setxattr(m / "s/a", "user.colour", b"red")
    assert (m / "s/d/old").read_bytes() == other  # in the kernel's pages now
    assert not (m / "s/d/new").exists()           # and this one known to be absent
    gets, puts = bucket.minio.count("GetObject"), bucket.minio.count("PutObject")
    done = summary(m, "cp", "s:a", "s:d/new")
    assert done["by_store_files"] == 1
    assert (m / "s/d/new").stat().st_size == len(data) and "new" in os.listdir(m / "s/d")
    assert summary(m, "cp", "s:a", str(m / "s/d/old"))["by_store_files"] == 1
    assert bucket.minio.count("GetObject") == gets and bucket.minio.count("PutObject") == puts
    assert (m / "s/d/old").read_bytes() == data and (m / "s/d/new").read_bytes() == data
    assert bucket.get("d/new") == data and os.getxattr(m / "s/d/new", "user.colour") == b"red"
    assert summary(m, "cp", "s:a", "s:d/new")["same_files"] == 1


@pytest.fixture(params=["s3", "gcs", "azure"])
def two_of_one(request, folder):
    """Two buckets (or containers) of one server: their sections, and for each what another client finds in it."""
    if request.param == "s3":
        places = [Bucket(request.getfixturevalue("minio")) for _ in range(2)]
        yield [place.store() for place in places], [place.get for place in places]
    elif request.param == "azure":
        places = [Container(request.getfixturevalue("azurite")) for _ in range(2)]
        yield [place.store() for place in places], [place.get for place in places]
    else:
        with FakeGcsServer(folder / "gcs") as server:
            for name in ("one", "two"):
                server.make_bucket(name)
            yield ([server.store(name) for name in ("one", "two")],
                   [lambda path, name=name: server.get(name, path) for name in ("one", "two")])


def test_between_two_keys_of_one_service_it_copies(mount, two_of_one):
    (one, two), (_, behind) = two_of_one
    m = mount({"store a": one, "store b": {**two, "base_path": "deep"}})
    data, other = pattern(3 * MIB), pattern(2 * MIB, seed=2)
    (m / "a/f").write_bytes(data)
    (m / "a/f").chmod(0o640)
    os.utime(m / "a/f", ns=(10**18, 1234567890123456789))
    os.setxattr(m / "a/f", "user.colour", b"red")
    (m / "b/old").write_bytes(other)
    assert (m / "b/old").read_bytes() == other  # in the kernel's pages now
    assert not (m / "b/new").exists()           # and this one known to be absent
    read, written = (m.metric(f"quayfs_backend_{way}_bytes_total") for way in ("read", "written"))
    assert summary(m, "cp", "a:f", "b:new")["by_store_files"] == 1
    assert summary(m, "cp", "a:f", "b:old")["by_store_files"] == 1
    assert m.metric("quayfs_backend_read_bytes_total") == read
    assert m.metric("quayfs_backend_written_bytes_total") == written
    for name in ("new", "old"):
        at = (m / "b" / name).stat()
        assert (at.st_size, at.st_mode & 0o777, at.st_mtime_ns) == (len(data), 0o640, 1234567890123456789)
        assert (m / "b" / name).read_bytes() == data == behind(f"deep/{name}")
        assert os.getxattr(m / "b" / name, "user.colour") == b"red"
    assert summary(m, "cp", "a:f", "b:new")["same_files"] == 1
    assert summary(m, "mv", "a:f", "b:moved")["by_store_files"] == 1
    assert behind("deep/moved") == data and not (m / "a/f").exists()


def test_what_is_staged_in_another_key_is_stored_before_it_is_copied(mount, minio):
    one, two = Bucket(minio), Bucket(minio)
    m = mount({"store a": one.store(write="back"), "store b": two.store()})
    writer = subprocess.Popen(["python3", "-c", WRITER, m / "a/f"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert writer.stdout.readline()
    assert summary(m, "cp", "a:f", "b:f")["by_store_files"] == 1
    assert two.get("f") == b"not closed yet"
    writer.communicate(b"\n")


def test_what_the_service_does_not_copy_goes_through_here(mount, minio, proxy):
    """Another server; and one that does not let the target's keys read the source."""
    one, two = Bucket(minio), Bucket(minio)
    m = mount({"store a": one.store(), "store b": two.store(), "store far": two.store(endpoint_url=proxy.endpoint),
               "store near": one.store(endpoint_url=proxy.endpoint)})
    (m / "a/f").write_bytes(b"content")
    done = summary(m, "cp", "a:f", "far:f")
    assert done["copied_files"] == 1 and done["by_store_files"] == 0 and two.get("f") == b"content"
    proxy.fault = Fault(status=403, only="^PUT .*partNumber", body="<Error><Code>AccessDenied</Code></Error>")
    done = summary(m, "cp", "near:f", "far:g")
    assert proxy.count("^PUT .*partNumber") and proxy.fault
    assert done["copied_files"] == 1 and done["by_store_files"] == 0 and two.get("g") == b"content"


WRITER = "import sys; f = open(sys.argv[1], 'wb', buffering=0); f.write(b'not closed yet'); print(flush=True); input()"


def test_what_is_staged_is_what_is_copied(both, bucket):
    """And what somebody is writing is not replaced. (Another process: a fork here would flush the file.)"""
    m = both
    writers = [subprocess.Popen(["python3", "-c", WRITER, m / f"s/{name}"], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE) for name in "fh"]
    for writer in writers:
        assert writer.stdout.readline()
    m.quayctl("cp", "s:f", "s:g")
    assert bucket.get("g") == b"not closed yet"
    done = m.quayctl("cp", "-f", "s:g", "s:h", check=False)
    assert done.returncode == 1 and "being written" in done.stderr, done
    for writer in writers:
        writer.communicate(b"\n")
    assert bucket.get("h") == b"not closed yet"


def test_a_move_removes_the_source_after_reading_the_copy_back(both, bucket, folder):
    m = both
    data = pattern(5 * MIB)
    (folder / "tree/five").write_bytes(data)
    before = content(folder / "tree")
    gets = bucket.minio.count("GetObject")
    done = m.quayctl("mv", folder / "tree", "s:moved")
    assert "10 moved" in done.stdout and not (folder / "tree").exists()
    assert content(m / "s/moved") == before and bucket.minio.count("GetObject") > gets
    copies = bucket.minio.count("PutObject")
    m.quayctl("mv", "s:moved/five", "s:five")  # a rename
    assert bucket.minio.count("PutObject") == copies and bucket.get("five") == data
    assert not (m / "s/moved/five").exists()


@pytest.mark.parametrize("fault", ["op=put,errno=EIO", "op=read,errno=EIO"])
def test_a_move_that_fails_keeps_the_source(mount, folder, bucket, fault):
    """Also when only the copy cannot be read back."""
    m = mount({"store s": bucket.store(fault=fault, retries=0)})
    (folder / "f").write_bytes(b"the only copy")
    done = m.quayctl("mv", folder / "f", "s:f", check=False)
    assert done.returncode == 1 and "1 failed" in done.stdout and "s/f" in done.stderr
    assert (folder / "f").read_bytes() == b"the only copy"
    assert not [k for k in bucket.keys() if "quaypart" in k]


def test_a_source_that_changes_meanwhile_is_not_removed(mount, folder, bucket, proxy):
    m = mount({"store s": bucket.store(endpoint_url=proxy.endpoint)})
    (folder / "f").write_bytes(b"old")
    proxy.fault = Fault(only="^PUT .*/f", delay=2, times=1)
    mover = subprocess.Popen([m.build / "ctl/quayctl", "-c", m.conf, "mv", folder / "f", "s:f"],
                             env=m.env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    eventually(lambda: proxy.count("^PUT .*/f"))
    (folder / "f").write_bytes(b"changed")
    out, text = mover.communicate(timeout=110)
    assert mover.returncode == 1 and "changed while it was copied" in text, out + text
    assert (folder / "f").read_bytes() == b"changed"


def test_a_copy_goes_on_where_it_stopped(both, folder, bucket):
    """The disk was full for a moment: at the sixth piece of 4 MiB."""
    m = both
    data = pattern(40 * MIB)
    (folder / "f").write_bytes(data)
    for key in ("l", "s"):
        m.env["QUAY_FAULT_SYS"] = "pwrite:28@6"
        done = m.quayctl("cp", folder / "f", f"{key}:f", check=False)
        del m.env["QUAY_FAULT_SYS"]
        assert done.returncode == 1 and "run it again" in done.stderr and "No space" in done.stderr
        assert not (m / key / "f").exists()
        (part,) = leftovers(m / key)
        assert part.read_bytes() == data[:20 * MIB]
        again = summary(m, "cp", "--checksum", folder / "f", f"{key}:f")
        assert again["resumed_bytes"] == 20 * MIB and again["copied_files"] == 1
        assert not leftovers(m / key)
    assert bucket.get("f") == data and (folder / "disk/f").read_bytes() == data


def test_a_copy_that_is_killed_goes_on(mount, folder, bucket):
    m = mount({"store s": bucket.store(read_bandwidth="24M"), "store l": {"backend": "local", "base_path": folder / "disk"}})
    data = pattern(64 * MIB)
    bucket.put("f", data)
    copier = subprocess.Popen([m.build / "ctl/quayctl", "-c", m.conf, "cp", "s:f", "l:f"], env=m.env,
                              stdout=subprocess.DEVNULL)
    eventually(lambda: any(p.stat().st_size >= 20 * MIB for p in leftovers(m / "l")))
    copier.kill()
    assert copier.wait() == -9 and not (m / "l/f").exists()
    again = summary(m, "cp", "--checksum", "s:f", "l:f")
    assert again["resumed_bytes"] >= 16 * MIB and again["copied_files"] == 1
    assert (folder / "disk/f").read_bytes() == data and not leftovers(folder / "disk")


def test_an_interrupt_stops_it_and_nothing_is_half_there(mount, folder, bucket, proxy):
    m = mount({"store s": bucket.store(endpoint_url=proxy.endpoint)})
    (folder / "many").mkdir()
    for n in range(40):
        (folder / f"many/{n}").write_bytes(pattern(5 * MIB, seed=n) if n < 4 else b"x" * n)
    proxy.fault = Fault(only="^PUT", delay=0.3)
    copier = subprocess.Popen([m.build / "ctl/quayctl", "-c", m.conf, "cp", "-r", "-p", "2",
                               folder / "many", "s:many"], env=m.env, stderr=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
    eventually(lambda: proxy.count("^PUT") > 3)
    copier.send_signal(signal.SIGINT)
    out, text = copier.communicate(timeout=110)
    assert copier.returncode == 130 and "interrupted" in out, out + text
    proxy.fault = None
    for path in (m / "s/many").iterdir():
        if not path.name.startswith(".quaypart-"):
            assert path.read_bytes() == (folder / "many" / path.name).read_bytes()
    done = summary(m, "cp", "-r", folder / "many/", "s:")
    assert done["copied_files"] + done["same_files"] == 40 and done["failed"] == 0
    assert content(m / "s/many") == content(folder / "many")


def test_sync_with_rules_and_deletion(both, folder):
    m = both
    (m / "l/there").mkdir()
    (m / "l/there/extra").write_bytes(b"x")
    (m / "l/there/extra.keep").write_bytes(b"x")
    (m / "l/there/old/deep").mkdir(parents=True)
    (m / "l/there/old/deep/f").write_bytes(b"x")
    rules = ("--exclude", "*.keep", "--exclude", "/deep/er", "--delete")
    said = m.quayctl("sync", "-n", *rules, folder / "tree", "l:there").stdout
    assert f"copy {folder}/tree/one -> {m.path}/l/there/one" in said
    assert f"delete {m.path}/l/there/old/deep/f" in said and "extra.keep" not in said
    assert sorted(os.listdir(m / "l/there")) == ["extra", "extra.keep", "old"]
    done = summary(m, "sync", *rules, folder / "tree", "l:there")
    assert done["deleted_files"] == 2 and done["failed"] == 0
    assert not (m / "l/there/old").exists() and (m / "l/there/extra.keep").exists()
    assert (m / "l/there/deep/text").exists() and not (m / "l/there/deep/er").exists()
    only = summary(m, "sync", "--pattern", "text", folder / "tree", "m:only")
    assert only["copied_files"] == 1 and content(m / "m/only").keys() == {"deep/text"}
    assert not (m / "m/only/empty-dir").exists()


def test_sync_sees_what_has_changed_and_deletes_nothing_after_a_failure(mount, folder):
    for name in ("a", "b"):
        (folder / name).mkdir()
    (folder / "a/f").write_bytes(b"one")
    (folder / "a/bad").write_bytes(b"bad")
    (folder / "b/extra").write_bytes(b"x")
    m = mount({"store b": {"backend": "local", "base_path": folder / "b", "retries": 0,
                           "fault": "op=put,key=bad*,errno=EIO"}})
    done = m.quayctl("sync", "--delete", folder / "a", "b:", check=False)
    assert done.returncode == 1 and "nothing is deleted" in done.stderr
    assert (m / "b/extra").exists() and (m / "b/f").read_bytes() == b"one"
    (folder / "a/bad").unlink()
    (folder / "a/f").write_bytes(b"two")
    os.utime(folder / "a/f", (1, 1))
    assert summary(m, "sync", "--delete", folder / "a", "b:")["copied_files"] == 1
    assert (m / "b/f").read_bytes() == b"two" and not (m / "b/extra").exists()
    (folder / "b/f").write_bytes(b"TWO")  # the same size and time, other bytes
    os.utime(folder / "b/f", (1, 1))
    assert summary(m, "sync", folder / "a", "b:")["copied_files"] == 0
    assert summary(m, "sync", "--checksum", folder / "a", "b:")["copied_files"] == 1
    assert (folder / "b/f").read_bytes() == b"two"


def test_what_is_refused(both, folder):
    m = both
    (m / "s/d").mkdir()
    (m / "s/d/f").write_bytes(b"x")
    for arguments, text in ((("cp", "s:d", "l:x"), "-r copies directories"),
                            (("cp", "-r", "s:d", "s:d/e"), "into itself"),
                            (("cp", "s:d/f", "s:d/f"), "into itself"),
                            (("cp", "s:nothing", "l:x"), "No such file"),
                            (("cp", folder / "tree/one", "s:d/f/x"), "ot a directory")):
        done = m.quayctl(*arguments, check=False)
        assert done.returncode == 1 and text in done.stderr, (arguments, done)
    for arguments in (("cp", "s:d"), ("cp", "--delete", "a", "b"), ("sync", "a", "b", "c"),
                      ("cp", "-p", "0", "a", "b"), ("mv", "--nope", "a", "b")):
        assert m.quayctl(*arguments, check=False).returncode == 64, arguments
    m.stop()
    done = m.quayctl("cp", folder / "tree/one", "s:x", check=False)
    assert done.returncode == 2 and "not running" in done.stderr
