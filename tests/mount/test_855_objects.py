"""quayctl ls, stat, path, cat, get, put, rm: objects from the command line."""

import errno
import json
import os
import subprocess

import pytest

from harness.data import pattern

MIB = 1024 * 1024
NAMES = ["a.txt", "a/b.csv", "a/c/d.tar.gz", "a/c/e", "ab/f.csv", "z"]


@pytest.fixture
def filled(mount, bucket):
    m = mount({"store s": bucket.store(), "store m": {"backend": "memory"}})
    for name in NAMES:
        for key in "sm":
            (m / key / name).parent.mkdir(parents=True, exist_ok=True)
            (m / key / name).write_text(f"content of {name}")
    return m


def lines(m, *arguments) -> list[str]:
    return m.quayctl(*arguments).stdout.splitlines()


@pytest.mark.parametrize("where", ["s", "m"])
def test_ls(filled, where):
    m = filled
    assert lines(m, "ls", where) == ["a.txt", "a/", "ab/", "z"]
    assert lines(m, "ls", "-R", where) == NAMES  # the order of the keys
    assert lines(m, "ls", f"{where}:a/c/") == ["a/c/d.tar.gz", "a/c/e"]
    assert lines(m, "ls", m / where / "a/c") == ["a/c/d.tar.gz", "a/c/e"]
    assert lines(m, "ls", where, "--prefix", "a") == NAMES[:-1]
    assert lines(m, "ls", where, "--prefix", "a/c/d") == ["a/c/d.tar.gz"]
    assert lines(m, "ls", f"{where}/a", "--prefix", "c/") == ["a/c/d.tar.gz", "a/c/e"]
    assert lines(m, "ls", where, "--prefix", "no") == []
    assert lines(m, "ls", "-R", where, "--pattern", "*.csv") == ["a/b.csv", "ab/f.csv"]
    assert lines(m, "ls", "-R", where, "--pattern", "a/*") == ["a/b.csv"]
    assert lines(m, "ls", "-R", where, "--pattern", "a/**") == NAMES[1:4]
    assert lines(m, "ls", "-R", "--stem", where) == ["a", "a/b", "a/c/d.tar", "a/c/e", "ab/f", "z"]
    size, when, name = lines(m, "ls", "-l", f"{where}:z")[0].split()
    assert (size, name) == ("12", "z") and when.endswith("Z")
    rows = [json.loads(line) for line in lines(m, "ls", "--json", where)]
    assert [(r["path"], r["kind"]) for r in rows] == [("a.txt", "file"), ("a/", "directory"), ("ab/", "directory"), ("z", "file")]
    assert rows[0]["size"] == len("content of a.txt")


def test_what_is_not_there(filled):
    m = filled
    for command in (["ls", "s:no"], ["stat", "s:no"], ["cat", "s:no"], ["get", "s:no", "-"], ["rm", "s:no"]):
        done = m.quayctl(*command, check=False)
        assert done.returncode == 1 and "No such file or directory" in done.stderr, done
    assert m.quayctl("rm", "-f", "s:no").returncode == 0
    for command in (["ls"], ["stat"], ["cat"], ["get"], ["put", "x"], ["rm"], ["path"], ["put", "-", "s:"], ["ls", "--what", "s"]):
        assert m.quayctl(*command, check=False, input="").returncode == 64


def test_stat_and_path(filled, bucket):
    m = filled
    told = json.loads(m.quayctl("stat", "--json", "s:a/b.csv").stdout)
    assert told["size"] == 18 and told["key"] == "s" and told["path"] == "a/b.csv" and told["kind"] == "file"
    assert told["etag"] == os.getxattr(m / "s/a/b.csv", "user.etag").decode() and told["backend_type"] == "s3"
    assert told["uri"].startswith("s3://") and told["uri"].endswith("/a/b.csv")
    assert "size           18" in lines(m, "stat", "s:a/b.csv")
    assert lines(m, "path", "s:a/c/d.tar.gz") == [str(m / "s/a/c/d.tar.gz")]
    assert lines(m, "path", "--uri", "s:a/b.csv") == [told["uri"]]
    assert lines(m, "path", "--name", "s:a/c/d.tar.gz") == ["d.tar.gz"]
    assert lines(m, "path", "--stem", "s:a/c/d.tar.gz") == ["d.tar"]
    assert lines(m, "path", "--suffix", "s:a/c/d.tar.gz") == [".gz"]
    assert lines(m, "path", "--parent", m / "s/a/c/e") == ["a/c"]
    assert lines(m, "path", "--object", m / "s/a/c/e") == ["a/c/e"]


def test_a_signed_url_as_an_attribute(filled):
    m = filled
    url = os.getxattr(m / "s/a/b.csv", "user.quay.signed_url").decode()
    assert subprocess.run(["curl", "-sf", url], capture_output=True, check=True).stdout == b"content of a/b.csv"
    with pytest.raises(OSError) as e:
        os.getxattr(m / "m/z", "user.quay.signed_url")
    assert e.value.strerror == "Operation not supported"
    assert "user.quay.signed_url" not in os.listxattr(m / "s/a/b.csv")


REFUSED = "Signed URL generation not supported by this backend"


def test_ways_to_say_what_is_signed(filled, folder):
    m = filled
    for path in ("s:a/b.csv", "s/a/b.csv", str(m / "s/a/b.csv")):
        url = m.quayctl("sign", path).stdout.strip()
        assert subprocess.run(["curl", "-sf", url], capture_output=True, check=True).stdout == b"content of a/b.csv"
    url = m.quayctl("sign", "--upload", "--expires", "60", "s:by/url").stdout.strip()
    (folder / "f").write_bytes(b"by url")
    subprocess.run(["curl", "-sf", "-T", folder / "f", url], check=True)
    assert (m / "s/by/url").read_bytes() == b"by url"
    for wrong in (["s:"], ["s:a/"], ["s:f", "--expires", "604801"], ["s:f", "--op", "delete"], []):
        assert m.quayctl("sign", *wrong, check=False).returncode == 64, wrong


def test_signing_is_refused_elsewhere(mount, folder, sshd, postgres, mariadb):
    """In exactly these words (requirement 0.16), by the attribute and by quayctl."""
    (folder / "l").mkdir()
    (sshd.data / folder.name).mkdir()
    database = {"host": "127.0.0.1", "user": postgres.server.user, "password": postgres.server.password}
    m = mount({"store local": {"backend": "local", "base_path": folder / "l"}, "store memory": {"backend": "memory"},
               "store sqlite": {"backend": "sqlite", "path": folder / "x.db"}, "store sftp": sshd.store(folder.name),
               "store postgres": {"backend": "postgres", "port": postgres.server.port, "dbname": postgres.name, **database},
               "store mysql": {"backend": "mysql", "port": mariadb.server.port, "dbname": mariadb.name, **database,
                               "user": mariadb.server.user, "password": mariadb.server.password}})
    for key in ("local", "memory", "sqlite", "sftp", "postgres", "mysql"):
        (m / key / "f").write_bytes(b"x")
        for way in ("read", "write"):
            done = m.quayctl("sign", f"{key}:f", "--op", way, check=False)
            assert (done.returncode, done.stdout, done.stderr) == (1, "", f"quayctl: {REFUSED}\n"), key
        with pytest.raises(OSError) as e:
            os.getxattr(m / key / "f", "user.quay.signed_url")
        assert e.value.errno == errno.EOPNOTSUPP


@pytest.mark.parametrize("where", ["s", "m"])
def test_put_and_get(filled, folder, where):
    m, data = filled, pattern(9 * MIB + 1)
    (folder / "in").write_bytes(data)
    m.quayctl("put", folder / "in", f"{where}:new/dir/file")
    assert (m / where / "new/dir/file").read_bytes() == data
    m.quayctl("get", f"{where}:new/dir/file", folder / "out")
    assert (folder / "out").read_bytes() == data
    with open(folder / "in", "rb") as pipe:
        m.quayctl("put", "-", f"{where}:piped/x", stdin=pipe)
    with open(folder / "out2", "wb") as pipe:
        m.quayctl("get", f"{where}:piped/x", "-", stdout=pipe)
    assert (folder / "out2").read_bytes() == data
    assert sorted(os.listdir(m / where / "piped")) == ["x"]
    m.quayctl("put", "-", f"{where}:piped/x", input="")  # replaced by nothing at all
    assert (m / where / "piped/x").read_bytes() == b""


def test_text_in_other_encodings(filled):
    m = filled
    m.quayctl("put", "-e", "LATIN1", "-", "s:latin", input="caf\u00e9\n")
    assert (m / "s/latin").read_bytes() == b"caf\xe9\n"
    assert m.quayctl("cat", "-e", "LATIN1", "s:latin").stdout == "caf\u00e9\n"
    bad = m.quayctl("cat", "--encoding", "UTF-8", "s:latin", check=False)
    assert bad.returncode == 1 and "not UTF-8 text" in bad.stderr
    bad = m.quayctl("put", "-e", "ASCII", "-", "s:bad", input="caf\u00e9\n", check=False)
    assert bad.returncode == 1 and "not ASCII text" in bad.stderr and not (m / "s/bad").exists()
    assert not [n for n in os.listdir(m / "s") if n.startswith(".quaypart")]
    assert m.quayctl("cat", "-e", "no-such", "s:latin", check=False).returncode == 64


@pytest.mark.parametrize("where", ["s", "m"])
def test_rm(filled, where):
    m = filled
    refused = m.quayctl("rm", f"{where}:a", check=False)
    assert refused.returncode == 1 and "Is a directory" in refused.stderr
    assert lines(m, "rm", "-r", f"{where}:a") == ["3 removed, 0 failed"]
    assert lines(m, "ls", "-R", where) == ["a.txt", "ab/f.csv", "z"]
    assert not (m / where / "a").exists()
    m.quayctl("rm", f"{where}:z", m / where / "a.txt", "-q")
    assert lines(m, "rm", "-r", where) == ["1 removed, 0 failed"]
    assert os.listdir(m / where) == []
