"""A persistent shell: what one call leaves, the next one finds; what kills a call costs nothing of it."""

import asyncio
import json
from typing import Any

import pytest

from lisrt import AsyncSandbox
from lisrt.agent.tools import AsyncTools, Observation

pytestmark = pytest.mark.usefixtures("working_host")


def session(*scripts: str | dict[str, Any], **settings: Any) -> list[Observation]:
    """The observations of those calls in one persistent shell."""

    async def run() -> list[Observation]:
        async with AsyncSandbox() as box:
            tools = AsyncTools(box, shell="persistent", **settings)
            calls = [{"command": script} if isinstance(script, str) else script for script in scripts]
            return [await tools.call("execute_bash", json.dumps(call)) for call in calls]

    return asyncio.run(run())


def printed(*scripts: str) -> str:
    """What the last of those scripts has printed; each before it must have ended well."""
    *before, last = session(*scripts)
    assert [one.details["exit_code"] for one in before] == [0] * len(before), before
    assert last.details["exit_code"] == 0, last.text
    return last.text.partition("[stdout]\n")[2]


@pytest.mark.parametrize(
    ("leave", "find", "expected"),
    [
        ("cd /usr/share", "pwd", "/usr/share\n"),
        ("cd /usr; cd /tmp", "cd - >/dev/null; pwd", "/usr\n"),
        ("x=plain; export Y='with space'", 'echo "$x"; env | grep ^Y=', "plain\nY=with space\n"),
        ("unset HOME", 'echo "${HOME-none}"', "none\n"),
        ("PATH=/usr/bin:/bin:/mine", 'echo "$PATH"', "/usr/bin:/bin:/mine\n"),
        ("a=(1 'two words' 3); declare -A m=([k]=v)", 'echo "${a[1]} ${m[k]}"', "two words v\n"),
        ("x=$'line\\nother\\ttab \\'\"`$'", 'printf "%s" "$x" | od -An -c', None),
        ("readonly R=1", "(R=2) 2>/dev/null || echo kept $R", "kept 1\n"),
        ("f() { cat <<END\nhere $1\nEND\n}", "f doc", "here doc\n"),
        ("f() { echo $1; }; export -f f", "bash -c 'f exported'", "exported\n"),
        ("shopt -s expand_aliases; alias hi='echo hello'", "hi", "hello\n"),
        ("set -o pipefail; shopt -s nullglob", "set -o | grep pipefail; shopt nullglob", None),
        ("set -u", "(echo $nothing) 2>/dev/null || echo refused", "refused\n"),
        ("set -C; echo 1 > file", "(echo 2 > file) 2>/dev/null || cat file", "1\n"),
        ("umask 027", "umask", "0027\n"),
        ("set -- one 'and two'", 'echo $# "$2"', "2 and two\n"),
        ("trap 'echo caught' USR1", "kill -USR1 $$; true", "caught\n"),
        ("IFS=:; list=a:b", "for i in $list; do echo $i; done", "a\nb\n"),
        ("cd() { builtin cd /; }; printf() { echo mine; }; declare() { :; }; x=1", "echo $x; printf no", "1\nmine\n"),
        ("alias builtin=false; shopt -s expand_aliases; y=2", "echo $y", "2\n"),
        (
            "python3 -m venv --without-pip /tmp/v && . /tmp/v/bin/activate",
            "command -v python3; deactivate && echo off",
            "/tmp/v/bin/python3\noff\n",
        ),
    ],
)  # fmt: skip
def test_what_is_left_is_found(leave: str, find: str, expected: str | None) -> None:
    found = printed(leave, find)
    if expected is None:  # as one shell alone would have it
        [expected] = [one.text.partition("[stdout]\n")[2] for one in session(f"{leave}\n{find}")]
        assert expected
    assert found == expected


def test_the_status_of_the_call_before_is_known() -> None:
    assert session("exit 7", "echo $?")[1].text == "Exit code: 0\n[stdout]\n7\n"
    assert session("set -o pipefail; false | true", "echo $?")[1].text == "Exit code: 0\n[stdout]\n1\n"


def test_an_error_ends_the_call_under_errexit_and_not_the_shell() -> None:
    first, second, third = session("set -e", "echo before; false; echo after", "echo alive; x=1")
    assert first.details["exit_code"] == 0
    assert (second.details["exit_code"], second.text) == (1, "Exit code: 1\n[stdout]\nbefore\n")
    assert third.text == "Exit code: 0\n[stdout]\nalive\n"


def test_tracing_shows_the_script_alone() -> None:
    traced = session("set -x", "echo one")[1]
    assert traced.text == "Exit code: 0\n[stdout]\none\n\n[stderr]\n++ echo one\n"


def test_messages_count_the_lines_of_the_script() -> None:
    observation = session("true", "true\nnosuchprogram")[1]
    assert "bash: line 2: nosuchprogram: command not found" in observation.text
    broken = session("if then")[0]
    assert "line 1: syntax error" in broken.text
    assert "__lisrt" not in broken.text


@pytest.mark.parametrize("end", ["kill -KILL $$", "sleep 3600", "exec sleep 3600", "while :; do :; done"])
def test_what_kills_a_call_costs_nothing_that_was_set_up_before(end: str) -> None:
    """A shell that is killed, hangs, or is replaced: the next call goes on with what the one before it had left."""
    _, killed, after = session("cd /usr; x=kept", {"command": f"x=lost; cd /tmp; {end}", "timeout": 1}, "pwd; echo $x")
    assert killed.outcome in ("signaled", "timed_out")
    assert after.text == "Exit code: 0\n[stdout]\n/usr\nkept\n"


def test_background_programs_live_on() -> None:
    *_, last = session("sleep 3600 & echo $! > pid", "kill -0 $(cat pid) && echo alive")
    assert last.text == "Exit code: 0\n[stdout]\nalive\n"


def test_a_directory_that_is_gone() -> None:
    *_, last = session("mkdir /tmp/d; cd /tmp/d", "rmdir /tmp/d", "pwd")
    assert last.text == "Exit code: 0\n[stdout]\n/testbed\n\n[stderr]\nlisrt: the directory /tmp/d is gone\n"


def test_it_can_begin_anew() -> None:
    again = {"restart": True, "command": "echo $0"}
    _, anew, after, both = session("x=1; cd /usr", {"restart": True}, "pwd; echo ${x-none}", again)
    assert anew.outcome == "done"
    assert after.text == "Exit code: 0\n[stdout]\n/testbed\nnone\n"
    assert both.details["exit_code"] == 0


def test_a_full_disk_keeps_the_old_state() -> None:
    """State that can't be written whole is not taken for whole."""
    fill = "x=$(head -c 100000 /dev/zero | tr '\\0' a); ulimit -f 1; trap '' XFSZ"
    assert session("x=old", fill, "echo ${#x}")[2].text == "Exit code: 0\n[stdout]\n3\n"


def test_a_fresh_shell_forgets() -> None:
    async def run() -> str:
        async with AsyncSandbox() as box:
            tools = AsyncTools(box)
            await tools.call("execute_bash", {"command": "x=1; cd /usr"})
            return (await tools.call("execute_bash", {"command": "pwd; echo ${x-none}", "restart": True})).text

    assert asyncio.run(run()) == "Exit code: 0\n[stdout]\n/testbed\nnone\n"
