"""quayctl cp, mv and sync where two places are one file: it is told, and the file stays."""

import errno
import json
import os
import subprocess

import pytest

from harness.data import pattern
from servers.minio import Bucket
from servers.proxy import Fault

MIB = 1024 * 1024


def refused(m, *arguments, text="are the same "):
    done = m.quayctl(*arguments, check=False)
    assert done.returncode == 1 and text in done.stderr and "failed" in done.stdout, (arguments, done)


def summary(m, *arguments) -> dict:
    return json.loads(m.quayctl(*arguments, "--json").stdout)


@pytest.fixture
def disk(folder):
    top = folder / "disk"
    (top / "proj/deep").mkdir(parents=True)
    (top / "proj/x").write_bytes(b"the only one")
    (top / "proj/big").write_bytes(pattern(5 * MIB))
    (top / "proj/deep/y").write_bytes(b"y")
    return top


def everything(top) -> dict:
    return {str(p.relative_to(top)): p.read_bytes() for p in top.rglob("*") if p.is_file()}


@pytest.fixture
def nested(mount, disk, folder):
    """One directory under another, and the same by a symbolic link."""
    (folder / "link").symlink_to(disk / "proj")
    local = {"backend": "local"}
    return mount({"store all": {**local, "base_path": disk}, "store proj": {**local, "base_path": disk / "proj"},
                  "store link": {**local, "base_path": folder / "link"},
                  "store else": {**local, "base_path": folder / "else"}})


@pytest.mark.parametrize("command", [("mv",), ("mv", "-f"), ("mv", "--checksum"), ("cp",), ("cp", "-f")])
def test_one_local_file_in_two_keys(nested, disk, command):
    m, before = nested, everything(disk)
    for a, b in (("all:proj/x", "proj:x"), ("proj:x", "all:proj/x"), ("proj:x", "link:x"), ("link:big", "all:proj/"),
                 (disk / "proj/x", "proj:x"), ("proj:big", disk / "proj/big"), ("link:x", disk / "proj/")):
        refused(m, *command, a, b)
        assert everything(disk) == before, (a, b)


def test_mv_of_one_file_in_two_keys(nested, disk):
    """rename(2) is EXDEV between two keys, and mv(1) then begins with the removal of its target."""
    m, before = nested, everything(disk)
    for a, b in (("all/proj/x", "proj/x"), ("proj/x", "all/proj/x"), ("link/big", "all/proj/big"),
                 ("all/proj/deep", "proj/deep/z")):
        done = subprocess.run(["mv", m / a, m / b], capture_output=True, text=True, check=False)
        said = "to a subdirectory of itself" if a.endswith("deep") else "Operation not permitted"
        assert done.returncode == 1 and said in done.stderr, (a, b, done)
        assert everything(disk) == before, (a, b)
    subprocess.run(["mv", m / "all/proj/x", m / "proj/z"], check=True)
    assert (disk / "proj/z").read_bytes() == b"the only one" and not (disk / "proj/x").exists()


def test_one_local_directory_in_two_keys(nested, disk):
    m, before = nested, everything(disk)
    for a, b in (("all:proj", "proj:"), ("proj:", "all:"), ("proj:deep", "all:proj/deep"), ("all:proj/", "proj:deep"),
                 (disk, "all:"), ("all:", disk / "proj"), ("link:deep", "proj:")):
        refused(m, "mv", "--include", "*", a, b, text="")
        refused(m, "sync", "--delete", a, b, text="are the same" if a == "proj:deep" else "")
        assert everything(disk) == before, (a, b)


def test_one_file_by_two_names_of_the_disk(mount, disk):
    """A hard link, as a bind mount: no path tells."""
    (disk / "other").mkdir()
    os.link(disk / "proj/x", disk / "other/x")
    local = {"backend": "local"}
    m = mount({"store a": {**local, "base_path": disk / "proj"}, "store b": {**local, "base_path": disk / "other"}})
    refused(m, "mv", "a:x", "b:x")
    refused(m, "mv", "a:x", disk / "other/x")
    refused(m, "mv", disk / "proj/x", "b:x")
    assert (disk / "other/x").read_bytes() == (disk / "proj/x").read_bytes() == b"the only one"


def test_moves_between_other_directories_go_on(nested, disk, folder):
    m, before = nested, everything(disk)
    m.quayctl("cp", "-r", "all:proj", "else:proj")
    assert summary(m, "mv", "all:proj/x", "else:proj/x")["same_files"] == 1  # copied before: only removed
    assert not (disk / "proj/x").exists()
    m.quayctl("mv", "link:big", "link:deep", "else:proj")
    assert everything(folder / "else") == before and not everything(disk)
    m.quayctl("mv", "else:proj/x", "all:proj/z")
    assert everything(disk) == {"proj/z": b"the only one"}


@pytest.mark.parametrize("command", [("mv",), ("mv", "-f"), ("cp",), ("cp", "-f"), ("mv", "--include", "*"), ("sync",)])
def test_one_object_in_two_keys(mount, minio, command):
    """By a prefix, by another name of the server, and with what one of them does not see of its times."""
    bucket = Bucket(minio)
    alias = minio.endpoint.replace("127.0.0.1", "localhost") + "/"
    m = mount({"store all": bucket.store(), "store proj": bucket.store(base_path="proj"),
               "store alias": bucket.store(endpoint_url=alias),
               "store plain": bucket.store(base_path="proj", posix="no")})
    (m / "all/proj").mkdir()
    (m / "all/proj/x").write_bytes(b"the only one")
    (m / "all/proj/big").write_bytes(pattern(5 * MIB))
    os.utime(m / "all/proj/x", (1, 1))
    for a, b in (("all:proj/x", "proj:x"), ("proj:big", "all:proj/big"), ("all:proj/x", "plain:x"),
                 ("alias:proj/x", "proj:x"), ("plain:big", "alias:proj/big")):
        if command == ("sync",):
            a, b = a.removesuffix("x").removesuffix("big"), b.removesuffix("x").removesuffix("big")
        refused(m, *command, a, b)
        if a.endswith(("x", "big")):
            with pytest.raises(OSError) as told:
                os.rename(m / a.replace(":", "/"), m / b.replace(":", "/"))
            assert told.value.errno == errno.EPERM
        assert bucket.get("proj/x") == b"the only one" and bucket.get("proj/big") == pattern(5 * MIB), (a, b)


def test_one_file_of_a_server_in_two_keys(mount, sshd, place):
    (place / "proj").mkdir()
    (place / "proj/x").write_bytes(b"the only one")
    quick = {"connection_timeout": "30s"}
    m = mount({"store all": sshd.store(place.name, **quick), "store proj": sshd.store(f"{place.name}/proj", **quick)})
    for a, b in (("all:proj/x", "proj:x"), ("proj:x", "all:proj/"), ("all:proj", "proj:y")):
        refused(m, "mv", "-f", a, b, text="")
        assert (place / "proj/x").read_bytes() == b"the only one", (a, b)
    m.quayctl("mv", "all:proj/x", "proj:y")
    assert everything(place) == {"proj/y": b"the only one"}


def test_what_another_name_of_the_server_does_not_have_is_moved(mount, minio):
    """Only what cannot be told apart is kept: not another object, nor one that is not there."""
    one, two = Bucket(minio), Bucket(minio)
    alias = minio.endpoint.replace("127.0.0.1", "localhost")
    m = mount({"store a": one.store(), "store b": two.store(endpoint_url=alias),
               "store c": one.store(endpoint_url=alias, base_path="copy")})
    for name in ("x", "y"):
        (m / "a" / name).write_bytes(name.encode())
    m.quayctl("cp", "a:x", "b:x")
    assert summary(m, "mv", "a:x", "b:x")["same_files"] == 1
    m.quayctl("mv", "a:y", "c:y")
    assert one.keys() == ["copy/y"] and two.get("x") == b"x"


@pytest.mark.parametrize("status, code", [(404, "NoSuchKey"), (412, "PreconditionFailed"), (400, "InvalidRequest")])
def test_a_source_that_the_targets_keys_do_not_see_goes_through_here(mount, minio, proxy, status, code):
    one, two = Bucket(minio), Bucket(minio)
    m = mount({f"store {name}": bucket.store(endpoint_url=proxy.endpoint) for name, bucket in (("a", one), ("b", two))})
    (m / "a/f").write_bytes(b"content")
    proxy.fault = Fault(status=status, only="^PUT .*partNumber", body=f"<Error><Code>{code}</Code></Error>")
    done = summary(m, "cp", "a:f", "b:f")
    assert proxy.count("^PUT .*partNumber")
    assert done["copied_files"] == 1 and done["by_store_files"] == 0 and two.get("f") == b"content"
