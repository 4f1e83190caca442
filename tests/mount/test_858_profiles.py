"""AWS profiles that get their keys: credential_process, and single sign-on."""

import errno
import hashlib
import json
import os
import stat
import sys
from datetime import datetime, timedelta, timezone

import pytest

from harness.tools import eventually, fails_with
from servers.fakecloud import FakeCloud

ROLE = "arn:aws:iam::000000000000:role/quay"
HELPER = """#!{python}
import json, os, sys, urllib.request
here = os.path.dirname(os.path.abspath(__file__))
then = open(os.path.join(here, "then")).read()
with open(os.path.join(here, "calls"), "a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
print("a word on stderr", file=sys.stderr)
exec(then)
"""
# Counted from when they are given: who asks may be slow.
LIVES = """
from datetime import datetime, timedelta, timezone
keys["Expiration"] = (datetime.now(timezone.utc) + timedelta(seconds={life})).strftime("%Y-%m-%dT%H:%M:%SZ")
"""


@pytest.fixture
def cloud(minio):
    made = FakeCloud(minio)
    yield made
    made.stop()


class Home:
    """~/.aws with a config, and a credential_process that does what `then` says."""

    def __init__(self, folder):
        self.folder = folder / "home of me"
        (self.folder / ".aws/sso/cache").mkdir(parents=True)
        self.helper = self.folder / "the helper"
        self.helper.write_text(HELPER.format(python=sys.executable))
        self.helper.chmod(0o755)

    def config(self, text: str) -> None:
        (self.folder / ".aws/config").write_text(text)

    def then(self, code: str) -> None:
        (self.folder / "then").write_text(code)

    def gives(self, keys: dict, life: float | None = 3600, **more) -> None:
        text = {"Version": 1, "AccessKeyId": keys["AccessKeyId"], "SecretAccessKey": keys["SecretAccessKey"], **more}
        if keys.get("Token"):
            text["SessionToken"] = keys["Token"]
        self.then(f"keys = {text!r}\n" + (LIVES.format(life=life) if life is not None else "") + "print(json.dumps(keys))")

    def calls(self) -> list[list[str]]:
        path = self.folder / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def environment(self, **more) -> dict[str, str]:
        return {"HOME": str(self.folder), "AWS_EC2_METADATA_DISABLED": "true", **more}

    def token(self, of: str, life: float = 3600, **more):
        until = datetime.now(timezone.utc) + timedelta(seconds=life)
        path = self.folder / ".aws/sso/cache" / (hashlib.sha1(of.encode()).hexdigest() + ".json")
        path.write_text(json.dumps({"startUrl": "https://corp.example/start", "region": "us-east-1",
                                    "expiresAt": until.strftime("%Y-%m-%dT%H:%M:%SZ"), **more}))
        return path


@pytest.fixture
def home(folder) -> Home:
    return Home(folder)


def nameless(bucket, **more):
    return {name: value for name, value in bucket.store(**more).items() if "access_key" not in name}


def works(m, bucket, text=b"by a profile"):
    (m / "k/f").write_bytes(text)
    assert bucket.get("f") == text and (m / "k/f").read_bytes() == text


def test_credential_process(mount, bucket, home, cloud):
    """Split as a shell would, but no shell: nothing of it is expanded or run."""
    home.config("[profile tool]\nregion = us-east-1\n"
                f"credential_process = \"{home.helper}\" --user 'a b' $HOME `id` ; touch \"{home.folder}/hole\" & ~\n")
    home.gives(cloud.keys())
    m = mount({"store k": nameless(bucket, profile="tool")}, env=home.environment())
    works(m, bucket)
    assert home.calls() == [["--user", "a b", "$HOME", "`id`", ";", "touch", f"{home.folder}/hole", "&", "~"]]
    assert not (home.folder / "hole").exists()
    told = m.quayctl("doctor", "k").stdout
    assert f"keys from credential_process of profile 'tool' in {home.folder}" in told
    assert "word on stderr" not in m.whole_log()


def test_process_keys_are_renewed_ahead(mount, bucket, home, cloud):
    home.config(f"[profile tool]\ncredential_process = '{home.helper}'\n")
    home.gives(cloud.keys(), life=30)
    m = mount({"store k": nameless(bucket, profile="tool")}, env=home.environment())
    works(m, bucket)
    assert len(home.calls()) == 1
    home.gives(cloud.keys(), life=3600)
    eventually(lambda: (m / "k/f").write_bytes(b"again") and len(home.calls()) >= 2)
    works(m, bucket, b"long life")
    calls = len(home.calls())
    home.then("sys.exit('no more keys')")
    for n in range(5):
        works(m, bucket, b"%d" % n)
    assert len(home.calls()) == calls


def test_process_keys_without_an_end(mount, bucket, home, minio):
    """Asked for once."""
    home.config(f"[profile tool]\ncredential_process = '{home.helper}'\n")
    home.gives({"AccessKeyId": minio.user, "SecretAccessKey": minio.password}, life=None)
    m = mount({"store k": nameless(bucket, profile="tool")}, env=home.environment())
    for n in range(3):
        works(m, bucket, b"%d" % n)
    assert len(home.calls()) == 1


def test_the_process_takes_a_role(mount, bucket, home, minio):
    home.config(f"[profile tool]\ncredential_process = '{home.helper}'\n"
                f"[profile role]\nrole_arn = {ROLE}\nsource_profile = tool\n")
    home.gives({"AccessKeyId": minio.user, "SecretAccessKey": minio.password}, life=None)
    m = mount({"store k": nameless(bucket, profile="role", sts_endpoint_url=minio.endpoint)}, env=home.environment())
    works(m, bucket)
    assert f"keys from AssumeRole of {ROLE}" in m.quayctl("doctor", "k").stdout


@pytest.mark.parametrize("then, words", [
    ("print('the cat ate it', file=sys.stderr); sys.exit(7)", "exit code 7: the cat ate it"),
    ("print('hush-hush')", "what it wrote is not JSON"),
    ("print('{\"Version\": 2, \"AccessKeyId\": \"hush-hush\"}')", "not of Version 1"),
    ("print('{\"Version\": 1, \"SecretAccessKey\": \"hush-hush\"}')", "no AccessKeyId"),
    ("print('{\"Version\": 1, \"AccessKeyId\": \"x\", \"SecretAccessKey\": \"hush-hush\","
     " \"Expiration\": \"2020-01-01T00:00:00Z\"}')", "expired at 2020-01-01"),
    ("print('{\"Version\": 1, \"AccessKeyId\": \"x\", \"SecretAccessKey\": \"hush-hush\","
     " \"Expiration\": \"soon\"}')", "Expiration is not a time"),
    ("os.kill(os.getpid(), 15)", "killed by signal 15")])
def test_what_a_process_may_do_wrong(mount, bucket, home, then, words):
    home.config(f"[profile tool]\ncredential_process = '{home.helper}'\n")
    home.then(then)
    m = mount({"store k": nameless(bucket, profile="tool")}, env=home.environment())
    with fails_with(errno.EACCES):
        os.listdir(m / "k")
    log = m.whole_log()
    assert words in log and f"credential_process of profile 'tool' in {home.folder}/.aws/config" in log
    assert "hush-hush" not in log


def test_a_program_that_is_not_there(mount, bucket, home):
    home.config("[profile tool]\ncredential_process = /no/such/tool\n[profile open]\ncredential_process = 'open\n")
    m = mount({"store k": nameless(bucket, profile="tool"), "store l": nameless(bucket, profile="open")},
              env=home.environment())
    for key in ("k", "l"):
        with fails_with(errno.EACCES):
            os.listdir(m / key)
    assert "cannot run /no/such/tool" in m.log() and "a quote is not closed" in m.log()


SSO = ("[sso-session corp]\nsso_start_url = https://corp.example/start\nsso_region = us-east-1\n"
       "[profile single]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = the reader\n"
       "[profile legacy]\nsso_start_url = https://corp.example/start\nsso_region = us-east-1\n"
       "sso_account_id = 123456789012\nsso_role_name = the reader\n")


def sso_environment(home, cloud):
    home.config(SSO)
    return home.environment(AWS_ENDPOINT_URL_SSO=cloud.endpoint, AWS_ENDPOINT_URL_SSO_OIDC=cloud.endpoint)


@pytest.mark.parametrize("profile, of", [("single", "corp"), ("legacy", "https://corp.example/start")])
def test_single_sign_on(mount, bucket, home, cloud, profile, of):
    home.token(of, accessToken=cloud.sso_token)
    m = mount({"store k": nameless(bucket, profile=profile)}, env=sso_environment(home, cloud))
    works(m, bucket)
    assert cloud.requests == ["GET /federation/credentials?role_name=the%20reader&account_id=123456789012"]
    assert f"keys from SSO of profile '{profile}' in {home.folder}" in m.quayctl("doctor", "k").stdout
    assert "sso-token" not in m.whole_log()


def test_an_expired_token_is_renewed_and_kept(mount, bucket, home, cloud):
    path = home.token("corp", life=-10, accessToken="old", refreshToken="refresh-1", clientId="the-client",
                      clientSecret="client-secret", registrationExpiresAt="2099-01-01T00:00:00Z")
    m = mount({"store k": nameless(bucket, profile="single")}, env=sso_environment(home, cloud))
    works(m, bucket)
    kept = json.loads(path.read_text())
    assert (kept["accessToken"], kept["refreshToken"]) == ("sso-token-2", "refresh-2")
    assert kept["registrationExpiresAt"] == "2099-01-01T00:00:00Z" and kept["clientSecret"] == "client-secret"
    until = datetime.strptime(kept["expiresAt"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    assert timedelta(seconds=3000) < until - datetime.now(timezone.utc) < timedelta(seconds=3700)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and len(os.listdir(path.parent)) == 1
    m.remount()
    works(m, bucket)
    assert len(cloud.renewals) == 1


def test_without_a_token(mount, bucket, home, cloud):
    m = mount({"store k": nameless(bucket, profile="single")}, env=sso_environment(home, cloud))
    with fails_with(errno.EACCES):
        os.listdir(m / "k")
    assert "aws sso login --sso-session corp" in m.log() and "profile 'single' in" in m.log()
    home.token("corp", life=-10, accessToken="old")
    with fails_with(errno.EACCES):
        os.listdir(m / "k")
    assert "has expired: aws sso login" in m.log()
    home.token("corp", accessToken="revoked-token")
    with fails_with(errno.EACCES):
        os.listdir(m / "k")
    assert "is not taken any more: aws sso login" in m.log() and "revoked-token" not in m.whole_log()
    home.token("corp", accessToken=cloud.sso_token)  # who has signed in again goes on
    works(m, bucket)
