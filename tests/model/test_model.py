"""Random operations against an exact model, on each backend: fixed seeds, so that a change is judged by what it
changed. New seeds, by hand and for as long as one likes: tests/model/run --help."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

import pytest

from model.trial import list_source, run_seed, shrink

SECONDS = 9.0  # at most, for each round; a slow machine compares less
OPS = 6000


def play(backend: str, build: Path, folder: Path, server, seed: int) -> None:
    trial, failure = run_seed(backend, build, folder, server, seed, OPS, time.monotonic() + SECONDS)
    if failure is not None:
        script = Path(tempfile.gettempdir()) / f"model-{backend}-{seed}.json"
        failure = shrink(trial, failure, 60)
        failure.save(script)
        pytest.fail(f"{failure.describe()}\nreplay: tests/model/run --replay {script}", False)
    shutil.rmtree(folder, ignore_errors=True)
    assert trial.played > 100, "next to nothing was compared"


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("backend", ["local", "memory", "s3"])
def test_random_operations(backend, seed, build_dir, tmp_path, request):
    server = request.getfixturevalue("minio") if backend == "s3" else None
    play(backend, build_dir, tmp_path / "t", server, seed)


@pytest.mark.parametrize("backend, fixture", [("sftp", "sshd"), ("gcs", ""), ("azure", "azurite"), ("sqlite", ""),
                                              ("postgres", "postgres_server"), ("mysql", "mariadb_server")])
def test_random_operations_elsewhere(backend, fixture, build_dir, tmp_path, request):
    play(backend, build_dir, tmp_path / "t", request.getfixturevalue(fixture) if fixture else None, 10)


def test_the_model_itself(build_dir, tmp_path):
    """The same operations on the host's file system: what the model expects is what POSIX says."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as place:
        play("plain", build_dir, Path(place) / "t", None, 3)


def test_a_wrong_file_system_is_found(build_dir, tmp_path, monkeypatch):
    """A lost byte, a lost name and a wrong size do not escape."""
    import os

    from model import play as module
    real = os.pwrite

    def forgetful(descriptor: int, data: bytes, offset: int) -> int:
        return real(descriptor, data[:-1] + b"\0" if len(data) > 100 else data, offset)

    monkeypatch.setattr(module.os, "pwrite", forgetful)
    folder = tmp_path / "t"
    trial, failure = run_seed("plain", build_dir, folder, None, 5, 3000, time.monotonic() + 30)
    assert failure is not None and "differ from byte" in failure.text
    small = shrink(trial, failure, 60)
    assert len(small.ops) < len(failure.ops) / 2
    assert trial.play(list_source(small.ops))[1], "what was made small does not fail any more"
