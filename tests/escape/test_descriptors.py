"""CVE-2024-21626: no descriptor of the helper's, and no working directory, may lead out of the root."""

import os
from collections.abc import Callable

import pytest
from support.subjects import Box

from lisrt import LisrtError

WHERE = r"""
import os
path, here = os.getcwd(), os.open(".", os.O_RDONLY)
assert path.startswith("/") and "unreachable" not in path, path
for _ in range(50):
    os.chdir("..")
assert os.stat(".").st_ino == os.stat("/").st_ino and os.stat(".").st_dev == os.stat("/").st_dev
os.chdir("/")
for name in ("proc/self/root", "proc/self/cwd"):
    assert os.stat(name).st_ino == os.stat("/").st_ino
print(path)
"""

ODD = [
    *(f"/proc/self/fd/{number}" for number in range(24)),
    *(f"/proc/1/fd/{number}" for number in range(8)),
    *("/proc/1/cwd", "/proc/1/root", "/proc/self/cwd", "/proc/self/root", "/proc/self/root/..", "/../../..", "/dev/fd/3"),
]


def test_no_working_directory_leads_out(box: Box) -> None:
    """Every number under /proc/self/fd, of the process that will become the command: a place inside, or an OSError."""
    places = set()
    for cwd in ODD:
        try:
            places.add(box.python(WHERE, cwd=cwd).check().stdout.strip())
        except OSError:
            continue
    assert places <= {"/", "/proc"}
    assert "/" in places


@pytest.mark.parametrize("workdir", ["/proc/self/fd/5", "/proc/self/cwd", "/proc/1/root", "/../..", "/dev/fd/6"])
def test_no_workdir_leads_out(open_box: Callable[..., Box], workdir: str) -> None:
    """The sandbox's own workdir is refused as an argument, or is a place inside."""
    try:
        box = open_box(workdir=workdir)
    except (ValueError, LisrtError, OSError):
        return
    assert box.python(WHERE).check().stdout.strip() == "/"


def test_nothing_is_inherited(box: Box) -> None:
    """Descriptors above 2 are closed in every command, also in those started side by side, and in one that execs at once."""
    source = "import os; print([fd for fd in range(3, 65536) if os.path.lexists(f'/proc/self/fd/{fd}')])"
    pending = [box.start("run", ["python3", "-c", source]) for _ in range(8)]
    assert {call.result().stdout for call in pending} == {"[]\n"}
    assert box.sh("ls -l /proc/self/fd | grep -c -e socket -e anon_inode -e memfd").stdout.strip() in ("0", "1")


def test_the_three_that_are_inherited_lead_nowhere(box: Box) -> None:
    """0, 1 and 2 can be opened again through /proc: pipes, memory files of this command's own, /dev/null."""
    source = r"""
import os
for fd in range(3):
    name = os.readlink(f"/proc/self/fd/{fd}")
    assert name.startswith(("pipe:", "/memfd:", "/dev/null")), name
    try:
        again = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_NONBLOCK)
        assert os.fstat(again).st_mode & 0o170000 in (0o010000, 0o100000, 0o020000)
    except OSError:
        pass
print("ok")
"""
    assert box.python(source, stdin="x" * 100_000).check().stdout == "ok\n"
    assert os.path.exists("/dev/null")


def test_the_old_root_is_gone(box: Box) -> None:
    """No mount, no descriptor and no `..` leads to what was the root before: the helper's own small one included."""
    source = """
import os
lines = [line.split() for line in open("/proc/self/mountinfo")]
targets = [line[4] for line in lines]
parents, numbers = {line[1] for line in lines}, {line[0] for line in lines}
assert len(parents - numbers) == 1, "one root"
assert not [target for target in targets if target in ("/s", "/l", "/m", "/e") or target.startswith(("/s/", "/l/", "/old"))]
assert set(os.listdir("/")).isdisjoint({"s", "l", "m", "e", "oldroot", "newroot", ".oldroot"}), os.listdir("/")
print("gone")
"""
    assert box.python(source).check().stdout == "gone\n"
