"""Failures that pass: retried, counted, and not shown to the reader; those that do not pass: told."""

import errno
import os

import pytest

from harness.data import pattern
from harness.tools import fails_with
from servers import Fault

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


def test_a_wrong_status_never_becomes_not_found(through_proxy, bucket, proxy):
    """Only a definite "not there" is ENOENT."""
    bucket.put("f", b"x")
    proxy.fault = Fault(status=500)
    with fails_with(errno.EIO):
        os.stat(through_proxy / "k/f")
    proxy.fault = None
    assert (through_proxy / "k/f").read_bytes() == b"x"
