"""`lisrt bench`: figures that are right, failures that are counted, and nothing left when it is interrupted."""

import importlib.metadata
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.command import Cli, ended
from support.procs import helpers
from support.waiting import await_deaths, eventually, open_pidfds

from lisrt import SandboxGone
from lisrt.bench import Bench, Config, Recorder
from lisrt.bench.machine import facts, filesystem, memory
from lisrt.bench.measure import quantile

ROW = {"backend", "workload", "metric", "unit", "n", "p50", "p95", "p99", "rate", "failures"}


@pytest.fixture
def cli(tmp_path: Path, scratch: Path, working_host: None) -> Iterator[Cli]:
    """`lisrt`; afterwards nothing of it is left."""
    made = Cli(tmp_path, scratch)
    yield made
    made.assert_clean()


# Measuring


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_the_nearest_rank(samples: list[float], q: float) -> None:
    """A sample that at least the share does not exceed, and the smallest of those."""
    ordered = sorted(samples)
    value = quantile(ordered, q)
    assert value in ordered
    assert sum(sample <= value for sample in ordered) >= q * len(ordered) * (1 - 1e-12)
    below = [sample for sample in ordered if sample < value]
    assert not below or len(below) < q * len(ordered) * (1 + 1e-12)


def test_quantiles_of_known_samples() -> None:
    """By hand."""
    hundred = [float(number) for number in range(1, 101)]
    assert [quantile(hundred, q) for q in (0.5, 0.95, 0.99, 1.0)] == [50.0, 95.0, 99.0, 100.0]
    assert quantile([7.0], 0.5) == quantile([7.0], 0.99) == 7.0
    assert quantile([], 0.5) is None


def test_failures_are_counted_and_are_no_samples() -> None:
    """A fault of the sandbox or the host is counted with its message; a mistake of the bench itself is not swallowed."""
    recorder = Recorder("b")
    for number in range(3):
        with recorder.timed("w", "m") as timing:
            if number:
                raise SandboxGone("gone")
        assert timing.ok == (number == 0)
    for path in ("one", "two"):
        with recorder.timed("w", "m"):
            raise OSError(28, "full", path)
    with pytest.raises(ZeroDivisionError), recorder.timed("w", "m"):
        print(1 // 0)
    recorder.took("w", "m", 0.5)
    [row] = recorder.rows()
    assert (row.n, row.failures, row.rate, recorder.failures) == (1, 4, 2.0, 4)
    assert recorder.errors == {"m: SandboxGone: gone": 2, "m: OSError: [Errno 28] full: 'one'": 2}


def test_only_failures_make_a_row_too() -> None:
    """Without a sample there is no figure, and no division by nothing."""
    recorder = Recorder("b")
    recorder.failed("w", "m", "why")
    [row] = recorder.rows()
    assert (row.n, row.p50, row.p99, row.rate, row.failures) == (0, None, None, None, 1)


def test_the_facts_name_nobody() -> None:
    """What a reader needs to judge the figures; reports get published, so no host and no user."""
    text = json.dumps(facts())
    assert facts()["cpus"] >= 1 and filesystem("/") != "unknown"
    assert os.uname().nodename not in text
    assert os.path.expanduser("~") not in text


def test_memory_in_use_grows_with_memory_used() -> None:
    """Half a gibibyte that is written to shows up, whatever else goes on; in MemAvailable it need not (bench/README.md)."""
    for last_try in (False, False, True):  # what ended before may still be giving memory back
        before = memory()
        held = bytearray(os.urandom(1)) * (512 << 20)
        after = memory()
        assert len(held) == 512 << 20
        grown = after.in_use - before.in_use
        del held
        if grown > 256 << 20 and after.available > 0:
            break
        assert not last_try, grown


# The workload


def test_every_operation_is_counted(working_host: None) -> None:
    """Exactly as many samples as were asked for, on both workloads; progress ends at the totals."""
    seen: dict[str, tuple[int, int]] = {}
    bench = Bench(Config(6, commands=3, jobs=3, serial=2), ["native"], progress=lambda *args: seen.update({args[0]: args[1:]}))
    bench.run()
    [recorder] = [one for one in bench.recorders if one.backend == "native"]
    samples = {(row.workload, row.metric): row.n for row in recorder.rows() if row.unit == "ms"}
    assert samples == {
        ("one at a time", "first"): 1,
        ("one at a time", "host exec"): 2,
        ("one at a time", "create"): 2,
        ("one at a time", "exec"): 6,
        ("one at a time", "snapshot"): 2,
        ("one at a time", "fork"): 2,
        ("one at a time", "write"): 2,
        ("one at a time", "read"): 2,
        ("one at a time", "destroy"): 2,
        ("one at a time", "create, limited"): 2,
        ("one at a time", "exec, limited"): 6,
        ("all alive", "create"): 6,
        ("all alive", "exec"): 18,
        ("all alive", "write"): 6,
        ("all alive", "read"): 6,
        ("all alive", "destroy"): 6,
    }
    assert (bench.served, bench.asked, bench.failures, bench.errors) == (6, 6, 0, {})
    assert seen == {
        "one at a time": (2, 2), "create": (6, 6), "commands": (6, 6), "write": (6, 6), "read": (6, 6), "destroy": (6, 6),
    }  # fmt: skip
    assert all(row.p50 <= row.p95 <= row.p99 for row in recorder.rows() if row.unit == "ms")


def test_the_floor_is_measured_in_the_same_moments(working_host: None) -> None:
    """As often as lisrt, under the same names, so that each row has its ratio."""
    bench = Bench(Config(6, commands=3, jobs=3, serial=2), ["native"])
    bench.run()
    if "floor" in bench.left_out:
        pytest.skip(f"no floor here: {bench.left_out['floor']}")
    rows = {(row.backend, row.workload, row.metric): row for one in bench.recorders for row in one.rows()}
    for metric in ("create", "exec", "destroy"):
        for workload in ("one at a time", "all alive"):
            own, floor = rows["native", workload, metric], rows["floor", workload, metric]
            assert (own.n, own.rate is None) == (floor.n, floor.rate is None)
    assert rows["floor", "one at a time", "fork"].n == 2


# The command


def test_the_table_and_the_verdict(cli: Cli) -> None:
    """Operations and memory by their names, the verdict last; status 0."""
    done = cli("bench", "-n", "8", "--serial", "2", "--commands", "1")
    assert done.returncode == 0
    phases = ["one at a time: 2", "create: 8", "commands: 8", "write: 8", "read: 8", "destroy: 8"]
    assert done.stderr.splitlines() == phases  # no terminal: a line for each
    lines = done.stdout.rstrip().splitlines()
    assert lines[-1] == "8 of 8 sandboxes served, 0 failures"
    for words in ("create", "exec", "write", "read", "destroy", "p50", "p95", "p99", "per s", "KiB"):
        assert words in done.stdout


@pytest.mark.parametrize("where", ["report.json", "-"])
def test_the_report_for_machines(cli: Cli, where: str) -> None:
    """The same figures as JSON, to a file beside the table or to stdout instead of it."""
    done = cli("bench", "-n", "3", "--serial", "1", "--json", where)
    assert done.returncode == 0 and "rror" not in done.stderr, done.stderr
    report = json.loads(done.stdout if where == "-" else (cli.cwd / where).read_text())
    assert ("3 of 3" in done.stdout) == (where != "-")
    assert report["machine"]["lisrt"] == importlib.metadata.version("lisrt")
    assert report["machine"]["scratch_filesystem"]
    assert report["machine"]["guarantees"]["system calls"].startswith("an allow-list")
    assert report["config"]["concurrency"] == 3
    assert all(set(row) == ROW for row in report["rows"])
    assert report["config"]["workloads"] == ["lifecycle"] and report["seed"] == 1
    assert report["command"] == "lisrt bench -n 3 --serial 1"


def test_the_report_as_a_page(cli: Cli) -> None:
    """Beside the table, in a file of its own."""
    done = cli("bench", "-n", "3", "--serial", "1", "--html", "report.html")
    assert done.returncode == 0 and "rror" not in done.stderr, done.stderr
    page = (cli.cwd / "report.html").read_text()
    assert page.startswith("<!DOCTYPE html>") and "3 of 3" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--workload", "nonesuch"), ["'nonesuch'", "lifecycle", "soak"]),
        (("--workload", "exec,nonesuch"), ["'nonesuch'"]),
        (("--workload", ","), ["lifecycle"]),
        (("--backend", "nonesuch"), ["'nonesuch'", "native", "docker"]),
        (("--think", "lognormal:-1:1"), ["lognormal:MEDIAN:SIGMA"]),
        (("--memory", "plenty"), ["--memory"]),
        (("--minutes", "0"), ["--minutes"]),
        (("--json", "missing/report.json"), ["missing/report.json"]),
        (("--html", "missing/report.html"), ["missing/report.html"]),
        (("--episodes", "missing"), ["missing"]),
        (("--suite", "missing"), ["missing"]),
    ],
)
def test_mistakes_are_found_out_before_anything_is_done(cli: Cli, arguments: tuple[str, ...], words: list[str]) -> None:
    """Status 2, what is wrong, and what there is; no sandbox was made."""
    done = cli("bench", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert all(word in done.stderr for word in words)
    assert not cli.owners()


def test_several_workloads_are_one_report(cli: Cli) -> None:
    """In their order, with one verdict over all of their sandboxes."""
    done = cli("bench", "-n", "3", "--serial", "1", "--workload", "burst,fork-tree", "--json", "report.json")
    assert done.returncode == 0 and "rror" not in done.stderr, done.stderr
    workloads = [row["workload"] for row in json.loads((cli.cwd / "report.json").read_text())["rows"] if row["unit"] == "ms"]
    assert list(dict.fromkeys(workloads)) == ["burst", "fork-tree"]
    assert done.stdout.rstrip().splitlines()[-1] == "9 of 9 sandboxes served, 0 failures"


def test_a_runtime_that_is_not_there_is_said_and_no_failure(cli: Cli) -> None:
    """Unless there is no other: then it is a fault, with the reason."""
    absent = "support.rivals:absent"
    done = cli("bench", "-n", "2", "--workload", "burst", "--backend", f"{absent},native")
    assert done.returncode == 0 and "rror" not in done.stderr, done.stderr
    assert f"{absent} left out: it is not installed" in done.stdout
    done = cli("bench", "-n", "2", "--workload", "burst", "--backend", absent)
    assert (done.returncode, done.stdout) == (125, "")
    assert "nothing could be measured" in done.stderr and "it is not installed" in done.stderr


def test_a_failure_is_a_failure(cli: Cli) -> None:
    """Where the disk is full: status 1, the failures in the verdict, the reason once with its count."""
    setup = 'mount -t tmpfs -o size=2m,nr_inodes=1200 none "$LISRT_SCRATCH"; chmod 700 "$LISRT_SCRATCH"; exec "$@"'
    prefix = ("unshare", "--user", "--mount", "--map-current-user", "--keep-caps", "bash", "-ec", setup, "bash")
    done = cli("bench", "-n", "300", "--serial", "0", prefix=prefix)
    assert done.returncode == 1, done.stdout + done.stderr
    verdict = done.stdout.rstrip().splitlines()[-1]
    served, failures = int(verdict.split()[0]), int(verdict.split()[-2])
    assert served < 300 and failures > 0
    assert "No space left" in done.stderr
    assert len(done.stderr.splitlines()) < 20


def test_too_many_for_the_hosts_limits_is_said_before(cli: Cli) -> None:
    """With the limit and the number that is needed."""
    done = cli("bench", "-n", "512", prefix=("sh", "-c", 'ulimit -n 100; exec "$@"', "sh"))
    assert done.returncode != 0
    assert "100" in done.stderr and "open files" in done.stderr


@pytest.mark.parametrize("workload", ["exec", "rollout", "density", "soak"])
def test_an_interrupted_workload_leaves_nothing(cli: Cli, workload: str) -> None:
    """Ctrl-C among threads that wait and event loops: as in any other."""
    with cli.started("bench", "-n", "100", "--serial", "1", "--workload", workload, "--think", "lognormal:2:1") as process:
        eventually(lambda: len(helpers(cli.scratch)) > 30, within=30, what="the first sandboxes")
        living = open_pidfds(helpers(cli.scratch))
        os.killpg(process.pid, signal.SIGINT)
        status, stdout, _stderr = ended(process, within=30)
        try:
            assert not await_deaths(living.values(), within=5)
        finally:
            for fd in living.values():
                os.close(fd)
    assert (status, stdout) == (130, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_leaves_nothing(cli: Cli, number: signal.Signals) -> None:
    """Ctrl-C in the middle of hundreds of creations: 130, no traceback, and all of it is gone; so it is for the others."""
    cli.killed = number is not signal.SIGINT
    with cli.started("bench", "-n", "400", "--serial", "0") as process:
        eventually(lambda: len(helpers(cli.scratch)) > 60, within=30, what="the first sandboxes")
        living = open_pidfds(helpers(cli.scratch))
        os.killpg(process.pid, number)
        status, stdout, stderr = ended(process, within=30)
        try:
            assert not await_deaths(living.values(), within=5)
        finally:
            for fd in living.values():
                os.close(fd)
    assert status == (130 if number is signal.SIGINT else -number)
    assert stdout == ""
    assert "Error" not in stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_another_runtime_is_stopped_when_a_run_is_broken_off(cli: Cli, number: signal.Signals) -> None:
    """Also at the end of a job: its containers belong to nobody else. What was a report before is one still."""
    report, daemon = cli.cwd / "report.json", cli.cwd / "daemon"
    report.write_text("of yesterday")
    sizes = ("-n", "400", "--rivals", "400", "--serial", "0")
    with cli.started("bench", *sizes, "--backend", "support.rivals:leaving", "--json", "report.json") as process:
        eventually(lambda: daemon.exists() and len(helpers(cli.scratch)) > 20, within=30, what="the first sandboxes")
        os.killpg(process.pid, number)
        status, _stdout, stderr = ended(process, within=60)
    assert status == (130 if number is signal.SIGINT else -number)
    assert not daemon.exists() and "interrupted: there is no report" in stderr
    assert report.read_text() == "of yesterday"
