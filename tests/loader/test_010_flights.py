"""The main job on real input: 336,776 flights from files in S3 into databases and back again, compared
with what the databases' own clients make of the same file."""

import csv
import gzip
import io
import json

import pytest

from harness.data import (FLIGHT_COLUMNS, FLIGHT_NUMBERS, FLIGHT_ROWS, create_flights, flights_bytes, flights_sums,
                          sums_query)
from harness.loader import export_job, import_job
from harness.tools import run

pytestmark = [pytest.mark.deadline(1000), pytest.mark.timeout(1200)]
NULLS = {"format": {"null": 'NA, ""'}}


def sums(site, db: str, table: str = "flights") -> tuple:
    return tuple(int(value) for value in site.rows(db, sums_query(table))[0])


@pytest.mark.parametrize("packing", ["csv", "csv.gz"])
def test_load(site, db, packing, folder):
    """Put in through the mount, loaded through .load/, equal to the database's own client."""
    raw = flights_bytes()
    data = raw if packing == "csv" else gzip.compress(raw, 1, mtime=0)
    site.put(f"lake/in/flights.{packing}", data)
    assert site.bucket.get(f"in/flights.{packing}") == data
    site.execute(db, create_flights())
    done = site.good("flights", import_job(f"lake/in/flights.{packing}", db, "flights", **NULLS))
    status = done.status
    assert status["rows_loaded"] == status["rows_read"] == FLIGHT_ROWS
    assert status["rows_rejected"] == 0
    assert sums(site, db) == flights_sums()

    (folder / "flights.csv").write_bytes(raw)
    site.execute(db, create_flights("by_hand"))
    site.by_hand(db, "by_hand", folder / "flights.csv")
    if db == "lite":  # .import knows no NULL
        for name in FLIGHT_COLUMNS:
            site.execute(db, f"UPDATE by_hand SET {name} = NULL WHERE {name} IN ('NA', '')")
    assert sums(site, db, "by_hand") == sums(site, db)
    names = ", ".join(FLIGHT_COLUMNS)
    for one, other in (("flights", "by_hand"), ("by_hand", "flights")):
        assert site.rows(db, f"SELECT count(*) FROM (SELECT {names} FROM {one} "
                             f"EXCEPT SELECT {names} FROM {other}) AS d") == [(0,)]


def test_load_with_create(site, db):
    """mode = create: the table is made from the file's own columns."""
    site.put("lake/flights.csv", flights_bytes())
    site.good("made", import_job("lake/flights.csv", db, "flights", "create", **NULLS))
    wanted = dict(zip(FLIGHT_COLUMNS, zip(flights_sums()[1::2], flights_sums()[2::2])))
    for name in FLIGHT_NUMBERS:  # the types are the loader's choice: what is a number is one
        ((count, total),) = site.rows(db, f"SELECT count({name}), sum({name}) FROM flights")
        assert (count, int(total)) == wanted[name], name
    assert site.count(db, "flights") == FLIGHT_ROWS
    assert site.rows(db, "SELECT count(*) FROM flights WHERE tailnum IS NULL OR carrier = 'NA'") == [
        (FLIGHT_ROWS - wanted["tailnum"][0],)]


def test_out_and_in_again(site, db):
    """Exported to CSV and JSONL, loaded from there, nothing changed."""
    site.put("lake/flights.csv", flights_bytes())
    site.execute(db, create_flights())
    site.good("in", import_job("lake/flights.csv", db, "flights", **NULLS))
    for name in ("out.csv", "out.csv.gz", "out.jsonl"):
        done = site.good(name.replace(".", "-"), export_job(db, f"lake/out/{name}", "flights"))
        assert done.status["rows_loaded"] == FLIGHT_ROWS or done.status["rows_read"] == FLIGHT_ROWS
        table = "again_" + name.replace(".", "_")
        site.execute(db, create_flights(table))
        site.good("again-" + name.replace(".", "-"), import_job(f"lake/out/{name}", db, table))
        assert sums(site, db, table) == flights_sums(), name
    rows = list(csv.reader(io.StringIO(site.bucket.get("out/out.csv").decode())))
    assert len(rows) == FLIGHT_ROWS + 1 and rows[0] == list(FLIGHT_COLUMNS)
    assert gzip.decompress(site.bucket.get("out/out.csv.gz")) == site.bucket.get("out/out.csv")
    first = json.loads(site.bucket.get("out/out.jsonl").splitlines()[0])
    assert list(first) == list(FLIGHT_COLUMNS) and first["year"] == 2013


def test_export_equals_copy_out(site, folder):
    """COPY TO by us and by psql give the same bytes."""
    site.put("lake/flights.csv", flights_bytes())
    site.execute("pg", create_flights())
    site.good("in", import_job("lake/flights.csv", "pg", "flights", **NULLS))
    site.good("out", export_job("pg", "lake/out.csv", query="SELECT * FROM flights ORDER BY time_hour, "
                                                            "carrier, flight, dep_time"))
    run("psql", "-q", site.postgres.dsn, "-c",
        f"\\copy (SELECT * FROM flights ORDER BY time_hour, carrier, flight, dep_time) "
        f"TO '{folder}/psql.csv' WITH (FORMAT csv, HEADER true)")
    assert site.bucket.get("out.csv") == (folder / "psql.csv").read_bytes()


def test_a_bad_row_in_the_middle(site, db):
    """Aborts, names file and line, keeps the offending bytes, leaves the table as it was."""
    lines = flights_bytes().splitlines(keepends=True)
    lines[150_000] = b"2013,6,NOT A DAY" + lines[150_000][lines[150_000].index(b",", 7):]
    site.put("lake/flights.csv", b"".join(lines))
    site.execute(db, create_flights() if db == "pg" else
                 create_flights().replace("day integer", "day integer CHECK (typeof(day) <> 'text')"))
    site.execute(db, "INSERT INTO flights (year) VALUES (1999)")
    done = site.bad("flights", import_job("lake/flights.csv", db, "flights", **NULLS), rc=1)
    text = done.log + json.dumps(done.status)
    assert "lake/flights.csv:150001" in text and "NOT A DAY" in text + done.read("errors.tsv")
    assert site.rows(db, "SELECT count(*), sum(year) FROM flights") == [(1, 1999)]
    assert lines[150_000] in done.rejects()


def test_a_bad_row_is_skipped_when_asked(site, db):
    lines = flights_bytes().splitlines(keepends=True)
    wrong = [1000, 150_000, 336_000]
    for number in wrong:
        lines[number] = b"2013,6,NOT A DAY" + lines[number][lines[number].index(b",", 7):]
    site.put("lake/flights.csv", b"".join(lines))
    site.execute(db, create_flights() if db == "pg" else
                 create_flights().replace("day integer", "day integer CHECK (typeof(day) <> 'text')"))
    done = site.run("flights", import_job("lake/flights.csv", db, "flights", errors={"on_error": "skip_row"},
                                          **NULLS))
    assert done.ok and done.rc == 3 and done.state == "done-with-rejects", done.describe()
    status = done.status
    assert (status["rows_read"], status["rows_loaded"], status["rows_rejected"]) == \
        (FLIGHT_ROWS, FLIGHT_ROWS - 3, 3)
    assert site.count(db, "flights") == FLIGHT_ROWS - 3
    rejected = done.rejects()
    assert all(lines[number] in rejected for number in wrong)
    told = done.read("errors.tsv")
    assert all(str(number + 1) in told for number in wrong) and "day" in told
