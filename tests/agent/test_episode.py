"""Whole episodes: a scripted model over HTTP, a real sandbox, real documents, and all that can go wrong."""

import asyncio
import contextlib
import csv
import errno
import io
import json
import os
import random
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.fresh import environment
from support.model_server import (
    Answer,
    HangUp,
    ModelServer,
    Raw,
    Request,
    Step,
    call,
    calls,
    refusal,
    say,
    tool_call,
)

from lisrt import AsyncSandbox, SetupError
from lisrt.agent import (
    Agent,
    AgentLimits,
    Batch,
    Episode,
    ExitReason,
    Model,
    Prompts,
    TokenUsage,
    read_trajectory,
)

pytest.importorskip("openai")

pytestmark = pytest.mark.usefixtures("working_host")

KEY = "sk-very-secret"
DATA = Path(os.environ.get("LISRT_SHARED_DATA") or Path(__file__).parents[2].parent / "shared/data")
WORD = "competition"


def agent_for(server: ModelServer, *, model: dict[str, Any] | None = None, **settings: Any) -> Agent:
    options = {"api_key": KEY, "retries": 2, "retry_delay": 0.001, **(model or {})}
    return Agent(Model("test-model", server.base_url, **options), **settings)


def play(
    steps: Iterable[Step] | Callable[[Request], Answer],
    *,
    files: dict[str, Any] | None = None,
    **settings: Any,
) -> tuple[Episode, ModelServer]:
    """One episode of a script. No request may break the protocol, whatever the script does."""
    with ModelServer(steps) as server:
        episode = agent_for(server, **settings).run_sync("the task", **(files or {}))
    assert server.violations == []
    return episode, server


def records(path: Path, kind: str | None = None) -> list[dict[str, Any]]:
    return [record for record in read_trajectory(path) if kind in (None, record["type"])]


ANSWER = call("execute_bash", command="printf 42 > /testbed/answer.txt")
SUBMIT = call("submit")


# --- the four documents ---


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """Four long documents under the odd names that such files have: the paper's where they are at hand, else our own."""
    copy = tmp_path / "documents"
    copy.mkdir()
    if (DATA / "long_context").is_dir():
        for path in (DATA / "long_context").iterdir():
            shutil.copyfile(path, copy / path.name)
    else:
        make_documents(copy)
    assert len(list(copy.iterdir())) == 4
    return copy


def make_documents(directory: Path) -> None:
    """Reports of 100 kB each, in which the word comes in several cases, and others that only look like it."""
    words = f"the market {WORD} {WORD.title()} {WORD.upper()} competitions price – firms, naïve (2023) policy of and".split()
    for number, name in enumerate(("DAF-COMP(2023)14.en.txt", "FULLTEXT01.txt", "a report.txt", "barriers_to-what.txt")):
        draw = random.Random(number)
        weights = [5, 3, *[number + 1] * 3, 1, *[2] * 9]
        lines = (" ".join(draw.choices(words, weights[: len(words)], k=12)) for _ in range(1200))
        (directory / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


PROGRAM = """\
import csv, json, pathlib, re, sys

counts = {}
for path in sorted(pathlib.Path("/testbed/documents").iterdir()):
    words = re.findall(r"[a-z]+", path.read_text(encoding="utf-8").upper())
    counts[path.name] = words.count(sys.argv[1])
with open("/testbed/output/counts.csv", "w", newline="") as file:
    csv.writer(file).writerows(counts.items())
print(json.dumps({"counts": counts, "most": max(counts, key=counts.get)}))
"""


def counted_here(documents: Path) -> dict[str, int]:
    return {
        path.name: Counter(re.findall(r"[a-z]+", path.read_text(encoding="utf-8").lower()))[WORD]
        for path in sorted(documents.iterdir())
    }


def document_script(name: str) -> list[Step]:
    """What a sensible model does with the task: search, read, write a program, mend it, run it, answer."""
    run = f"python3 /testbed/tools/count.py {WORD}"
    program = "/testbed/tools/count.py"
    return [
        calls(
            tool_call("str_replace_editor", {"command": "view", "path": "/testbed"}, id="look"),
            tool_call("execute_bash", {"command": f"cd documents && grep -ci {WORD} * | sort"}, id="search"),
            content="First a look at what there is.",
        ),
        call("str_replace_editor", command="view", path=f"/testbed/documents/{name}", view_range=[100, 110]),
        call("str_replace_editor", command="create", path=program, file_text=PROGRAM),
        call("execute_bash", command=run),
        call(
            "str_replace_editor", command="str_replace", path=program, old_str=".upper()", new_str=".lower()"
        ),
        call("execute_bash", command=f"{run} > answer.txt && cat answer.txt"),
        SUBMIT,
    ]


def test_four_documents(documents: Path, tmp_path: Path) -> None:
    """The answer that the agent computes inside is the one that the test computes outside."""
    expected = counted_here(documents)
    assert len(set(expected.values())) > 2, "the documents must tell a right count from a wrong one"
    name = "DAF-COMP(2023)14.en.txt"
    files: dict[str, Any] = {
        "input_dir": documents,
        "output_dir": tmp_path / "out",
        "trajectory": tmp_path / "run.jsonl",
    }
    with ModelServer(document_script(name)) as server:
        episode = agent_for(server).run_sync(
            f"Which document says {WORD!r} most, and how often does each?", **files
        )

    assert episode.exit_reason is ExitReason.SUBMITTED, episode.error
    assert json.loads(episode.answer or "") == {
        "counts": expected,
        "most": max(expected, key=expected.__getitem__),
    }
    assert (episode.turns, episode.usage, episode.error) == (7, TokenUsage(70, 35), None)
    assert episode.output == tmp_path / "out"
    table = csv.reader(io.StringIO((tmp_path / "out/counts.csv").read_text()))
    assert {row[0]: int(row[1]) for row in table} == expected
    check_observations(server, documents, name)
    assert episode.trajectory == tmp_path / "run.jsonl"
    check_record(episode, server)


def check_observations(server: ModelServer, documents: Path, name: str) -> None:
    """What the model saw of the documents is what is in them."""
    listing, search = server.requests[1].observations
    lines = {path.name: path.read_text().splitlines() for path in documents.iterdir()}
    for document in lines:
        assert f"documents/{document} ({(documents / document).stat().st_size} bytes)" in listing
        hits = sum(WORD in line.lower() for line in lines[document])
        assert f"{document}:{hits}\n" in search
    header, *shown = server.requests[2].observations[0].split("\n")
    assert header == f"/testbed/documents/{name} (lines 100 to 110 of {len(lines[name])} lines)"
    assert shown == [f"{number:6}\t{lines[name][number - 1]}" for number in range(100, 111)]
    assert '"most"' in server.requests[4].observations[0]
    assert ".lower()" in server.requests[5].observations[0]


def check_record(episode: Episode, server: ModelServer) -> None:
    """The trajectory tells the whole story, without the key."""
    assert episode.trajectory is not None
    assert KEY not in episode.trajectory.read_text()
    story = records(episode.trajectory)
    assert [record["type"] for record in story[:2]] == ["start", "sandbox"]
    start, sandbox, end = story[0], story[1], story[-1]
    assert start["messages"] == server.requests[0].messages
    assert start["tools"] == server.requests[0].body["tools"]
    assert start["model"]["base_url"] == server.base_url
    assert start["versions"]["openai"]
    assert sandbox["guarantees"]
    assert sandbox["input"]["files"] == 4
    responses = [record for record in story if record["type"] == "response"]
    assert [record["turn"] for record in responses] == list(range(1, 8))
    assert all(record["latency"] > 0 and record["usage"]["prompt"] == 10 for record in responses)
    tools = [record for record in story if record["type"] == "tool"]
    assert [record["id"] for record in tools][:2] == ["look", "search"]
    seen = [text for request in server.requests for text in request.observations]
    assert [record["observation"] for record in tools] == [*seen, "Submitted."]
    assert all(record["duration"] >= 0 for record in tools)
    assert tools[1]["exit_code"] == 0
    assert (end["type"], end["exit_reason"], end["answer"]) == ("end", "submitted", episode.answer)
    assert end["usage"] == {"prompt": 70, "completion": 35, "cached": 0, "reasoning": 0}


# --- turns ---


def test_all_calls_of_a_turn_are_carried_out_in_order_and_answered() -> None:
    commands = ["echo 1 > n", "echo 2 >> n", "cat n", "cp n answer.txt"]
    made = [tool_call("execute_bash", {"command": command}, id=f"c{i}") for i, command in enumerate(commands)]
    episode, server = play([calls(*made), SUBMIT])
    assert episode.answer == "1\n2\n"
    answers = server.requests[1].messages[-4:]
    assert [message["tool_call_id"] for message in answers] == ["c0", "c1", "c2", "c3"]
    assert "1\n2\n" in answers[2]["content"]


def test_calls_after_submit_are_answered_but_not_carried_out(tmp_path: Path) -> None:
    late = tool_call("execute_bash", {"command": "echo late > answer.txt"}, id="c")
    early = tool_call("execute_bash", {"command": "echo early > answer.txt"}, id="a")
    trajectory = tmp_path / "run.jsonl"
    episode, _ = play([calls(early, tool_call("submit", {}, id="b"), late)], files={"trajectory": trajectory})
    assert episode.answer == "early\n"
    assert [record["outcome"] for record in records(trajectory, "tool")] == ["exited", "submitted", "not_run"]


def test_calls_without_ids_are_answered_under_new_ones() -> None:
    anonymous = [tool_call("execute_bash", {"command": f"echo {n}"}, id="") for n in (1, 2)]
    twins = [tool_call("execute_bash", {"command": f"echo {n}"}, id="same") for n in (3, 4)]
    episode, server = play([calls(*anonymous), calls(*twins), SUBMIT])
    assert episode.exit_reason is ExitReason.SUBMITTED
    assert (
        len({message["tool_call_id"] for message in server.requests[2].messages if message["role"] == "tool"})
        == 4
    )


@pytest.mark.parametrize("arguments", ['{"command": "ls', "[1]", '"ls"', "null", "{'command': 'ls'}"])
def test_malformed_arguments_are_answered_under_their_id(arguments: str) -> None:
    broken = tool_call("execute_bash", arguments, id="broken")
    sound = tool_call("execute_bash", {"command": "echo sound"}, id="sound")
    episode, server = play([calls(broken, sound), SUBMIT])
    assert episode.exit_reason is ExitReason.SUBMITTED
    first, second = server.requests[1].messages[-2:]
    assert (first["tool_call_id"], second["tool_call_id"]) == ("broken", "sound")
    assert first["content"].startswith("Error: the arguments are not a JSON object")
    assert arguments in first["content"]
    assert "sound" in second["content"]


def test_unknown_tools_are_answered_with_the_known_ones() -> None:
    _, server = play([call("python", code="1"), call("rm -rf /"), calls({"rubbish": 1}), SUBMIT])
    for request in server.requests[1:]:
        assert "there is no tool" in request.observations[0]
        assert "execute_bash, str_replace_editor, submit" in request.observations[0]


def test_a_reply_without_a_call_gets_a_reminder(tmp_path: Path) -> None:
    trajectory = tmp_path / "run.jsonl"
    episode, server = play(
        [say("I think ..."), say(None), say("", finish_reason="length"), SUBMIT],
        files={"trajectory": trajectory},
    )
    assert (episode.exit_reason, episode.turns) == (ExitReason.SUBMITTED, 4)
    roles = [message["role"] for message in server.requests[3].messages]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user", "assistant", "user"]
    assert "called no tool" in server.requests[1].messages[-1]["content"]
    assert "cut off" in server.requests[3].messages[-1]["content"]
    assert [record["turn"] for record in records(trajectory, "reminder")] == [1, 2, 3]


def test_a_call_cut_off_at_the_token_limit_says_why() -> None:
    cut = calls(
        tool_call("str_replace_editor", '{"command": "create", "file_text": "aaa'), finish_reason="length"
    )
    _, server = play([cut, SUBMIT])
    assert "cut off" in server.requests[1].observations[0]


def test_turns_are_limited_and_the_answer_so_far_counts() -> None:
    episode, server = play(lambda _: ANSWER, limits=AgentLimits(max_turns=3))
    assert (episode.exit_reason, episode.turns, episode.answer) == (ExitReason.MAX_TURNS, 3, "42")
    assert len(server.requests) == 3
    assert "3 turns" in server.requests[0].messages[0]["content"]


def test_a_slow_command_is_an_observation() -> None:
    steps = [call("execute_bash", command="echo partial; sleep 3600"), SUBMIT]
    episode, server = play(steps, limits=AgentLimits(command_timeout=0.5))
    assert episode.exit_reason is ExitReason.SUBMITTED
    assert "Timed out after 0.5 s" in server.requests[1].observations[0]
    assert "partial" in server.requests[1].observations[0]


def test_the_episode_has_a_wall_clock(tmp_path: Path) -> None:
    steps = [ANSWER, call("execute_bash", command="sleep 3600")]
    trajectory = tmp_path / "run.jsonl"
    limits = AgentLimits(wall_timeout=2.0, command_timeout=3600)
    episode, _ = play(steps, limits=limits, files={"trajectory": trajectory})
    assert (episode.exit_reason, episode.turns, episode.answer) == (ExitReason.TIMEOUT, 2, "42")
    assert "2 s" in (episode.error or "")
    assert records(trajectory)[-1]["exit_reason"] == "timeout"
    assert [record["outcome"] for record in records(trajectory, "tool")] == ["exited", "interrupted"]


# --- answers and output ---


def test_no_answer_file_is_no_answer() -> None:
    episode, _ = play([SUBMIT])
    assert (episode.answer, episode.exit_reason, episode.error) == (None, ExitReason.SUBMITTED, None)


@pytest.mark.parametrize(
    "command",
    [
        "mkdir answer.txt",
        "mkfifo answer.txt",
        "ln -s /dev/zero answer.txt",
        "ln -s answer.txt answer.txt",
        "truncate -s 1G answer.txt",
    ],
)
def test_an_answer_that_cannot_be_read_is_named(command: str) -> None:
    episode, _ = play([call("execute_bash", command=command), SUBMIT])
    assert (episode.answer, episode.exit_reason) == (None, ExitReason.SUBMITTED)
    assert "answer" in (episode.error or "")


def test_links_in_the_sandbox_never_reach_the_host(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    target = tmp_path / "out"
    links = f"ln -s {secret} answer.txt; ln -s {secret} output/link; ln -s {tmp_path} output/dir"
    command = f"{links}; echo x > output/file"
    episode, _ = play([call("execute_bash", command=command), SUBMIT], files={"output_dir": target})
    assert episode.answer is None
    assert (target / "file").read_text() == "x\n"
    assert not any(path.exists() for path in (target / "link", target / "dir"))


def test_an_output_directory_that_is_gone_is_named(tmp_path: Path) -> None:
    steps = [ANSWER, call("execute_bash", command="rm -rf output"), SUBMIT]
    episode, _ = play(steps, files={"output_dir": tmp_path / "out"})
    assert (episode.answer, episode.output, episode.exit_reason) == ("42", None, ExitReason.SUBMITTED)
    assert "/testbed/output" in (episode.error or "")


def test_output_beyond_the_limit_is_named(tmp_path: Path) -> None:
    steps = [ANSWER, call("execute_bash", command="head -c 2000 /dev/zero > output/big"), SUBMIT]
    episode, _ = play(steps, limits=AgentLimits(max_download=1000), files={"output_dir": tmp_path / "out"})
    assert (episode.answer, episode.output, episode.exit_reason) == ("42", None, ExitReason.SUBMITTED)
    assert "output" in (episode.error or "")
    assert not (tmp_path / "out/big").exists() or (tmp_path / "out/big").stat().st_size <= 1000


def test_bytes_of_any_kind_are_text_in_the_end() -> None:
    episode, _ = play([call("execute_bash", command=r"printf 'a\xff\0b' | tee answer.txt"), SUBMIT])
    assert episode.answer == "a\ufffd\0b"


def test_text_that_is_no_utf8_reaches_the_model_in_part() -> None:
    """A command line can hold such bytes, and so can the names of files."""
    with ModelServer([call("execute_bash", command=r"touch $'\xff'; ls"), SUBMIT]) as server:
        episode = agent_for(server).run_sync("odd \udcff task")
    assert episode.exit_reason is ExitReason.SUBMITTED, episode.error
    assert "odd ? task" in server.requests[0].messages[1]["content"]


def test_the_places_are_parameters(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/f").write_text("given")
    prompts = Prompts(
        working_dir="/w", input_dir="/w/given", output_dir="/w/made", answer_file="/w/notes/a.md"
    )
    steps = [call("execute_bash", command="pwd > made/where; cat given/f > notes/a.md"), SUBMIT]
    files = {"input_dir": tmp_path / "in", "output_dir": tmp_path / "out"}
    episode, _ = play(steps, prompts=prompts, files=files)
    assert episode.answer == "given"
    assert (tmp_path / "out/where").read_text() == "/w\n"


def test_a_lent_sandbox_stays_open() -> None:
    async def run() -> tuple[Episode, bytes]:
        async with AsyncSandbox() as box:
            await box.write("/testbed/before", "was here")
            with ModelServer([call("execute_bash", command="cp before answer.txt"), SUBMIT]) as server:
                agent = agent_for(server, open_sandbox=lambda: contextlib.nullcontext(box))
                episode = await agent.run("the task")
            return episode, await box.read("/testbed/answer.txt")

    episode, still_there = asyncio.run(run())
    assert episode.answer == "was here"
    assert still_there == b"was here"


def test_many_episodes_at_once_do_not_mix() -> None:
    def model(request: Request) -> Answer:
        number = request.messages[1]["content"].split()[1]
        if request.messages[-1]["role"] == "tool":
            return SUBMIT
        return call("execute_bash", command=f"cat answer.txt; echo {number} > answer.txt")

    async def run(agent: Agent) -> list[Episode]:
        return await asyncio.gather(*(agent.run(f"task {number}") for number in range(16)))

    with ModelServer(model) as server:
        episodes = asyncio.run(run(agent_for(server)))
    assert [episode.answer for episode in episodes] == [f"{number}\n" for number in range(16)]


# --- the model's server ---


def test_trouble_that_passes_is_recorded_and_forgotten(tmp_path: Path) -> None:
    trajectory = tmp_path / "run.jsonl"
    steps: list[Step] = [
        HangUp(),
        Raw(429, "slow", {"Retry-After": "0"}),
        ANSWER,
        refusal(503, "busy"),
        SUBMIT,
    ]
    episode, server = play(steps, files={"trajectory": trajectory})
    assert (episode.exit_reason, episode.answer, episode.turns) == (ExitReason.SUBMITTED, "42", 2)
    assert [(record["turn"], record["attempt"]) for record in records(trajectory, "retry")] == [
        (1, 1),
        (1, 2),
        (2, 1),
    ]
    assert server.requests[0].body == server.requests[1].body, "a repeated try must ask the same"


@pytest.mark.parametrize(
    ("failure", "shown"),
    [
        (refusal(500, "broken"), "broken"),
        (refusal(401, f"bad key {KEY}"), "check the API key"),
        (Raw(200, "<html>hello</html>"), "<html>hello</html>"),
        (Raw(200, '{"choices": "none"}'), "no choices"),
        (HangUp(), "no connection"),
    ],
)
def test_a_failing_server_ends_the_episode_with_what_there_is(
    failure: Answer, shown: str, tmp_path: Path
) -> None:
    trajectory = tmp_path / "run.jsonl"
    script = iter([ANSWER])
    episode, server = play(lambda _: next(script, failure), files={"trajectory": trajectory})
    assert (episode.exit_reason, episode.turns, episode.answer) == (ExitReason.MODEL_ERROR, 1, "42")
    assert shown in (episode.error or "")
    assert server.base_url in (episode.error or "")
    assert KEY not in trajectory.read_text()
    assert records(trajectory)[-1]["exit_reason"] == "model_error"


def test_no_server_at_all() -> None:
    with ModelServer([]) as server:
        agent = agent_for(server)
    episode = agent.run_sync("the task")
    assert (episode.exit_reason, episode.turns, episode.usage) == (ExitReason.MODEL_ERROR, 0, TokenUsage())
    assert server.base_url in (episode.error or "")


def test_a_full_context_ends_the_episode_with_the_answer_so_far() -> None:
    message = (
        "This model's maximum context length is 4096 tokens. However, your request has 5000 input tokens."
    )
    episode, server = play([ANSWER, refusal(400, message)])
    assert (episode.exit_reason, episode.answer) == (ExitReason.CONTEXT_EXCEEDED, "42")
    assert message in (episode.error or "")
    assert len(server.requests) == 2


# --- the sandbox ---


def test_a_sandbox_that_dies_is_never_an_observation(tmp_path: Path) -> None:
    """It goes while the model thinks: the next command must not look like a failure of the model's."""
    trajectory = tmp_path / "run.jsonl"

    async def run() -> tuple[Episode, ModelServer]:
        loop = asyncio.get_running_loop()
        async with AsyncSandbox() as box:

            def kill(_request: Request) -> Answer:
                asyncio.run_coroutine_threadsafe(box.close(), loop).result(timeout=30)
                return call("execute_bash", command="echo hello")

            with ModelServer([ANSWER, kill, SUBMIT]) as server:
                agent = agent_for(server, open_sandbox=lambda: contextlib.nullcontext(box))
                return await agent.run("the task", trajectory=trajectory), server

    episode, server = asyncio.run(run())
    assert (episode.exit_reason, episode.turns, episode.answer) == (ExitReason.SANDBOX_DIED, 2, None)
    assert "SandboxGone" in (episode.error or "")
    assert len(server.requests) == 2, "the model was told something"
    last = records(trajectory, "tool")[-1]
    assert (last["outcome"], last["observation"]) == ("sandbox_error", None)
    assert records(trajectory)[-1]["exit_reason"] == "sandbox_died"


def test_a_sandbox_that_dies_after_submit_has_no_answer() -> None:
    async def run() -> Episode:
        loop = asyncio.get_running_loop()
        async with AsyncSandbox() as box:

            def kill(_request: Request) -> Answer:
                asyncio.run_coroutine_threadsafe(box.close(), loop).result(timeout=30)
                return SUBMIT

            with ModelServer([ANSWER, kill]) as server:
                agent = agent_for(server, open_sandbox=lambda: contextlib.nullcontext(box))
                return await agent.run("the task")

    episode = asyncio.run(run())
    assert (episode.exit_reason, episode.answer) == (ExitReason.SANDBOX_DIED, None)


def test_a_sandbox_that_cannot_be_made_ends_the_episode(tmp_path: Path) -> None:
    def refuse() -> AsyncSandbox:
        raise SetupError("the root could not be mounted", stage="mount", errno=28, path="/")

    trajectory = tmp_path / "run.jsonl"
    episode, server = play([SUBMIT], open_sandbox=refuse, files={"trajectory": trajectory})
    assert (episode.exit_reason, episode.turns) == (ExitReason.SANDBOX_ERROR, 0)
    assert "the root could not be mounted" in (episode.error or "")
    assert server.requests == []
    assert [record["type"] for record in records(trajectory)] == ["start", "end"]


def test_a_host_without_descriptors_ends_the_episode() -> None:
    """What the host lacks is no mistake of the caller's."""

    def refuse() -> AsyncSandbox:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    episode, _ = play([SUBMIT], open_sandbox=refuse)
    assert (episode.exit_reason, episode.turns) == (ExitReason.SANDBOX_ERROR, 0)
    assert os.strerror(errno.EMFILE) in (episode.error or "")


def test_an_image_that_does_not_exist_ends_the_episode() -> None:
    episode, _ = play([SUBMIT], open_sandbox=partial(AsyncSandbox, "no-such-image"))
    assert episode.exit_reason is ExitReason.SANDBOX_ERROR
    assert "no-such-image" in (episode.error or "")


# --- the caller ---


def test_a_cancelled_episode_leaves_a_whole_record(tmp_path: Path) -> None:
    trajectory = tmp_path / "run.jsonl"

    async def run() -> None:
        loop = asyncio.get_running_loop()

        def cancel(_request: Request) -> Answer:
            loop.call_soon_threadsafe(task.cancel)
            return call("execute_bash", command="sleep 3600")

        with ModelServer([ANSWER, cancel]) as server:
            task = asyncio.create_task(agent_for(server).run("the task", trajectory=trajectory))
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())
    kinds = [record["type"] for record in records(trajectory)]
    assert kinds[:4] == ["start", "sandbox", "response", "tool"]
    assert records(trajectory)[-1]["exit_reason"] == "cancelled"


def test_a_run_killed_midway_leaves_a_readable_record(tmp_path: Path) -> None:
    """SIGKILL of the whole Python process while its model thinks."""
    trajectory = tmp_path / "run.jsonl"
    program = (
        "import sys; from lisrt.agent import Agent, Model; "
        "Agent(Model('m', sys.argv[1])).run_sync('the task', trajectory=sys.argv[2])"
    )

    async def run() -> int:
        def kill(_request: Request) -> Answer:
            process.kill()
            return HangUp()

        with ModelServer([ANSWER, kill]) as server:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", program, server.base_url, str(trajectory), env=environment()
            )
            return await process.wait()

    assert asyncio.run(run()) == -9
    story = records(trajectory)
    assert [record["type"] for record in story] == ["start", "sandbox", "response", "tool"]
    assert story[3]["exit_code"] == 0


def test_callers_mistakes_are_raised_before_anything_starts(tmp_path: Path) -> None:
    with ModelServer([]) as server:
        agent = agent_for(server)
        with pytest.raises(NotADirectoryError, match="no-such"):
            agent.run_sync("t", input_dir=tmp_path / "no-such", trajectory=tmp_path / "run.jsonl")
        assert not (tmp_path / "run.jsonl").exists()
        (tmp_path / "old.jsonl").touch()
        with pytest.raises(FileExistsError):
            agent.run_sync("t", trajectory=tmp_path / "old.jsonl")
    assert server.requests == []


def test_run_sync_inside_an_event_loop_says_so() -> None:
    with ModelServer([]) as server:
        agent = agent_for(server)

        async def wrong() -> None:
            agent.run_sync("t")

        with pytest.raises(RuntimeError, match="running event loop"):
            asyncio.run(wrong())


def test_a_missing_package_is_told_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    agent = Agent(Model("m", "https://127.0.0.1:1/v1"))
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'lisrt\[agent\]'"):
        agent.run_sync("t", trajectory=tmp_path / "run.jsonl")
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'lisrt\[agent\]'"):
        next(Batch(agent, ["t"], folder=tmp_path / "batch").results())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["max_turns", "command_timeout", "wall_timeout", "max_output", "max_download"]
)
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_impossible_limits_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        AgentLimits(**{name: value})  # type: ignore[arg-type]
