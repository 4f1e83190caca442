"""backend = sftp: edits in place that do not come to their end."""

import os
import time

import pytest

from harness.data import pattern
from harness.tools import eventually, no_temporaries

MIB = 1024 * 1024


def edit_far_away(mount, sshd, place, far):
    """An edit of two thirds of a file whose upload has begun to write in place. Gives the mount, and what is wanted."""
    before = pattern(24 * MIB, 1)
    (place / "f").write_bytes(before)
    far.delay = 0.1
    m = mount({"store k": sshd.store(place.name, endpoints=f"127.0.0.1:{far.port}", write="back",
                                     retry_delay="20ms", connection_timeout="30s")})
    with open(m / "k/f", "r+b") as file:
        file.seek(MIB)
        file.write(pattern(16 * MIB, 2))
    eventually(lambda: (place / "f").read_bytes() != before)
    return m, before[:MIB] + pattern(16 * MIB, 2) + before[17 * MIB:]


def in_conflict(place, theirs) -> bytes:
    """Another client's version has the name; ours is what is given, the conflict copy."""
    eventually(lambda: len(os.listdir(place)) == 2 and no_temporaries(place))
    assert (place / "f").read_bytes() == theirs
    [copy] = [name for name in os.listdir(place) if name != "f"]
    assert ".conflict-" in copy
    return (place / copy).read_bytes()


def test_an_edit_in_place_that_is_given_up_is_nobody_elses(mount, sshd, place, relay):
    """Story: the upload of an edit was given up for the sake of a later change while it wrote in place. The half of it
    that was there made another version of the file, which the later change took for another client's."""
    m, whole = edit_far_away(mount, sshd, place, relay())
    with open(m / "k/f", "r+b") as file:
        file.truncate(20 * MIB)
        file.seek(3)
        file.write(b"later")
    wanted = whole[:3] + b"later" + whole[8:20 * MIB]
    eventually(lambda: (place / "f").read_bytes() == wanted)
    assert (m / "k/f").read_bytes() == wanted
    assert os.listdir(place) == ["f"]


@pytest.mark.parametrize("how", ["killed", "lost"])
def test_an_edit_in_place_that_was_cut_off_is_finished(mount, sshd, place, relay, how):
    """Story: quayfs was killed while it wrote an edit in place, after close() had returned. The next start took what that
    had left for another client's version: the name kept the mixture, the edit went to a conflict copy with holes."""
    far = relay()
    m, wanted = edit_far_away(mount, sshd, place, far)
    if how == "killed":
        m.kill9()
        assert (place / "f").read_bytes() != wanted, "the kill came too late"
        far.delay = 0.0
        m.start()
    else:
        far.delay = 0.0
        far.drop()
    eventually(lambda: (place / "f").read_bytes() == wanted)
    assert (m / "k/f").read_bytes() == wanted
    assert os.listdir(place) == ["f"]


@pytest.mark.parametrize("later", ["edited", "rewritten and killed"])
def test_a_half_edit_whose_first_bytes_change_is_finished(mount, sshd, place, relay, later):
    """Story: the connection was lost in the middle of an edit, and before it was there again the program changed what the edit
    began with. What the first try had left was then taken for another client's: a conflict copy with holes."""
    far = relay()
    m, wanted = edit_far_away(mount, sshd, place, far)
    far.stop()
    assert still(place / "f") != wanted, "the edit was faster"
    if later == "edited":
        with open(m / "k/f", "r+b") as file:
            for at in (MIB + 7, 100):  # in it, and before it
                file.seek(at)
                file.write(b"later")
                wanted = wanted[:at] + b"later" + wanted[at + 5:]
    else:
        wanted = pattern(MIB, 5)
        (m / "k/f").write_bytes(wanted)
        m.kill9()
    far.delay = 0.0
    far.start()
    if later != "edited":
        m.start()
    eventually(lambda: (place / "f").read_bytes() == wanted)
    assert (m / "k/f").read_bytes() == wanted
    assert os.listdir(place) == ["f"]


def test_an_edit_of_a_file_with_its_old_time_again_survives_a_kill(mount, sshd, place, relay):
    """Story: SFTP tells times in seconds, so quayfs tells two contents of one time and size apart by itself, as long as it
    runs. After a kill it took the file of its own staged edit for another client's, and the edit went to a conflict copy."""
    far = relay()
    far.delay = 0.2
    m = mount({"store k": sshd.store(place.name, endpoints=f"127.0.0.1:{far.port}", write="back", retry_delay="20ms",
                                     connection_timeout="30s")})
    before = pattern(MIB, 1)
    (place / "f").write_bytes(before)
    for time in (1234567890, 1000000000, 1234567890):
        os.utime(m / "k/f", (time, time))
    with open(m / "k/f", "r+b") as file:
        file.seek(MIB // 2)
        file.write(b"edit")
    m.crash()
    far.drop()
    assert (place / "f").read_bytes() == before, "the kill came too late"
    far.delay = 0.0
    m.start()
    wanted = before[:MIB // 2] + b"edit" + before[MIB // 2 + 4:]
    eventually(lambda: (place / "f").read_bytes() == wanted)
    assert (m / "k/f").read_bytes() == wanted
    assert os.listdir(place) == ["f"]


@pytest.mark.parametrize("how", ["one process", "two processes"])
def test_an_edit_with_a_time_that_the_file_had_before(mount, sshd, place, how):
    """Story: a file's time was changed, and then it was edited within the second that it had had before, or given that time:
    the version looked like the first one's, and what was cached of that was read."""
    (place / "f").write_bytes(pattern(MIB, 1))
    os.utime(place / "f", (1234567890, 1234567890))
    m = mount({"store k": sshd.store(place.name)})
    assert (m / "k/f").read_bytes() == pattern(MIB, 1)
    os.utime(m / "k/f", (1000000000, 1000000000))
    if how == "two processes":
        m.remount()
    with open(m / "k/f", "r+b") as file:
        file.write(pattern(MIB, 2)[:4096])
        file.flush()
        os.utime(file.fileno(), (1234567890, 1234567890))
    wanted = pattern(MIB, 2)[:4096] + pattern(MIB, 1)[4096:]
    assert (place / "f").read_bytes() == wanted
    assert (m / "k/f").read_bytes() == wanted
    m.remount()
    assert (m / "k/f").read_bytes() == wanted


def test_a_file_moved_where_one_of_its_time_and_size_was(mount, sshd, place):
    for name, seed in (("f", 1), ("g", 2)):
        (place / name).write_bytes(pattern(MIB, seed))
        os.utime(place / name, (1234567890, 1234567890))
    m = mount({"store k": sshd.store(place.name)})
    assert (m / "k/f").read_bytes() == pattern(MIB, 1)
    os.utime(m / "k/f", (1000000000, 1000000000))
    m.remount()
    os.rename(m / "k/g", m / "k/f")
    assert (m / "k/f").read_bytes() == pattern(MIB, 2)


def test_what_was_kept_before_a_kill_is_not_taken_for_what_is_there(mount, sshd, place):
    """Two contents of one second and one size look alike to a new process: the index that a kill or a power cut leaves may
    have the first one."""
    (place / "f").write_bytes(pattern(MIB, 1))
    os.utime(place / "f", (1234567890, 1234567890))
    m = mount({"store k": sshd.store(place.name)})
    assert (m / "k/f").read_bytes() == pattern(MIB, 1)
    m.remount()  # all of it is in the index now
    m.crash()
    (place / "f").write_bytes(pattern(MIB, 2))  # as if it had been written here, and the index had not come that far
    os.utime(place / "f", (1234567890, 1234567890))
    m.start()
    assert (m / "k/f").read_bytes() == pattern(MIB, 2)


def test_what_replaced_a_half_edit_is_another_clients(mount, sshd, place, relay):
    far = relay()
    m, wanted = edit_far_away(mount, sshd, place, far)
    m.kill9()
    theirs = pattern(23 * MIB, 3)
    (place / "new").write_bytes(theirs)
    os.replace(place / "new", place / "f")
    far.delay = 0.0
    m.start()
    assert in_conflict(place, theirs)[MIB:17 * MIB] == wanted[MIB:17 * MIB]


def still(path):
    """What a dead client had on its way to the server has arrived."""
    seen = []

    def same() -> bool:
        seen.append(path.read_bytes())
        time.sleep(0.3)
        return len(seen) > 1 and seen[-1] == seen[-2]

    eventually(same)
    return seen[-1]


@pytest.mark.parametrize("size", [24 * MIB + 500, 23 * MIB])
def test_what_resized_a_half_edit_is_another_clients(mount, sshd, place, relay, size):
    """Story: what another program had appended to a half edited file was cut off when the edit was finished, without a word;
    what it had cut off was there again, as zeros."""
    far = relay()
    m, wanted = edit_far_away(mount, sshd, place, far)
    m.kill9()
    far.drop()
    half = still(place / "f")
    assert half[MIB:MIB + 4096] == wanted[MIB:MIB + 4096] and half != wanted, "the kill came at a wrong time"
    theirs = half[:size].ljust(size, b"+")
    with open(place / "f", "r+b") as file:
        file.truncate(size)
        file.seek(min(size, len(half)))
        file.write(theirs[len(half):])
    far.delay = 0.0
    m.start()
    assert in_conflict(place, theirs)[MIB:17 * MIB] == wanted[MIB:17 * MIB]


def test_an_edit_that_was_never_begun_is_not_half_done(mount, sshd, place, relay):
    """Story: the server was away when an edit was to be stored. What another client had changed meanwhile was taken for the
    edit's own half, where the edit began with bytes that were there before, and both were mixed without a word."""
    far = relay()
    before = pattern(8 * MIB, 1)
    (place / "f").write_bytes(before)
    m = mount({"store k": sshd.store(place.name, endpoints=f"127.0.0.1:{far.port}", write="back", retry_delay="20ms")})
    mine = before[MIB:MIB + 4096] + pattern(4096, 2)
    with open(m / "k/f", "r+b") as file:
        far.stop()
        file.seek(MIB)
        file.write(mine)
    time.sleep(1.5)  # tried and refused
    theirs = before[:4 * MIB] + pattern(4096, 3) + before[4 * MIB + 4096:]
    with open(place / "f", "r+b") as file:
        file.seek(4 * MIB)
        file.write(pattern(4096, 3))
    far.start()
    assert in_conflict(place, theirs)[MIB:MIB + 8192] == mine
