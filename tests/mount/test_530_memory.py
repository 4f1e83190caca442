"""memory_limit is a budget with back-pressure: many files at once wait for each other, and all end."""

import json
import threading

import pytest

from harness.data import pattern

MIB = 1024 * 1024
FILES = 64


def at_once(action) -> None:
    failures: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            action(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(FILES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[:3]


def expect_within(m, limit: int) -> None:
    assert json.loads((m / ".quay/stats.json").read_text())["memory_bytes"] <= limit
    if not m.sanitized():  # its own memory would be counted
        assert m.peak_rss() <= limit, f"{m.peak_rss() / MIB:.1f} MiB"


@pytest.mark.parametrize("limit", [128, 64])
def test_64_files_read_at_once(mount, bucket, limit):
    data = pattern(8 * MIB)
    for number in range(FILES):
        bucket.put(f"d/{number}", data)
    m = mount({"quayfs": {"memory_limit": f"{limit}MiB"}, "store k": bucket.store()})

    def read(number: int) -> None:
        with open(m / f"k/d/{number}", "rb", buffering=0) as file:
            at = 0
            while block := file.read(MIB):
                assert block == data[at:at + len(block)]
                at += len(block)
            assert at == len(data)

    at_once(read)
    expect_within(m, limit * MIB)
