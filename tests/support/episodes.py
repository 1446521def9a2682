"""Trajectories and folders of runs, made by hand as docs/trajectory.md has them."""

import json
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

#: What a terminal obeys, what hides, what rich and HTML would take for their own.
HOSTILE = (
    "<script>alert(1)</script> \x1b[31mred\x1b]0;title\x07 \x1b]8;;http://evil.example/\x07link [red]markup[/red] "
    "[link=x]y[/link] \u202eesrever \x00 \x9b2J &lt;b&gt; <img src=x onerror=alert(1)> </pre></details>"
    "<iframe src='http://evil.example/'> \ud83d \r\t."
)

USAGE = {"prompt": 1200, "completion": 80, "cached": 1000, "reasoning": 30}


def record(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "time": "2026-01-31T12:00:05.250000+00:00", **fields}


def start(task: str = "Add the numbers up.", **fields: Any) -> dict[str, Any]:
    known = {
        "format": 2,
        "id": "sums",
        "task": task,
        "files": ["numbers.txt"],
        "data": {"ground_truth": "42"},
        "agent": {
            "profile": "default", "protocol": "native", "shell": "fresh", "without": [], "turn_hint": False,
            "force_answer": False, "on_overflow": "stop", "checkpoint": False,
        },
        "model": {"name": "some-model", "base_url": "http://127.0.0.1:8000/v1", "temperature": 0.2, "reasoning": "resend"},
        "limits": {"max_turns": 100, "max_tokens": None},
        "paths": {"working_dir": "/testbed", "answer_file": "/testbed/answer.txt"},
        "messages": [{"role": "system", "content": "You have a computer."}, {"role": "user", "content": task}],
        "tools": [],
        "versions": {"python": "3.12.1", "lisrt": "0.1.0", "openai": None},
    }  # fmt: skip
    return record("start", **{**known, **fields})


def sandbox(**fields: Any) -> dict[str, Any]:
    known = {"id": "box-1", "image": "host", "guarantees": {"memory": "2 GiB, by a control group", "network": "loopback only"}}
    return record("sandbox", **{**known, "input": {"files": 1, "directories": 0, "bytes": 2048, "skipped": []}, **fields})


def asked(name: str, number: str, **arguments: Any) -> dict[str, Any]:
    """A call in a message."""
    return {"id": number, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def response(turn: int, content: str | None, *calls: Mapping[str, Any], **message: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": content, **({"tool_calls": list(calls)} if calls else {}), **message}
    return record("response", turn=turn, message=said, usage=USAGE, finish_reason="stop", latency=2.5)


def tool(turn: int, call: Mapping[str, Any], observation: str | None, outcome: str = "exited", **fields: Any) -> dict[str, Any]:
    called = {"id": call["id"], "name": call["function"]["name"], "arguments": call["function"]["arguments"]}
    return record("tool", turn=turn, **called, observation=observation, outcome=outcome, duration=0.25, **fields)


def end(reason: str = "submitted", answer: str | None = "42\n", turns: int = 2, **fields: Any) -> dict[str, Any]:
    known = {
        "exit_reason": reason, "answer": answer, "answer_from": "file" if answer else None, "turns": turns,
        "usage": {name: number * turns for name, number in USAGE.items()}, "cost": None, "duration": 12.5, "tool_time": 0.5,
        "error": None, "output": "out/files", "sandbox_usage": {"cpu": 0.2, "memory_peak": 5 << 20, "written": 4096},
    }  # fmt: skip
    return record("end", **{**known, **fields})


BASH = asked("execute_bash", "call_1", command="wc -l numbers.txt\npython3 sum.py", timeout=30)
EDIT = asked("str_replace_editor", "call_2", command="str_replace", path="/testbed/sum.py", old_str="a - b", new_str="a + b")
SUBMIT = asked("submit", "call_3")


def whole() -> list[dict[str, Any]]:
    """An episode of two turns, that ended as it should."""
    return [
        start(),
        sandbox(),
        record("retry", turn=1, attempt=1, reason="status 503", delay=1.5),
        response(1, "I'll look first.", BASH, EDIT, reasoning_content="Numbers are in a file."),
        tool(1, BASH, "Exit code: 1\n[stderr]\nno sum.py\n", exit_code=1, signal=None, cpu=0.01, memory_peak=1 << 20, denied=0),
        tool(1, EDIT, "Edited.", "done"),
        record("egress", turn=1, number=1, host="pypi.org", port=443, method="CONNECT", allowed=False, rule="", why="not listed"),
        response(2, None, SUBMIT),
        tool(2, SUBMIT, "Submitted.", "submitted"),
        record("output", files=1, directories=0, bytes=3, skipped=[]),
        end(),
    ]


def write(path: Path, records: Iterable[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(one)}\n" for one in records))
    return path


def result(task: str, reason: str = "submitted", answer: str | None = "42\n", **fields: Any) -> dict[str, Any]:
    """A line of results.jsonl."""
    known = {
        "task": task, "answer": answer, "exit_reason": reason, "turns": 2, "usage": USAGE, "output": None, "trajectory": None,
        "error": None, "answer_from": "file", "cost": 0.01, "duration": 12.5, "tool_time": 0.5, "attempts": 1, "faults": [],
        "data": {},
    }  # fmt: skip
    return {**known, **fields}


def hostile_episode() -> list[dict[str, Any]]:
    """Every text is hostile."""
    bash, other = asked("execute_bash", HOSTILE, command=HOSTILE), asked(HOSTILE, "c2", **{HOSTILE: HOSTILE})
    edit = asked("str_replace_editor", "c3", command="create", path=HOSTILE, file_text=HOSTILE)
    return [
        start(HOSTILE, id=HOSTILE, files=[HOSTILE], data={HOSTILE: HOSTILE}, model={"name": HOSTILE, "base_url": HOSTILE},
              limits={HOSTILE: HOSTILE}, versions={HOSTILE: HOSTILE}, agent={"profile": HOSTILE, "protocol": HOSTILE}),
        sandbox(id=HOSTILE, image=HOSTILE, guarantees={HOSTILE: HOSTILE}),
        record("hint", turn=1, content=HOSTILE),
        record("retry", turn=1, attempt=1, reason=HOSTILE, delay=1),
        response(1, HOSTILE, bash, other, edit, reasoning=HOSTILE) | {"finish_reason": HOSTILE, "time": HOSTILE},
        tool(1, bash, HOSTILE, exit_code=0, exhausted=[HOSTILE]),
        tool(1, other, HOSTILE, HOSTILE),
        record("egress", turn=1, host=HOSTILE, method=HOSTILE, rule=HOSTILE, why=HOSTILE),
        record("reminder", turn=1, content=HOSTILE),
        record("checkpoint", turn=1, directory=HOSTILE),
        record("resume", kept=10, taken_back=[HOSTILE], uncertain=[HOSTILE]),
        record(HOSTILE, **{HOSTILE: HOSTILE}),
        record("output", files=1, bytes=1, skipped=[HOSTILE]),
        end(HOSTILE, HOSTILE, error=HOSTILE, answer_from=HOSTILE),
    ]  # fmt: skip


def is_harmless(letter: str) -> bool:
    """Of a letter: no terminal obeys it, and it hides nothing."""
    return letter in "\n\t\u200c\u200d" or letter.isprintable() or unicodedata.category(letter) == "Zs"
