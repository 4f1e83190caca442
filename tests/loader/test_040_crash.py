"""Exactly once: killed loaders, lost servers, jobs dropped twice, two loaders on one spool."""

import os
import threading
import time

import pytest

from harness.daemon import DaemonFailed
from harness.loader import import_job, run_job, submit, wait_for
from harness.tools import eventually

pytestmark = pytest.mark.deadline(300)

CREATE = "CREATE TABLE big (id integer, name text)"
ROWS = 400_000


def big_csv() -> bytes:
    return b"id,name\n" + b"".join(b"%d,some text for row %d\n" % (n, n) for n in range(ROWS))


def running_rows(site, name: str) -> int:
    """How far a running job says it is."""
    import json
    try:
        return json.loads((site.load / f"run/{name}/status.json").read_text()).get("rows_read", 0)
    except (OSError, ValueError):
        return 0


def check_once(site, db) -> None:
    assert site.rows(db, "SELECT count(*), count(DISTINCT id), min(id), max(id) FROM big") == [
        (ROWS, ROWS, 0, ROWS - 1)]


@pytest.mark.parametrize("after", [0.0, 0.2, 0.7, 1.5])
def test_killed_in_the_middle(site, db, after):
    """kill -9, started again: the job is finished, no row is there twice, none is lost."""
    site.put("here/big.csv", big_csv())
    site.execute(db, CREATE)
    site.submit("big", import_job("here/big.csv", db, "big"))
    eventually(lambda: list((site.load / "run").iterdir()) or list((site.load / "done").iterdir()))
    time.sleep(after)  # wherever it then is
    site.loader.kill9()
    assert site.count(db, "big") in (0, ROWS)
    site.loader.start()
    done = site.wait("big")
    assert done.ok, done.describe()
    check_once(site, db)


def test_a_loader_killed_again_and_again(site, db):
    site.put("here/big.csv", big_csv())
    site.execute(db, CREATE)
    site.submit("big", import_job("here/big.csv", db, "big"))
    for turn in range(2):  # a job whose loader ends a third time is given up
        time.sleep(0.2 + 0.3 * turn)
        site.loader.kill9()
        site.loader.start()
    assert site.wait("big").ok
    check_once(site, db)


def test_stopped_in_the_middle(site, db):
    """SIGTERM: ends with 0 soon, and the job goes on with the next start."""
    site.put("here/big.csv", big_csv())
    site.execute(db, CREATE)
    site.submit("big", import_job("here/big.csv", db, "big"))
    eventually(lambda: list((site.load / "run").iterdir()) or list((site.load / "done").iterdir()))
    assert site.loader.terminate() == 0
    site.loader.start()
    assert site.wait("big").ok
    check_once(site, db)


def test_dropped_many_times_at_once(site, db):
    """The same file under many job names, run by several workers: one of them loads it."""
    site.put("lake/u.csv", b"id,name\n1,a\n2,b\n")
    site.execute(db, CREATE)
    for number in range(8):
        site.submit(f"job{number}", import_job("lake/u.csv", db, "big"))
    for number in range(8):
        done = site.wait(f"job{number}")
        assert done.ok, done.describe()
    assert site.count(db, "big") == 2


def test_two_loaders_on_one_spool(site, loader, site_sections):
    """The second is refused with the first one's pid; the first goes on."""
    second = loader(site_sections, start=False, name="second")
    try:
        second.start()  # may look ready: the spool of the first one is there
    except DaemonFailed:
        pass
    assert second.wait() != 0
    second.may_fail = True
    assert str(site.loader.pid) in second.log()
    site.put("lake/u.csv", b"id,name\n1,a\n")
    site.execute("lite", CREATE)
    site.good("u", import_job("lake/u.csv", "lite", "big"))


def test_two_loaders_on_two_spools(site, loader, site_sections, folder):
    """Both load the same file into the same table: the ledger's unique key lets one of them."""
    second = loader({**site_sections, "loader": {"spool": folder / "load-two"}}, name="second")
    site.put("here/big.csv", big_csv())
    site.execute("pg", CREATE)
    text = import_job("here/big.csv", "pg", "big")
    site.submit("big", text)
    submit(second.spool, "big", text)
    assert site.wait("big").ok
    assert wait_for(second.spool, "big").ok
    check_once(site, "pg")


def test_postgres_restarts(site, postgres_server):
    """A lost connection is transient: tried again until the server is back."""
    site.put("here/big.csv", big_csv())
    site.execute("pg", CREATE)
    site.submit("big", import_job("here/big.csv", "pg", "big"))
    eventually(lambda: list((site.load / "run").iterdir()) or list((site.load / "done").iterdir()))
    postgres_server.stop()
    time.sleep(1)
    postgres_server.start()
    site.postgres.connection = postgres_server.connect(site.postgres.name)
    assert site.wait("big").ok
    check_once(site, "pg")


def test_sqlite_locked_by_another(site):
    """SQLITE_BUSY is waited for."""
    import sqlite3
    site.put("lake/u.csv", b"id,name\n1,a\n")
    site.execute("lite", CREATE)
    holder = sqlite3.connect(site.lite_path, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(3, lambda: holder.execute("ROLLBACK"))
    timer.start()
    site.good("u", import_job("lake/u.csv", "lite", "big"))
    timer.join()
    holder.close()
    assert site.count("lite", "big") == 1


def test_cancel(site, db):
    site.put("here/big.csv", big_csv() * 3)
    site.execute(db, CREATE)
    site.submit("big", import_job("here/big.csv", db, "big", format={"header": "no"}).replace(
        "[format]\nheader = no", ""))
    eventually(lambda: (site.load / "run/big").exists() or list((site.load / "failed").iterdir()))
    try:
        (site.load / "run/big/ctl").write_text("cancel\n")
    except FileNotFoundError:
        pass
    done = site.wait("big")
    assert done.rc in (5, 1), done.describe()  # 1: it met the second header before the word
    assert site.count(db, "big") == 0


def test_works_without_a_mount(loader, site_sections, postgres, bucket, folder):
    """On its spool directory alone."""
    started = loader(site_sections)
    bucket.put("u.csv", b"id,name\n1,a\n")
    postgres.execute(CREATE)
    done = run_job(started.spool, "u", import_job("lake/u.csv", "pg", "big"))
    assert done.ok, done.describe()
    assert postgres.count("big") == 1


def test_the_mount_restarts_meanwhile(site):
    """The loader does not need the mount; .load/ comes back with it."""
    site.put("lake/u.csv", b"id,name\n1,a\n")
    site.execute("lite", CREATE)
    site.submit("u", import_job("lake/u.csv", "lite", "big"))
    site.mount.remount()
    assert site.wait("u").ok
    assert site.count("lite", "big") == 1


def test_bounded_memory(site, db):
    """Fifteen times the file does not mean fifteen times the memory."""
    limit = (1500 if site.loader.sanitized() else 200) << 20
    site.put("here/big.csv", b"id,name\n" + b"".join(b"%d,%s\n" % (n, b"x" * 200) for n in range(600_000)))
    site.execute(db, CREATE)
    site.good("big", import_job("here/big.csv", db, "big"))
    assert site.loader.peak_rss() < limit
    assert os.path.getsize(site.mount / "here/big.csv") > 100 << 20
