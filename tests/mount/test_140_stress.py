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
