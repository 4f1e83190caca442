"""Renames of large directories on a store that has none: object by object, journaled, gone on with after a
kill. At no moment is a file at neither name."""

import errno
import itertools
import json
import os
import re
import signal
import threading
import time

import pytest

from harness.data import pattern
from harness.tools import eventually
from servers import Fault, FakeS3

FILES = 300


@pytest.fixture
def fake():
    server = FakeS3().start()
    yield server
    server.stop()


def seed(bucket, count: int = FILES) -> dict[str, bytes]:
    files = {f"old/sub{n % 7}/f{n:04}": pattern(20 + n * 37 % 4000, seed=n) for n in range(count)}
    for key, data in files.items():
        bucket.put(key, data)
    return files


def slow(bucket, latency: str = "20ms") -> dict[str, str]:
    """Copies take a while, so that there is a middle to be killed in."""
    return {**bucket.store(), "fault": f"op=copy,latency={latency};op=remove_many,latency=150ms"}


def stands(bucket, fault: str) -> dict[str, str]:
    """It comes to where the fault is, and no further."""
    return {**bucket.store(), "fault": f"{fault},latency=1h"}


def copied(bucket) -> int:
    return len(bucket.keys("new/"))


def uploads(bucket, files: dict[str, bytes]) -> list[dict]:
    """Begun and not finished, to the new names. MinIO lists them only for a full key."""
    return [upload for key in files for upload in bucket.s3.list_multipart_uploads(
        Bucket=bucket.name, Prefix="new" + key[3:]).get("Uploads", [])]


def goes_on(m) -> None:
    """The next process, without the fault."""
    m.conf.write_text(re.sub(r"(?m)^fault *=.*\n", "", m.conf.read_text()))
    m.start()


def rename_in_thread(m, old: str, new: str) -> threading.Thread:
    def work() -> None:
        try:
            os.rename(m / "k" / old, m / "k" / new)
        except OSError:
            pass
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def start_rename(m) -> threading.Thread:
    return rename_in_thread(m, "old", "new")


def error_of(m) -> int:
    try:
        os.rename(m / "k/old", m / "k/new")
    except OSError as error:
        return error.errno
    return 0


def nowhere(bucket, files: dict[str, bytes]) -> list[str]:
    keys = set(bucket.keys())
    return [key for key in files if key not in keys and "new" + key[3:] not in keys]


def renames(m) -> list[dict]:
    return json.loads(m.quayctl("status", "--json").stdout)["renames"]


def pending(m) -> bool:
    return bool(renames(m))


def settled(m, bucket) -> bool:
    """The resumer has said so: it begins a moment after the mount is there."""
    return "rename of old to new that was interrupted" in m.log() and not pending(m)


def check_whole(bucket, files: dict[str, bytes]) -> None:
    assert [key for key in bucket.keys() if key.startswith("old/")] == []
    for key, data in files.items():
        assert bucket.get("new" + key[3:]) == data


@pytest.mark.deadline(240)
@pytest.mark.parametrize("fault, count", [("op=copy,after=30", 30), ("op=copy,after=280", 280), ("op=remove_many", FILES)],
                         ids=["copying", "the-last-copies", "removing"])
def test_a_rename_killed_in_the_middle(mount, bucket, fault, count):
    files = seed(bucket)
    m = mount({"store k": stands(bucket, fault)})
    thread = start_rename(m)
    eventually(lambda: copied(bucket) >= count)
    m.crash()
    thread.join()
    assert nowhere(bucket, files) == []
    assert len(bucket.keys("old/")) == FILES
    goes_on(m)
    eventually(lambda: settled(m, bucket))
    check_whole(bucket, files)
    assert not (m / "k/old").exists()
    assert len(list((m / "k/new").rglob("f*"))) == FILES
    assert nowhere(bucket, files) == []


@pytest.mark.deadline(240)
def test_killed_again_while_it_goes_on(mount, bucket):
    files = seed(bucket)
    m = mount({"store k": slow(bucket)})
    thread = start_rename(m)
    eventually(lambda: copied(bucket) > 0)
    for _ in range(5):
        m.crash()
        assert nowhere(bucket, files) == []
        m.start()
        time.sleep(0.25)  # wherever it then is
    thread.join()
    eventually(lambda: not bucket.keys("old/") and not pending(m))
    assert nowhere(bucket, files) == []
    check_whole(bucket, files)


def test_progress_is_shown(mount, bucket, proxy):
    files = seed(bucket)
    answer = threading.Event()
    proxy.fault = Fault(until=answer, only="^PUT .*/new/sub3/f0150")
    m = mount({"store k": bucket.store(endpoint_url=proxy.endpoint)})
    thread = start_rename(m)
    seen = []

    def moving() -> bool:
        seen.extend(renames(m))
        return any(0 < r["done"] < r["total"] for r in seen)

    eventually(moving)
    text = m.quayctl("status").stdout
    answer.set()
    thread.join()
    assert seen[-1]["from"] == "old" and seen[-1]["to"] == "new" and seen[-1]["total"] >= FILES
    assert seen[-1]["phase"] in ("copying", "removing")
    assert "old -> new" in text
    assert not pending(m)
    check_whole(bucket, files)


@pytest.mark.deadline(240)
def test_what_was_changed_meanwhile_stays(mount, bucket):
    """After the kill somebody writes to both trees: none of that is overwritten or removed."""
    files = seed(bucket)
    m = mount({"store k": stands(bucket, "op=copy,after=100")})
    thread = start_rename(m)
    eventually(lambda: copied(bucket) >= 100)
    m.crash()
    thread.join()
    bucket.put("old/sub1/f0001", b"newer content at the old name")
    bucket.put("old/added", b"a new file at the old name")
    taken = "new" + sorted(files)[-1][3:]
    bucket.put(taken, b"somebody's own object at the new name")
    goes_on(m)
    eventually(lambda: settled(m, bucket))
    everything = [bucket.get(key) for key in bucket.keys()]
    assert b"newer content at the old name" in everything
    assert b"a new file at the old name" in everything
    assert bucket.get(taken) == b"somebody's own object at the new name"
    for key, data in files.items():
        if key != "old/sub1/f0001":
            assert data in everything, key


def test_the_source_written_to_during_the_rename(mount, bucket, proxy):
    """Another client overwrites an object that is already copied: its new content is not removed."""
    files = seed(bucket, 60)
    answer = threading.Event()
    proxy.fault = Fault(until=answer, only="^PUT .*/new/sub3/f0031")
    m = mount({"store k": bucket.store(endpoint_url=proxy.endpoint)})
    thread = start_rename(m)
    eventually(lambda: copied(bucket))
    first = bucket.keys("new/")[0]
    old = "old" + first[3:]
    bucket.put(old, b"written while it was being renamed")
    answer.set()
    thread.join()
    assert bucket.get(old) == b"written while it was being renamed"
    assert bucket.get(first) == files[old]


def stop_at_second_removal(fake) -> tuple[threading.Event, threading.Event]:
    """(it is there, it may go on)"""
    there, go_on = threading.Event(), threading.Event()
    removals = itertools.count(1)

    def before(line: str) -> None:
        if re.match(r"POST .*\?delete", line) and next(removals) == 2:
            there.set()
            go_on.wait(60)

    fake.before = before
    return there, go_on


def rename_until(m, moment) -> tuple[threading.Thread, list[int]]:
    """The rename is on its way, and that has come; its error is in the list when the thread has ended."""
    failed: list[int] = []
    thread = threading.Thread(target=lambda: failed.append(error_of(m)))
    thread.start()
    assert moment.wait(60)
    return thread, failed


def test_the_source_written_to_between_two_removals(mount, fake):
    """More than two pages of names: each is looked at just before it goes, not all before the first goes."""
    for n in range(2100):
        fake.put(b"old/f%04d" % n, b"%d" % n)
    second, written = stop_at_second_removal(fake)
    m = mount({"store k": fake.store()})
    thread, failed = rename_until(m, second)
    fake.put(b"old/f2050", b"written while others were removed")
    written.set()
    thread.join()
    assert fake.objects[b"old/f2050"].data == b"written while others were removed"
    assert at(fake, b"old/") == [b"old/f2050"]
    assert [fake.objects[b"new/f%04d" % n].data for n in range(2100)] == [b"%d" % n for n in range(2100)]
    assert failed == [errno.EBUSY]


def test_what_others_have_written_meanwhile_is_named(mount, fake):
    """EBUSY, and the log has the names: also of what is new there, in no copy."""
    for n in range(3):
        fake.put(b"old/f%d" % n, b"%d" % n)
    copying, written = threading.Event(), threading.Event()

    def before(line: str) -> None:
        if re.match(r"PUT .*new/f1", line):
            copying.set()
            written.wait(60)

    fake.before = before
    m = mount({"store k": fake.store()})
    thread, failed = rename_until(m, copying)
    fake.put(b"old/a-new-one", b"in no copy")
    fake.put(b"old/z/another", b"in no copy")
    written.set()
    thread.join()
    assert failed == [errno.EBUSY]
    assert at(fake, b"old/") == [b"old/a-new-one", b"old/z/another"] and at(fake, b"new/") == [b"new/f%d" % n for n in range(3)]
    assert re.search("rename k/old: .*another client has written old/a-new-one and 1 more", m.log())
    for name in ("old/a-new-one", "old/z/another"):
        assert f"{name} was written while its directory was being renamed: it stays there" in m.log()


def seed_pages(fake, count: int = 250) -> list[bytes]:
    """More than two pages of names, and so of removals."""
    fake.page = 100
    for n in range(count):
        fake.put(b"old/f%04d" % n, b"%d" % n)
    return [b"new/f%04d" % n for n in range(count)]


def at(fake, prefix: bytes) -> list[bytes]:
    return sorted(key for key in fake.objects if key.startswith(prefix))


def test_killed_between_two_removals(mount, fake):
    new = seed_pages(fake)
    m = mount({"store k": {**fake.store(), "fault": "op=remove_many,after=1,latency=1h"}})
    thread = start_rename(m)
    eventually(lambda: len(at(fake, b"old/")) == 150)
    m.crash()
    thread.join()
    goes_on(m)
    eventually(lambda: not at(fake, b"old/") and not pending(m))
    assert at(fake, b"new/") == new and fake.objects[new[-1]].data == b"249"


def test_removals_that_the_end_of_the_mount_cuts_off_go_on(mount, fake):
    """The store is silent at the unmount, when part of the sources is gone: the next start removes the others."""
    new = seed_pages(fake)
    m = mount({"quayfs": {"unmount_wait": "1s"},
               "store k": {**fake.store(), "fault": "op=remove_many,after=1,latency=1h"}})
    thread = start_rename(m)
    eventually(lambda: len(at(fake, b"old/")) == 150)
    m.signal(signal.SIGTERM)
    m.wait()
    thread.join()
    assert len(at(fake, b"old/")) == 150
    goes_on(m)
    eventually(lambda: not at(fake, b"old/") and not pending(m))
    assert at(fake, b"new/") == new and fake.objects[new[-1]].data == b"249"


def test_the_end_of_the_mount_waits_for_the_removals(mount, fake):
    """While the store answers: what was asked for before them (what is listed now) is no reason to break off."""
    new = seed_pages(fake)
    second, ending = stop_at_second_removal(fake)
    m = mount({"store k": fake.store()})
    thread, failed = rename_until(m, second)
    m.signal(signal.SIGTERM)
    time.sleep(0.3)
    ending.set()
    m.wait()
    thread.join()
    assert failed == [0] and not at(fake, b"old/") and at(fake, b"new/") == new


@pytest.mark.deadline(240)
def test_waits_for_the_store(mount, own_minio, make_bucket):
    """The store is away at the start: the rename goes on when it is back, without a remount."""
    bucket = make_bucket(own_minio)
    files = seed(bucket, 120)
    m = mount({"store k": {**stands(bucket, "op=copy,after=40"), "retries": "1", "timeout": "3s"}})
    thread = start_rename(m)
    eventually(lambda: copied(bucket) >= 40)
    m.crash()
    thread.join()
    own_minio.stop()
    goes_on(m)
    time.sleep(1.5)
    own_minio.start()
    eventually(lambda: not pending(m) and not any(k.startswith("old/") for k in bucket.keys()))
    check_whole(bucket, files)


@pytest.fixture(params=["bucket", "gcs", "container"])
def place(request):
    return request.getfixturevalue(request.param)


def killed_between(mount, place, files: dict[str, bytes]):
    """A mount that was killed when each NAME/old was copied to NAME/new, and not removed."""
    for name, data in files.items():
        place.put(f"{name}/old", data)
    m = mount({"store k": stands(place, "op=remove")})
    threads = [rename_in_thread(m, f"{name}/old", f"{name}/new") for name in files]  # one at a time in a directory
    eventually(lambda: all(f"{name}/new" in place.names() for name in files))
    m.crash()
    for thread in threads:
        thread.join()
    assert in_it(place) == {f"{name}/{side}": data for name, data in files.items() for side in ("old", "new")}
    return m


def in_it(place) -> dict[str, bytes]:
    return {name: place.get(name) for name in place.names() if not name.endswith("/")}


def test_one_file_killed_between_copy_and_removal(mount, place):
    """The next start removes the old name; also of one that is too large to be compared with its copy."""
    files = {"small": b"content", "large": pattern(3_000_000)}
    m = killed_between(mount, place, files)
    goes_on(m)
    eventually(lambda: m.log().count("finished the rename") == 2)
    assert in_it(place) == {f"{name}/new": data for name, data in files.items()}
    assert {name: (m / "k" / name / "new").read_bytes() for name in files} == files
    assert not (m / "k/small/old").exists()


def test_one_file_changed_since_the_kill_stays(mount, bucket):
    """By whomever: the source is removed only as what it was, and only while its copy is the same."""
    m = killed_between(mount, bucket, {name: name.encode() for name in "abcde"})
    bucket.put("a/old", b"newer")
    bucket.put("b/new", b"newer")
    bucket.delete("c/new")
    bucket.put("e/old", b"e", Metadata={"mtime": "1600000000"})  # made anew: an ETag is a checksum of the bytes
    goes_on(m)
    eventually(lambda: m.log().count("was interrupted, and") == 4 and "finished the rename" in m.log())
    assert in_it(bucket) == {"a/old": b"newer", "a/new": b"a", "b/old": b"b", "b/new": b"newer", "c/old": b"c", "d/new": b"d",
                             "e/old": b"e", "e/new": b"e"}


def test_copies_that_cannot_be_taken_away_are_told(mount, bucket):
    """A copy fails, and then the store refuses to remove those that were made: the source is whole, and the log has it."""
    files = seed(bucket, 20)
    m = mount({"store k": {**bucket.store(), "retries": "0",
                           "fault": "op=copy,nth=8,errno=EACCES;op=remove,errno=EACCES"}})
    with pytest.raises(PermissionError):
        os.rename(m / "k/old", m / "k/new")
    assert {key: bucket.get(key) for key in files} == files
    assert "old was not renamed to new, and copies of its files stay there; remove them" in m.log()
    assert any(key.startswith("new/") for key in bucket.keys())
    assert not pending(m)


def test_an_undo_that_the_end_of_the_mount_cuts_off_goes_on(mount, bucket):
    """Also when a removal has failed before that: the next start takes the copies away."""
    files = seed(bucket, 20)
    m = mount({"store k": {**bucket.store(), "retries": "0",
                           "fault": "op=copy,nth=8,errno=EACCES;op=remove,nth=1,errno=EIO;op=remove,after=1,errno=EINTR"}})
    with pytest.raises(PermissionError):
        os.rename(m / "k/old", m / "k/new")
    assert "copies of its files stay there until the next start" in m.log()
    assert copied(bucket)
    m.stop()
    goes_on(m)
    eventually(lambda: settled(m, bucket))
    assert not copied(bucket)
    assert {key: bucket.get(key) for key in files} == files


def test_copies_of_which_nobody_knows_are_told(mount, fake):
    """They are not looked for: what comes to be there cannot be told from what another client copies there."""
    files = seed_pages(fake, 3)
    m = mount({"store k": {**fake.store(), "retries": "0", "fault": "op=copy,key=old/f0001,errno=ETIMEDOUT,lost=yes"}})
    assert error_of(m) == errno.ETIMEDOUT
    assert [fake.objects[b"old/f%04d" % n].data for n in range(3)] == [b"0", b"1", b"2"]
    assert at(fake, b"new/") == files[1:2]
    assert "new/f0001 may be there, or come to be there yet" in m.log()


@pytest.mark.parametrize("only", ["^PUT .*uploadId=", "^POST .*uploadId="], ids=["copying", "finishing"])
def test_uploads_of_copies_are_taken_away_after_a_kill(mount, bucket, proxy, only):
    """Each copy is an upload of the store's own: the server has them, and nobody but the journal knows."""
    files = seed(bucket, 24)
    proxy.fault = Fault(stall=True, only=only)
    m = mount({"store k": bucket.store(endpoint_url=proxy.endpoint, max_concurrency="8")})
    thread = start_rename(m)
    eventually(lambda: proxy.count(only) == 8)  # all threads: none has begun one of which it does not know yet
    m.crash()
    thread.join()
    assert len(uploads(bucket, files)) == 8
    proxy.fault = None
    m.start()
    eventually(lambda: settled(m, bucket) and not uploads(bucket, files))
    check_whole(bucket, files)


@pytest.mark.parametrize("only", ["uploadId=", "^POST .*uploadId="], ids=["nothing-works", "unknown-outcome"])
def test_uploads_of_copies_that_failed_are_taken_away(mount, bucket, proxy, only):
    """At once, or when the server does it again: nobody waits for the next start."""
    files = seed(bucket, 12)
    m = mount({"store k": {**bucket.store(endpoint_url=proxy.endpoint), "retries": "0"}})
    proxy.fault = Fault(status=500, only=only)
    with pytest.raises(OSError):
        os.rename(m / "k/old", m / "k/new")
    assert proxy.count(only)
    proxy.fault = None
    eventually(lambda: not uploads(bucket, files))
    assert {key: bucket.get(key) for key in files} == files
    assert not copied(bucket)
