"""quayctl doctor names the step that fails; rate_limit and bandwidth hold back what is asked of a store."""

import os
import subprocess
import time

import pytest

from harness.daemon import RUN_ENVIRONMENT
from harness.data import pattern
from servers.base import free_port
from servers.proxy import Fault

MIB = 1024 * 1024


def doctor(m, key="k"):
    return m.quayctl("doctor", key, check=False)


def unresolved() -> dict[str, str]:
    """An environment for a host that does not resolve: libcurl 8.14 loses its name (curl issue 17602)."""
    version = subprocess.run(["curl", "--version"], capture_output=True, text=True, check=True).stdout
    options = RUN_ENVIRONMENT["ASAN_OPTIONS"]
    return {"ASAN_OPTIONS": options.replace("detect_leaks=1", "detect_leaks=0")} if " libcurl/8.14." in version else {}


def test_the_step_that_fails(mount, bucket):
    steps = {
        "dns": ({"endpoint_url": "http://no-such-host.invalid:9000"}, "name resolution (DNS)"),
        "connect": ({"endpoint_url": f"http://127.0.0.1:{free_port()}"}, "connecting"),
        "tls": ({"endpoint_url": f"https://127.0.0.1:{bucket.minio.port}"}, "TLS"),
        "secret": ({"secret_access_key": "not-the-secret"}, "authentication: "),
        "who": ({"access_key_id": "nobody"}, "authentication: "),
        "bucket": ({"bucket": "no-such-bucket"}, "the bucket"),
    }
    m = mount({f"store {key}": {**bucket.store(), **change} for key, (change, _) in steps.items()}, env=unresolved())
    for key, (_, step) in steps.items():
        done = doctor(m, key)
        assert done.returncode == 1 and f"{key}: failed at {step}" in done.stderr, done
        assert "not-the-secret" not in done.stderr
    done = m.quayctl("doctor", check=False)
    assert done.returncode == 1 and done.stderr.count("failed at") == len(steps)


def databases(backend: str, server, hole: int) -> dict[str, tuple[dict, str]]:
    there = {"backend": backend, "host": "127.0.0.1", "port": server.port, "user": server.user, "dbname": "postgres"}
    there = there if backend == "postgres" else {**there, "dbname": "mysql"}
    secure = {"sslmode": "require"} if backend == "postgres" else {"tls": "require", "socket": ""}
    found = {
        "dns": ({**there, "host": "no-such-host.invalid"}, "name resolution (DNS)"),
        "connect": ({**there, "port": hole}, "connecting"),
        "secret": ({**there, "password": "not-the-secret"}, "authentication: "),
        "database": ({**there, "password": server.password, "dbname": "no_such"}, "the database"),
    }
    if backend == "postgres":
        found["tls"] = ({**there, **secure}, "TLS")
    return found


@pytest.mark.parametrize("backend", ["postgres", "mysql"])
def test_the_step_that_fails_at_a_database(mount, request, backend):
    server = request.getfixturevalue("postgres_server" if backend == "postgres" else "mariadb_server")
    steps = databases(backend, server, free_port())
    m = mount({f"store {key}": {**options, "retries": "0"} for key, (options, _) in steps.items()})
    for key, (_, step) in steps.items():
        done = doctor(m, key)
        assert done.returncode == 1 and f"{key}: failed at {step}" in done.stderr, done
        assert "not-the-secret" not in done.stderr


def test_the_step_that_fails_at_other_services(mount, container, gcs, sshd):
    lost = "http://no-such-host.invalid"
    steps = {
        "azure-dns": (container.store(endpoint_url=lost), "name resolution (DNS)"),
        "azure-key": (container.store(account_key="a2V5"), "authentication: "),
        "azure-container": (container.store(container="no-such-container"), "the container: "),
        "gcs-dns": (gcs.store(endpoint_url=lost), "name resolution (DNS)"),
        "gcs-connect": (gcs.store(endpoint_url=f"http://127.0.0.1:{free_port()}"), "connecting"),
        "gcs-bucket": (gcs.store(bucket="no-such-bucket"), "the bucket"),
        "http-tls": ({"backend": "http", "url": f"https://127.0.0.1:{gcs.port}/"}, "TLS"),
        "sftp-dns": ({**sshd.store("x"), "endpoints": "no-such-host.invalid"}, "name resolution (DNS)"),
        "sftp-connect": ({**sshd.store("x"), "endpoints": f"127.0.0.1:{free_port()}"}, "connecting"),
        "sftp-host": ({**sshd.store("x"), "known_hosts": "/dev/null"}, "the host key"),
        "sftp-login": ({**sshd.store("x"), "user": "nobody-of-that-name"}, "authentication: "),
    }
    m = mount({f"store {key}": {**options, "retries": "0"} for key, (options, _) in steps.items()}, env=unresolved())
    for key, (_, step) in steps.items():
        done = doctor(m, key)
        assert done.returncode == 1 and f"{key}: failed at {step}" in done.stderr, done


def test_permission_and_clocks(mount, bucket, proxy, folder):
    (folder / "local").mkdir()
    m = mount({"store k": bucket.store(endpoint_url=proxy.endpoint),
               "store l": {"backend": "local", "base_path": folder / "local"}})
    answer = "<Error><Code>{}</Code><Message>m</Message></Error>"
    proxy.fault = Fault(status=403, body=answer.format("AccessDenied"))
    assert "failed at permission" in doctor(m).stderr
    proxy.fault = Fault(status=403, body=answer.format("RequestTimeTooSkewed"))
    assert "failed at authentication: the clocks differ" in doctor(m).stderr
    proxy.fault = None
    assert doctor(m).returncode == 0 and doctor(m, "l").stdout.startswith("l: ok")
    (folder / "local").rmdir()
    assert "l: failed at" in doctor(m, "l").stderr


def test_bandwidth(mount, bucket):
    """A second's worth goes at once, the rest at the rate: the lower bounds hold on any machine."""
    data = pattern(3 * MIB)
    m = mount({"store k": bucket.store(read_bandwidth="1M", write_bandwidth="2M"),
               "cache": {"enabled": "no"}})
    begun = time.monotonic()
    (m / "k/f").write_bytes(data)
    assert time.monotonic() - begun > 0.45  # 3 MiB: 2 of them at once
    assert (m / "k/f").stat().st_size == len(data)
    m.remount()
    begun = time.monotonic()
    assert (m / "k/f").read_bytes() == data
    assert time.monotonic() - begun > 1.8
    assert m.metric("quayfs_backend_limit_wait_ms_total", key="k") >= 1000


def test_rate_limit(mount, bucket):
    for n in range(8):
        bucket.put(f"f{n}", b"x")
    m = mount({"store k": bucket.store(rate_limit="120/m")})  # two at once, then one each half second
    os.listdir(m / "k")
    begun, before = time.monotonic(), bucket.minio.count("GetObject")
    for n in range(5):
        assert (m / f"k/f{n}").read_bytes() == b"x"
    assert bucket.minio.count("GetObject") == before + 5
    assert time.monotonic() - begun > 1.4


def test_a_limit_can_be_interrupted_and_is_no_timeout(mount, bucket):
    bucket.put("f", pattern(2 * MIB))
    m = mount({"store k": bucket.store(read_bandwidth="100K", timeout="1s", retries=0)})
    reader = subprocess.Popen(["cat", m / "k/f"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    with pytest.raises(subprocess.TimeoutExpired):
        reader.wait(2)  # longer than `timeout`: still waiting
    reader.terminate()
    assert reader.wait(100) == -15


def test_wrong_limits_are_refused(build_dir, folder):
    for text, word in (("rate_limit = fast", "rate_limit"), ("rate_limit = 0", "rate_limit"),
                       ("bandwidth = 1x", "bandwidth")):
        conf = folder / "c.conf"
        conf.write_text(f"[store k]\nbackend = memory\n{text}\n")
        done = subprocess.run([build_dir / "fs/quayfs", "--check", "-c", conf], capture_output=True, text=True)
        assert done.returncode == 2 and word in done.stderr and f"{conf}:3" in done.stderr
