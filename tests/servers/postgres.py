"""PostgreSQL from Debian's package: a cluster of its own on a free loopback port, as a user that is not
root (the server refuses root)."""

from __future__ import annotations

import atexit
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from .base import Server, ServerFailed


def newest_bin() -> Path:
    found = list(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        raise ServerFailed("no PostgreSQL here: packaging/deps.sh test installs it")
    return max(found, key=lambda path: int(re.sub(r"\D", "", path.parts[4]) or 0)).parent


class PostgreSQL(Server):
    name = "postgres"
    stop_signal = signal.SIGINT  # "fast": ends sessions, keeps the data
    user = "quaytest"
    password = "quaytest-pw"

    def prepare(self) -> None:
        self.bin = newest_bin()
        # Not below pytest's folder: pytest makes that one 0700, again with every run that starts.
        self.home = Path(tempfile.mkdtemp(prefix="quayfs-postgres-", dir="/var/tmp"))
        self.home.chmod(0o755)
        atexit.register(shutil.rmtree, self.home, ignore_errors=True)
        self.data = self.home / "data"
        self.as_user: list[str] = []
        if os.getuid() == 0:
            entry = pwd.getpwnam("postgres")
            setpriv = shutil.which("setpriv") or "/usr/bin/setpriv"
            self.as_user = [setpriv, f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}",
                            "--clear-groups", "--pdeathsig", "KILL"]
            self.data.mkdir()
            os.chown(self.data, entry.pw_uid, entry.pw_gid)
        password_file = self.home / "password"
        password_file.write_text(self.password + "\n")
        password_file.chmod(0o644)
        made = subprocess.run(
            [*self.as_user, str(self.bin / "initdb"), "-D", str(self.data), "-U", self.user,
             "-A", "scram-sha-256", f"--pwfile={password_file}", "-E", "UTF8", "--locale=C",
             "--no-sync"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
            cwd="/",
        )
        if made.returncode != 0:
            raise ServerFailed("initdb failed:\n" + made.stdout)

    def command(self) -> list[str]:
        options = {
            "listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": "",
            "fsync": "off", "max_connections": 60, "max_prepared_transactions": 10,
            "log_min_messages": "warning", "max_wal_size": "2GB",
        }
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return [*self.as_user, str(self.bin / "postgres"), "-D", str(self.data), *arguments]

    def ready(self) -> bool:
        asked = subprocess.run(
            [str(self.bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        )
        return asked.returncode == 0

    def dsn(self, database: str = "postgres", password: str | None = None) -> str:
        return (f"host=127.0.0.1 port={self.port} dbname={database} user={self.user} "
                f"password={password or self.password}")

    def connect(self, database: str = "postgres"):
        import psycopg

        return psycopg.connect(self.dsn(database), autocommit=True)

    def create_database(self) -> str:
        name = "t_" + secrets.token_hex(4)
        with self.connect() as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return name

    def drop_database(self, name: str) -> None:
        with self.connect() as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
