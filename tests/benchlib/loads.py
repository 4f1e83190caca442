"""Loads: quayload from the bucket, against the database's own client reading a local file."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from harness.conf import write_conf
from harness.data import FLIGHT_ROWS, create_flights, flights_bytes
from harness.loader import finished, import_job, submit
from servers import PostgreSQL
from servers.base import die_with_parent

from .contenders import Contender, cpu_seconds, peak_bytes
from .model import Case, Failed, Sample
from .profile import Profiler
from .world import World, timed

JOB = {"format": {"null": 'NA, ""'}, "dedupe": {"force": "yes"}}


class Loads:
    """A quayload of its own, a PostgreSQL, a SQLite file and the flights."""

    def __init__(self, world: World, folder: Path, build: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.csv = folder / "flights.csv"
        self.csv.write_bytes(flights_bytes())
        world.seed.s3.upload_file(str(self.csv), world.seed.bucket, "flights.csv")
        self.postgres = PostgreSQL(folder / "postgres")
        self.postgres.start()
        self.lite = folder / "lite.db"
        self.spool = folder / "load"
        self.peak = 0
        self.profiler: Profiler | None = None
        conf = write_conf(folder / "quayload.conf", {
            "store lake": world.seed.minio.store(world.seed.bucket),
            "database pg": {"driver": "postgres", "dsn": self.postgres.dsn()},
            "database lite": {"driver": "sqlite", "dsn": self.lite},
            "cache": {"dir": folder / "cache"}, "loader": {"spool": self.spool},
        })
        self.log = folder / "quayload.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([str(build / "loader/quayload"), "-f", "-c", str(conf)],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True, preexec_fn=die_with_parent)
        deadline = time.monotonic() + 20
        while not (self.spool / "README").exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Failed("quayload does not start:\n" + self.log.read_text()[-2000:])
            time.sleep(0.05)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        self.postgres.stop()

    def by_job(self, db: str) -> Sample:
        """From the rename into new/ to the directory in done/."""
        name = f"bench-{db}"
        before = len(finished(self.spool, name))
        if self.profiler is not None:
            self.profiler.begin(self.process.pid)
        cpu, start = cpu_seconds(self.process.pid), time.perf_counter()
        submit(self.spool, name, import_job("lake/flights.csv", db, "flights", **JOB))
        while len(runs := finished(self.spool, name)) == before:
            if self.process.poll() is not None:
                raise Failed("quayload ended:\n" + self.log.read_text()[-2000:])
            time.sleep(0.002)
        seconds = time.perf_counter() - start
        if self.profiler is not None:
            self.profiler.end()
        if not runs[-1].ok:
            raise Failed("the load failed: " + runs[-1].describe())
        self.peak = max(self.peak, peak_bytes(self.process.pid))
        return Sample(FLIGHT_ROWS, seconds, cpu_seconds(self.process.pid) - cpu)

    def postgres_case(self, _: World, contender: Contender | None) -> Sample:
        with self.postgres.connect() as connection:
            connection.execute("DROP TABLE IF EXISTS flights")
            connection.execute(create_flights())
            connection.execute("CHECKPOINT")
        if contender is not None:
            return self.by_job("pg")
        command = ["psql", "-q", self.postgres.dsn(), "-c", f"\\copy flights FROM '{self.csv}' "
                   "WITH (FORMAT csv, HEADER true, NULL 'NA')"]
        return timed(FLIGHT_ROWS, lambda: subprocess.run(command, check=True), None)

    def sqlite_case(self, _: World, contender: Contender | None) -> Sample:
        for path in self.folder.glob("lite.db*"):
            path.unlink()
        subprocess.run(["sqlite3", str(self.lite), create_flights()], check=True)
        if contender is not None:
            return self.by_job("lite")
        command = ["sqlite3", str(self.lite), "-cmd", ".mode csv", f".import --skip 1 {self.csv} flights"]
        return timed(FLIGHT_ROWS, lambda: subprocess.run(command, check=True), None)

    def cases(self) -> list[Case]:
        return load_cases(self)


def load_cases(loads: Loads | None = None) -> list[Case]:
    """Without the servers: to be named and counted only."""
    return [Case("load-postgres", "flights into PostgreSQL", "rows/s", loads and loads.postgres_case,
                 "psql \\copy", only=("quayfs",), cost=3),
            Case("load-sqlite", "flights into SQLite", "rows/s", loads and loads.sqlite_case,
                 "sqlite3 .import", only=("quayfs",), cost=3)]
