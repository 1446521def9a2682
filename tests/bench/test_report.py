"""The report: what it keeps, what it makes of it, and that it says the same when it is read back."""

import json
import os
from pathlib import Path

import pytest

from lisrt.bench import Recorder, document, dumps, figures, load, merge, repeatable, table, text
from lisrt.bench.backend import BackendError
from lisrt.bench.compare import split, subject
from lisrt.bench.documents import Document
from lisrt.bench.machine import anonymous, described, facts
from lisrt.bench.verdict import Verdict

from .runs import MACHINE, METRICS, real, recorder, run

ROW = {"backend", "workload", "metric", "unit", "n", "p50", "p95", "p99", "rate", "failures"}
OLD = Path(__file__).parents[2] / "bench" / "results" / "2026-11-22-debian-12-512.json"


def made(*recorders: Recorder) -> Document:
    return document(recorders, MACHINE, {}, 1, {one.backend: {} for one in recorders})


def steady(name: str, milliseconds: float, rates: dict[int, float], n: int = 40) -> Recorder:
    """A backend whose every operation takes as long, so that all ratios are known."""
    one = Recorder(name)
    for number in range(n):
        one.sample("one at a time", "create", milliseconds / 1000, number)
    for at, rate in rates.items():
        for number in range(n):
            one.sample(f"all alive, {at}", "create", milliseconds / 1000, number / rate)
        one.took(f"all alive, {at}", "create", n / rate)
    one.value("all alive, 4", "memory per idle sandbox, kernel included", "KiB", 4, 100 * milliseconds)
    return one


def ratio(document: Document, backend: str, reference: str, of: str, workload: str, metric: str = "create") -> dict[str, object]:
    wanted = (backend, reference, of, workload, metric)
    keys = ("backend", "reference", "of", "workload", "metric")
    [found] = [one for one in document["ratios"] if tuple(one[key] for key in keys) == wanted]
    return dict(found)


# What a recorder keeps


def test_samples_are_kept_in_their_order() -> None:
    """Raw, with when they ended, how many at once, and the wall-clock time."""
    one = Recorder("b")
    for seconds, ended in ((0.003, 10.0), (0.001, 10.5), (0.002, 10.25)):
        one.sample("all alive, 8", "create", seconds, ended)
    one.took("all alive, 8", "create", 0.75)
    one.concurrency("all alive, 8", 8)
    one.failed("all alive, 8", "create", "why")
    [samples] = one.samples()
    assert samples.values == (3.0, 1.0, 2.0) and samples.ended == (0.0, 0.5, 0.25)
    assert (samples.wall, samples.concurrency, samples.failures, samples.unit) == (0.75, 8, 1, "ms")
    [row] = one.rows()
    assert (row.n, row.p50, row.rate, row.failures) == (3, 2.0, 4.0, 1)


def test_a_wrong_answer_is_a_failure_and_no_sample() -> None:
    """BackendError within the block: what a workload raises when a command did something else."""
    one = Recorder("b")
    with one.timed("w", "exec") as timing:
        raise BackendError("exited with 3")
    assert not timing.ok
    assert [(samples.values, samples.failures) for samples in one.samples()] == [((), 1)]
    assert one.errors == {"exec: BackendError: exited with 3": 1}


def test_time_passes_while_it_is_measured() -> None:
    """A block's sample is not shorter than what is done in it, and ends are in the order of the blocks."""
    one = Recorder("b")
    for _ in range(3):
        with one.timed("w", "m"):
            sum(range(20_000))
    [samples] = one.samples()
    assert all(value > 0 for value in samples.values)
    assert list(samples.ended) == sorted(samples.ended) and samples.ended[0] == 0


# The document


def test_the_form_that_is_kept() -> None:
    """Rows as they always were; beside them samples, intervals, ratios, shares, the seed, the order, backends."""
    report = run("native", "floor", "docker", failing="docker")
    assert all(set(row) == ROW for row in report["rows"])
    assert {"machine", "config", "rows", "samples", "intervals", "ratios", "success", "seed", "order", "backends"} <= set(report)
    assert report["backends"]["runsc"] == {"available": False, "reason": "no runsc in PATH"}
    assert report["backends"]["docker"]["settings"]["version"] == "1.2.3"
    assert report["errors"] == {"docker": {"create: BackendError: no more of them": 3}}
    [share] = [one for one in report["success"] if one["failures"]]
    assert (share["backend"], share["attempts"], share["failures"]) == ("docker", 259, 3)
    assert share["low"] < share["share"] < share["high"] < 1
    for row in report["rows"]:
        if row["unit"] == "ms":
            key = (row["backend"], row["workload"], row["metric"])
            [raw] = [one for one in report["samples"] if (one["backend"], one["workload"], one["metric"]) == key]
            assert len(raw["values"]) == row["n"]
            if row["rate"]:
                assert len(raw["ended_s"]) == row["n"] and row["rate"] == pytest.approx(row["n"] / raw["wall_s"])


def test_every_interval_has_its_figure_in_it() -> None:
    """Of quantiles always; of rates and ratios in these runs."""
    report = run("native", "floor", "docker")
    assert len(report["intervals"]) > 20
    for one in [*report["intervals"], *report["ratios"]]:
        if one["low"] is not None:
            assert one["low"] <= one["value"] <= one["high"], one


def test_ratios_of_known_times() -> None:
    """Against the floor what we have by what it has; against others how many times better we are."""
    report = made(
        steady("native", 2.0, {4: 500.0, 64: 800.0}),
        steady("floor", 1.0, {4: 1000.0, 64: 1000.0}),
        steady("docker", 150.0, {4: 8.0, 64: 10.0}),
    )
    assert ratio(report, "native", "floor", "p50", "one at a time")["value"] == 2
    assert ratio(report, "native", "floor", "rate", "all alive, 64")["value"] == pytest.approx(0.8)
    assert ratio(report, "docker", "floor", "p50", "one at a time")["value"] == 150
    slower = ratio(report, "native", "docker", "p50", "one at a time")
    assert (slower["value"], slower["low"], slower["high"], slower["is"]) == (75, 75, 75, "docker / native")
    best = ratio(report, "native", "docker", "rate", "all alive, 4")
    assert (best["value"], best["reference_workload"], best["is"]) == (pytest.approx(50), "all alive, 64", "native / docker")
    lighter = ratio(report, "native", "docker", "p50", "all alive, 4", "memory per idle sandbox, kernel included")
    assert (lighter["value"], lighter["low"]) == (75, None)
    assert not [one for one in report["ratios"] if one["backend"] == "floor" or one["reference"] == "native"]


def test_a_run_is_analysed_alike_whatever_else_was_measured() -> None:
    """Each figure has a seed of its own; another seed gives other intervals, and the same figures."""
    alone, beside = (made(*map(recorder, names)) for names in (("native", "floor"), ("docker", "native", "podman", "floor")))
    wanted = [one for one in alone["ratios"] if one["backend"] == "native"]
    assert wanted and all(one in beside["ratios"] for one in wanted)
    other = document([recorder("native"), recorder("floor")], MACHINE, {}, 2, {})
    assert [one["value"] for one in other["ratios"]] == [one["value"] for one in alone["ratios"]]
    assert [one["low"] for one in other["ratios"]] != [one["low"] for one in alone["ratios"]]


def test_it_is_read_back_as_it_was(tmp_path: Path) -> None:
    """All of it; a list of numbers takes one line, so that a diff of two reports can be read."""
    report = run("native", "floor", "docker", failing="docker")
    path = tmp_path / "report.json"
    path.write_text(dumps(report), encoding="utf-8")
    assert load(path) == report == json.loads(path.read_text())
    [lists] = {line.count(",") for line in dumps(report).splitlines() if '"values": [' in line and line.count(",") == 256}
    assert lists == 256
    assert len(dumps(report).splitlines()) < 6000


def test_reports_of_older_versions_are_read() -> None:
    """They have rows alone: figures, but no intervals."""
    report = load(OLD)
    assert report["intervals"] == [] and report["ratios"] == []
    assert "512" in text(report) and Verdict(report).sentences()


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    """By its name, without a traceback of somebody else's making."""
    path = tmp_path / "other.json"
    for content in ('{"rows": 3, "machine": {}}', "[]", '{"rows": []}'):
        path.write_text(content)
        with pytest.raises(ValueError, match=r"other\.json is no report"):
            load(path)


# Several runs


def test_runs_are_put_together() -> None:
    """A figure comes from the first run that has it, a ratio from a run that has both sides, else from two, said so."""
    first = made(steady("native", 2.0, {}), steady("floor", 1.0, {}))
    second = made(steady("native", 3.0, {}), steady("docker", 150.0, {}))
    merged = merge([first, second])
    [own] = [row for row in merged["rows"] if (row["backend"], row["workload"]) == ("native", "one at a time")]
    assert own["p50"] == 2
    assert [row["backend"] for row in merged["rows"] if row["unit"] == "ms"] == ["native", "floor", "docker"]
    beside = ratio(merged, "native", "docker", "p50", "one at a time")
    assert (beside["value"], beside["same_run"]) == (50, True)  # 150 / 3, of the run that has both
    across = ratio(merged, "docker", "floor", "p50", "one at a time")
    assert (across["value"], across["same_run"]) == (150, False)
    assert [one["backends"] for one in merged["runs"]] == [["native", "floor"], ["native", "docker"]]
    assert merge([first]) is first


def test_what_was_added_to_reports_stays() -> None:
    """Notes of both, series of each backend from the first run that has it; a series is a line for each moment."""
    first, second = real("native"), real("native", "docker")
    second["notes"] = ["another"]
    second["series"]["soak"]["docker"] = {"samples": []}
    merged = merge([first, second])
    assert merged["notes"] == ["native: slab is flat", "another"]
    assert set(merged["series"]["soak"]) == {"native", "docker"} and set(merged["series"]) == {"soak", "density"}
    assert len([line for line in dumps(first).splitlines() if '"seconds"' in line and '"slab"' in line]) == 360
    assert json.loads(dumps(merged)) == merged


def test_runs_of_two_machines_are_not_compared() -> None:
    """A ratio across machines would say more of them than of what ran there."""
    first, second = made(steady("native", 2.0, {})), made(steady("docker", 150.0, {}))
    second["machine"] = MACHINE | {"cpu": "Another Processor"}
    assert merge([first, second])["ratios"] == []


# What is shown


def test_the_table_of_several_backends() -> None:
    """All of them beside each other, at most 100 columns, with their ratios; nothing is cut where it is piped to."""
    report = run("native", "floor", "bwrap", "docker", failing="docker")
    lines = text(report).splitlines()
    assert max(map(len, lines)) <= 100 and "…" not in text(report) and "\x1b" not in text(report)
    heading = next(line for line in lines if "p50 ms" in line)
    assert "× floor" in heading and "× docker" in heading
    assert len([line for line in lines if " native " in f"{line} " and "KiB" not in line]) == 4 * len(METRICS)
    assert "3 (1.2 %)" in text(report)
    assert any(line.startswith("create: ") and "× docker's best" in line for line in lines)


def test_the_table_of_one_backend_is_as_narrow_as_it_was() -> None:
    """No column for what there is only one of; rows alone do, too."""
    one = recorder("native")
    assert max(map(len, text(made(one)).splitlines())) <= 80
    assert table(one.rows()).columns[0].header == "" and len(table(one.rows()).columns) == 8
    assert figures(one.rows())[0].startswith("memory per idle sandbox, kernel included: ")


def test_targets_are_met_or_missed_or_open() -> None:
    """By the whole interval; where the limit is within it nothing is claimed."""
    report = made(
        steady("native", 2.5, {64: 400.0}), steady("floor", 1.0, {64: 1000.0}), steady("docker", 150.0, {64: 10.0})
    )  # fmt: skip
    held = {one.name: one for one in Verdict(report).targets() if one.ratio is not None}
    assert held["create"].held is False and (held["create"].target, held["create"].measured) == ("≤ 2× the floor's time", "2.50×")
    assert held["creates per second"].held is False
    assert held["memory per idle sandbox"].held is True
    for one in report["ratios"]:
        one["low"], one["high"] = 0.001, 1000
    assert [one.held for one in Verdict(report).targets()][:2] == [None, None]


def test_nearly_met_is_missed() -> None:
    """And does not read as if it were met."""
    report = made(steady("native", 2.0, {64: 499.7}), steady("docker", 150.0, {64: 10.0}))
    [one] = [one for one in Verdict(report).targets() if one.name == "creates per second"]
    assert (one.held, one.measured) == (False, "49.97×")


def test_targets_that_are_no_ratios() -> None:
    """512 alive within a second, by the rate of as many or more; half a megabyte."""
    one = steady("native", 3.0, {})
    for number in range(600):
        one.sample("all alive", "create", 0.001, number / 700)
    one.concurrency("all alive", 600)
    one.took("all alive", "create", 600 / 700)
    held = {one.name: one for one in Verdict(made(one)).targets()}
    assert held["512 alive"].held is True and held["512 alive"].measured.startswith("731")
    assert held["memory per idle sandbox"].held is True
    assert not [one for one in Verdict(made(steady("native", 5.0, {64: 400.0}))).targets() if one.held is not False]


def test_the_verdict_is_made_of_the_figures() -> None:
    """Sentences with the numbers of this run; who is ahead of us is named."""
    report = made(
        steady("native", 2.0, {64: 500.0}), steady("floor", 1.0, {64: 1000.0}), steady("docker", 150.0, {64: 10.0}),
        steady("rival", 1.0, {64: 700.0}),
    )  # fmt: skip
    said = "\n".join(Verdict(report).sentences()).replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert "Creating a sandbox takes 2.00 ms (median of 40, 95 % interval 2.00–2.00 ms): 2.00× the floor in C" in said
    assert "Docker takes 150 ms, 75× as long." in said
    assert "500 sandboxes per second (all alive, 64; 40 within 80.0 ms), 50 % of the floor's rate; that is 50× Docker's" in said
    assert "None of its 80 operations failed." in said
    assert "Others are ahead: rival in create (2.00–2.00×, in 2 rows), create per second (1.40×)" in said
    assert "rival" not in "".join(Verdict(made(steady("native", 2.0, {}))).sentences())


def test_names_in_the_table_are_text() -> None:
    """Brackets are no markup."""
    one = Recorder("[red]b[/red]")
    one.sample("[bold]w", "[i]m", 0.001)
    assert "[bold]w" in text(made(one)) and "[i]m" in text(made(one))
    assert "[red]b[/red]" in text(made(one, recorder("floor")))


def test_whom_a_report_is_about() -> None:
    """lisrt where it is, else the first that is no floor."""
    assert subject(["docker", "native", "floor"]) == "native"
    assert subject(["floor", "docker"]) == "docker"
    assert subject(["floor"]) is None and subject([]) is None


def test_workloads_name_their_concurrency() -> None:
    """Behind the last comma; other commas are names."""
    assert split("all alive, 64") == ("all alive", 64)
    assert split("burst, hot, 5,000") == ("burst, hot", 5000)
    assert split("create, limited") == ("create, limited", None)


# The machine


def test_the_facts_of_this_machine() -> None:
    """They fit JSON, and what they say is in one line."""
    known = facts()
    assert json.loads(json.dumps(known)) == known
    assert f"Linux {known['kernel']}" in described(known) and f"lisrt {known['lisrt']}" in described(known)
    assert all(word.split("=")[0] != "console" for word in known["mitigation_parameters"])
    assert described({}) == ""


def test_reports_name_no_place_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither failures, nor settings, nor the command; paths inside a sandbox stay."""
    home = os.path.expanduser("~")
    message = f"[Errno 28] full: '{home}/secret/file', also {home} and /usr/bin/true, {os.getcwd()}/x"
    cleaned = anonymous(message)
    assert home not in cleaned and "secret" not in cleaned and os.getcwd() not in cleaned
    assert "/usr/bin/true" in cleaned and "[Errno 28] full: '" in cleaned
    one = Recorder("native")
    one.failed("w", "m", message)
    report = document([one], {}, {}, 1, {"native": {"socket": f"{home}/run/socket"}, "x": f"no {home}/x"}, command=f"{home}/b")
    assert home not in dumps(report)


def test_the_command_that_repeats_a_run() -> None:
    """Where its reports went to is nobody's business, and no part of it."""
    argv = ["bench", "-n", "8", "--json", "/a/b.json", "--backend", "native,docker", "--html=/c/d.html", "--image", "a b"]
    assert repeatable(argv) == "lisrt bench -n 8 --backend native,docker --image 'a b'"


def test_rows_of_a_place_stand_together() -> None:
    """However the recorders came: by workload and operation, then by backend."""
    report = made(steady("native", 2.0, {4: 9.0}), steady("floor", 1.0, {4: 10.0}))
    lines = [line.split() for line in text(report).splitlines() if "×" not in line and "memory" not in line]
    assert [name for words in lines for name in words if name in ("native", "floor")] == ["native", "floor"] * 2
