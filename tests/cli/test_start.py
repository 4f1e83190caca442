"""quayfs as it is typed: without a configuration, with a URI, with an environment file, with a passing cache."""

import contextlib
import os
import sqlite3
import subprocess
from pathlib import Path

import pytest

from harness.conf import conf_text
from harness.daemon import clean_environment, disasters
from harness.mount import is_mounted
from harness.tools import call, eventually


def is_served(mnt: Path) -> bool:
    """Is there still a process of that mountpoint? fusermount3 does not wait for it, and it holds its cache directory."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(mnt).encode() in (process / "cmdline").read_bytes().split(b"\0"):
                return True
    return False


@contextlib.contextmanager
def mounted(build_dir, folder, *arguments, cwd=None, **env):
    """In the background, as a user has it; its log goes to a file. Gives the mountpoint."""
    mnt, log = folder / "mnt", folder / "quayfs.log"
    mnt.mkdir(exist_ok=True)
    env = clean_environment(HOME=str(folder), XDG_RUNTIME_DIR=str(folder), **env)
    done = subprocess.run([build_dir / "fs/quayfs", "-o", f"quayfs.log_file={log}", *map(str, arguments), mnt],
                          env=env, cwd=cwd, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    try:
        assert is_mounted(mnt)
        yield mnt
    finally:
        subprocess.run(["fusermount3", "-u", mnt], check=True)
        eventually(lambda: not is_served(mnt))
        text = log.read_text()
        assert not disasters(text), text


def cache_of(folder) -> list:
    return sorted((folder / "cache").glob("**/index.db"))


def test_a_directory_without_configuration(build_dir, folder):
    (folder / "data").mkdir()
    (folder / "data/old").write_text("old")
    with mounted(build_dir, folder, "-o", f"cache.dir={folder}/cache", folder / "data") as mnt:
        assert sorted(os.listdir(mnt)) == [".quay", "data"] and (mnt / "data/old").read_text() == "old"
        (mnt / "data/new").write_text("new")
    assert (folder / "data/new").read_text() == "new"


def test_an_empty_base_path_is_where_it_was_started(build_dir, folder):
    (folder / "here").mkdir()
    conf = folder / "c.conf"
    conf.write_text(f"[store k]\nbackend = local\n[cache]\ndir = {folder}/cache\n[loader]\nspool = {folder}/load\n")
    with mounted(build_dir, folder, "-c", conf, cwd=folder / "here") as mnt:
        (mnt / "k/f").write_text("x")
    assert (folder / "here/f").read_text() == "x"


def test_a_uri_without_configuration(build_dir, folder, bucket):
    bucket.put("deep/prefix/f", b"there")
    options = bucket.store()
    keys = dict(AWS_ACCESS_KEY_ID=options["access_key_id"], AWS_SECRET_ACCESS_KEY=options["secret_access_key"])
    with mounted(build_dir, folder, "-o", f"cache.dir={folder}/cache,store.endpoint_url={options['endpoint_url']}",
                 f"s3://{options['bucket']}/deep/prefix/", **keys) as mnt:
        assert sorted(os.listdir(mnt)) == [".quay", "prefix"] and (mnt / "prefix/f").read_bytes() == b"there"


def test_an_environment_file(build_dir, folder, bucket):
    bucket.put("f", b"there")
    options = bucket.store()
    env = folder / "secrets.env"
    env.write_text(f"# of the bucket\n\nexport AWS_ACCESS_KEY_ID='{options['access_key_id']}'\n"
                   f"AWS_SECRET_ACCESS_KEY=\"{options['secret_access_key']}\"\n")
    arguments = ("-o", f"cache.dir={folder}/cache,store.endpoint_url={options['endpoint_url']}", "--env-file", env,
                 f"s3://{options['bucket']}")
    with mounted(build_dir, folder, *arguments) as mnt:
        assert (mnt / options["bucket"] / "f").read_bytes() == b"there"
    with mounted(build_dir, folder, *arguments, AWS_SECRET_ACCESS_KEY="wrong") as mnt:  # the environment goes first
        with pytest.raises(PermissionError):
            (mnt / options["bucket"] / "f").read_bytes()


def test_a_bad_environment_file(build_dir, folder):
    (folder / "e").write_text("A=1\nthis is my secret\n")
    (folder / "d").mkdir()
    done = call(build_dir / "fs/quayfs", "--env-file", folder / "e", folder / "d", folder / "d")
    assert done.returncode == 2 and f"{folder}/e:2: not NAME=VALUE" in done.stderr and "secret" not in done.stderr
    done = call(build_dir / "fs/quayfs", "--env-file", folder / "none", folder / "d", folder / "d")
    assert done.returncode == 2 and "No such file" in done.stderr


def test_a_cache_that_does_not_stay(build_dir, folder, bucket):
    bucket.put("f", b"there")
    conf = folder / "c.conf"
    options = {**bucket.store(), "retries": "0"}
    conf.write_text("[store k]\n" + "".join(f"{name} = {value}\n" for name, value in options.items()) +
                    f"[cache]\ndir = {folder}/cache\n")
    with mounted(build_dir, folder, "--ephemeral", "-c", conf) as mnt:
        assert (mnt / "k/f").read_bytes() == b"there"
        (mnt / "k/new").write_bytes(b"new")
        assert len(cache_of(folder)) == 1
    assert bucket.get("new") == b"new"
    eventually(lambda: not list((folder / "cache").glob("ephemeral-*")))


def test_what_is_not_stored_stays(build_dir, folder):
    """A passing cache is kept, and said where, while something in it is nowhere else."""
    conf = folder / "c.conf"
    conf.write_text(f"[store k]\nbackend = local\nbase_path = {folder}/d\ncreate_if_missing = yes\nretries = 0\n"
                    f"write = back\nfault = op=put,errno=EIO\n[cache]\ndir = {folder}/cache\n")
    with mounted(build_dir, folder, "--ephemeral", "-c", conf) as mnt:
        (mnt / "k/f").write_bytes(b"kept")
    eventually(lambda: "mount with -o cache.dir=" in (folder / "quayfs.log").read_text())
    [kept] = (folder / "cache").glob("ephemeral-*")
    conf.write_text(f"[store k]\nbackend = local\nbase_path = {folder}/d\n")
    with mounted(build_dir, folder, "-c", conf, "-o", f"cache.dir={kept}") as mnt:
        assert (mnt / "k/f").read_bytes() == b"kept"
    assert (folder / "d/f").read_bytes() == b"kept"


def test_a_newer_journal_is_refused(build_dir, folder):
    """What waits there was written by rules that this program does not know: it touches nothing."""
    conf, cache = folder / "c.conf", folder / "cache"
    store = f"[store k]\nbackend = local\nbase_path = {folder}/d\ncreate_if_missing = yes\nretries = 0\nwrite = back\n"
    conf.write_text(f"{store}fault = op=put,errno=EIO\n[cache]\ndir = {cache}\n")
    with mounted(build_dir, folder, "-c", conf) as mnt:
        (mnt / "k/f").write_bytes(b"kept" * 100_000)
    eventually(lambda: "quayfs ended" in (folder / "quayfs.log").read_text() or not (cache / "control.sock").exists())
    conf.write_text(f"{store}[cache]\ndir = {cache}\n")
    for name, change, back in (("journal.db", "PRAGMA user_version = 99", "PRAGMA user_version = 1"),
                               ("index.db", "UPDATE schema_version SET version = 99",
                                "UPDATE schema_version SET version = 1")):
        with contextlib.closing(sqlite3.connect(cache / name)) as db:
            db.executescript(change)
        def kept():  # but for what SQLite makes and removes beside a database that is open
            return {p.relative_to(cache) for p in cache.rglob("*") if p.is_file() and not p.name.endswith(("-wal", "-shm"))}

        files = kept()
        (folder / "refused").mkdir(exist_ok=True)
        done = call(build_dir / "fs/quayfs", "-f", "-c", conf, folder / "refused")
        assert done.returncode != 0 and f"{cache}/{name} was written by a newer quayfs: it has form 99" in done.stderr
        assert "Start that quayfs again" in done.stderr
        assert files <= kept()
        with contextlib.closing(sqlite3.connect(cache / name)) as db:
            db.executescript(back)
    with mounted(build_dir, folder, "-c", conf) as mnt:
        assert (mnt / "k/f").read_bytes() == b"kept" * 100_000
    eventually(lambda: (folder / "d/f").exists() and (folder / "d/f").read_bytes() == b"kept" * 100_000)


def test_a_store_with_a_thread_of_its_own_in_the_background(build_dir, folder, sshd):
    """sftp connects as it is opened: that is not lost by the fork, and the daemon ends when it is unmounted."""
    (sshd.data / folder.name).mkdir()
    conf = folder / "c.conf"
    conf.write_text(conf_text({"store k": sshd.store(folder.name), "cache": {"dir": folder / "cache"},
                               "loader": {"spool": folder / "load"}}))
    before = sshd.log.read_text().count("Accepted publickey")
    with mounted(build_dir, folder, "-c", conf) as mnt:
        eventually(lambda: sshd.log.read_text().count("Accepted publickey") > before)  # nobody has asked for anything
        (mnt / "k/f").write_bytes(b"there")
        assert (sshd.data / folder.name / "f").read_bytes() == b"there"
        [pid] = [int(line) for line in (folder / "cache/lock").read_text().split()[:1]]
    eventually(lambda: not os.path.exists(f"/proc/{pid}"))


@pytest.mark.parametrize("more", [(), ("--env", "dev")])
def test_the_example_is_right(build_dir, more):
    example = Path(__file__).parents[2] / "etc/quayfs.conf.example"
    done = call(build_dir / "fs/quayfs", "--check", *more, "-c", example)
    assert done.returncode == 0, done.stderr
    text = example.read_text()
    for key in ("primary_data", "my-production-bucket", "us-west-2", "/tmp/primary_data", "[store staging_data]",
                "protocol = s3", "base_path = staging", "[store local_dev]", "/tmp/sqlspec_data"):
        assert key in text


def test_a_mount_that_has_lost_its_process_makes_room(build_dir, folder, mount):
    """kill -9, then the same command again: the new mount lay on top of the dead one, which came to light later."""
    lost = mount({"store k": {"backend": "local", "base_path": str(folder / "d"), "create_if_missing": "yes"}})
    lost.path.stat()  # the kernel keeps it
    lost.kill9()
    done = call(build_dir / "fs/quayfs", "-c", lost.conf, lost.path)
    assert done.returncode == 0, done.stderr
    (lost.path / "k/f").write_text("alive")
    assert Path("/proc/self/mounts").read_text().count(f" {lost.path} ") == 1
    subprocess.run(["fusermount3", "-u", lost.path], check=True)
