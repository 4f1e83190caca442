"""quayctl load, export, jobs, wait: sugar over the same files."""

import os
import pty
import subprocess

from harness.loader import import_job

USERS = b"id,name\n1,Alice\n2,Bob\n"
CREATE = "CREATE TABLE users (id integer, name text)"


def test_load_and_export(site, db):
    site.put("lake/u.csv", USERS)
    site.execute(db, CREATE)
    done = site.mount.quayctl("load", f"{db}.users", "lake/u.csv")
    assert "2" in done.stdout
    assert site.count(db, "users") == 2
    site.mount.quayctl("export", f"{db}.users", "lake/out.csv")
    assert site.bucket.get("out.csv") == USERS


def test_failing_load_has_an_exit_code_and_a_reason(site, db):
    site.put("lake/u.csv", b"id,name\n1,a,b\n")
    site.execute(db, CREATE)
    done = site.mount.quayctl("load", f"{db}.users", "lake/u.csv", check=False)
    assert done.returncode == 1 and "lake/u.csv:2" in done.stdout + done.stderr
    done = site.mount.quayctl("load", "nodb.users", "lake/u.csv", check=False)
    assert done.returncode != 0 and "nodb" in done.stdout + done.stderr


def test_jobs_and_wait(site):
    site.put("lake/u.csv", USERS)
    site.execute("lite", CREATE)
    site.submit("first", import_job("lake/u.csv", "lite", "users"))
    done = site.mount.quayctl("wait", "first")
    assert done.returncode == 0
    listed = site.mount.quayctl("jobs").stdout
    assert "first" in listed and "done" in listed
    site.submit("broken", "[from]\n")
    assert site.mount.quayctl("wait", "broken", check=False).returncode == 4
    assert site.mount.quayctl("wait", "never-was", check=False, timeout=60).returncode != 0


def test_progress_bar_on_a_terminal_only(site):
    site.put("here/u.csv", b"id,name\n" + b"".join(b"%d,n\n" % n for n in range(200_000)))
    site.execute("lite", CREATE)
    command = [str(site.mount.build / "ctl/quayctl"), "-c", str(site.mount.conf), "load", "lite.users", "here/u.csv"]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=site.mount.env)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:  # the other side has gone
        pass
    assert process.wait() == 0
    assert b"\r" in shown and b"%" in shown
    done = site.mount.quayctl("load", "lite.users", "here/u.csv")
    assert "\r" not in done.stdout + done.stderr
