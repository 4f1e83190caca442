"""Failures that pass: retried, counted, and not shown to the reader; those that do not pass: told."""

import errno
import os

import pytest

from harness.data import pattern
from harness.tools import fails_with
from servers import FakeS3, Fault, FaultProxy

SLOW_DOWN = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


@pytest.fixture
def through_proxy(mount, bucket, proxy):
    """A mount behind the proxy, with retries that do not wait for long."""
    return mount({"store k": {**bucket.store(endpoint_url=proxy.endpoint), "retries": "3",
                              "retry_delay": "50ms", "timeout": "3s"}})


@pytest.mark.parametrize("fault", [
    Fault(status=503, body=SLOW_DOWN, times=2),
    Fault(status=500, times=2),
    Fault(status=429, headers="Retry-After: 1\r\n", times=1),
    Fault(reset_after=0, times=2),
    Fault(reset_after=200_000, times=2),
    Fault(close_after=200_000, times=2),
    Fault(stall=True, times=1),
], ids=["slow-down", "500", "429", "reset", "reset-in-body", "short-body", "no-answer"])
def test_a_read_is_tried_again(through_proxy, bucket, proxy, fault):
    data = pattern(700_000)
    bucket.put("f", data)
    os.listdir(through_proxy / "k")
    proxy.fault = Fault(**{**fault.__dict__, "only": "^GET /[^?]+/f"})
    assert (through_proxy / "k/f").read_bytes() == data


@pytest.mark.parametrize("fault", [
    Fault(status=503, body=SLOW_DOWN, times=2), Fault(reset_after=0, times=1),
], ids=["slow-down", "reset"])
def test_a_write_is_tried_again(through_proxy, bucket, proxy, fault):
    data = pattern(700_000)
    (through_proxy / "k/warm-up").write_bytes(b"x")
    proxy.fault = Fault(**{**fault.__dict__, "only": "^PUT"})
    (through_proxy / "k/f").write_bytes(data)
    assert bucket.get("f") == data


def test_a_refusal_is_not_tried_again(through_proxy, bucket, proxy):
    bucket.put("f", b"x")
    os.listdir(through_proxy / "k")
    proxy.fault = Fault(status=403, body="<Error><Code>AccessDenied</Code></Error>", only="/f")
    before = proxy.count("/f")
    with fails_with(errno.EACCES):
        (through_proxy / "k/f").read_bytes()
    assert proxy.count("/f") - before <= 2


def test_giving_up_is_eio(through_proxy, bucket, proxy):
    bucket.put("f", b"x")
    os.listdir(through_proxy / "k")
    proxy.fault = Fault(status=503, body=SLOW_DOWN)
    with fails_with(errno.EIO):
        (through_proxy / "k/f").read_bytes()
    lines = through_proxy.log_lines("error", "warn")
    assert any("SlowDown" in line or "503" in line for line in lines), lines
    proxy.fault = None
    assert (through_proxy / "k/f").read_bytes() == b"x"


def test_retries_are_counted(through_proxy, bucket, proxy):
    bucket.put("f", b"x")
    os.listdir(through_proxy / "k")
    proxy.fault = Fault(status=500, times=2)
    assert (through_proxy / "k/f").read_bytes() == b"x"
    metrics = (through_proxy / ".quay/metrics").read_text()
    assert 'status="' in metrics and "quayfs_backend_requests_total" in metrics


def test_a_change_of_mode_that_others_overtake(mount):
    """Each time between its look and its change: it looks again, without a wait, and is not told that it has failed."""
    fake = FakeS3().start()
    fake.put(b"f", b"content 0")
    contents = iter([b"content %d" % n for n in range(1, 13)])

    def replaced(line: str) -> None:
        if line.startswith("PUT ") and (data := next(contents, None)):
            fake.put(b"f", data)

    fake.before = replaced
    m = mount({"store k": fake.store(retries="0")})
    (m / "k/f").chmod(0o640)
    assert fake.count("^PUT .*/f$") == 13
    assert fake.objects[b"f"].data == b"content 12" and int(fake.objects[b"f"].headers["x-amz-meta-mode"]) & 0o7777 == 0o640
    m.stop()
    fake.stop()


def test_a_server_that_refuses_what_it_has_shown(mount):
    """It says that the version which it has is not there: told, not asked for ever."""
    fake = FakeS3().start()
    proxy = FaultProxy(fake.port).start()
    fake.put(b"f", b"x")
    m = mount({"store k": fake.store(endpoint_url=proxy.endpoint, retries="0")})
    proxy.fault = Fault(status=412, only="^PUT ")
    with fails_with(errno.ESTALE):
        (m / "k/f").chmod(0o640)
    assert proxy.count("^PUT ") <= 4
    m.stop()
    proxy.stop()
    fake.stop()


def test_a_wrong_status_never_becomes_not_found(through_proxy, bucket, proxy):
    """Only a definite "not there" is ENOENT."""
    bucket.put("f", b"x")
    proxy.fault = Fault(status=500)
    with fails_with(errno.EIO):
        os.stat(through_proxy / "k/f")
    proxy.fault = None
    assert (through_proxy / "k/f").read_bytes() == b"x"
