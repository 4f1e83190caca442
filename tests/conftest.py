"""Fixtures: real servers, real mounts, real loaders; every test's daemons are stopped and their logs read.

A fixture that cannot start its server fails the test: nothing here skips."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness.backends import PLACES, Key, make_key  # noqa: E402
from harness.conf import Sections, merged  # noqa: E402
from harness.daemon import Daemon, disasters  # noqa: E402
from harness.loader import Loader  # noqa: E402
from harness.mount import Mount  # noqa: E402
from servers import FakeGCS, FaultProxy, MariaDB, MinIO, PostgreSQL, Relay, SSHD  # noqa: E402
from servers.azurite import Azurite, Container  # noqa: E402
from servers.minio import Bucket, VersionedBucket  # noqa: E402
from servers.web import FakeWeb  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
DEADLINE_SECONDS = 300  # for what hangs: a machine that is only slow must not meet it


@pytest.fixture(scope="session")
def build_dir() -> Path:
    build = Path(os.environ.get("QUAY_BUILD", ROOT / "build/asan")).resolve()
    for program in ("fs/quayfs", "loader/quayload", "ctl/quayctl"):
        if not (build / program).exists():
            pytest.fail(f"{build / program} is not built: run tests/run, or set QUAY_BUILD", False)
    return build


@pytest.fixture(scope="session")
def minio(tmp_path_factory) -> MinIO:
    server = MinIO(tmp_path_factory.mktemp("minio"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def own_minio_factory(tmp_path_factory):
    """For tests that stop, pause or break the server: one of their own."""
    servers: list[MinIO] = []

    def make() -> MinIO:
        server = MinIO(tmp_path_factory.mktemp("own-minio"))
        server.start()
        servers.append(server)
        return server

    yield make
    for server in servers:
        server.stop()


@pytest.fixture
def own_minio(own_minio_factory) -> MinIO:
    server = own_minio_factory()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def sshd(tmp_path_factory) -> SSHD:
    server = SSHD(tmp_path_factory.mktemp("sshd"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def relay(sshd):
    """make() -> a relay in front of the shared sshd, known to its known_hosts."""
    made: list[Relay] = []

    def make() -> Relay:
        made.append(Relay(sshd.port).start())
        sshd.trust(*[relay.port for relay in made])
        return made[-1]

    yield make
    for one in made:
        one.stop()
    sshd.trust()


@pytest.fixture
def place(sshd, folder):
    """A directory of the server's for this test."""
    path = sshd.data / folder.name
    path.mkdir()
    return path


@pytest.fixture
def sftp_server_factory(tmp_path_factory):
    """make(extra="", ...): an sshd of the test's own, to be stopped, broken or configured otherwise."""
    servers: list[SSHD] = []

    def make(**options) -> SSHD:
        server = SSHD(tmp_path_factory.mktemp("own-sshd"), **options)
        server.start()
        servers.append(server)
        return server

    yield make
    for server in servers:
        server.stop()


@pytest.fixture
def bucket(minio) -> Bucket:
    return Bucket(minio)


@pytest.fixture
def versioned_bucket(minio) -> VersionedBucket:
    return VersionedBucket(minio)


@pytest.fixture
def gcs() -> FakeGCS:
    """Cloud Storage of this test's own."""
    made = FakeGCS().start()
    yield made
    made.stop()


@pytest.fixture
def fake_web():
    """fake_web(answer) -> FakeWeb: a server that answers as the test says."""
    made: list[FakeWeb] = []

    def make(answer) -> FakeWeb:
        made.append(FakeWeb(answer))
        return made[-1]

    yield make
    for server in made:
        server.stop()


@pytest.fixture(scope="session")
def azurite(tmp_path_factory) -> Azurite:
    server = Azurite(tmp_path_factory.mktemp("azurite"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def container(azurite) -> Container:
    return Container(azurite)


@pytest.fixture
def make_bucket():
    """make_bucket(server): on a server of the test's own."""
    return Bucket


@pytest.fixture
def proxy(minio) -> FaultProxy:
    """In front of the shared MinIO; misbehaves on demand."""
    made = FaultProxy(minio.port).start()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory) -> PostgreSQL:
    server = PostgreSQL(tmp_path_factory.mktemp("postgres"))
    server.start()
    yield server
    server.stop()


class Database:
    """A fresh PostgreSQL database."""

    def __init__(self, server: PostgreSQL):
        self.server = server
        self.name = server.create_database()
        self.dsn = server.dsn(self.name)
        self.connection = server.connect(self.name)

    def execute(self, text: str):
        return self.connection.execute(text)

    def rows(self, text: str) -> list[tuple]:
        return self.connection.execute(text).fetchall()

    def count(self, table: str) -> int:
        return self.rows(f"SELECT count(*) FROM {table}")[0][0]

    def section(self) -> dict[str, str]:
        return {"driver": "postgres", "dsn": self.dsn}


@pytest.fixture
def postgres(postgres_server) -> Database:
    if not postgres_server.running():
        postgres_server.start()
    database = Database(postgres_server)
    yield database
    database.connection.close()
    postgres_server.drop_database(database.name)


@pytest.fixture(scope="session")
def mariadb_server(tmp_path_factory) -> MariaDB:
    server = MariaDB(tmp_path_factory.mktemp("mariadb"))
    server.start()
    yield server
    server.stop()


class MariaDatabase:
    """A fresh MariaDB database."""

    def __init__(self, server: MariaDB):
        self.server = server
        self.name = server.create_database()


@pytest.fixture
def mariadb(mariadb_server) -> MariaDatabase:
    if not mariadb_server.running():
        mariadb_server.start()
    database = MariaDatabase(mariadb_server)
    yield database
    if not mariadb_server.running():
        mariadb_server.start()
    mariadb_server.drop_database(database.name)


class Running:
    """The daemons of one test: watched while it runs, stopped and judged after it."""

    def __init__(self) -> None:
        self.daemons: list[Daemon] = []
        self.hung = False

    def add(self, daemon: Daemon) -> None:
        self.daemons.append(daemon)

    def kill_hanging(self) -> None:
        """A call into a hanging mount cannot be interrupted; without its daemon it fails."""
        self.hung = True
        for daemon in self.daemons:
            if daemon.running():
                daemon.dump_stacks()
                daemon.kill9()

    def finish(self) -> list[str]:
        complaints = ["the test hung; its daemons were killed"] if self.hung else []
        for daemon in reversed(self.daemons):
            try:
                code = daemon.stop(check=False)
                # quayfs ends with 3 when a store was away and data is still staged
                allowed = (0, -9, 3) if isinstance(daemon, Mount) else (0, -9)
                if code not in allowed and not daemon.may_fail:
                    complaints.append(f"{daemon.program.name} ended with {code}")
            except Exception as error:  # the others must be stopped all the same
                complaints.append(f"{daemon.program.name}: {error}")
            finally:
                daemon.kill9()
                if isinstance(daemon, Mount):
                    daemon.detach()
            complaints += [f"{daemon.program.name} printed: {line}"
                           for line in disasters(daemon.whole_log())]
        return complaints


@pytest.fixture
def running(request) -> Running:
    marker = request.node.get_closest_marker("deadline")
    seconds = marker.args[0] if marker else DEADLINE_SECONDS
    daemons = Running()
    watch = threading.Timer(seconds, daemons.kill_hanging)
    watch.daemon = True
    watch.start()
    yield daemons
    watch.cancel()
    complaints = daemons.finish()
    if complaints:
        logs = "\n".join(f"--- {d.log_path}\n{d.whole_log()[-6000:]}" for d in daemons.daemons)
        pytest.fail("\n".join([*complaints[:20], logs]), False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows what its daemons printed."""
    report = yield
    if report.when == "call" and report.failed:
        daemons = item.funcargs.get("running")
        for daemon in daemons.daemons if daemons else []:
            report.sections.append((f"{daemon.program.name} log", daemon.whole_log()[-8000:]))
    return report


def default_sections(folder: Path) -> Sections:
    """What every test's daemons have in common: folders of their own, and no waiting on old news."""
    return {
        "quayfs": {"log_level": "info"},
        "cache": {"dir": folder / "cache", "max_size": "1GiB", "min_free": "64MiB"},
        "loader": {"spool": folder / "load"},
    }


@pytest.fixture
def folder(tmp_path) -> Path:
    """Of this test: configuration, logs, cache, spool and mount point."""
    return tmp_path


@pytest.fixture
def mount(build_dir, folder, running):
    """mount({"store k": {...}}) -> Mount, started. start=False for one that should fail."""

    def make(sections: Sections | str, *arguments: str, start: bool = True, name: str = "m",
             env: dict[str, str] | None = None) -> Mount:
        place = folder / name
        place.mkdir(exist_ok=True)
        whole = sections if isinstance(sections, str) else merged(default_sections(folder), sections)
        made = Mount(build_dir, place, whole, arguments, env)
        running.add(made)
        if start:
            made.start()
        return made

    return make


@pytest.fixture
def loader(build_dir, folder, running):
    """loader({"store k": ..., "database d": ...}) -> Loader, started, on the test's spool."""

    def make(sections: Sections, start: bool = True, name: str = "l",
             env: dict[str, str] | None = None) -> Loader:
        whole = merged(default_sections(folder), sections)
        made = Loader(build_dir, folder / name, whole, Path(str(whole["loader"]["spool"])), env)
        running.add(made)
        if start:
            made.start()
        return made

    return make


# Where the operations themselves are tried; elsewhere (the cache, names, stress) a further backend tells nothing new.
ON_SQLITE_TOO = {"test_010_basics", "test_020_rename", "test_030_attributes", "test_040_writes", "test_120_semantics"}


# By sftp these, by its packets and by commands (exec); the conformance suite asks the store itself, and all of them would take minutes more.
ON_SFTP_TOO = {"test_010_basics", "test_020_rename", "test_030_attributes"}


# Through the mount at least this on every kind of store that can be written.
ON_ALL = {"test_010_basics", "test_405_two_hosts"}


def pytest_collection_modifyitems(items):
    """What takes longest comes first: at the end one worker would be busy with it for minutes, the others not at all."""
    items.sort(key=lambda item: "/servers/" not in item.nodeid and not item.nodeid.startswith("servers/"))


def pytest_generate_tests(metafunc):
    """key: one storage key named `k` on each backend in turn; lasting_key: where content outlives the daemon."""
    module = metafunc.module.__name__.rsplit(".")[-1]
    sftp = ["sftp", "exec"] if module in ON_SFTP_TOO | ON_ALL else []
    others = ["gcs", "azure", "postgres", "mysql"] if module in ON_ALL else []
    marker = metafunc.definition.get_closest_marker("also_on")
    others += marker.args if marker else []
    if "key" in metafunc.fixturenames:
        sqlite = ["sqlite"] if module in ON_SQLITE_TOO | ON_ALL else []
        metafunc.parametrize("key", ["local", "memory", "s3", *sqlite, *others, *sftp], indirect=True)
    if "lasting_key" in metafunc.fixturenames:
        metafunc.parametrize("lasting_key", ["local", "s3", "sqlite", *others, *sftp], indirect=True)


def key_of(request, folder) -> Key:
    fixture = PLACES.get(request.param)
    return make_key(request.param, folder, request.getfixturevalue(fixture) if fixture else None)


@pytest.fixture
def key(request, folder) -> Key:
    return key_of(request, folder)


@pytest.fixture
def lasting_key(request, folder) -> Key:
    return key_of(request, folder)


@pytest.fixture
def mounted(mount, key) -> Mount:
    return mount({"store k": key.options})


@pytest.fixture
def root(mounted) -> Path:
    """The directory of the key `k` in a fresh mount: where the operations are tried."""
    return mounted / "k"
