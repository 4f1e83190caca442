"""quayload under test, driven through files as a user drives it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from .conf import Sections, write_conf
from .daemon import Daemon, clean_environment

JOB_SECONDS = 250.0  # below the deadline of a test


@dataclass
class Run:
    """A finished job: the directory that appeared in done/ or failed/."""

    path: Path

    @property
    def ok(self) -> bool:
        return self.path.parent.name == "done"

    def read(self, name: str) -> str:
        file = self.path / name
        return file.read_text(errors="replace") if file.exists() else ""

    @property
    def rc(self) -> int:
        return int(self.read("rc").strip())

    @property
    def state(self) -> str:
        return self.read("state").strip()

    @property
    def log(self) -> str:
        return self.read("log")

    @property
    def status(self) -> dict:
        return json.loads(self.read("status.json"))

    def rejects(self) -> bytes:
        return b"".join(p.read_bytes() for p in sorted(self.path.glob("rejects/*"))
                        if p.suffix != ".err")

    def describe(self) -> str:
        names = sorted(p.name for p in self.path.iterdir())
        return f"{self.path} {names}\nrc={self.read('rc')}\n{self.log}\n{self.read('status.json')}"


class Loader(Daemon):
    """`job = loader.submit("orders", text)`, `run = loader.wait("orders")`."""

    def __init__(self, build: Path, folder: Path, sections: Sections | str, spool: Path,
                 env: dict[str, str] | None = None):
        folder.mkdir(parents=True, exist_ok=True)
        self.build = build
        self.spool = spool
        super().__init__(build / "loader/quayload", write_conf(folder / "quayload.conf", sections), [],
                         folder / "quayload.log", clean_environment(**(env or {})))

    def ready(self) -> bool:
        return (self.spool / "new").is_dir() and (self.spool / "README").exists()

    def stop(self, check: bool = True) -> int:
        if not self.running():
            return self.process.returncode if self.process else 0
        code = self.terminate()
        assert code == 0 or not check, f"quayload ended with {code}\n{self.log()}"
        return code

    def __enter__(self) -> "Loader":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def submit(load: Path, name: str, text: str, folder: str = "new") -> None:
    """Through `.load/` (or the spool itself): write a temporary name, rename it in."""
    temporary = load / folder / f".{name}.tmp"
    temporary.write_text(text)
    temporary.rename(load / folder / f"{name}.job")


def finished(load: Path, name: str) -> list[Run]:
    """All finished runs of that job, oldest first."""
    runs = [Run(p) for state in ("done", "failed") for p in (load / state).glob(f"{name}.*")
            if p.is_dir()]
    return sorted(runs, key=lambda run: run.path.stat().st_mtime_ns)


def wait_for(load: Path, name: str, count: int = 1, seconds: float = JOB_SECONDS,
             alive: Callable[[], bool] | None = None) -> Run:
    """Until `count` runs of that job have finished; gives the newest. Not longer than the loader lives."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        runs = finished(load, name)
        if len(runs) >= count:
            return runs[-1]
        if alive is not None and not alive():
            raise AssertionError(f"quayload ended before the job {name} did")
        time.sleep(0.05)
    inside = [str(p.relative_to(load)) for p in load.rglob(f"*{name}*")]
    raise AssertionError(f"job {name} did not finish; in the spool: {inside}")


def run_job(load: Path, name: str, text: str, alive: Callable[[], bool] | None = None) -> Run:
    before = len(finished(load, name))
    submit(load, name, text)
    return wait_for(load, name, before + 1, alive=alive)


def import_job(path: str, db: str, table: str, mode: str = "append", **sections: dict) -> str:
    """The text of an import job; further sections by keyword: errors={"on_error": "skip_row"}."""
    parts = {"from": {"path": path}, "to": {"db": db, "table": table, "mode": mode}}
    return job_text(parts, sections)


def export_job(db: str, path: str, table: str = "", query: str = "", **sections: dict) -> str:
    source = {"db": db, **({"table": table} if table else {"query": query})}
    return job_text({"from": source, "to": {"path": path}}, sections)


def job_text(parts: dict[str, dict], more: dict[str, dict]) -> str:
    for name, pairs in more.items():
        parts.setdefault(name.rstrip("_"), {}).update(pairs)
    lines = []
    for name, pairs in parts.items():
        lines += [f"[{name}]", *(f"{key} = {value}" for key, value in pairs.items())]
    return "\n".join(lines) + "\n"
