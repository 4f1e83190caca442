"""Fresh stores of each backend, their servers, and the other client's way to them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Callable

from harness.backends import Key, make_key
from servers import SSHD, Azurite, FakeGcsProcess, MariaDB, MinIO, PostgreSQL, Server, VersityGW
from servers.azurite import Container
from servers.minio import Bucket

SERVERS = {"s3": MinIO, "versitygw": VersityGW, "sftp": SSHD, "azure": Azurite, "postgres": PostgreSQL, "mysql": MariaDB}
BACKENDS = ["local", "memory", "s3", "versitygw", "sftp", "gcs", "azure", "sqlite", "postgres", "mysql"]
PARTS = {"s3", "versitygw", "gcs", "azure"}  # have multipart_threshold
VERSIONED = set(BACKENDS) - {"memory", "sftp"}  # each change shows, whatever the clock says


ONE_THREAD = {"azure"}  # such a server does one thing at a time


def start_servers(backend: str, folder: Path, jobs: int) -> list[Server]:
    """What the stores of a run share: one for all jobs, or one for each; nothing for some."""
    made = SERVERS.get(backend)
    count = 0 if made is None else jobs if backend in ONE_THREAD else 1
    return [made(folder / f"server{n}").start() for n in range(count)]


class Database:
    """As the fixtures of conftest.py."""

    def __init__(self, server: Server):
        self.server, self.name = server, server.create_database()


def fresh_key(backend: str, folder: Path, server: Server | None) -> tuple[Key, Callable[[], None]]:
    """An empty store, and what takes it away."""
    if backend in ("s3", "versitygw"):
        bucket = Bucket(server)
        return make_key("s3", folder, bucket), bucket.remove
    if backend == "sftp":
        key = make_key(backend, folder, server)
        return key, lambda: shutil.rmtree(key.folder, ignore_errors=True)
    if backend == "gcs":
        own = FakeGcsProcess(folder / "gcs").start()
        return make_key(backend, folder, own), own.stop
    if backend == "azure":
        container = Container(server)
        return make_key(backend, folder, container), container.remove
    if backend in ("postgres", "mysql"):
        return in_database(backend, folder, server)
    return make_key(backend, folder), lambda: None


def in_database(backend: str, folder: Path, server: Server) -> tuple[Key, Callable[[], None]]:
    database = Database(server)
    key = make_key(backend, folder, database)
    key.box.keep()

    def remove() -> None:
        key.box.close()
        server.drop_database(database.name)

    return key, remove
