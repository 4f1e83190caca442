"""The parts of tests/bench that decide what a figure means: report, flame graph, runner, the two servers."""

import json
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from benchlib import flame, report, run
from benchlib.model import Case, Fact, Failed, Sample, Target
from benchlib.report import Result, as_json, judge, number, table, verdicts
from servers import Million, SlowProxy
from servers import million as million_server

BENCH = Path(__file__).resolve().parents[1] / "bench"


def case(name="c", **more):
    return Case(name, "title of it", "MiB/s", lambda world, contender: Sample(1, 1, 0), **more)


def result(samples, errors=None, **more):
    made = Result(case(**more))
    for name, seconds in samples.items():
        for second in seconds:
            made.add(name, Sample(100.0, second, 0.5, {"peak": second * 10}))
    made.errors.update(errors or {})
    return made


def verdict(made, *others):
    row = made.rows()[0]
    return verdicts(row, report.all_rows([made, *others]))


def test_a_rate_is_the_median_of_the_rounds():
    row = result({"quayfs": [1.0, 4.0, 2.0]}).rows()[0]
    assert row.values == {"quayfs": 50.0} and row.cpus == {"quayfs": 0.5}
    assert result({"quayfs": [1.0, 4.0, 2.0]}, seconds=True).rows()[0].values == {"quayfs": 2.0}


def test_the_best_peer_is_the_fastest_one():
    target = Target("1.5 x the best peer", "best", 1.5)
    made = result({"quayfs": [1.0], "s3fs": [2.0], "rclone": [4.0], "curl": [0.1]}, targets=[target])
    assert verdict(made) == "2.00, want >= 1.5 x the best peer: PASS"
    made = result({"quayfs": [1.0], "s3fs": [1.25], "rclone": [4.0]}, targets=[target])
    assert verdict(made) == "1.25, want >= 1.5 x the best peer: FALLS SHORT"
    less = Target("the best peer", "best", 1.0, at_most=True)
    made = result({"quayfs": [3.0], "s3fs": [2.0], "rclone": [4.0]}, targets=[less], seconds=True)
    assert verdict(made) == "1.50, want <= the best peer: FALLS SHORT"


def test_a_target_can_be_a_figure_or_another_case():
    assert "50.0, want >= 792" in verdict(result({"quayfs": [2.0]}, targets=[Target("792", "", 792)]))
    one = result({"quayfs": [10.0]}, name="one")
    many = result({"quayfs": [1.0]}, name="many", targets=[Target("8 x one", "case:one", 8.0)])
    assert verdict(many, one) == "10.00, want >= 8 x one: PASS"
    assert verdict(many) == "(no figure for 8 x one)"


def test_nothing_is_judged_without_a_figure_of_ours():
    target = Target("0.5 of curl", "curl", 0.5)
    failed = result({"quayfs": [1.0], "curl": [1.0]}, {"quayfs": "the daemon ended"}, targets=[target])
    assert judge(failed.rows()[0], target, failed.rows()) is None
    assert "quayfs FAILED" in verdict(failed) and "PASS" not in verdict(failed)


def test_facts_have_rows_and_targets_of_their_own():
    peak = Fact("peak", "peak memory", "MiB", targets=[Target("128", "", 128, at_most=True)])
    made = result({"quayfs": [12.0], "s3fs": [13.0]}, facts=[peak])
    text = table([made], {})
    assert "| peak memory, MiB | 120 | 130 | - | - | 120, want <= 128: PASS |" in text
    made = result({"quayfs": [13.0]}, facts=[peak])
    assert "130, want <= 128: FALLS SHORT" in table([made], {})


def test_the_table_names_who_failed_and_why():
    made = result({"quayfs": [1.0], "s3fs": [1.0]}, {"s3fs": "exit 1:\nno space"}, against="disk")
    text = table([made], {"quayfs": 200 << 20, "s3fs": 1 << 20})
    assert "| title of it, MiB/s | 100 (0.50 s) | failed | - | - |" in text
    assert "- s3fs, c: exit 1: no space" in text
    assert "| peak memory of the daemon, MiB | 200 | 1 | - | - | want <= 128: FALLS SHORT |" in text


def test_json_says_what_the_table_says():
    made = result({"quayfs": [1.0], "s3fs": [2.0]}, {"rclone": "gone"}, targets=[Target("x", "best", 1.5)])
    told = json.loads(json.dumps(as_json([made], {"quayfs": 1}, {"rounds": 1})))
    row = told["rows"][0]
    assert row["results"]["quayfs"]["median"] == 100.0 and row["errors"] == {"rclone": "gone"}
    assert row["targets"] == [{"text": "x", "of": "best", "need": 1.5, "at_most": False, "ratio": 2.0, "pass": True}]
    assert len(told["samples"]["c"]["s3fs"]) == 1


def test_the_chart_is_xml_and_shows_each_contender():
    made = result({"quayfs": [1.0], "s3fs": [2.0], "curl & co": [0.5]}, against="curl & co")
    texts = [node.text for node in ElementTree.fromstring(report.svg([made], ["one < two"])).iter() if node.text]
    assert {"quayfs", "s3fs", "curl & co", "one < two"} <= set(texts)


@pytest.mark.parametrize("value, shown", [(None, "-"), (0.123, "0.12"), (12.34, "12.3"), (123.4, "123"),
                                          (12345.6, "12 346")])
def test_numbers(value, shown):
    assert number(value) == shown


PERF = """pool-1
\t55d0 memcpy_avx+0x12 (/usr/lib/libc.so.6)
\t55d1 reader_fill+0x1f (/opt/quayfs)
\t55d2 worker (/opt/quayfs)

pool-1
\t55d0 memcpy_avx+0x99 (/usr/lib/libc.so.6)
\t55d1 reader_fill+0x2f (/opt/quayfs)
\t55d2 worker (/opt/quayfs)

fuse:main
\t7f00 [unknown] (/usr/lib/libcurl.so.4)
\t7f01 [unknown] (/usr/lib/libcurl.so.4)
\tffff do_syscall_64 ([kernel.kallsyms])
"""


def test_stacks_are_folded_from_the_root():
    stacks = flame.fold(PERF)
    assert stacks == {("pool-1", "worker", "reader_fill", "memcpy_avx"): 2,
                      ("fuse:main", "do_syscall_64", "[libcurl.so.4]"): 1}
    assert flame.self_costs(stacks) == [("memcpy_avx", 2), ("[libcurl.so.4]", 1)]
    assert "  66.7%  memcpy_avx" in flame.cost_table(stacks)
    assert "memcpy_avx" not in flame.cost_table(stacks, most=0)


def test_a_frame_is_as_wide_as_its_part():
    root = ElementTree.fromstring(flame.svg(flame.fold(PERF), ["a <case>"]))
    space = "{http://www.w3.org/2000/svg}"
    frames = {group.find(space + "title").text: group.find(space + "rect") for group in root.iter(space + "g")}
    widths = {title: float(rect.get("width")) for title, rect in frames.items()}
    assert widths["all: 3 samples, 100.0 %"] == flame.WIDTH - 2 * flame.MARGIN
    assert abs(widths["memcpy_avx: 2 samples, 66.7 %"] - widths["all: 3 samples, 100.0 %"] * 2 / 3) < 0.1
    lower, upper = (float(frames[t].get("y")) for t in ("worker: 2 samples, 66.7 %", "reader_fill: 2 samples, 66.7 %"))
    assert lower - upper == flame.ROW      # the root is at the bottom
    right = float(frames["pool-1: 2 samples, 66.7 %"].get("x")) + widths["pool-1: 2 samples, 66.7 %"]
    assert right <= flame.WIDTH - flame.MARGIN + 0.1
    with pytest.raises(ValueError):
        flame.svg(flame.fold(""), [])


class Daemon:
    """Stands for a contender: what the runner does with one."""

    def __init__(self, name, durable=True):
        self.name, self.durable, self.process = name, durable, None
        self.stops, self.killed = 0, threading.Event()

    def stop(self):
        self.stops += 1

    def kill(self):
        self.killed.set()

    def take_peak(self):
        return 7


class Turns:
    turn = 0


def runner_of(work, rounds=3, **more):
    contenders = {name: Daemon(name) for name in ("quayfs", "s3fs", "rclone")}
    runner = run.Runner(Turns(), contenders, rounds, False)
    made = Case("c", "t", "u", work, **more)
    runner.run([made])
    return runner, contenders


def test_the_order_rotates_and_the_limit_takes_part():
    order = []

    def work(world, contender):
        order.append(contender.name if contender else "disk")
        return Sample(1, 1, 0)
    runner_of(work, against="disk")
    assert order == ["quayfs", "s3fs", "rclone", "disk", "s3fs", "rclone", "disk", "quayfs",
                     "rclone", "disk", "quayfs", "s3fs"]


def test_a_contender_that_fails_ends_neither_the_round_nor_the_run():
    asked = []

    def work(world, contender):
        asked.append(contender.name)
        if contender.name == "s3fs":
            raise OSError(5, "Input/output error")
        return Sample(1, 1, 0)
    runner, contenders = runner_of(work)
    assert asked.count("s3fs") == 1 and asked.count("quayfs") == asked.count("rclone") == 3
    assert "Input/output error" in runner.results[0].errors["s3fs"]
    assert contenders["s3fs"].stops >= 1 and runner.peaks["quayfs"] == 7


def test_a_contender_that_hangs_is_killed():
    def work(world, contender):
        if contender.name == "rclone":
            assert contender.killed.wait(30)
            raise OSError(107, "Transport endpoint is not connected")
        return Sample(1, 1, 0)
    runner, contenders = runner_of(work, rounds=1, limit=0.05)
    assert "took more than" in runner.results[0].errors["rclone"] and not contenders["quayfs"].killed.is_set()


STUCK = """
import os, signal, sys, threading
sys.path.insert(0, sys.argv[1])
from benchlib.run import free_on_signal
freed = threading.Event()
class Daemon:
    kill = staticmethod(freed.set)
signal.signal(signal.SIGTERM, lambda *_: None)
free_on_signal([Daemon()])
os.kill(os.getpid(), signal.SIGTERM)
freed.wait()
print("freed")
"""


def test_a_signal_frees_who_hangs_in_a_mount():
    done = subprocess.run([sys.executable, "-c", STUCK, str(BENCH.parent)], capture_output=True, text=True, timeout=120)
    assert done.stdout == "freed\n", done.stderr


def test_a_mistake_of_the_bench_itself_is_not_a_contender_s():
    with pytest.raises(ZeroDivisionError):
        runner_of(lambda world, contender: 1 / 0)


def test_who_takes_part():
    lazy, ours = Daemon("rclone", durable=False), Daemon("quayfs")
    assert not run.takes_part(case(writes=True), lazy) and run.takes_part(case(writes=True), ours)
    assert run.takes_part(case(only=("quayfs",)), ours) and not run.takes_part(case(only=("quayfs",)), lazy)
    assert not run.takes_part(case(), None) and run.takes_part(case(against="disk"), None)
    assert run.rounds_of(case(rounds=1), 3, full=False) == 1 and run.rounds_of(case(rounds=1), 3, full=True) == 3


def test_list_names_the_cases_and_their_time():
    done = subprocess.run(["/usr/bin/python3", BENCH, "--list"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in ("seq-cold", "rand-far-16", "git", "million", "warm-start", "write-back", "rename", "load-sqlite"):
        assert any(line.startswith(name + " ") and " s in " in line for line in done.stdout.splitlines()), name
    done = subprocess.run([sys.executable, BENCH, "--list", "--only", "nonsense"], capture_output=True, text=True)
    assert done.returncode != 0 and "nonsense" in done.stderr and "seq-cold" in done.stderr


# The servers of the bench.
@pytest.fixture
def echo():
    """Answers each line with itself; the times at which lines came are kept."""
    listener, came = socket.create_server(("127.0.0.1", 0)), []

    def serve():
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(client,), daemon=True).start()

    def answer(client):
        with client, client.makefile("rwb") as file:
            for line in file:
                came.append(time.monotonic())
                file.write(line)
                file.flush()
    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1], came
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def test_the_slow_proxy_holds_each_request_and_changes_nothing(build_dir, tmp_path, echo):
    port, came = echo
    delay = 0.05
    with SlowProxy(tmp_path, build_dir, port, delay) as proxy, \
            socket.create_connection(("127.0.0.1", proxy.port)) as sock, sock.makefile("rwb") as file:
        for number in range(3):
            line, sent = b"%d" % number + b"x" * 300_000 + b"\n", time.monotonic()
            file.write(line)
            file.flush()
            assert file.readline() == line
            assert came[-1] - sent >= delay      # at least: a loaded machine may take longer
        sock.shutdown(socket.SHUT_WR)
        assert file.read() == b""


def keys(text):
    root = ElementTree.fromstring(text)
    return [node.text for node in root.iter("Key")], root.findtext("IsTruncated"), root.findtext("NextContinuationToken")


def test_the_huge_directory_is_listed_whole_and_in_order():
    found, query = [], {"prefix": "many/", "delimiter": "/"}
    while True:
        names, more, token = keys(million_server.page_of(query, 2500))
        found += names
        if more == "false":
            break
        query["continuation-token"] = token
    assert found == [million_server.name_of(place) for place in range(2500)] and found == sorted(found)
    names, more, token = keys(million_server.page_of({"prefix": "many/", "max-keys": "2"}, 2500))
    assert len(names) == 2 and more == "true" and token == names[-1]
    assert keys(million_server.page_of({"prefix": "other/"}, 2500))[0] == []
    root = ElementTree.fromstring(million_server.page_of({"prefix": "", "delimiter": "/"}, 2500))
    assert [node.text for node in root.iter("Prefix")][-1] == "many/" and not list(root.iter("Key"))


def test_the_huge_directory_through_a_mount(mount, tmp_path):
    with Million(tmp_path / "million", 3000) as server:
        with urllib.request.urlopen(f"{server.endpoint}/million/many/e00002999") as reply:
            assert reply.read() == b""
        m = mount({"store k": {"backend": "s3", "bucket": "million", "endpoint_url": server.endpoint,
                               "access_key_id": "a", "secret_access_key": "b", "list_metadata": "yes"}})
        assert sorted(path.name for path in (m / "k/many").iterdir()) == [f"e{n:08}" for n in range(3000)]
        assert (m / "k/many/e00002999").stat().st_size == 0
        assert not (m / "k/many/e00003000").exists()


def test_content_is_compared():
    from benchlib.world import must_be
    with pytest.raises(Failed):
        must_be(3, 2)
