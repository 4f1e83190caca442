"""Each option of a backend is told of: in the backend's README, by its name and its other names, and in quayfs.conf(5)."""

import re
from pathlib import Path

import pytest

from harness.tools import call

ROOT = Path(__file__).parents[2]
FOLDERS = {"http": "web", "sqlite": "blob", "postgres": "blob", "mysql": "blob"}
BACKENDS = ("local", "memory", "s3", "gcs", "azure", "http", "api", "sqlite", "postgres", "mysql", "sftp")


def options(build_dir) -> dict[str, dict[str, str]]:
    """backend (and "every") -> option -> what quayctl says of it; "= NAME" for another name of one."""
    found: dict[str, dict[str, str]] = {}
    for line in call(build_dir / "ctl/quayctl", "backends", "-l").stdout.splitlines():
        words = line.split(None, 1)
        if line.startswith(" "):
            found[last][words[0]] = words[1]
        else:
            last = words[0]
            found[last] = {}
    return found


def names(text: str, option: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(option)}(?!\w)", text) is not None


def test_all_backends_are_looked_at(build_dir):
    assert set(options(build_dir)) == {*BACKENDS, "every"}


@pytest.mark.parametrize("backend", BACKENDS)
def test_options_are_in_the_readme(build_dir, backend):
    readme = (ROOT / "backends" / FOLDERS.get(backend, backend) / "README.md").read_text()
    told = options(build_dir)[backend]
    assert told and [option for option in told if not names(readme, option)] == []
    assert "errno" in readme and readme.startswith("# backend = ")


@pytest.mark.parametrize("backend", [*BACKENDS, "every"])
def test_options_are_in_the_manual(build_dir, backend):
    manual = (ROOT / "packaging/man/quayfs.conf.5").read_text().replace("\\-", "-")
    missing = [option for option, text in options(build_dir)[backend].items()
               if not names(manual, option) and not text.startswith("= ") and not text.startswith("Tests:")]
    assert missing == []
