"""The two sides of the wire, by property: what Python encodes the helper decodes; no bytes that arrive raise anything but
what is documented; no descriptor is lost."""

import contextlib
import errno
import os
import socket
import struct
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_plan import SAMPLES, plan_of, plan_with

from lisrt import LisrtError, Sandbox
from lisrt.explain import fault_error
from lisrt.files import FileServer
from lisrt.kernel import steps, wire
from lisrt.kernel.native import check_plan
from lisrt.waiting import drive

often = settings(max_examples=300, deadline=None, database=None)

# Plans


@dataclass(frozen=True)
class Decoded:
    """One step, as a reader of csrc/plan.c's comment would decode it."""

    kind: int
    numbers: tuple[int, int, int]
    strings: tuple[bytes, ...]


def decoded(data: bytes) -> list[Decoded]:
    """All steps of a plan that is known to be good."""
    magic, count = struct.unpack_from("=II", data)
    assert magic == wire.MAGIC
    at, found = 8, []
    for _ in range(count):
        kind, nstrings, *numbers = struct.unpack_from("=HHQQQ", data, at)
        at += 28
        strings = []
        for _ in range(nstrings):
            (size,) = struct.unpack_from("=I", data, at)
            strings.append(data[at + 4 : at + 4 + size])
            assert data[at + 4 + size] == 0
            at += size + 5
        found.append(Decoded(kind, (numbers[0], numbers[1], numbers[2]), tuple(strings)))
    assert at == len(data)
    return found


def as_decoded(step: steps.Step) -> Decoded:
    return Decoded(step.kind, step.numbers(), tuple(os.fsencode(text) for text in step.strings()))


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12)
TARGETS = st.lists(NAMES.filter(lambda name: name not in (".", "..")), min_size=1, max_size=4).map("/".join)
SOURCES = st.one_of(st.just("/"), TARGETS.map(lambda target: "/" + target))
MODES = st.integers(0, 0o7777)
POSITIVE = st.integers(1, 2**64 - 1)

STEPS: st.SearchStrategy[steps.Step] = st.one_of(
    st.builds(steps.Bind, SOURCES, TARGETS, st.sampled_from([0, 1, 2])),
    st.builds(steps.Proc, TARGETS),
    st.builds(steps.Dev, TARGETS),
    st.builds(steps.Devpts, TARGETS),
    st.builds(steps.Tmpfs, TARGETS, POSITIVE, POSITIVE, MODES),
    st.builds(steps.Directory, TARGETS, MODES, st.booleans()),
    st.builds(steps.Overlay, st.lists(SOURCES, min_size=1, max_size=30).map(tuple)),
    st.builds(steps.Hostname, NAMES.filter(lambda name: len(os.fsencode(name)) <= 64)),
    st.builds(lambda soft, more: steps.Rlimit(7, soft, min(soft + more, 2**64 - 1)), POSITIVE, POSITIVE),
    st.builds(steps.User, st.integers(0, 2**32 - 2), st.integers(0, 2**32 - 2)),
)


@often
@given(st.lists(STEPS, max_size=30))
def test_what_python_encodes_the_helper_decodes(extra: list[steps.Step]) -> None:
    """Every value that a step may have survives the wire, and the helper counts the same steps."""
    plan = plan_with(*extra)
    data = steps.encode(plan)
    assert decoded(data) == [as_decoded(step) for step in plan]
    assert check_plan(data) == len(plan)


def mutations(plan: bytes) -> st.SearchStrategy[bytes]:
    """The plan with a few bytes replaced, cut out or put in: some of the results are plans again."""
    edits = st.tuples(st.integers(0, len(plan)), st.integers(0, 4), st.binary(max_size=4))

    def apply(changes: list[tuple[int, int, bytes]]) -> bytes:
        data = plan
        for at, gone, new in changes:
            data = data[:at] + new + data[at + gone :]
        return data

    return st.lists(edits, max_size=3).map(apply)


@often
@given(st.one_of(mutations(plan_of().encoded), mutations(steps.encode(plan_with(*SAMPLES.values())))))
def test_a_damaged_plan_is_understood_alike_or_refused(data: bytes) -> None:
    """What the helper takes means the same to Python, step by step, and privileges only fall in it; the rest has a reason."""
    try:
        count = check_plan(data)
    except ValueError as refusal:
        assert str(refusal)
        return
    found = decoded(data)
    assert len(found) == count
    kinds = [step.kind for step in found]
    assert set(kinds) <= {kind.kind for kind in steps.Step.__subclasses__()}
    assert kinds[:2] == [steps.Namespaces.kind, steps.Overlay.kind]
    assert kinds.count(steps.User.kind) == 1
    after_user = kinds[kinds.index(steps.User.kind) + 1 :]
    assert not set(after_user) & {steps.Bind.kind, steps.Tmpfs.kind, steps.Directory.kind, steps.Rlimit.kind}


# Messages

ANSWERS = (wire.FAULT, wire.EXITED, wire.NOT_STARTED, wire.FILE, wire.DIALLED)
MESSAGES = st.one_of(
    st.binary(max_size=320),
    st.builds(lambda kind, rest: wire.encode_plain(kind) + rest, st.integers(0, 70), st.binary(max_size=320)),
    # of just the right length, else few would ever be
    st.builds(
        lambda kind, rest: wire.encode_plain(kind[0]) + rest[: kind[1] - 8],
        st.sampled_from(
            [(wire.FAULT, 264), (wire.EXITED, 64), (wire.NOT_STARTED, 64), (wire.FILE, 32), (wire.DIALLED, 16)]
        ),
        st.binary(min_size=256, max_size=256),
    ),
)


@often
@given(MESSAGES)
def test_a_message_that_has_a_kind_can_be_decoded(message: bytes) -> None:
    """`kind` is the one question that is asked of bytes from outside: after it no decoder fails, and no words are missing."""
    match wire.kind(message):
        case wire.FAULT:
            error = fault_error(wire.decode_fault(message))
            assert isinstance(error, LisrtError) and str(error)
        case wire.EXITED | wire.NOT_STARTED:
            assert wire.decode_exit(message).kind == wire.kind(message)
        case wire.DIALLED:
            assert isinstance(wire.decode_dialled(message), int)
        case wire.FILE:
            reply = wire.decode_file_reply(message)
            assert b"\0" not in reply.name + reply.target


@pytest.mark.parametrize("kind", ANSWERS)
def test_an_answer_that_is_cut_is_no_message(kind: int) -> None:
    """Down to the last byte of its fixed part."""
    whole = {wire.FAULT: 264, wire.FILE: 32, wire.DIALLED: 16}.get(kind, 64)
    message = wire.encode_plain(kind) + bytes(whole - 8)
    assert wire.kind(message) == kind
    assert {wire.kind(message[:end]) for end in range(whole)} == {0}


ARGUMENTS = st.lists(st.binary(max_size=30).map(lambda text: text.replace(b"\0", b"")), min_size=1, max_size=8)


@often
@given(cwd=ARGUMENTS, argv=ARGUMENTS, env=ARGUMENTS, timeout=st.one_of(st.none(), st.floats(1e-12, 1e9)))
def test_every_command_can_be_encoded(cwd: list[bytes], argv: list[bytes], env: list[bytes], timeout: float | None) -> None:
    """The strings are told apart by their NULs, empty ones too, and no time limit becomes none by rounding."""
    header, body = wire.encode_exec(0, cwd[0], argv, env, timeout)
    assert body.split(b"\0") == [cwd[0], *argv, *env, b""]
    numbers = struct.unpack("=IIIIIIQ", header)
    assert numbers[3:5] == (len(argv), len(env))
    assert (numbers[6] == 0) == (timeout is None)


# Sockets


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@settings(max_examples=50, deadline=None, database=None)
@given(st.integers(0, 8), st.binary(min_size=1, max_size=60))
def test_no_descriptor_is_lost(count: int, data: bytes) -> None:
    """Of those that come with a message, one is handed on and the others are closed."""
    before = open_descriptors()
    ours, theirs = wire.pair()
    with ours, theirs:
        wire.send(theirs, data, (0,) * count)
        received, fd = wire.receive(ours, with_fd=True)
        assert received == data
        assert (fd >= 0) == (count > 0)
        if fd >= 0:
            assert not os.get_inheritable(fd)
            os.close(fd)
    assert open_descriptors() == before


@pytest.fixture(scope="module")
def sandbox(working_host: None) -> Sandbox:
    with Sandbox() as box:
        yield box  # type: ignore[misc]


@settings(max_examples=200, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answers=st.lists(MESSAGES.filter(bool), max_size=3), with_fd=st.booleans(), op=st.sampled_from([1, 2, 3, 6]))
def test_a_file_server_gone_mad_is_an_os_error(sandbox: Sandbox, answers: list[bytes], with_fd: bool, op: int) -> None:
    """It runs inside the sandbox: whatever it answers, the caller gets a result or an OSError, and keeps no descriptor."""
    before = open_descriptors()
    ours, theirs = wire.pair()
    with ours:
        with theirs:
            for answer in answers:
                wire.send(theirs, answer, (theirs.fileno(),) if with_fd else ())
            theirs.shutdown(socket.SHUT_WR)
            server = FileServer(sandbox._box.channel, ours)
            with contextlib.suppress(OSError):
                if op == wire.LIST:
                    assert all(entry.more for entry in drive(server.entries(b"/")))
                else:
                    fd, _ = drive(server.open(op, b"/"))
                    os.close(fd)
    assert open_descriptors() == before


def test_a_message_to_nobody_is_a_broken_pipe() -> None:
    """The errors that the callers of `send` look for."""
    ours, theirs = wire.pair()
    theirs.close()
    with ours, pytest.raises(OSError) as raised:
        wire.send(ours, b"x")
    assert raised.value.errno in (errno.EPIPE, errno.ECONNRESET)
