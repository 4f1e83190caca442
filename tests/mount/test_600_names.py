"""Object names that are no file names: they never escape, crash, hide others or merge."""

import os

import pytest

from harness.tools import run
from servers import FakeS3

HOSTILE = {
    b"../escape": b"1",
    b"..": b"2",
    b".": b"3",
    b"d/../up": b"4",
    b"d/./here": b"5",
    b"d//twice": b"6",
    b"/leading": b"7",
    b"//both": b"8",
    b"trailing//": b"",
    b"a": b"object a",
    b"a/b": b"object a/b",
    b"a/b/c": b"object a/b/c",
    b"n" * 300: b"long",
    b"long/" + b"m" * 300 + b"/below": b"below a long one",
    b"bytes-\xff\xfe\x01": b"binary",
    b"new\nline": b"newline",
    b"tab\tquote\"'&<>": b"quoting",
    b"%2F": b"looks escaped",
    b"%2E%2E": b"looks like dots",
    b"100%": b"percent",
    b"a%2F": b"looks like a shadow",
    b"plus+and space": b"plus",
    "ünï/cødé".encode(): b"unicode",
    b"-rf": b"dash",
    b"plain": b"plain",
}


@pytest.fixture
def fake():
    server = FakeS3().start()
    for key, data in HOSTILE.items():
        server.put(key, data)
    yield server
    server.stop()


def walk(top: bytes) -> dict[bytes, bytes]:
    """Path -> content of all that is visible; each name is legal and listed once."""
    found: dict[bytes, bytes] = {}
    for entry in os.scandir(top):
        assert entry.name not in (b"", b".", b"..") and b"/" not in entry.name
        assert len(entry.name) <= 255
        if entry.is_dir(follow_symlinks=False):
            found |= walk(entry.path)
        else:
            assert entry.path not in found
            with open(entry.path, "rb") as file:
                found[entry.path] = file.read()
    return found


def test_all_are_visible_and_none_is_merged(mount, fake):
    m = mount({"store k": fake.store()})
    found = walk(os.fsencode(m / "k"))
    wanted = sorted(data for key, data in HOSTILE.items() if not key.endswith(b"/"))
    assert sorted(found.values()) == wanted
    for path in found:
        assert os.path.realpath(path).startswith(os.fsencode(os.path.realpath(m / "k")))


def test_documented_forms(mount, fake):
    m = mount({"store k": fake.store()})
    assert (m / "k/a").read_bytes() == b"object a"
    assert (m / "k/a%2F/b").read_bytes() == b"object a/b"
    assert (m / "k/%2E%2E").read_bytes() == b"2" or (m / "k/%2E%2E").is_dir()
    assert (m / "k/%2F/leading").read_bytes() == b"7"
    assert (m / "k/d/%2F/twice").read_bytes() == b"6"
    assert (m / "k/d/%2E%2E/up").read_bytes() == b"4"
    assert (m / "k/100%").read_bytes() == b"percent"
    assert (m / "k/plain").read_bytes() == b"plain"


def test_they_can_be_written_and_removed(mount, fake):
    m = mount({"store k": fake.store()})
    (m / "k/d/%2E%2E/up").write_bytes(b"changed")
    assert fake.objects[b"d/../up"].data == b"changed"
    (m / "k/a").write_bytes(b"changed a")
    assert fake.objects[b"a"].data == b"changed a"
    assert fake.objects[b"a/b"].data == b"object a/b"
    (m / "k/%2F/leading").unlink()
    assert b"/leading" not in fake.objects
    long = next(name for name in os.listdir(m / "k") if name.startswith("nnnn"))
    (m / "k" / long).write_bytes(b"changed long")
    assert fake.objects[b"n" * 300].data == b"changed long"
    (m / "k" / long).unlink()
    assert b"n" * 300 not in fake.objects


def test_paths_do_not_leave_the_mount(mount, fake, tmp_path):
    m = mount({"store k": fake.store()})
    (tmp_path / "out").mkdir()
    run("cp", "-r", m / "k", tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == ["k"]
    run("tar", "-C", m / "k", "-cf", tmp_path / "t.tar", ".")


def test_listings_in_small_pages(mount, fake):
    fake.page = 3
    m = mount({"store k": fake.store()})
    assert len(walk(os.fsencode(m / "k"))) == sum(1 for key in HOSTILE if not key.endswith(b"/"))


def test_logs_stay_one_line_each(mount, fake):
    m = mount({"quayfs": {"log_level": "debug"}, "store k": fake.store()})
    walk(os.fsencode(m / "k"))
    assert "\x01" not in m.log()


def test_names_through_the_mount_reach_any_backend(mount, lasting_key):
    m = mount({"store k": lasting_key.options})
    names = ["plain", "100%", "%41", "with space", "ünï", "a+b", "-rf", "q'u\"o", "back\\slash", "new\nline",
             "x" * 255, "#hash?query&more", "~tilde", "[bracket]", "trailing."]
    for name in names:
        (m / "k" / name).write_bytes(name.encode())
    m.remount()
    assert sorted(os.listdir(m / "k")) == sorted(names)
    for name in names:
        assert (m / "k" / name).read_bytes() == name.encode()


def test_local_links_that_lead_out_are_not_followed_by_us(mount, folder):
    """A symbolic link in a local store is a link, whose target the kernel resolves for the user."""
    store = folder / "store"
    store.mkdir()
    (folder / "secret").write_text("outside")
    (store / "link").symlink_to(folder / "secret")
    (store / "dir").symlink_to(folder)
    m = mount({"store k": {"backend": "local", "base_path": store}})
    assert (m / "k/link").is_symlink() and os.readlink(m / "k/link") == str(folder / "secret")
    assert (m / "k/dir").is_symlink()
    assert set(os.listdir(m / "k")) == {"link", "dir"}
