"""Every workload with few sandboxes, real ones: what is counted, what counts as a failure, and what is found."""

import asyncio
import base64
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import rivals
from support.fresh import environment

from lisrt import HostError, Sandbox
from lisrt.bench import Bench, Config, Think
from lisrt.bench.backend import Unavailable
from lisrt.bench.workloads import WORKLOADS
from lisrt.bench.workloads.base import was_interrupted
from lisrt.bench.workloads.density import LEVELS, levels
from lisrt.bench.workloads.episodes import Command, Read, Tally, Unpack, Write, load, replay
from lisrt.bench.workloads.fork_tree import ancestors
from lisrt.bench.workloads.series import GAUGES, look, slope, trends
from lisrt.bench.workloads.soak import KEPT, Kept
from lisrt.bench.workloads.steady import interval

pytestmark = pytest.mark.usefixtures("working_host")
BASH = "execute_bash"


@pytest.fixture(autouse=True)
def no_rivals() -> Iterator[None]:
    """Those of a test are stopped, and leave nothing."""
    rivals.MADE.clear()
    yield
    assert all(one.stopped and not one.alive for one in rivals.MADE)


def measured(*workloads: str, backends: tuple[str, ...] = (), n: int = 4, serial: int = 1, **told: Any) -> Bench:
    """A run, to its end."""
    bench = Bench(Config(n, commands=2, jobs=3, serial=serial, **told), backends, workloads)
    bench.run()
    return bench


def counts(bench: Bench, backend: str = "native") -> dict[tuple[str, str], int]:
    """Samples of durations."""
    rows = [row for one in bench.recorders for row in one.rows()]
    return {(row.workload, row.metric): row.n for row in rows if row.backend == backend and row.unit == "ms"}


def values(bench: Bench, backend: str = "native") -> dict[str, float]:
    """What is no duration."""
    rows = [row for one in bench.recorders for row in one.rows()]
    return {row.metric: row.p50 for row in rows if row.backend == backend and row.unit != "ms" and row.p50 is not None}


def is_good(bench: Bench) -> bool:
    """Nothing failed, and all were served."""
    assert bench.errors == {}
    return bench.served == bench.asked > 0 and not bench.failures


# Backends


def test_another_runtime_takes_its_turns_and_is_driven_at_several_concurrencies() -> None:
    """One at a time beside lisrt; then at each number of threads, and all alive, never more than `rivals` at once."""
    bench = measured("lifecycle", backends=("native", "support.rivals:working"), n=20, serial=3, rivals=10, memory=64 << 20)
    assert is_good(bench)
    found = counts(bench, "rival")
    assert found["one at a time", "create"] == found["one at a time", "destroy"] == 3
    assert found["one at a time", "exec"] == 6
    assert {name for name, _ in found} == {"one at a time", "all alive", *(f"all alive, {n}" for n in (1, 2, 4, 8, 16))}
    assert found["all alive, 2", "create"] == 8 and found["all alive, 2", "exec"] == 16
    assert found["all alive", "create"] == found["all alive", "destroy"] == 10
    assert not {metric for _, metric in found} & {"snapshot", "fork", "create, limited", "host exec", "first"}
    assert counts(bench)["all alive", "create"] == 20
    [rival] = rivals.MADE
    assert (rival.most, rival.memory) == (10, 64 << 20)
    assert any(note.startswith("rival: create is quickest with ") for note in bench.notes)
    assert bench.settings["rival"] == {"version": "1.2.3"}


def test_what_fails_is_counted_and_left_out_of_the_rest() -> None:
    """A runtime that can't create every third: its failures are its own, with their message."""
    bench = measured("lifecycle", backends=("native", "support.rivals:failing"), n=9, serial=3, rivals=9)
    found = counts(bench, "rival")
    assert found["one at a time", "create"] == 2
    assert bench.failures == sum(bench.errors.values()) > 0
    assert all("rival" in message and "no more of them" in message for message in bench.errors)
    assert found["all alive, 4", "create"] == found["all alive, 4", "destroy"] < 8
    assert bench.served == bench.asked - (bench.failures - 1)


@pytest.mark.parametrize("workload", ["lifecycle", "exec", "rollout", "burst", "density"])
def test_a_runtime_that_runs_no_command_is_a_failure_not_a_crash(workload: str) -> None:
    """Whatever it is asked to do; lisrt beside it is measured all the same."""
    told = {"ceiling": 4} if workload == "density" else {}
    bench = measured(workload, backends=("native", "support.rivals:mute"), n=3, rivals=3, **told)
    assert any("it does not answer" in words for words in [*bench.errors, *bench.notes])
    assert not any(row.failures for one in bench.recorders if one.backend == "native" for row in one.rows())
    assert any(n for n in counts(bench).values())


def test_a_runtime_that_is_not_there_is_listed() -> None:
    """With its reason, and the others are measured; unless there is no other."""
    bench = measured("burst", backends=("support.rivals:absent", "native"), n=2)
    assert is_good(bench)
    assert bench.left_out["support.rivals:absent"] == "it is not installed"
    report = bench.document({}, "lisrt bench")
    assert report["backends"]["support.rivals:absent"]["available"] is False
    with pytest.raises(Unavailable, match="it is not installed"):
        measured("burst", backends=("support.rivals:absent",))


def test_the_chosen_launcher_is_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no backend is named."""
    monkeypatch.setenv("LISRT_LAUNCHER", "bwrap")
    try:
        Sandbox(launcher="bwrap").close()
    except HostError as error:
        pytest.skip(f"no bubblewrap here: {error}")
    bench = measured("burst", n=2)
    assert is_good(bench) and list(bench.settings) == ["bwrap"]
    assert bench.guarantees["launcher"].startswith("bwrap")


def test_what_only_lisrt_can_do_is_left_out_for_others() -> None:
    """By name, with the reason."""
    bench = measured("fork-tree", "burst", backends=("support.rivals:working",), n=2)
    assert is_good(bench)
    assert "only lisrt" in bench.left_out["fork-tree"]
    assert bench.document({}, "lisrt bench")["left_out"].keys() == {"fork-tree"}


def test_the_report_has_what_repeats_the_run() -> None:
    """Seed, settings, workloads, findings and series, as JSON."""
    bench = measured("density", seed=7, ceiling=3)
    report = json.loads(json.dumps(bench.document({"kernel": "6"}, "lisrt bench --seed 7")))
    assert (report["seed"], report["config"]["workloads"], report["command"]) == (7, ["density"], "lisrt bench --seed 7")
    assert report["config"]["think"] == "none"
    assert report["notes"] and report["series"]["density"]["native"]["steps"]
    assert report["machine"]["guarantees"]["system calls"]


# exec


def test_exec_counts_each_kind_of_command() -> None:
    """Alone beside the bare host; then in all of them, from threads, and from one event loop."""
    bench = measured("exec", backends=("native", "support.rivals:working"), n=4, serial=2)
    assert is_good(bench)
    kinds = ("exec true", "exec sh -c", "exec python3 -c", "exec 1 MB out", "exec 1 MB in and out")
    found, rival, host = counts(bench), counts(bench, "rival"), counts(bench, "host")
    for kind in kinds:
        times = 2 if kind == "exec true" else 1
        assert found["exec, one at a time", kind] == rival["exec, one at a time", kind] == host["exec, one at a time", kind] == 2
        assert found["exec, all alive", kind] == rival["exec, all alive", kind] == 4 * times
        assert found["exec, all alive", f"{kind}, async"] == 4 * times
    assert found["exec, one at a time", "exec true, async"] == 2
    assert not any("async" in metric for _, metric in rival)
    rates = {row.metric: row.rate for one in bench.recorders for row in one.rows() if row.workload == "exec, all alive"}
    assert rates["exec true"] and rates["exec true, async"]


# rollout


def test_the_recorded_episodes_end_as_they_were_recorded() -> None:
    """All of them, alone and at once, by lisrt and by another runtime; and every call is timed."""
    episodes = load(None)
    assert len(episodes) >= 5 and all(len(episode.calls) >= 8 for episode in episodes)
    n = len(episodes)
    bench = measured("rollout", backends=("native", "support.rivals:working"), n=n, rivals=2)
    assert is_good(bench)
    found = counts(bench)
    assert all(found["rollout, one at a time", episode.name] == 1 for episode in episodes)
    assert found["rollout, all at once", "episode"] == n
    assert found["rollout, all at once", "tool call"] > sum(len(episode.calls) for episode in episodes)
    assert counts(bench, "rival")["rollout, all at once", "episode"] == 2
    figures = values(bench)
    assert figures["episodes per minute"] > 0
    assert 0 < figures["share of the episode that is neither thinking nor commands"] < 100


def trajectory(directory: Path, *calls: tuple[str, dict[str, Any], str, int | None], files: str = "") -> str:
    """A directory with one episode in it."""
    records: list[dict[str, Any]] = [{"type": "start", "task": "none", "files": files}, {"type": "response", "turn": 1}]
    records += [
        {"type": "tool", "name": name, "arguments": json.dumps(arguments), "outcome": outcome, "exit_code": status}
        for name, arguments, outcome, status in calls
    ]
    (directory / "one.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(directory)


def test_a_call_that_ends_otherwise_is_a_failure(tmp_path: Path) -> None:
    """An exit code that is not the recorded one, an edit that finds another file; the episode is none that counts."""
    edit = {"command": "str_replace", "path": "a.txt", "old_str": "absent", "new_str": "x"}
    place = trajectory(
        tmp_path,
        (BASH, {"command": "echo one > a.txt; exit 3"}, "exited", 3),
        (BASH, {"command": "exit 4"}, "exited", 0),
        ("str_replace_editor", edit, "done", None),
    )
    bench = measured("rollout", n=1, episodes=place)
    assert (bench.served, bench.asked) == (0, 1)
    assert not [row.n for one in bench.recorders for row in one.rows() if row.n and row.metric in ("one", "episode")]
    assert any("call 2: exited with 4, when it was recorded with 0" in message for message in bench.errors)
    assert any("call 3" in message and "not what it was" in message for message in bench.errors)
    assert not any("call 1" in message for message in bench.errors)


def test_thinking_is_no_overhead(tmp_path: Path) -> None:
    """Half a second of it in each call, beside commands of no length: the episode lasts, the share stays small."""
    place = trajectory(tmp_path, *[(BASH, {"command": "true"}, "exited", 0)] * 2)
    bench = measured("rollout", n=2, episodes=place, think=Think(0.5, 0.0))
    rows = [row for one in bench.recorders for row in one.rows()]
    [row] = [row for row in rows if (row.workload, row.metric) == ("rollout, all at once", "episode")]
    assert row.p50 is not None and row.p50 >= 1000
    share = values(bench)["share of the episode that is neither thinking nor commands"]
    assert 0 < share < 100 * (row.p50 - 1000) / row.p50 + 1


def test_no_episodes_are_said(tmp_path: Path) -> None:
    """Where nothing was recorded."""
    with pytest.raises(Unavailable, match="no recorded episodes"):
        measured("rollout", episodes=str(tmp_path))


def test_a_replay_is_what_the_tools_did(tmp_path: Path) -> None:
    """Each call as the steps that it takes; what was refused then changes nothing now."""
    editor = "str_replace_editor"
    place = trajectory(
        tmp_path,
        (editor, {"command": "create", "path": "/testbed/new/a.txt", "file_text": "one\n"}, "done", None),
        (editor, {"command": "str_replace", "path": "new/a.txt", "old_str": "one", "new_str": "two"}, "done", None),
        (editor, {"command": "insert", "path": "new/a.txt", "insert_line": 1, "new_str": "three"}, "done", None),
        (editor, {"command": "create", "path": "new/a.txt", "file_text": "x"}, "refused", None),
        ("submit", {}, "submitted", None),
        files=archived({"testbed/made": "before"}),
    )
    [episode] = load(place)
    tally, files, commands, unpacked = Tally(), dict[str, bytes](), list[tuple[str, ...]](), list[bytes]()
    flow = replay(episode, Think().draws(Random(1)), tally)
    answer: Any = None
    while True:
        try:
            step = flow.send(answer)
        except StopIteration:
            break
        answer = None
        if isinstance(step, Write):
            files[step.path] = step.data
        elif isinstance(step, Read):
            answer = files[step.path]
        elif isinstance(step, Command):
            commands.append(step.argv)
            answer = 0
        elif isinstance(step, Unpack):
            unpacked.append(step.data)
    assert files == {"/testbed/new/a.txt": b"two\nthree\n"}
    assert commands == [("test", "-e", "/testbed/new/a.txt")]
    assert [tarfile.open(fileobj=io.BytesIO(data)).getnames() for data in unpacked] == [["testbed/made"]]
    assert tally.wrong == []


def archived(files: dict[str, str]) -> str:
    """As an episode has them."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return base64.b64encode(archive.getvalue()).decode()


def test_what_a_task_is_about_is_there(tmp_path: Path) -> None:
    """Its files, in each sandbox, whether it is alone or among others, and with another runtime."""
    place = trajectory(
        tmp_path,
        (BASH, {"command": "cat data/a.txt | grep -x 'of the task'"}, "exited", 0),
        files=archived({"testbed/data/a.txt": "of the task\n"}),
    )
    bench = measured("rollout", backends=("native", "support.rivals:working"), n=2, rivals=2, episodes=place)
    assert is_good(bench)


@pytest.mark.parametrize("record", [{"name": "submit", "arguments": "{}"}, {"name": "x", "arguments": {"a": 1}, "outcome": "x"}])
def test_a_record_that_is_none(tmp_path: Path, record: dict[str, Any]) -> None:
    """What a line by hand lacks is said, with the file."""
    (tmp_path / "mine.jsonl").write_text(json.dumps({"type": "tool", **record}) + "\n")
    with pytest.raises(Unavailable, match=r"mine\.jsonl: a record of type tool has name, arguments"):
        load(str(tmp_path))


@pytest.mark.parametrize("words", ["?", base64.b64encode(b"no gzip").decode()])
def test_files_that_are_none(tmp_path: Path, words: str) -> None:
    """The message names the episode."""
    with pytest.raises(Unavailable, match="one.jsonl: the files of its task are no gzip"):
        load(trajectory(tmp_path, files=words))


@given(st.integers(), st.floats(0.01, 100), st.floats(0, 3))
def test_think_times_are_the_seeds(seed: int, median: float, sigma: float) -> None:
    """The same draws for the same seed, all above 0; and the words say what they were made from."""
    think = Think.parse(f"lognormal:{median}:{sigma}")
    first, again = think.draws(Random(seed)), think.draws(Random(seed))
    drawn = [next(first) for _ in range(20)]
    assert drawn == [next(again) for _ in range(20)] and min(drawn) > 0
    assert sigma or all(abs(one - median) < 1e-9 * median for one in drawn)
    assert str(Think.parse("none")) == "none" and next(Think().draws(Random(seed))) == 0


@pytest.mark.parametrize("words", ["", "lognormal", "lognormal:1", "lognormal:0:1", "lognormal:1:-1", "lognormal:x:1", "n:1:1"])
def test_think_times_that_are_none(words: str) -> None:
    """The message names both forms."""
    with pytest.raises(ValueError, match="lognormal:MEDIAN:SIGMA"):
        Think.parse(words)


# steady


def sdist(directory: Path, *, fails: bool = False) -> str:
    """A package with a test."""
    wanted = 2 if fails else 1
    text = f"import unittest\nclass T(unittest.TestCase):\n    def test(self):\n        self.assertEqual(1, {wanted})\n"
    file = directory / "p-1.tar.gz"
    with tarfile.open(file, "w:gz") as archive:
        for name, content in (("p-1/test_p.py", text), ("p-1/README", "p\n")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content.encode()))
    return str(file)


def test_steady_work_inside_beside_the_bare_host(tmp_path: Path) -> None:
    """As many rounds of each case on both sides, and a ratio with its interval for each."""
    bench = measured("steady", serial=10, suite=sdist(tmp_path))
    assert is_good(bench)
    found, host = counts(bench), counts(bench, "host")
    assert host and all(found[case] == host[case] == 2 for case in host)
    assert {"python", "suite"} <= {case for _, case in host}
    for case, ratio in bench.series["steady"]["native"].items():
        assert 0 < ratio["low"] <= ratio["ratio"] <= ratio["high"] and len(ratio["ratios"]) == 2
        assert any(note.startswith(f"native: {case} takes ") for note in bench.notes)


def test_a_suite_that_fails_is_a_failure(tmp_path: Path) -> None:
    """Inside and outside, and there is no ratio of it."""
    bench = measured("steady", serial=1, suite=sdist(tmp_path, fails=True))
    assert {message.partition(": exited")[0] for message in bench.errors} == {"suite", "host: suite"}
    assert "suite" not in bench.series["steady"]["native"]


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=30), st.integers())
@settings(max_examples=20, deadline=None)
def test_an_interval_holds_the_median(samples: list[float], seed: int) -> None:
    """And is no wider than the samples; of a seed it is the same again."""
    middle, low, high = interval(samples, Random(seed))
    assert min(samples) <= low <= high <= max(samples)
    assert middle in samples
    assert (middle, low, high) == interval(samples, Random(seed))


# Arrivals


@pytest.mark.parametrize("workload", ["burst", "staggered"])
def test_arrivals_are_all_answered(workload: str) -> None:
    """A first answer each; of a burst again from one event loop."""
    bench = measured(workload, backends=("native", "support.rivals:working"), n=6, interval=0.01)
    assert is_good(bench)
    for name in ("native", "rival"):
        found = counts(bench, name)
        assert found[workload, "first answer"] == found[workload, "create"] == found[workload, "destroy"] == 6
        assert values(bench, name)[f"{workload}, first answer: requests answered"] == 100
    assert ((workload, "first answer, async") in counts(bench)) == (workload == "burst")


def test_unanswered_requests_show_in_the_share() -> None:
    """Of nine requests three find no sandbox."""
    bench = measured("burst", backends=("support.rivals:failing",), n=9)
    assert values(bench, "rival")["burst, first answer: requests answered"] == pytest.approx(100 * 6 / 9)
    assert (bench.served, bench.asked, bench.failures) == (6, 9, 3)


# fork-tree


@given(st.integers(0, 10_000))
def test_the_way_to_a_node_goes_from_parent_to_child(number: int) -> None:
    """From the root to it, in steps to a child."""
    way = ancestors(number)
    assert (way[0], way[-1]) == (0, number)
    assert all(child in (2 * parent + 1, 2 * parent + 2) for parent, child in zip(way, way[1:], strict=False))


@pytest.mark.parametrize("n", [1, 2, 12])
def test_a_tree_of_forks_has_what_was_written_on_the_way(n: int) -> None:
    """A fork for each node but the root, and each tells its ancestors."""
    bench = measured("fork-tree", n=n)
    assert is_good(bench) and bench.served == n
    found = counts(bench)
    assert found.get(("fork-tree", "fork"), 0) == n - 1
    assert found["fork-tree", "exec"] == n


# freeze


def test_frozen_programs_let_others_work() -> None:
    """Each busy one is frozen, thawed by a command and frozen again; commands beside them are measured in all three states."""
    bench = measured("freeze", n=2, serial=1)
    assert is_good(bench) and bench.served == 3
    found = counts(bench)
    names = ("start a busy program", "freeze, beside busy ones", "thaw and answer", "freeze")
    assert [found["freeze", name] for name in names] == [2, 2, 2, 2]
    assert {found["freeze", f"true, beside {whom}"] for whom in ("none", "busy ones", "frozen ones")} == {20}


# density


@given(st.none() | st.integers(1, 300_000))
def test_the_steps_end_at_the_ceiling(ceiling: int | None) -> None:
    """They rise, and the last is what was asked for."""
    found = levels(ceiling)
    assert found == sorted(set(found)) and found[-1] == (LEVELS[-1] if ceiling is None else ceiling)


def test_density_stops_where_it_was_told_to() -> None:
    """All alive, each answering, with what the host's limits say of more."""
    bench = measured("density", ceiling=12)
    assert is_good(bench)
    [step] = bench.series["density"]["native"]["steps"]
    assert (step["asked"], step["alive"], step["answered"]) == (12, 12, 12)
    assert values(bench)["alive at once, each having answered"] == 12
    assert any("native: 12 alive at once, and nothing has said no" in note for note in bench.notes)
    assert {note.partition(":")[0] for note in bench.notes if "limits of this host" in note} == {"native"}


def test_density_says_what_broke() -> None:
    """Open files run out first: a finding, no failure, and no sandbox is left."""
    source = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (60, 90))
from lisrt import HostError, Sandbox
from lisrt.bench import Bench, Config
bench = Bench(Config(4, jobs=2, ceiling=400), ["native"], ["density"])
bench.run()
found = bench.series["density"]["native"]
print(found["steps"][-1]["alive"], bench.failures, bench.served == bench.asked)
print(found["broke"][0])
"""
    done = subprocess.run([sys.executable, "-c", source], env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    figures, words = done.stdout.splitlines()
    alive, failures, is_served = figures.split()
    assert 5 < int(alive) < 90 and (failures, is_served) == ("0", "True")
    assert "open files" in words


# soak


def test_a_soak_counts_what_came_and_went() -> None:
    """Every sandbox is destroyed; the gauges were looked at all along."""
    bench = measured("soak", n=3, minutes=0.03)
    assert is_good(bench)
    found = counts(bench)
    assert {metric for _, metric in found} == {"create", "exec", "write", "read", "destroy"}
    assert found["soak", "create"] == found["soak", "destroy"] == bench.served == values(bench)["created in all"]
    series = bench.series["soak"]["native"]
    wanted = {"seconds", "not available", "dentries", "this user's processes", "this process", "spawner"}
    assert wanted <= set(series["samples"][0])
    assert all(trend["grows"] is None for trend in series["trends"].values()), "two seconds say nothing"


@given(st.integers(0, 3 * KEPT), st.integers())
@settings(max_examples=10, deadline=None)
def test_kept_samples_are_some_of_those_that_came(count: int, seed: int) -> None:
    """All while there is room, then as many as there is room for, each a different one."""
    kept = Kept(Random(seed))
    for number in range(count):
        kept.add(float(number))
    samples = kept.samples()
    assert (kept.count, len(samples), len(set(samples))) == (count, min(count, KEPT), len(samples))
    assert all(0 <= one < count for one in samples)


@given(st.floats(-5, 5), st.floats(-1e3, 1e3), st.integers(2, 150), st.integers())
@settings(max_examples=30, deadline=None)
def test_a_slope_is_not_moved_by_a_few_outliers(rise: float, start: float, count: int, seed: int) -> None:
    """A line's own slope, and with one point in ten elsewhere still nearly that."""
    random = Random(seed)
    points = [(float(at), start + rise * at) for at in range(count)]
    assert slope(points, random) == pytest.approx(rise, abs=1e-6)
    spoiled = [(at, value + (1e6 if at % 10 == 5 else 0)) for at, value in points]
    if count >= 50:
        assert slope(spoiled, random) == pytest.approx(rise, abs=1e-6)


def made_up(shape: Callable[[float], float], seconds: int = 3600) -> dict[str, bool | None]:
    """An hour of one gauge, with noise; whether it grows."""
    random = Random(3)
    samples = [(float(at), {"slab": shape(at) + random.gauss(0, 1), "cgroups": 100.0}) for at in range(0, seconds, 10)]
    return {trend.gauge.name: trend.grows for trend in trends(samples, random)}


def test_what_grows_is_told_from_what_is_flat() -> None:
    """A leak of 100 MiB an hour is one; noise, a start and a peak that passes are none."""
    assert made_up(lambda at: 500 + at / 36) == {"slab": True, "cgroups": False}
    assert made_up(lambda at: 500)["slab"] is False
    assert made_up(lambda at: 500 + min(at, 300))["slab"] is False
    assert made_up(lambda at: 500 + 400 * (1700 < at < 1900))["slab"] is False
    assert made_up(lambda at: 500 - at / 36)["slab"] is False
    assert made_up(lambda at: 500 + at, seconds=300)["slab"] is None


def test_the_gauges_can_be_read_here() -> None:
    """Nothing is below 0, and the names are those that have units."""
    found = look([])
    assert set(found) <= {gauge.name for gauge in GAUGES} and min(found.values()) >= 0
    held = [open("/dev/null") for _ in range(30)]
    assert look([])["this process's files"] >= found["this process's files"] + 30
    for file in held:
        file.close()


# install


def test_no_network_is_said_in_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An index that nobody serves: a reason, neither a failure nor a crash; and the user's own cache is left alone."""
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("LISRT_CACHE", str(tmp_path / "own"))
    with pytest.raises(Unavailable, match="pip could not install here"):
        measured("install", n=2)
    assert not (tmp_path / "own").exists()


def test_every_workload_has_a_test_here() -> None:
    """A new one is entered where its tests are."""
    text = Path(__file__).read_text()
    assert all(f'"{name}"' in text for name in WORKLOADS)


def test_an_interrupted_loop_leaves_no_task() -> None:
    """A workload that runs an event loop closes it: the next one can have its own."""
    measured("burst", n=2)
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


def test_an_interrupt_is_told_from_a_fault_of_its_own() -> None:
    """Ctrl-C in the middle of a lock's work comes out as that lock's error."""
    with pytest.raises(RuntimeError) as found:
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("release unlocked lock")
    assert was_interrupted(found.value) and was_interrupted(KeyboardInterrupt())
    assert not was_interrupted(RuntimeError("release unlocked lock"))
