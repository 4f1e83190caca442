# SPDX-License-Identifier: MIT
"""fio and stress-ng on a mount, longer and with more than tests/mount/test_140_stress.py: see tests/stress/run."""

import os
import re
import subprocess

import pytest

from harness.tools import run

SECONDS = int(os.environ.get("QUAY_STRESS_SECONDS", "10"))
GLOBAL = """[global]
directory={top}
fallocate=none
group_reporting
verify_fatal=1
verify_backlog=512
size=24m
"""
# name -> options; each writes its own file or files and reads them back.
JOBS = {
    "sequential-1m": "rw=write bs=1m verify=crc32c",
    "sequential-fsync": "rw=write bs=64k fsync=8 verify=xxhash size=8m",
    "sequential-fdatasync": "rw=write bs=4k fdatasync=16 verify=crc32c size=1m",
    "random-4k": "rw=randwrite bs=4k verify=crc32c size=8m",
    "random-mixed-sizes": "rw=randwrite bsrange=512-256k blockalign=512 verify=md5",
    "unaligned": "rw=randwrite bssplit=700/30:5000/40:131000/30 bs_unaligned verify=crc32c size=8m norandommap verify_backlog=1",
    "mixed-read-write": "rw=randrw rwmixread=40 bs=4k-64k verify=crc32c",
    "twice-over": "rw=randwrite bs=16k loops=2 verify=crc32c size=8m",
    "backwards": "rw=write:-128k bs=64k verify=crc32c size=8m",
    "mapped": "rw=randwrite bs=4k ioengine=mmap verify=crc32c size=8m",
    "mapped-in-order": "rw=write bs=64k ioengine=mmap fsync=32 verify=crc32c",
    "direct-aio": "rw=randwrite bs=16k ioengine=libaio iodepth=16 direct=1 verify=crc32c",
    "io-uring": "rw=randwrite bs=4k-64k ioengine=io_uring iodepth=16 verify=crc32c",
    "posix-aio": "rw=randwrite bs=32k ioengine=posixaio iodepth=8 verify=crc32c",
    "o-sync": "rw=write bs=64k sync=1 verify=crc32c size=1m",
    "splice": "rw=write bs=64k ioengine=splice verify=crc32c",
    "vectors": "rw=randwrite bs=32k ioengine=pvsync verify=crc32c",
    "four-at-once": "rw=randwrite bs=16k numjobs=4 verify=crc32c size=8m",
    "one-file-in-parts": "rw=write bs=64k numjobs=4 size=8m offset_increment=8m filename=shared verify=crc32c",
    "many-files": "rw=write bs=16k nrfiles=64 size=4m openfiles=8 verify=crc32c",
    "appends": "rw=write bs=1000 file_append=1 verify=crc32c size=300k",
}


def fio(job, words, *more: str) -> None:
    text = "\n".join(words.split())
    options = dict(line.partition("=")[::2] for line in text.splitlines())
    kept = "\n".join(line for line in GLOBAL.splitlines()[1:] if line.partition("=")[0] not in options)
    job.write_text(f"[global]\n{kept.format(top=job.top)}\n[{job.name}]\n{text}\n")
    out = run("fio", "--output-format=terse", *more, job.path, cwd=job.folder, seconds=600)
    for line in out.splitlines():
        fields = line.split(";")
        assert len(fields) < 5 or fields[4] == "0", line


class Job:
    def __init__(self, folder, top, name: str):
        self.folder, self.top, self.name, self.path = folder, top, name, folder / f"{name}.fio"
        self.write_text = self.path.write_text


@pytest.mark.deadline(900)
@pytest.mark.parametrize("write", ["through", "back"])
def test_fio(mount, lasting_key, folder, write):
    """Each job verified as it goes, and all of them again by the next process, from the store."""
    m = mount({"store k": {**lasting_key.options, "write": write}})
    top = m / "k/fio"
    top.mkdir()
    failed = {}
    for name, words in JOBS.items():
        try:
            fio(Job(folder, top, name), words)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            failed[name] = str(error)[-1500:]
    assert not failed, "\n".join(f"--- {name}\n{text}" for name, text in failed.items())
    m.stop()
    subprocess.run(["rm", "-rf", m.folder / "cache"], check=True)
    m.start()
    for name in ("sequential-1m", "random-mixed-sizes", "mapped", "direct-aio"):
        fio(Job(folder, top, name), JOBS[name], "--verify_only")
    m.stop()


# Of stress-ng's classes filesystem and io, and others that take a file: those that cannot pass, and why (docs/semantics.md).
IMPOSSIBLE = {
    "link": "one object has one name", "fiemap": "no such ioctl in FUSE", "chattr": "likewise", "inode-flags": "likewise",
    "file-ioctl": "likewise", "verity": "likewise", "inotify": "of the kernel", "dnotify": "likewise", "fanotify": "likewise",
    "copy-file": "wants sparse files of 256 MiB a time", "fsize": "wants files of terabytes",
    "bind-mount": "not about a file system", "binderfs": "likewise", "eventfd": "likewise", "io": "sync(2) of the machine",
    "ioprio": "likewise", "procfs": "likewise", "rawdev": "of a block device",
    "io-uring": "stress-ng 0.15's asks for the attributes of an empty name: fails on ext4, too (fio's io_uring is among the jobs)",
}
OPTIONS = {
    "chdir": "--chdir-dirs 64", "dentry": "--dentries 64", "dir": "--dir-dirs 64", "dirdeep": "--dirdeep-inodes 200",
    "fallocate": "--fallocate-bytes 4m", "hdd": "--hdd-bytes 4m", "iomix": "--iomix-bytes 4m", "seek": "--seek-size 4m",
    "sync-file": "--sync-file-bytes 4m", "readahead": "--readahead-bytes 4m", "revio": "--revio-bytes 4m",
    "mmap": "--mmap-file --mmap-bytes 4m", "msync": "--msync-bytes 4m", "sendfile": "--sendfile-size 4m",
}


def stressors() -> list[str]:
    names = set()
    for group in ("filesystem", "io"):
        text = subprocess.run(["stress-ng", "--class", f"{group}?"], capture_output=True, text=True).stdout
        names |= set(re.search(r"stressors: (.*)", text).group(1).split())
    return sorted((names | {"mmap", "msync", "sendfile", "splice", "fault", "remap", "mmapfork"}) - set(IMPOSSIBLE))


@pytest.mark.deadline(900 + 60 * SECONDS)
def test_each_stressor(mount, lasting_key, folder):
    m = mount({"store k": lasting_key.options})
    failed = {}
    for name in stressors():
        top = m / "k" / name
        top.mkdir()
        try:
            run("stress-ng", "--temp-path", top, "--timeout", SECONDS, "--verify", "--oomable", "--no-rand-seed", f"--{name}", "2",
                *OPTIONS.get(name, "").split(), cwd=folder, seconds=120 + 4 * SECONDS)
            assert os.listdir(top) == [], "it has left files"
        except (AssertionError, subprocess.TimeoutExpired) as error:
            failed[name] = str(error)[-1500:]
    m.stop()
    assert not failed, "\n".join(f"--- {name}\n{text}" for name, text in failed.items())


@pytest.mark.deadline(900 + 60 * SECONDS)
def test_all_stressors_at_once(mount, lasting_key, folder):
    m = mount({"store k": lasting_key.options})
    words = [word for name in stressors() for word in (f"--{name}", "1", *OPTIONS.get(name, "").split())]
    (m / "k/all").mkdir()
    run("stress-ng", "--temp-path", m / "k/all", "--timeout", 3 * SECONDS, "--verify", "--oomable", "--no-rand-seed", *words,
        cwd=folder, seconds=600 + 12 * SECONDS)
    m.stop()
