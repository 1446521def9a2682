"""`lisrt.agent.view`: what a trajectory is shown as, in plain values and in the terminal."""

import io
import itertools
import re
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from support.episodes import (
    BASH,
    EDIT,
    HOSTILE,
    SUBMIT,
    USAGE,
    asked,
    end,
    hostile_episode,
    is_harmless,
    record,
    response,
    result,
    sandbox,
    start,
    tool,
    whole,
    write,
)  # fmt: skip

from lisrt.agent.view import Call, NotATrajectory, Note, Place, Run, Screen, Trajectory, Turn, find, page
from lisrt.agent.view.words import pieces, visible

ROOT = Path(__file__).resolve().parent.parent.parent
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def turns(path: Path) -> list[Turn]:
    return [one for one in Trajectory(path) if isinstance(one, Turn)]


def notes(path: Path) -> list[Note]:
    return [one for one in Trajectory(path) if isinstance(one, Note)]


def calls(turn: Turn) -> list[Call]:
    return [step for step in turn.steps if isinstance(step, Call)]


def shown(path: Path, *, full: bool = False, **console: Any) -> str:
    """What the terminal gets."""
    screen = Screen(Console(file=io.StringIO(), highlight=False, **console), full=full)
    place = find(path)
    if isinstance(place, Run):
        return "".join(screen.run(place, place.rows()))
    return "".join(screen.episode(place, Trajectory(place.trajectory)))


# Words


@given(st.text() | st.text(alphabet=st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp", "Zs", "Lu"])))
def test_any_text_can_be_had_back_from_what_is_shown(text: str) -> None:
    """Nothing is lost, and nothing is left that a terminal obeys or that can't be seen."""
    back = "".join(piece.encode("ascii").decode("unicode_escape") if odd else piece for piece, odd in pieces(text))
    assert back.encode("utf-8", "surrogatepass") == text.encode("utf-8", "surrogatepass")
    assert all(map(is_harmless, visible(text)))
    assert not {"\u2028", "\u2029", "\x85"} & set(visible(text))


# Plain values


def test_an_episode_in_turns(tmp_path: Path) -> None:
    """Replies, the calls that they made, and what came of them, in order."""
    path = write(tmp_path / "trajectory.jsonl", whole())
    first, second = turns(path)
    assert (first.number, first.thoughts, first.text) == (1, "Numbers are in a file.", "I'll look first.")
    assert [note.kind for note in first.before] == ["retry"]
    bash, edit, egress = first.steps
    assert isinstance(bash, Call) and isinstance(edit, Call) and isinstance(egress, Note)
    assert (bash.name, bash.title, bash.look) == ("execute_bash", "timeout 30 s", "poor")
    assert [(part.kind, part.text) for part in bash.parts] == [("script", "wc -l numbers.txt\npython3 sum.py")]
    assert bash.outcome == "exit code 1" and bash.observation is not None and "no sum.py" in bash.observation
    assert edit.title == "str_replace /testbed/sum.py"
    assert [(part.kind, part.text) for part in edit.parts] == [("removed", "a - b"), ("added", "a + b")]
    assert "pypi.org:443" in egress.title and "denied" in egress.text
    assert [call.outcome for call in calls(second)] == ["submitted"]
    assert [note.kind for note in notes(path)] == ["sandbox", "output"]
    seen = Trajectory(path).overview
    assert (seen.turns, seen.usage["prompt"], seen.latency, seen.tool_time) == (2, 2400, 5.0, 0.75)


def test_calls_without_an_end(tmp_path: Path) -> None:
    """A process that was killed while a tool ran: the call is shown, and that nothing is known of it."""
    path = write(tmp_path / "t.jsonl", [start(), sandbox(), response(1, "", BASH, EDIT), tool(1, BASH, "ok", exit_code=0)])
    [turn] = turns(path)
    assert [(call.name, call.look) for call in calls(turn)] == [("execute_bash", "good"), ("str_replace_editor", "none")]
    assert "not recorded" in calls(turn)[1].outcome


@pytest.mark.parametrize(
    ("protocol", "text"),
    [
        ("bash", "So:\n```bash\nls\n```\n"),
        ("xml", "<function=execute_bash><parameter=command>ls</parameter></function>"),
        ("json", '{"thought": "", "tool": "execute_bash", "arguments": {"command": "ls"}}'),
    ],
)
def test_calls_in_the_text_of_a_reply(tmp_path: Path, protocol: str, text: str) -> None:
    """They are found as the loop has found them."""
    path = write(tmp_path / "t.jsonl", [start(agent={"protocol": protocol}), response(1, text)])
    [turn] = turns(path)
    assert [part.text.strip() for call in calls(turn) for part in call.parts] == ["ls"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("{not json", ["{not json"]),
        ('{"command": 5, "path": ["a"], "view_range": [3, -1]}', ["5", "path", '"a"', "lines 3 to -1"]),
        ("[1]", ["[1]"]),
        ('{"x": ' + "[" * 50_000 + "}", ["[" * 40]),
        ("", []),
    ],
)
def test_arguments_of_any_kind(tmp_path: Path, arguments: str, words: list[str]) -> None:
    """What is not understood is shown as it was sent."""
    one = tool(1, {"id": "c", "function": {"name": "str_replace_editor", "arguments": arguments}}, "Error: no", "refused")
    path = write(tmp_path / "t.jsonl", [start(), one])
    [call] = calls(turns(path)[0])
    said = call.title + "".join(f"{part.label} {part.text}" for part in call.parts)
    assert call.look == "bad"
    assert all(word in said for word in words)


def test_what_a_resume_has_taken_back(tmp_path: Path) -> None:
    """It is there, marked; figures are those of what counts."""
    records = [start(), sandbox(), response(1, "one", BASH), tool(1, BASH, "kept", exit_code=0)]
    records += [record("checkpoint", turn=1, directory="turn-1"), response(2, "undone", EDIT), tool(2, EDIT, "undone", "done")]
    records += [end("stopped", None, 2)]
    gone_on = record("resume", kept=5, turn=1, from_checkpoint=True, taken_back=["call_2"], uncertain=[], versions={})
    records += [gone_on, sandbox(input=None), response(2, "anew", SUBMIT), tool(2, SUBMIT, "Submitted.", "submitted"), end()]
    path = write(tmp_path / "t.jsonl", records)
    assert [(turn.number, turn.text, turn.taken_back) for turn in turns(path)] == [
        (1, "one", False), (2, "undone", True), (2, "anew", False),
    ]  # fmt: skip
    seen = Trajectory(path).overview
    assert (seen.turns, seen.taken_back, seen.resumes) == (2, 1, 1)
    assert seen.usage["prompt"] == 3 * USAGE["prompt"], "all of them were paid for"
    assert (seen.end or {})["exit_reason"] == "submitted"
    assert [note.text for note in notes(path) if note.kind == "resume"] == ["taken back: 1 tool call (call_2)"]
    text = shown(path)
    assert text.index("undone") < text.index("anew") and "taken back by a resume" in text


def test_a_resume_from_the_beginning(tmp_path: Path) -> None:
    """All but the start is taken back, and it has not ended yet."""
    resumed = record("resume", kept=1, turn=0, from_checkpoint=False, taken_back=[], uncertain=["call_1"])
    path = write(tmp_path / "t.jsonl", [start(), sandbox(), response(1, "one", BASH), end("cancelled", None), resumed])
    assert [turn.taken_back for turn in turns(path)] == [True]
    seen = Trajectory(path).overview
    assert (seen.turns, seen.end) == (0, None)
    assert "call_1" in shown(path)


@pytest.mark.parametrize("kept", [None, -1, 99, "1", True, 1.5])
def test_a_resume_that_makes_no_sense(tmp_path: Path, kept: object) -> None:
    path = write(tmp_path / "t.jsonl", [start(), response(1, "one"), record("resume", kept=kept)])
    assert len(turns(path)) == 1 and "resumed" in shown(path)


def test_a_last_answer_that_was_asked_for(tmp_path: Path) -> None:
    """After the output: a reminder, and a reply that is the answer."""
    records = [start(), response(1, "", BASH), tool(1, BASH, "", exit_code=0), record("output", files=0, directories=0, bytes=0)]
    records += [record("reminder", turn=1, content="Answer now."), response(2, "42"), end("max_turns", "42", answer_from="reply")]
    path = write(tmp_path / "t.jsonl", records)
    assert [turn.text for turn in turns(path)] == ["", "42"]
    assert [note.kind for note in notes(path)] == ["output", "reminder"]
    assert "asked for" in shown(path)


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "bench/episodes").glob("*.jsonl")))
def test_trajectories_of_format_1(name: str) -> None:
    """The repository's own: no `agent`, no model, no replies."""
    path = ROOT / "bench/episodes" / name
    assert all(calls(turn) for turn in turns(path))
    assert "submitted" in shown(path)
    assert "".join(page(Place(path, None), Trajectory(path))).endswith("</html>\n")


def test_records_of_any_form(tmp_path: Path) -> None:
    """Fields that lack, or are of another type, break nothing."""
    kinds = "sandbox hint retry trim response tool egress reminder checkpoint resume output end".split()
    values: list[Any] = [None, 5, -1, 1e999, float("nan"), 10**400, "text", [1], {"a": [None]}, True]
    fields = "turn id name arguments observation outcome duration message usage latency content exit_code signal cut input"
    records = [start(agent=5, model=[], messages=[3, {"content": [1]}], limits="x", files={"a": 1}, id=["x"], versions=None)]
    for value in values:
        for kind in kinds:
            records += [record(kind), record(kind, **dict.fromkeys(fields.split(), value))]
            records += [record(kind, message={"content": value})]
            records += [record("from-the-future", turn=value, told=value)]
    path = write(tmp_path / "t.jsonl", [*records, record("end", answer=7, duration="x", usage=[], turns=None)])
    assert "from-the-future" in shown(path, full=True)
    assert "".join(page(Place(path, None), Trajectory(path))).endswith("</html>\n")


# Files that are whole, or not


def test_an_episode_that_has_not_ended(tmp_path: Path) -> None:
    """Also with half a last line, as a process that is killed leaves it."""
    path = write(tmp_path / "trajectory.jsonl", whole()[:-2])
    with path.open("a") as file:
        file.write('{"type": "output", "fi')
    assert Trajectory(path).overview.end is None
    assert len(turns(path)) == 2
    assert "the record stops" in shown(tmp_path)


@pytest.mark.parametrize("text", ["", '{"type": "sta'])
def test_an_episode_that_had_not_begun(tmp_path: Path, text: str) -> None:
    (tmp_path / "trajectory.jsonl").write_text(text)
    assert Trajectory(tmp_path / "trajectory.jsonl").overview.records == 0
    assert "no record" in shown(tmp_path)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("no newline", "no trajectory"),
        ("plain text\n", "line 1"),
        ("[1]\n", "line 1"),
        ('{"type": "start"}\n{"type": 5}\n', "line 2"),
        ('{"type": "start"}\n\n', "line 2"),
        ('{"type": "end"}\n', "begin"),
        ('{"type": "start", "format": 3}\n', "format 3"),
        ('{"type": "start", "x": ' + "[" * 100_000 + "]" * 100_000 + "}\n", "line 1"),
    ],
)
def test_what_is_no_trajectory_is_named(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text(text)
    with pytest.raises(NotATrajectory, match=why):
        Trajectory(path)


def test_a_large_trajectory_is_not_held(tmp_path: Path) -> None:
    """20 MB are shown, in the terminal and as a page, in a fraction of the memory."""
    call = asked("execute_bash", "c", command="cat data")
    text = ("x" * 99 + "\n") * 1000
    pairs = ([response(turn, "more", call), tool(turn, call, text, exit_code=0)] for turn in range(1, 201))
    path = write(tmp_path / "trajectory.jsonl", [start(), *itertools.chain(*pairs), end(turns=200)])
    size = path.stat().st_size
    assert size > 20_000_000
    tracemalloc.start()
    try:
        place = find(path)
        assert isinstance(place, Place)
        written = sum(map(len, page(place, Trajectory(path), full=True)))
        screen = Screen(Console(file=io.StringIO()))
        assert sum(map(len, screen.episode(place, Trajectory(path)))) < 2_000_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert written > 0.9 * size
    assert peak < size / 4


# The terminal


@pytest.mark.parametrize("console", [{}, {"width": 30, "force_terminal": True, "color_system": "truecolor"}])
def test_the_terminal_is_told_nothing_by_strangers(tmp_path: Path, console: dict[str, Any]) -> None:
    """Colours are rich's own; nothing else that a terminal obeys, and no text is markup."""
    write(tmp_path / "trajectory.jsonl", hostile_episode())
    for full in (False, True):
        text = shown(tmp_path, full=full, **console)
        plain = COLOURS.sub("", text)
        assert all(map(is_harmless, plain))
        assert "\u202e" not in plain and "\x1b[31m" + "red" not in text
        whole_text = plain if not console else "".join(line.strip(" │") for line in plain.splitlines())
        assert "[red]markup[/red]" in whole_text and r"\x1b" in whole_text and r"\u202e" in whole_text
        assert bool(console) == (text != plain)


@pytest.mark.parametrize("width", [24, 40, 100])
def test_no_line_is_wider_than_the_terminal(tmp_path: Path, width: int) -> None:
    """Folded, and nothing lost: also wide letters."""
    call = asked("execute_bash", "c", command="echo " + "漢字 " * 60)
    records = [start("long " * 50), sandbox(), response(1, "word " * 100, call), tool(1, call, "y" * 500, exit_code=0), end()]
    path = write(tmp_path / "trajectory.jsonl", records)
    text = shown(path, width=width, force_terminal=True, color_system=None, full=True)
    assert max(map(cell_len, text.splitlines())) <= width
    assert (text.count("漢字"), sum(line.strip(" │").count("y" * 8) * 8 for line in text.splitlines()) > 300) == (60, True)


def test_long_observations_are_cut_unless_full(tmp_path: Path) -> None:
    """Head, a line that says how much is missing, tail."""
    text = "".join(f"line {number}\n" for number in range(1000))
    path = write(tmp_path / "t.jsonl", [start(), response(1, "", BASH), tool(1, BASH, text, exit_code=0), end()])
    cut, full = shown(path), shown(path, full=True)
    assert "line 0\n" in cut and "line 999\n" in cut and "line 500\n" not in cut
    assert re.search(r"9\d\d lines left out", cut)
    assert "line 500\n" in full and "left out" not in full


def test_the_head_says_what_was_enforced(tmp_path: Path) -> None:
    path = write(tmp_path / "trajectory.jsonl", whole())
    text = shown(path)
    told = "some-model|2 GiB, by a control group|2,400 read|12.5 s|submitted|from the answer file|image host"
    for words in told.split("|"):
        assert words in text
    assert text.index("Add the numbers up.") < text.index("Turn 1") < text.index("Turn 2")


# A run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Three that have ended, one that has not, one that was none."""
    results = [result("t-10"), result("t-2", "max_turns", None, error="too slow")]
    results += [result("t-1", "sandbox_died", None, attempts=3)]
    results += [result("bad", "bad_task", None, error="line 3: no prompt", turns=0, attempts=0)]
    write(tmp_path / "results.jsonl", results)
    write(tmp_path / "episodes/t-10/trajectory.jsonl", whole())
    write(tmp_path / "episodes/t-2/trajectory.jsonl", whole())
    write(tmp_path / "episodes/t-1/trajectory.jsonl", [start("first try")])
    write(tmp_path / "episodes/t-1/trajectory-2.jsonl", [start("second try")])
    write(tmp_path / "episodes/t-4/trajectory.jsonl", [start(id="t-4"), response(1, "at work")])
    write(tmp_path / "episodes/broken/trajectory.jsonl", [{"x": 1}])
    return tmp_path


def test_the_tasks_of_a_run(run: Path) -> None:
    """Those that have ended and those that have not, in the order of their numbers."""
    place = find(run)
    assert isinstance(place, Run)
    rows = {row.id: row for row in place.rows()}
    assert list(rows) == ["bad", "broken", "t-1", "t-2", "t-4", "t-10"]
    assert (rows["t-10"].reason, rows["t-10"].answer, rows["t-10"].tokens) == ("submitted", "42", 1280)
    assert (rows["t-4"].reason, rows["t-4"].turns) == ("not ended", 1)
    assert rows["bad"].place is None and rows["broken"].place is None
    last = rows["t-1"].place
    assert last is not None and last.trajectory.name == "trajectory-2.jsonl" and len(last.earlier) == 1
    assert isinstance(find(run / "results.jsonl"), Run)


@pytest.mark.parametrize("console", [{}, {"width": 100, "force_terminal": True}, {"width": 30, "force_terminal": True}])
def test_the_table_of_a_run(run: Path, console: dict[str, Any]) -> None:
    text = COLOURS.sub("", shown(run, **console))
    for row in ("t-10", "max_turns", "not ended"):
        assert row in text
    assert re.search(r"1 +submitted", text)
    assert ("too slow" in text) == (console.get("width") != 30)
    assert max(map(cell_len, text.split("One of them")[0].splitlines())) <= console.get("width", 200)


def test_an_answer_of_any_form_is_one_cell(tmp_path: Path) -> None:
    write(tmp_path / "results.jsonl", [result(HOSTILE, HOSTILE, HOSTILE * 100), result("t", answer="\n\n  漢字 first\nsecond")])
    text = shown(tmp_path)
    assert all(map(is_harmless, text)) and "漢字 first" in text and "second" not in text
    assert [line for line in text.splitlines() if "alert" in line]


def test_a_run_without_tasks(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text("")
    assert "0 tasks" in shown(tmp_path)


def test_files_belong_to_the_last_attempt(run: Path) -> None:
    (run / "episodes/t-1/files").mkdir()
    for name, expected in (("trajectory.jsonl", False), ("trajectory-2.jsonl", True), ("", True)):
        place = find(run / "episodes/t-1" / name)
        assert isinstance(place, Place) and (place.files is not None) == expected


@pytest.mark.parametrize("line", ["not json\n", "[1]\n", '{"x": 1}\n'])
def test_results_that_are_none(tmp_path: Path, line: str) -> None:
    (tmp_path / "results.jsonl").write_text(line)
    with pytest.raises(NotATrajectory, match="line 1"):
        Run(tmp_path).rows()


def test_a_directory_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(NotATrajectory, match="holds no trajectory"):
        find(tmp_path)
