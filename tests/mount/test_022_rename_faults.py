"""rename() into which other clients, faults and interruptions come: nothing is at neither name, and open files follow."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from harness.tools import eventually, fails_with
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
    rename = "import os, sys; os.rename(*sys.argv[1:])"  # mv(1) tries again once it finds the new name
    mv = subprocess.Popen([sys.executable, "-c", rename, m / "k/f", m / "k/g"], stderr=subprocess.PIPE)
    eventually(lambda: proxy.count(r"^DELETE /[^?]*/f ") == 1)
    if how == "interrupted":
        mv.send_signal(signal.SIGINT)
    assert mv.wait(100) != 0, "nobody could say yet that it was renamed"
    assert bucket.get("f") == CONTENT
    release.set()
    eventually(lambda: proxy.held)
    assert bucket.keys() == ["g"] and bucket.get("g") == CONTENT


@pytest.mark.parametrize("old, new", [("d/f", "g"), ("d/f", "d/g"), ("d/x", "e")], ids=["moved", "replacing", "directory"])
def test_a_rename_that_may_not_list_changes_nothing(mount, bucket, proxy, old, new):
    """Story: whether the directory stays when its file goes was looked up after the copy was made: when that failed, both names
    were there, or the target had the content of the source."""
    before = {"d/f": CONTENT} if new == "g" else {"d/x/f": CONTENT} if new == "e" else {"d/f": CONTENT, "d/g": b"what was there"}
    for key, data in before.items():
        bucket.put(key, data)
    m = mount({"store k": bucket.store(endpoint_url=proxy.endpoint)})
    assert (m / "k" / old).exists() and (m / "k" / new).exists() == (new in before)
    proxy.fault = Fault(status=403, only="^GET /[^?]*[?].*prefix=d%2F[& ]")
    with fails_with(errno.EACCES):
        os.rename(m / "k" / old, m / "k" / new)
    assert {key: bucket.get(key) for key in bucket.keys()} == before


# ---- directories, of which something is open ----

def test_a_directory_comes_over_what_is_open_and_gone(mount, lasting_key):
    """Story: `mv d e` aborted the daemon when d/f and e/f were open, and another client had removed e/f."""
    root = mount({"store k": lasting_key.options}) / "k"
    for name, data in (("d", b"new"), ("e", b"old")):
        (root / name).mkdir()
        (root / name / "f").write_bytes(data)
    with open(root / "d/f", "r+b", buffering=0) as file, open(root / "e/f", "rb", buffering=0) as gone:
        lasting_key.delete_behind("e/f")
        os.rename(root / "d", root / "e")
        file.write(b"N")
        assert os.fstat(file.fileno()).st_ino == (root / "e/f").stat().st_ino
        with suppress(OSError):
            assert gone.read() == b"old"
    assert (root / "e/f").read_bytes() == b"New" and lasting_key.behind("e/f") == b"New"
    assert os.listdir(root) == ["e"] and os.listdir(root / "e") == ["f"]


def test_a_directory_is_renamed_without_what_is_gone(mount, lasting_key):
    """Story: one open file that another client had removed made the rename of its directory fail with ENOENT, although it was
    done; the other open files were left behind under their old names, and what was written to them went to conflict copies."""
    root = mount({"store k": lasting_key.options}) / "k"
    (root / "d").mkdir()
    for name in ("b", "y", "z"):
        (root / "d" / name).write_bytes(name.encode() * 3)
    with open(root / "d/y", "r+b", buffering=0) as y, open(root / "d/b", "rb", buffering=0), \
            open(root / "d/z", "r+b", buffering=0) as z:
        lasting_key.delete_behind("d/b")
        os.rename(root / "d", root / "e")
        y.write(b"Y")
        z.write(b"Z")
    assert os.listdir(root) == ["e"] and sorted(os.listdir(root / "e")) == ["y", "z"]
    assert [lasting_key.behind(name) for name in ("e/y", "e/z")] == [b"Yyy", b"Zzz"]


def test_open_files_follow_although_not_all_could_be_removed(mount, bucket):
    """Story: the objects of a directory had moved, and then its marker could not be removed: the rename fails, but what was open
    was left under names that are gone, and what was written to it went to conflict copies in a directory made anew."""
    m = mount({"store k": {**bucket.store(), "fault": "op=remove_dir,errno=EACCES"}})
    (m / "k/d").mkdir()
    (m / "k/d/f").write_bytes(b"old")
    with open(m / "k/d/f", "r+b", buffering=0) as file:
        with fails_with(errno.EACCES):
            os.rename(m / "k/d", m / "k/e")
        file.write(b"New")
    assert bucket.keys() == ["d/", "e/", "e/f"] and bucket.get("e/f") == b"New"


# ---- what the kernel believes afterwards ----

def exists(path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return False
    return True


@pytest.mark.parametrize("over", ["nothing", "an-empty-one"])
def test_names_are_looked_up_again_after_a_rename_that_did_not_end(mount, bucket, over):
    """Story: all of a directory had moved, but for its marker: the rename failed, and for the ttl the new directory was not there,
    or empty, while the files of the old one were."""
    m = mount({"store k": {**bucket.store(), "fault": "op=remove_dir,key=d,errno=EACCES"}, "cache": {"ttl": "1h"}})
    (m / "k/d/sub").mkdir(parents=True)
    for name in ("f", "sub/g"):
        (m / "k/d" / name).write_bytes(b"data")
    if over != "nothing":
        (m / "k/e").mkdir()
    assert exists(m / "k/d/sub/g") and exists(m / "k/d/f") and not exists(m / "k/e/f") and not exists(m / "k/e/sub/g")
    with fails_with(errno.EACCES):
        os.rename(m / "k/d", m / "k/e")
    assert "e/sub/g" in bucket.keys() and "d/sub/g" not in bucket.keys()
    eventually(lambda: exists(m / "k/e/f") and exists(m / "k/e/sub/g"), 20)
    eventually(lambda: not exists(m / "k/d/f") and not exists(m / "k/d/sub/g"), 20)
    assert exists(m / "k/d") and (m / "k/e/f").read_bytes() == b"data"


def test_a_file_is_looked_up_again_after_a_rename_that_did_not_end(mount, bucket):
    """Nobody can say whether the old name is removed: the new one is there."""
    bucket.put("f", CONTENT)
    m = mount({"store k": {**bucket.store(), "retries": "0", "fault": "op=remove,key=f,errno=ETIMEDOUT,retry=unknown"},
               "cache": {"ttl": "1h"}})
    assert exists(m / "k/f") and not exists(m / "k/g")
    with fails_with(errno.ETIMEDOUT):
        os.rename(m / "k/f", m / "k/g")
    assert bucket.keys() == ["f", "g"]
    eventually(lambda: exists(m / "k/g"), 20)


# ---- names of conflict copies ----

def test_two_conflicts_within_a_second(mount, folder):
    """Story: two conflicts of one path got one name when the first copy was not stored yet, and the daemon aborted."""
    (folder / "data").mkdir()
    (folder / "data/f").write_bytes(b"0")
    m = mount({"store k": {"backend": "local", "base_path": folder / "data", "retries": "0",
                           "fault": "op=put,key=*.conflict-*,nth=1,errno=EIO"}})
    time.sleep(1 - time.time() % 1)
    for ours in (b"first", b"second"):
        file = os.open(m / "k/f", os.O_WRONLY)
        os.write(file, ours)
        (folder / "theirs").write_bytes(b"theirs")
        (folder / "theirs").rename(folder / "data/f")
        with fails_with(errno.ESTALE):
            os.close(file)
    eventually(lambda: sorted(copy.read_bytes() for copy in (folder / "data").glob("f.conflict-*")) == [b"first", b"second"])
