"""Several stores in one mount: none is in the way of another."""

import errno
import os
import shutil
import threading

import pytest

from harness.backends import PLACES, make_key
from harness.tools import fails_with


ALL = ("local", "memory", "s3", "gcs", "azure", "sftp", "sqlite", "postgres", "mysql")


def test_all_backends_side_by_side(mount, folder, request):
    """Whatever can be written, in one mount; a file goes from one to the next."""
    keys = {}
    for backend in ALL:
        (folder / backend).mkdir()
        keys[backend] = make_key(backend, folder / backend, request.getfixturevalue(PLACES[backend]) if backend in PLACES else None)
    m = mount({f"store {backend}": key.options for backend, key in keys.items()})
    (m / "local/f").write_bytes(b"content")
    for one, next_ in zip(ALL, ALL[1:]):
        shutil.copy(m / one / "f", m / next_ / "f")
    for backend, key in keys.items():
        assert (m / backend / "f").read_bytes() == b"content", backend
        assert not key.lasting or key.behind("f") == b"content", backend
        assert os.getxattr(m / backend / "f", "user.quay.backend_type").decode() == backend


def test_one_bucket_under_two_keys(mount, bucket):
    m = mount({"store all": bucket.store(), "store part": bucket.store(base_path="part")})
    (m / "part/f").write_bytes(b"x")
    assert (m / "all/part/f").read_bytes() == b"x"


def test_a_failing_store_leaves_the_others(mount, bucket):
    bucket.put("f", b"x")
    broken = {**bucket.store(endpoint_url="http://127.0.0.1:1"), "retries": "0"}
    m = mount({"store good": bucket.store(), "store bad": broken, "store scratch": {"backend": "memory"}})
    assert (m / "good/f").read_bytes() == b"x"
    (m / "scratch/f").write_bytes(b"y")
    with fails_with(errno.EHOSTUNREACH, errno.EIO):
        os.listdir(m / "bad")
    assert "bad" in m.health().__repr__()


def test_a_store_that_cannot_be_opened(mount, folder):
    """Its directory answers EIO with the reason in health.json and one log line (requirement 0.36)."""
    (folder / "file").write_text("not a directory")
    m = mount({"store bad": {"backend": "local", "base_path": folder / "file"},
               "store good": {"backend": "memory"}})
    (m / "good/f").write_bytes(b"x")
    assert {"bad", "good"} <= set(os.listdir(m.path))
    with fails_with(errno.EIO):
        os.listdir(m / "bad")
    assert "Failed to register storage backend 'bad'" in m.log()
    assert str(folder / "file") in (m / ".quay/health.json").read_text()


def test_strict_refuses_to_mount(mount, folder):
    (folder / "file").write_text("not a directory")
    m = mount({"quayfs": {"strict": "yes"}, "store bad": {"backend": "local", "base_path": folder / "file"}},
              start=False)
    with pytest.raises(Exception, match="bad"):
        m.start()


def test_environments(mount, folder):
    sections = {"store k": {"backend": "local", "base_path": folder / "prod"},
                "store k@dev": {"base_path": folder / "dev"}}
    m = mount(sections, "--env", "dev")
    (m / "k/f").write_bytes(b"dev")
    assert (folder / "dev/f").read_bytes() == b"dev"
    m.stop()
    m = mount(sections, name="prod")
    (m / "k/f").write_bytes(b"prod")
    assert (folder / "prod/f").read_bytes() == b"prod"
    m.stop()
    m = mount(sections, name="by-variable", env={"QUAYFS_ENV": "dev"})
    assert (m / "k/f").read_bytes() == b"dev"


def test_an_environment_with_another_backend(mount, bucket, folder):
    """What the other backend wants of its own is not held against this one."""
    m = mount({"store k": bucket.store(), "store k@dev": {"backend": "local", "base_path": folder / "dev"}}, "--env", "dev")
    (m / "k/f").write_bytes(b"dev")
    assert (folder / "dev/f").read_bytes() == b"dev" and bucket.keys() == []


def test_a_slow_store_does_not_hold_up_another(mount, own_minio, make_bucket, folder):
    bucket = make_bucket(own_minio)
    for number in range(30):
        bucket.put(f"f{number}", b"x")
    m = mount({"store slow": {**bucket.store(), "retries": "0", "timeout": "60s"},
               "store quick": {"backend": "memory"}})
    os.listdir(m / "slow")
    own_minio.pause()

    def read(number: int) -> None:
        try:
            (m / f"slow/f{number}").read_bytes()
        except OSError:
            pass

    waiting = [threading.Thread(target=read, args=(n,)) for n in range(30)]
    try:
        for thread in waiting:
            thread.start()
        for number in range(100):
            (m / f"quick/f{number}").write_bytes(b"x")
        assert any(thread.is_alive() for thread in waiting), "the store was not slow"
    finally:
        own_minio.resume()
        for thread in waiting:
            thread.join()
