"""Cloud Storage as another implementation understood it: fake-gcs-server."""

import os
import secrets
import shutil

import pytest

from harness.data import pattern
from harness.tools import content, sample_tree, tree
from servers import FakeGcsServer

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    made = FakeGcsServer(tmp_path_factory.mktemp("fake-gcs-server")).start()
    yield made
    made.stop()


@pytest.fixture
def name(server) -> str:
    made = "t-" + secrets.token_hex(5)
    server.make_bucket(made)
    return made


def test_a_tree_comes_back_as_it_was(mount, server, name, folder):
    m = mount({"store k": server.store(name)})
    source = sample_tree(folder / "source")
    shutil.copytree(source, m / "k/copy", symlinks=True)
    os.rename(m / "k/copy", m / "k/moved")
    m.remount()
    assert tree(m / "k/moved") == tree(source) and content(m / "k/moved") == content(source)
    assert not [n for n in server.names(name) if n.startswith("copy")]
    shutil.rmtree(m / "k/moved")
    assert os.listdir(m / "k") == [] and server.names(name) == []


def test_objects_of_others(mount, server, name):
    data = pattern(3 * MIB + 1)
    for key in ("a", "deep/er/b", "with space+and%25/\u00e9"):
        server.put(name, key, data)
    m = mount({"store k": server.store(name)})
    found = sorted(os.path.relpath(os.path.join(at, n), m / "k") for at, _, names in os.walk(m / "k") for n in names)
    assert found == ["a", "deep/er/b", "with space+and%25/\u00e9"]
    for key in found:
        assert (m / "k" / key).read_bytes() == data
    with pytest.raises(FileNotFoundError):
        (m / "k/deep/none").read_bytes()


def test_parts_and_replacing(mount, server, name):
    data = pattern(23 * MIB + 11)
    m = mount({"store k": server.store(name, multipart_threshold="8MiB", multipart_chunksize="4MiB")})
    (m / "k/big").write_bytes(data)
    assert server.get(name, "big") == data and server.names(name) == ["big"]  # composed, the parts are gone
    (m / "k/big").write_bytes(b"small")
    assert server.get(name, "big") == b"small"
    os.chmod(m / "k/big", 0o600)
    m.remount()
    assert (m / "k/big").read_bytes() == b"small" and os.stat(m / "k/big").st_mode & 0o777 == 0o600
