"""Wrong configuration: FILE:LINE, what is wrong, the nearest known name; nothing is mounted."""

import errno
import json
import os
import re

import pytest

from harness.mount import is_mounted
from harness.tools import call, eventually, fails_with

GOOD = "[store lake]\nbackend = memory\n"

# name -> (text, line of the error, words that the message must hold)
WRONG = {
    "unknown section": ("[stoer lake]\nbackend = memory\n", 1, ["stoer", "store"]),
    "unknown key": ("[store lake]\nbackend = s3\nbukcet = b\n", 3, ["bukcet", "bucket"]),
    "unknown key in [cache]": (GOOD + "[cache]\nmax_szie = 1G\n", 4, ["max_szie", "max_size"]),
    "unknown key in [quayfs]": (GOOD + "[quayfs]\nlog_levle = info\n", 4, ["log_levle", "log_level"]),
    "unknown backend": ("[store lake]\nbackend = s4\n", 2, ["Unknown backend type: s4"]),
    "missing backend": ("[store lake]\nbase_path = /tmp\n", 1, ["Configuration must specify 'backend_type'"]),
    "duplicate key": ("[store lake]\nbackend = memory\nbackend = memory\n", 3, ["backend"]),
    "duplicate section": (GOOD + GOOD, 3, ["Backend key 'lake' is already registered."]),
    "bad size": (GOOD + "[cache]\nmax_size = 20Gx\n", 4, ["20Gx"]),
    "bad duration": ("[store lake]\nbackend = memory\ncache.ttl = 5x\n", 3, ["5x"]),
    "bad boolean": ("[store lake]\nbackend = memory\nread_only = maybe\n", 3, ["maybe"]),
    "bad level": (GOOD + "[quayfs]\nlog_level = loud\n", 4, ["loud"]),
    "no name": ("[store]\nbackend = memory\n", 1, ["Backend key must be a non-empty string."]),
    "slash in a name": ("[store a/b]\nbackend = memory\n", 1, ["a/b"]),
    "reserved name": ("[store .quay]\nbackend = memory\n", 1, [".quay"]),
    "dots": ("[store ..]\nbackend = memory\n", 1, [".."]),
    "no section": ("backend = memory\n", 1, []),
    "no equals sign": ("[store lake]\nbackend memory\n", 2, []),
    "missing bucket": ("[store lake]\nbackend = s3\n", 1, ["bucket"]),
    "bad endpoint": ("[store lake]\nbackend = s3\nbucket = bucket\nendpoint_url = not a url\n", 4, ["endpoint_url"]),
    "two spellings": ("[store lake]\nbackend = s3\nbucket = bucket\nbucket_name = other\n", 4, ["bucket"]),
    "fsspec without protocol": ("[store lake]\nbackend_type = fsspec\n", 2, ["backend_type = fsspec needs 'protocol'"]),
    "obstore of nothing": ("[store lake]\nbackend_type = obstore\n", 2, ["needs 'scheme' or 'uri'"]),
    "two spellings of the ttl": (GOOD + "ttl_seconds = 5\ncache_expiry_hours = 1\n", 4, ["cache_expiry_hours", "line 3 says the same"]),
    "unknown driver": (GOOD + "[database dw]\ndriver = orcale\ndsn = x\n", 4, ["orcale"]),
    "unknown key in [database]": (GOOD + "[database dw]\ndriver = sqlite\ndsm = x\n", 5, ["dsm", "dsn"]),
    "not in this version": (GOOD + "[quayfs]\nmetrics_listen = :9100\n", 4, ["not supported", ".quay/metrics"]),
    "queue of several hosts": (GOOD + "[loader]\nqueue = dw\n", 4, ["queue = dw", "local"]),
    "memory of the loader": (GOOD + "[loader]\nmemory = 64M\n", 4, ["memory in [loader] is not supported", "workers"]),
    "unknown key in [loader]": (GOOD + "[loader]\nspol = /tmp/x\n", 4, ["spol", "spool"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_refused(build_dir, tmp_path, name):
    text, line, words = WRONG[name]
    conf = tmp_path / "quayfs.conf"
    conf.write_text(text)
    (tmp_path / "mnt").mkdir()
    done = call(build_dir / "fs/quayfs", "-f", "-c", conf, tmp_path / "mnt")
    assert done.returncode != 0
    assert not is_mounted(tmp_path / "mnt")
    assert re.search(rf"quayfs\.conf:{line}\b", done.stderr), done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


@pytest.mark.parametrize("program", ["loader/quayload", "ctl/quayctl"])
def test_the_other_programs_say_the_same(build_dir, tmp_path, program):
    conf = tmp_path / "quayfs.conf"
    conf.write_text("[store lake]\nbackend = s3\nbukcet = b\n")
    arguments = ["-f", "-c", conf] if "load" in program else ["-c", conf, "keys"]
    done = call(build_dir / program, *arguments)
    assert done.returncode != 0
    assert "quayfs.conf:3" in done.stderr and "bucket" in done.stderr


def test_aliases_of_requirements(mount, bucket):
    """The spellings of the documents that this project follows are accepted."""
    m = mount({"store k": {"backend_type": "s3", "bucket_name": bucket.name, "base_path": "data",
                           "endpoint_url": bucket.minio.endpoint, "region": "us-east-1",
                           "aws_access_key_id": bucket.minio.user,
                           "aws_secret_access_key": bucket.minio.password,
                           "ttl_seconds": "30"}})
    (m / "k/f").write_bytes(b"x")
    assert bucket.get("data/f") == b"x"


def test_names_of_libraries(mount, bucket, folder):
    """fsspec's and obstore's words for a store mean the backend that there is."""
    server = bucket.minio
    m = mount({"store o": {"backend_type": "obstore", "scheme": "s3", "bucket": bucket.name, "endpoint_url": server.endpoint,
                           "region_name": "us-east-1", "key": server.user, "secret": server.password},
               "store s": {"backend_type": "fsspec", "protocol": "s3", "base_path": f"{bucket.name}/s/",
                           "endpoint_url": server.endpoint, "key": server.user, "secret": server.password},
               "store f": {"backend_type": "fsspec", "protocol": "file", "base_path": folder / "files"},
               "store m": {"type": "fsspec", "protocol": "memory"}})
    for key, backend in (("o", "s3"), ("s", "s3"), ("f", "local"), ("m", "memory")):
        (m / key / "f").write_text(key)
        assert os.getxattr(m / key / "f", "user.quay.backend_type").decode() == backend
        assert os.getxattr(m / key, "user.quay.backend_type").decode() == backend
    assert bucket.get("f") == b"o" and bucket.get("s/f") == b"s" and (folder / "files/f").read_text() == "f"


def test_names_of_the_cache(mount, bucket):
    """cache_expiry_hours = 0 is for ever; ttl_seconds may be a fraction; sizes in MiB."""
    m = mount({"store ever": bucket.store(cache_expiry_hours="0", max_retries="2"),
               "store short": bucket.store(ttl_seconds="0.1", cache_enabled="no")}, "-o", "cache.max_cache_size_mb=700")
    assert os.listdir(m / "ever") == os.listdir(m / "short") == []
    bucket.put("f", b"x" * 100_000)
    eventually(lambda: os.listdir(m / "short") == ["f"])
    assert os.listdir(m / "ever") == []
    assert json.loads(m.quayctl("cache", "stats", "--json").stdout)["max_size"] == 700 << 20
    assert (m / "short/f").read_bytes() == b"x" * 100_000
    assert json.loads(m.quayctl("cache", "stats", "short", "--json").stdout)["blocks"] == 0


def test_local_directories(mount, folder):
    """Made when they are missing, unless create_if_missing = no: then the key is there, and says why it does not work."""
    m = mount({"store made": {"backend": "local", "base_path": folder / "a/b"},
               "store not": {"backend": "local", "base_path": folder / "c/d", "create_if_missing": "false"}})
    (m / "made/f").write_text("x")
    assert (folder / "a/b/f").read_text() == "x" and not (folder / "c").exists()
    with fails_with(errno.EIO):
        os.listdir(m / "not")
    assert "create_if_missing" in m.health()["keys"]["not"]["error"]


def test_auto_connect_no_waits_for_the_first_access(mount, sshd, folder):
    (sshd.data / folder.name).mkdir()
    (sshd.data / folder.name / "f").write_text("x")
    logins = lambda: sshd.log.read_text().count("Accepted publickey")  # noqa: E731
    before = logins()
    store = {**sshd.store(folder.name), "auto_connect": "false"}
    store["remote_base_dir"] = store.pop("base_path")
    m = mount({"store k": store})
    assert m.quayctl("keys").stdout == "k\n" and logins() == before
    assert (m / "k/f").read_text() == "x" and logins() > before


def test_quoted_and_dotted_section_names(mount, folder):
    m = mount(f'[cache]\ndir = {folder}/cache\n[loader]\nspool = {folder}/load\n'
              f'[store "one"]\nbackend = memory\n[store.two]\nbackend = memory\n'
              f'[storage.three]\nbackend_type = memory\n')
    for name in ("one", "two", "three"):
        (m / name / "f").write_bytes(b"x")


def test_comments_and_blank_lines(mount, folder):
    m = mount(f"# a comment\n; another\n\n[cache]\ndir = {folder}/cache\n[loader]\nspool = {folder}/load\n"
              "[store k]   \nbackend   =   memory  \n")
    assert (m / "k").is_dir()
