"""How a command ended: its own exit codes and signals, told apart from programs that never started."""

import signal

import pytest
from support.subjects import Box
from support.waiting import not_blocked

from lisrt import Outcome


@pytest.mark.parametrize("code", [0, 1, 2, 3, 42, 125, 126, 127, 128, 130, 137, 143, 255])
def test_exit_codes_are_the_programs_own(box: Box, code: int) -> None:
    """An exit code is an exit code, also where shells give it another meaning."""
    result = box.run(["sh", "-c", f"exit {code}"])
    assert (result.outcome, result.exit_code, result.signal, result.returncode) == (Outcome.EXITED, code, None, code)
    assert result.started
    assert result.ok == (code == 0)


@pytest.mark.parametrize("number", [1, 2, 3, 6, 8, 9, 10, 11, 13, 14, 15, 24, 31, 34, 64])
def test_a_death_by_signal_is_told(box: Box, number: int) -> None:
    """A signal's number is told apart from exit codes; the shell's view is 128 + N."""
    source = """
import os, signal, sys, time
number = int(sys.argv[1])
if number != signal.SIGKILL:
    signal.signal(number, signal.SIG_DFL)  # Python itself ignores SIGPIPE
os.kill(os.getpid(), number)
time.sleep(1000)
"""
    result = box.python(source, str(number))
    assert (result.outcome, result.exit_code, result.signal) == (Outcome.SIGNALED, None, number)
    assert result.returncode == 128 + number
    assert result.started
    assert not result.ok


def test_a_fast_death_is_no_timeout(box: Box) -> None:
    """A program that dies of SIGKILL before its deadline was not timed out."""
    with not_blocked():
        result = box.sh("kill -9 $$", timeout=100)
    assert (result.outcome, result.signal) == (Outcome.SIGNALED, signal.SIGKILL)


def test_a_timeout_is_no_death_by_signal(box: Box) -> None:
    """A program killed at its deadline was timed out, whatever signal did it; the shell's view is 137."""
    result = box.run(["sleep", "1000"], timeout=0.2)
    assert result.outcome is Outcome.TIMED_OUT
    assert result.exit_code is None
    assert result.returncode == 137
    assert result.started
    assert not result.ok
    assert 0.2 <= result.duration < 20


def test_a_quick_command_meets_its_deadline(box: Box) -> None:
    """A deadline that isn't reached changes nothing."""
    result = box.run(["echo", "quick"], timeout=100)
    assert (result.outcome, result.stdout) == (Outcome.EXITED, "quick\n")


def test_a_shell_reports_a_childs_signal_itself(box: Box) -> None:
    """When the shell lives on after its child's signal, the shell's exit code is what there is."""
    result = box.sh("sh -c 'kill -9 $$'; exit $?")
    assert (result.outcome, result.exit_code) == (Outcome.EXITED, 137)


@pytest.mark.parametrize("argv", [["no-such-program-anywhere"], ["/no/such/program"], ["./missing", "arg"], [""]])
def test_a_missing_program_did_not_start(box: Box, argv: list[str]) -> None:
    """A program that isn't there gives 127 like a shell, says so in stderr, and is marked as not started."""
    result = box.run(argv)
    assert (result.outcome, result.exit_code, result.returncode) == (Outcome.EXITED, 127, 127)
    assert not result.started
    assert not result.ok
    assert result.stderr
    assert argv[0] in result.stderr


def test_a_missing_interpreter_did_not_start(box: Box) -> None:
    """A script whose interpreter isn't there is no program either."""
    box.write("/testbed/script", "#!/no/such/interpreter\n", mode=0o755)
    result = box.run(["/testbed/script"])
    assert (result.exit_code, result.started) == (127, False)


def test_a_shells_127_is_its_own(box: Box) -> None:
    """When a shell looks in vain, the shell did start."""
    result = box.sh("no-such-program-anywhere")
    assert (result.exit_code, result.started) == (127, True)


@pytest.mark.parametrize("path", ["/testbed/plain", "/testbed/directory", "/testbed"])
def test_what_is_not_executable_is_a_permission_error(box: Box, path: str) -> None:
    """A file without x bits, or a directory, is the caller's PermissionError with the path."""
    box.write("/testbed/plain", "#!/bin/sh\n")
    box.run(["mkdir", "/testbed/directory"]).check()
    with pytest.raises(PermissionError) as raised:
        box.run([path])
    assert raised.value.filename == path
    assert box.run(["true"]).ok


def test_no_core_is_dumped(box: Box) -> None:
    """A crash leaves no core file in the workdir."""
    box.sh("kill -ABRT $$; :")
    assert box.run(["ls", "-A"]).stdout == ""
