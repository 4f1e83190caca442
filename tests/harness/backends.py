"""The same store seen from behind: how a test reads and writes it without our programs."""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Key:
    """A [store] section, and (except for memory) the other way to its bytes."""

    backend: str
    options: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    bucket: Any = None
    box: Any = None  # another client with get, put, delete and names

    @property
    def lasting(self) -> bool:
        return self.backend != "memory"

    @property
    def has_xattrs(self) -> bool:
        return self.backend != "sftp"

    @property
    def time_ns(self) -> int:
        """The step of stored times: SFTP 3 has whole seconds."""
        return 10**9 if self.backend == "sftp" else 1

    def behind(self, path: str) -> bytes:
        """What the store itself says an object holds."""
        if self.box is not None:
            return self.box.get(path)
        assert self.folder is not None, "nobody else can look into the memory backend"
        return (self.folder / path).read_bytes()

    def put_behind(self, path: str, data: bytes, time_ns: int | None = None) -> None:
        """As another client would. time_ns: of files."""
        if self.box is not None:
            self.box.put(path, data)
            return
        assert self.folder is not None
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(target.name + ".new")
        temporary.write_bytes(data)
        if time_ns is not None:
            os.utime(temporary, ns=(time_ns, time_ns))
        temporary.rename(target)

    def delete_behind(self, path: str) -> None:
        if self.box is not None:
            self.box.delete(path)
        else:
            (self.folder / path).unlink()

    def exists_behind(self, path: str) -> bool:
        if self.box is not None:
            return path in self.box.names()
        return (self.folder / path).exists()


SCHEMA = """
CREATE TABLE IF NOT EXISTS files (path BLOB NOT NULL PRIMARY KEY, kind INTEGER NOT NULL, size INTEGER NOT NULL,
    mtime INTEGER NOT NULL, etag TEXT NOT NULL, content INTEGER NOT NULL, meta TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files_content (id INTEGER PRIMARY KEY, refs INTEGER NOT NULL, state INTEGER NOT NULL,
    path BLOB NOT NULL, meta TEXT NOT NULL, touched INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS files_part (content INTEGER NOT NULL, number INTEGER NOT NULL, start INTEGER NOT NULL,
    size INTEGER NOT NULL, etag TEXT NOT NULL, PRIMARY KEY (content, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files_chunk (content INTEGER NOT NULL, part INTEGER NOT NULL, pos INTEGER NOT NULL,
    data BLOB NOT NULL, PRIMARY KEY (content, part, pos));
CREATE TABLE IF NOT EXISTS files_meta (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL);
INSERT OR IGNORE INTO files_meta VALUES ('version', '1');
"""


class BlobTables:
    """The tables of backend = sqlite, as another program sees them (backends/blob/README.md)."""

    def __init__(self, path: Path):
        self.path = path

    def _ask(self, *statements: tuple) -> list[tuple]:
        """All of them in one transaction; the rows of the last."""
        with closing(sqlite3.connect(self.path, timeout=20)) as db, db:
            for text, *values in statements:
                rows = db.execute(text, values).fetchall()
        return rows

    def ask(self, text: str, *values) -> list[tuple]:
        """`?` is a parameter; values and columns are as SQLite has them."""
        return self._ask((text, *values))

    def names(self) -> list[str]:
        return [os.fsdecode(path) for path, in self.ask("SELECT path FROM files ORDER BY path")]

    def get(self, path: str) -> bytes:
        rows = self.ask(  # one statement: one version
            "SELECT f.size, c.data FROM files f LEFT JOIN files_part p ON p.content = f.content LEFT JOIN files_chunk c"
            " ON c.content = p.content AND c.part = p.number WHERE f.path = ? ORDER BY p.start, c.pos",
            os.fsencode(path))
        assert rows, f"{path} is not in the table"
        data = b"".join(chunk or b"" for _, chunk in rows)
        assert len(data) == rows[0][0]
        return data

    def _make(self) -> None:
        """The tables, perhaps before any mount."""
        with closing(sqlite3.connect(self.path, timeout=20)) as db:
            db.executescript(SCHEMA)

    def put(self, path: str, data: bytes) -> None:
        name, number = os.fsencode(path), int.from_bytes(os.urandom(6), "big") + 1
        self._make()
        seconds, ns = divmod(time.time_ns(), 10**9)
        meta = f'{{"kind":1,"known":8,"mtime":[{seconds},{ns}]}}'
        assert len(data) <= 1 << 20, "one chunk"
        chunks = [("INSERT INTO files_chunk VALUES (?, 1, 0, ?)", number, data)] if data else []
        self._ask(
            ("INSERT INTO files_content VALUES (?, 1, 1, ?, ?, 0)", number, name, meta),
            ("INSERT INTO files_part VALUES (?, 1, 0, ?, '')", number, len(data)),
            *chunks,
            ("DELETE FROM files WHERE path = ?", name),
            ("INSERT INTO files VALUES (?, 1, ?, 0, ?, ?, ?)", name, len(data), os.urandom(16).hex(), number, meta))

    def delete(self, path: str) -> None:
        self.ask("DELETE FROM files WHERE path = ?", os.fsencode(path))


class ServerTables(BlobTables):
    """The same in a database of a server; `database` as its fixture has it."""

    def __init__(self, database):
        self.database = database
        self.kept = None

    def _connect(self):
        raise NotImplementedError

    def keep(self) -> None:
        """One connection for all that follows, until close()."""
        self.kept = self._connect()

    def close(self) -> None:
        if self.kept:
            self.kept.close()
            self.kept = None

    def _make(self) -> None:
        """A mount has made them."""


class PostgresTables(ServerTables):
    """In PostgreSQL: the fixture `postgres`."""

    def _connect(self):
        return self.database.server.connect(self.database.name)

    def _ask(self, *statements: tuple) -> list[tuple]:
        if self.kept:
            return self._in_transaction(self.kept, statements)
        with self._connect() as db:
            return self._in_transaction(db, statements)

    @staticmethod
    def _in_transaction(db, statements: tuple) -> list[tuple]:
        rows: list[tuple] = []
        with db.transaction():
            for text, *values in statements:
                done = db.execute(text.replace("?", "%s"), values or None)
                rows = done.fetchall() if done.description else []
        return rows


class MariaTables(ServerTables):
    """In MariaDB, by its client: the fixture `mariadb`."""

    def _connect(self):
        return self.database.server.session(self.database.name)

    def _ask(self, *statements: tuple) -> list[tuple]:
        texts = []
        for text, *values in statements:
            for value in values:
                text = text.replace("?", self._literal(value), 1)
            texts.append(text)
        if len(texts) > 1:
            texts = ["START TRANSACTION", *texts, "COMMIT"]
        return [tuple(self._value(cell) for cell in line.split("\t")) for line in self._lines("; ".join(texts))]

    def _lines(self, text: str) -> list[str]:
        if self.kept:
            return self.kept.ask(text)
        done = self.database.server.client(text, self.database.name)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode().splitlines()

    @staticmethod
    def _literal(value: bytes | str | int) -> str:
        if isinstance(value, int):
            return str(value)
        return f"X'{(value.encode() if isinstance(value, str) else value).hex()}'"

    @staticmethod
    def _value(cell: str) -> bytes | int | None:
        if cell.startswith("0x"):
            return bytes.fromhex(cell[2:])
        return None if cell == "NULL" else int(cell)


def database_key(backend: str, folder: Path, database: Any) -> Key:
    password = folder / "password"
    password.write_text(database.server.password + "\n")
    password.chmod(0o600)
    options = {"backend": backend, "host": "127.0.0.1", "port": database.server.port, "dbname": database.name,
               "user": database.server.user, "password_file": password}
    return Key(backend, options, box=PostgresTables(database) if backend == "postgres" else MariaTables(database))


# What make_key wants as `place`: the fixture of that name.
PLACES = {"s3": "bucket", "sftp": "sshd", "exec": "sshd", "gcs": "gcs", "azure": "container", "postgres": "postgres",
          "mysql": "mariadb"}


def make_key(backend: str, folder: Path, place: Any = None) -> Key:
    if backend == "s3":
        return Key("s3", place.store(), bucket=place, box=place)
    if backend in ("gcs", "azure"):
        return Key(backend, place.store(), box=place)
    if backend in ("postgres", "mysql"):
        return database_key(backend, folder, place)
    if backend in ("sftp", "exec"):
        name = "t-" + secrets.token_hex(5)
        (place.data / name).mkdir()
        return Key("sftp", place.store(name, transfer=backend), folder=place.data / name)
    if backend == "local":
        store = folder / "store"
        store.mkdir()
        return Key("local", {"backend": "local", "base_path": store}, folder=store)
    if backend == "sqlite":
        path = folder / "store.db"
        return Key("sqlite", {"backend": "sqlite", "path": path}, box=BlobTables(path))
    return Key("memory", {"backend": "memory"})
