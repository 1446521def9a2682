"""Roots and mounts that are the work of an attacker: links and files where the setup wants to mount something.

CVE-2025-31133, -52565, -52881, CVE-2026-41579 (runc) and CVE-2026-47766 (crun): /dev, /proc, /dev/null as links.
CVE-2026-87766 (bubblewrap): a mount's destination below a link. CVE-2024-42472 (flatpak): a source swapped for a link.
The plan is carried out by the native launcher here, because only
it makes the root itself; under another one the tests of this folder look at the result.
"""

import contextlib
import dataclasses
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.procs import tree

from lisrt import Mount, SetupError, spawner
from lisrt.channel import Channel, Order, create
from lisrt.plan import make_plan
from lisrt.process import Command, execute
from lisrt.waiting import drive

pytestmark = pytest.mark.usefixtures("working_host")


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A directory of the host that links point to; it must be the same afterwards."""
    place = tmp_path / "canary"
    (place / "null").mkdir(parents=True)
    (place / "file").write_text("of the host")
    (place / "file").chmod(0o640)
    before = tree(place), place.stat().st_mode, place.stat().st_mtime_ns
    yield place
    assert (tree(place), place.stat().st_mode, place.stat().st_mtime_ns) == before
    assert (place / "file").read_text() == "of the host"
    assert (place / "file").stat().st_mode & 0o777 == 0o640


@dataclasses.dataclass
class Layer:
    """The topmost layer of an image, which an attacker has made."""

    path: Path

    def link(self, name: str, target: str | Path) -> None:
        """A symbolic link at `name`."""
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).symlink_to(target)

    def file(self, name: str) -> None:
        """A file at `name`."""
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_text("of the layer")


@pytest.fixture
def layer(tmp_path: Path) -> Layer:
    """An empty one."""
    (tmp_path / "layer").mkdir()
    return Layer(tmp_path / "layer")


@contextlib.contextmanager
def started(layer: Layer, *, mounts: tuple[Mount, ...] = (), workdir: str = "/") -> Iterator[Channel]:
    """A sandbox whose root is image `host` with the attacker's layer on top."""
    home = spawner.current()
    root = home.roots.get("host")
    root = dataclasses.replace(root, layers=(str(layer.path), *root.layers))
    plan = make_plan(root, network="none", mounts=mounts, workdir=workdir, user=0, hostname="sandbox")
    channel = drive(create(Order(home, plan)))
    try:
        yield channel
    finally:
        drive(channel.close())


def said(channel: Channel, script: str) -> str:
    """What a script says inside."""
    command = Command([b"sh", b"-c", script.encode()], [b"PATH=/usr/bin:/bin"], b"/", b"", 20.0, True, 1 << 20)
    result = drive(execute(channel, command))
    return result.stdout


#: Where the plan mounts something, or makes a directory.
PLACES = ["proc", "dev", "tmp", "usr"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("target", ["absolute", "climbing", "proc/self/root", "loop", "inside", "dangling"])
def test_a_link_where_something_is_mounted(layer: Layer, canary: Path, place: str, target: str) -> None:
    """SetupError with the stage and the path; nothing is mounted or made at the other end."""
    leads_to = {
        "absolute": str(canary),
        "climbing": "../" * 30 + str(canary).lstrip("/"),
        "proc/self/root": f"/proc/self/root{canary}",
        "loop": place,
        "inside": "etc",
        "dangling": str(canary / "new"),
    }
    layer.link(place, leads_to[target])
    with pytest.raises(SetupError) as raised, started(layer):
        pass
    assert raised.value.stage in ("mount-point", "directory")
    assert raised.value.path == f"/{place}"
    assert raised.value.errno in (40, 20)  # ELOOP, ENOTDIR


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["file", "fifo", "socket", "whiteout"])
def test_no_directory_where_something_is_mounted(layer: Layer, canary: Path, place: str, kind: str) -> None:
    """A file, a FIFO, a socket: SetupError. A whiteout hides the lower layers' directory, and another one is made."""
    at = layer.path / place
    if kind == "file":
        at.write_text("")
    elif kind == "fifo":
        os.mkfifo(at)
    elif kind == "socket":
        os.mknod(at, stat.S_IFSOCK | 0o600)
    else:
        os.mknod(at, stat.S_IFCHR, 0)
        with started(layer) as channel:
            assert said(channel, "echo alive; stat -f -c %t /proc") == "alive\n9fa0\n"
        return
    with pytest.raises(SetupError) as raised, started(layer):
        pass
    assert (raised.value.errno, raised.value.path) == (20, f"/{place}")


#: What a layer has at a place that a mount covers: nothing of it is seen, nor written.
COVERED = ["dev/null", "dev/zero", "dev/pts", "dev/shm", "dev/console", "dev/fd", "proc/kcore", "proc/keys", "proc/sys", "proc/1"]


@pytest.mark.parametrize("place", COVERED)
def test_what_lies_below_a_mount_is_not_seen(layer: Layer, canary: Path, place: str) -> None:
    """/dev and /proc are new ones, attached by descriptor before anything below them is looked at: masks land in the new
    /proc, /dev/null is the device."""
    layer.link(place, canary / "file")
    with started(layer) as channel:
        answer = said(channel, "stat -f -c %t /proc; stat -c '%F %t,%T' /dev/null; echo x > /dev/null; cat /proc/keys")
        assert answer == "9fa0\ncharacter special file 1,3\n"
        assert "no such" in said(channel, "cat /proc/self/root" + str(canary) + "/file").lower()


#: (the layer's link, where it leads, the mount's target below it).
DESTINATIONS = {
    "the target is a link": ("data", "{canary}", "/data"),
    "the target is a dangling link": ("data", "{canary}/new", "/data"),
    "below a link": ("data", "{canary}", "/data/new/sub"),
    "below a link of the image's": ("srv/x", "../../../../../../{canary}", "/srv/x/new"),
    "below oldroot, as bubblewrap has it": ("evil", "/oldroot{canary}", "/evil/new"),
    "below a magic link": ("data", "/proc/self/cwd", "/data/new"),
    "below a descriptor": ("data", "/proc/self/fd/3", "/data/new"),
    "below a link to itself": ("data", "data", "/data/new"),
    "below a link to inside": ("data", "etc", "/data/new"),
}


@pytest.mark.parametrize("writable", [False, True])
@pytest.mark.parametrize("name", DESTINATIONS)
def test_a_mounts_destination_by_way_of_a_link(
    layer: Layer, canary: Path, tmp_path: Path, name: str, writable: bool
) -> None:
    """Directories and files alike: SetupError that names the target, and the host has no new file."""
    link, leads_to, target = DESTINATIONS[name]
    layer.link(link, leads_to.format(canary=canary))
    (tmp_path / "source").mkdir()
    (tmp_path / "source-file").write_text("x")
    for source in ("source", "source-file"):
        mount = Mount(tmp_path / source, target, writable=writable)
        with pytest.raises(SetupError) as raised, started(layer, mounts=(mount,)):
            pass
        assert (raised.value.stage, raised.value.path) == ("mount-point", target)


@pytest.mark.parametrize("leads_to", ["{canary}", "{canary}/new", "/proc/1/cwd", "../../../../../..{canary}", "work"])
def test_a_workdir_by_way_of_a_link(layer: Layer, canary: Path, leads_to: str) -> None:
    """It is made inside or not at all."""
    layer.link("work", leads_to.format(canary=canary))
    for workdir in ("/work", "/work/new", "/work/new/er"):
        with pytest.raises(SetupError) as raised, started(layer, workdir=workdir):
            pass
        assert raised.value.stage == "directory"


def test_a_mount_below_a_writable_mount(layer: Layer, canary: Path, tmp_path: Path) -> None:
    """A directory that other sandboxes write to holds a link where another mount belongs: refused."""
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "sub").symlink_to(canary)
    (shared / "dir").symlink_to("..")
    for target in ("/shared/sub", "/shared/sub/new", "/shared/dir/new"):
        mounts = (Mount(shared, "/shared", writable=True), Mount(canary, target))
        with pytest.raises(SetupError), started(layer, mounts=mounts):
            pass
    with pytest.raises(SetupError), started(layer, mounts=(Mount(shared, "/shared", writable=True),), workdir="/shared/sub/new"):
        pass


@pytest.mark.parametrize("part", ["the last", "one before"])
def test_a_source_swapped_for_a_link(layer: Layer, canary: Path, tmp_path: Path, part: str) -> None:
    """CVE-2024-42472: between the check and the mount, a part of the source's path becomes a link. Nothing is mounted."""
    (tmp_path / "a/null").mkdir(parents=True)
    mount = Mount(tmp_path / "a/null", "/data")
    (tmp_path / "a/null").rmdir()
    if part == "the last":
        (tmp_path / "a/null").symlink_to(canary / "null")
    else:
        (tmp_path / "a").rmdir()
        (tmp_path / "a").symlink_to(canary)
    assert (tmp_path / "a/null").is_dir()
    with pytest.raises(SetupError) as raised, started(layer, mounts=(mount,)):
        pass
    assert (raised.value.stage, raised.value.errno) == ("mount-source", 40)


def test_attributes_of_the_overlay_in_a_layer(layer: Layer, canary: Path) -> None:
    """user.overlay.redirect, metacopy and origin are names that any layer may carry; none makes a file of elsewhere appear."""
    (layer.path / "dir").mkdir()
    (layer.path / "file").write_bytes(b"")
    for value in (str(canary), "../" * 20 + str(canary).lstrip("/"), "/etc"):
        os.setxattr(layer.path / "dir", "user.overlay.redirect", os.fsencode(value))
        os.setxattr(layer.path / "file", "user.overlay.redirect", os.fsencode(value + "/file"))
        os.setxattr(layer.path / "file", "user.overlay.metacopy", b"")
        with started(layer) as channel:
            answer = said(channel, "ls -A /dir; cat /file")
            assert "of the host" not in answer and "passwd" not in answer


def test_set_id_bits_and_devices_in_a_layer(layer: Layer, canary: Path) -> None:
    """Mounted without set-id and without devices: whatever a layer holds gives no other identity."""
    (layer.path / "su").write_bytes(Path("/usr/bin/id").read_bytes())
    (layer.path / "su").chmod(0o6755)
    with started(layer) as channel:
        assert said(channel, "/su -u; awk '$5 == \"/\" { print $6 }' /proc/self/mountinfo").split()[0] == "0"
        assert {"nosuid", "nodev"} <= set(said(channel, "awk '$5 == \"/\" { print $6 }' /proc/self/mountinfo").strip().split(","))
