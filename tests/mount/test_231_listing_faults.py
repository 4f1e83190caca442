"""A page of a long listing fails, or its answer is lost, in the background or in the reader's own call: the listing is
whole and in order, or it fails with an error and is whole when it is listed again. Each kind of cursor: tokens of a
server, names, and what a class has kept of a listing that it gathered."""

import json
import os
import threading
import time
import urllib.parse
from pathlib import Path

import pytest

from servers import FakeGCS, FakeS3, FakeWeb, Reply

COUNT = 11_000  # several pages of every class
NAMES = [f"n{number:05}" for number in range(COUNT)]
MANY = 25_000   # local and sftp have pages of 10,000


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("many") / "d"
    place.mkdir()
    for number in range(MANY):
        os.close(os.open(place / f"n{number:05}", os.O_CREAT | os.O_WRONLY, 0o644))
    yield place
    for entry in os.scandir(place):
        os.unlink(entry.path)


class Collection:
    """A REST collection in pages of `page` records. Page number `breaks` (from 1) fails once."""

    def __init__(self, page: int, breaks: int = 0, slow: float = 0):
        self.page, self.breaks, self.slow, self.asked = page, breaks, slow, []
        self.lock = threading.Lock()
        self.web = FakeWeb(self.answer)

    def answer(self, request) -> Reply:
        url = urllib.parse.urlparse(request.path)
        number = int(dict(urllib.parse.parse_qsl(url.query)).get("page", "1"))
        if url.path != "/v1/d":
            return Reply(404, b"{}")
        time.sleep(self.slow)
        with self.lock:
            self.asked.append(number)
            if number == self.breaks:
                self.breaks = 0
                return Reply(500, b"{}")
        rows = NAMES[(number - 1) * self.page:number * self.page]
        more = {"Link": f'</v1/d?page={number + 1}>; rel="next"'} if number * self.page < COUNT else {}
        return Reply(200, json.dumps([{"id": name} for name in rows]).encode(), Content_Type="application/json", **more)

    def store(self) -> dict[str, str]:
        return {"backend": "api", "endpoint": self.web.url + "v1", "retry_delay": "10ms"}


def s3(stack, tree):
    fake = FakeS3().start()
    stack.append(fake.stop)
    for name in NAMES:
        fake.put(f"d/{name}".encode(), b"x")
    return fake.store(), NAMES


def gcs(stack, tree):
    fake = FakeGCS().start()
    stack.append(fake.stop)
    for name in NAMES:
        fake.put(f"d/{name}", b"")
    return fake.store(), NAMES


def http(stack, tree):
    page = "".join(f'<a href="{name}">{name}</a>\n' for name in NAMES).encode()
    pages = {"/": b'<a href="d/">d/</a>', "/d/": page}
    fake = FakeWeb(lambda r: Reply(200, pages[r.path], Content_Type="text/html") if r.path in pages else Reply(404))
    stack.append(fake.stop)
    return fake.section(), NAMES


def api(stack, tree):
    collection = Collection(1500)
    stack.append(collection.web.stop)
    return collection.store(), NAMES


def local(stack, tree):
    return {"backend": "local", "base_path": tree.parent}, sorted(os.listdir(tree))


KINDS = {"s3": s3, "gcs": gcs, "http": http, "api": api, "local": local}


@pytest.fixture
def store(request, tree):
    stack: list = []
    if request.param == "sftp":
        sshd = request.getfixturevalue("sshd")
        yield sshd.store(base_path=str(tree.parent), create_if_missing="no"), sorted(os.listdir(tree))
    else:
        yield KINDS[request.param](stack, tree)
    for stop in stack:
        stop()


def listed(folder: Path) -> list[str] | None:
    """None: it failed, and said so."""
    try:
        return os.listdir(folder)
    except OSError:
        return None


@pytest.mark.parametrize("lost", ["no", "yes"])
@pytest.mark.parametrize("store", [*KINDS, "sftp"], indirect=True)
def test_a_page_that_fails(mount, store, lost):
    options, wanted = store
    keys = {f"store k{nth}": {**options, "retries": "0", "list_metadata": "no", "fault":
                              f"op=list,key=d/,nth={nth},errno=EIO,retry=never,lost={lost}"} for nth in range(1, 6)}
    if "s3" not in options["backend"]:
        for section in keys.values():
            del section["list_metadata"]
    m = mount({**keys, "cache": {"ttl": "1ms"}})
    met = 0
    for nth in range(1, 6):
        for _ in range(2):
            names = listed(m / f"k{nth}/d")
            assert names is None or names == wanted, f"list call {nth} has failed"
            if names is not None:
                break
        assert names == wanted
        met += m.metric("quayfs_backend_requests_total", key=f"k{nth}", op="list", status="EIO") > 0
    assert met >= 3, "the faults have not come to pass"


@pytest.mark.parametrize("breaks", [1, 3, 7, 8])
def test_a_page_of_a_collection_that_fails_at_the_server(mount, breaks):
    """Before anything of the directory is shown: the mount asks again by itself."""
    collection = Collection(1500, breaks)
    try:
        m = mount({"store k": {**collection.store(), "retries": "2", "max_retry_delay": "20ms"}})
        assert os.listdir(m / "k/d") == NAMES
        assert collection.breaks == 0 and collection.asked.count(breaks) >= 2
    finally:
        collection.web.stop()


@pytest.mark.parametrize("lost", ["no", "yes"])
def test_a_call_in_the_middle_of_gathering_fails(mount, lost):
    """A collection that takes several calls of store_list: one of them fails, or is carried out and not heard of."""
    collection = Collection(2200, slow=1.2)
    try:
        m = mount({"store k": {**collection.store(), "retries": "0", "fault":
                               f"op=list,key=d/,nth=2,errno=EIO,retry=never,lost={lost}"}})
        assert os.listdir(m / "k/d") == NAMES
        assert m.metric("quayfs_backend_requests_total", key="k", op="list", status="EIO") == 1
    finally:
        collection.web.stop()
