"""What is run: argv and scripts, environment, working directory, and the refusals of nonsense."""

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import pytest
from support.subjects import Box
from support.waiting import not_blocked

from lisrt import CommandFailed, LisrtError, Outcome


def test_argv_arrives_exactly(box: Box) -> None:
    """No shell stands between: spaces, stars, dollars, quotes and empty arguments arrive as they are."""
    words = ["a b", "", "*", "$HOME", "'\"", "é", "-n", "tab\there", "new\nline"]
    result = box.run(["printf", "%s|", *words])
    assert result.stdout == "".join(word + "|" for word in words)
    assert list(result.argv) == ["printf", "%s|", *words]


def test_argv_may_be_bytes_and_paths(box: Box) -> None:
    """Arguments are str, bytes or path-like, mixed as one likes; bytes need not be UTF-8."""
    result = box.run([PurePosixPath("/usr/bin/printf"), b"%s%s", b"\xff\xfe", "z"])
    assert result.stdout_bytes == b"\xff\xfez"


def test_undecodable_str_arguments_arrive_as_their_bytes(box: Box) -> None:
    """Names that Python decoded with surrogateescape go back to the bytes they were."""
    assert box.run(["printf", "%s", "caf\udce9"]).stdout_bytes == b"caf\xe9"


def test_a_result_is_frozen(box: Box) -> None:
    """What a command did can't be rewritten afterwards."""
    result = box.run(["true"])
    with pytest.raises(AttributeError):
        result.exit_code = 1  # type: ignore[misc]


def test_a_result_says_everything(box: Box) -> None:
    """A plain command that succeeds: each field has the value that a reader expects."""
    result = box.run(["sh", "-c", "echo out; echo err >&2"])
    assert (result.outcome, result.exit_code, result.signal, result.returncode) == (Outcome.EXITED, 0, None, 0)
    assert (result.stdout, result.stderr) == ("out\n", "err\n")
    assert (result.stdout_bytes, result.stderr_bytes) == (b"out\n", b"err\n")
    assert (result.truncated, result.dropped_stdout, result.dropped_stderr) == (False, 0, 0)
    assert result.started
    assert result.ok
    assert result.check() is result


def test_check_raises_for_a_failed_command(box: Box) -> None:
    """`check()` turns a failure into an exception that carries the result and the end of stderr."""
    result = box.sh("echo why it went wrong >&2; exit 3")
    assert not result.ok
    with pytest.raises(CommandFailed, match="why it went wrong") as raised:
        result.check()
    assert raised.value.result is result
    assert isinstance(raised.value, LisrtError)


def test_sh_is_bash(box: Box) -> None:
    """A script has arrays, here-documents and several lines, and its last status is the command's."""
    result = box.sh("words=(one two)\ncat <<END\n${words[1]} ${BASH_VERSION:+bash}\nEND\nexit 4")
    assert result.stdout == "two bash\n"
    assert result.exit_code == 4


def test_nothing_of_a_shell_persists(box: Box) -> None:
    """Each script is a shell of its own: variables, functions and cwd don't carry over; files do."""
    box.sh("cd /tmp; export LEFT=1; f() { echo f; }; echo kept > /testbed/kept")
    result = box.sh("pwd; echo ${LEFT-unset}; type -t f; cat kept")
    assert result.stdout == "/testbed\nunset\nkept\n"


def test_streams_are_apart(box: Box) -> None:
    """stdout and stderr don't mix."""
    result = box.python("import os\nfor i in range(100): os.write(1, b'o'); os.write(2, b'e')")
    assert (result.stdout, result.stderr) == ("o" * 100, "e" * 100)


def test_merged_streams_keep_their_order(box: Box) -> None:
    """With merge_stderr the two are one stream in the order of the writes."""
    source = "import os\nfor i in range(100): os.write(1, b'o%d ' % i); os.write(2, b'e%d ' % i)"
    result = box.python(source, merge_stderr=True)
    assert result.stdout == "".join(f"o{i} e{i} " for i in range(100))
    assert (result.stderr, result.stderr_bytes) == ("", b"")


def test_a_program_may_reopen_its_streams(box: Box) -> None:
    """/dev/stdout and /dev/stderr work, as scripts expect."""
    result = box.sh("echo out > /dev/stdout; echo err > /dev/stderr; cat /dev/stdin", stdin="in")
    assert (result.stdout, result.stderr) == ("out\nin", "err\n")


def test_env_is_merged(open_box: Callable[..., Box]) -> None:
    """The command's variables lie over the sandbox's, which lie over the defaults; empty values stay set."""
    box = open_box(env={"A": "1", "B": "2", "D": ""})
    result = box.sh('echo "$A $B ${C-unset} ${D-unset} ${PATH:+path} ${HOME:+home}"', env={"B": "3", "C": ""})
    assert result.stdout == "1 3   path home\n"
    assert box.sh('echo "$A $B ${C-unset}"').stdout == "1 2 unset\n"


def test_env_names_may_be_odd(box: Box) -> None:
    """What execve allows is allowed: dots, dashes, blanks, non-ASCII names; values with newlines and equal signs."""
    odd = {"a.b-c": "x=y", "two words": "1\n2", "é": "ü", "1": "one", "caf\udce9": "\udcff"}
    source = "import os, sys\nfor name in sys.argv[1:]: os.write(1, os.fsencode(os.environ[name]) + b'|')"
    result = box.python(source, *odd, env=odd)
    assert result.stdout_bytes == b"|".join(os.fsencode(value) for value in odd.values()) + b"|"


@pytest.mark.parametrize("env", [{"A=B": "x"}, {"": "x"}, {"A": "x\0y"}, {"A\0": "x"}])
def test_an_impossible_env_is_refused(box: Box, env: dict[str, str]) -> None:
    """A name that is empty or has an equal sign, and NUL anywhere, is the caller's mistake."""
    with pytest.raises(ValueError):
        box.run(["true"], env=env)


def test_the_default_cwd_is_the_workdir(open_box: Callable[..., Box]) -> None:
    """Commands start in the workdir, which is there and writable from the start."""
    assert open_box().run(["pwd"]).stdout == "/testbed\n"
    other = open_box(workdir="/home/agent/project")
    assert other.workdir == "/home/agent/project"
    assert other.sh("pwd; touch here && echo writable").stdout == "/home/agent/project\nwritable\n"


def test_cwd_is_absolute_or_relative_to_the_workdir(box: Box) -> None:
    """An absolute cwd is taken as it is; a relative one starts at the workdir; symlinks are followed inside."""
    box.sh("mkdir -p sub/dir && ln -s /usr/bin link").check()
    assert box.run(["pwd"], cwd="/tmp").stdout == "/tmp\n"
    assert box.run(["pwd"], cwd="sub/dir").stdout == "/testbed/sub/dir\n"
    assert box.run(["pwd"], cwd="sub/..").stdout == "/testbed\n"
    assert box.run(["pwd", "-P"], cwd="link").stdout == "/usr/bin\n"


@pytest.mark.parametrize("cwd", ["/no/such/place", "missing", "/proc/self/cwd/missing"])
def test_a_missing_cwd_is_named(box: Box, cwd: str) -> None:
    """A cwd that is not there is the caller's FileNotFoundError, not the program's exit code."""
    with pytest.raises(FileNotFoundError) as raised:
        box.run(["true"], cwd=cwd)
    assert os.fspath(raised.value.filename) in (cwd, f"/testbed/{cwd}")


def test_a_cwd_that_is_a_file_is_named(box: Box) -> None:
    """A file is no cwd."""
    box.write("/testbed/file", "x")
    with pytest.raises(NotADirectoryError) as raised:
        box.run(["true"], cwd="/testbed/file")
    assert raised.value.filename == "/testbed/file"


def test_path_finds_programs_where_the_command_looks(box: Box) -> None:
    """A bare name is looked up in the PATH the command gets."""
    box.write("/testbed/bin/tool", "#!/bin/sh\necho my tool\n", mode=0o755)
    assert box.run(["tool"], env={"PATH": "/testbed/bin:/usr/bin:/bin"}).stdout == "my tool\n"
    assert not box.run(["tool"]).started


def test_a_program_with_a_slash_is_relative_to_cwd(box: Box) -> None:
    """`./tool` is found in the command's cwd."""
    box.write("/testbed/bin/tool", "#!/bin/sh\necho my tool\n", mode=0o755)
    assert box.run(["./tool"], cwd="bin").stdout == "my tool\n"
    assert box.run(["bin/tool"]).stdout == "my tool\n"


def test_argv_of_a_megabyte(box: Box) -> None:
    """Ten thousand arguments, a megabyte in all, arrive complete."""
    words = [f"{i:05d}" + "x" * 95 for i in range(10_000)]
    source = "import hashlib, sys; print(len(sys.argv) - 1, hashlib.sha256('\\n'.join(sys.argv[1:]).encode()).hexdigest())"
    digest = hashlib.sha256("\n".join(words).encode()).hexdigest()
    assert box.python(source, *words).stdout == f"10000 {digest}\n"


def test_one_argument_of_128_kib(box: Box) -> None:
    """The longest argument that Linux takes, 128 KiB less its NUL, arrives."""
    word = "w" * (128 * 1024 - 1)
    assert box.python("import sys; print(len(sys.argv[1]), set(sys.argv[1]))", word).stdout == f"{len(word)} {{'w'}}\n"


@pytest.mark.parametrize("words", [["w" * 200_000], ["w" * 100_000] * 100], ids=["one argument", "all arguments"])
def test_what_linux_refuses_is_e2big(box: Box, words: list[str]) -> None:
    """More than the kernel takes is OSError(E2BIG), and the sandbox goes on."""
    with pytest.raises(OSError) as raised:
        box.run(["printf", *words])
    assert raised.value.errno == errno.E2BIG
    assert box.run(["true"]).ok


@pytest.mark.parametrize("argv", [[], ["true\0"], ["printf", "a\0b"], ["printf", b"a\0b"]])
def test_an_impossible_argv_is_a_value_error(box: Box, argv: list[Any]) -> None:
    """Nothing to run, and NUL, are the caller's mistakes."""
    with pytest.raises(ValueError):
        box.run(argv)


@pytest.mark.parametrize("argv", ["ls -l", b"ls", [1], [None], None], ids=str)
def test_an_argv_of_the_wrong_type_is_refused(box: Box, argv: Any) -> None:
    """A bare string is no argv (that is what `sh` is for), nor are numbers arguments."""
    with pytest.raises((TypeError, ValueError)):
        box.run(argv)


def test_nul_in_a_script_or_cwd_is_a_value_error(box: Box) -> None:
    """NUL can't be passed to a program, wherever it stands."""
    with pytest.raises(ValueError):
        box.sh("echo a\0b")
    with pytest.raises(ValueError):
        box.run(["true"], cwd="/tm\0p")


@pytest.mark.parametrize("timeout", [0, -1, -0.5, float("nan")])
def test_an_impossible_timeout_is_a_value_error(box: Box, timeout: float) -> None:
    """A timeout is a number of seconds above zero."""
    with pytest.raises(ValueError):
        box.run(["true"], timeout=timeout)
    with pytest.raises(ValueError):
        box.sh("true", timeout=timeout)


def test_duration_is_the_commands(box: Box) -> None:
    """The duration is that of the command, in seconds."""
    result = box.run(["sleep", "0.1"])
    assert 0.1 <= result.duration < 20
    with not_blocked():
        assert box.run(["true"]).duration < 20


def test_usage_counts_cpu_and_memory(box: Box) -> None:
    """CPU seconds and the memory peak are the command's, in seconds and bytes."""
    source = "import time\nx = b'x' * (96 << 20)\nwhile time.process_time() < 0.15: pass"
    usage = box.python(source).usage
    assert 0.1 <= usage.cpu < 20
    assert 96 << 20 <= usage.memory_peak < 1 << 30
    light = box.run(["true"]).usage
    assert light.cpu < 0.1
    assert 0 < light.memory_peak < 64 << 20
