"""The command line, as its users meet it: real processes, real pipes, real signals."""

import contextlib
import importlib.metadata
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from support.command import WITHIN, Cli, ended
from support.procs import assert_gone, assert_lives, marked, new_marker, sleeping
from support.waiting import eventually, not_blocked

from lisrt.cli import cli as group

pytestmark = pytest.mark.usefixtures("working_host")


@pytest.fixture
def cli(tmp_path: Path, scratch: Path) -> Iterator[Cli]:
    """`lisrt`; afterwards nothing of it is left."""
    made = Cli(tmp_path, scratch)
    yield made
    made.assert_clean()


def sh(script: str) -> tuple[str, ...]:
    """The arguments of `lisrt exec` for a shell script."""
    return ("exec", "--", "sh", "-c", script)


# exec: status and streams


@pytest.mark.parametrize("status", [0, 3, 125, 126, 127, 255])
def test_the_status_is_the_commands(cli: Cli, status: int) -> None:
    """Whatever a command exits with, lisrt does; it adds nothing to the output."""
    done = cli(*sh(f"exit {status}"))
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGINT])
def test_a_death_by_signal_is_128_and_its_number(cli: Cli, number: int) -> None:
    """As in a shell."""
    assert cli(*sh(f"kill -{int(number)} $$")).returncode == 128 + number


def test_a_missing_program_is_127_and_says_so(cli: Cli) -> None:
    """Told apart from a program's own 127 by the message."""
    done = cli("exec", "--", "no-such-program", "x")
    assert (done.returncode, done.stdout) == (127, "")
    assert "no-such-program: not found" in done.stderr


@pytest.mark.parametrize("program", ["/etc/passwd", "/usr", "./plain"])
def test_what_can_not_be_executed_is_126(cli: Cli, tmp_path: Path, program: str) -> None:
    """A file without the bit, a directory, a relative path."""
    (tmp_path / "plain").write_text("")
    done = cli("exec", "--mount", f"{tmp_path}/plain:/testbed/plain", "--", program)
    assert (done.returncode, done.stdout) == (126, "")
    assert program in done.stderr


def test_stdout_and_stderr_are_apart(cli: Cli) -> None:
    """Each goes where it belongs."""
    done = cli(*sh("echo out; echo err >&2; echo more"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "out\nmore\n", "err\n")


def test_options_of_the_command_are_its_own(cli: Cli) -> None:
    """After `--`, or after the program's name, nothing is lisrt's."""
    assert cli("exec", "--", "echo", "--timeout", "3", "-h", "--").stdout == "--timeout 3 -h --\n"
    assert cli("exec", "echo", "--network", "none", "--help").stdout == "--network none --help\n"
    assert cli("exec", "--user", "0", "printf", "%s|", "", " a b ", "é").stdout == "| a b |é|"


def test_bytes_pass_unchanged(cli: Cli, tmp_path: Path) -> None:
    """Five megabytes of anything, in through a file and out through a pipe."""
    data = os.urandom(5 << 20)
    (tmp_path / "data").write_bytes(data)
    with open(tmp_path / "data", "rb") as file:
        done = subprocess.run(
            cli.command("exec", "--", "cat"), cwd=tmp_path, env=cli.environment(), stdin=file, capture_output=True, timeout=WITHIN
        )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == data


def test_stdin_from_a_pipe(cli: Cli) -> None:
    """All of it, to the end."""
    done = cli("exec", "--", "wc", "-l", input="line\n" * 100_000)
    assert done.stdout.strip() == "100000"


def test_stdin_from_a_file_can_not_be_written_to(cli: Cli, tmp_path: Path) -> None:
    """The program gets the bytes of the file, not the file."""
    file = tmp_path / "input"
    file.write_text("one\ntwo\n")
    with open(file, "r+") as stream:
        done = cli(*sh("cat; echo evil > /proc/self/fd/0; echo evil >> /dev/stdin"), stdin=stream)
    assert done.stdout == "one\ntwo\n"
    assert file.read_text() == "one\ntwo\n"


def test_stdin_from_dev_null(cli: Cli) -> None:
    """Empty, at once."""
    assert cli("exec", "--", "cat").stdout == ""
    assert cli(*sh("cat; echo done")).stdout == "done\n"


def test_an_endless_stdin_is_read_as_far_as_the_command_reads(cli: Cli) -> None:
    """`yes | lisrt exec -- head -n 2` ends, and so does `yes`."""
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as endless:
        with not_blocked():
            done = cli("exec", "--", "head", "-n", "2", stdin=endless.stdout)
        assert endless.stdout is not None
        endless.stdout.close()
        assert endless.wait(timeout=20) == -signal.SIGPIPE
    assert (done.returncode, done.stdout) == (0, "y\ny\n")


def test_a_stdin_that_stays_open_holds_nothing_up(cli: Cli) -> None:
    """A command that reads nothing ends at once, though whoever holds the pipe says nothing and doesn't close it."""
    read_end, write_end = os.pipe()
    try:
        with not_blocked():
            assert cli("exec", "--", "true", stdin=read_end).returncode == 0
            assert cli("exec", "--", "no-such-program", stdin=read_end).returncode == 127
    finally:
        os.close(read_end)
        os.close(write_end)


def test_what_is_typed_later_arrives_as_it_is_typed(cli: Cli) -> None:
    """A conversation through the pipes: no buffer in between waits to be full."""
    with cli.started("exec", "--", "cat", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        for line in (b"one\n", b"two\n"):
            os.write(process.stdin.fileno(), line)
            assert os.read(process.stdout.fileno(), 100) == line
        assert ended(process) == (0, "", "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams(cli: Cli, closed: str) -> None:
    """A lisrt started without stdin, stdout or stderr runs its command; nothing is written where it doesn't belong."""
    script = f'exec "$@" {closed}'
    done = cli(*sh("cat; echo out; echo err >&2; exit 3"), prefix=("sh", "-c", script, "sh"))
    assert done.returncode == 3
    assert done.stdout == ("" if ">&- " in closed + " " and not closed.startswith("2") else "out\n")
    assert done.stderr == ("" if "2>&-" in closed else "err\n")


def test_a_slow_reader_gets_everything_from_a_pipe_that_does_not_block(cli: Cli) -> None:
    """stdout may be non-blocking, as a terminal or pipe shared with another program can be: nothing is lost, nothing fails."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    try:
        with cli.started("exec", "--", "head", "-c", "1000000", "/dev/zero", stdout=write_end) as process:
            os.close(write_end)
            write_end = -1
            received = 0
            while chunk := os.read(read_end, 1000):
                received += len(chunk)
            assert ended(process) == (0, "", "")
        assert received == 1_000_000
    finally:
        os.close(read_end)
        if write_end >= 0:
            os.close(write_end)


# exec: ends


def test_a_background_child_holds_nothing_up(cli: Cli, marker: str) -> None:
    """The command is over when its own process is; what it left goes with the sandbox."""
    with not_blocked():
        done = cli(*sh(f"sleep {marker} & setsid sleep {marker} & echo started"))
    assert (done.returncode, done.stdout) == (0, "started\n")
    assert_gone(marker)


def test_the_time_limit_kills_the_whole_tree(cli: Cli, marker: str) -> None:
    """124, the output so far, the reason on stderr, and no process left: not in another session, not one deaf to SIGTERM."""
    escapes = f"setsid sleep {marker} & (setsid sh -c 'trap \"\" HUP TERM; sleep {marker}; :' &)"
    script = f"echo so far; trap '' TERM; {escapes}; sleep {marker}; :"
    with not_blocked():
        done = cli("exec", "--timeout", "1", "--", "sh", "-c", script)
    assert (done.returncode, done.stdout) == (124, "so far\n")
    assert "time limit of 1 s" in done.stderr
    assert_gone(marker)


def test_a_time_limit_that_is_met_changes_nothing(cli: Cli) -> None:
    """The status is the command's."""
    assert cli("exec", "--timeout", "40", "--", "sh", "-c", "exit 7").returncode == 7


SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: -signal.SIGTERM, signal.SIGHUP: -signal.SIGHUP, signal.SIGKILL: -signal.SIGKILL}


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("to", ["the process", "the group"])
def test_a_signal_ends_everything(cli: Cli, marker: str, number: signal.Signals, to: str) -> None:
    """Ctrl-C exits 130, other signals kill as they always do; either way no process of the sandbox is left."""
    cli.killed = number != signal.SIGINT
    script = f"(setsid sleep {marker} &); trap '' INT TERM HUP; sleep {marker}; :"
    with cli.started(*sh(script)) as process:
        eventually(lambda: len(sleeping(marker)) == 2, within=20, what="two sleeps")
        if to == "the process":
            os.kill(process.pid, number)
        else:
            os.killpg(process.pid, number)
        status, stdout, stderr = ended(process, within=20)
    assert (status, stdout, stderr.strip()) == (SIGNALS[number], "", "")
    assert_gone(marker)


def test_a_closed_stdout_ends_the_command(cli: Cli, marker: str) -> None:
    """`lisrt exec ... | true`: no traceback, status 141 as for any program, and nothing runs on."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        with not_blocked():
            done = cli(*sh(f"sleep {marker} & echo x; sleep {marker}"), stdout=write_end)
    finally:
        os.close(write_end)
    assert (done.returncode, done.stderr) == (141, "")
    assert_gone(marker)


def test_a_pipeline_that_reads_a_line(cli: Cli) -> None:
    """`lisrt exec -- yes | head -n 1`, in a real shell."""
    command = shlex.join(cli.command("exec", "--", "yes"))
    with not_blocked():
        done = subprocess.run(
            ["bash", "-c", f"{command} | head -n 1; echo ${{PIPESTATUS[0]}}"],
            cwd=cli.cwd,
            env=cli.environment(),
            capture_output=True,
            text=True,
            timeout=WITHIN,
        )
    assert (done.stdout, done.stderr) == ("y\n141\n", "")


def test_a_full_disk_under_stdout_is_told(cli: Cli) -> None:
    """What can't be written is an error, not a success."""
    with open("/dev/full", "w") as full:
        done = cli("exec", "--", "echo", "x", stdout=full)
    assert done.returncode == 125
    assert "No space left on device" in done.stderr


# exec: options


def test_explain_prints_the_plan_and_does_nothing(cli: Cli, marker: str) -> None:
    """Numbered steps with the mounts in them; the command is not run."""
    (cli.cwd / "data").mkdir()
    done = cli("exec", "--explain", "--mount", "data:/data:rw", "--hostname", "box", "--", "sleep", marker)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [int(line.split(".")[0]) for line in lines] == list(range(1, len(lines) + 1))
    assert f"bind the host's {cli.cwd.resolve()}/data on /data, WRITABLE" in done.stdout
    assert "set the host name to box" in done.stdout
    assert "become PID 1" in lines[-1]
    assert not marked(marker)


def test_a_mount_is_read_only(cli: Cli) -> None:
    """What is there can be read; nothing of the host can be changed, with or without `:ro`."""
    (cli.cwd / "data").mkdir()
    (cli.cwd / "data" / "file").write_text("of the host\n")
    script = "cd /data; cat file; echo x >file; echo x >new; rm -f file; chmod 777 .; mount -o remount,rw /data"
    for mount in ("data:/data", "data:/data:ro"):
        done = cli("exec", "--mount", mount, "--", "sh", "-c", script)
        assert done.stdout == "of the host\n"
        assert "Read-only file system" in done.stderr
    assert os.listdir(cli.cwd / "data") == ["file"]
    assert (cli.cwd / "data" / "file").read_text() == "of the host\n"


def test_a_mount_is_writable_by_choice(cli: Cli) -> None:
    """`:rw` writes to the host, as its user."""
    (cli.cwd / "data").mkdir()
    done = cli("exec", "-m", "data:/deep/er/data:rw", "--", "sh", "-c", "echo from inside > /deep/er/data/file")
    assert (done.returncode, done.stderr) == (0, "")
    assert (cli.cwd / "data" / "file").read_text() == "from inside\n"
    assert (cli.cwd / "data" / "file").stat().st_uid == os.geteuid()


def test_a_mount_may_be_a_file(cli: Cli) -> None:
    """On a new place and over an existing one; several mounts at once, one in another."""
    (cli.cwd / "data").mkdir()
    (cli.cwd / "data" / "sub").mkdir()
    (cli.cwd / "hosts").write_text("127.0.0.7 myself\n")
    done = cli(
        *("exec", "-m", "hosts:/etc/hosts", "-m", "hosts:/data/sub/hosts", "-m", "data:/data"),
        *("-m", "data:/data/sub:rw", "--", "cat", "/etc/hosts", "/data/sub/hosts"),
    )
    assert (done.returncode, done.stdout) == (0, "127.0.0.7 myself\n" * 2)


@pytest.mark.parametrize(
    ("mount", "why"),
    [
        ("missing:/data", "missing"),
        (".:data", "absolute"),
        (".:/", "root"),
        (".:/proc", "/proc"),
        (".:/dev/shm", "/dev"),
        ("data", "SOURCE:TARGET"),
        ("", "SOURCE:TARGET"),
        (".:/data:wr", "SOURCE:TARGET"),
        (".:/a:/b:rw", "SOURCE:TARGET"),
        (":/data", "source|SOURCE"),
    ],
)
def test_a_bad_mount_is_refused_with_the_reason(cli: Cli, mount: str, why: str) -> None:
    """Before anything is started: status 2 or 125, one clear message, and the command is not run."""
    done = cli("exec", "--mount", mount, "--", "echo", "ran")
    assert done.returncode in (2, 125)
    assert done.stdout == ""
    assert any(word in done.stderr for word in why.split("|")), done.stderr


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("/bin/tool", "link"),
        ("/etc/passwd/below", "file in the image"),
        ("/etc/passwd", "directory"),
        ("/" + "x" * 300, "too long"),
    ],
)
def test_a_mount_that_does_not_fit_the_image_is_explained(cli: Cli, target: str, why: str) -> None:
    """A target behind a link or a file of the image: status 125, the target and the reason."""
    if target == "/bin/tool" and not os.path.islink("/bin"):
        pytest.skip("/bin is no link here")
    (cli.cwd / "data").mkdir()
    done = cli("exec", "--mount", f"data:{target}", "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (125, "")
    assert target[1:60] in done.stderr
    assert why in done.stderr


def test_env_sets_variables(cli: Cli) -> None:
    """Over the image's, as often as wanted, with "=" and nothing in the value; nothing of the host's comes along."""
    options = ("-e", "A=1", "--env", "B=x=y z", "-e", "HOME=/h", "-e", "EMPTY=", "-e", "A=2")
    done = cli("exec", *options, "--", "env", "-0", env={"SECRET_TOKEN": "secret", "LD_PRELOAD": ""})
    found = dict(line.split("=", 1) for line in done.stdout.split("\0") if line)
    assert {"A": "2", "B": "x=y z", "HOME": "/h", "EMPTY": ""}.items() <= found.items()
    assert not [name for name in found if "SECRET" in name or name.startswith(("LISRT", "PYTHON", "XDG", "LD_"))]


@pytest.mark.parametrize("variable", ["A", "", "=x"])
def test_a_bad_variable_is_refused(cli: Cli, variable: str) -> None:
    """A name alone does not mean "copy mine"."""
    done = cli("exec", "-e", variable, "--", "true", env={"A": "mine"})
    assert done.returncode in (2, 125)
    assert "environment variable" in done.stderr or "NAME=VALUE" in done.stderr


def test_where_and_as_whom(cli: Cli) -> None:
    """--workdir, --cwd, --user and --hostname do what they say."""
    script = "pwd; id -u; id -g; hostname 2>/dev/null || uname -n"
    assert cli(*sh(script)).stdout == "/testbed\n0\n0\nsandbox\n"
    options = ("--workdir", "/work/place", "--cwd", "../other", "--user", "1000", "--hostname", "box", "-m", ".:/work/other")
    assert cli("exec", *options, "--", "sh", "-c", script).stdout == "/work/other\n1000\n1000\nbox\n"


@pytest.mark.parametrize(("mode", "workdir"), [("rw", "/data/sub/work"), ("rw", "/data"), ("ro", "/data/there")])
def test_the_workdir_may_lie_in_a_mount(cli: Cli, mode: str, workdir: str) -> None:
    """It is made there if it is missing, and used if it is not."""
    (cli.cwd / "data" / "there").mkdir(parents=True)
    done = cli("exec", "-m", f"data:/data:{mode}", "--workdir", workdir, "--", "pwd")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{workdir}\n", "")


def test_a_workdir_that_can_not_be_made_is_named(cli: Cli) -> None:
    """In a read-only mount: 125, the path and the reason, which is not that it is missing."""
    (cli.cwd / "data").mkdir()
    for workdir in ("/data/work", "/usr/work"):
        done = cli("exec", "-m", "data:/data", "--workdir", workdir, "--", "pwd")
        assert (done.returncode, done.stdout) == (125, "")
        assert workdir[1:] in done.stderr and "Read-only file system" in done.stderr


def test_a_missing_cwd_is_named(cli: Cli) -> None:
    """125 and the path."""
    done = cli("exec", "--cwd", "/no/such/place", "--", "true")
    assert done.returncode == 125
    assert "/no/such/place" in done.stderr


def test_the_network_is_a_choice(cli: Cli) -> None:
    """None by default; the host's by name, which is then the very same namespace."""
    ours = os.readlink("/proc/self/ns/net")
    assert cli("exec", "--", "readlink", "/proc/self/ns/net").stdout.strip() != ours
    assert cli("exec", "--network", "host", "--", "readlink", "/proc/self/ns/net").stdout.strip() == ours
    assert cli("exec", "--network", "bridge", "--", "true").returncode == 2


def test_rules_for_a_network(cli: Cli) -> None:
    """What was denied is told; what are no rules, or rules for no proxy, is a mistake."""
    ask = 'import http.client as h; p = h.HTTPConnection("127.0.0.1", 3128); p.request("GET", "http://no.test/"); p.getresponse()'
    done = cli("exec", "--allow", "example.org", "--", "python3", "-c", ask)
    assert (done.returncode, done.stderr) == (0, "lisrt: denied no.test:80: no rule allows no.test:80\n")
    for arguments, said in (
        (("--allow", "a/b"), "is no rule"),
        (("--allow", "a.test", "--network", "host"), "rules for a proxy"),
        (("--deny", "::1"), "stands in brackets"),
    ):
        done = cli("exec", *arguments, "--", "true")
        assert (done.returncode, said in done.stderr) == (2, True)


@pytest.mark.parametrize("timeout", ["0", "-1", "nan", "inf", "soon"])
def test_an_impossible_time_limit_is_refused(cli: Cli, timeout: str) -> None:
    """With a message, before anything runs."""
    done = cli("exec", "--timeout", timeout, "--", "echo", "ran")
    assert done.returncode in (2, 125)
    assert done.stdout == ""
    assert "timeout" in done.stderr


@pytest.mark.parametrize("option", ["--tiemout", "--no-network", "-x"])
def test_a_mistyped_option_is_a_mistake(cli: Cli, option: str) -> None:
    """Status 2 and the option's name: it is not taken for the program, and what it was to forbid is not ignored."""
    done = cli("exec", option, "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (2, "")
    assert option in done.stderr


def test_exec_without_a_command_is_a_mistake(cli: Cli) -> None:
    """Status 2 and how it is used."""
    for arguments in ((), ("--",)):
        done = cli("exec", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert "COMMAND" in done.stderr


# Faults


@pytest.mark.parametrize("command", ["exec", "bench"])
def test_an_unknown_image_is_a_fault(cli: Cli, command: str) -> None:
    """125 with the name and what there is."""
    done = cli(command, "--image", "nonesuch", *(("--", "true") if command == "exec" else ("-n", "1", "--serial", "0")))
    assert (done.returncode, done.stdout) == (125, "")
    assert "'nonesuch'" in done.stderr and "host" in done.stderr


def test_the_image_comes_from_the_settings(cli: Cli) -> None:
    """The variable, then the file; a broken file is named by whatever command needs it."""
    assert "'other'" in cli("exec", "--", "true", env={"LISRT_IMAGE": "other"}).stderr
    config = cli.cwd / "config" / "lisrt" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("image = 'fromfile'\n")
    assert "'fromfile'" in cli("exec", "--", "true").stderr
    assert cli("exec", "--image", "host", "--", "true").returncode == 0
    config.write_text("imgae = 'x'\n")
    done = cli("exec", "--", "true")
    assert done.returncode == 125
    assert str(config) in done.stderr and "imgae" in done.stderr


def test_a_fault_of_the_host_has_its_fix(cli: Cli) -> None:
    """A scratch place that can't be used: 125, the place, and what to set instead."""
    place = cli.cwd / "missing"
    done = cli("exec", "--", "true", env={"LISRT_SCRATCH": str(place)})
    assert (done.returncode, done.stdout) == (125, "")
    assert str(place) in done.stderr and "LISRT_SCRATCH" in done.stderr


# Help


def options_of(name: str) -> list[click.Option]:
    command = group.get_command(click.Context(group), name)
    assert command is not None
    return [parameter for parameter in command.params if isinstance(parameter, click.Option)]


COMMANDS = group.list_commands(click.Context(group))


def test_help_names_every_command(cli: Cli) -> None:
    """`lisrt`, `lisrt -h` and `lisrt --help` list them, each with a line of its own."""
    for arguments in (["--help"], ["-h"]):
        done = cli(*arguments)
        assert (done.returncode, done.stderr) == (0, "")
        lines = [line.split() for line in done.stdout.splitlines() if line.startswith("  ")]
        described = {words[0] for words in lines if len(words) > 2}
        assert {"bench", "doctor", "exec", "gc", "image", "mcp", "ps", "run", "shell", "view"} == set(COMMANDS) <= described


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_names_every_option(cli: Cli, name: str) -> None:
    """Each with a description; and what the command does."""
    done = cli(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: ")
    words = done.stdout.replace(",", " ").split()
    for option in options_of(name):
        assert set(option.opts) <= set(words), f"{option.opts} not in the help of {name}"
        assert option.help, f"{option.opts} of {name} is not described"


def test_the_version_is_the_packages(cli: Cli) -> None:
    """--version."""
    done = cli("--version")
    assert done.returncode == 0
    assert importlib.metadata.version("lisrt") in done.stdout


@pytest.mark.parametrize("arguments", [["nonesuch"], ["--nonesuch"], ["doctor", "extra"], ["gc", "--nonesuch"]])
def test_what_is_no_command_is_a_mistake(cli: Cli, arguments: list[str]) -> None:
    """Status 2 and the word that is wrong."""
    done = cli(*arguments)
    assert done.returncode == 2
    assert arguments[-1] in done.stderr


# doctor, gc


def test_doctor_passes_here(cli: Cli) -> None:
    """A line for each check, none of them failed, status 0."""
    done = cli("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    verdicts = {line.split()[1]: line.split()[0] for line in done.stdout.splitlines() if not line.startswith(" ")}
    assert set(verdicts.values()) <= {"PASS", "NOTE", "WEAKER"}
    assert {"helper", "user-namespaces", "proc", "scratch", "network-namespace", "sandbox"} <= set(verdicts)
    assert "\x1b" not in done.stdout, "colours only on a terminal"


def test_doctor_for_machines(cli: Cli) -> None:
    """The same rows as JSON, and nothing else on stdout."""
    done = cli("doctor", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert set(report) == {"rows", "summary"}
    plain = cli("doctor").stdout
    assert all(row["name"] in plain for row in report["rows"])


@pytest.mark.parametrize("command", ["doctor", "gc", "--help", "bench"])
def test_a_closed_stdout_is_no_traceback(cli: Cli, command: str) -> None:
    """`lisrt doctor | true` ends quietly, with 141."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = cli(*([command] if command != "bench" else ["bench", "-n", "1", "--serial", "1"]), stdout=write_end)
    finally:
        os.close(write_end)
    assert done.returncode == 141 and "Error" not in done.stderr
    assert not done.stderr or command == "bench"  # which says how far it is


def badly_killed(cli: Cli, marker: str) -> str:
    """The name of a directory that stays when a program and its spawner are killed together."""
    cli.killed = True
    others = set(cli.owners())
    with cli.started(*sh(f"mkdir -p d/e; echo x > d/e/f; chmod 0 d; sleep {marker}")) as process:
        assert_lives(marker)
        [name] = set(cli.owners()) - others
        spawners = marked("lisrt-helper") & {pid for pid in marked("lisrt-helper") if names_owner(pid, name)}
        process.send_signal(signal.SIGSTOP)
        for pid in spawners:
            with contextlib.suppress(ProcessLookupError):  # it went with its PID 1
                os.kill(pid, signal.SIGKILL)
        process.kill()
        process.wait(timeout=20)
    assert_gone(marker)
    return name


def names_owner(pid: int, name: str) -> bool:
    """Whether a process has a mount of an owner's directory."""
    with contextlib.suppress(OSError):
        return name.partition("/")[2] in Path(f"/proc/{pid}/mountinfo").read_text()
    return False


def test_gc_says_what_it_removed(cli: Cli) -> None:
    """What a program killed with its spawner has left is counted and gone when gc returns; the living keep theirs."""
    mine, its = new_marker(), new_marker()
    with cli.started(*sh(f"echo x > file; sleep {mine}; cat file")):
        assert_lives(mine)
        living = cli.owners()
        left = badly_killed(cli, its)
        assert left in cli.owners()
        done = cli("gc")
        assert (done.returncode, done.stderr) == (0, "")
        assert cli.owners() == living and len(living) == 1
        assert done.stdout.startswith("1 directory removed from ")
    assert_gone(mine)
    assert cli("gc").stdout.startswith("0 directories removed from ")


def test_gc_is_done_when_it_returns(cli: Cli) -> None:
    """Also when there is much to delete: no part of it is left for later."""
    cli.killed = True
    base = cli.scratch / f"lisrt-{os.geteuid()}"
    for number in range(3):
        for sub in range(10):
            place = base / f"{number}-dead" / f"{sub}"
            place.mkdir(parents=True, mode=0o700)
            for file in range(200):
                (place / str(file)).touch()
    base.chmod(0o700)
    done = cli("gc")
    assert done.returncode == 0
    assert cli.owners() == []
    assert done.stdout.startswith("3 directories removed from ")


def test_the_module_and_the_program_are_the_same(cli: Cli) -> None:
    """The installed `lisrt` does what `python -m lisrt` does."""
    program = Path(sys.executable).with_name("lisrt")
    if not program.exists():
        pytest.skip("lisrt is importable here but not installed")
    done = subprocess.run([program, "--version"], env=cli.environment(), capture_output=True, text=True, timeout=WITHIN)
    assert done.stdout == cli("--version").stdout


def test_published_ports(cli: Cli) -> None:
    """One that was chosen, and one that lisrt has chosen and says; with the host's network there is nothing to publish."""
    serve = """if True:
        import socket
        servers = [socket.create_server(("", port)) for port in (7000, 7001)]
        print("listening", flush=True)
        for server in servers:
            server.accept()[0].sendall(b"hello")
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        chosen = probe.getsockname()[1]
        taken = cli("exec", "--publish", f"{chosen}:7000", "--", "true")
        assert taken.returncode == 125 and f"Address already in use: '127.0.0.1:{chosen}'" in taken.stderr
    options = ("--publish", f"{chosen}:7000", "--publish", "7001")
    with cli.started("exec", *options, "--", "python3", "-c", serve) as process:
        assert process.stdout and process.stderr
        said = process.stderr.readline().decode()
        assert said.startswith("lisrt: port 7001 of the sandbox is 127.0.0.1:")
        assert process.stdout.readline() == b"listening\n"
        for port in (chosen, int(said.rpartition(":")[2])):
            with socket.create_connection(("127.0.0.1", port), timeout=WITHIN) as client:
                assert client.recv(5) == b"hello"
        assert process.wait(timeout=WITHIN) == 0
    for arguments, mistake in (
        (("--publish", "80:x"), "is not SANDBOX or HOST:SANDBOX"),
        (("--publish", "127.0.0.1:80:80"), "is not SANDBOX or HOST:SANDBOX"),
        (("--publish", "70000"), "a port is a number from 1 to 65535"),
        (("--publish", "1:80", "--publish", "2:80"), "port 80 of the sandbox twice"),
    ):
        done = cli("exec", *arguments, "--", "true")
        assert (done.returncode, mistake in done.stderr) == (2, True)
    refused = cli("exec", "--network", "host", "--publish", "7000", "--", "true")
    assert refused.returncode == 125 and "a port of the sandbox is one of the host already" in refused.stderr
