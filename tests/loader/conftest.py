"""A site for the loader's tests: an S3 key and a local key in one mount, a SQLite and a PostgreSQL database."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from harness import loader as jobs
from harness.tools import run


class Site:
    def __init__(self, mount, loader, postgres, bucket, lite_path: Path):
        self.mount = mount
        self.loader = loader
        self.postgres = postgres
        self.bucket = bucket
        self.lite_path = lite_path
        self.load = mount / ".load"

    # Files.
    def put(self, path: str, data: bytes) -> str:
        """Writes KEY/path through the mount; gives that path."""
        target = self.mount / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        return path

    def get(self, path: str) -> bytes:
        return (self.mount / path).read_bytes()

    # Jobs.
    def submit(self, name: str, text: str) -> None:
        jobs.submit(self.load, name, text)

    def wait(self, name: str, count: int = 1) -> jobs.Run:
        return jobs.wait_for(self.load, name, count, alive=self.loader.running)

    def run(self, name: str, text: str) -> jobs.Run:
        return jobs.run_job(self.load, name, text, alive=self.loader.running)

    def good(self, name: str, text: str) -> jobs.Run:
        done = self.run(name, text)
        assert done.ok and done.rc == 0, done.describe()
        return done

    def bad(self, name: str, text: str, rc: int | None = None) -> jobs.Run:
        done = self.run(name, text)
        assert not done.ok and done.rc != 0, done.describe()
        assert rc is None or done.rc == rc, done.describe()
        return done

    # Databases, by the name of their section.
    def execute(self, db: str, text: str) -> None:
        if db == "pg":
            self.postgres.execute(text)
        else:
            with sqlite3.connect(self.lite_path, timeout=30) as connection:
                connection.execute(text)
            connection.close()

    def rows(self, db: str, text: str) -> list[tuple]:
        if db == "pg":
            return self.postgres.rows(text)
        connection = sqlite3.connect(self.lite_path, timeout=30)
        try:
            return connection.execute(text).fetchall()
        finally:
            connection.close()

    def count(self, db: str, table: str) -> int:
        return self.rows(db, f"SELECT count(*) FROM {table}")[0][0]

    def exists(self, db: str, table: str) -> bool:
        if db == "pg":
            return self.rows(db, f"SELECT to_regclass('{table}') IS NOT NULL")[0][0]
        return bool(self.rows(db, f"SELECT 1 FROM sqlite_master WHERE name = '{table}'"))

    def by_hand(self, db: str, table: str, file: Path, null: str = "NA") -> None:
        """The database's own client loads a CSV file with a header."""
        if db == "pg":
            run("psql", "-q", self.postgres.dsn, "-v", "ON_ERROR_STOP=1",
                "-c", f"\\copy {table} FROM '{file}' WITH (FORMAT csv, HEADER true, NULL '{null}')")
        else:
            run("sqlite3", self.lite_path, "-cmd", ".mode csv",
                f".import --skip 1 {file} {table}")


@pytest.fixture
def site_sections(bucket, postgres, folder) -> dict:
    return {
        "store lake": bucket.store(),
        "store here": {"backend": "local", "base_path": folder / "here"},
        "database lite": {"driver": "sqlite", "dsn": folder / "lite.db"},
        "database pg": postgres.section(),
    }


@pytest.fixture
def site(mount, loader, postgres, bucket, folder, site_sections) -> Site:
    m = mount(site_sections)
    return Site(m, loader(site_sections), postgres, bucket, folder / "lite.db")


@pytest.fixture(params=["lite", "pg"])
def db(request) -> str:
    return request.param
