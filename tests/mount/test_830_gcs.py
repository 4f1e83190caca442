"""Cloud Storage through the mount: against a server that keeps to its preconditions (servers/fakegcs.py)."""

import errno
import json
import os
import shutil
import subprocess
import threading
import time
import urllib.request

import pytest

from harness.data import pattern
from harness.tools import content, eventually, fails_with, sample_tree
from servers import Fault, FaultProxy

MIB = 1024 * 1024


def private_key(folder):
    """A key made for this test, in the form that the console writes."""
    path = folder / "key.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048",
                    "-out", str(path)], check=True, stderr=subprocess.DEVNULL)
    return path.read_text()


def key_file(folder, gcs, **more):
    fields = {"type": "service_account", "client_email": "quay@test.iam.gserviceaccount.com",
              "private_key_id": "1", "private_key": private_key(folder),
              "token_uri": gcs.endpoint + "/token", **more}
    path = folder / "service-account.json"
    path.write_text(json.dumps(fields))
    path.chmod(0o600)
    return path


def with_tokens(gcs, **more):
    """A [store] that needs tokens; the server gives and checks them."""
    gcs.tokens = set()
    options = gcs.store(**more)
    del options["anonymous"]
    return options


def test_a_tree_comes_back_as_it_was(mount, gcs, folder):
    source = sample_tree(folder / "source")
    m = mount({"store k": gcs.store()})
    subprocess.run(["cp", "-a", str(source), str(m / "k/tree")], check=True)
    m.remount()
    assert content(m / "k/tree") == content(source)
    subprocess.run(["diff", "-r", "--no-dereference", str(source), str(m / "k/tree")], check=True)
    shutil.rmtree(m / "k/tree")
    assert os.listdir(m / "k") == [] and gcs.objects == {}


def test_modes_times_links_and_xattrs_of_generations(mount, gcs):
    m = mount({"store k": gcs.store()})
    path = m / "k/f"
    path.write_bytes(b"x")
    path.chmod(0o640)
    os.utime(path, ns=(1_600_000_000_123456789, 1_700_000_000_987654321))
    os.setxattr(path, "user.meta.owner", b"team a")
    os.symlink("f", m / "k/link")
    generation = gcs.objects["f"].generation
    path.chmod(0o600)
    assert gcs.objects["f"].generation == generation  # a change of metadata is no new version
    m.remount()
    assert path.stat().st_mode & 0o7777 == 0o600 and path.stat().st_mtime_ns == 1_700_000_000_987654321
    assert os.getxattr(path, "user.meta.owner") == b"team a" and os.readlink(m / "k/link") == "f"
    assert gcs.objects["f"].metadata["owner"] == "team a"
    os.removexattr(path, "user.meta.owner")
    assert "owner" not in gcs.objects["f"].metadata and "mode" in gcs.objects["f"].metadata


def test_rename_copies_within_the_service(mount, gcs):
    gcs.rewrite_bytes = MIB  # as for large objects between locations: in several calls
    gcs.put("d/big", pattern(3 * MIB), {"mode": "33188"}, "text/csv")
    m = mount({"store k": gcs.store()})
    os.rename(m / "k/d", m / "k/e")
    assert set(gcs.objects) - {"e/"} == {"e/big"} and gcs.get("e/big") == pattern(3 * MIB)
    assert gcs.objects["e/big"].content_type == "text/csv"
    assert gcs.count("POST .*/rewriteTo/") >= 3 and gcs.count("GET .*alt=media") == 0


def test_a_renamed_object_of_others_keeps_its_time(mount, gcs):
    """A copy has a time of its own: of an object without a stored one the rename writes down what was shown."""
    gcs.put("a", b"old", {"owner": "ann"}, "text/csv")
    gcs.put("timed", b"old", {"mtime": "1700000000"})
    m = mount({"store k": gcs.store()})
    shown = {name: (m / "k" / name).stat().st_mtime_ns for name in ("a", "timed")}
    eventually(lambda: time.time_ns() > shown["a"] + 1_100_000_000)
    for name in ("a", "timed"):
        (m / "k" / name).rename(m / "k" / (name + "2"))
    for _ in range(2):
        assert (m / "k/a2").stat().st_mtime_ns == shown["a"]
        assert (m / "k/timed2").stat().st_mtime_ns == shown["timed"] == 1_700_000_000 * 10**9
        m.remount()
    assert gcs.objects["a2"].metadata["owner"] == "ann" and gcs.objects["a2"].content_type == "text/csv"


def test_a_source_written_to_just_before_it_is_removed(mount, gcs):
    """While the removals of a directory's rename are on their way: the server has the last word."""
    for n in range(4):
        gcs.put(f"d/f{n}", b"old")
    go_on = threading.Event()
    proxy = FaultProxy(gcs.port).start()
    proxy.fault = Fault(until=go_on, only="^DELETE .*d%2Ff")
    m = mount({"store k": gcs.store(endpoint_url=proxy.endpoint)})
    thread = threading.Thread(target=lambda: pytest.raises(OSError, os.rename, m / "k/d", m / "k/e"))
    thread.start()
    eventually(lambda: proxy.count("^DELETE .*d%2Ff"))
    gcs.put("d/f3", b"new")
    go_on.set()
    thread.join()
    proxy.stop()
    assert gcs.get("d/f3") == b"new" and [name for name in gcs.objects if name.startswith("d/f")] == ["d/f3"]
    assert [gcs.get(f"e/f{n}") for n in range(4)] == [b"old"] * 4


def test_large_files_stream_in_parts_that_nobody_sees(mount, gcs):
    m = mount({"store k": gcs.store(multipart_threshold="1MiB", multipart_chunksize="256KiB")})
    data = pattern(12 * MIB)
    with open(m / "k/big", "wb") as file:
        file.write(data[:8 * MIB])
        eventually(lambda: gcs.count("POST /upload.*") >= 4, what="parts while it is written")
        assert "big" not in gcs.objects
        assert os.listdir(m / "k") == ["big"]
        file.write(data[8 * MIB:])
    assert gcs.get("big") == data and list(gcs.objects) == ["big"]
    assert gcs.count("/compose") >= 1
    m.remount()
    assert (m / "k/big").read_bytes() == data


def test_a_lost_race_of_generations_keeps_both(mount, gcs):
    m = mount({"store k": gcs.store()})
    gcs.put("f", b"before")
    descriptor = os.open(m / "k/f", os.O_RDWR)
    os.pwrite(descriptor, b"ours!!", 0)
    gcs.put("f", b"theirs")
    with fails_with(errno.ESTALE):
        os.close(descriptor)
    assert gcs.get("f") == b"theirs"
    kept = [name for name in gcs.objects if name.startswith("f.conflict-")]
    assert len(kept) == 1 and gcs.get(kept[0]) == b"ours!!"


def test_listings_in_pages(mount, gcs):
    gcs.page = 100
    for number in range(450):
        gcs.put(f"many/n{number:04}", b"x")
    m = mount({"store k": gcs.store()})
    before = gcs.count("GET .*/o/")
    assert sorted(os.listdir(m / "k/many")) == [f"n{number:04}" for number in range(450)]
    assert all(entry.stat().st_size == 1 for entry in os.scandir(m / "k/many"))
    assert gcs.count("GET .*/o/") - before <= 5  # metadata is in the listing: nobody is asked one by one


def test_hostile_names_are_escaped(mount, gcs):
    for name in ("a/../b", "../up", "a//b", "./x", "/lead"):
        gcs.put(name, name.encode())
    m = mount({"store k": gcs.store()})
    found = sorted(str(path.relative_to(m / "k")) for path in (m / "k").rglob("*") if path.is_file())
    assert found == ["%2E%2E/up", "%2E/x", "%2F/lead", "a/%2E%2E/b", "a/%2F/b"]
    assert (m / "k/a/%2E%2E/b").read_bytes() == b"a/../b"


def test_a_damaged_download_is_not_believed(mount, gcs):
    gcs.put("f", b"content")
    gcs.flip = True
    m = mount({"store k": gcs.store(retries="1", retry_delay="10ms")})
    with fails_with(errno.EIO):
        (m / "k/f").read_bytes()
    gcs.flip = False
    assert (m / "k/f").read_bytes() == b"content"


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_passing_trouble_is_waited_out(mount, gcs, status):
    m = mount({"store k": gcs.store(retry_delay="10ms")})
    gcs.put("there", b"content")
    gcs.troubles = [{"match": "alt=media", "status": status, "times": 2}]
    assert (m / "k/there").read_bytes() == b"content" and gcs.troubles[0]["times"] == 0
    if status != 500:  # nothing was done; of a 500 that nobody knows
        gcs.troubles = [{"match": "POST /upload", "status": status, "times": 2}]
        (m / "k/f").write_bytes(b"content")
        assert gcs.get("f") == b"content" and gcs.troubles[0]["times"] == 0


def test_a_change_of_mode_that_others_overtake(mount, gcs):
    """Each time between its look and its change: it looks again, without a wait, and is not told that it has failed."""
    gcs.put("f", b"x")
    proxy = FaultProxy(gcs.port).start()
    m = mount({"store k": gcs.store(endpoint_url=proxy.endpoint, retries="0")})
    proxy.fault = Fault(status=412, only="^PATCH ", times=12,
                        body='{"error": {"code": 412, "message": "m", "errors": [{"reason": "conditionNotMet"}]}}')
    (m / "k/f").chmod(0o640)
    assert proxy.count("^PATCH ") == 13 and int(gcs.objects["f"].metadata["mode"]) & 0o7777 == 0o640
    m.stop()
    proxy.stop()


def test_what_is_staged_survives_a_kill(mount, gcs):
    m = mount({"store k": {**gcs.store(), "write": "back"}})
    gcs.troubles = [{"match": "POST /upload", "status": 503, "times": 1 << 30}]
    (m / "k/f").write_bytes(b"promised")
    m.crash()
    gcs.troubles = []
    m.start()
    eventually(lambda: "f" in gcs.objects, what="the upload after the restart")
    assert gcs.get("f") == b"promised" and (m / "k/f").read_bytes() == b"promised"


# Tokens

def test_a_service_account_gets_one_token_for_all(mount, gcs, folder):
    gcs.token_delay = 0.3
    options = with_tokens(gcs, credentials_file=key_file(folder, gcs))
    for number in range(8):
        gcs.put(f"f{number}", b"x")
    m = mount({"store k": options})
    threads = [threading.Thread(target=(m / f"k/f{number}").read_bytes) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(gcs.grants) == 1
    grant = gcs.grants[0]
    assert grant["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    assert grant["assertion"].count(".") == 2
    assert not any("ya29" in line for line in gcs.requests)  # in headers only


def test_a_refused_token_is_renewed(mount, gcs, folder):
    m = mount({"store k": with_tokens(gcs, credentials_file=key_file(folder, gcs))})
    (m / "k/f").write_bytes(b"one")
    gcs.tokens.clear()  # revoked
    (m / "k/f").write_bytes(b"two")
    assert gcs.get("f") == b"two" and len(gcs.grants) == 2


def test_a_token_is_renewed_before_it_expires(mount, gcs, folder):
    gcs.token_life = 2  # renewed when half of that has passed
    m = mount({"store k": with_tokens(gcs, credentials_file=key_file(folder, gcs))})
    (m / "k/f").write_bytes(b"one")
    had = len(gcs.grants)
    eventually(lambda: (m / "k/f").write_bytes(b"two") and len(gcs.grants) > had, what="a new token")
    assert gcs.get("f") == b"two"
    assert "401" not in m.log()


def test_gcloud_credentials_and_the_metadata_server(mount, gcs, folder):
    user = folder / "gcloud"
    user.mkdir()
    (user / "application_default_credentials.json").write_text(json.dumps(
        {"type": "authorized_user", "client_id": "id", "client_secret": "s3cret", "refresh_token": "r3fresh",
         "token_uri": gcs.endpoint + "/token"}))
    m = mount({"store k": with_tokens(gcs)}, env={"CLOUDSDK_CONFIG": str(user)})
    (m / "k/f").write_bytes(b"x")
    assert gcs.grants == [{"grant_type": "refresh_token", "client_id": "id", "client_secret": "s3cret",
                           "refresh_token": "r3fresh"}]
    m.stop()
    m = mount({"store k": with_tokens(gcs)}, name="vm",
              env={"CLOUDSDK_CONFIG": str(folder / "none"), "GCE_METADATA_HOST": f"127.0.0.1:{gcs.port}"})
    assert (m / "k/f").read_bytes() == b"x"
    assert gcs.grants[1:] == [{"grant_type": "metadata"}]
    assert "the metadata server" in m.quayctl("doctor", "k").stdout


def test_refused_credentials_say_why(mount, gcs, folder):
    gcs.token_status = 400
    m = mount({"store k": with_tokens(gcs, credentials_file=key_file(folder, gcs))})
    with fails_with(errno.EACCES):
        os.listdir(m / "k")
    assert "invalid_grant" in m.log() and "credentials_file" in m.log()
    secret = json.loads((folder / "service-account.json").read_text())["private_key"].splitlines()[1]
    assert secret not in m.log() and secret not in (m / ".quay/health.json").read_text()


def test_signed_urls(mount, gcs, folder):
    m = mount({"store k": with_tokens(gcs, credentials_file=key_file(folder, gcs), base_path="p")})
    (m / "k/a b").write_bytes(b"content")
    url = m.quayctl("sign", "k/a b").stdout.strip()
    assert url.startswith(f"{gcs.endpoint}/{gcs.bucket}/p/a%20b?X-Goog-Algorithm=GOOG4-RSA-SHA256")
    with urllib.request.urlopen(url, timeout=60) as reply:
        assert reply.read() == b"content"


def test_a_token_does_not_go_over_an_open_wire(mount):
    m = mount({"store k": {"backend": "gcs", "bucket": "some-bucket", "endpoint_url": "http://192.0.2.1:80",
                           "token": "ya29.secret"}}, start=False)
    with pytest.raises(Exception, match="not sent over http"):
        m.start()
    assert "ya29.secret" not in m.log()
