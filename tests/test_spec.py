"""What is asked for: checked when it is made, kept as it was meant."""

import copy
import decimal
import math
import os
import pickle
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

from lisrt import Mount
from lisrt.spec import absolute, arguments, environment, located, permissions, seconds, uid

# Mount


def test_a_mount_is_read_only_unless_asked(tmp_path: Path) -> None:
    """Writing to the host is a choice, made by name and with a keyword only."""
    assert not Mount(tmp_path, "/data").writable
    assert Mount(tmp_path, "/data", writable=True).writable
    with pytest.raises(TypeError):
        Mount(tmp_path, "/data", True)  # type: ignore[misc]


def test_the_source_is_canonical(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links, `..` and the cwd are resolved when the mount is made; what is mounted is what it named then."""
    real = (tmp_path / "real").resolve()
    real.mkdir()
    link = tmp_path / "link"
    link.symlink_to("real")
    monkeypatch.chdir(tmp_path)
    for source in (link, "link", "./real/../link/", os.fsencode(link), link / "." / ""):
        assert Mount(source, "/data").source == str(real)
    mount = Mount(link, "/data")
    link.unlink()
    link.symlink_to("elsewhere")
    assert mount.source == str(real)


def test_a_source_may_have_any_name(tmp_path: Path) -> None:
    """Also one that is no UTF-8."""
    odd = os.fsencode(tmp_path.resolve()) + b"/caf\xe9 \n"
    os.mkdir(odd)
    assert os.fsencode(Mount(odd, "/data").source) == odd
    assert os.fsencode(Mount(os.fsdecode(odd), "/data").source) == odd


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    """Found out when the mount is made: the source itself, a dangling link, a file on the way."""
    (tmp_path / "dangling").symlink_to("nothing")
    (tmp_path / "file").write_text("")
    for source, error in (("missing", FileNotFoundError), ("dangling", FileNotFoundError), ("file/below", NotADirectoryError)):
        with pytest.raises(error) as raised:
            Mount(tmp_path / source, "/data")
        assert str(tmp_path) in str(raised.value)


def test_a_source_that_leads_in_circles_is_refused(tmp_path: Path) -> None:
    """A loop of links is an OSError, not a hang and not a guess."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError):
        Mount(tmp_path / "a", "/data")


@pytest.mark.parametrize("source", ["", "a\0b", b"\0"])
def test_an_impossible_source_is_refused(source: str | bytes) -> None:
    """A NUL byte is a ValueError; nothing at all is not the cwd."""
    with pytest.raises((ValueError, FileNotFoundError)):
        Mount(source, "/data")


@pytest.mark.parametrize("target", ["", "data", "./data", "../data", "a\0b", "/a\0b"])
def test_a_target_is_absolute(target: str) -> None:
    """A relative, empty or impossible target is a ValueError."""
    with pytest.raises(ValueError, match="target"):
        Mount("/", target)


@pytest.mark.parametrize("target", ["/", "//", "/.", "/..", "/data/..", "/../.."])
def test_a_target_is_not_the_root(target: str) -> None:
    """However it is written."""
    with pytest.raises(ValueError, match="root"):
        Mount("/", target)


@pytest.mark.parametrize("target", ["/proc", "/proc/1", "/dev", "/dev/", "/dev/shm", "//proc", "/x/../dev/null", "/./proc"])
def test_a_target_is_not_in_proc_or_dev(target: str) -> None:
    """Those two are lisrt's own, however they are written."""
    with pytest.raises(ValueError, match="/proc and /dev"):
        Mount("/", target)


@pytest.mark.parametrize(
    ("target", "normal"),
    [
        ("/data", "/data"),
        ("/data/", "/data"),
        ("//data//x", "/data/x"),
        ("/a/../b/./c", "/b/c"),
        ("/../b", "/b"),
        ("/process", "/process"),
    ],
)
def test_a_target_is_normal(target: str, normal: str) -> None:
    """One name for each place."""
    assert Mount("/", target).target == normal


def test_a_mount_is_a_value(tmp_path: Path) -> None:
    """Frozen, equal by content, hashable; it names its three parts."""
    mount = Mount(tmp_path, "/data", writable=True)
    assert mount == Mount(str(tmp_path), "/data/", writable=True)
    assert mount != Mount(tmp_path, "/data")
    assert len({mount, Mount(tmp_path, "/data", writable=True)}) == 1
    with pytest.raises(FrozenInstanceError):
        mount.writable = False  # type: ignore[misc]
    for part in (str(tmp_path.resolve()), "/data", "writable=True"):
        assert part in repr(mount)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_mount_can_be_pickled(tmp_path: Path, protocol: int) -> None:
    """It crosses to another process as it is, without another look at the file system; copies likewise."""
    source = tmp_path / "source"
    source.mkdir()
    mount = Mount(source, "/data", writable=True)
    data = pickle.dumps(mount, protocol)
    source.rmdir()
    for twin in (pickle.loads(data), copy.copy(mount), copy.deepcopy(mount)):
        assert twin == mount
        assert (twin.source, twin.target, twin.writable) == (str(source.resolve()), "/data", True)


# argv


def test_arguments_become_bytes() -> None:
    """str, bytes and paths, in a list or a tuple; undecodable text goes back to its bytes; empty ones stay."""
    assert arguments(["é", b"\xff", Path("/a/b"), "", "caf\udce9"]) == ["é".encode(), b"\xff", b"/a/b", b"", b"caf\xe9"]
    assert arguments(("ls",)) == [b"ls"]


@pytest.mark.parametrize("argv", [[], (), ["a\0b"], [b"a", b"\0"], ["\0"], ["\ud800"]])
def test_arguments_that_no_program_can_receive(argv: Any) -> None:
    """An empty vector, a NUL byte, a lone surrogate: ValueError."""
    with pytest.raises(ValueError):
        arguments(argv)


@pytest.mark.parametrize("argv", ["ls -l", b"ls", None, 1, {"ls": 1}, {"ls"}, iter(["ls"]), ["sleep", 1], [None], [["ls"]]])
def test_arguments_of_the_wrong_type(argv: Any) -> None:
    """A shell line is not an argument vector, a number is not an argument: TypeError."""
    with pytest.raises(TypeError):
        arguments(argv)


def test_a_shell_line_is_shown_the_way() -> None:
    """The likeliest mistake has an answer."""
    with pytest.raises(TypeError, match=r"sh\(\)"):
        arguments("ls -l")


# env


def test_an_environment_becomes_bytes() -> None:
    """Values may be empty, hold "=" and newlines; names may be anything without "="."""
    assert environment(None) == {}
    assert environment({}) == {}
    assert environment({"A": "", "b c": "x=y\n", b"\xff": b"\xfe", "caf\udce9": Path("/x")}) == {
        b"A": b"",
        b"b c": b"x=y\n",
        b"\xff": b"\xfe",
        b"caf\xe9": b"/x",
    }


@pytest.mark.parametrize("env", [{"": "x"}, {"A=B": "x"}, {"=": "x"}, {"A\0": "x"}, {"A": "x\0"}, {b"": b""}])
def test_an_impossible_environment(env: Any) -> None:
    """What execve can't pass on is a ValueError."""
    with pytest.raises(ValueError):
        environment(env)


@pytest.mark.parametrize("env", [["A=B"], "A=B", 1, {"A": 1}, {"A": None}, {1: "x"}])
def test_an_environment_of_the_wrong_type(env: Any) -> None:
    """Lists of NAME=VALUE and numbers as values are TypeErrors."""
    with pytest.raises(TypeError):
        environment(env)


# timeouts


@pytest.mark.parametrize(("given", "taken"), [(None, None), (1, 1.0), (0.001, 0.001), (1e300, 1e9), (5e-324, 5e-324)])
def test_a_timeout_is_a_number_above_0(given: float | None, taken: float | None) -> None:
    """Whole or not, tiny or huge; None is no limit."""
    assert seconds(given) == taken
    assert type(seconds(given)) is type(taken)


@pytest.mark.parametrize("timeout", [0, 0.0, -0.0, -1, -math.inf, math.inf, math.nan])
def test_an_impossible_timeout(timeout: float) -> None:
    """0 is not "no limit", nor is infinity: ValueError."""
    with pytest.raises(ValueError, match="timeout"):
        seconds(timeout)


@pytest.mark.parametrize("timeout", [True, False, "1", b"1", [1], decimal.Decimal(1), 1j])
def test_a_timeout_of_the_wrong_type(timeout: Any) -> None:
    """TypeError."""
    with pytest.raises(TypeError, match="timeout"):
        seconds(timeout)


# paths and users


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("/a/b", b"/a/b"),
        ("a", b"/base/a"),
        ("../a", b"/base/../a"),
        ("/a/../b/./c//d/", b"/a/../b/./c//d/"),
        (b"\xff", b"/base/\xff"),
        (Path("x"), b"/base/x"),
        ("caf\udce9", b"/base/caf\xe9"),
        (".", b"/base/."),
    ],
)
def test_a_path_inside_is_left_to_the_sandboxs_kernel(path: Any, where: bytes) -> None:
    """Only made absolute: `..` after a link means what it means there, and a trailing slash stays."""
    assert located(path, base="/base") == where


@pytest.mark.parametrize("path", ["", b"", "a\0b", b"/\0"])
def test_an_impossible_path_inside(path: Any) -> None:
    """ValueError."""
    with pytest.raises(ValueError, match="path"):
        located(path, base="/base")


@pytest.mark.parametrize("path", [None, 1, ["a"]])
def test_a_path_of_the_wrong_type(path: Any) -> None:
    """TypeError; a number is no descriptor either."""
    with pytest.raises(TypeError):
        located(path, base="/base")


@pytest.mark.parametrize(
    ("path", "base", "normal"),
    [("/a//b/", None, "/a/b"), ("//a", None, "/a"), ("a/../b", "/base", "/base/b"), ("../..", "/base", "/"), ("/", None, "/")],
)
def test_an_absolute_path_is_normal(path: str, base: str | None, normal: str) -> None:
    """One slash at the start, no `.`, no `..`, no slash at the end."""
    assert absolute(path, base=base) == normal


def test_a_relative_path_needs_a_base() -> None:
    """Without one it is a ValueError that says what it was for."""
    with pytest.raises(ValueError, match="workdir must be absolute: 'a'"):
        absolute("a", what="workdir")


@pytest.mark.parametrize("user", [0, 1, 65534, 2**31 - 1])
def test_a_user_is_a_uid(user: int) -> None:
    """0 to 2**31 - 1."""
    assert uid(user) == user


@pytest.mark.parametrize("user", [-1, 2**31, True, "0", "root", 0.0, None])
def test_what_is_no_uid(user: Any) -> None:
    """ValueError; names mean nothing on this side of the sandbox."""
    with pytest.raises(ValueError, match="uid"):
        uid(user)


@pytest.mark.parametrize("mode", [0, 0o644, 0o777])
def test_a_mode_is_permission_bits(mode: int) -> None:
    """0 to 0o777."""
    assert permissions(mode) == mode


@pytest.mark.parametrize("mode", [-1, 0o1000, 0o4755, 2**32, True, "644", None])
def test_what_is_no_mode(mode: Any) -> None:
    """ValueError, also for the set-user-ID bit, which would have no effect."""
    with pytest.raises(ValueError, match="mode"):
        permissions(mode)
