"""tests/crash/run in short: quayfs is killed at points spread over everything it changes on the disk (its cache and, on
local, the store), with and without a power cut that takes back what was not synced; the next one has all that was closed.
`tests/crash/run --points 0` takes every point."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.deadline(280)
def test_nothing_closed_is_lost(build_dir):
    crash(build_dir, "--points", "75", "--steps", "14", "--seed", "11")


@pytest.mark.deadline(280)
def test_edits_of_waiting_files(build_dir):
    """Large ones are edited in place while they wait for their upload: what was closed is whole, no mixture."""
    crash(build_dir, "--points", "75", "--steps", "14", "--seed", "1", "--edits")


def crash(build_dir, *args):
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/crash/run"), "--build", str(build_dir), "--jobs", "2", *args],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    assert "nothing closed was lost" in done.stdout
