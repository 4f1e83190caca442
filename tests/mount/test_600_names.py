"""Object names that are no file names: they never escape, crash, hide others or merge."""

import errno
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
    b"/": b"9",
    b"///": b"10",
    b"trailing//": b"",
    b"content/": b"in a marker",
    b"content/beside": b"beside it",
    b"content//": b"in a marker below",
    b"marked/": b"",
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
    wanted = sorted(data for data in HOSTILE.values() if data)
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
    assert (m / "k/%2F/%2F").is_file() and (m / "k/%2F/%2F").read_bytes() == b"9"
    assert sorted(os.listdir(m / "k/%2F")) == ["%2F", "%2F%2F", "leading"]
    assert (m / "k/%2F/%2F%2F/both").read_bytes() == b"8"
    assert (m / "k/content/%2F").read_bytes() == b"in a marker"
    assert (m / "k/content/%2F").stat().st_size == len(b"in a marker")
    assert (m / "k/content/%2F%2F/%2F").read_bytes() == b"in a marker below"
    assert (m / "k/%2F/%2F%2F/%2F/%2F").read_bytes() == b"10"
    assert os.listdir(m / "k/trailing/%2F") == [] and os.listdir(m / "k/marked") == []


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


def test_directories_of_such_names(mount, fake):
    m = mount({"store k": fake.store()})
    (m / "k/new").mkdir()
    (m / "k/new/%2F").mkdir()
    (m / "k/new/%2F/%2E%2E").mkdir()
    (m / "k/new/%2F/%2E%2E/file").write_bytes(b"deep")
    assert fake.objects[b"new//../file"].data == b"deep"
    m.remount()
    assert (m / "k/new/%2F/%2E%2E/file").read_bytes() == b"deep"
    os.rename(m / "k/new", m / "k/%2F/moved")
    assert fake.objects[b"/moved//../file"].data == b"deep"
    assert not [key for key in fake.objects if key.startswith(b"new/")]
    os.rename(m / "k/%2F/moved/%2F", m / "k/up")
    assert fake.objects[b"up/../file"].data == b"deep"
    os.rename(m / "k/up/%2E%2E/file", m / "k/%2F/%2F%2F/x")
    assert fake.objects[b"//x"].data == b"deep"
    for name in ("up/%2E%2E", "up", "%2F/moved"):
        (m / "k" / name).rmdir()
    assert not [key for key in fake.objects if key.startswith((b"up", b"/moved"))]


def test_the_directory_of_slashes_moves(mount, fake):
    m = mount({"store k": fake.store()})
    os.rename(m / "k/%2F", m / "k/slashes")
    assert {key: o.data for key, o in fake.objects.items() if key.startswith((b"slashes", b"/"))} == {
        b"slashes/": b"9", b"slashes/leading": b"7", b"slashes//both": b"8", b"slashes//" + b"/": b"10"}
    assert not [key for key in fake.objects if key.startswith(b"/")]


def test_a_shadow_moves_without_its_object(mount, fake):
    m = mount({"store k": fake.store()})
    os.rename(m / "k/a%2F", m / "k/other")
    assert fake.objects[b"a"].data == b"object a"
    assert fake.objects[b"other/b"].data == b"object a/b" and b"a/b" not in fake.objects


def test_content_of_a_marker(mount, fake):
    m = mount({"store k": fake.store()})
    with pytest.raises(PermissionError):
        (m / "k/content/%2F").write_bytes(b"other")
    with pytest.raises(PermissionError):
        (m / "k/marked/%2F").write_bytes(b"new")
    os.rename(m / "k/content/%2F", m / "k/content/named")
    assert fake.objects[b"content/named"].data == b"in a marker"
    assert sorted(os.listdir(m / "k/content")) == ["%2F", "beside", "named"]
    (m / "k/content/%2F/%2F").unlink()
    (m / "k/content/%2F").rmdir()
    m.remount()
    assert sorted(os.listdir(m / "k/content")) == ["beside", "named"]


def test_all_can_be_removed(mount, fake):
    m = mount({"store k": fake.store()})
    found = run("find", m / "k", "-type", "f", "-printf", "x").count("x")
    assert found == sum(1 for data in HOSTILE.values() if data)
    run("sh", "-c", 'cd "$1" && rm -r -- * ', "sh", m / "k")
    assert not fake.objects


def test_a_tree_with_markers_can_be_archived(mount, fake, tmp_path):
    """tar finds that a directory changed when its listing and its stat tell different times."""
    m = mount({"store k": fake.store()})
    (m / "k/mode").mkdir(mode=0o700)
    (m / "k/mode/file").write_bytes(b"x")
    m.remount()
    assert {entry.name: entry.stat().st_mode & 0o777 for entry in os.scandir(m / "k")}["mode"] == 0o700
    run("tar", "-C", m / "k", "-cf", tmp_path / "t.tar", "mode", "marked")


def test_paths_do_not_leave_the_mount(mount, fake, tmp_path):
    m = mount({"store k": fake.store()})
    (tmp_path / "out").mkdir()
    run("cp", "-r", m / "k", tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == ["k"]
    run("tar", "-C", m / "k", "-cf", tmp_path / "t.tar", ".")


def test_listings_in_small_pages(mount, fake):
    fake.page = 3
    m = mount({"store k": fake.store()})
    assert len(walk(os.fsencode(m / "k"))) == sum(1 for data in HOSTILE.values() if data)


def test_logs_stay_one_line_each(mount, fake):
    m = mount({"quayfs": {"log_level": "debug"}, "store k": fake.store()})
    walk(os.fsencode(m / "k"))
    assert "\x01" not in m.log()


def test_the_server_may_refuse(mount, bucket):
    """MinIO has no such keys; asking for them is no failure of the store."""
    m = mount({"store k": bucket.store()})
    bucket.put("x", b"not /x")
    for name in ("%2E%2E", "%2E", "%2F", "%2F/x", "a/%2F/b"):
        assert not (m / "k" / name).exists(), name
    with pytest.raises(OSError) as caught:
        (m / "k/%2E%2E").write_bytes(b"x")
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(OSError) as caught:
        (m / "k/%2F").mkdir()
    assert caught.value.errno == errno.EINVAL
    assert " error " not in m.log()


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
