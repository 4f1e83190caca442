"""Loading from web servers, whose listings tell names and nothing else: each version of a file exactly once."""

import os
import sqlite3

import pytest

from harness import loader as jobs
from harness.loader import import_job
from servers import FakeWeb, PythonHttp, Reply


def count(path, table: str = "t") -> int:
    connection = sqlite3.connect(path, timeout=30)
    try:
        return connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]
    finally:
        connection.close()


class FromDisk:
    """Python's http.server: index pages without sizes, times as versions, no ranges."""

    def __init__(self, folder):
        self.server = PythonHttp(folder / "web").start()
        self.time = 1_600_000_000

    def put(self, name: str, data: bytes) -> None:
        path = self.server.root / "in" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        self.time += 10
        os.utime(path, (self.time, self.time))


class WithoutVersions:
    """Neither ETag nor Last-Modified: only the content tells what it is."""

    def __init__(self, folder):
        self.files: dict[str, bytes] = {}
        self.server = FakeWeb(self.answer)

    def put(self, name: str, data: bytes) -> None:
        self.files[name] = data

    def answer(self, r) -> Reply:
        if r.path == "/in":
            return Reply(301, Location="/in/")
        if r.path.endswith("/"):
            return Reply(200, "".join(f'<a href="{n}">x</a>' for n in self.files).encode(), Content_Type="text/html")
        data = self.files.get(r.path.rsplit("/", 1)[1])
        return Reply(404) if data is None else r.ranged(data)


@pytest.mark.parametrize("kind", [FromDisk, WithoutVersions])
def test_each_version_is_loaded_once(mount, loader, folder, kind):
    web = kind(folder)
    try:
        sections = {"store web": web.server.section(), "database lite": {"driver": "sqlite", "dsn": folder / "lite.db"}}
        m, daemon = mount(sections), loader(sections)
        web.put("a.csv", b"x,y\n1,2\n3,4\n")
        web.put("b.csv", b"x,y\n5,6\n")

        def load(name: str, mode: str = "append", path: str = "web/in/*.csv") -> None:
            done = jobs.run_job(m / ".load", name, import_job(path, "lite", "t", mode), alive=daemon.running)
            assert done.ok and done.rc == 0, done.describe()

        load("first", "create")
        assert count(folder / "lite.db") == 3
        load("again")
        load("by-name", path="web/in/a.csv")
        assert count(folder / "lite.db") == 3
        web.put("a.csv", b"x,y\n7,8\n9,0\n")  # as long as before
        done = jobs.run_job(m / ".load", "changed", import_job("web/in/*.csv", "lite", "t"), alive=daemon.running)
        assert not done.ok and "a.csv has changed since it was loaded" in done.describe()
        assert count(folder / "lite.db") == 3
    finally:
        web.server.stop()
