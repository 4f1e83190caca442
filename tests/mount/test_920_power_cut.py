"""tests/crash/run in short: quayfs is killed at points spread over everything it changes on the disk, with and
without a power cut that takes back what was not synced; `tests/crash/run --points 0` takes every point."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.deadline(280)
@pytest.mark.parametrize("seed", [3, 11])
def test_nothing_closed_is_lost(build_dir, seed):
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/crash/run"), "--build", str(build_dir), "--points", "18",
         "--steps", "30", "--seed", str(seed)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    assert "nothing closed was lost" in done.stdout
