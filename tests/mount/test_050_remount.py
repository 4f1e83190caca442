"""What was written is there after a remount, byte for byte what the store itself returns."""

import os
import subprocess

from harness.data import pattern, sha256
from harness.tools import content, sample_tree, run

MIB = 1024 * 1024


def test_bytes_are_equal_in_all_places(mount, lasting_key):
    m = mount({"store k": lasting_key.options})
    written = {}
    for size in (0, 1, 4096, 100_000, MIB, MIB + 1, 9 * MIB + 5):
        data = pattern(size, seed=size + 1)
        (m / f"k/f{size}").write_bytes(data)
        written[f"f{size}"] = sha256(data)
    through_mount = content(m / "k")
    m.remount()
    assert content(m / "k") == through_mount == written
    assert {name: sha256(lasting_key.behind(name)) for name in written} == written


def test_multipart_upload_is_equal(mount, lasting_key):
    """Above 64 MiB, and edited afterwards in the middle, at the end and by truncation."""
    m = mount({"store k": lasting_key.options})
    data = bytearray(pattern(MIB) * 65 + b"tail")
    (m / "k/big").write_bytes(data)
    assert sha256(lasting_key.behind("big")) == sha256(data)
    with open(m / "k/big", "r+b") as file:
        file.seek(30 * MIB - 4)
        file.write(b"edited!!")
        file.seek(0, os.SEEK_END)
        file.write(b"appended")
    data[30 * MIB - 4:30 * MIB + 4] = b"edited!!"
    data += b"appended"
    assert sha256(lasting_key.behind("big")) == sha256(data)
    os.truncate(m / "k/big", 50 * MIB + 1)
    del data[50 * MIB + 1:]
    m.remount()
    assert sha256((m / "k/big").read_bytes()) == sha256(data) == sha256(lasting_key.behind("big"))


def test_the_store_keeps_plain_objects(mount, bucket, tmp_path):
    """Anybody can read the bucket: object keys are the paths, contents the bytes."""
    m = mount({"store k": bucket.store()})
    source = sample_tree(tmp_path / "sample")
    run("cp", "-a", source, m / "k/copy")
    m.stop()
    behind = {key.removeprefix("copy/"): sha256(bucket.get(key)) for key in bucket.keys("copy/")
              if not key.endswith("/")}
    behind = {key: value for key, value in behind.items() if not (source / key).is_symlink()
              and not (source / key).is_dir()}
    assert behind == content(source)


def test_base_path_is_a_prefix(mount, bucket):
    bucket.put("outside", b"hidden")
    bucket.put("data/in/f", b"seen")
    m = mount({"store k": bucket.store(base_path="data/in/")})
    assert os.listdir(m / "k") == ["f"]
    (m / "k/new").write_bytes(b"x")
    assert bucket.get("data/in/new") == b"x"
    m.stop()
    m = mount({"store k": {**bucket.store(), "base_path": "data"}}, name="again")
    assert sorted(os.listdir(m / "k/in")) == ["f", "new"]


def test_many_remounts(mount, lasting_key):
    m = mount({"store k": lasting_key.options})
    for turn in range(5):
        with open(m / "k/log", "ab") as file:
            file.write(b"turn %d\n" % turn)
        m.remount()
    assert (m / "k/log").read_bytes() == b"".join(b"turn %d\n" % turn for turn in range(5))


def test_memory_is_empty_after_a_remount(mount):
    m = mount({"store k": {"backend": "memory"}})
    (m / "k/f").write_bytes(b"x")
    m.remount()
    assert os.listdir(m / "k") == []


def test_unmount_flushes_an_open_file(mount, lasting_key):
    """SIGTERM while a program still writes: what it has written is in the store, exit code 0."""
    m = mount({"store k": lasting_key.options})
    descriptor = os.open(m / "k/f", os.O_CREAT | os.O_WRONLY)
    try:
        os.write(descriptor, b"half a line")
        assert m.terminate() == 0
    finally:
        try:
            os.close(descriptor)
        except OSError:
            pass
    m.detach()
    assert lasting_key.behind("f") == b"half a line"


def test_started_while_the_one_before_ends(mount, lasting_key):
    """fusermount3 -u returns before what is staged is stored: a mount that follows at once has to wait for its cache."""
    m = mount({"store k": {**lasting_key.options, "write": "back", "fault": "op=put,latency=3s"}})
    (m / "k/f").write_bytes(b"staged")
    first = m.process
    run("fusermount3", "-u", m.path)
    assert first.poll() is None, "it has ended already"
    m.process = None
    m.start()
    assert first.wait(60) == 0
    assert "which ends" in m.log() and (m / "k/f").read_bytes() == b"staged"
    assert lasting_key.behind("f") == b"staged"


def test_one_cache_directory_has_one_daemon(mount, lasting_key):
    m = mount({"store k": lasting_key.options})
    other = m.folder / "other"
    other.mkdir()
    done = subprocess.run([str(m.program), *m.arguments[:-1], str(other)], capture_output=True, text=True, env=m.env)
    assert done.returncode == 1 and f"is in use by pid {m.pid}" in done.stderr
    (m / "k/f").write_bytes(b"x")
