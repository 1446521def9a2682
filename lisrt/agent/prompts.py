"""What the model is told before its first turn, and where things lie in the sandbox.

Templates name their values in braces, `{task}` for example. Only the names listed in `PLACEHOLDERS` are
replaced, in one pass: any other brace, in a template or in the user's own text, stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from lisrt.agent.tools.lis02 import CONTINUE

__all__ = ["LIS02", "PLACEHOLDERS", "REMINDER", "SYSTEM", "TASK", "Prompts", "fill"]

PLACEHOLDERS = (
    "working_dir",
    "input_dir",
    "output_dir",
    "answer_file",
    "command_timeout",
    "max_turns",
    "turns_left",
    "task",
)

SYSTEM = """\
You have a Linux computer of your own, reached through tools, and a task to solve with it. Nobody else uses \
it, and nobody will answer questions: decide for yourself.

Places
- {working_dir}: commands start here; keep programs and notes here.
- {input_dir}: the files that came with the task, if any did.
- {output_dir}: put files here that the task asks you to produce.
- {answer_file}: your final answer.

How to work
- Look at what you were given first: list the files and their sizes, search the long ones, read the parts \
you need.
- Reason in plain text whenever that helps. Let the computer do what it does better: searching, counting, \
calculating, converting, testing. For more than a few lines write a program to a file and run it.
- Try things out: nothing that you do in there can do harm. What is missing may be installed, where there is a network.
- Work the answer out from the material at hand, and check it before you finish.
- A command is stopped after {command_timeout} seconds. You have {max_turns} turns; a turn may hold several \
tool calls.
- When you are done, write the answer, and nothing but the answer, to {answer_file} in the form that the \
task asks for. Then call submit. Only that file and {output_dir} are read afterwards.
"""

_ABOUT = "Nobody else uses it, and nobody will answer questions: decide for yourself."
_FIRST = "- Look at what you were given first: list the files, search the long ones, read the parts you need."
_REASON = "- Reason in plain text whenever that helps."
_COMPUTE = "- Let the computer do what it does better: searching, counting, calculating, testing."
#: Whether it runs programs, whether it writes files.
_WHAT = {
    (True, True): "a Linux computer of your own",
    (True, False): "a Linux computer of your own, whose files can be read, and none can be written",
    (False, True): "files of a Linux computer of your own",
    (False, False): "files of a Linux computer, to read",
}


def limited(without: Collection[str]) -> tuple[str, str, str]:
    """System, task and reminder for an agent that may not write files or run programs: without a word of what it can't do."""
    runs, writes = "execution" not in without, "files" not in without
    system = [f"You have {_WHAT[runs, writes]}, reached through tools, and a task to solve with it. {_ABOUT}", "", "Places"]
    system += ["- {working_dir}: your own place."] * writes
    system += ["- {input_dir}: the files that came with the task, if any did."]
    system += ["- {output_dir}: put files here that the task asks you to produce.", "- {answer_file}: your answer."] * writes
    system += ["", "How to work", _FIRST, _REASON]
    system += [_COMPUTE, "- A command is stopped after {command_timeout} seconds."] * runs
    system += ["- You have {max_turns} turns; a turn may hold several tool calls."]
    form = "and nothing but the answer, in the form that the task asks for"
    to_file, to_call = f"write the answer, {form}, to {{answer_file}}, then call submit", f"call submit with the answer, {form}"
    system += [f"- When you are done, {to_file if writes else to_call}.", ""]
    reminder = "That reply called no tool, so nothing happened. Go on with a tool call"
    reminder += "; if the answer is already in {answer_file}, call submit." if writes else ", or call submit with the answer."
    return "\n".join(system), TASK if writes else "{task}\n", reminder


TASK = """\
{task}

Write the final answer to {answer_file}, then call submit.
"""

REMINDER = (
    "That reply called no tool, so nothing happened. Go on with a tool call; if the answer is already in "
    "{answer_file}, call submit."
)

HINT = "[turns left: {turns_left}]"

LAST = (
    "That was all: no more tools. Reply with the final answer now, as well as you know it, in the form that the task asks for, "
    "and with nothing else."
)


@dataclass(frozen=True)
class Prompts:
    """The texts sent first and the paths they name.

    `system` and `task` are templates (see `PLACEHOLDERS`); `reminder` is sent when a reply calls no tool, `hint` goes below the
    last message of each turn where `Agent.turn_hint` says so, and `last` asks for an answer where none was written
    (`Agent.force_answer`). `working_dir` is where commands start, `input_dir` receives the uploaded files, `output_dir` is
    downloaded at the end, and `answer_file` is read as the answer. All four are absolute paths inside the sandbox.

    Raises ValueError for a relative path or a `task` template without `{task}`.
    """

    system: str = SYSTEM
    task: str = TASK
    reminder: str = REMINDER
    hint: str = HINT
    last: str = LAST
    working_dir: str = "/testbed"
    input_dir: str = "/testbed/documents"
    output_dir: str = "/testbed/output"
    answer_file: str = "/testbed/answer.txt"

    def __post_init__(self) -> None:
        for name, path in self.paths().items():
            if not path.startswith("/") or "\0" in path:
                raise ValueError(f"{name} must be an absolute path inside the sandbox, not {path!r}")
        if "{task}" not in self.task:
            raise ValueError("the task template must contain {task}")

    def paths(self) -> dict[str, str]:
        """The four paths by name."""
        return {
            "working_dir": self.working_dir,
            "input_dir": self.input_dir,
            "output_dir": self.output_dir,
            "answer_file": self.answer_file,
        }

    def render(self, task: str, *, max_turns: int, command_timeout: float) -> dict[str, str]:
        """The finished `system`, `task`, `reminder` and `last` texts for one task (`command_timeout` in seconds)."""
        values = self.paths() | {
            "task": task,
            "max_turns": str(max_turns),
            "command_timeout": f"{command_timeout:g}",
        }
        templates = {"system": self.system, "task": self.task, "reminder": self.reminder, "last": self.last}
        return {name: fill(template, values) for name, template in templates.items()}


#: The places and short texts of llm-in-sandbox 0.2.0. Its long ones are in its own prompt files, which `Prompts` can hold.
LIS02 = Prompts(
    reminder=CONTINUE,
    hint="Steps Remaining: {turns_left}",
    input_dir="/testbed/input",
    answer_file="/testbed/output/answer.txt",
)


def fill(template: str, values: Mapping[str, str]) -> str:
    """`template` with each `{name}` of `values` replaced; all other text, braces included, is kept.

    One pass: a value that itself contains `{task}` is not filled again.
    """
    names = "|".join(re.escape(name) for name in values)
    return re.sub(r"\{(" + names + r")\}", lambda match: values[match[1]], template)
