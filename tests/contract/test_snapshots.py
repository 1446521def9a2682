"""snapshot, fork, reset, diff: files and nothing else, in no time, as often as one likes."""

import gc
import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.procs import assert_gone, new_marker
from support.subjects import Box

from lisrt import HostError, Image, ImageError, Limits, Mount, SandboxBusy, SandboxGone

MAX_DEPTH = 30


def copies(box: Box) -> bool:
    """Whether each sandbox has a copy of its image, as under a bubblewrap without overlays."""
    program = box.sandbox._box.home.bubblewrap
    return program is not None and not program.overlay


def frozen(box: Box) -> list[str]:
    """The frozen layers that lie in the owner's directory."""
    place = box.sandbox._box.home.scratch
    return [name for name in os.listdir(place) if name.startswith("f")]


# Snapshots


def test_the_sandbox_goes_on(box: Box) -> None:
    """Files stay, with their modes and links; what runs in the background does not."""
    mark = new_marker()
    box.sh(f"mkdir d; echo one > d/f; chmod 640 d/f; ln -s f d/l; ln d/f d/h; setsid sleep {mark} > /dev/null 2>&1 &").check()
    image = box.snapshot()
    assert_gone(mark)
    links = 1 if copies(box) else 2
    assert box.sh("cat d/f d/l; stat -c '%a %h' d/f").stdout == f"one\none\n640 {links}\n"
    assert box.alive and isinstance(image, Image)


def test_an_image_stays_as_it_was(box: Box, open_box: Callable[..., Box]) -> None:
    """Whatever its sandbox does afterwards: other sandboxes begin with what was frozen."""
    box.sh("echo one > f; mkdir d; echo x > d/x; echo gone > g").check()
    image = box.snapshot()
    box.sh("echo two > f; rm -r d g; echo new > n").check()
    other = open_box(image=image)
    assert other.sh("cat f d/x g; ls").stdout == "one\nx\ngone\nd\nf\ng\n"
    assert box.sh("cat f; ls").stdout == "two\nf\nn\n"


def test_other_options_for_another_sandbox(box: Box, open_box: Callable[..., Box], tmp_path: Path) -> None:
    """An image has files, and what programs are started with is the new sandbox's."""
    (tmp_path / "m").write_text("mounted")
    box.sh("echo one > f").check()
    other = open_box(image=box.snapshot(), user=1000, env={"A": "b"}, workdir="/elsewhere", mounts=[Mount(tmp_path, "/data")])
    assert other.sh("id -u; echo $A; pwd; cat /data/m /testbed/f").stdout == "1000\nb\n/elsewhere\nmountedone\n"


def test_names_tell_where_an_image_comes_from(box: Box) -> None:
    """image#1, image#2; `box.image` is what it began with."""
    first, *others = [box.snapshot().name for _ in range(3)]
    began, _, number = first.partition("#")
    assert others == [f"{began}#{int(number) + 1}", f"{began}#{int(number) + 2}"]
    assert box.image == began == "host"


def test_nothing_is_frozen_while_something_runs(box: Box) -> None:
    """SandboxBusy, and everything goes on; afterwards it can be."""
    running = box.start("sh", "touch started; until [ -e go ]; do sleep 0.02; done; echo done")
    box.sh("until [ -e started ]; do sleep 0.02; done").check()
    for verb in ("snapshot", "fork", "reset"):
        with pytest.raises(SandboxBusy):
            box.start(verb).result()
    box.write("go", "")
    assert running.result().stdout == "done\n"
    box.snapshot()


def test_a_closed_sandbox_has_no_snapshot(box: Box) -> None:
    """SandboxGone, as from every verb."""
    box.close()
    for verb in ("snapshot", "fork", "reset", "diff"):
        with pytest.raises(SandboxGone):
            box.start(verb).result()


def test_deletions_count(box: Box) -> None:
    """What was in the image and is gone stays gone; what took its place is what is there."""
    box.sh("rm -r /home/user; rm /etc/hosts; mkdir /etc/hosts; rm -r /srv; echo file > /srv; rmdir /opt; mkdir /opt").check()
    box.snapshot()
    found = box.sh("ls /home; stat -c %F /etc/hosts /srv; ls -A /opt | wc -l")
    assert found.stdout == "directory\nregular file\n0\n"
    box.sh("rmdir /etc/hosts; mkdir -p /home/user/x").check()
    box.snapshot()
    assert box.sh("ls /home/user; test -e /etc/hosts || echo gone").stdout == "x\ngone\n"


def test_many_above_each_other(box: Box) -> None:
    """Past MAX_DEPTH they are made one: nothing comes back, nothing is lost, and names that hide others still do."""
    box.sh("mkdir -p keep/deep; echo 0 > keep/deep/f; mkdir closed; echo c > closed/c; chmod 0 closed").check()
    for number in range(MAX_DEPTH + 4):
        box.sh(
            f"echo {number} > n{number}; rm -f n{number - 2}; rm -rf d; mkdir d; echo {number} > d/{number};"
            f" rm -rf swap; {'mkdir swap; touch swap/x' if number % 2 else 'echo file > swap'}; echo {number} >> keep/deep/f"
        ).check()
        image = box.snapshot()
    last = MAX_DEPTH + 3
    assert len(image.layers) <= MAX_DEPTH + 2
    assert box.sh("ls; ls d").stdout.split() == ["closed", "d", "keep", f"n{last - 1}", f"n{last}", "swap", str(last)]
    assert box.sh("wc -l < keep/deep/f; stat -c %F swap; stat -c %a closed").stdout == f"{last + 2}\ndirectory\n0\n"
    assert box.sh("chmod 700 closed; cat closed/c; rm -r keep d swap closed n*; ls -A").stdout == "c\n"
    assert box.sh("ls /usr/bin/env /etc/passwd").ok


def test_odd_trees(box: Box) -> None:
    """Names that are no text, FIFOs, sparse files, directories deeper than a path may be long."""
    source = r"""
import os
os.mkdir(b"\xff\xfe"); open(b"\xff\xfe/\xfd", "w").write("odd"); os.mkfifo("fifo"); os.symlink("nowhere", "dangling")
with open("sparse", "wb") as file: file.seek(1 << 30); file.write(b"end")
for _ in range(60):
    os.mkdir("d" * 100); os.chdir("d" * 100)
open("bottom", "w").write("deep")
"""
    look = r"""
import os
assert open(b"\xff\xfe/\xfd").read() == "odd" and os.readlink("dangling") == "nowhere" and os.path.exists("fifo")
assert os.stat("sparse").st_size == (1 << 30) + 3 and os.stat("sparse").st_blocks < 1000
for _ in range(60): os.chdir("d" * 100)
print(open("bottom").read())
"""
    box.python(source).check()
    box.snapshot()
    assert box.python(look, timeout=30).check().stdout == "deep\n"


CLOSED = "mkdir -p a/b c; echo 1 > a/b/f; echo 2 > c/g; chmod 644 a/b; chmod 400 c; chmod 000 a"


def test_closed_directories(box: Box) -> None:
    """Whatever modes a program sets, on the root, too: they stay, and nothing fails for them."""
    box.sh(f"{CLOSED}; chmod 555 /").check()
    for number in range(MAX_DEPTH + 3):
        box.write("n", str(number))
        box.snapshot()
    look = "stat -c %a a c; chmod 755 a c; stat -c %a a/b; chmod 755 a/b; cat a/b/f c/g"
    assert box.sh(look).stdout.split() == ["0", "400", "644", "1", "2"]
    box.sh("chmod 000 /").check()
    if not copies(box):
        assert {"/", ""} & {change.path for change in box.diff()} == set()
    box.snapshot()


def test_a_path_that_is_too_long_to_be_made_one(box: Box) -> None:
    """Deeper than a path may be long: many layers then stay many, and everything works on."""
    box.python("import os\nfor _ in range(60): os.mkdir('d' * 100); os.chdir('d' * 100)").check()
    for number in range(MAX_DEPTH + 4):
        box.write("n", str(number))
        image = box.snapshot()
    assert box.read_text("n") == str(MAX_DEPTH + 3)
    assert copies(box) or len(image.layers) > MAX_DEPTH


# Forks


def test_forks_are_independent(box: Box) -> None:
    """Each has what the first one had, and none sees what another does."""
    box.sh("echo common > f; echo x > gone").check()
    twins = box.fork(3)
    for number, twin in enumerate(twins):
        twin.sh(f"echo {number} >> f; echo {number} > own; rm gone").check()
    assert [twin.sh("cat f own; ls").stdout for twin in twins] == [f"common\n{n}\n{n}\nf\nown\n" for n in range(3)]
    assert box.sh("cat f; ls").stdout == "common\nf\ngone\n"
    assert len({one.id for one in [box, *twins]}) == 4
    twins[0].close()
    assert twins[1].alive and box.alive


def test_a_fork_has_the_same_options(open_box: Callable[..., Box], tmp_path: Path) -> None:
    """Mounts, variables, workdir, user, limits, host name."""
    (tmp_path / "m").write_text("mounted")
    box = open_box(
        mounts=[Mount(tmp_path, "/data")], env={"A": "b"}, workdir="/w", user=1000, hostname="box", limits=Limits(pids=50)
    )
    box.write("f", "f")
    twin = box.fork()
    assert twin.sh("cat /data/m /w/f; echo $A $HOME; pwd; id -u; hostname").stdout == "mountedfb /home/user\n/w\n1000\nbox\n"
    assert dict(twin.guarantees) == dict(box.guarantees)


def test_again_at_once(box: Box) -> None:
    """Whatever comes right after a fork waits until the sandbox is there again."""
    for number in range(20):
        twin = box.fork()
        if number % 4 == 0:
            box.reset()
        elif number % 4 == 1 and not copies(box):
            assert box.diff() == []
        elif number % 4 == 2:
            box.snapshot()
        assert box.alive
        twin.close()
    assert box.sh("echo on").stdout == "on\n"


def test_a_tree_of_forks(box: Box) -> None:
    """Three levels of three; each leaf has the way to it in its file."""
    level = [box]
    for depth in range(3):
        grown = []
        for parent in level:
            for number, child in enumerate(parent.fork(2)):
                child.sh(f"echo {depth}.{number} >> way").check()
                grown.append(child)
        level = grown
    ways = [leaf.read_text("way").split() for leaf in level]
    assert len({tuple(way) for way in ways}) == 8
    assert all([step[0] for step in way] == ["0", "1", "2"] for way in ways)


@pytest.mark.parametrize("count", [0, -1, True])
def test_a_number_of_forks_is_above_0(box: Box, count: Any) -> None:
    """ValueError, and nothing has happened."""
    with pytest.raises(ValueError):
        box.start("fork", count).result()
    assert box.alive


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """The spawner deletes in the background."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, what
        os.sched_yield()


def test_layers_go_with_the_last_who_needs_them(box: Box) -> None:
    """As long as an image or a sandbox refers to a layer, it is there; then it is deleted."""
    before = set(frozen(box))
    box.write("f", "x")
    image: Image | None = box.snapshot()
    twin = box.fork()
    twin.close()
    box.reset()
    assert box.read("f") == b"x"
    for one in box.fork(2):
        one.close()
    box.close()
    box._twins.clear()
    del twin, one
    gc.collect()
    wait_until(lambda: len(set(frozen(box)) - before) <= 1, "layers are left that nobody needs")
    assert image is not None and os.path.exists(os.path.join(image.layers[0], "testbed/f")), "the image still refers to it"
    image = None
    gc.collect()
    wait_until(lambda: not set(frozen(box)) - before, "the image's layer is left")


# Back


def test_reset(box: Box) -> None:
    """To the start, to the last snapshot, to one that is named."""
    box.sh("echo 1 > f; rm /etc/hosts").check()
    box.reset()
    assert box.sh("ls -A; ls /etc/hosts").stdout == "/etc/hosts\n"
    box.write("f", "1")
    first = box.snapshot()
    box.write("f", "2")
    box.snapshot()
    box.write("f", "3")
    box.reset()
    assert box.read("f") == b"2"
    box.reset(first)
    assert box.read("f") == b"1"
    box.write("f", "4")
    box.reset()
    assert box.read("f") == b"1"


def test_reset_ends_processes(box: Box) -> None:
    """As a snapshot does."""
    mark = new_marker()
    box.sh(f"setsid sleep {mark} > /dev/null 2>&1 &").check()
    box.reset()
    assert_gone(mark)
    assert box.sh("echo on").stdout == "on\n"


def test_diff(box: Box) -> None:
    """Paths and what has become of them; since the last snapshot."""
    if copies(box):
        with pytest.raises(HostError, match="copy"):
            box.diff()
        return
    box.snapshot()
    assert box.diff() == []
    box.sh("echo x > new; mkdir dir; echo y > dir/y; echo more >> /etc/hosts; chmod 711 /srv; rm -r /home/user").check()
    changed = {
        "/testbed/new": "added", "/testbed/dir": "added", "/testbed/dir/y": "added", "/etc/hosts": "modified",
        "/srv": "modified", "/home/user": "deleted",
    }  # fmt: skip
    assert dict(box.diff()) == changed
    assert box.diff() == sorted(box.diff())
    box.snapshot()
    assert box.diff() == []
    box.sh("rm -r dir; mkdir dir; rm new").check()
    assert dict(box.diff()) == {"/testbed/dir/y": "deleted", "/testbed/new": "deleted"}


def test_diff_below_what_was_made_again(box: Box) -> None:
    """A directory that took another one's place hides all of it, however deep."""
    if copies(box):
        return
    box.sh("mkdir -p d/s/t; echo 1 > d/s/t/f; echo 2 > d/s/g").check()
    box.snapshot()
    box.sh("rm -r d; mkdir -p d/s; echo 3 > d/s/new").check()
    assert dict(box.diff()) == {"/testbed/d/s/g": "deleted", "/testbed/d/s/new": "added", "/testbed/d/s/t": "deleted"}


def test_looking_changes_nothing(box: Box) -> None:
    """Many diffs at once of forks that share closed directories: always the same answer, and the modes stay."""
    if copies(box):
        return
    box.sh(CLOSED).check()
    twin = box.fork()
    for one in (box, twin):
        one.sh("mkdir own; chmod 000 own; echo x > new").check()
    pending = [one.start("diff") for _ in range(15) for one in (box, twin)]
    expected = {"/testbed/own": "added", "/testbed/new": "added"}
    assert all(dict(future.result()) == expected for future in pending)
    for one in (box, twin):
        assert one.sh("stat -c %a a c own; chmod 755 a; stat -c %a a/b; chmod 000 a").stdout.split() == ["0", "400", "0", "644"]


# At once, and in bad hands


def test_many_snapshots_at_once(open_box: Callable[..., Box]) -> None:
    """Of many sandboxes, each with a file of its own."""
    boxes = [open_box() for _ in range(12)]
    for number, one in enumerate(boxes):
        one.write("f", str(number))
    pending: list[Future[Any]] = [one.start("fork") for one in boxes]
    twins = [one._twin(future.result()) for one, future in zip(boxes, pending, strict=True)]
    assert [twin.read_text("f") for twin in twins] == [str(number) for number in range(12)]


def test_an_image_of_another_launcher(open_box: Callable[..., Box], box: Box) -> None:
    """ImageError that says which."""
    image = box.snapshot()
    other = "bwrap" if image.ready("auto").bubblewrap is None else "native"
    with pytest.raises(ImageError, match="launcher"):
        open_box(image=image, launcher=other)


def test_no_room_for_twins(box: Box) -> None:
    """More than the process may have descriptors for: an error, and the sandbox goes on with its files."""
    box.write("f", "x")
    with few_descriptors(20) as allowed, pytest.raises((HostError, OSError)):
        box.fork(allowed)
    assert box.alive and box.read("f") == b"x"


def test_no_room_in_flight(box: Box) -> None:
    """The spawner is slow, and takes no descriptors from its socket, of which a user may have few there: twins are not made
    then, but the sandbox is started again when there is room. (Unmended it was lost: seen once on a busy host.)"""
    box.write("f", "x")
    spawner = box.sandbox._box.home.pid
    os.kill(spawner, signal.SIGSTOP)
    awakening = threading.Timer(0.5, os.kill, (spawner, signal.SIGCONT))
    awakening.start()
    try:
        with few_descriptors(20) as allowed, pytest.raises((HostError, OSError)):
            box.fork(allowed)
    finally:
        awakening.join()
    assert box.alive and box.read("f") == b"x"


@contextmanager
def few_descriptors(more: int) -> Iterator[int]:
    """So many more than there are; yields the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = len(os.listdir("/proc/self/fd")) + more
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    try:
        yield allowed
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("where", ["/tmp", "/testbed"])
def test_a_link_in_the_place_of_a_directory(box: Box, where: str) -> None:
    """What lisrt needs to be a directory is a link now: refused by name, and nothing outside is touched."""
    from lisrt import SetupError

    box.sh(f"cd /; rm -rf {where}; ln -s /etc {where}").check()
    with pytest.raises(SetupError, match=where):
        box.snapshot()
    assert not box.alive


# The network


COOKIE = "import socket; print(int.from_bytes(socket.socket().getsockopt(socket.SOL_SOCKET, 71, 8), 'little'))  # SO_NETNS_COOKIE"


SERVE = """
import socket, time
s = socket.create_server(("127.0.0.1", 5000))
print("up", flush=True)
time.sleep(99)
"""


def network(box: Box) -> int:
    """A number that no other network namespace has had since this machine was started."""
    return int(box.python(COOKIE).check().stdout)


def test_a_sandbox_keeps_its_network(box: Box, open_box: Callable[..., Box]) -> None:
    """Through snapshots and forks, with nothing in it that listens any more. Nobody else gets it, and a reset gives another."""
    first = network(box)
    box.write("serve.py", SERVE)
    assert box.sh("mkfifo up; python3 serve.py > up & read line < up; echo $line").stdout == "up\n"
    image = box.snapshot()
    keeps = box.sandbox._box.home.bubblewrap is None
    assert (network(box) == first) == keeps
    box.python("import socket; socket.create_server(('127.0.0.1', 5000))").check()
    second = network(box)
    twin = box.fork()
    assert (network(box) == second) == keeps
    other = open_box(image=image)
    assert len({network(one) for one in (box, twin, other)}) == 3
    box.reset()
    assert network(box) not in (first, second)


def test_snapshots_keep_no_descriptors(box: Box) -> None:
    """Of the network that is handed on, say."""
    box.snapshot()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        box.snapshot()
        box.reset()
    box.fork().close()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_tmp_is_everybodys_again(box: Box) -> None:
    """Whatever its mode was in the files that a sandbox begins with."""
    box.sh("chmod 700 /tmp; touch /tmp/f").check()
    box.snapshot()
    assert box.sh("stat -c %a /tmp; ls /tmp").stdout.split() == ["1777", "f"]
