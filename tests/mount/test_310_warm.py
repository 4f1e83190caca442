"""quayctl warm, evict, pin and cache verify: what is in the disk cache, by request."""

import errno
import json
import os
import signal
import subprocess
import time

import pytest

from harness.data import pattern
from harness.tools import call, eventually, fails_with, run
from servers.proxy import Fault

MIB = 1024 * 1024


def cold_read(m, name: str) -> bytes:
    """Not from the kernel's pages."""
    run("bash", "-c", "sync; echo 1 > /proc/sys/vm/drop_caches 2>/dev/null || true")
    return (m / name).read_bytes()


def block_files(folder):
    return [p for p in (folder / "cache/blocks").rglob("*") if p.is_file()]


def flip(path, offset: int) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 0x40]))


def pins(m) -> list[dict]:
    return json.loads(m.quayctl("pins", "--json").stdout)


def summary(m, *arguments, check=True) -> dict:
    return json.loads(m.quayctl(*arguments, "--json", check=check).stdout)


@pytest.fixture
def tree(bucket) -> dict[str, bytes]:
    """Of some files, one of several parts, one empty."""
    files = {"d/a": pattern(3 * MIB + 5, seed=1), "d/e/b": pattern(MIB, seed=2),
             "d/e/c.csv": pattern(20_000, seed=3), "d/empty": b"", "d2/other": pattern(4096, seed=4),
             "top.csv": pattern(70_000, seed=5)}
    for name, data in files.items():
        bucket.put(name, data)
    return files


# ---- warm ----

def test_warmed_files_are_read_without_a_get(mount, bucket, tree):
    m = mount({"store k": bucket.store()})
    done = m.quayctl("warm", "k:d")
    assert "4 files" in done.stdout and "0 failed" in done.stdout
    before = bucket.minio.count("GetObject")
    for name in ("d/a", "d/e/b", "d/e/c.csv", "d/empty"):
        assert (m / "k" / name).read_bytes() == tree[name]
    assert bucket.minio.count("GetObject") == before
    assert (m / "k/d2/other").read_bytes() == tree["d2/other"]
    assert bucket.minio.count("GetObject") > before  # that one was not asked for
    again = summary(m, "warm", "k:d")
    assert again["cached_files"] == 4 and again["fetched_bytes"] == 0


def test_ways_to_say_a_path(mount, bucket, tree):
    m = mount({"store k": bucket.store()})
    assert summary(m, "warm", str(m / "k/d/e"))["files"] == 2
    assert summary(m, "warm", str(m.path) + "/./k//d/../d2/other")["files"] == 1
    assert summary(m, "warm", "k/d/e/b")["cached_files"] == 1
    assert summary(m, "warm", "k:")["files"] == 6
    inside = subprocess.run([str(m.build / "ctl/quayctl"), "-c", str(m.conf), "warm", "--json", "e", "./a"],
                            cwd=m / "k/d", env=m.env, stdout=subprocess.PIPE, text=True, check=True)
    assert json.loads(inside.stdout)["files"] == 3
    for wrong in ("nokey:d", "/tmp", str(m.path), "k:nothing", str(m / ".quay/keys")):
        done = m.quayctl("warm", wrong, check=False)
        assert done.returncode == 1 and done.stderr.startswith("quayctl: "), done.stderr


def test_patterns(mount, bucket, tree):
    m = mount({"store k": bucket.store()})
    assert summary(m, "warm", "-n", "k:*.csv")["files"] == 1
    assert summary(m, "warm", "-n", "k:**/*.csv")["files"] == 2
    assert summary(m, "warm", "-n", "k:d/[a-e]")["files"] == 3  # the directory e with all below it
    lists = bucket.minio.count("ListObjectsV2")
    m.remount()
    summary(m, "warm", "-n", "k:*.csv")
    assert bucket.minio.count("ListObjectsV2") - lists <= 2  # no directory is listed for that
    done = m.quayctl("warm", "k:*.nope", check=False)
    assert done.returncode == 1 and "nothing matches" in done.stderr


def test_a_name_with_wildcards_is_a_name_first(mount, bucket):
    bucket.put("x[1]", b"odd")
    bucket.put("x1", b"plain")
    m = mount({"store k": bucket.store()})
    m.quayctl("warm", "k:x[1]")
    before = bucket.minio.count("GetObject")
    assert (m / "k/x[1]").read_bytes() == b"odd"
    assert bucket.minio.count("GetObject") == before


def test_list_only_fetches_nothing(mount, bucket, tree):
    m = mount({"store k": bucket.store()})
    (m / "k/d/e/b").read_bytes()
    eventually(lambda: m.cache_stats()["size_mb"] >= 1)
    before = bucket.minio.count("GetObject")
    done = m.quayctl("warm", "-n", "k:d")
    assert "k/d/a" in done.stdout and "k/d/e/c.csv" in done.stdout and "k/d/e/b" not in done.stdout
    assert "2 to fetch" in done.stdout and "2 already cached" in done.stdout
    assert bucket.minio.count("GetObject") == before
    assert m.cache_stats()["size_mb"] < 1.5


def test_a_cache_that_is_too_small(mount, bucket):
    """What was fetched first stays; the rest is left out and counted."""
    for number in range(6):
        bucket.put(f"f{number}", pattern(2 * MIB, seed=number))
    m = mount({"cache": {"max_size": "7MiB"}, "store k": bucket.store()})
    done = m.quayctl("warm", "k:", check=False)
    assert done.returncode == 1
    assert "3 fetched" in done.stdout and "3 left out" in done.stdout and "too small" in done.stdout
    assert "k/f3" in done.stderr and "k/f0" not in done.stderr
    assert m.metric("quayfs_cache_evictions_total", key="k") == 0
    before = bucket.minio.count("GetObject")
    for number in range(3):
        assert cold_read(m, f"k/f{number}") == pattern(2 * MIB, seed=number)
    assert bucket.minio.count("GetObject") == before
    again = summary(m, "warm", "k:", check=False)
    assert again["cached_files"] == 3 and again["no_room_files"] == 3 and again["fetched_bytes"] == 0


def test_warm_makes_room_among_other_files(mount, bucket):
    for number in range(6):
        bucket.put(f"{'old' if number < 3 else 'new'}/f{number}", pattern(2 * MIB, seed=number))
    m = mount({"cache": {"max_size": "7MiB"}, "store k": bucket.store()})
    m.quayctl("warm", "k:old")
    m.quayctl("warm", "k:new")  # fits, once the old ones have gone
    before = bucket.minio.count("GetObject")
    for number in range(3, 6):
        assert cold_read(m, f"k/new/f{number}") == pattern(2 * MIB, seed=number)
    assert bucket.minio.count("GetObject") == before


def test_failures_are_named(mount, own_minio, make_bucket):
    bucket = make_bucket(own_minio)
    bucket.put("d/f", pattern(MIB))
    m = mount({"store k": {**bucket.store(), "cache.ttl": "1h", "timeout": "30s", "retries": "0"}})
    os.listdir(m / "k/d")
    own_minio.kill()
    done = m.quayctl("warm", "k:d", check=False)
    assert done.returncode == 1 and "k/d/f: " in done.stderr and "1 failed" in done.stdout


def test_a_local_key_has_nothing_to_fetch(mount, folder):
    (folder / "data").mkdir()
    (folder / "data/f").write_bytes(b"x")
    m = mount({"store k": {"backend": "local", "base_path": folder / "data"}})
    done = m.quayctl("warm", "k:f")
    assert "nothing to fetch" in done.stdout
    assert "0 B freed" in m.quayctl("evict", "k:f").stdout
    refused = m.quayctl("pin", "k:f", check=False)
    assert refused.returncode == 1 and "read directly" in refused.stderr


def test_a_cache_that_is_off(mount, bucket):
    bucket.put("f", b"x")
    m = mount({"cache": {"enabled": "no"}, "store k": bucket.store()})
    done = m.quayctl("warm", "k:f", check=False)
    assert done.returncode == 1 and "switched off" in done.stderr


def test_stopped_by_the_user(mount, bucket, proxy):
    """Ctrl-C in quayctl ends the work in quayfs as well."""
    for number in range(8):
        bucket.put(f"f{number}", pattern(8 * MIB, seed=number))
    proxy.fault = Fault(stall=True, only=r"^GET /[^?]*/f[0-9] ")
    m = mount({"store k": {**bucket.store(), "endpoint_url": proxy.endpoint}})
    quayctl = subprocess.Popen([str(m.build / "ctl/quayctl"), "-c", str(m.conf), "warm", "k:"],
                               env=m.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    eventually(lambda: proxy.count("^GET /[^?]*/f[0-9]") > 0)
    quayctl.send_signal(signal.SIGINT)
    quayctl.wait()
    eventually(lambda: m.metric("quayfs_backend_inflight", key="k") == 0)
    asked = m.metric("quayfs_backend_requests_total", key="k", op="read")
    time.sleep(1)
    assert m.metric("quayfs_backend_inflight", key="k") == 0
    assert m.metric("quayfs_backend_requests_total", key="k", op="read") == asked
    assert proxy.count("^GET /[^?]*/f[0-9]") <= 32
    proxy.fault = None
    m.quayctl("warm", "k:")


# ---- evict ----

def test_evict(mount, bucket, tree, folder):
    m = mount({"store k": bucket.store()})
    m.quayctl("warm", "k:")
    done = m.quayctl("evict", "k:d/e")
    assert "1.0 MiB freed (2 files)" in done.stdout
    before = bucket.minio.count("GetObject")
    assert (m / "k/d/a").read_bytes() == tree["d/a"]
    assert bucket.minio.count("GetObject") == before
    assert (m / "k/d/e/b").read_bytes() == tree["d/e/b"]
    assert bucket.minio.count("GetObject") > before
    m.quayctl("evict", "k:")
    assert m.cache_stats()["file_count"] == 0 and not block_files(folder)


def test_evict_drops_the_kernels_pages(mount, bucket):
    bucket.put("f", pattern(MIB))
    m = mount({"store k": bucket.store()})
    with open(m / "k/f", "rb", buffering=0) as file:
        assert file.read(MIB) == pattern(MIB)
        eventually(lambda: m.cache_stats()["size_mb"] >= 1)
        before = bucket.minio.count("GetObject")
        m.quayctl("evict", str(m / "k/f"))
        file.seek(0)
        assert file.read(MIB) == pattern(MIB)
        assert bucket.minio.count("GetObject") > before


def test_evict_leaves_staged_data(mount, bucket, proxy):
    proxy.fault = Fault(status=503, only="^PUT")
    m = mount({"store k": {**bucket.store(), "endpoint_url": proxy.endpoint, "retries": "0"}})
    with fails_with(errno.EIO):
        (m / "k/f").write_bytes(b"not sent yet")
    done = m.quayctl("evict", "k:")
    assert "0 B freed" in done.stdout and "1 file (12 B) staged" in done.stdout
    assert (m / "k/f").read_bytes() == b"not sent yet"
    proxy.fault = None
    m.quayctl("sync")
    assert bucket.get("f") == b"not sent yet"


# ---- pins ----

def test_pinned_files_are_never_evicted(mount, bucket):
    for number in range(6):
        bucket.put(f"f{number}", pattern(2 * MIB, seed=number))
    m = mount({"cache": {"max_size": "8MiB"}, "store k": bucket.store()})
    m.quayctl("pin", "k:f0", "k:f1")
    assert m.cache_stats()["size_mb"] == 4
    for _ in range(2):
        for number in range(6):
            assert cold_read(m, f"k/f{number}") == pattern(2 * MIB, seed=number)
    before = bucket.minio.count("GetObject")
    for number in (0, 1):
        assert cold_read(m, f"k/f{number}") == pattern(2 * MIB, seed=number)
    assert bucket.minio.count("GetObject") == before
    assert "pinned       4.0 MiB" in m.quayctl("cache").stdout
    m.quayctl("cache", "clear")
    assert m.cache_stats()["size_mb"] == 4
    refused = m.quayctl("evict", "k:f0", check=False)
    assert refused.returncode == 1 and "--pinned" in refused.stderr
    assert m.cache_stats()["size_mb"] == 4
    assert "2.0 MiB freed" in m.quayctl("evict", "--pinned", "k:f0").stdout
    m.quayctl("unpin", "k:f1")
    assert [p["path"] for p in pins(m)] == ["f0"]
    m.quayctl("cache", "clear")
    assert m.cache_stats()["size_mb"] <= 2


def test_pins_survive_restarts(mount, bucket, tree):
    m = mount({"store k": bucket.store()})
    m.quayctl("pin", "k:d")
    (pin,) = pins(m)
    assert (pin["key"], pin["path"], pin["files"], pin["have_bytes"]) == \
        ("k", "d", 4, sum(len(tree[n]) for n in tree if n.startswith("d/")))
    m.crash()
    m.start()
    assert [p["path"] for p in pins(m)] == ["d"]
    m.quayctl("cache", "clear")
    assert m.cache_stats()["size_mb"] >= 4
    m.remount()
    before = bucket.minio.count("GetObject")
    assert (m / "k/d/a").read_bytes() == tree["d/a"]
    assert bucket.minio.count("GetObject") == before


def test_pins_within_pins(mount, bucket, tree):
    m = mount({"store k": bucket.store()})
    m.quayctl("pin", "k:d/e", "k:d/a")
    assert {p["path"] for p in pins(m)} == {"d/e", "d/a"}
    m.quayctl("pin", "k:d")
    assert [p["path"] for p in pins(m)] == ["d"]
    assert "part of" in m.quayctl("pin", "k:d/e").stdout
    assert [p["path"] for p in pins(m)] == ["d"]
    done = m.quayctl("unpin", "k:d/e", check=False)
    assert done.returncode == 1 and "part of k/d" in done.stderr
    m.quayctl("unpin", str(m / "k/d"))
    assert pins(m) == [] and m.quayctl("unpin", "k:d", check=False).returncode == 1


def test_too_much_to_pin_is_refused(mount, bucket):
    for number in range(6):
        bucket.put(f"d/f{number}", pattern(2 * MIB, seed=number))
    m = mount({"cache": {"max_size": "8MiB"}, "store k": bucket.store()})
    done = m.quayctl("pin", "k:d", check=False)
    assert done.returncode == 1 and "max_size" in done.stderr and "12.0 MiB" in done.stderr
    assert pins(m) == [] and m.cache_stats()["file_count"] == 0
    m.quayctl("pin", "k:d/f0", "k:d/f1", "k:d/f2")
    assert m.quayctl("pin", "k:d/f3", check=False).returncode == 1
    assert len(pins(m)) == 3
    (m / "k/new").write_bytes(pattern(MIB // 2))  # there is still room for writes
    assert bucket.get("new") == pattern(MIB // 2)


def test_a_new_version_is_followed(mount, bucket):
    bucket.put("d/f", pattern(2 * MIB))
    m = mount({"cache": {"pin_check": "1s"}, "store k": {**bucket.store(), "cache.ttl": "1s"}})
    m.quayctl("pin", "k:d")
    bucket.put("d/f", pattern(3 * MIB, seed=7))
    bucket.put("d/g", pattern(MIB, seed=8))
    eventually(lambda: m.cache_stats()["size_mb"] == 4)
    assert m.cache_stats()["file_count"] == 2  # the old version has gone
    before = bucket.minio.count("GetObject")
    assert (m / "k/d/f").read_bytes() == pattern(3 * MIB, seed=7)
    assert (m / "k/d/g").read_bytes() == pattern(MIB, seed=8)
    assert bucket.minio.count("GetObject") == before
    bucket.delete("d/g")
    eventually(lambda: m.cache_stats()["file_count"] == 1)


def test_an_open_finds_the_new_version(mount, bucket):
    bucket.put("f", pattern(3 * MIB))
    m = mount({"cache": {"pin_check": "1h"}, "store k": bucket.store()})
    m.quayctl("pin", "k:f")
    bucket.put("f", pattern(4 * MIB, seed=7))
    with open(m / "k/f", "rb") as file:
        assert file.read(10) == pattern(4 * MIB, seed=7)[:10]
    eventually(lambda: m.cache_stats()["size_mb"] == 4 and m.cache_stats()["file_count"] == 1)
    (m / "k/f").write_bytes(pattern(MIB, seed=9))  # our own version takes its place
    eventually(lambda: m.cache_stats()["size_mb"] == 1 and m.cache_stats()["file_count"] == 1)
    m.quayctl("cache", "clear")
    assert m.cache_stats()["size_mb"] == 1


def test_a_pinned_tree_while_the_store_is_away(mount, own_minio, make_bucket):
    bucket = make_bucket(own_minio)
    files = {"d/a": pattern(2 * MIB, seed=1), "d/e/b": pattern(5000, seed=2), "other": b"x"}
    for name, data in files.items():
        bucket.put(name, data)
    m = mount({"cache": {"pin_check": "1s"},
               "store k": {**bucket.store(), "offline": "serve", "cache.ttl": "1s", "timeout": "30s",
                           "retries": "0"}})
    m.quayctl("pin", "k:d")
    own_minio.kill()
    m.remount()
    assert sorted(os.listdir(m / "k/d")) == ["a", "e"]
    for name in ("d/a", "d/e/b"):
        assert (m / "k" / name).read_bytes() == files[name]
    eventually(lambda: pins(m)[0]["error"])
    assert pins(m)[0]["have_bytes"] == 2 * MIB + 5000
    assert (m / "k/d/a").read_bytes() == files["d/a"]


# ---- verify ----

def test_verify_finds_and_heals_a_flipped_byte(mount, bucket, folder):
    data = pattern(4 * MIB)
    bucket.put("f", data)
    m = mount({"store k": bucket.store()})
    assert (m / "k/f").read_bytes() == data
    eventually(lambda: m.cache_stats()["size_mb"] == 4)
    (path,) = block_files(folder)
    flip(path, 2_500_000)
    run("bash", "-c", "echo 1 > /proc/sys/vm/drop_caches 2>/dev/null || true")
    before = bucket.minio.count("GetObject")
    done = m.quayctl("cache", "verify")
    assert "1 bad" in done.stdout and "1 block was bad: fetched again" in done.stdout
    assert bucket.minio.count("GetObject") == before + 1
    assert (m / "k/f").read_bytes() == data
    assert cold_read(m, "k/f") == data
    assert bucket.minio.count("GetObject") == before + 1
    assert "0 bad" in m.quayctl("cache", "verify").stdout
    m.stop()
    flip(path, 10)  # found at the first read after a start
    m.start()
    assert (m / "k/f").read_bytes() == data
    assert m.metric("quayfs_cache_corrupt_total", key="k") == 1
    eventually(lambda: m.cache_stats()["size_mb"] == 4)
    assert "0 bad" in m.quayctl("cache", "verify").stdout
    m.remount()
    assert (m / "k/f").read_bytes() == data


def test_verify_while_the_store_is_away(mount, own_minio, make_bucket, folder):
    bucket = make_bucket(own_minio)
    bucket.put("f", pattern(2 * MIB))
    m = mount({"store k": {**bucket.store(), "timeout": "30s", "retries": "0"}})
    m.quayctl("warm", "k:f")
    (path,) = block_files(folder)
    flip(path, 100)
    own_minio.kill()
    done = m.quayctl("cache", "verify", check=False)
    assert done.returncode == 1 and "not fetched again" in done.stderr
    assert m.cache_stats()["size_mb"] == 1


# ---- without a daemon ----

@pytest.mark.parametrize("command", [("warm", "k:f"), ("evict", "k:f"), ("pin", "k:f"), ("unpin", "k:f"),
                                     ("pins",), ("cache", "verify"), ("top",)])
def test_no_daemon(build_dir, tmp_path, command):
    conf = tmp_path / "c.conf"
    conf.write_text(f"[cache]\ndir = {tmp_path}/cache\n[store k]\nbackend = memory\n")
    done = call(build_dir / "ctl/quayctl", "-c", conf, *command)
    assert done.returncode == 2
    assert f"quayfs is not running with cache directory {tmp_path}/cache" in done.stderr
