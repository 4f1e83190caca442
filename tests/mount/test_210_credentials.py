"""Where S3 credentials come from, and that they go nowhere else."""

import os
import subprocess

import pytest

from harness.conf import conf_text

KEYS = ("access_key_id", "secret_access_key")


def without_keys(bucket) -> dict[str, str]:
    return {name: value for name, value in bucket.store().items() if name not in KEYS}


@pytest.fixture
def filled(bucket):
    bucket.put("f", b"found")
    return bucket


def test_from_the_environment(mount, filled):
    env = {"AWS_ACCESS_KEY_ID": filled.minio.user, "AWS_SECRET_ACCESS_KEY": filled.minio.password}
    m = mount({"store k": without_keys(filled)}, env=env)
    assert (m / "k/f").read_bytes() == b"found"


def test_from_a_profile(mount, filled, tmp_path):
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = wrong\naws_secret_access_key = wrong\n"
        f"[mine]\naws_access_key_id = {filled.minio.user}\n"
        f"aws_secret_access_key = {filled.minio.password}\n")
    (tmp_path / "config").write_text("[profile mine]\nregion = us-east-1\n")
    env = {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
           "AWS_CONFIG_FILE": str(tmp_path / "config")}
    m = mount({"store k": {**without_keys(filled), "profile": "mine"}}, env=env)
    assert (m / "k/f").read_bytes() == b"found"


def test_from_the_home_directory(mount, filled, tmp_path):
    (tmp_path / "home/.aws").mkdir(parents=True)
    (tmp_path / "home/.aws/credentials").write_text(conf_text({"default": {
        "aws_access_key_id": filled.minio.user, "aws_secret_access_key": filled.minio.password}}))
    m = mount({"store k": without_keys(filled)}, env={"HOME": str(tmp_path / "home")})
    assert (m / "k/f").read_bytes() == b"found"


def test_from_secret_files(mount, filled, tmp_path):
    (tmp_path / "secret").write_text(filled.minio.password + "\n")
    m = mount({"store k": {**without_keys(filled), "access_key_id": filled.minio.user,
                           "secret_access_key_file": tmp_path / "secret"}})
    assert (m / "k/f").read_bytes() == b"found"


def test_other_spellings(mount, filled):
    """As fsspec configurations write it."""
    m = mount({"store k": {**without_keys(filled), "key": filled.minio.user,
                           "secret": filled.minio.password}})
    assert (m / "k/f").read_bytes() == b"found"


def test_uri(mount, filled):
    store = {name: value for name, value in filled.store().items() if name not in ("backend", "bucket")}
    m = mount({"store k": {**store, "uri": f"s3://{filled.name}"}})
    assert (m / "k/f").read_bytes() == b"found"


def test_scheme(mount, filled):
    store = filled.store()
    del store["backend"], store["bucket"], store["endpoint_url"]
    m = mount({"scheme minio": {"backend": "s3", "endpoint_url": filled.minio.endpoint},
               "store k": {**store, "uri": f"minio://{filled.name}"}})
    assert (m / "k/f").read_bytes() == b"found"


def test_the_secret_is_never_shown(mount, filled):
    m = mount({"quayfs": {"log_level": "debug"}, "store k": filled.store()})
    assert (m / "k/f").read_bytes() == b"found"
    with pytest.raises(OSError):
        (m / "k/none").read_bytes()
    secret = filled.minio.password
    shown = [m.whole_log(), m.quayctl("keys", "-v", check=False).stdout]
    for folder, _, files in os.walk(m / ".quay"):
        shown += [open(os.path.join(folder, name), errors="replace").read() for name in files]
    shown.append(subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True).stdout
                 .replace(f"MINIO_ROOT_PASSWORD={secret}", ""))
    assert not [text for text in shown if secret in text]
