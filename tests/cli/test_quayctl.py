"""quayctl's commands from the command line: help, the manual page, bad usage."""

import re
from pathlib import Path

import pytest

from harness.tools import call

MAN = Path(__file__).parents[2] / "packaging/man/quayctl.1"
COMMANDS = ("warm", "evict", "pin", "unpin", "pins", "cache", "top", "cp", "mv", "sync", "add",
            "remove", "reload", "ls", "stat", "path", "cat", "get",
            "put", "rm", "sign", "doctor", "status", "keys", "backends")


def manual() -> dict[str, str]:
    """Command -> its section of the manual page, without markup."""
    text = MAN.read_text().replace("\\-", "-").replace("\\fR", "").replace("\\fI", "")
    parts = re.split(r"^\.S[SH] (.+)$", text, flags=re.M)
    return {parts[i]: parts[i + 1] for i in range(1, len(parts) - 1, 2)}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_and_manual_say_the_same(build_dir, command):
    done = call(build_dir / "ctl/quayctl", command, "--help")
    assert done.returncode == 0 and done.stdout.startswith(f"Usage: quayctl {command}")
    assert max(map(len, done.stdout.splitlines())) <= 100
    section = manual()[command]
    options = set(re.findall(r"--[a-z][a-z-]+", done.stdout))
    assert options <= set(re.findall(r"--[a-z][a-z-]+", section)), command
    usage = done.stdout.splitlines()[0].removeprefix("Usage: ")
    assert usage in section, usage
    assert f"  {command} " in call(build_dir / "ctl/quayctl", "--help").stdout


@pytest.mark.parametrize("arguments", [
    ("warm",), ("warm", "--nope", "k:f"), ("warm", ""), ("evict",), ("evict", "-x", "k:"), ("pin",),
    ("unpin",), ("top", "x"), ("top", "-d", "0"), ("top", "-n", "0"), ("unpin", "--json", "k:"), ("pins", "a", "b"), ("cache", "nope"), ("cache", "clear", "a", "b")])
def test_bad_usage(build_dir, tmp_path, arguments):
    conf = tmp_path / "c.conf"
    conf.write_text(f"[cache]\ndir = {tmp_path}/cache\n[store k]\nbackend = memory\n")
    done = call(build_dir / "ctl/quayctl", "-c", conf, *arguments)
    assert done.returncode == 64 and done.stderr
