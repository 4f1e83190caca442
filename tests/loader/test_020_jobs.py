"""What a job can say: formats, compressions, globs, headers, columns, modes, exports, check/."""

import csv
import gzip
import io
import json
import os

import pytest
import zstandard

from harness.loader import export_job, import_job, job_text, submit
from harness.tools import eventually

USERS = b"id,name\n1,Alice\n2,Bob\n"
CREATE = "CREATE TABLE users (id integer, name text)"
EXPECTED = [(1, "Alice"), (2, "Bob")]


def users(site, db, table="users"):
    return site.rows(db, f"SELECT id, name FROM {table} ORDER BY id, name")


def test_requirement_0_53(site, db):
    """Write test.csv through the mount, load it into `users`: success, two rows."""
    site.put("lake/test-data/test.csv", USERS)
    site.execute(db, CREATE)
    done = site.good("users", import_job("lake/test-data/test.csv", db, "users"))
    assert done.status["success"] is True
    assert users(site, db) == EXPECTED


INPUTS = {
    "u.csv": USERS,
    "u.tsv": b"id\tname\n1\tAlice\n2\tBob\n",
    "u.jsonl": b'{"id": 1, "name": "Alice"}\n{"id": 2, "name": "Bob"}\n',
    "u.ndjson": b'{"name": "Alice", "id": 1}\n{"name": "Bob", "id": 2}\n',
    "crlf.csv": USERS.replace(b"\n", b"\r\n"),
    "no-final-newline.csv": USERS.rstrip(b"\n"),
    "bom.csv": b"\xef\xbb\xbf" + USERS,
    "other-order.csv": b"name,id\nAlice,1\nBob,2\n",
    "quoted.csv": b'"id","name"\n"1","Alice"\n"2","Bob"\n',
}


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize("name", INPUTS)
def test_formats(site, db, name, packing):
    data = INPUTS[name]
    packed = {"": data, ".gz": gzip.compress(data), ".zst": zstandard.compress(data)}[packing]
    site.put(f"lake/{name}{packing}", packed)
    site.execute(db, CREATE)
    site.good("users", import_job(f"lake/{name}{packing}", db, "users"))
    assert users(site, db) == EXPECTED


def test_gzip_of_several_members(site, db):
    site.put("lake/u.csv.gz", gzip.compress(USERS[:10]) + gzip.compress(USERS[10:]))
    site.execute(db, CREATE)
    site.good("users", import_job("lake/u.csv.gz", db, "users"))
    assert users(site, db) == EXPECTED


def test_values_that_need_care(site, db):
    texts = ["plain", 'with "quotes"', "with,comma", "two\nlines", "", "\\N", "\\", "ünï 🚀", "'; DROP TABLE users",
             " blanks ", "tab\there", "NULL", "\\."]
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(["id", "name"])
    writer.writerows([number, text] for number, text in enumerate(texts))
    site.put("lake/u.csv", out.getvalue().encode())
    site.execute(db, CREATE)
    site.good("csv", import_job("lake/u.csv", db, "users"))
    assert [row[1] for row in users(site, db)] == texts
    lines = [json.dumps({"id": number, "name": text}) for number, text in enumerate(texts)]
    site.put("lake/u.jsonl", "\n".join(lines).encode())
    site.good("jsonl", import_job("lake/u.jsonl", db, "users", "truncate"))
    assert [row[1] for row in users(site, db)] == texts
    for name in ("out.csv", "out.jsonl", "out.tsv"):
        site.good("out", export_job(db, f"lake/{name}", query="SELECT id, name FROM users ORDER BY id"))
        site.good("in", import_job(f"lake/{name}", db, "users", "truncate"))
        assert [row[1] for row in users(site, db)] == texts, name


def test_nulls(site, db):
    site.put("lake/u.csv", b"id,name\n1,\n2,NA\n3,\"\"\n4,\"NA\"\n")
    site.execute(db, CREATE)
    site.good("default", import_job("lake/u.csv", db, "users"))
    assert users(site, db) == [(1, None), (2, "NA"), (3, ""), (4, "NA")]
    site.good("na", import_job("lake/u.csv", db, "users", "truncate", format={"null": 'NA, ""'}))
    assert users(site, db) == [(1, None), (2, None), (3, ""), (4, "NA")]


def test_options_of_the_format(site, db):
    site.put("lake/u.txt", b"# made by hand\nid;name\n1;'Al;ice'\n2;Bob\n")
    site.execute(db, CREATE)
    site.good("users", import_job("lake/u.txt", db, "users", format={
        "type": "csv", "delimiter": "semicolon", "quote": "'", "comment": "#"}))
    assert users(site, db) == [(1, "Al;ice"), (2, "Bob")]


def test_without_a_header(site, db):
    site.put("lake/u.csv", b"1,Alice\n2,Bob\n")
    site.execute(db, CREATE)
    site.good("users", import_job("lake/u.csv", db, "users", format={"header": "no"}))
    assert users(site, db) == EXPECTED


def test_columns(site, db):
    site.put("lake/in/u.csv", b"ident,first,rest,x\n1,Alice,a,9\n2,Bob,b,9\n")
    site.execute(db, "CREATE TABLE users (id integer, name text, origin text, kind text)")
    site.good("users", import_job("lake/in/u.csv", db, "users", columns={
        "id": "ident", "name": "#2", "origin": "@file", "kind": "'person'"}))
    assert site.rows(db, "SELECT id, name, origin, kind FROM users ORDER BY id") == [
        (1, "Alice", "lake/in/u.csv", "person"), (2, "Bob", "lake/in/u.csv", "person")]


def test_globs_and_directories(site, db):
    for number in range(5):
        site.put(f"lake/in/part-{number}.csv", b"id,name\n%d,n%d\n" % (number, number))
    site.put("lake/in/_SUCCESS", b"")
    site.put("lake/in/part-9.csv.tmp", b"broken")
    site.put("lake/in/other.txt", b"not this")
    site.execute(db, CREATE)
    done = site.good("glob", import_job("lake/in/part-*.csv", db, "users"))
    assert site.count(db, "users") == 5
    assert done.read("files.tsv").count("part-") == 5
    site.execute(db, "DELETE FROM users")
    (site.mount / "lake/in/other.txt").unlink()
    site.good("directory", import_job("lake/in/", db, "users", dedupe={"force": "yes"}))
    assert site.count(db, "users") == 5
    site.good("list", import_job("lake/in/part-1.csv, lake/in/part-[34].csv", db, "users", "truncate"))
    assert [row[0] for row in users(site, db)] == [1, 3, 4]


def test_modes(site, db):
    site.put("lake/one.csv", b"id,name\n1,one\n")
    site.put("lake/two.csv", b"id,name\n2,two\n")
    site.execute(db, CREATE)
    site.good("a", import_job("lake/one.csv", db, "users", "append"))
    site.good("b", import_job("lake/two.csv", db, "users", "append"))
    assert users(site, db) == [(1, "one"), (2, "two")]
    site.good("c", import_job("lake/two.csv", db, "users", "truncate"))
    assert users(site, db) == [(2, "two")]
    site.good("d", import_job("lake/one.csv", db, "users", "replace"))
    assert users(site, db) == [(1, "one")]
    site.good("e", import_job("lake/one.csv", db, "fresh", "create"))
    assert users(site, db, "fresh") == [(1, "one")]
    site.bad("f", import_job("lake/two.csv", db, "missing", "append"))
    assert not site.exists(db, "missing")


def test_strategy_is_an_alias_of_mode(site, db):
    site.put("lake/one.csv", b"id,name\n1,one\n")
    site.execute(db, CREATE)
    site.good("a", f"[from]\npath = lake/one.csv\n[to]\ndb = {db}\ntable = users\nstrategy = append\n")
    assert site.count(db, "users") == 1


def test_both_keys_and_both_databases(site):
    """Nothing depends on where the file lies."""
    for key in ("lake", "here"):
        site.put(f"{key}/u.csv", USERS)
        for db in ("lite", "pg"):
            site.good("u", import_job(f"{key}/u.csv", db, "users", "create" if key == "lake" else "truncate"))
            assert users(site, db) == EXPECTED


def test_several_operations_in_one_job(site):
    site.put("lake/a.csv", b"id,name\n1,a\n")
    site.put("lake/b.csv", b"id,name\n2,b\n")
    for db in ("lite", "pg"):
        site.execute(db, CREATE)
    done = site.good("both", job_text({
        "from a": {"path": "lake/a.csv"}, "to a": {"db": "lite", "table": "users"},
        "from b": {"path": "lake/b.csv"}, "to b": {"db": "pg", "table": "users"}}, {}))
    assert users(site, "lite") == [(1, "a")] and users(site, "pg") == [(2, "b")]
    assert done.status["rows_loaded"] == 2


def test_one_failing_operation_does_not_hide_the_other(site):
    site.put("lake/a.csv", b"id,name\n1,a\n")
    site.execute("lite", CREATE)
    done = site.run("both", job_text({
        "from a": {"path": "lake/a.csv"}, "to a": {"db": "lite", "table": "users"},
        "from b": {"path": "lake/missing.csv"}, "to b": {"db": "pg", "table": "users"}}, {}))
    assert not done.ok
    assert users(site, "lite") == [(1, "a")]
    assert "lake/missing.csv" in done.log + done.read("status.json")


def test_atomic_job(site, db):
    """atomic = job: all the files or none of them."""
    site.put("lake/in/1.csv", b"id,name\n1,a\n")
    site.put("lake/in/2.csv", b"id,name\n2,b,too many\n")
    site.execute(db, CREATE)
    site.bad("all", import_job("lake/in/*.csv", db, "users", job={"atomic": "job"}))
    assert site.count(db, "users") == 0
    site.bad("each", import_job("lake/in/*.csv", db, "users"))
    assert site.count(db, "users") == 1


def test_export_is_published_whole(site, db):
    site.execute(db, CREATE)
    site.execute(db, "INSERT INTO users VALUES (1, 'Alice'), (2, 'Bob')")
    done = site.good("out", export_job(db, "lake/out/u.csv", "users"))
    assert site.bucket.get("out/u.csv") == USERS
    assert site.bucket.keys("out/") == ["out/u.csv"] and done.status["rows_read"] == 2
    site.put("lake/out/u.csv", b"old")
    site.bad("refused", export_job(db, "lake/out/u.csv", "users", to={"overwrite": "fail"}))
    assert site.bucket.get("out/u.csv") == b"old"
    site.bad("failing", export_job(db, "lake/out/u.csv", query="SELECT no_such_column FROM users"))
    assert site.bucket.get("out/u.csv") == b"old"
    site.good("query", export_job(db, "lake/out/u.csv", query="SELECT name FROM users WHERE id = 2"))
    assert site.bucket.get("out/u.csv") == b"name\nBob\n"


def test_export_of_an_empty_table(site, db):
    site.execute(db, CREATE)
    site.good("out", export_job(db, "lake/empty.csv", "users"))
    assert site.bucket.get("empty.csv") == b"id,name\n"


def test_export_does_not_write_to_the_database(site, db):
    site.execute(db, CREATE)
    site.bad("sly", export_job(db, "lake/x.csv", query="DELETE FROM users RETURNING id"))
    site.bad("two", export_job(db, "lake/x.csv", query="SELECT 1; DROP TABLE users"))
    assert site.exists(db, "users") and site.bucket.keys() == []


def test_check_writes_nothing(site, db):
    site.put("lake/u.csv", USERS)
    submit(site.load, "plan", import_job("lake/u.csv", db, "users", "create"), folder="check")
    out = site.load / "check/plan.out"
    eventually(out.exists)
    text = eventually(out.read_text)
    assert "users" in text and "lake/u.csv" in text and "id" in text and "name" in text
    assert not site.exists(db, "users")
    submit(site.load, "wrong", "[form]\npath = x\n", folder="check")
    out = site.load / "check/wrong.out"
    eventually(out.exists)
    assert "wrong.job:1" in eventually(out.read_text) and "[from]" in out.read_text()


def test_the_same_job_twice_loads_once(site, db):
    site.put("lake/u.csv", USERS)
    site.execute(db, CREATE)
    for _ in range(3):
        site.good("users", import_job("lake/u.csv", db, "users"))
    site.good("other-name", import_job("lake/u.csv", db, "users"))
    assert users(site, db) == EXPECTED


def test_a_changed_file_is_refused_in_append_mode(site, db):
    site.put("lake/u.csv", USERS)
    site.execute(db, CREATE)
    site.good("users", import_job("lake/u.csv", db, "users"))
    site.put("lake/u.csv", USERS + b"3,Carol\n")
    done = site.bad("users", import_job("lake/u.csv", db, "users"))
    assert "changed" in done.log
    assert users(site, db) == EXPECTED
    site.good("users", import_job("lake/u.csv", db, "users", "truncate"))
    assert users(site, db) == EXPECTED + [(3, "Carol")]


def test_results_tell_everything(site):
    site.put("lake/u.csv", USERS)
    site.execute("lite", CREATE)
    done = site.good("users", import_job("lake/u.csv", "lite", "users"))
    names = {path.name for path in done.path.iterdir()}
    assert {"job", "state", "status.json", "files.tsv", "log", "rc", "summary", "progress"} <= names
    assert done.state == "done" and done.read("rc") == "0\n"
    status = done.status
    assert status["rows_read"] == status["rows_loaded"] == 2
    history = (site.load / "history.tsv").read_text()
    assert "users" in history and "lake/u.csv" in history
    assert not list((site.load / "run").iterdir())
    assert list((site.load / "new").iterdir()) == []


def test_load_directory_explains_itself(site):
    text = (site.load / "README").read_text()
    assert "[from]" in text and "[to]" in text
    eventually(lambda: set(os.listdir(site.load / "conn")) == {"lite", "pg"})
    connections = {path.name: path.read_text() for path in (site.load / "conn").iterdir()}
    assert site.postgres.server.password not in "".join(connections.values())


def test_unfinished_files_are_left_alone(site):
    site.put("lake/u.csv", USERS)
    site.execute("lite", CREATE)
    text = import_job("lake/u.csv", "lite", "users")
    for name in (".hidden.job", "edited.job~", "half.tmp", "x.swp", "y.part"):
        (site.load / "new" / name).write_text(text)
    with open(site.load / "new/slow.job", "w") as file:
        for line in text.splitlines(keepends=True):
            file.write(line)
            file.flush()
        assert not list((site.load / "done").iterdir())
    eventually(lambda: list((site.load / "done").glob("slow.*")))
    assert len(list((site.load / "done").iterdir())) == 1
