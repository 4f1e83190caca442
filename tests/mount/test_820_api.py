"""backend = api: the records of a REST service as files (requirements 3.27, 6.12), through a real mount."""

import errno
import json
import os
import time
import urllib.parse

import pytest

from harness.tools import fails_with
from servers import FakeWeb, Reply


class Service:
    """/v1/dataset: records 0..count-1, `style` says how it is paged; /v1/dataset/ID: one record."""

    def __init__(self, count: int = 25, style: str = "none", page: int = 10):
        self.records = {str(n): {"id": n, "name": f"record {n}"} for n in range(count)}
        self.style, self.page = style, page
        self.web = FakeWeb(self.answer)

    def answer(self, r) -> Reply:
        url = urllib.parse.urlparse(r.path)
        query = {k: v[0] for k, v in urllib.parse.parse_qs(url.query).items()}
        if url.path == "/v1/dataset":
            return self.listing(query)
        name = urllib.parse.unquote(url.path.removeprefix("/v1/dataset/"))
        if name in self.records:
            return Reply(200, json.dumps(self.records[name]).encode(), Content_Type="application/json")
        return Reply(404, b'{"error": "no such record"}')

    def listing(self, query: dict[str, str]) -> Reply:
        rows = list(self.records.values())
        if self.style == "none":
            return Reply(200, json.dumps(rows).encode())
        number = int(query.get("page", query.get("cursor", "1")))
        rows, last = rows[(number - 1) * self.page:number * self.page], number * self.page >= len(rows)
        if self.style == "page":
            return Reply(200, json.dumps({"items": rows}).encode())
        if self.style == "cursor":
            more = {} if last else {"next_cursor": str(number + 1)}
            return Reply(200, json.dumps({"data": rows, **more}).encode())
        link = {} if last else {"Link": f'</v1/dataset?page=1>; rel="first", </v1/dataset?page={number + 1}>; rel="next"'}
        return Reply(200, json.dumps(rows).encode(), **link)

    def section(self, **more: str) -> dict[str, str]:
        return {"backend": "api", "endpoint": self.web.url + "v1", "retry_delay": "10ms", **more}


@pytest.fixture
def service():
    made: list[Service] = []

    def make(*args, **more) -> Service:
        made.append(Service(*args, **more))
        return made[-1]

    yield make
    for one in made:
        one.web.stop()


STYLES = {"none": {}, "page": {"page_param": "page"}, "cursor": {}, "link": {},
          "page with its size": {"pagination": "page", "page_size": "10"},
          "only link": {"pagination": "link"}, "only cursor": {"pagination": "cursor"}}


@pytest.mark.parametrize("style", STYLES)
def test_a_collection_is_a_directory(service, mount, style):
    s = service(25, style.split()[-1] if style.startswith("only") else style.split()[0])
    m = mount({"store k": s.section(collections="dataset", **STYLES[style])})
    assert os.listdir(m / "k") == ["dataset"]
    assert sorted(os.listdir(m / "k/dataset")) == sorted(s.records)
    assert json.loads((m / "k/dataset/13").read_bytes()) == s.records["13"]
    assert (m / "k/dataset/13").stat().st_size == len(json.dumps(s.records["13"]))
    assert not (m / "k/dataset/999").exists()
    with fails_with(errno.EROFS):
        (m / "k/dataset/13").write_bytes(b"{}")


def test_without_configured_collections(service, mount):
    s = service(5)
    s.records["a/b ?#%"] = {"id": "a/b ?#%", "x": 1}
    m = mount({"store k": s.section(suffix=".json")})
    assert os.listdir(m / "k") == []  # nobody tells which there are
    assert sorted(os.listdir(m / "k/dataset")) == ["0.json", "1.json", "2.json", "3.json", "4.json", "a%2Fb ?#%.json"]
    assert json.loads((m / "k/dataset/a%2Fb ?#%.json").read_bytes())["x"] == 1
    assert not (m / "k/dataset/0").exists() and not (m / "k/nothing").exists()


def test_within_the_ttl_no_request_is_made(service, mount):
    s = service(5)
    m = mount({"store k": s.section(collections="dataset", revalidate="ttl", **{"cache.ttl": "1h"})})
    assert len(os.listdir(m / "k/dataset")) == 5
    content = (m / "k/dataset/3").read_bytes()
    before = len(s.web.requests)
    for _ in range(3):
        assert (m / "k/dataset/3").read_bytes() == content
        assert len(os.listdir(m / "k/dataset")) == 5
    assert len(s.web.requests) == before


def test_one_request_reads_a_record(service, mount):
    s = service(5)
    m = mount({"store k": s.section(collections="dataset")})
    assert (m / "k/dataset/3").read_bytes()
    assert s.web.count(r"GET /v1/dataset/3") <= 2  # the lookup, and perhaps the open


def test_a_changed_record_is_seen_at_the_next_open(service, mount):
    s = service(5)
    m = mount({"store k": s.section(collections="dataset")})
    with open(m / "k/dataset/3", "rb") as f:
        old = f.read()
    s.records["3"]["name"] = "something else"
    assert json.loads((m / "k/dataset/3").read_bytes())["name"] == "something else" and b"something" not in old


def test_api_key_from_a_file(service, mount, folder):
    s = service(3)
    (folder / "key").write_text("k-98765\n")
    (folder / "key").chmod(0o600)
    m = mount({"store k": s.section(collections="dataset", api_key_file=str(folder / "key"), api_key_header="X-Token")})
    assert len(os.listdir(m / "k/dataset")) == 3
    assert all(r.headers.get("x-token") == "k-98765" for r in s.web.requests)
    assert all(r.headers.get("accept") == "application/json" for r in s.web.requests)
    assert "k-98765" not in m.log() and "k-98765" not in (m / ".quay/health.json").read_text()


def test_rate_limit_of_a_service(service, mount):
    """20 records and a listing at 10/s, of which two may go at once: not before 1.9 s; and all succeed."""
    s = service(20)
    m = mount({"store k": s.section(collections="dataset", rate_limit="10/s", **{"cache.enabled": "no"})})
    begun = time.monotonic()
    for name in s.records:
        assert (m / "k/dataset" / name).read_bytes()
    seconds = time.monotonic() - begun
    assert seconds >= (len(s.web.requests) - 2) / 10


def test_a_listing_that_takes_long_is_complete(service, mount):
    """Twelve pages at 4/s: longer than one call may gather; each page is asked for once."""
    s = service(12, "cursor", page=1)
    m = mount({"store k": s.section(collections="dataset", rate_limit="4/s")})
    assert sorted(os.listdir(m / "k/dataset")) == sorted(s.records)
    assert len(s.web.requests) == 12


def test_retry_after_is_honoured(service, mount):
    s = service(3)
    times: list[float] = []
    answer = s.web.answer

    def busy(r):
        if r.path == "/v1/dataset/1":
            times.append(time.monotonic())
            if len(times) == 1:
                return Reply(429, b"{}", Retry_After="1")
        return answer(r)

    s.web.answer = busy
    m = mount({"store k": s.section(collections="dataset")})
    assert json.loads((m / "k/dataset/1").read_bytes())["id"] == 1
    assert times[1] - times[0] >= 1


def test_no_way_to_list(service, mount):
    s = service(3)
    answer = s.web.answer
    s.web.answer = lambda r: Reply(405) if r.path == "/v1/dataset" else answer(r)
    m = mount({"store k": s.section(collections="dataset")})
    assert os.listdir(m / "k/dataset") == []
    assert json.loads((m / "k/dataset/2").read_bytes())["id"] == 2


@pytest.mark.parametrize("name, next_page, text", [
    ("itself", lambda n: "/v1/dataset", "circle"),
    ("two in turn", lambda n: f"/v1/dataset?page={n % 2}", "circle"),
    ("another host", lambda n: "http://127.0.0.2:1/v1/dataset", "another server"),
    ("no end", lambda n: f"/v1/dataset?page={n}", "max_pages"),
    ("no URL", lambda n: "http://", "no URL"),
])
def test_pages_that_lead_astray(fake_web, mount, name, next_page, text):
    numbers = iter(range(1, 1_000_000))

    def answer(r):
        n = next(numbers)
        return Reply(200, json.dumps({"items": [{"id": n}], "next": next_page(n)}).encode())

    server = fake_web(answer)
    m = mount({"store k": {"backend": "api", "endpoint": server.url + "v1", "collections": "dataset",
                           "max_pages": "50", "retries": "0"}})
    with fails_with(errno.EIO):
        os.listdir(m / "k/dataset")
    assert text in m.log()
    assert len(server.requests) < 200


def test_the_same_page_again_and_again(fake_web, mount):
    """The server does not know page_param: that is no endless collection."""
    server = fake_web(lambda r: Reply(200, b'[{"id": 1}, {"id": 2}]'))
    m = mount({"store k": {"backend": "api", "endpoint": server.url, "collections": "c", "page_param": "page",
                           "retries": "0"}})
    with fails_with(errno.EIO):
        os.listdir(m / "k/c")
    assert "same as the one before" in m.log()


def test_hostile_ids_and_bodies(fake_web, mount):
    ids = ["ok", "..", ".", "", "../../etc/passwd", "/abs", "x" * 300, "a\nb"]

    def answer(r):
        if r.path == "/c":
            return Reply(200, json.dumps([{"id": i} for i in ids]).encode())
        if r.path == "/notjson":
            return Reply(200, b"<html>")
        if r.path == "/big":
            return Reply(200, b"[" + b'{"id":1},' * 2_000_000 + b"1]")
        if r.path == "/c/ok":
            return Reply(200, b"x" * 2_000_000)
        return Reply(404)

    m = mount({"store k": {"backend": "api", "endpoint": fake_web(answer).url, "collections": "c, notjson, big",
                           "spool_max": "1MiB", "retries": "0"}})
    names = os.listdir(m / "k/c")
    assert {"ok", "a\nb"} <= set(names) and len(names) == 5 and all("/" not in n for n in names)
    for name in ("notjson", "big"):
        with fails_with(errno.EIO):
            os.listdir(m / "k" / name)
    with fails_with(errno.EFBIG):
        (m / "k/c/ok").read_bytes()


@pytest.mark.parametrize("options, text", [
    ({}, "endpoint"),
    ({"endpoint": "https://h/?x"}, "query"),
    ({"endpoint": "https://h/", "rate_limit": "fast"}, "rate_limit"),
    ({"endpoint": "https://h/", "collections": "../x"}, "../x"),
    ({"endpoint": "https://h/", "api_key": "x", "api_key_header": "no header"}, "no header"),
])
def test_bad_options_name_what_is_wrong(mount, options, text):
    m = mount({"quayfs": {"strict": "yes"}, "store k": {"backend": "api", **options}}, start=False)
    with pytest.raises(Exception, match=text):
        m.start()
