"""`.quay/`: read-only files that tell what the mount does; and `quayctl`."""

import errno
import json
import os

import pytest

from harness.tools import eventually, fails_with, run


@pytest.fixture
def m(mount, bucket):
    bucket.put("f", b"x" * 5000)
    return mount({"store lake": bucket.store(), "store scratch": {"backend": "memory"}})


def test_files(m):
    assert {"keys", "stats.json", "metrics", "health.json"} <= set(os.listdir(m / ".quay"))


def test_keys(m, bucket):
    assert (m / ".quay/keys").read_text().splitlines() == ["lake", "scratch"]
    active = (m / ".quay/active").read_text()
    assert f"lake: s3://{bucket.name}" in active and bucket.minio.password not in active
    assert {"s3", "local", "memory"} <= set((m / ".quay/backends").read_text().split())


def test_stats(m):
    (m / "lake/f").read_bytes()
    stats = json.loads((m / ".quay/stats.json").read_text())
    assert isinstance(stats, dict) and stats
    assert "lake" in json.dumps(stats)


def test_metrics_are_prometheus_text(m):
    before = m.metric("quayfs_backend_read_bytes_total", key="lake")
    (m / "lake/f").read_bytes()
    # The reader has its bytes before the request is over and counted.
    eventually(lambda: m.metric("quayfs_backend_read_bytes_total", key="lake") - before == 5000)
    text = (m / ".quay/metrics").read_text()
    for line in text.splitlines():
        if not line.startswith("#") and line:
            name, value = line.rsplit(" ", 1)
            float(value)
            assert name.startswith(("quayfs_", "quayload_"))
    assert "quayfs_backend_requests_total" in text and "quayfs_cache_bytes" in text


def test_health(m, bucket):
    os.listdir(m / "lake")
    health = m.health()
    assert "lake" in json.dumps(health) and "scratch" in json.dumps(health)


def test_reading_in_pieces(m):
    descriptor = os.open(m / ".quay/metrics", os.O_RDONLY)
    whole = b""
    while piece := os.read(descriptor, 100):
        whole += piece
    os.close(descriptor)
    assert whole.endswith(b"\n") and whole.count(b"quayfs_") > 3


def test_they_are_read_only(m):
    with fails_with(errno.EACCES, errno.EROFS, errno.EPERM):
        open(m / ".quay/keys", "w")
    with fails_with(errno.EACCES, errno.EROFS, errno.EPERM):
        os.unlink(m / ".quay/keys")
    with fails_with(errno.EACCES, errno.EROFS, errno.EPERM):
        open(m / ".quay/new", "w")


def test_tools_can_read_them(m):
    assert run("cat", m / ".quay/keys")
    assert run("grep", "-c", "quayfs_", m / ".quay/metrics").strip() != "0"
    run("cp", "-r", m / ".quay", m / "scratch/copy")


def test_quayctl_keys_and_status(m):
    listed = m.quayctl("keys").stdout
    assert "lake" in listed and "scratch" in listed
    assert m.quayctl("keys", "lake").returncode == 0
    assert m.quayctl("keys", "nokey", check=False).returncode != 0
    assert m.quayctl("status").stdout


def test_quayctl_without_a_daemon_says_so(m):
    m.stop()
    done = m.quayctl("status", check=False)
    assert done.returncode != 0 and done.stderr.strip()


def test_quayctl_unknown_command(m):
    done = m.quayctl("cahce", "stats", check=False)
    assert done.returncode == 64 and "cache" in done.stderr
