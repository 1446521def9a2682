"""Images of the store as sandboxes see them: kept snapshots, and what an image says about user, workdir and variables."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.command import Cli

from lisrt import ImageError, Sandbox
from lisrt.store.catalog import Catalog
from lisrt.store.record import Config


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, working_host: None) -> Path:
    """A store of this test's own."""
    monkeypatch.setenv("LISRT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def kept() -> Iterator[str]:
    """An image in the store: `host` and some files."""
    with Sandbox() as box:
        box.sh("echo one > f; mkdir /opt/tool; ln -s /testbed/f /opt/tool/l; rm /etc/hosts; chmod 4755 f").check()
        box.snapshot("kept")
    yield "kept"


def again(name: str, config: Config, new: str) -> None:
    """The same image with other settings."""
    catalog = Catalog()
    with catalog.home.adding():
        catalog.put(replace(catalog.get(name), config=config), new)


def test_a_snapshot_that_is_kept(kept: str) -> None:
    """By name and by id, in this process and in another one, as often as one likes."""
    record = Catalog().get(kept)
    assert record.base == "host" and record.provenance["kind"] == "snapshot" and len(record.layers) == 1
    for name in (kept, record.id, record.id[7:19]):
        with Sandbox(name) as box:
            assert box.image == name
            assert box.sh("cat f /opt/tool/l; test -e /etc/hosts || echo gone; stat -c %a f").stdout == "one\none\ngone\n755\n"
    program = f"from lisrt import Sandbox\nwith Sandbox({kept!r}) as box: print(box.read_text('f'))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("one\n\n", "")


def test_above_a_kept_one(kept: str) -> None:
    """A snapshot of a sandbox that began with an image of the store has that image's layers below."""
    with Sandbox(kept) as box:
        box.sh("echo two >> f").check()
        box.snapshot()
        box.sh("echo three >> f; rm -r /opt/tool").check()
        box.snapshot("more")
    assert len(Catalog().get("more").layers) == 3
    with Sandbox("more") as box:
        assert box.sh("cat f; ls /opt").stdout == "one\ntwo\nthree\n"


def test_above_one_that_has_gone_meanwhile(kept: str) -> None:
    """`lisrt image rm`, and gc, while a sandbox works: what it has done is kept with all that is below it."""
    with Sandbox(kept) as box:
        box.sh("echo two >> f").check()
        catalog = Catalog()
        catalog.remove(kept)
        assert catalog.sweep().blobs == 1
        box.snapshot("more")
    assert [listed.names for listed in Catalog().all()] == [("more",)]
    with Sandbox("more") as box:
        assert box.sh("cat f; ls /opt; stat -c %a f; test -e /etc/hosts || echo gone").stdout == "one\ntwo\ntool\n755\ngone\n"


def test_the_same_layer_twice() -> None:
    """Snapshots between which nothing was written are one and the same: an image may have a layer more than once."""
    with Sandbox() as box:
        box.write("f", "x")
        for name in (None, None, None, "thrice"):
            box.snapshot(name)
    layers = Catalog().get("thrice").layers
    assert len(layers) == 4
    with Sandbox("thrice") as box:
        assert box.read("f") == b"x"


def test_a_name_that_moves(kept: str) -> None:
    """What is made after a name has become another image's has that image's files."""
    with Sandbox(kept) as old:
        old.write("f", "new")
        old.snapshot(kept)
        with Sandbox(kept) as box:
            assert box.read("f") == b"new"


def test_what_the_image_says(kept: str) -> None:
    """ENV, WORKDIR and USER hold where the caller says nothing."""
    again(kept, Config(env=(("A", "image"), ("PATH", "/opt:/usr/bin:/bin")), workdir="/srv/work", user="user"), "other")
    look = "id -u; pwd; echo $A $HOME $USER $PATH"
    with Sandbox("other") as box:
        assert box.workdir == "/srv/work"
        assert box.sh(look).stdout == "1000\n/srv/work\nimage /home/user user /opt:/usr/bin:/bin\n"
        with box.fork() as twin:
            assert twin.sh(look).stdout == box.sh(look).stdout
    with Sandbox("other", env={"A": "mine"}, workdir="/tmp", user=0) as box:
        assert box.sh(look).stdout == "0\n/tmp\nmine /root root /opt:/usr/bin:/bin\n"


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("daemon", "1 1 /usr/sbin"),
        ("root", "0 0 /root"),
        (1000, "1000 1000 /home/user"),
        ("1000:7", "1000 7 /home/user"),
        (4242, "4242 4242 /"),
    ],
)
def test_users_by_name_and_number(kept: str, user: int | str, expected: str) -> None:
    """With the gid and the home that /etc/passwd has for them."""
    with Sandbox(kept, user=user) as box:
        assert box.sh("echo $(id -u) $(id -g) $HOME").stdout.strip() == expected


def test_a_user_that_was_made_since(kept: str) -> None:
    """What /etc/passwd says in a snapshot counts for who begins with that."""
    with Sandbox(kept) as box:
        box.sh("echo 'bob:x:1001:1002:bob:/srv:/bin/sh' >> /etc/passwd").check()
        image = box.snapshot()
        with Sandbox(image, user="bob") as other:
            assert other.sh("echo $(id -u) $(id -g) $HOME").stdout == "1001 1002 /srv\n"


def test_host_is_in_no_store(kept: str) -> None:
    """And is said to be so by name, not taken for a misspelling of itself."""
    with pytest.raises(ImageError, match="own /usr"):
        Catalog().get("host")


def test_a_user_that_is_not_there(kept: str) -> None:
    """The caller's mistake is a ValueError, the image's an ImageError."""
    with pytest.raises(ValueError, match="nobody-such"):
        Sandbox(kept, user="nobody-such")
    again(kept, Config(user="nobody-such"), "broken")
    with pytest.raises(ImageError, match=r"broken.*nobody-such"):
        Sandbox("broken")


def test_an_image_that_is_not_there(kept: str) -> None:
    """ImageError with the nearest name."""
    with pytest.raises(ImageError, match="did you mean 'kept'"):
        Sandbox("kpet")


def test_a_layer_that_is_damaged(kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a host where it is not unpacked yet: ImageError that names it, and nothing half-made is left."""
    blob = Catalog().blobs.path(Catalog().get(kept).layers[0].blob)
    os.truncate(blob, blob.stat().st_size - 20)
    program = "from lisrt import *\ntry: Sandbox('kept')\nexcept ImageError as error: print(error)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "LISRT_SCRATCH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "image 'kept'" in done.stdout and "sha256:" in done.stdout and done.stderr == ""
    assert not [path for path in (tmp_path / f"lisrt-{os.geteuid()}/.layers").iterdir() if path.suffix != ".lock"]


def test_unpacking_is_announced_once(kept: str, tmp_path: Path, scratch: Path) -> None:
    """On stderr, where the command line is used; and descriptors do not grow with each name that moves."""
    cli = Cli(tmp_path, scratch, env={"LISRT_HOME": os.environ["LISRT_HOME"]})
    first, second = cli("exec", "--image", kept, "--", "cat", "f"), cli("exec", "--image", kept, "--", "cat", "f")
    assert (first.stdout, second.stdout, second.stderr) == ("one\n", "one\n", "")
    assert first.stderr == "lisrt: unpacking image kept on this host, once\n"


def test_names_that_move_use_up_no_descriptors(kept: str) -> None:
    """A lock for each layer, not for each look at it."""
    before = 0
    for number in range(6):
        with Sandbox(kept) as box:
            box.snapshot(kept if number % 2 else "another")
            before = before or len(os.listdir("/proc/self/fd"))
            again(kept, Config(workdir=f"/{number}"), kept)
    assert len(os.listdir("/proc/self/fd")) <= before + 8
