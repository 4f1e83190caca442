"""Random operations against an exact model, on each backend: fixed seeds, so that a change is judged by what it
changed. New seeds, by hand and for as long as one likes: tests/model/run --help."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

import pytest

from model.trial import Failure, Trial, kind_of, list_source, random_source, run_seed, shrink
from model.world import Variant

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
    assert trial.play(list_source(small.ops))[1], f"what was made small does not fail any more: {small.describe()}"


def test_another_mistake_is_not_shrunk_to(monkeypatch, tmp_path):
    """Story: on another machine what was made small did not fail when it was played again: in one of the steps something
    else had been wrong (of the moment, as a time stamp can be), and the lost byte had been shrunk away."""
    trial = Trial("plain", tmp_path, tmp_path, None, Variant(second=False))

    def play(source):
        ops = list(iter(lambda: source(None), None))
        if ["pwrite", 7] in ops:
            return ops, f"check(): f3: {len(ops)} bytes, want 9; they differ from byte {len(ops)} on: got 00, want 1e"
        return ops, f"check(): f{len(ops)}: mtime: got 12, want (13, 14)"

    monkeypatch.setattr(trial, "play", play)
    ops = [["pwrite", n] for n in range(20)] + [["check"]]
    text = play(list_source(ops))[1]
    small = shrink(trial, Failure("plain", 1, trial.variant, ops, text), 60)
    assert small.ops == [["pwrite", 7]] and "differ from byte 1 on" in small.text
    assert kind_of("hung: " + text) != kind_of(text)


def test_nothing_is_done_while_paused(build_dir, tmp_path, monkeypatch):
    pause, seen, sleep = tmp_path / "pause", [], time.sleep
    pause.touch()
    trial = Trial("plain", build_dir, tmp_path / "t", None, Variant(second=False), pause=pause)

    def watched(seconds: float) -> None:
        if seconds == 0.2:
            seen.append(trial.played + trial.skipped)
            if len(seen) == 3:
                pause.unlink()
        else:
            sleep(seconds)

    monkeypatch.setattr(time, "sleep", watched)
    assert trial.play(random_source(3, 50, float("inf")))[1] == ""
    assert seen == [0, 0, 0] and trial.played + trial.skipped == 50
