"""What flows: stdin of any size, output of any size and content, in bounded memory and without blocking."""

import hashlib
import os
from pathlib import Path

import pytest
from support.fresh import python
from support.procs import assert_gone, assert_lives
from support.subjects import Box
from support.waiting import not_blocked

from lisrt import Outcome

MIB = 1 << 20
BIG = os.urandom(MIB) * 50


def test_stdin_is_empty_by_default(box: Box) -> None:
    """A command that reads gets the end of file at once; it neither hangs nor reads the host's stdin."""
    with not_blocked():
        assert box.run(["cat"]).stdout_bytes == b""


@pytest.mark.parametrize("data", [b"", b"x", b"\0\xff\r\n", "text é\n", BIG], ids=["0", "1", "binary", "str", "50MiB"])
def test_stdin_arrives_exactly(box: Box, data: str | bytes) -> None:
    """Whatever its size, stdin arrives byte for byte; a str as UTF-8."""
    exact = data.encode() if isinstance(data, str) else data
    result = box.run(["sha256sum"], stdin=data)
    assert result.stdout.split()[0] == hashlib.sha256(exact).hexdigest()


@pytest.mark.parametrize("script", ["exit 5", "head -c 1 >/dev/null; exit 5", "exec <&-; exit 5", "exec </dev/null; exit 5"])
def test_unread_stdin_is_no_error(box: Box, script: str) -> None:
    """A program may leave 50 MiB of stdin unread, or close it: no hang, no error, its own exit code."""
    with not_blocked():
        result = box.sh(script, stdin=BIG)
    assert (result.outcome, result.exit_code) == (Outcome.EXITED, 5)


def test_unread_stdin_with_a_timeout(box: Box) -> None:
    """A program that never reads and never ends is timed out as usual."""
    with not_blocked():
        assert box.run(["sleep", "1000"], stdin=BIG, timeout=0.2).outcome is Outcome.TIMED_OUT


def test_a_background_child_that_holds_unread_stdin(box: Box, marker: str) -> None:
    """The command is over when its process exits, though a child keeps the reading end of 50 MiB of stdin."""
    with not_blocked():
        result = box.sh(f"exec 3<&0; sleep {marker} <&3 >/dev/null 2>&1 & echo over", stdin=BIG)
    assert result.stdout == "over\n"
    assert_lives(marker)
    box.close()
    assert_gone(marker)


def test_all_streams_at_once(box: Box) -> None:
    """50 MiB in, 50 MiB out and 50 MiB of stderr at the same time: no deadlock, everything exact."""
    with not_blocked(40):
        result = box.run(["tee", "/dev/stderr"], stdin=BIG, max_output=64 * MIB)
    assert result.stdout_bytes == BIG
    assert result.stderr_bytes == BIG
    assert not result.truncated


def test_binary_output_is_exact(box: Box) -> None:
    """All bytes come back as they were: NUL, CR LF, invalid UTF-8."""
    everything = bytes(range(256)) * 64 + b"\r\n\0"
    result = box.run(["cat"], stdin=everything)
    assert result.stdout_bytes == everything


def test_bad_utf8_is_replaced(box: Box) -> None:
    """The text has U+FFFD for what is no UTF-8; line ends are not translated."""
    result = box.sh("printf 'a\\377b\\r\\nc\\303\\251'; printf '\\200' >&2")
    assert result.stdout == "a\ufffdb\r\nc\xe9"
    assert result.stderr == "\ufffd"
    assert result.stderr_bytes == b"\x80"


def numbered(total: int) -> bytes:
    """Text in which every part can be told from every other."""
    return b"".join(b"%09d\n" % i for i in range(total // 10))


def test_long_output_keeps_head_and_tail(box: Box) -> None:
    """Over the cap the middle is dropped and counted; the beginning and the end are there, unaltered."""
    data = numbered(1_000_000)
    result = box.run(["cat"], stdin=data, max_output=10_000)
    kept = result.stdout_bytes
    assert result.truncated
    assert result.dropped_stdout == len(data) - len(kept)
    assert len(kept) <= 10_000
    head = len(os.path.commonprefix([kept, data]))
    tail = len(os.path.commonprefix([kept[::-1], data[::-1]]))
    assert head >= 1000, "the head is a fair share"
    assert tail >= 1000, "the tail is a fair share"
    assert head + tail >= len(kept), "nothing but head and tail"
    assert result.ok


@pytest.mark.parametrize("extra", [0, 1])
def test_the_cap_is_exact(box: Box, extra: int) -> None:
    """Output as long as the cap is whole; one byte more is truncated."""
    data = numbered(10_000) + b"x" * extra
    result = box.run(["cat"], stdin=data, max_output=10_000)
    assert result.truncated == bool(extra)
    assert result.dropped_stdout == len(data) - len(result.stdout_bytes)
    assert (result.stdout_bytes == data) == (not extra)


def test_the_cap_is_per_stream(box: Box) -> None:
    """A flood on one stream costs nothing of the other."""
    result = box.sh("head -c 100000 /dev/zero; echo precious >&2", max_output=1000)
    assert result.truncated
    assert result.dropped_stdout > 0
    assert (result.dropped_stderr, result.stderr) == (0, "precious\n")
    other = box.sh("head -c 100000 /dev/zero >&2; echo precious", max_output=1000)
    assert other.truncated
    assert (other.dropped_stdout, other.stdout) == (0, "precious\n")
    assert other.dropped_stderr == 100_000 - len(other.stderr_bytes)


def test_the_cap_holds_for_merged_streams(box: Box) -> None:
    """Merged, there is one stream and one cap."""
    result = box.sh("head -c 50000 /dev/zero; head -c 50000 /dev/zero >&2", merge_stderr=True, max_output=1000)
    assert len(result.stdout_bytes) <= 1000
    assert result.dropped_stdout == 100_000 - len(result.stdout_bytes)


def test_a_cut_character_is_no_error(box: Box) -> None:
    """Where the cut falls inside a multi-byte character the text is decoded all the same."""
    for cap in (1000, 1001, 1002, 1003):
        result = box.run(["cat"], stdin="€" * 10_000, max_output=cap)
        assert result.stdout.startswith("€€€")
        assert result.stdout.endswith("€€€")


def test_the_default_cap_is_a_mebibyte(box: Box) -> None:
    """By default a stream is kept up to 1 MiB."""
    whole = box.sh(f"head -c {MIB} /dev/zero")
    assert (len(whole.stdout_bytes), whole.truncated) == (MIB, False)
    result = box.sh(f"head -c {3 * MIB} /dev/zero")
    assert result.truncated
    assert len(result.stdout_bytes) <= MIB
    assert result.dropped_stdout == 3 * MIB - len(result.stdout_bytes)


def test_a_program_never_blocks_on_the_cap(box: Box) -> None:
    """The program writes all it wants, however small the cap, and reaches its end."""
    with not_blocked():
        result = box.sh("head -c 20000000 /dev/zero; head -c 20000000 /dev/zero >&2; echo end > done", max_output=10)
    assert result.ok
    assert box.read("done") == b"end\n"


def test_closed_outputs_do_not_end_a_command(box: Box) -> None:
    """A command is over when its process exits, not when it has closed its streams."""
    result = box.sh("exec <&- >&- 2>&-; for i in 1 2 3 4 5; do /bin/true; done; echo on > mark; exit 6")
    assert result.exit_code == 6
    assert box.read("mark") == b"on\n"


def test_the_last_words_are_heard(box: Box) -> None:
    """Output written immediately before the exit is never lost, on either stream."""
    for i in range(50):
        result = box.sh(f"printf out{i}; printf err{i} >&2; exit {i}")
        assert (result.stdout, result.stderr, result.exit_code) == (f"out{i}", f"err{i}", i)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_hundred_megabytes_in_bounded_memory(kind: str, tmp_path: Path, working_host: None) -> None:
    """100 MB of output cost this process a few MiB, not 100."""
    source = """
        import asyncio
        from lisrt import AsyncSandbox, Sandbox

        def peak():
            return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024

        command = ["head", "-c", "100000000", "/dev/zero"]

        def sync():
            with Sandbox() as box:
                box.run(["true"])
                before = peak()
                return box.run(command), peak() - before

        async def not_sync():
            async with AsyncSandbox() as box:
                await box.run(["true"])
                before = peak()
                return await box.run(command), peak() - before

        result, grown = sync() if %r == "sync" else asyncio.run(not_sync())
        assert result.dropped_stdout == 100_000_000 - len(result.stdout_bytes), result.dropped_stdout
        assert len(result.stdout_bytes) <= 1 << 20
        assert grown < 24 << 20, f"grew by {grown >> 20} MiB"
    """
    python(source % kind, cwd=tmp_path)
