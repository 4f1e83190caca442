"""Ordinary programs in a mount; where the store lasts, the same again after a remount."""

import os
import sqlite3
import tarfile

import pytest

from harness.data import pattern
from harness.tools import content, run, sample_tree, tree


@pytest.fixture
def place(mount, key):
    """(mount, directory): remount() it only where the store keeps its content."""
    m = mount({"store k": key.options})
    return m, m / "k", (m.remount if key.lasting else lambda: None)


def test_cp_a_and_back(place, tmp_path):
    _, root, remount = place
    source = sample_tree(tmp_path / "sample")
    run("cp", "-a", source, root / "copy")
    assert tree(root / "copy") == tree(source)
    remount()
    assert tree(root / "copy") == tree(source)
    run("cp", "-a", root / "copy", tmp_path / "back")
    assert tree(tmp_path / "back") == tree(source)


def test_diff_and_grep(place, tmp_path):
    _, root, remount = place
    source = sample_tree(tmp_path / "sample")
    run("cp", "-a", source, root / "copy")
    remount()
    run("diff", "-r", source, root / "copy")
    assert run("grep", "-rc", "line", root / "copy/deep/text").strip().endswith("1000")
    assert run("tail", "-n", "1", root / "copy/deep/text") == "line\n"


def test_mv_within_and_across(place, tmp_path):
    _, root, remount = place
    source = sample_tree(tmp_path / "sample")
    wanted = tree(source)
    run("mv", source, root / "in")  # across file systems: copies, then deletes
    assert not source.exists()
    run("mv", root / "in", root / "moved")
    (root / "dir").mkdir()
    run("mv", root / "moved", root / "dir/")
    remount()
    assert tree(root / "dir/moved") == wanted
    run("mv", root / "dir/moved", tmp_path / "out")
    assert tree(tmp_path / "out") == wanted
    assert os.listdir(root / "dir") == []


def test_rm_rf(place, tmp_path):
    _, root, remount = place
    run("cp", "-a", sample_tree(tmp_path / "sample"), root / "t")
    run("rm", "-rf", root / "t")
    assert os.listdir(root) == []
    remount()
    assert os.listdir(root) == []


def test_rsync_inplace(place, tmp_path):
    _, root, remount = place
    source = sample_tree(tmp_path / "sample")
    run("rsync", "-a", "--inplace", f"{source}/", f"{root}/copy/")
    assert tree(root / "copy") == tree(source)
    # Change a little, remove a file, go again: only that changes.
    (source / "one").write_bytes(b"changed")
    data = bytearray((source / "deep/er/still/block").read_bytes())
    data[1000:1010] = b"in the mid"
    (source / "deep/er/still/block").write_bytes(data)
    (source / "empty").unlink()
    run("rsync", "-a", "--inplace", "--no-whole-file", "--delete", f"{source}/", f"{root}/copy/")
    assert tree(root / "copy") == tree(source)
    remount()
    assert tree(root / "copy") == tree(source)
    changed = run("rsync", "-ani", "--inplace", f"{source}/", f"{root}/copy/")
    assert changed.strip() == ""


def test_rsync_by_rename(place, tmp_path):
    _, root, remount = place
    source = sample_tree(tmp_path / "sample")
    run("rsync", "-aX", f"{source}/", f"{root}/copy/")
    run("rsync", "-a", "--checksum", f"{source}/", f"{root}/copy/")
    remount()
    assert content(root / "copy") == content(source)


def test_tar_there_and_back(place, tmp_path):
    _, root, remount = place
    source = sample_tree(tmp_path / "sample")
    run("tar", "-C", source, "-cf", root / "t.tar", ".")
    remount()
    with tarfile.open(root / "t.tar") as archive:
        assert "./deep/text" in archive.getnames()
    (root / "out").mkdir()
    run("tar", "-C", root / "out", "-xpf", root / "t.tar")
    remount()
    assert tree(root / "out") == tree(source)


def test_tar_through_pipes(place, tmp_path):
    _, root, remount = place
    source = sample_tree(tmp_path / "sample")
    run("bash", "-c", f"tar -C '{source}' -czf - . > '{root}/t.tgz'")
    remount()
    (tmp_path / "out").mkdir()
    run("bash", "-c", f"tar -C '{tmp_path}/out' -xzpf - < '{root}/t.tgz'")
    assert content(tmp_path / "out") == content(source)


GIT = ("git", "-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false",
       "-c", "safe.directory=*",
       # no housekeeping in the background: it would keep the mount busy
       "-c", "gc.auto=0", "-c", "maintenance.auto=false")


def test_git(place, tmp_path):
    _, root, remount = place
    repository = root / "repo"
    env = {"HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}
    run("git", "init", "-q", repository, env=env)
    (repository / "a.txt").write_text("first\n")
    (repository / "sub").mkdir()
    (repository / "sub/b.txt").write_text("b\n" * 5000)
    run(*GIT, "add", ".", cwd=repository, env=env)
    run(*GIT, "commit", "-qm", "one", cwd=repository, env=env)
    (repository / "a.txt").write_text("second\n")
    run(*GIT, "commit", "-qam", "two", cwd=repository, env=env)
    remount()
    assert run(*GIT, "status", "--porcelain", cwd=repository, env=env) == ""
    assert run(*GIT, "log", "--format=%s", cwd=repository, env=env).split() == ["two", "one"]
    run(*GIT, "fsck", "--strict", cwd=repository, env=env)
    run(*GIT, "checkout", "-q", "HEAD~1", cwd=repository, env=env)
    assert (repository / "a.txt").read_text() == "first\n"
    run(*GIT, "gc", "-q", cwd=repository, env=env)
    run(*GIT, "clone", "-q", repository, tmp_path / "clone", env=env)
    assert (tmp_path / "clone/sub/b.txt").read_text() == "b\n" * 5000


def test_sqlite_database(place):
    _, root, remount = place
    with sqlite3.connect(root / "t.db") as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
        db.executemany("INSERT INTO t (v) VALUES (?)", [(f"value {n}" * 10,) for n in range(3000)])
    db.close()
    db = sqlite3.connect(root / "t.db")
    db.execute("UPDATE t SET v = 'changed' WHERE id % 100 = 0")
    db.commit()
    db.execute("DELETE FROM t WHERE id = 1")
    db.rollback()
    db.close()
    assert not (root / "t.db-journal").exists()
    remount()
    db = sqlite3.connect(root / "t.db")
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert db.execute("SELECT count(*), sum(v = 'changed') FROM t").fetchone() == (3000, 30)
    db.execute("VACUUM")
    db.close()


def test_sqlite_shell(place):
    _, root, remount = place
    run("sqlite3", root / "s.db", "CREATE TABLE t (a); INSERT INTO t VALUES (1), (2);")
    remount()
    assert run("sqlite3", root / "s.db", "SELECT sum(a) FROM t").strip() == "3"


def vim_save(path, text: bytes) -> None:
    """backupcopy=no: the original is renamed away, the new one written in its place, the backup removed."""
    backup = path.with_name(path.name + "~")
    mode = path.stat().st_mode & 0o7777
    path.rename(backup)
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, mode)
    os.write(descriptor, text)
    os.fsync(descriptor)
    os.fchmod(descriptor, mode)
    os.close(descriptor)
    backup.unlink()


def test_save_by_rename(place):
    _, root, remount = place
    (root / "f").write_bytes(b"old")
    (root / "f").chmod(0o640)
    vim_save(root / "f", b"saved by vim")
    # As most other programs save: a temporary beside it, renamed over it.
    for turn in range(3):
        temporary = root / f".f.{turn}.tmp"
        temporary.write_bytes(b"turn %d" % turn)
        temporary.rename(root / "f")
    assert os.listdir(root) == ["f"]
    remount()
    assert (root / "f").read_bytes() == b"turn 2"


def test_sed_in_place_and_shell_redirection(place):
    _, root, remount = place
    run("bash", "-c", f"cd '{root}'; printf 'a\\nb\\n' > f; echo c >> f; sed -i s/b/B/ f; sort -r f -o f")
    remount()
    assert (root / "f").read_text() == "c\na\nB\n"


def test_dd_with_odd_blocks(place, tmp_path):
    _, root, remount = place
    (tmp_path / "in").write_bytes(pattern(1_000_003))
    run("dd", f"if={tmp_path}/in", f"of={root}/out", "bs=7777", "conv=fsync", "status=none")
    run("dd", f"if={tmp_path}/in", f"of={root}/out", "bs=1000", "count=10", "seek=100", "skip=100",
        "conv=notrunc", "status=none")
    remount()
    run("cmp", tmp_path / "in", root / "out")


def test_find_du_and_ls(place, tmp_path):
    _, root, _ = place
    run("cp", "-a", sample_tree(tmp_path / "sample"), root / "t")
    assert len(run("find", root / "t", "-type", "f").splitlines()) == 8
    assert run("ls", "-la", root / "t").count("\n") >= 10
    assert int(run("du", "-sb", "--apparent-size", root / "t").split()[0]) > 300_000
