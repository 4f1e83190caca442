"""Bad input: a clear error with file and line, the table as it was, the offending bytes kept."""

import json

import pytest

from harness.loader import finished, import_job
from harness.tools import eventually

CREATE = "CREATE TABLE users (id integer, name text)"

# name -> (job text, line, words of the message)
JOBS = {
    "unknown section": ("[form]\npath = lake/u.csv\n", 1, ["form", "from"]),
    "unknown key": ("[from]\npaht = lake/u.csv\n[to]\ndb = lite\ntable = t\n", 2, ["paht", "path"]),
    "no to": ("[from]\npath = lake/u.csv\n", 1, []),
    "two paths": ("[from]\npath = lake/u.csv\n[to]\npath = lake/v.csv\n", 4, []),
    "bad mode": ("[from]\npath = lake/u.csv\n[to]\ndb = lite\ntable = t\nmode = apend\n", 6, ["apend", "append"]),
    "bad number": ("[from]\npath = lake/u.csv\n[to]\ndb = lite\ntable = t\n[format]\nmax_row = 5x\n", 7, ["5x"]),
    "duplicate key": ("[from]\npath = lake/u.csv\npath = lake/v.csv\n[to]\ndb = lite\ntable = t\n", 3, ["path"]),
    "not ini at all": ("SELECT * FROM users;\n", 1, []),
}


@pytest.mark.parametrize("name", JOBS)
def test_malformed_job(site, name):
    text, line, words = JOBS[name]
    done = site.bad("wrong", text, rc=4)
    assert f"wrong.job:{line}" in done.log, done.log
    for word in words:
        assert word in done.log, done.log


def test_empty_and_binary_jobs(site):
    for name, data in {"binary": bytes(range(256)), "large": b"# x\n" * 30_000}.items():
        temporary = site.load / f"new/.{name}.tmp"
        temporary.write_bytes(data)
        temporary.rename(site.load / f"new/{name}.job")
        done = site.wait(name)
        assert not done.ok and done.rc == 4


def test_unknown_database(site):
    site.put("lake/u.csv", b"id,name\n1,a\n")
    done = site.bad("users", import_job("lake/u.csv", "liet", "users"))
    assert "liet" in done.log and "lite" in done.log


def test_unknown_key(site):
    done = site.bad("users", import_job("laek/u.csv", "lite", "users"))
    assert "No storage backend registered for key: 'laek'" in done.log


def test_missing_file(site, db):
    site.execute(db, CREATE)
    done = site.bad("users", import_job("lake/none.csv", db, "users"))
    assert "lake/none.csv" in done.log
    site.bad("glob", import_job("lake/none-*.csv", db, "users"))
    site.good("may-be-empty", import_job("lake/none-*.csv", db, "users").replace(
        "[to]", "on_empty = ok\n[to]"))


def test_missing_table(site, db):
    site.put("lake/u.csv", b"id,name\n1,a\n")
    done = site.bad("users", import_job("lake/u.csv", db, "no_such_table"))
    assert "no_such_table" in done.log


# name -> (content of the file, line of the error)
FILES = {
    "too many values": (b"id,name\n1,a\n2,b,c\n3,d\n", 3),
    "too few values": (b"id,name\n1,a\n2\n3,d\n", 3),
    "invalid utf-8": (b"id,name\n1,a\n2,\xff\xfe\n3,d\n", 3),
    "unclosed quote": (b'id,name\n1,a\n2,"b\n3,d\n', 3),
    "nul byte": (b"id,name\n1,a\n2,b\x00c\n3,d\n", 3),
}


@pytest.mark.parametrize("name", FILES)
def test_malformed_csv(site, db, name):
    data, line = FILES[name]
    site.put("lake/u.csv", data)
    site.execute(db, CREATE)
    site.execute(db, "INSERT INTO users VALUES (0, 'before')")
    done = site.bad("users", import_job("lake/u.csv", db, "users"), rc=1)
    assert f"lake/u.csv:{line}" in done.log, done.log
    assert site.rows(db, "SELECT * FROM users") == [(0, "before")]
    assert data.splitlines()[line - 1] in done.rejects()
    # A failed job is not in the ledger: repaired, it loads.
    site.put("lake/u.csv", b"id,name\n1,a\n2,b\n3,d\n")
    site.good("users", import_job("lake/u.csv", db, "users"))
    assert site.count(db, "users") == 4


@pytest.mark.parametrize("line,text", [(2, b'{"id": 2, "name": '), (2, b"[1, 2]"), (2, b"garbage"),
                                       (2, b'{"id": 2, "nmae": "b"}')])
def test_malformed_jsonl(site, db, line, text):
    site.put("lake/u.jsonl", b'{"id": 1, "name": "a"}\n' + text + b'\n{"id": 3, "name": "c"}\n')
    site.execute(db, CREATE)
    done = site.bad("users", import_job("lake/u.jsonl", db, "users"), rc=1)
    assert f"lake/u.jsonl:{line}" in done.log
    assert site.count(db, "users") == 0
    assert text in done.rejects()


def test_unknown_column(site, db):
    site.put("lake/u.csv", b"id,nmae\n1,a\n")
    site.execute(db, CREATE)
    done = site.bad("users", import_job("lake/u.csv", db, "users"))
    assert "nmae" in done.log
    assert site.count(db, "users") == 0


def test_empty_file(site, db):
    site.put("lake/u.csv", b"")
    site.execute(db, CREATE)
    site.run("users", import_job("lake/u.csv", db, "users"))
    assert site.count(db, "users") == 0


@pytest.mark.parametrize("packing", ["gz", "zst"])
def test_truncated_archive(site, db, packing):
    import gzip
    import zstandard
    whole = b"id,name\n" + b"".join(b"%d,name %d\n" % (n, n * 7919) for n in range(20_000))
    packed = gzip.compress(whole) if packing == "gz" else zstandard.compress(whole)
    site.put(f"lake/u.csv.{packing}", packed[:len(packed) // 2])
    site.execute(db, CREATE)
    done = site.bad("users", import_job(f"lake/u.csv.{packing}", db, "users"))
    assert f"lake/u.csv.{packing}" in done.log
    assert site.count(db, "users") == 0


def test_refused_by_the_database(site, db):
    """A constraint of the table: the row is found, named and kept."""
    site.put("lake/u.csv", b"id,name\n" + b"".join(b"%d,n\n" % n for n in range(1, 2000)) + b"500,again\n")
    site.execute(db, "CREATE TABLE users (id integer PRIMARY KEY, name text)")
    done = site.bad("users", import_job("lake/u.csv", db, "users"), rc=1)
    assert "lake/u.csv:2001" in done.log, done.log
    assert b"500,again" in done.rejects()
    assert site.count(db, "users") == 0
    done = site.run("skip", import_job("lake/u.csv", db, "users", errors={"on_error": "skip_row"}))
    assert done.rc == 3 and site.count(db, "users") == 1999


def test_error_budget(site, db):
    rows = b"".join(b"%d,n\n" % n if n % 10 else b"%d,n,extra\n" % n for n in range(1, 101))
    site.put("lake/u.csv", b"id,name\n" + rows)
    site.execute(db, CREATE)
    errors = {"on_error": "skip_row", "max_errors": "5"}
    site.bad("strict", import_job("lake/u.csv", db, "users", errors=errors))
    assert site.count(db, "users") == 0
    done = site.run("loose", import_job("lake/u.csv", db, "users", errors={**errors, "max_errors": "20%"}))
    assert done.rc == 3 and site.count(db, "users") == 90


def test_rejects_can_be_submitted_again(site, db):
    """The reject file holds the rows as they were, with the header."""
    site.put("lake/u.csv", b"id,name\n1,a\n2,b,c\n3,d\n")
    site.execute(db, CREATE)
    done = site.run("users", import_job("lake/u.csv", db, "users", errors={"on_error": "skip_row"}))
    (rejected,) = [p for p in done.path.glob("rejects/*") if p.suffix != ".err"]
    data = rejected.read_bytes()
    assert data.startswith(b"id,name\n") and b"2,b,c\n" in data
    site.put("lake/repaired.csv", data.replace(b"2,b,c", b"2,b"))
    site.good("again", import_job("lake/repaired.csv", db, "users"))
    assert site.rows(db, "SELECT * FROM users ORDER BY id") == [(1, "a"), (2, "b"), (3, "d")]


def test_names_that_look_like_sql(site, db):
    site.put("lake/u.csv", b'"id","na""me; --"\n1,a\n')
    site.execute(db, 'CREATE TABLE "odd table; --" (id integer, "na""me; --" text)')
    site.good("users", import_job("lake/u.csv", db, '"odd table; --"'))
    assert site.rows(db, 'SELECT * FROM "odd table; --"') == [(1, "a")]
    site.bad("injected", import_job("lake/u.csv", db, "users; DROP TABLE users"))


def test_wrong_password(mount, loader, site_sections, postgres, bucket, folder):
    from loader.conftest import Site
    site_sections["database pg"]["dsn"] = postgres.server.dsn(postgres.name, password="wrong")
    m = mount(site_sections)
    site = Site(m, loader(site_sections), postgres, bucket, folder / "lite.db")
    site.put("lake/u.csv", b"id,name\n1,a\n")
    done = site.bad("users", import_job("lake/u.csv", "pg", "users"), rc=2)
    assert "password" in done.log and "wrong" not in json.dumps(done.status)


def test_policy(mount, loader, site_sections, postgres, bucket, folder):
    """[loader] allow: what is not allowed is refused, rc 6."""
    from loader.conftest import Site
    site_sections["loader"] = {"allow": "lite.users"}
    m = mount(site_sections)
    site = Site(m, loader(site_sections), postgres, bucket, folder / "lite.db")
    site.put("lake/u.csv", b"id,name\n1,a\n")
    for db, table in (("lite", "users"), ("lite", "other"), ("pg", "users")):
        site.execute(db, f"CREATE TABLE {table} (id integer, name text)")
    site.good("fine", import_job("lake/u.csv", "lite", "users"))
    site.bad("table", import_job("lake/u.csv", "lite", "other"), rc=6)
    site.bad("db", import_job("lake/u.csv", "pg", "users"), rc=6)


def test_odd_job_names(site):
    """Control bytes do not reach the log or the names of results."""
    site.submit("od d\nname", "[from]\n")
    eventually(lambda: finished(site.load, "od d_name"))
