"""kill -9 at awkward moments, then a new mount on what is left."""

import os
import subprocess
import sys
import threading
import time

import pytest

from harness.backends import PLACES, make_key
from harness.data import pattern
from harness.tools import eventually, run

MIB = 1024 * 1024


def test_nothing_half_written_is_published(mount, lasting_key):
    lasting_key.put_behind("f", b"good content")
    m = mount({"store k": lasting_key.options})
    descriptor = os.open(m / "k/f", os.O_WRONLY | os.O_TRUNC)
    os.write(descriptor, pattern(3 * MIB))
    m.crash()
    try:
        os.close(descriptor)
    except OSError:
        pass
    assert lasting_key.behind("f") == b"good content"
    m.start()
    assert (m / "k/f").read_bytes() == lasting_key.behind("f") == b"good content"


WRITER = """
import os, sys, time
file = os.open(sys.argv[1], os.O_WRONLY | os.O_TRUNC)
for _ in range(int(sys.argv[2])):
    os.write(file, b"n" * (1 << 20))
print("wrote", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("backend, part", [("s3", 5), ("gcs", 1), ("azure", 1)])
def test_killed_while_parts_are_sent(mount, backend, part, folder, request):
    """The object is the old one, and nothing of the parts is seen, nor left after the next start."""
    key = make_key(backend, folder, request.getfixturevalue(PLACES[backend]))
    key.put_behind("big", b"as before")
    m = mount({"store k": {**key.options, "multipart_threshold": f"{part}MiB", "multipart_chunksize": f"{part}MiB"}})
    # A process of its own: whatever this one starts has our descriptors for a moment, and their close() is a commit.
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(m / "k/big"), str(3 * part)], stdout=subprocess.PIPE)
    try:
        assert writer.stdout.read(5) == b"wrote"
        eventually(lambda: m.metric("quayfs_backend_written_bytes_total", key="k") >= part * MIB)
        m.crash()
    finally:
        writer.kill()
        writer.wait()
    assert key.behind("big") == b"as before"
    m.start()
    assert os.listdir(m / "k") == ["big"] and (m / "k/big").read_bytes() == b"as before"
    eventually(lambda: key.box.names() == ["big"])
    (m / "k/big").write_bytes(b"new")
    assert key.behind("big") == b"new"


def test_write_back_survives(mount, own_minio, make_bucket):
    """close() returned: the bytes are on the disk with their journal entry and go out after the crash."""
    bucket = make_bucket(own_minio)
    m = mount({"store k": {**bucket.store(), "write": "back", "retries": "0", "timeout": "30s"}})
    data = pattern(2 * MIB)
    with open(m / "k/f", "wb") as one, open(m / "k/g", "wb") as other:
        one.write(data)
        other.write(b"small")
        one.flush()
        other.flush()
        own_minio.stop()
    assert (m / "k/f").stat().st_size == len(data)
    m.crash()
    own_minio.start()
    m.start()
    assert (m / "k/f").read_bytes() == data
    eventually(lambda: set(bucket.keys()) >= {"f", "g"})
    assert bucket.get("f") == data and bucket.get("g") == b"small"


def test_orphaned_uploads_are_swept(mount, bucket):
    """Parts of ours that a crash left behind are aborted by the next start; those of others stay."""
    foreign = bucket.s3.create_multipart_upload(Bucket=bucket.name, Key="foreign")
    m = mount({"store k": bucket.store()})
    descriptor = os.open(m / "k/big", os.O_CREAT | os.O_WRONLY)
    for _ in range(100):
        os.write(descriptor, bytes(MIB))
    eventually(lambda: parts(bucket, "big"))  # it is journaled before its first part leaves
    m.crash()
    try:
        os.close(descriptor)
    except OSError:
        pass
    m.start()
    eventually(lambda: not pending(bucket, "big"))
    bucket.s3.abort_multipart_upload(Bucket=bucket.name, Key="foreign", UploadId=foreign["UploadId"])
    assert "big" not in bucket.keys()


def pending(bucket, key: str) -> list:
    """MinIO lists uploads only for a full key."""
    listed = bucket.s3.list_multipart_uploads(Bucket=bucket.name, Prefix=key)
    return listed.get("Uploads", [])


def parts(bucket, key: str) -> list:
    return [part for upload in pending(bucket, key) for part in bucket.s3.list_parts(
        Bucket=bucket.name, Key=key, UploadId=upload["UploadId"]).get("Parts", [])]


@pytest.mark.slow
@pytest.mark.deadline(300)
def test_killed_again_and_again(mount, bucket):
    """A writer that records what it has closed; after each kill all of that is in the bucket."""
    m = mount({"store k": bucket.store()})
    closed: dict[str, bytes] = {}
    for turn in range(8):
        stop = threading.Event()

        def write(turn: int = turn) -> None:
            number = 0
            while not stop.is_set():
                name, data = f"t{turn}-{number}", pattern(1 + number * 7919 % 200_000, seed=number)
                try:
                    (m / "k" / name).write_bytes(data)
                except OSError:
                    return
                closed[name] = data
                number += 1

        writer = threading.Thread(target=write)
        writer.start()
        time.sleep(0.3 + 0.1 * turn)
        m.crash()
        stop.set()
        writer.join()
        for name, data in closed.items():
            assert bucket.get(name) == data, name
        m.start()
        for name, data in list(closed.items())[-20:]:
            assert (m / "k" / name).read_bytes() == data
    assert closed


def test_restart_while_the_dead_mount_is_still_there(mount, lasting_key):
    """quayfs on a mount point whose daemon has died: cleared by itself, or refused with the remedy."""
    lasting_key.put_behind("f", b"x")
    m = mount({"store k": lasting_key.options})
    m.kill9()
    done = subprocess.run([str(m.program), *m.arguments[1:]], capture_output=True, text=True, env=m.env)
    if done.returncode == 0:
        assert (m / "k/f").read_bytes() == b"x"
        run("fusermount3", "-u", m.path)
    else:
        assert "fusermount3 -u" in done.stderr
        m.detach()
