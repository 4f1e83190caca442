"""Many files that wait for a store that is away: each costs disk, and no descriptor."""

import resource

from harness.data import pattern
from harness.tools import descriptors, eventually
from servers import Fault

MANY = 120


def staged_files(m) -> list[str]:
    """What the daemon has open in its stage directory."""
    return [path for path in descriptors(m.pid) if "/stage/" in path]


def attempts(m) -> list[int]:
    return [entry["attempts"] for entry in m.staged()]


def test_waiting_files_are_closed(mount, bucket, proxy):
    """Story: an attempt that failed left its staged file open, and so did a start; an outage ended when 1024 files had
    been written."""
    m = mount({"store k": {**bucket.store(endpoint_url=proxy.endpoint), "write": "back", "retries": "0"}})
    (m / "k/warm-up").write_bytes(b"x")
    proxy.fault = Fault(status=403, only="^(PUT|POST) .*/f[0-9]")
    for number in range(MANY):
        (m / f"k/f{number}").write_bytes(pattern(100_000, seed=number))
    eventually(lambda: min(attempts(m)) >= 1)
    eventually(lambda: len(staged_files(m)) < 20)
    assert (m / "k/f7").read_bytes() == pattern(100_000, seed=7)
    before = sum(attempts(m))
    m.crash()
    m.start()
    assert len(staged_files(m)) < 20
    eventually(lambda: sum(attempts(m)) >= before + MANY)
    eventually(lambda: len(staged_files(m)) < 20)
    proxy.fault = None
    assert m.quayctl("sync", "k").returncode == 0
    for number in range(MANY):
        assert bucket.get(f"f{number}") == pattern(100_000, seed=number)


def test_more_open_files_than_a_shell_allows(mount):
    """The limit of the shell is raised to what the administrator allows."""
    mine = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, mine[1]))
    try:
        m = mount({"store k": {"backend": "memory"}})
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, mine)
    files = [open(m / f"k/{number}", "w+b", buffering=0) for number in range(150)]
    for number, file in enumerate(files):
        file.write(pattern(50_000, seed=number))
    for number, file in enumerate(files):
        file.close()
        assert (m / f"k/{number}").read_bytes() == pattern(50_000, seed=number)
