"""Every runtime that `lisrt bench` measures does what the protocol says; one that can't run here says why."""

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.features import missing
from support.procs import assert_gone, assert_lives, mounts_naming, new_marker, pids, tree
from support.roots import root_of
from support.waiting import eventually

from lisrt import spawner
from lisrt.bench.backend import Backend, BackendError, Instance, Unavailable
from lisrt.bench.backends import BACKENDS, named
from lisrt.store.catalog import Catalog
from lisrt.store.home import Home
from lisrt.store.imports import import_image

PROGRAMS = ("sh", "bash", "cat", "true", "sleep", "head", "id", "ls", "mkdir", "dirname", "timeout", "wc")
HERE = ("native", "bwrap", "rivals:bwrap_each", "rivals:crun")
"""What an ordinary user can have. runsc is one more, and slow."""
DOCKER = ("docker",) if os.environ.get("DOCKER_HOST") else ()
"""With an engine, as .ci/dockerd.py has one; without, what is said then is tested below."""
ONE_COMMAND = ("rivals:bwrap_each",)
"""Whose instances are no processes: what a command leaves behind ends with it."""


def needed(name: str) -> None:
    """Skip where the host lacks the program."""
    program = {"podman": "podman", "rivals:crun": "crun", "rivals:runsc": "runsc", "rivals:bwrap_each": "bwrap"}.get(name)
    if program is not None and shutil.which(program) is None:
        missing(program)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A small image, in a store of this module's own."""
    place = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LISRT_HOME", str(place / "home"))
        (place / "root.tar").write_bytes(root_of(*PROGRAMS))
        import_image(place / "root.tar", Catalog(Home(place / "home")), "small")
        yield "small"


@contextlib.contextmanager
def started(name: str, image: str, memory: int | None = None) -> Iterator[Backend]:
    """A backend that is ready, and that is stopped twice, because again is allowed."""
    backend = named(name, memory)
    try:
        backend.start(image)
        yield backend
    finally:
        backend.stop()
        backend.stop()


@pytest.fixture(scope="module", params=[*HERE, "rivals:runsc", *DOCKER, "podman"])
def backend(request: pytest.FixtureRequest, image: str) -> Iterator[tuple[str, Backend]]:
    """Each in turn, once for all tests of it."""
    needed(request.param)
    with started(request.param, image) as made:
        yield request.param, made


@pytest.fixture
def instance(backend: tuple[str, Backend]) -> Iterator[Instance]:
    """One, fresh."""
    made = backend[1].create()
    yield made
    made.destroy()


@pytest.mark.slow
def test_exit_codes(instance: Instance) -> None:
    """As the program says, or as a shell does for it."""
    assert instance.run(["/bin/true"]).exit_code == 0
    assert instance.run(["/bin/sh", "-c", "exit 7"]).exit_code == 7
    assert instance.run(["/bin/sh", "-c", "kill -9 $$"]).exit_code == 137


@pytest.mark.slow
def test_stdout(instance: Instance) -> None:
    """All of it, byte for byte, and nothing of stderr."""
    done = instance.run(["/bin/sh", "-c", "echo one; echo two >&2; printf 'a\\000b\\r\\n'"])
    assert (done.exit_code, done.stdout) == (0, b"one\na\0b\r\n")
    much = instance.run(["/bin/head", "-c", "3000000", "/dev/zero"])
    assert (much.exit_code, much.stdout) == (0, bytes(3_000_000))


@pytest.mark.slow
def test_stdin(instance: Instance) -> None:
    """A program that answers while it reads gets all of it; one that reads nothing does not mind; without any there is an end."""
    data = os.urandom(1 << 20)
    done = instance.run(["/bin/cat"], stdin=data)
    assert done.exit_code == 0 and done.stdout == data
    assert instance.run(["/bin/sh", "-c", "exit 3"], stdin=b"x").exit_code == 3
    assert instance.run(["/bin/cat"]).stdout == b""


@pytest.mark.slow
def test_files(instance: Instance) -> None:
    """Parents are made; programs see what is written, and what they write is read; one that is missing is a failure."""
    data = os.urandom(100_000)
    instance.write("/testbed/some/where/file.bin", data)
    assert instance.read("/testbed/some/where/file.bin") == data
    assert instance.run(["/bin/cat", "some/where/file.bin"]).stdout == data
    instance.write("/testbed/some/where/file.bin", b"less")
    assert instance.read("/testbed/some/where/file.bin") == b"less"
    assert instance.run(["/bin/sh", "-c", "echo 42 > /testbed/answer"]).exit_code == 0
    assert instance.read("/testbed/answer") == b"42\n"
    with pytest.raises(BackendError):
        instance.read("/testbed/missing")


@pytest.mark.slow
def test_instances_are_alone(backend: tuple[str, Backend]) -> None:
    """Made from several threads at once; none sees another's files; all are root by name, where variables are the same."""
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda _: backend[1].create(), range(4)))
        try:
            for number, one in enumerate(made):
                one.write("/testbed/who", str(number).encode())
            script = "cat /testbed/who; echo; id -u; echo $LANG $PWD"
            said = list(threads.map(lambda one: one.run(["/bin/sh", "-c", script]).stdout, made))
            assert said == [f"{number}\n0\nC.UTF-8 /testbed\n".encode() for number in range(4)]
        finally:
            list(threads.map(lambda one: one.destroy(), made))


@pytest.mark.slow
def test_no_network(instance: Instance) -> None:
    """No interface but the loopback one."""
    done = instance.run(["/bin/sh", "-c", "while read -r line; do echo $line; done < /proc/net/dev"])
    names = {line.partition(":")[0].strip() for line in done.stdout.decode().splitlines() if ":" in line}
    assert names <= {"lo"} and done.exit_code == 0


@pytest.mark.slow
def test_destroyed_is_gone(backend: tuple[str, Backend]) -> None:
    """Every process of it, however it has detached itself."""
    name, runtime = backend
    marker = new_marker()
    made = runtime.create()
    script = f"sleep {marker} > /dev/null 2>&1 < /dev/null & exit 0"
    assert made.run(["/bin/sh", "-c", script]).exit_code == 0
    if name in ONE_COMMAND:
        assert_gone(marker)
    elif name != "rivals:runsc":  # whose processes are its kernel's
        assert_lives(marker)
    made.destroy()
    assert_gone(marker)


@pytest.mark.slow
def test_settings(backend: tuple[str, Backend]) -> None:
    """The version is among them; no place of this machine is, for reports get published."""
    said = backend[1].settings()
    assert any(character.isdigit() for character in said["version"])
    assert all(isinstance(words, str) for words in said.values())
    home = os.path.expanduser("~")
    assert home not in str(said) and str(spawner.current().scratch) not in str(said)


@pytest.mark.slow
@pytest.mark.parametrize("name", HERE)
def test_the_host_image(name: str) -> None:
    """This machine's /usr, read-only, and what lisrt makes of the rest."""
    needed(name)
    with started(name, "host") as backend:
        made = backend.create()
        assert made.run(["cat", "/etc/os-release"]).stdout
        assert made.run(["sh", "-c", "echo x > /usr/x"]).exit_code != 0
        assert made.run([sys.executable if sys.executable.startswith("/usr/") else "python3", "-c", "print(1)"]).stdout == b"1\n"
        made.destroy()


@pytest.mark.slow
@pytest.mark.parametrize("name", [*HERE, "rivals:runsc", "podman"])
def test_stopped_leaves_nothing(name: str, image: str) -> None:
    """Not even of instances that nobody has destroyed: no file in the scratch base, no mount, no process."""
    needed(name)
    marker = new_marker()
    base = Path(spawner.current().base).parent
    before = set(pids()), set(os.listdir(base)), set(os.listdir("/var/tmp"))
    mounted = set(mounts_naming("lisrt-podman-")) | set(mounts_naming("/rival-"))
    with started(name, image) as backend:
        made = backend.create()
        if name not in ("native", "bwrap"):  # whose spawner ends with this process; see tests/leaks
            made.run(["/bin/sh", "-c", f"sleep {marker} > /dev/null 2>&1 < /dev/null & exit 0"])
        else:
            made.destroy()
    assert_gone(marker)
    assert (set(os.listdir(base)), set(os.listdir("/var/tmp"))) == before[1:]
    assert not (set(mounts_naming("lisrt-podman-")) | set(mounts_naming("/rival-"))) - mounted
    words = (b"lisrt-podman-", b"/rival-", b"/bwrap-each-")
    eventually(lambda: not [pid for pid in set(pids()) - before[0] if _names(pid, words)], what="the end of what it has started")


def _names(pid: int, words: tuple[bytes, ...]) -> bool:
    with contextlib.suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        return any(word in command for word in words)
    return False


def test_memory_is_limited(image: str, working_host: None) -> None:
    """The setting of the constructor arrives."""
    with started("native", image, 64 << 20) as backend:
        made = backend.create()
        assert made.run(["/bin/sh", "-c", "x=$(head -c 300000000 /dev/zero | tr '\\0' x)"]).exit_code != 0
        assert "64 MiB" in backend.settings()["memory"]
        made.destroy()


# Those that can't run


def without_engine(patch: pytest.MonkeyPatch, place: Path) -> None:
    patch.setenv("DOCKER_HOST", f"unix://{place}/none")


def without_programs(patch: pytest.MonkeyPatch, place: Path) -> None:
    patch.setenv("PATH", str(place))


def without_venvs(patch: pytest.MonkeyPatch, place: Path) -> None:
    patch.setenv("LISRT_RIVALS", str(place))


@pytest.mark.parametrize(
    ("name", "spoiled", "reason"),
    [
        ("docker", without_engine, "No such file or directory"),
        ("podman", without_programs, "podman is not installed"),
        ("rivals:crun", without_programs, "crun is not installed"),
        ("rivals:runsc", without_programs, "runsc is not installed"),
        ("rivals:nitrobox", without_venvs, "bench/rivals/venv nitrobox"),
        ("rivals:llm_sandbox", without_venvs, "bench/rivals/venv llm-sandbox"),
        ("rivals:pybubble", without_venvs, "bench/rivals/venv pybubble"),
        ("rivals:sandlock", without_venvs, "bench/rivals/venv sandlock"),
        ("rivals:llm_in_sandbox", without_venvs, "bench/rivals/venv llm-in-sandbox"),
    ],
)
def test_unavailable_says_why(
    name: str,
    spoiled: Callable[[pytest.MonkeyPatch, Path], None],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    working_host: None,
) -> None:
    """In one line; and there is nothing to clean up."""
    spoiled(monkeypatch, tmp_path)
    before = tree(tmp_path)
    backend = named(name)
    with pytest.raises(Unavailable, match=reason) as told:
        backend.start("host")
    assert "\n" not in str(told.value)
    backend.stop()
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["native", "bwrap"])
def test_an_unknown_image(name: str, working_host: None) -> None:
    """Is a reason, too."""
    with pytest.raises(Unavailable, match="no-such-image"):
        named(name).start("no-such-image")


def test_names() -> None:
    """Those of the table, and module:factory; anything else is refused with what there is."""
    assert set(BACKENDS) == {"native", "bwrap", "docker", "podman"}
    assert [named(name).name for name in ("native", "bwrap", "rivals:crun")] == ["native", "bwrap", "crun"]
    for wrong in ("dokcer", "nosuch:thing", "rivals:nosuch"):
        with pytest.raises(ValueError, match=wrong):
            named(wrong)
