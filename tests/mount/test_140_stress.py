"""Other people's file system torture, in a short form; by hand for longer: QUAY_STRESS_SECONDS=600."""

import os

import pytest

from harness.tools import run

SECONDS = int(os.environ.get("QUAY_STRESS_SECONDS", "5"))

# What writes and reads back its own pattern: a mix of sizes and ways.
FIO = """
[global]
directory={top}
verify=crc32c
verify_fatal=1
do_verify=1
size=2m
fallocate=none
group_reporting
[sequential]
rw=write
bs=64k
fsync=16
[random]
rw=randwrite
bs=4k-32k
random_generator=tausworthe64
[append]
rw=write
bs=1000
size=300k
[mapped]
rw=randwrite
bs=4k
ioengine=mmap
"""


@pytest.mark.deadline(300 + 4 * SECONDS)
def test_fio_verifies(mounted, folder):
    top = mounted / "k/fio"
    top.mkdir()
    job = folder / "verify.fio"
    rounds = f"loops={max(1, SECONDS // 5)}\n"
    job.write_text(FIO.format(top=top).replace("[global]\n", "[global]\n" + rounds))
    text = run("fio", "--output-format=terse", job, cwd=folder, seconds=250 + 4 * SECONDS)
    for line in text.splitlines():
        fields = line.split(";")
        assert len(fields) > 4 and fields[4] == "0", line


# The file system stressors of stress-ng that apply (docs/semantics.md has those that do not), all at once: each compares
# what it reads with what it has written (--verify), and fails on an errno that it does not expect.
STRESSORS = {
    "access": "", "chdir": "--chdir-dirs 64", "chmod": "", "chown": "", "dentry": "--dentries 64", "dir": "--dir-dirs 64",
    "dirdeep": "--dirdeep-inodes 200", "dirmany": "", "dup": "", "fallocate": "--fallocate-bytes 4m", "fcntl": "",
    "filename": "", "flock": "", "fpunch": "", "fstat": "", "getdent": "", "handle": "", "hdd": "--hdd-bytes 4m",
    "iomix": "--iomix-bytes 4m", "lease": "", "locka": "", "lockf": "", "lockofd": "", "mknod": "", "open": "",
    "rename": "", "seek": "--seek-size 4m", "symlink": "", "sync-file": "--sync-file-bytes 4m", "touch": "",
    "utime": "", "xattr": "",
}
GROUPS = {
    "names": ["access", "chdir", "chmod", "chown", "dentry", "dir", "dirdeep", "dirmany", "filename", "getdent", "mknod",
              "rename", "symlink", "touch", "utime", "xattr"],
    "content": ["dup", "fallocate", "fcntl", "flock", "fpunch", "fstat", "handle", "hdd", "iomix", "lease", "locka",
                "lockf", "lockofd", "open", "seek", "sync-file"],
}


@pytest.mark.deadline(240 + 4 * SECONDS)
@pytest.mark.parametrize("group", GROUPS)
def test_stressors(mounted, folder, group):
    assert sorted(sum(GROUPS.values(), [])) == sorted(STRESSORS)
    top = mounted / "k" / group
    top.mkdir()
    words = [word for name in GROUPS[group] for word in (f"--{name}", "1", *STRESSORS[name].split())]
    run("stress-ng", "--temp-path", top, "--timeout", SECONDS, "--verify", "--oomable", "--no-rand-seed", *words,
        cwd=folder, seconds=220 + 4 * SECONDS)
    assert os.listdir(top) == []
