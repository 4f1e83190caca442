"""The faults of test_540 against Google's and Microsoft's way of storing: what is answered for is there, what is not is
staged and stored when the fault ends, and no name shows a part of it."""

from __future__ import annotations

import errno

import pytest

from harness.data import pattern
from harness.tools import eventually
from servers import Fault, FaultProxy

from .test_540_write_faults import FAULTS, MIB, QUICK, backwards, streamed

# What carries the bytes of a small file, a part of a large one, and what makes an object of the parts.
SENDS = {
    "gcs": {"put": "^POST /upload", "part": "^POST /upload", "complete": "^POST .*/compose"},
    "azure": {"put": "^PUT /[^?]*/f[ ?](?!comp)", "part": "^PUT .*blockid=", "complete": "^PUT .*comp=blocklist"},
}
# An answer of 200 that is none is S3's peculiarity. Silence costs seconds each time, and of what makes an object of parts
# the service may take ten minutes.
WAYS = [fault for fault in FAULTS if fault != "200-with-error"]
SLOW = ("no-answer", "timeout-after-commit")
CASES = [(send, fault) for send in ("put", "part", "complete") for fault in WAYS
         if send == "put" or fault not in SLOW and (send, fault) != ("complete", "reset-in-the-body")]


class Cloud:
    """One interface to what is there, by another client than ours."""

    def __init__(self, kind: str, request):
        self.kind = kind
        self.there = request.getfixturevalue("gcs" if kind == "gcs" else "container")
        self.proxy = FaultProxy(self.there.port if kind == "gcs" else self.there.server.port).start()
        ending = "" if kind == "gcs" else "/" + self.there.server.account
        self.options = {**self.there.store(endpoint_url=self.proxy.endpoint + ending), **QUICK,
                        "multipart_threshold": "1MiB", "multipart_chunksize": "256KiB", "timeout": "2s"}

    def names(self) -> list[str]:
        return list(self.there.objects) if self.kind == "gcs" else self.there.names()

    def get(self, name: str) -> bytes | None:
        return self.there.get(name) if name in self.names() else None


@pytest.fixture(params=["gcs", "azure"])
def cloud(request):
    made = Cloud(request.param, request)
    yield made
    made.proxy.stop()


@pytest.fixture
def behind(mount, cloud):
    m = mount({"store k": cloud.options})
    (m / "k/warm-up").write_bytes(b"x")
    return m


def content(send: str) -> bytes:
    return pattern(300_000 if send == "put" else 3 * MIB, seed=11)


def attempt(m, cloud, data: bytes, old: bytes | None, write) -> bool:
    try:
        write(m / "k/f", data)
    except OSError as error:
        assert error.errno in (errno.EIO, errno.ETIMEDOUT, errno.EHOSTUNREACH), error
        assert (m / "k/f").read_bytes() == data
        staged = "k/f" in m.quayctl("status").stdout
        there = cloud.get("f")
        assert there in (old, data)
        assert staged or there == data
        return False
    assert cloud.get("f") == data
    return True


def settled(m, cloud, data: bytes) -> None:
    eventually(lambda: "k/f" not in m.quayctl("status").stdout)
    assert cloud.get("f") == data and (m / "k/f").read_bytes() == data
    try:
        eventually(lambda: sorted(cloud.names()) == ["f", "warm-up"], 30)
    except AssertionError:
        pass
    assert sorted(cloud.names()) == ["f", "warm-up"], "only what has a name is left"


@pytest.mark.parametrize("send, fault", CASES, ids=["-".join(case) for case in CASES])
def test_a_fault_of_a_cloud_that_passes(behind, cloud, send, fault):
    data = content(send)
    cloud.proxy.fault = Fault(only=SENDS[cloud.kind][send], times=1, **FAULTS[fault])
    attempt(behind, cloud, data, None, streamed if fault in ("500", "reset-after-commit") else backwards)
    assert cloud.proxy.fault.times == 0, "the fault has hit nothing"
    settled(behind, cloud, data)


@pytest.mark.parametrize("send, fault", [("put", "500"), ("part", "reset-in-the-body"), ("complete", "500"),
                                         ("complete", "reset-after-commit")])
def test_a_fault_of_a_cloud_that_stays(behind, cloud, send, fault):
    """An existing object is replaced, and the daemon is killed meanwhile."""
    data = content(send)
    (behind / "k/f").write_bytes(b"what was there before")
    cloud.proxy.fault = Fault(only=SENDS[cloud.kind][send], **FAULTS[fault])
    stored = attempt(behind, cloud, data, b"what was there before", streamed)
    assert stored == (fault == "reset-after-commit"), "stored without the service's word"
    behind.crash()
    cloud.proxy.fault = None
    behind.start()
    settled(behind, cloud, data)
