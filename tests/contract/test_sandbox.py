"""The sandbox as an object: born ready, closed once and for all, private, shared by threads."""

import os
import pickle
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.procs import assert_gone
from support.subjects import Box, Subject
from support.waiting import not_blocked

import lisrt
from lisrt import ImageError, LisrtError, Mount, Outcome, SandboxGone


def test_a_sandbox_is_born_ready(box: Box) -> None:
    """It is alive and serves the first command; it says what it is."""
    assert box.alive
    assert box.run(["echo", "ready"]).stdout == "ready\n"
    assert box.image == "host"
    assert box.workdir == "/testbed"
    assert isinstance(box.id, str)
    assert box.id


def test_sandboxes_have_ids_of_their_own(open_box: Callable[..., Box]) -> None:
    """No two are called the same."""
    assert len({open_box().id for _ in range(10)}) == 10


def test_guarantees_are_words(box: Box) -> None:
    """What is in force here can be read: a mapping of names to what enforces them."""
    guarantees = box.guarantees
    assert isinstance(guarantees, Mapping)
    assert guarantees
    assert all(guarantees.values())


def test_a_sandbox_can_be_printed(box: Box) -> None:
    """Its repr tells what it is and whether it lives; printing a dead one is no error."""
    assert type(box.sandbox).__name__ in repr(box.sandbox)
    before = repr(box.sandbox)
    box.close()
    assert repr(box.sandbox) != before


def test_close_is_idempotent(box: Box) -> None:
    """Closing again is nothing; the object still says what it was."""
    box.close()
    box.close()
    assert not box.alive
    assert box.id


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("run", (["true"],)),
        ("sh", ("true",)),
        ("write", ("file", "x")),
        ("read", ("/etc/passwd",)),
        ("read_text", ("/etc/passwd",)),
        ("upload", ("/etc/passwd", "file")),
        ("download", ("/etc/passwd", "never")),
    ],
)
def test_a_closed_sandbox_is_gone(box: Box, verb: str, arguments: tuple[Any, ...], tmp_path: Path) -> None:
    """Every verb of a closed sandbox is SandboxGone; nothing is written on the host."""
    box.close()
    if verb == "download":
        arguments = (arguments[0], tmp_path / arguments[1])
    with pytest.raises(SandboxGone):
        box.start(verb, *arguments).result(timeout=20)
    assert os.listdir(tmp_path) == []


def test_sandbox_gone_is_the_sandboxs_fault(box: Box) -> None:
    """It is a LisrtError and no OSError: never mistaken for the program's."""
    assert issubclass(SandboxGone, LisrtError)
    assert not issubclass(SandboxGone, OSError)


def test_an_unknown_image_is_named(subject: Subject) -> None:
    """An image that isn't there is an ImageError with its name."""
    with pytest.raises(ImageError, match="no-such-image"):
        subject.open(image="no-such-image")


def test_the_host_image_is_the_default(open_box: Callable[..., Box]) -> None:
    """`host` can be asked for by name."""
    assert open_box(image="host").image == "host"


@pytest.mark.parametrize(
    "options",
    [
        {"network": "bogus"},
        {"network": "bridge"},
        {"launcher": "bogus"},
        {"user": -1},
        {"user": 2**32},
        {"hostname": "a\0b"},
        {"hostname": "h" * 65},
        {"workdir": "relative"},
        {"workdir": "/a\0b"},
        {"env": {"A=B": "x"}},
        {"env": {"A": "x\0"}},
    ],
    ids=str,
)
def test_what_can_not_be_had_is_refused(subject: Subject, options: dict[str, Any]) -> None:
    """An option that is nonsense, or that this version can't honour, is an error at once, not something weaker."""
    with pytest.raises((ValueError, LisrtError, NotImplementedError)):
        Box(subject, **options).close()


def test_another_user_is_honoured_or_refused(subject: Subject) -> None:
    """`user=` is what commands run as, or a typed error; never root instead."""
    try:
        box = Box(subject, user=1000)
    except (LisrtError, ValueError, NotImplementedError):
        return
    assert box.sh("id -u; touch mine && stat -c %u mine").stdout == "1000\n1000\n"
    box.close()


def test_hostnames(open_box: Callable[..., Box]) -> None:
    """The hostname asked for is the one inside; by default it isn't the host's."""
    assert open_box(hostname="agent-7").run(["uname", "-n"]).stdout == "agent-7\n"
    assert open_box().run(["uname", "-n"]).stdout.strip() not in ("", os.uname().nodename)


def test_sandboxes_do_not_see_each_other(open_box: Callable[..., Box], marker: str) -> None:
    """Files, processes and ports of one are not there in the other."""
    one, two = open_box(), open_box()
    one.write("/testbed/file", "one")
    one.write("/tmp/file", "one")
    one.write("/etc/tool", "#!/bin/sh\n", mode=0o755)
    one.sh(f"sleep {marker} &").check()
    assert two.sh("ls -A /testbed /tmp; ls /etc/tool").stdout == "/testbed:\n\n/tmp:\n"
    assert marker not in two.sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '").stdout
    assert not Path("/etc/tool").exists()
    one.close()
    assert_gone(marker)
    assert two.run(["true"]).ok


def test_twenty_commands_at_once(box: Box) -> None:
    """Twenty commands run side by side in one sandbox: each waits until all have begun."""
    script = "touch began-$N; until [ $(ls -d began-* | wc -l) = 20 ]; do sleep 0.02; done; echo $N; cat"
    calls = [box.start("sh", script, env={"N": str(n)}, stdin=f"in {n}", timeout=50) for n in range(20)]
    for number, call in enumerate(calls):
        result = call.result()
        assert result.outcome is Outcome.EXITED
        assert result.stdout == f"{number}\nin {number}"


def test_verbs_from_many_threads(box: Box, tmp_path: Path) -> None:
    """Any verb may be called from any thread at any time."""
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(4):
                box.write(f"{number}/file", str(number))
                assert box.sh(f"cat {number}/file; exit {number}").exit_code == number
                assert box.run(["head", "-c", "200000", "/dev/zero"], max_output=1000).truncated
                box.download(f"{number}", tmp_path / str(number))
                box.upload(tmp_path / str(number), f"{number}/again")
                assert box.read(f"{number}/again/file") == str(number).encode()
                assert box.run(["no-such-program"]).exit_code == 127
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_hundreds_of_commands_in_a_row(box: Box) -> None:
    """Commands don't wear a sandbox out."""
    for number in range(300):
        assert box.run(["sh", "-c", f"exit {number % 200}"]).exit_code == number % 200


def test_a_mount_is_read_only_by_default(open_box: Callable[..., Box], tmp_path: Path) -> None:
    """A directory of the host that is mounted can be read and not changed."""
    (tmp_path / "file").write_text("from the host")
    box = open_box(mounts=[Mount(tmp_path, "/testbed/data")])
    assert box.read("data/file") == b"from the host"
    assert box.run(["cat", "data/file"]).stdout == "from the host"
    assert not box.sh("echo changed > data/file || touch data/new || rm data/file || chmod 777 data/file").ok
    with pytest.raises(OSError):
        box.write("data/new", "x")
    assert (tmp_path / "file").read_text() == "from the host"
    assert os.listdir(tmp_path) == ["file"]


def test_a_writable_mount_is_shared(open_box: Callable[..., Box], tmp_path: Path) -> None:
    """A mount that is writable by choice shows changes on both sides, and survives the sandbox."""
    box = open_box(mounts=[Mount(str(tmp_path), "/data", writable=True)])
    box.sh("echo from inside > /data/file").check()
    assert (tmp_path / "file").read_text() == "from inside\n"
    (tmp_path / "other").write_text("from outside")
    assert box.read("/data/other") == b"from outside"
    box.close()
    assert (tmp_path / "file").read_text() == "from inside\n"


def test_a_single_file_can_be_mounted(open_box: Callable[..., Box], tmp_path: Path) -> None:
    """A file is mounted like a directory, read-only as well."""
    (tmp_path / "settings").write_text("x = 1")
    box = open_box(mounts=[Mount(tmp_path / "settings", "/etc/my/settings")])
    assert box.read("/etc/my/settings") == b"x = 1"
    assert not box.sh("echo y > /etc/my/settings").ok
    assert (tmp_path / "settings").read_text() == "x = 1"


def test_a_mount_brings_no_set_id_and_no_devices(open_box: Callable[..., Box], tmp_path: Path) -> None:
    """Mounted trees are nosuid and nodev."""
    box = open_box(mounts=[Mount(tmp_path, "/data", writable=True)])
    fields = next(line.split() for line in box.read_text("/proc/self/mountinfo").splitlines() if " /data " in line)
    assert {"nosuid", "nodev"} <= set(fields[5].split(","))


def test_a_mount_that_can_not_be_made_is_refused(subject: Subject, tmp_path: Path) -> None:
    """A source that isn't there, or a target that makes no sense, is an error of the constructor; nothing is left."""
    for source, target in ((tmp_path / "missing", "/data"), (tmp_path, "relative"), (tmp_path, "/a\0b")):
        with pytest.raises((LisrtError, OSError, ValueError)):
            Box(subject, mounts=[Mount(source, target)]).close()


def test_errors_have_one_root() -> None:
    """Every fault of the sandbox can be caught by one name; caller mistakes are Python's own."""
    for name in ("HostError", "ImageError", "SetupError", "SandboxGone", "CommandFailed"):
        assert issubclass(getattr(lisrt, name), LisrtError)
    assert not issubclass(LisrtError, (OSError, ValueError))


def test_results_and_errors_cross_processes(box: Box) -> None:
    """What a worker returns or raises arrives whole at the other end of a process pool: all of it can be pickled."""
    result = box.sh("echo out; echo err >&2; exit 3")
    copy = pickle.loads(pickle.dumps(result))
    assert copy == result
    assert (copy.stdout, copy.stderr, copy.exit_code) == ("out\n", "err\n", 3)
    errors: list[LisrtError] = [
        lisrt.HostError("no", check="a check", fix="a fix"),
        lisrt.SetupError("no", stage="a stage", errno=5, path="/x"),
        ImageError("no"),
        SandboxGone("no"),
        lisrt.CommandFailed(result),
    ]
    for error in errors:
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)


def test_many_sandboxes_at_once(open_box: Callable[..., Box]) -> None:
    """A hundred sandboxes side by side, each its own."""
    with not_blocked():
        boxes = [open_box() for _ in range(100)]
    for number, box in enumerate(boxes):
        box.write("/testbed/number", str(number))
    assert [box.run(["cat", "number"]).stdout for box in boxes] == [str(number) for number in range(100)]
