"""What one gets back: results, transfers, errors; and that all of them cross process boundaries."""

import copy
import errno
import json
import multiprocessing
import pickle
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from lisrt import (
    CommandFailed,
    ExecResult,
    HostError,
    ImageError,
    LisrtError,
    Outcome,
    SandboxGone,
    SetupError,
    Transfer,
    Usage,
)
from lisrt.pipes import Capture


def result_of(**changes: Any) -> ExecResult:
    """The result of a command that exited 0, but for the changes."""
    values: dict[str, Any] = {
        "argv": ("prog", "arg"),
        "outcome": Outcome.EXITED,
        "exit_code": 0,
        "signal": None,
        "stdout_bytes": b"",
        "stderr_bytes": b"",
        "dropped_stdout": 0,
        "dropped_stderr": 0,
        "duration": 0.25,
        "usage": Usage(0.125, 4096),
    }
    return ExecResult(**{**values, **changes})


EXITED_3 = result_of(exit_code=3, stderr_bytes=b"it broke\n")
SIGNALED = result_of(outcome=Outcome.SIGNALED, exit_code=None, signal=int(signal.SIGSEGV))
REAL_TIME = result_of(outcome=Outcome.SIGNALED, exit_code=None, signal=40)
TIMED_OUT = result_of(outcome=Outcome.TIMED_OUT, exit_code=None, signal=9, duration=2.04, stdout_bytes=b"so far")
NOT_FOUND = result_of(exit_code=127, started=False, stderr_bytes=b"lisrt: prog: not found\n")


# ExecResult


@pytest.mark.parametrize(
    ("result", "summary"),
    [
        (result_of(), "prog exited with status 0"),
        (EXITED_3, "prog exited with status 3"),
        (SIGNALED, "prog was killed by SIGSEGV"),
        (REAL_TIME, "prog was killed by signal 40"),
        (TIMED_OUT, "prog was killed after its time limit (2.0 s)"),
        (NOT_FOUND, "prog was not found"),
        (result_of(exit_code=127), "prog exited with status 127"),
        (result_of(argv=()), "command exited with status 0"),
    ],
)
def test_the_summary_says_how_it_ended(result: ExecResult, summary: str) -> None:
    """One line; a program's own 127 is told apart from ours."""
    assert result.summary() == summary


@pytest.mark.parametrize(
    ("result", "returncode", "ok"),
    [
        (result_of(), 0, True),
        (EXITED_3, 3, False),
        (result_of(exit_code=255), 255, False),
        (SIGNALED, 128 + 11, False),
        (REAL_TIME, 128 + 40, False),
        (TIMED_OUT, 128 + 9, False),
        (NOT_FOUND, 127, False),
    ],
)
def test_the_return_code_is_the_shells(result: ExecResult, returncode: int, ok: bool) -> None:
    """The exit status, or 128 + the signal; a command cut off by its time limit counts as killed."""
    assert (result.returncode, result.ok) == (returncode, ok)


def test_check_returns_a_good_result() -> None:
    """So that calls can be chained."""
    good = result_of(stdout_bytes=b"x")
    assert good.check() is good


@pytest.mark.parametrize("result", [EXITED_3, SIGNALED, TIMED_OUT, NOT_FOUND])
def test_check_raises_for_any_other(result: ExecResult) -> None:
    """CommandFailed has the result, and its message says how it ended."""
    with pytest.raises(CommandFailed) as raised:
        result.check()
    assert raised.value.result is result
    assert isinstance(raised.value, LisrtError)
    assert str(raised.value).startswith(result.summary())


def test_a_failures_message_ends_with_the_tail_of_stderr() -> None:
    """The last lines are the ones that say why; a flood before them is left out, and no colon dangles without any."""
    assert str(CommandFailed(EXITED_3)) == "prog exited with status 3: it broke"
    assert str(CommandFailed(result_of(exit_code=1))) == "prog exited with status 1"
    assert str(CommandFailed(result_of(exit_code=1, stderr_bytes=b" \n"))) == "prog exited with status 1"
    long = str(CommandFailed(result_of(exit_code=1, stderr_bytes=b"x" * 100_000 + b"the end\n")))
    assert long.endswith("the end")
    assert len(long) < 3000


def test_output_is_bytes_and_text() -> None:
    """Text replaces what is no UTF-8; the bytes are exact."""
    result = result_of(stdout_bytes=b"caf\xc3\xa9 \xff\r\n", stderr_bytes=b"\xfe")
    assert (result.stdout, result.stderr) == ("café \ufffd\r\n", "\ufffd")
    assert result.stdout is result.stdout, "decoded once"
    assert (result.stdout_bytes, result.stderr_bytes) == (b"caf\xc3\xa9 \xff\r\n", b"\xfe")


@pytest.mark.parametrize(("dropped", "truncated"), [((0, 0), False), ((1, 0), True), ((0, 1), True)])
def test_dropped_output_of_either_stream_counts(dropped: tuple[int, int], truncated: bool) -> None:
    """`truncated` is about both."""
    assert result_of(dropped_stdout=dropped[0], dropped_stderr=dropped[1]).truncated is truncated


def test_a_result_is_a_value() -> None:
    """Frozen, equal by content, and pickled with all of it, looked at before or not."""
    result = result_of(stdout_bytes=b"\xff", exit_code=3)
    with pytest.raises(FrozenInstanceError):
        result.exit_code = 0  # type: ignore[misc]
    assert result == result_of(stdout_bytes=b"\xff", exit_code=3)
    for _ in range(2):
        twin = pickle.loads(pickle.dumps(result))
        assert twin == result
        assert (twin.stdout, twin.returncode, twin.usage.memory_peak) == ("\ufffd", 3, 4096)


def test_outcomes_are_strings() -> None:
    """They can be compared with, written as and read from plain text."""
    assert Outcome.TIMED_OUT == "timed_out"
    assert json.dumps({"outcome": Outcome.EXITED}) == '{"outcome": "exited"}'
    assert Outcome("signaled") is Outcome.SIGNALED
    assert f"{Outcome.EXITED}" == "exited"


def test_a_transfer_is_a_value() -> None:
    """Frozen, empty by default, pickled with all of it."""
    transfer = Transfer(files=2, directories=1, bytes=10, skipped=("a/fifo",))
    with pytest.raises(FrozenInstanceError):
        transfer.files = 0  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(transfer)) == transfer
    assert Transfer() == Transfer(0, 0, 0, ())


# Errors

ERRORS: dict[str, LisrtError] = {
    "HostError": HostError("no namespaces", check="user-namespaces", fix="Ask for some"),
    "HostError without a fix": HostError("no namespaces", check="helper", fix=""),
    "ImageError": ImageError("there is no image named 'x'"),
    "SetupError": SetupError("could not mount /proc", stage="proc", errno=errno.EPERM, path="/proc"),
    "SetupError without a path": SetupError("could not start", stage="process", errno=errno.EAGAIN),
    "SandboxGone": SandboxGone("its PID 1 has died"),
    "CommandFailed": CommandFailed(EXITED_3),
}


def fail(name: str) -> None:
    """Raise one of the errors, wherever this runs."""
    raise ERRORS[name]


def assert_same(twin: BaseException, original: LisrtError) -> None:
    """Type, message and attributes; nothing more and nothing less."""
    assert type(twin) is type(original)
    assert str(twin) == str(original)
    attributes = {name: value for name, value in vars(twin).items() if not name.startswith("__")}
    assert attributes == vars(original)


def test_a_host_error_says_cause_and_fix() -> None:
    """Both are in the message, and each can be had alone."""
    error = ERRORS["HostError"]
    assert isinstance(error, HostError)
    assert str(error) == "no namespaces. Ask for some"
    assert (error.check, error.fix) == ("user-namespaces", "Ask for some")
    assert str(ERRORS["HostError without a fix"]) == "no namespaces"


def test_a_setup_error_says_stage_errno_and_path() -> None:
    """With the errno in words, too."""
    error = ERRORS["SetupError"]
    assert isinstance(error, SetupError)
    assert (error.stage, error.errno, error.path, error.strerror) == ("proc", errno.EPERM, "/proc", "Operation not permitted")


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_errors_can_be_pickled(name: str, protocol: int) -> None:
    """With every protocol, and copied."""
    original = ERRORS[name]
    assert_same(pickle.loads(pickle.dumps(original, protocol)), original)
    assert_same(copy.copy(original), original)
    assert_same(copy.deepcopy(original), original)


def test_a_note_on_an_error_is_not_lost() -> None:
    """What a worker added with add_note arrives."""
    for name in ERRORS:
        noted = copy.copy(ERRORS[name])
        noted.add_note("worker 7")
        assert pickle.loads(pickle.dumps(noted)).__notes__ == ["worker 7"]


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """One worker process that was started afresh."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor


@pytest.mark.parametrize("name", ERRORS)
def test_errors_cross_processes(name: str, pool: ProcessPoolExecutor) -> None:
    """What is raised in a worker is raised here, with its attributes: a trainer's pool is not broken by it."""
    with pytest.raises(LisrtError) as raised:
        pool.submit(fail, name).result(timeout=50)
    assert_same(raised.value, ERRORS[name])


def test_results_cross_processes(pool: ProcessPoolExecutor) -> None:
    """And so do the values."""
    assert pool.submit(copy.copy, TIMED_OUT).result(timeout=50) == TIMED_OUT


@pytest.mark.parametrize("limit", [2, 7, 100, 4096])
def test_text_says_where_it_was_cut(limit: int) -> None:
    """Head and tail joined would be another text, and might parse: a line stands between them, and only then."""
    whole = json.dumps(list(range(5000))).encode()
    capture = Capture(limit)
    capture.add(whole)
    kept, dropped = capture.result()
    result = result_of(stdout_bytes=kept, dropped_stdout=dropped)
    assert result.truncated
    head, tail = result.stdout.split(f"\n[lisrt: {dropped} bytes dropped here; max_output was {limit}]\n")
    assert whole.decode().startswith(head) and whole.decode().endswith(tail)
    assert len(head) + len(tail) == limit and 0 <= len(head) - len(tail) <= 1
    with pytest.raises(ValueError, match="."):
        json.loads(result.stdout)
    assert result_of(stdout_bytes=kept).stdout == kept.decode()


def test_a_failure_without_stderr_shows_stdout() -> None:
    """Compilers' wrappers and pytest say on stdout what went wrong."""
    assert "3 tests failed" in str(CommandFailed(result_of(exit_code=1, stdout_bytes=b"3 tests failed\n")))
    both = result_of(exit_code=1, stdout_bytes=b"noise\n", stderr_bytes=b"cause\n")
    assert str(CommandFailed(both)).endswith("cause")
