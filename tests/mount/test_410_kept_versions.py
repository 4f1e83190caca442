"""NAME@versions/: the older versions that a bucket keeps, as files that can only be read."""

import errno
import json
import os
import re
import shutil
import time

import pytest

from harness.data import pattern
from harness.tools import fails_with, run

MIB = 1024 * 1024
NAME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z-[A-Za-z0-9._~%-]+$")


@pytest.fixture
def m(mount, versioned_bucket):
    return mount({"store k": versioned_bucket.store(**{"multipart_threshold": "6MiB", "multipart_chunksize": "5MiB"})})


def test_versions_are_files_in_the_order_of_time(m, versioned_bucket):
    for text in (b"one", b"two two", b"three"):
        versioned_bucket.put("d/f.csv", text)
        time.sleep(0.01)  # names have milliseconds
    shelf = m / "k/d/f.csv@versions"
    names = os.listdir(shelf)
    assert sorted(names) == sorted(v["LastModified"].strftime("%Y-%m-%dT%H:%M:%S.") +
                                   f"{v['LastModified'].microsecond // 1000:03d}Z-{v['VersionId']}.csv"
                                   for v in versioned_bucket.versions("d/f.csv"))
    assert all(NAME.match(name) and name.endswith(".csv") for name in names)
    assert [(shelf / name).read_bytes() for name in sorted(names)] == [b"one", b"two two", b"three"]
    assert [(shelf / name).stat().st_size for name in sorted(names)] == [3, 7, 5]
    newest = versioned_bucket.versions("d/f.csv")[-1]["LastModified"]
    assert int((shelf / max(names)).stat().st_mtime) == int(newest.timestamp())
    assert os.listdir(m / "k/d") == ["f.csv"]  # not in the listing beside the object
    assert "@versions" not in run("find", m / "k")
    m.remount()
    assert sorted(os.listdir(shelf)) == sorted(names)


def test_what_is_written_here_is_seen_at_once(m):
    path, shelf = m / "k/f", m / "k/f@versions"
    with fails_with(errno.ENOENT):
        os.listdir(shelf)
    path.write_bytes(b"one")
    assert len(os.listdir(shelf)) == 1
    os.utime(path, (1000, 1000))  # a copy onto itself: a version too
    assert len(os.listdir(shelf)) == 2
    path.write_bytes(b"two")
    assert [(shelf / n).read_bytes() for n in sorted(os.listdir(shelf))] == [b"one", b"one", b"two"]
    assert [(shelf / n).stat().st_mtime for n in sorted(os.listdir(shelf))][1] == 1000


def test_a_deleted_file_comes_back(m, versioned_bucket):
    data = pattern(7 * MIB, 3)
    (m / "k/d").mkdir()
    (m / "k/d/big.bin").write_bytes(data)
    os.chmod(m / "k/d/big.bin", 0o640)
    before = len(versioned_bucket.versions("d/big.bin"))
    (m / "k/d/big.bin").unlink()
    assert not (m / "k/d/big.bin").exists()
    shelf = m / "k/d/big.bin@versions"
    names = sorted(os.listdir(shelf))
    assert len(names) == before  # the deletion is no file
    assert shelf.stat().st_mtime >= int((shelf / names[-1]).stat().st_mtime)
    run("cp", "-p", shelf / names[-1], m / "k/d/big.bin")
    assert (m / "k/d/big.bin").read_bytes() == data
    assert (m / "k/d/big.bin").stat().st_mode & 0o777 == 0o640
    m.remount()
    assert (m / "k/d/big.bin").read_bytes() == data


def test_restoring_over_the_file(m, minio, versioned_bucket):
    old = pattern(8 * MIB, 1)
    (m / "k/f").write_bytes(old)
    (m / "k/f").write_bytes(pattern(8 * MIB, 2))
    shelf = m / "k/f@versions"
    first = sorted(os.listdir(shelf))[0]
    gets = minio.count("GetObject")
    m.quayctl("cp", f"k:f@versions/{first}", "k:f")  # by the store
    assert minio.count("GetObject") == gets
    assert (m / "k/f").read_bytes() == old == versioned_bucket.get("f")
    (m / "k/f").write_bytes(b"again")
    run("cp", shelf / first, m / "k/f")
    assert (m / "k/f").read_bytes() == old == versioned_bucket.get("f")
    m.quayctl("cp", f"k/f@versions/{first}", "k/g")
    assert (m / "k/g").read_bytes() == old


def test_nothing_can_be_changed_there(m, versioned_bucket):
    (m / "k/f").write_bytes(b"one")
    (m / "k/g").write_bytes(b"g")
    shelf = m / "k/f@versions"
    version = shelf / os.listdir(shelf)[0]
    attempts = [lambda: version.write_bytes(b"x"), lambda: open(version, "r+b"), version.unlink,
                lambda: (shelf / "new").write_bytes(b"x"), lambda: (shelf / "new").mkdir(), shelf.rmdir,
                lambda: version.rename(m / "k/h"), lambda: (m / "k/g").rename(shelf / "g"),
                lambda: (m / "k/g").rename(version), lambda: shelf.rename(m / "k/other"),
                lambda: os.truncate(version, 0), lambda: os.chmod(version, 0o600), lambda: os.utime(version, (1, 1)),
                lambda: os.setxattr(version, "user.a", b"1"), lambda: os.symlink("x", shelf / "link"),
                lambda: os.chmod(shelf, 0o700)]
    for attempt in attempts:
        with fails_with(errno.EROFS):
            attempt()
    failed = m.quayctl("cp", "k:g", "k:f@versions/new", check=False)
    assert failed.returncode != 0 and "read-only" in failed.stderr, failed.stderr
    assert version.read_bytes() == b"one" and (m / "k/g").read_bytes() == b"g"
    assert json.loads((m / ".quay/staged.json").read_text()) in ([], {"staged": []}), "nothing waits to be stored"
    assert sorted(versioned_bucket.keys()) == ["f", "g"]


def test_a_real_name_wins(m, versioned_bucket):
    versioned_bucket.put("f", b"one")
    versioned_bucket.put("f@versions/notes", b"real")
    versioned_bucket.put("g", b"one")
    versioned_bucket.put("g@versions", b"a file")
    assert os.listdir(m / "k/f@versions") == ["notes"]
    assert (m / "k/f@versions/notes").read_bytes() == b"real"
    (m / "k/f@versions/more").write_bytes(b"more")
    assert versioned_bucket.get("f@versions/more") == b"more"
    assert (m / "k/g@versions").read_bytes() == b"a file"
    (m / "k/h@versions").mkdir()  # of what there is nothing
    (m / "k/h@versions/x").write_bytes(b"x")
    assert sorted(versioned_bucket.keys("h")) == ["h@versions/", "h@versions/x"]


def test_tags_of_older_versions_are_not_shown(m, versioned_bucket):
    versioned_bucket.put("f", b"one", Tagging="team=blue", Metadata={"colour": "blue"})
    versioned_bucket.put("f", b"two", Tagging="team=red")
    shelf = m / "k/f@versions"
    assert os.getxattr(m / "k/f", "user.tag.team") == b"red"
    for name, attributes in zip(sorted(os.listdir(shelf)), ([b"blue"], []), strict=True):
        shown = [x for x in os.listxattr(shelf / name) if x != "user.etag"]
        assert [os.getxattr(shelf / name, x) for x in shown] == attributes and "user.tag.team" not in shown
        with fails_with(errno.ENODATA):
            os.getxattr(shelf / name, "user.tag.team")


def test_old_versions_stay_cached(m, minio):
    (m / "k/f").write_bytes(pattern(3 * MIB, 1))
    (m / "k/f").write_bytes(b"two")
    shelf = m / "k/f@versions"
    old = shelf / sorted(os.listdir(shelf))[0]
    assert old.read_bytes() == pattern(3 * MIB, 1)
    (m / "k/f").write_bytes(b"three")
    gets = minio.count("GetObject")
    assert old.read_bytes() == pattern(3 * MIB, 1)
    m.remount()
    assert old.read_bytes() == pattern(3 * MIB, 1)
    assert minio.count("GetObject") == gets


def test_names_that_are_no_versions(m, versioned_bucket):
    (m / "k/f").write_bytes(b"one")
    (m / "k/d").mkdir()
    good = os.listdir(m / "k/f@versions")[0]
    for name in ("f@versions/x", f"f@versions/1999{good[4:]}", f"f@versions/{good}.txt", f"f@versions/{good}/x",
                 "g@versions", "@versions", "d@versions", f"f@versions/{good[:25]}null",
                 f"f@versions/{good[:25]}00000000-0000-0000-0000-000000000000"):
        with fails_with(errno.ENOENT, errno.ENOTDIR):
            os.stat(m / "k" / name)


def test_unversioned_and_suspended_buckets(mount, minio, bucket):
    bucket.put("f", b"before")
    m = mount({"store k": bucket.store(**{"cache.ttl": "60s"})})
    with fails_with(errno.ENOENT):
        os.listdir(m / "k/f@versions")
    before = minio.counts()
    for _ in range(20):
        assert not (m / "k/f@versions").exists()
    (m / "k/x@versions").mkdir()
    assert {k: v for k, v in minio.counts().items() if "ersion" in k} == {
        k: v for k, v in before.items() if "ersion" in k}, "asked once whether it keeps versions"
    bucket.s3.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    bucket.put("f", b"after")
    bucket.s3.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Suspended"})
    m.remount({"store k": bucket.store(**{"cache.ttl": "0"})})
    shelf = m / "k/f@versions"
    names = sorted(os.listdir(shelf))
    assert [(shelf / n).read_bytes() for n in names] == [b"before", b"after"]
    assert names[0].endswith("Z-null")


def test_switched_off(mount, versioned_bucket):
    versioned_bucket.put("f", b"one")
    m = mount({"store k": versioned_bucket.store(versions="no")})
    assert not (m / "k/f@versions").exists()
    (m / "k/f@versions").mkdir()
    (m / "k/f@versions/x").write_bytes(b"x")
    assert versioned_bucket.get("f@versions/x") == b"x"


def test_read_only_store_and_odd_names(mount, versioned_bucket):
    for key in ("sp ace/ü+&=?.tar", "a%2Fb", "x.y/z"):
        versioned_bucket.put(key, b"1")
        versioned_bucket.put(key, b"22")
    m = mount({"store k": versioned_bucket.store(read_only="yes")})
    for key in ("sp ace/ü+&=?.tar", "a%2Fb", "x.y/z"):
        shelf = m / f"k/{key}@versions"
        names = sorted(os.listdir(shelf))
        assert [(shelf / n).read_bytes() for n in names] == [b"1", b"22"]
        assert [n.endswith(".tar") for n in names] == [key.endswith(".tar")] * 2


def test_many_versions(m, versioned_bucket):
    """More than a page of them, and longer names that begin in the same way."""
    versioned_bucket.put("f2", b"other")
    for n in range(1100):
        versioned_bucket.put("f", b"%d" % n)
    shelf = m / "k/f@versions"
    names = sorted(os.listdir(shelf))
    assert len(names) == 1100 and len(set(names)) == 1100
    assert {(shelf / names[0]).read_bytes(), (shelf / names[-1]).read_bytes()} == {b"0", b"1099"}
    shutil.copytree(shelf, m.folder / "copy", ignore=lambda _, found: sorted(found)[5:])
    assert len(os.listdir(m.folder / "copy")) == 5


def test_generations_of_cloud_storage(mount, gcs):
    """The same over another protocol: here without ids of deletions."""
    gcs.put("d/f.txt", b"before")
    m = mount({"store k": gcs.store()})
    with fails_with(errno.ENOENT):
        os.listdir(m / "k/d/f.txt@versions")
    gcs.versioning = True
    m.remount()
    (m / "k/d/f.txt").write_bytes(b"after")
    shelf = m / "k/d/f.txt@versions"
    names = sorted(os.listdir(shelf))
    assert all(NAME.match(name) and name.endswith(".txt") for name in names)
    assert [(shelf / name).read_bytes() for name in names] == [b"before", b"after"]
    with fails_with(errno.EROFS):
        (shelf / names[0]).unlink()
    (m / "k/d/f.txt").unlink()
    assert sorted(os.listdir(shelf)) == names
    (m / "k/d").mkdir(exist_ok=True)
    m.quayctl("cp", f"k:d/f.txt@versions/{names[0]}", "k:d/f.txt")
    assert gcs.get("d/f.txt") == b"before" and gcs.count("rewriteTo.*sourceGeneration=") == 1
    run("cp", shelf / names[1], m / "k/d/f.txt")
    assert gcs.get("d/f.txt") == b"after"
    assert len(os.listdir(shelf)) == 4
    for name in (f"1999{names[0][4:]}", names[0].replace("-" + names[0].split("-")[3], "-77.txt")):
        assert not (shelf / name).exists()
