"""MariaDB from Debian's package: a server with a data directory of its own on a free loopback port, as a user that is
not root (the server refuses root)."""

from __future__ import annotations

import atexit
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path

from .base import Server, ServerFailed, die_with_parent


class MariaDB(Server):
    name = "mariadb"
    user = "quaytest"
    password = "quaytest-pw"

    def prepare(self) -> None:
        for program in ("mariadbd", "mariadb-install-db"):
            if not shutil.which(program, path="/usr/sbin:/usr/bin"):
                raise ServerFailed(f"no {program} here: packaging/deps.sh test installs it")
        # Not below pytest's folder: pytest makes that one 0700, again with every run that starts.
        self.home = Path(tempfile.mkdtemp(prefix="quayfs-mariadb-", dir="/var/tmp"))
        self.home.chmod(0o755)
        atexit.register(shutil.rmtree, self.home, ignore_errors=True)
        self.data = self.home / "data"
        self.as_user: list[str] = []
        if os.getuid() == 0:
            known = {entry.pw_name: entry for entry in pwd.getpwall()}
            entry = known.get("mysql") or known["nobody"]  # the package of the server alone makes no user
            self.as_user = [shutil.which("setpriv") or "/usr/bin/setpriv", f"--reuid={entry.pw_uid}",
                            f"--regid={entry.pw_gid}", "--clear-groups", "--pdeathsig", "KILL"]
            os.chown(self.home, entry.pw_uid, entry.pw_gid)
        self.first = self.home / "first.sql"
        self.first.write_text(f"CREATE USER IF NOT EXISTS '{self.user}'@'127.0.0.1' IDENTIFIED BY '{self.password}';\n"
                              f"GRANT ALL ON *.* TO '{self.user}'@'127.0.0.1';\n")
        made = subprocess.run(
            [*self.as_user, "mariadb-install-db", "--no-defaults", f"--datadir={self.data}",
             "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, cwd="/")
        if made.returncode != 0:
            raise ServerFailed("mariadb-install-db failed:\n" + made.stdout)

    def command(self) -> list[str]:
        return [*self.as_user, "/usr/sbin/mariadbd", "--no-defaults", f"--datadir={self.data}",
                "--bind-address=127.0.0.1", f"--port={self.port}", f"--socket={self.home / 'socket'}",
                f"--pid-file={self.home / 'pid'}", f"--init-file={self.first}", "--skip-name-resolve",
                "--innodb-flush-log-at-trx-commit=2", "--innodb-buffer-pool-size=64M", "--skip-log-bin"]

    def client(self, text: str, database: str = "") -> subprocess.CompletedProcess:
        return subprocess.run(self._client_command(database), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              input=text.encode(), env=self._client_environment())

    def _client_command(self, database: str) -> list[str]:
        return ["mariadb", "--no-defaults", "-h", "127.0.0.1", "-P", str(self.port), "-u", self.user, "-N", "-B",
                "--skip-ssl-verify-server-cert",  # or the client of Debian 13 warns among its answers
                "--binary-as-hex", "--unbuffered", *([database] if database else [])]

    def _client_environment(self) -> dict[str, str]:
        return {**os.environ, "MYSQL_PWD": self.password}

    def session(self, database: str) -> "MariaSession":
        return MariaSession(self._client_command(database), self._client_environment())

    def ready(self) -> bool:
        return self.client("SELECT 1").returncode == 0

    def create_database(self) -> str:
        name = "t_" + secrets.token_hex(4)
        done = self.client(f"CREATE DATABASE {name}")
        if done.returncode != 0:
            raise ServerFailed(done.stderr.decode())
        return name

    def drop_database(self, name: str) -> None:
        self.client(f"DROP DATABASE IF EXISTS {name}")


class MariaSession:
    """One client that stays: who has files of a mount open closes copies of them in each new child, which stores them."""

    END = "-- end of an answer --"

    def __init__(self, command: list[str], environment: dict[str, str]):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        env=environment, preexec_fn=die_with_parent)

    def ask(self, text: str) -> list[str]:
        """The rows of the answers, as the client prints them. An error ends the session, and is raised."""
        self.process.stdin.write(f"{text};\nSELECT '{self.END}';\n".encode())
        self.process.stdin.flush()
        lines: list[str] = []
        while line := self.process.stdout.readline().decode():
            if line.rstrip("\n") == self.END:
                return lines
            lines.append(line.rstrip("\n"))
        raise ServerFailed("mariadb: " + " ".join(lines))

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()
