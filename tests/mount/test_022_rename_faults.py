"""rename() into which other clients, faults and interruptions come: nothing is at neither name, and open files follow."""

import os
import signal
import subprocess
import threading

import pytest

from harness.tools import eventually
from servers import Fault

CONTENT = b"what was renamed"


@pytest.mark.parametrize("how", ["interrupted", "timed-out"])
def test_a_removal_whose_answer_does_not_come_loses_nothing(mount, bucket, proxy, how):
    """Story: `mv f g` where stores copy and remove: the removal of f had been sent when somebody pressed Ctrl-C (or its time was
    over). f was still there, so the copy was taken away, and then the server did what it had been sent: neither was there."""
    bucket.put("f", CONTENT)
    release = threading.Event()
    proxy.fault = Fault(hold=0.01, until=release, only=r"^DELETE /[^?]*/f ", times=1)
    m = mount({"store k": {**bucket.store(endpoint_url=proxy.endpoint), "timeout": "60s" if how == "interrupted" else "1s"}})
    mv = subprocess.Popen(["mv", m / "k/f", m / "k/g"], stderr=subprocess.PIPE)
    eventually(lambda: proxy.count(r"^DELETE /[^?]*/f ") == 1)
    if how == "interrupted":
        mv.send_signal(signal.SIGINT)
    assert mv.wait(100) != 0, "nobody could say yet that it was renamed"
    assert bucket.get("f") == CONTENT
    release.set()
    eventually(lambda: proxy.held)
    assert bucket.keys() == ["g"] and bucket.get("g") == CONTENT
