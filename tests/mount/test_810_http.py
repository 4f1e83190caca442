"""backend = http: files of web servers, read-only, through a real mount (requirements 3.33, 4.1)."""

import errno
import json
import os
import re
import subprocess
import threading
from pathlib import Path

import pytest

from harness.tools import fails_with
from servers import Nginx, PythonHttp, Reply, TlsNginx

OLD = 1_600_000_000


def put(root: Path, name: str, data: bytes, mtime: int = OLD) -> None:
    """As another program would publish it; an old time, so that a time is a version."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(data)
    os.utime(temporary, (mtime, mtime))
    temporary.rename(path)


def pattern(size: int, seed: int = 1) -> bytes:
    return b"".join((seed * 1_000_003 + n).to_bytes(8, "big") for n in range((size + 7) // 8))[:size]


@pytest.fixture(scope="module")
def nginx(tmp_path_factory):
    with Nginx(tmp_path_factory.mktemp("nginx")) as server:
        yield server


@pytest.fixture(scope="module")
def python_http(tmp_path_factory):
    with PythonHttp(tmp_path_factory.mktemp("python")) as server:
        yield server


@pytest.fixture(params=["nginx", "nginx json", "python"])
def site(request):
    """(server, url of its root)"""
    server = request.getfixturevalue("python_http" if request.param == "python" else "nginx")
    return server, server.url + ("json/" if "json" in request.param else "")


# ---- real servers ----


def test_a_tree_through_the_mount(site, mount):
    server, url = site
    files = {"one.txt": b"one\n", "sub/two.bin": pattern(300_000), "sub/deep er/üñ #?%.txt": b"odd", "zero": b""}
    for name, data in files.items():
        put(server.root, name, data)
    (server.root / "empty").mkdir(exist_ok=True)
    m = mount({"store k": {"uri": url}})
    found = {str(p.relative_to(m / "k")) for p in (m / "k").rglob("*") if p.is_file()}
    assert set(files) <= found
    assert (m / "k/empty").is_dir() and os.listdir(m / "k/empty") == []
    for name, data in files.items():
        assert (m / "k" / name).read_bytes() == data
        assert (m / "k" / name).stat().st_size == len(data)
        assert int((m / "k" / name).stat().st_mtime) == OLD
    with open(m / "k/sub/two.bin", "rb") as f:
        f.seek(299_990)
        assert f.read(100) == files["sub/two.bin"][299_990:]
    assert not (m / "k/absent").exists()
    copy = m.folder / "copy"
    subprocess.run(["cp", "-r", m / "k/sub", copy], check=True)
    assert (copy / "two.bin").read_bytes() == files["sub/two.bin"]


def test_changes_are_refused(nginx, mount):
    put(nginx.root, "f", b"x")
    m = mount({"store k": nginx.section()})
    for change in (lambda: (m / "k/f").write_bytes(b"y"), lambda: (m / "k/new").write_bytes(b"y"),
                   lambda: (m / "k/f").unlink(), lambda: (m / "k/d").mkdir(),
                   lambda: (m / "k/f").rename(m / "k/g"), lambda: os.truncate(m / "k/f", 0)):
        with fails_with(errno.EROFS):
            change()
    assert (m / "k/f").read_bytes() == b"x"


def test_a_second_read_asks_for_no_byte(nginx, mount):
    put(nginx.root, "cached", pattern(3_000_000))
    m = mount({"store k": nginx.section()})
    assert (m / "k/cached").read_bytes() == pattern(3_000_000)
    before = len([r for r in nginx.requests() if r.startswith("GET /cached ")])
    m.remount()
    assert (m / "k/cached").read_bytes() == pattern(3_000_000)
    assert len([r for r in nginx.requests() if r.startswith("GET /cached ")]) == before


def test_warmed_files_are_read_from_the_cache(site, mount):
    """Index pages tell no sizes: warming asks for them."""
    server, url = site
    files = {f"warm/f{n}": pattern(200_000, n) for n in range(3)}
    for name, data in files.items():
        put(server.root, name, data)
    m = mount({"store k": {"uri": url}})
    found = json.loads(m.quayctl("warm", "k:warm", "--json").stdout)
    assert found["files"] == 3 and found["failed_files"] == 0 and found["cached_bytes"] + found["fetched_bytes"] == 600_000
    again = json.loads(m.quayctl("warm", "k:warm", "--json").stdout)
    assert again["cached_files"] == 3 and again["fetched_bytes"] == 0
    for name, data in files.items():
        assert (m / "k" / name).read_bytes() == data


def test_a_replaced_file_is_never_mixed(site, mount):
    server, url = site
    old, new = pattern(8_000_000, 1), pattern(8_000_000, 2)
    put(server.root, "swap", old, OLD)
    m = mount({"store k": {"uri": url, "cache.enabled": "no"}})
    with open(m / "k/swap", "rb", buffering=0) as f:
        assert f.read(4096) == old[:4096]
        put(server.root, "swap", new, OLD + 100)
        f.seek(6_000_000)
        try:
            assert f.read(4096) == old[6_000_000:6_004_096]  # the rest of a whole download
        except OSError as e:
            assert e.errno == errno.ESTALE
    assert (m / "k/swap").read_bytes() == new


def test_without_ranges_one_download_serves_all_reads(python_http, mount):
    put(python_http.root, "big", pattern(5_000_000))
    before = python_http.log.read_text().count('"GET /big')
    m = mount({"store k": python_http.section(**{"cache.enabled": "no"})})
    with open(m / "k/big", "rb", buffering=0) as f:
        for offset in (0, 3_000_000, 1_000_000, 4_999_000, 2_000_000):
            f.seek(offset)
            assert f.read(1000) == pattern(5_000_000)[offset:offset + 1000]
    after = python_http.log.read_text().count('"GET /big')
    assert after - before <= 2, "a ranged GET that was not answered as one, and the whole"


def test_a_file_larger_than_spool_max_says_so(python_http, mount):
    put(python_http.root, "large", pattern(3_000_000))
    m = mount({"store k": python_http.section(spool_max="1MiB")})
    with fails_with(errno.EFBIG):
        (m / "k/large").read_bytes()
    assert "spool_max" in m.log()


def test_basic_authentication(nginx, mount, folder):
    put(nginx.root, "secret.txt", b"for alice")
    (folder / "password").write_text("secret\n")
    (folder / "password").chmod(0o600)
    good = nginx.section(url=nginx.url + "private/", username="alice", password_file=str(folder / "password"))
    m = mount({"store good": good, "store bad": nginx.section(url=nginx.url + "private/")})
    assert (m / "good/secret.txt").read_bytes() == b"for alice"
    assert "secret.txt" in os.listdir(m / "good")
    with fails_with(errno.EACCES):
        (m / "bad/secret.txt").read_bytes()
    assert "401" in m.log() and "username" in m.log()
    for text in (m.log(), m.conf.with_name("quayfs.log").read_text(), (m / ".quay/health.json").read_text()):
        assert "YWxpY2U6c2VjcmV0" not in text and "alice:secret" not in text


def test_tls_is_verified_and_never_left(mount, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    with TlsNginx(folder) as server:
        put(server.root, "f", b"by TLS")
        url = f"https://127.0.0.1:{server.tls_port}/"
        m = mount({"store trusting": {"uri": url, "ca_file": str(server.certificate)},
                   "store careful": {"uri": url, "retries": "0"}})
        assert (m / "trusting/f").read_bytes() == b"by TLS"
        with fails_with(errno.EIO):
            (m / "careful/f").read_bytes()
        assert "not trusted" in m.log()
        with fails_with(errno.EIO):
            (m / "trusting/down").read_bytes()  # redirected to http
        assert "from https to http" in m.log()


def test_manifest_file_and_url(nginx, mount, folder):
    put(nginx.root, "m/a.txt", b"a")
    put(nginx.root, "m/d/e/b.txt", b"bb")
    put(nginx.root, "m/unlisted", b"u")
    (folder / "names").write_text("# comment\na.txt\nd/e/b.txt\n")
    put(nginx.root, "m/list.json", b'[{"path": "a.txt", "size": 1, "mtime": 1600000000}, "d/e/b.txt"]')
    base = nginx.url + "m/"
    m = mount({"store file": nginx.section(url=base, manifest=str(folder / "names")),
               "store url": nginx.section(url=base, manifest=base + "list.json"),
               "store none": nginx.section(url=base, listing="none")})
    for key in ("file", "url"):
        assert sorted(os.listdir(m / key)) == ["a.txt", "d"]
        assert os.listdir(m / key / "d/e") == ["b.txt"]
        assert (m / key / "d/e/b.txt").read_bytes() == b"bb"
        assert (m / key / "unlisted").read_bytes() == b"u"  # files can be opened by name
    assert os.listdir(m / "none") == [] and (m / "none/d/e/b.txt").read_bytes() == b"bb"


def test_a_bad_manifest_is_an_error(nginx, mount, folder):
    (folder / "names").write_text("good\n../../etc/passwd\n")
    m = mount({"store k": nginx.section(manifest=str(folder / "names"))})
    with fails_with(errno.EIO):
        os.listdir(m / "k")
    assert "../../etc/passwd" in m.log()


# ---- servers that a real one cannot be made to be ----


def page(*links: str) -> Reply:
    body = "<html><body>" + "".join(f'<a href="{link}">{link}</a>\n' for link in links) + "</body></html>"
    return Reply(200, body.encode(), Content_Type="text/html")


def test_links_that_lead_elsewhere_are_no_names(fake_web, mount):
    server = fake_web(lambda r: page("good", "../", "/", "?C=N;O=D", "http://127.0.0.2/other", "//127.0.0.2/x",
                                 "a%2Fb", "%2e%2e/", "..%2f..%2fetc", "nul%00", "mailto:x@y", "javascript:0",
                                 "deep/er", "./also", "#here", "x?download", "%zz") if r.path == "/" else
                  Reply(200, b"content", ETag='"1"'))
    m = mount({"store k": server.section()})
    assert sorted(os.listdir(m / "k")) == ["also", "good"]


def test_a_directory_that_links_to_itself_ends(fake_web, mount):
    def answer(r):
        if r.path.endswith("loop"):
            return Reply(301, Location=r.path + "/")
        return page("loop/", "f") if r.path.endswith("/") else Reply(200, b"x", ETag='"1"')

    server = fake_web(answer)
    m = mount({"store k": server.section()})
    here = m / "k"
    for _ in range(5):
        here = here / "loop"
        assert sorted(os.listdir(here)) == ["f", "loop"]


def test_head_refused_and_no_length(fake_web, mount):
    data = pattern(250_000)

    def answer(r):
        if r.path == "/nolength":
            return Reply(200, data, length=False, ETag='"1"')
        if r.path == "/nothing":  # neither a length nor a version
            return Reply(200, data, length=False)
        return Reply(405) if r.method == "HEAD" else r.ranged(data, ETag='"1"')

    m = mount({"store k": fake_web(answer).section()})
    for name in ("nohead", "nolength", "nothing"):
        assert (m / "k" / name).stat().st_size == len(data), name
        assert (m / "k" / name).read_bytes() == data, name


def test_weak_etags_and_no_validators_are_read_whole(fake_web, mount):
    data = pattern(600_000)
    server = fake_web(lambda r: r.ranged(data, **({"ETag": 'W/"1"'} if r.path == "/weak" else {})))
    m = mount({"store k": server.section(**{"cache.enabled": "no"})})
    for name in ("weak", "none"):
        with open(m / "k" / name, "rb", buffering=0) as f:
            for offset in (0, 400_000, 200_000):
                f.seek(offset)
                assert f.read(1000) == data[offset:offset + 1000]
    assert all(not r.headers.get("if-match", "").startswith("W/") for r in server.requests)


def test_every_range_of_another_version_is_refused(fake_web, mount):
    """The server ignores If-Match and changes the file all the time: no byte of two versions is given."""
    counter = iter(range(1_000_000))
    data = pattern(3_000_000)

    def answer(r):
        tag = f'"{next(counter)}"' if r.method == "GET" else '"head"'
        return r.ranged(data, ETag=tag)

    m = mount({"store k": fake_web(answer).section(retries="1")})
    with fails_with(errno.ESTALE, errno.EIO):
        (m / "k/f").read_bytes()


def test_206_of_another_range_is_refused(fake_web, mount):
    data = pattern(3_000_000)

    def answer(r):
        if r.method == "GET" and r.range:
            return Reply(206, data[5:5 + 1000], Content_Range=f"bytes 5-1004/{len(data)}", ETag='"1"')
        return Reply(200, data, ETag='"1"')

    m = mount({"store k": fake_web(answer).section(retries="0")})
    with fails_with(errno.EIO):
        (m / "k/f").read_bytes()
    assert "Content-Range" in m.log()


def test_redirects_carry_no_credentials(fake_web, mount, folder):
    other = fake_web(lambda r: r.ranged(b"elsewhere", ETag='"o"'))

    def answer(r):
        if r.path == "/away":
            return Reply(302, Location=other.url + "target?signature=topsecret")
        if r.path == "/here":
            return Reply(301, Location="/final")
        if r.path.startswith("/loop"):
            return Reply(302, Location="/loop?again")
        if r.path == "/ftp":
            return Reply(302, Location="ftp://127.0.0.1/x")
        return r.ranged(b"final", ETag='"f"')

    server = fake_web(answer)
    (folder / "token").write_text("tok-12345\n")
    (folder / "token").chmod(0o600)
    m = mount({"store k": server.section(bearer_token_file=str(folder / "token"))})
    assert (m / "k/away").read_bytes() == b"elsewhere"
    assert (m / "k/here").read_bytes() == b"final"
    for name in ("loop", "ftp"):
        with fails_with(errno.EIO):
            (m / "k" / name).read_bytes()
    assert other.requests and all("authorization" not in r.headers for r in other.requests)
    assert all(r.headers.get("authorization") == "Bearer tok-12345" for r in server.requests)
    assert "tok-12345" not in m.log() and "topsecret" not in m.log()


def test_statuses_as_errors(fake_web, mount):
    busy = iter([503, 429])

    def answer(r):
        if r.path == "/busy":
            status = next(busy, None)
            return Reply(status, Retry_After="0") if status else r.ranged(b"at last", ETag='"1"')
        return Reply(int(r.path.strip("/") or 404))

    m = mount({"store k": fake_web(answer).section(retries="3")})
    assert (m / "k/busy").read_bytes() == b"at last"
    for status, code in ((403, errno.EACCES), (401, errno.EACCES), (404, errno.ENOENT), (410, errno.ENOENT),
                         (500, errno.EIO), (400, errno.EIO)):
        with fails_with(code):
            (m / f"k/{status}").stat()


def test_gigabytes_of_index_are_refused(fake_web, mount):
    endless = b'<a href="x">x</a>' * 4_500_000  # 73 MB
    server = fake_web(lambda r: Reply(200, endless, Content_Type="text/html"))
    m = mount({"store k": server.section(retries="0")})
    with fails_with(errno.EIO):
        os.listdir(m / "k")
    assert "64 MiB" in m.log()


def test_an_away_server_is_unreachable(mount):
    m = mount({"store k": {"backend": "http", "url": "http://127.0.0.1:1/", "retries": "0"}})
    with fails_with(errno.EHOSTUNREACH):
        (m / "k/f").read_bytes()


def test_readers_of_a_slow_download_get_bytes_as_they_come(fake_web, mount):
    """The server gives 200 to ranges; the second half comes when the first was read."""
    data, first_read = pattern(2_000_000), threading.Event()

    class Slow(Reply):
        pass

    def answer(r):
        return Reply(200, data, ETag='"1"')

    server = fake_web(answer)
    original = server.server.RequestHandlerClass._serve

    def serve(self):
        if self.command == "GET" and "range" not in {k.lower() for k in self.headers}:
            self.send_response_only(200)
            self.send_header("ETag", '"1"')
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[:1_500_000])
            self.wfile.flush()
            assert first_read.wait(60)
            self.wfile.write(data[1_500_000:])
            return
        original(self)

    server.server.RequestHandlerClass.do_GET = serve
    m = mount({"store k": server.section(**{"cache.enabled": "no"})})
    with open(m / "k/f", "rb", buffering=0) as f:
        assert f.read(4096) == data[:4096]
        first_read.set()
        f.seek(1_990_000)
        assert f.read(4096) == data[1_990_000:1_994_096]


# ---- configuration ----


@pytest.mark.parametrize("options, text", [
    ({"backend": "http"}, "url"),
    ({"uri": "https://user:pw@example.com/"}, "http(s)://HOST"),
    ({"uri": "https://example.com/?token=x"}, "query"),
    ({"uri": "https://example.com/", "url": "https://example.com/"}, "leave one out"),
    ({"uri": "https://example.com/", "password": "x"}, "username"),
])
def test_bad_options_name_what_is_wrong(mount, options, text):
    m = mount({"quayfs": {"strict": "yes"}, "store k": options}, start=False)
    with pytest.raises(Exception, match=re.escape(text)):
        m.start()


def test_https_stays_https(mount, fake_web):
    """The server speaks no TLS: a client that spoke http to it would get its file."""
    server = fake_web(lambda r: r.ranged(b"x", ETag='"1"'))
    m = mount({"store k": {"uri": server.url.replace("http:", "https:"), "retries": "0"}})
    with fails_with(errno.EIO, errno.EHOSTUNREACH):
        (m / "k/f").read_bytes()
    assert not server.requests
