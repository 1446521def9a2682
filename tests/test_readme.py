"""The README's examples are run as they stand: Python as scripts, shell commands with what they are said to print."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.fresh import environment

README = Path(__file__).resolve().parent.parent / "README.md"

#: A fenced block, with the comment line before it, if there is one.
BLOCK = re.compile(
    r"(?:^<!--[ ]*(?P<comment>[^\n]*?)[ ]*-->[ ]*\n\s*)?"
    r"^```(?P<language>python|console|bash|sh)[ ]*\n(?P<text>.*?)^```[ ]*$",
    re.M | re.S,
)


@dataclass(frozen=True)
class Block:
    """One example of the README."""

    language: str
    text: str
    line: int
    not_run: str | None


def blocks() -> list[Block]:
    """Every example, in order; `<!-- not run: reason -->` before one says why it can't be."""
    text = README.read_text() if README.exists() else ""
    found = []
    for match in BLOCK.finditer(text):
        comment = match["comment"] or ""
        reason = comment.removeprefix("not run:").strip() if comment.startswith("not run") else None
        line = text[: match.start("language")].count("\n") + 1
        found.append(Block(match["language"], match["text"], line, reason))
    return found


def parameters() -> list[object]:
    """The examples as parameters; those that are not run are skipped with their reason."""
    return [
        pytest.param(
            block,
            id=f"line {block.line} {block.language}",
            marks=[pytest.mark.skip(reason=block.not_run or "no reason given")] if block.not_run is not None else [],
        )
        for block in blocks()
    ]


def home_with_tools(home: Path) -> dict[str, str]:
    """An environment in which `lisrt` and `python` are this interpreter's."""
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])
    return environment(PATH=path, HOME=str(home), COLUMNS="120", NO_COLOR="1")


def commands(text: str) -> list[tuple[str, list[str]]]:
    """The `$ command` lines of a block, each with the output lines that follow it; without any, the block is one script."""
    if not re.search(r"^\$ ", text, re.M):
        return [(text, [])]
    found: list[tuple[str, list[str]]] = []
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith("$ "):
            command = line[2:]
            while command.endswith("\\"):
                command += "\n" + next(lines).removeprefix("> ")
            found.append((command, []))
        elif line.strip():
            assert found, f"output before the first command: {line!r}"
            found[-1][1].append(line)
    return found


def loosely(line: str) -> re.Pattern[str]:
    """A pattern for a line of output: numbers may differ, blanks too, `...` is anything."""
    pieces = []
    for piece in re.split(r"(\.\.\.|…|\d+(?:[.,]\d+)*|\s+)", line.strip()):
        if piece in ("...", "…"):
            pieces.append(".*")
        elif re.fullmatch(r"\d+(?:[.,]\d+)*", piece):
            pieces.append(r"\d+(?:[.,]\d+)*")
        elif piece.isspace():
            pieces.append(r"\s+")
        else:
            pieces.append(re.escape(piece))
    return re.compile("".join(pieces))


def test_loose_comparison() -> None:
    """The comparison forgives numbers, blanks and what is left out, and nothing else."""
    assert loosely("ran  12 in 0.5 s").search("  ran 7 in 13.25 s")
    assert loosely("first ... last").search("first of all, last")
    assert not loosely("two words").search("two swords")
    assert not loosely("a.c").search("abc")
    assert commands("$ one \\\n> two\nout\n\n$ three\n") == [("one \\\ntwo", ["out"]), ("three", [])]


def test_the_readme_has_examples() -> None:
    """There is a README, and it shows Python and the command line."""
    assert {block.language for block in blocks()} >= {"python"}
    assert any(block.language != "python" for block in blocks())
    assert any(block.not_run is None for block in blocks())


def test_what_is_not_run_says_why() -> None:
    """An example that is left out has a reason beside it."""
    assert all(block.not_run for block in blocks() if block.not_run is not None)


@pytest.mark.parametrize("block", [*parameters()])
def test_example(block: Block, tmp_path: Path, working_host: None) -> None:
    """The example works as printed."""
    env = home_with_tools(tmp_path)
    if block.language == "python":
        script = tmp_path / "example.py"
        script.write_text(block.text)
        done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return
    for command, expected in commands(block.text):
        done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
        said = done.stdout + done.stderr
        if not expected:
            assert done.returncode == 0, f"{command}\n{said}"
        rest = said
        for line in expected:
            found = loosely(line).search(rest)
            assert found, f"{command}\nsaid\n{said}\nwithout\n{line}"
            rest = rest[found.end() :]
