"""The ten examples, each solved in a real sandbox by a scripted model and judged by its own check; and the checks themselves, by
results that are wrong in one thing each."""

import hashlib
import importlib.util
import json
import re
import runpy
import shutil
import struct
import subprocess
import sys
import wave
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.fresh import environment
from support.model_server import Answer, Completion, ModelServer, Request, calls, tool_call

from lisrt.agent import Agent, Batch, ExitReason, Model, Task, read_tasks, read_trajectory

pytest.importorskip("openai")

pytestmark = pytest.mark.usefixtures("working_host")

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/play.py"))

Turn = list[str | tuple[str, dict[str, Any]]]


def play(name: str) -> list[Turn]:
    """The model's turns: what it says, and its calls."""
    turns: list[Turn] = runpy.run_path(str(EXAMPLES / name / "play.py"))["PLAY"]
    return turns


def completion(turn: Turn, number: int) -> Completion:
    said = [part for part in turn if isinstance(part, str)]
    made = [part for part in turn if not isinstance(part, str)]
    ids = (f"call_{number}_{place}" for place in range(len(made)))
    return calls(
        *(tool_call(name, arguments, id=one) for (name, arguments), one in zip(made, ids, strict=True)),
        content=" ".join(said) or None,
    )


def player(tasks: dict[str, Task]) -> Callable[[Request], Answer]:
    """A model that knows what to do by the prompt, and how far it is by what it has said."""
    plays = {name: play(name) for name in tasks}

    def answer(request: Request) -> Answer:
        prompt = request.messages[1]["content"]
        name = next(name for name, task in tasks.items() if task.prompt in prompt)
        number = sum(message["role"] == "assistant" for message in request.messages)
        return completion(plays[name][number], number)

    return answer


def agent_for(server: ModelServer) -> Agent:
    return Agent(Model("test-model", server.base_url, api_key="none", retries=0))


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the examples as they are in the repository, with the reports written."""
    copy = tmp_path_factory.mktemp("shipped") / "examples"
    left_out = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(EXAMPLES, copy, ignore=left_out)
    shutil.rmtree(copy / "09-long-documents/input", ignore_errors=True)
    subprocess.run([sys.executable, copy / "09-long-documents/make_input.py"], check=True, timeout=50)
    return copy


@pytest.fixture(scope="module")
def tasks(shipped: Path) -> dict[str, Task]:
    found = list(read_tasks(shipped / "tasks.jsonl"))
    assert all(isinstance(task, Task) for task in found), found
    return {task.id: task for task in found if isinstance(task, Task)}


@pytest.fixture(scope="module")
def judge() -> Callable[[str, str | None, Path], str | None]:
    spec = importlib.util.spec_from_file_location("examples_check", EXAMPLES / "check.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[[str, str | None, Path], str | None] = module.judge
    return found


@pytest.fixture(scope="module")
def solved(working_host: None, tasks: dict[str, Task], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of all ten at once."""
    folder = tmp_path_factory.mktemp("runs") / "all"
    with pytest.MonkeyPatch.context() as environment, ModelServer(player(tasks)) as server:
        for name in ("no_proxy", "NO_PROXY"):  # see conftest.py, whose fixture is for one test
            environment.setenv(name, "127.0.0.1")
        results = list(Batch(agent_for(server), tasks.values(), concurrency=10, folder=folder).results())
    assert server.violations == []
    assert {result.task.id: result.episode.exit_reason for result in results} == dict.fromkeys(NAMES, ExitReason.SUBMITTED)
    yield folder


def outcome(run: Path, name: str) -> tuple[str, Path]:
    """The answer and the files of one of the ten."""
    lines = (json.loads(line) for line in (run / "results.jsonl").read_text().splitlines())
    return next(line["answer"] for line in lines if line["task"] == name), run / "episodes" / name / "files"


def test_ten_kinds_of_task(tasks: dict[str, Task]) -> None:
    """A task, a check, a play and a row of the README for each, and no two alike."""
    assert list(tasks) == NAMES
    assert [name[:2] for name in NAMES] == [f"{number:02}" for number in range(1, 11)]
    readme = (EXAMPLES / "README.md").read_text()
    assert all(f"[{name}]({name}/)" in readme for name in NAMES)
    for name, task in tasks.items():
        assert task.prompt not in "".join(other.prompt for other in tasks.values() if other is not task)
        assert (task.input_dir is not None) == (EXAMPLES / name / "input").is_dir() or name == "09-long-documents"


@pytest.mark.parametrize("name", NAMES)
def test_solved(
    name: str, tasks: dict[str, Task], judge: Callable[[str, str | None, Path], str | None], tmp_path: Path
) -> None:
    """Each alone, and with a record that tells of every call."""
    with ModelServer(player({name: tasks[name]})) as server:
        episode = agent_for(server).run_sync(
            tasks[name], output_dir=tmp_path / "files", trajectory=tmp_path / "trajectory.jsonl"
        )
    assert server.violations == []
    assert (episode.exit_reason, episode.error) == (ExitReason.SUBMITTED, None)
    assert judge(name, episode.answer, tmp_path / "files") is None
    made = [part for turn in play(name) for part in turn if not isinstance(part, str)]
    told = [record for record in read_trajectory(tmp_path / "trajectory.jsonl") if record["type"] == "tool"]
    assert [(record["name"], json.loads(record["arguments"])) for record in told] == made


@pytest.mark.parametrize("name", NAMES)
def test_the_work_is_real(name: str, solved: Path) -> None:
    """Something goes wrong on the way to each answer and is mended, and no answer stands in what the model says."""
    answer, _ = outcome(solved, name)
    told = [one for one in read_trajectory(solved / "episodes" / name / "trajectory.jsonl") if one["type"] == "tool"]
    failed = [one for one in told if one["outcome"] in ("refused", "timed_out") or one.get("exit_code")]
    assert failed
    assert told[-2].get("exit_code") == 0, "the last command has failed"
    if name[:2] in ("01", "07", "08", "09"):  # those of the others stand everywhere, or are made up
        assert answer.strip() not in "".join(one["arguments"] for one in told)


def test_the_plays_use_what_there_is(solved: Path) -> None:
    """All commands of the editor, calls that are refused, killed and left in the background, and several in a turn."""
    outcomes, commands, scripts, most = set(), set(), "", 0
    for name in NAMES:
        records = read_trajectory(solved / "episodes" / name / "trajectory.jsonl")
        told = [record for record in records if record["type"] == "tool"]
        outcomes |= {record["outcome"] for record in told}
        for record in told:
            arguments = json.loads(record["arguments"])
            if record["name"] == "str_replace_editor":
                commands.add(arguments["command"])
            scripts += arguments.get("command", "") + "\n"
        turns = [record["turn"] for record in told]
        most = max(most, *map(turns.count, turns))
    assert outcomes >= {"done", "exited", "refused", "timed_out", "submitted"}
    assert commands == {"view", "create", "str_replace", "insert", "undo_edit"}
    assert re.search(r" & echo \$! ", scripts)
    assert most >= 4


def checked(run: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, EXAMPLES / "check.py", run], capture_output=True, text=True, timeout=50)


def test_all_at_once(solved: Path) -> None:
    """By the program that users run."""
    done = checked(solved)
    assert (done.returncode, done.stderr) == (0, "")
    *lines, last = done.stdout.splitlines()
    assert [line.split() for line in lines] == [[name, "submitted", "solved"] for name in NAMES]
    assert last == "10 of 10 solved"


@pytest.mark.parametrize("which", ["tasks.jsonl", "one.jsonl"])
def test_on_the_command_line(which: str, shipped: Path, tasks: dict[str, Task], tmp_path: Path) -> None:
    """As the README says: all, and one alone, from a file that lies elsewhere."""
    lines = (shipped / "tasks.jsonl").read_text().splitlines(keepends=True)
    wanted = lines if which == "tasks.jsonl" else [line for line in lines if "07-physics" in line]
    (tmp_path / which).write_text("".join(wanted))
    with ModelServer(player(tasks)) as server:
        options = ["--concurrency", "4", "--output", "runs/first", "--model", "my-model", "--base-url", server.base_url]
        command = [sys.executable, "-m", "lisrt", "run", "--tasks", which, "--input-root", shipped, *options]
        env = environment(HOME=str(tmp_path), OPENAI_API_KEY="none")
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout) == (0, "runs/first\n"), done.stderr
    assert server.violations == []
    assert checked(tmp_path / "runs/first").stdout.endswith(f"\n{len(wanted)} of {len(wanted)} solved\n")


def test_the_program_says_what_was_not_solved(solved: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(solved, run)
    (run / "episodes/03-video/files/bounce.avi").unlink()
    with (run / "results.jsonl").open("a") as file:
        file.write(json.dumps({"task": "11-cookery", "exit_reason": "submitted", "answer": "soup"}) + "\n")
    done = checked(run)
    assert done.returncode == 1
    told = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert "bounce.avi" in told["03-video"]
    assert "there is no such example" in told["11-cookery"]
    assert done.stdout.endswith("9 of 11 solved\n")


def test_a_run_that_is_none(tmp_path: Path) -> None:
    done = checked(tmp_path)
    assert done.returncode == 2
    assert "there is no run of tasks" in done.stderr
    (tmp_path / "results.jsonl").touch()
    assert checked(tmp_path).returncode == 1, "of none none is solved"


def test_the_reports_are_long_and_always_the_same(tasks: dict[str, Task]) -> None:
    directory = tasks["09-long-documents"].input_dir
    assert directory is not None
    reports = [path.read_bytes() for path in sorted(directory.iterdir())]
    assert len(reports) == 4
    assert min(map(len, reports)) > 100_000
    assert hashlib.sha256(b"".join(reports)).hexdigest()[:16] == "a6fa6179b49116b5", "another Python writes other reports"


# --- results that are wrong in one thing ---

Break = Callable[[str, Path], str | None]


def answer(text: str | None) -> Break:
    """The files as they should be, and this answer."""
    return lambda _answer, _files: text


def edit(name: str, old: str | bytes, new: str | bytes) -> Break:
    """One thing in one file."""

    def change(right: str, files: Path) -> str:
        data = (files / name).read_bytes()
        before, after = (part.encode() if isinstance(part, str) else part for part in (old, new))
        assert before in data, f"{name} has no {before!r}"
        (files / name).write_bytes(data.replace(before, after))
        return right

    return change


def say(old: str, new: str) -> Break:
    """One thing in the answer."""

    def change(right: str, _files: Path) -> str:
        assert old in right, f"the answer has no {old!r}"
        return right.replace(old, new, 1)

    return change


def cut(name: str) -> Break:
    def change(right: str, files: Path) -> str:
        data = (files / name).read_bytes()
        (files / name).write_bytes(data[: len(data) * 2 // 3])
        return right

    return change


def made(name: str, make: Callable[[bytes], bytes]) -> Break:
    def change(right: str, files: Path) -> str:
        (files / name).write_bytes(make((files / name).read_bytes()))
        return right

    return change


def taller(page: bytes) -> bytes:
    """A map in which north-south has twice the scale of east-west."""
    return re.sub(rb'cy="([\d.]+)"', lambda match: b'cy="%.1f"' % (2 * float(match[1])), page)


def png(width: int, height: int) -> Callable[[bytes], bytes]:
    """One that is blue all over."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress((b"\0" + b"\0\0\xff" * width) * height))
    return lambda _data: b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b"")


def frames(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[bytes], bytes]:
    """A video with its frames exchanged."""

    def make(data: bytes) -> bytes:
        first, size = data.index(b"00db"), 3 * 160 * 120 + 8
        end = first + 60 * size
        pieces = [data[at : at + size] for at in range(first, end, size)]
        return data[:first] + b"".join(change(pieces)) + data[end:]

    return make


def bass_note(pitch: int) -> Callable[[bytes], bytes]:
    """Music with this note in the bass wherever it was a low G."""
    return lambda data: re.sub(rb"([\x81\x91])\x2b", lambda match: match[1] + bytes([pitch]), data)


def wav(change: Callable[[bytes], bytes]) -> Break:
    """A recording with other samples."""

    def remake(right: str, files: Path) -> str:
        with wave.open(str(files / "waltz.wav"), "rb") as file:
            parameters, data = file.getparams(), file.readframes(file.getnframes())
        with wave.open(str(files / "waltz.wav"), "wb") as file:
            file.setparams(parameters)
            file.writeframes(change(data))
        return right

    return remake


def backwards(data: bytes) -> bytes:
    return b"".join(data[at : at + 2] for at in range(len(data) - 2, -1, -2))


def facts(name: str, key: str, change: Callable[[Any], Any]) -> Break:
    """The answer about one report, with one fact changed."""

    def remake(right: str, _files: Path) -> str:
        value = json.loads(right)
        value[name][key] = change(value[name][key])
        return json.dumps(value)

    return remake


#: Example, what was done to its right result, and words of the verdict.
BROKEN: list[tuple[str, Break, str]] = [
    ("01-travel-map", answer("12.3"), "the walk has"),
    ("01-travel-map", answer("about 70 km"), "no number with one decimal"),
    ("01-travel-map", edit("map.html", 'data-place="Schierke"', 'data-place="Elsewhere"'), "not on the map: ['Schierke']"),
    ("01-travel-map", edit("map.html", ">Thale</text>", "></text>"), "without a name on the map: ['Thale']"),
    ("01-travel-map", made("map.html", taller), "is not where it belongs"),
    ("01-travel-map", edit("map.html", 'data-day="2"', 'data-day="7"'), "the line of day 2 has 0 points"),
    ("01-travel-map", edit("map.html", "Brocken – Schierke", "Schierke – Brocken"), "not in its place on day 2"),
    ("01-travel-map", edit("map.html", "</body>", '<img src="https://example.org/a.png"></body>'), "loads something"),
    ("02-poster", answer("#10183a #f2c14e"), "not three colours"),
    ("02-poster", answer("#10183a #f2c14e #123456"), "#123456 is not in the SVG"),
    ("02-poster", edit("poster.svg", "Jonas Weatherby", "John Doe"), "does not tell ['Jonas Weatherby']"),
    ("02-poster", edit("poster.svg", 'y="390"', 'y="1390"'), "is off the poster"),
    ("02-poster", edit("poster.svg", "</svg>", ""), "ParseError"),
    ("02-poster", cut("poster.png"), "damaged"),
    ("02-poster", made("poster.png", png(600, 900)), "all but one colour"),
    ("02-poster", made("poster.png", png(300, 450)), "300 x 450"),
    ("03-video", answer("17"), "the ball bounces 3 times"),
    ("03-video", cut("bounce.avi"), "cut off"),
    ("03-video", made("bounce.avi", frames(lambda found: found[:1] * 60)), "does not cross"),
    ("03-video", made("bounce.avi", frames(lambda found: found[::-1])), "to the left"),
    ("03-video", made("bounce.avi", frames(lambda found: [one[:8] + bytes(57600) for one in found])), "dark"),
    ("03-video", edit("bounce.avi", struct.pack("<II", 160, 120), struct.pack("<II", 320, 120)), "320 x 120"),
    ("03-video", edit("bounce.avi", b"00db", b"JUNK"), "there are 0 frames"),
    ("03-video", edit("bounce.avi", b"idx1", b"JUNK"), "the index is missing"),
    ("04-music", answer("G4 G4 G4"), "the melody is G4 B4 D5"),
    ("04-music", edit("waltz.mid", b"\x42", b"\x41"), "not in G major: ['F']"),
    ("04-music", edit("waltz.mid", b"\xff\x51\x03\x08", b"\xff\x51\x03\x09"), "microseconds"),
    ("04-music", edit("waltz.mid", b"\x58\x04\x03\x02", b"\x58\x04\x04\x02"), "3/4"),
    ("04-music", edit("waltz.mid", b"\x00\x06\x00\x01", b"\x00\x06\x00\x00"), "the format is 0"),
    ("04-music", edit("waltz.mid", b"\x80\x43\x00", b"\x80\x44\x00"), "KeyError: 68"),
    ("04-music", made("waltz.mid", bass_note(79)), "above the melody"),
    ("04-music", made("waltz.mid", bass_note(44)), "not in G major: ['G#']"),
    ("04-music", cut("waltz.mid"), "cut off"),
    ("04-music", wav(lambda data: bytes(len(data))), "nothing to hear"),
    ("04-music", wav(backwards), "can be heard"),
    ("04-music", wav(lambda data: data[: len(data) // 4 * 2]), "s, not 13.33"),
    ("05-chemistry", answer("A"), "the answer is C"),
    ("05-chemistry", edit("yields.csv", "C,KI", "C,Pb(NO3)2"), "KI limits batch C"),
    ("05-chemistry", edit("yields.csv", "A,BaCl2·2H2O,11.", "A,BaCl2·2H2O,13."), "batch A gives 11.66 g"),
    ("05-chemistry", edit("yields.csv", "E,NaOH", "F,NaOH"), "the table has the batches"),
    ("06-biomedicine", answer("A"), "the answer is D"),
    ("06-biomedicine", edit("effects.csv", "R11*", "R12*"), "option D is CGA, TGA, R11*, nonsense"),
    ("06-biomedicine", edit("effects.csv", "B,", "Z,"), "the table has the options"),
    ("07-physics", answer("91.2 m"), "no \\boxed{number}"),
    ("07-physics", answer("\\boxed{137.0}"), "the range is"),
    ("07-physics", cut("path.csv"), "the path ends at a height"),
    ("07-physics", made("path.csv", lambda data: b"\n".join(data.splitlines()[:20])), "the path has 19 points"),
    ("07-physics", edit("path.csv", "t,x,y", "t,y,x"), "the path begins at"),
    ("08-mathematics", answer("\\boxed{1000}"), "no \\boxed{integer}"),
    ("08-mathematics", answer("\\boxed{0}"), "the answer is"),
    ("09-long-documents", facts("dunmere.txt", "leaks", lambda count: count + 1), "dunmere.txt: leaks is"),
    ("09-long-documents", facts("dunmere.txt", "laid", lambda year: year - 16), "dunmere.txt: laid is 1908, not 1892"),
    ("09-long-documents", facts("CAWSEY-report.txt", "street", lambda _: "Eastgate"), "CAWSEY-report.txt: street is"),
    ("09-long-documents", say("Aldermoor 2031.txt", "Aldermoor"), "the answer speaks of"),
    ("09-long-documents", answer("[]"), "no JSON object"),
    ("10-instruction-following", say("Rising", "It rises, and"), "begin with BIEAD"),
    ("10-instruction-following", say("crumb.", "crumb. End."), "6 sentences"),
    ("10-instruction-following", say("that feed on sugar in dough", "in dough"), "the sentences have [8, 7"),
    ("10-instruction-following", say("even crumb.", "even, soft, white, warm and really very moist crumb."), "it has 81 words"),
    ("10-instruction-following", say("a warm bowl", "the warm bowl"), "not to be used: ['the']"),
    ("10-instruction-following", say("living helpers", "yeast cells"), "not to be used: ['yeast']"),
    ("10-instruction-following", say("a warm bowl", "a cold bowl"), "warm is used 1 times"),
    ("10-instruction-following", say("even crumb.", "even crust."), "the last word is crust"),
    ("10-instruction-following", say("flour, water", "flour or water"), "it has 2 commas"),
    ("10-instruction-following", say("once more before", "2 times more before"), "the numbers in it are ['37', '2']"),
    ("10-instruction-following", say("happiest, so", "happiest, so,"), "it has 4 commas"),
    ("10-instruction-following", say("crumb.", "crumb"), "the end of a sentence"),
    ("10-instruction-following", say("bubbles", "bubbles!"), "6 sentences"),
    ("10-instruction-following", say(". Rising", ".\nRising"), "more than one paragraph"),
]


@pytest.mark.parametrize(("name", "break_it", "words"), BROKEN, ids=[f"{name[:2]}-{words}" for name, _, words in BROKEN])
def test_a_check_finds_what_is_wrong(
    name: str,
    break_it: Break,
    words: str,
    solved: Path,
    judge: Callable[[str, str | None, Path], str | None],
    tmp_path: Path,
) -> None:
    right, files = outcome(solved, name)
    shutil.copytree(files, tmp_path / "files")
    assert judge(name, right, tmp_path / "files") is None
    verdict = judge(name, break_it(right, tmp_path / "files"), tmp_path / "files")
    assert verdict is not None
    assert words in verdict


def every_filter(data: bytes) -> bytes:
    """The same picture, its lines filtered in the five ways in turn."""
    start = data.index(b"IDAT")
    (size,) = struct.unpack_from(">I", data, start - 4)
    raw, stride = zlib.decompress(data[start + 4 : start + 4 + size]), 1 + 3 * 600
    lines = [raw[at + 1 : at + stride] for at in range(0, len(raw), stride)]
    body, above = b"", bytes(stride - 1)
    for number, line in enumerate(lines):
        left, corner = bytes(3) + line[:-3], bytes(3) + above[:-3]
        guesses = (
            bytes(len(line)),
            left,
            above,
            bytes((a + b) // 2 for a, b in zip(left, above, strict=True)),
            bytes(min((a, b, c), key=lambda one, p=a + b - c: abs(p - one)) for a, b, c in zip(left, above, corner, strict=True)),
        )
        guess = guesses[number % 5]
        body += bytes([number % 5]) + bytes((one - other) & 255 for one, other in zip(line, guess, strict=True))
        above = line
    packed = zlib.compress(body)
    chunk = b"IDAT" + packed
    return (
        data[: start - 4]
        + struct.pack(">I", len(packed))
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + data[start + 8 + size :]
    )


def upright(data: bytes) -> bytes:
    """The same video, the first line of a frame being its uppermost."""
    size = 3 * 160

    def turned(frame: bytes) -> bytes:
        lines = [frame[at : at + size] for at in range(8, len(frame), size)]
        return frame[:8] + b"".join(reversed(lines))

    made = frames(lambda found: [turned(one) for one in found])(data)
    return made.replace(struct.pack("<ii", 160, 120) + b"\1\0\x18\0", struct.pack("<ii", 160, -120) + b"\1\0\x18\0")


def running(data: bytes) -> bytes:
    """The same music, notes ending by a velocity of 0."""
    return re.sub(rb"([\x80\x81])(.)\x00", lambda match: bytes([match[1][0] + 16]) + match[2] + b"\0", data, flags=re.S)


#: The same in other words.
AS_GOOD: list[tuple[str, Break]] = [
    ("01-travel-map", say("61.5", " 61.6")),
    ("01-travel-map", made("map.html", lambda page: re.sub(rb'="([^"\']*)"', rb"='\1'", page))),
    ("02-poster", made("poster.png", every_filter)),
    ("02-poster", edit("poster.svg", "Kestrel Lane 12, ", "<tspan>Kestrel\n Lane 12,</tspan> ")),
    ("03-video", made("bounce.avi", upright)),
    ("03-video", edit("bounce.avi", b"00db", b"00dc")),
    ("04-music", made("waltz.mid", running)),
    ("05-chemistry", edit("yields.csv", "\r\n", "\n")),
    ("06-biomedicine", edit("effects.csv", "\r\n", "\n")),
    ("07-physics", say("\\boxed", "The ball lands after \\boxed")),
    ("09-long-documents", lambda right, _files: json.dumps(json.loads(right), sort_keys=True)),
    ("10-instruction-following", say("doubles.", "doubles!")),
]


@pytest.mark.parametrize(("name", "change"), AS_GOOD, ids=[f"{place}-{name}" for place, (name, _) in enumerate(AS_GOOD)])
def test_a_check_takes_what_is_as_good(
    name: str, change: Break, solved: Path, judge: Callable[[str, str | None, Path], str | None], tmp_path: Path
) -> None:
    right, files = outcome(solved, name)
    shutil.copytree(files, tmp_path / "files")
    assert judge(name, change(right, tmp_path / "files"), tmp_path / "files") is None


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_never_right(
    name: str, solved: Path, judge: Callable[[str, str | None, Path], str | None], tmp_path: Path
) -> None:
    """No answer, an empty one, and the right one without the files."""
    right, files = outcome(solved, name)
    assert judge(name, None, files)
    assert judge(name, "", files)
    (tmp_path / "files").mkdir()
    for file in files.iterdir():
        others = tmp_path / "files"
        shutil.rmtree(others)
        shutil.copytree(files, others, ignore=shutil.ignore_patterns(file.name))
        assert file.name in (judge(name, right, others) or "")


def test_every_example_has_a_broken_result() -> None:
    assert {name for name, _, _ in BROKEN} == set(NAMES)
