"""`lisrt image`: what comes in is listed, shown, run, passed on and taken away again."""

import json
import os
import shutil
import signal
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from support.archives import COMPRESSIONS, Layout, file, saved, tar
from support.command import Cli
from support.features import missing
from support.registry import Front, Request, push, registry
from support.roots import root_of
from support.waiting import not_blocked

from lisrt.cli.image import command as group
from lisrt.store import manifest

CONFIG = {"Env": ["GREETING=hello", "PATH=/bin"], "WorkingDir": "/data", "User": "user", "Cmd": ["sh"]}


@pytest.fixture
def cli(tmp_path: Path, scratch: Path) -> Iterator[Cli]:
    """`lisrt` with a store of its own; afterwards nothing of it is left."""
    made = Cli(tmp_path, scratch, env={"LISRT_HOME": str(tmp_path / "home"), "DOCKER_CONFIG": str(tmp_path)})
    yield made
    made.assert_clean()


@pytest.fixture(scope="module")
def layers() -> list[bytes]:
    return [root_of("sh", "cat", "id"), tar([file("data/answer", b"42\n"), file("data/.wh.none")])]


def ok(done: "object") -> str:
    assert done.returncode == 0, done.stderr  # type: ignore[attr-defined]
    return str(done.stdout)  # type: ignore[attr-defined]


def test_an_image_and_its_life(cli: Cli, tmp_path: Path, layers: list[bytes], working_host: None) -> None:
    """Imported from what `docker save` wrote: files, variables, directory and user are there; then it goes."""
    (tmp_path / "tiny.tar.gz").write_bytes(COMPRESSIONS["gzip"](saved(*layers, **CONFIG)))
    assert ok(cli("image", "import", "tiny.tar.gz")).startswith("tiny  sha256:")
    script = "cat answer; echo $GREETING; id -u; exit 3"
    done = cli("exec", "--image", "tiny", "--", "sh", "-c", script)
    assert (done.returncode, done.stdout) == (3, "42\nhello\n1000\n")
    [listed] = json.loads(ok(cli("image", "ls", "--json")))
    assert (listed["names"], listed["config"]["workdir"], len(listed["layers"])) == (["tiny"], "/data", 2)
    heading, line = ok(cli("image", "ls")).splitlines()
    assert heading.split()[:3] == ["NAME", "ID", "SIZE"]
    assert line.split()[:2] == ["tiny", listed["id"][7:19]]
    shown = ok(cli("image", "show", listed["id"][7:15]))
    assert "GREETING=hello" in shown and str(tmp_path / "tiny.tar.gz") in shown
    assert json.loads(ok(cli("image", "show", "tiny", "--json"))) == listed
    assert "tiny removed" in ok(cli("image", "rm", "tiny"))
    assert ok(cli("image", "gc", "--dry-run")).startswith("2 layers would be removed")
    assert json.loads(ok(cli("image", "gc", "--json")))["blobs"] == 2
    assert json.loads(ok(cli("image", "ls", "--json"))) == []
    assert list((tmp_path / "home/blobs").iterdir()) == []
    assert not [path for path in cli.scratch.rglob(".layers/*") if path.is_dir()]


def test_passed_on(cli: Cli, tmp_path: Path, layers: list[bytes]) -> None:
    """To a file, or through a pipe; nothing half-made where it fails."""
    (tmp_path / "tiny").write_bytes(saved(*layers))
    ok(cli("image", "import", "tiny"))
    ok(cli("image", "export", "tiny", "out.tar"))
    with open(tmp_path / "piped.tar", "wb") as out:
        assert cli("image", "export", "tiny", "-", stdout=out).returncode == 0
    assert (tmp_path / "piped.tar").read_bytes() == (tmp_path / "out.tar").read_bytes()
    known = json.loads(ok(cli("image", "show", "tiny", "--json")))["id"]
    assert ok(cli("image", "import", "out.tar", "again")) == f"again  {known}\n"
    for blob in (tmp_path / "home/blobs").iterdir():
        blob.unlink()
    assert cli("image", "export", "tiny", "other.tar").returncode == 125
    assert not [name for name in os.listdir(tmp_path) if "other" in name]


def test_compressed_as_the_name_says(cli: Cli, tmp_path: Path, layers: list[bytes]) -> None:
    """`.tar.gz` is gzip, `.tar.zst` zstd; each is taken in again."""
    (tmp_path / "tiny").write_bytes(saved(*layers))
    ok(cli("image", "import", "tiny"))
    for name, magic in (("out.tar.gz", b"\x1f\x8b"), ("out.tgz", b"\x1f\x8b"), ("out.tar.zst", b"\x28\xb5\x2f\xfd")):
        ok(cli("image", "export", "tiny", name))
        assert (tmp_path / name).read_bytes().startswith(magic)
        assert ok(cli("image", "import", name, "again")).split()[1] == ok(cli("image", "show", "tiny")).split()[1]
    done = cli("image", "export", "tiny", "no/such/place.tar")
    assert (done.returncode, "no/such/place.tar'" in done.stderr) == (125, True)


def test_through_a_pipe(cli: Cli, tmp_path: Path, layers: list[bytes]) -> None:
    """As `docker load`: an archive from stdin, which has to be given a name."""
    (tmp_path / "tiny").write_bytes(saved(*layers))
    known = ok(cli("image", "import", "tiny")).split()[1]
    with open(tmp_path / "tiny", "rb") as piped:
        assert ok(cli("image", "import", "-", "again", stdin=piped)) == f"again  {known}\n"
        assert cli("image", "import", "-", stdin=piped).returncode == 2
    assert json.loads(ok(cli("image", "show", "again", "--json")))["provenance"]["source"] == str(tmp_path / "tiny")
    assert os.listdir(tmp_path / "home/new") == []


def test_names_that_move(cli: Cli, tmp_path: Path, layers: list[bytes]) -> None:
    """Which image loses its name is told, and how to be rid of it; one that is not there keeps no other from being removed."""
    (tmp_path / "a").write_bytes(saved(*layers))
    (tmp_path / "b").write_bytes(saved(layers[0]))
    old = ok(cli("image", "import", "a", "x")).split("sha256:")[1][:12]
    done = cli("image", "import", "b", "x")
    assert f"x was image {old} until now, which has no name any more" in done.stderr
    assert "1 image without a name" in cli("image", "gc").stderr
    assert "until now" not in cli("image", "import", "b", "x").stderr
    ok(cli("image", "tag", old, "y"))
    assert f"y was image {old} until now" in cli("image", "tag", "x", "y").stderr
    assert ok(cli("image", "gc", "--unnamed")).startswith("1 image without a name removed\n1 layer removed")
    done = cli("image", "rm", "x", "nothing", "y")
    assert (done.returncode, done.stdout.split()[:4]) == (125, ["x", "removed", "y", "removed"])
    assert "no image named 'nothing'" in done.stderr


def test_what_a_command_leaves_is_kept(cli: Cli, tmp_path: Path, layers: list[bytes], working_host: None) -> None:
    """`exec --save`: the next one finds it; a command that fails saves nothing."""
    (tmp_path / "tiny").write_bytes(saved(*layers))
    ok(cli("image", "import", "tiny"))
    done = cli("exec", "--image", "tiny", "--save", "more", "--", "sh", "-c", "echo kept > /file")
    assert (done.returncode, done.stderr.endswith("lisrt: saved as more\n")) == (0, True)
    again = ("exec", "--image", "tiny", "--save", "more", "--", "sh", "-c", "echo kept > /file; : >x")
    assert "more was image" in cli(*again).stderr
    assert ok(cli("exec", "--image", "more", "--", "cat", "/file")) == "kept\n"
    done = cli("exec", "--image", "tiny", "--save", "none", "--", "sh", "-c", "exit 3")
    assert (done.returncode, "not saved as none" in done.stderr) == (3, True)
    assert "no image named 'none'" in cli("image", "show", "none").stderr
    for arguments in (("--save", "host"), ("--save", "x", "--writable", "tmpfs:8MiB")):
        assert cli("exec", *arguments, "--", "true").returncode == 2


def test_without_a_network(cli: Cli, working_host: None) -> None:
    """Whose download fails for want of one is told of --network."""
    done = cli("exec", "--", "sh", "-c", "exit 7 # curl http://example.org")
    assert (done.returncode, "--network host" in done.stderr) == (7, True)
    assert "--network" not in cli("exec", "--", "sh", "-c", "exit 7").stderr


def test_pulled(cli: Cli, tmp_path: Path, layers: list[bytes], working_host: None) -> None:
    """From a registry, by the name that people write."""
    made = Layout()
    made.add(made.image(*layers, config=CONFIG, architecture=manifest.here()))
    source = made.write(tmp_path / "layout")
    with registry(tmp_path / "registry") as behind, Front(behind) as front:
        push(behind, "some/tiny:1", source)
        name = f"{front.host}/some/tiny:1"
        assert ok(cli("image", "pull", name)).startswith(name)
        ok(cli("image", "pull", name, "tiny"))
        assert len(front.blobs()) == 4  # the configuration twice, the layers once
    done = cli("exec", "--image", "tiny", "--", "cat", "answer")
    assert (done.returncode, done.stdout) == (0, "42\n")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_interrupted(cli: Cli, tmp_path: Path, layers: list[bytes], how: signal.Signals) -> None:
    """Ctrl-C ends a pull at once, whatever the registry does; nothing stays, after SIGKILL nothing that the next one keeps."""
    made = Layout()
    made.add(made.image(*layers, architecture=manifest.here()))
    name = json.loads(made.blobs[made.entries[0]["digest"]])["layers"][0]["digest"]
    source = made.write(tmp_path / "layout")
    asked, done = threading.Event(), threading.Event()

    def script(request: Request) -> None:
        if name in request.path:
            asked.set()
            done.wait(50)

    with registry(tmp_path / "registry") as behind, Front(behind) as front:
        push(behind, "tiny:1", source)
        command = cli.command("image", "pull", f"{front.host}/tiny:1", "tiny")
        front.script = script
        process = subprocess.Popen(command, cwd=tmp_path, env=cli.environment(), stderr=subprocess.PIPE, text=True)
        try:
            assert asked.wait(30)
            assert len(os.listdir(tmp_path / "home/new")) == 1
            with not_blocked():
                process.send_signal(how)
                _, stderr = process.communicate()
        finally:
            process.kill()
            done.set()
        assert "Traceback" not in stderr
        assert process.returncode == (130 if how == signal.SIGINT else -how)
        front.script = lambda request: None
        if how == signal.SIGINT:
            assert os.listdir(tmp_path / "home/new") == []
        ok(cli("image", "pull", f"{front.host}/tiny:1", "tiny"))
        assert os.listdir(tmp_path / "home/new") == []


@pytest.mark.slow
def test_a_real_debian(cli: Cli, tmp_path: Path, working_host: None) -> None:
    """What mmdebstrap makes, as an ordinary user: its package manager finds its packages, and its files are sound."""
    for tool in ("mmdebstrap", "fakechroot", "fakeroot"):
        if shutil.which(tool) is None:
            missing(tool)
    command = ["mmdebstrap", "--quiet", "--mode=fakechroot", "--variant=essential", "bookworm", "debian.tar"]
    env = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "TMPDIR": str(tmp_path)}
    subprocess.run(command, cwd=tmp_path, env=env, check=True, timeout=200)
    ok(cli("image", "import", "debian.tar"))
    with tarfile.open(tmp_path / "debian.tar") as archive:
        files = (entry for entry in archive if entry.isreg() or entry.islnk())
        wanted = {entry.name.removeprefix(".") for entry in files if entry.name.startswith("./usr/")}
    script = "dpkg --verify; dpkg-query -W -f '${Status}\\n' | sort -u; find /usr -type f"
    status, *found = ok(cli("exec", "--image", "debian", "--", "sh", "-c", script)).splitlines()
    assert status == "install ok installed"  # and dpkg has found nothing changed or missing
    assert set(found) == wanted


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("import", "nothing"), 2, "nothing"),
        (("import", "noise", "host"), 125, "can't be named 'host'"),
        (("import", "noise"), 125, "no tar archive"),
        (("export", "x", "y.xz"), 2, ".xz is not made here"),
        (("pull", "docker.io/UPPER/case"), 125, "named like HOST/PATH"),
        (("pull", "x@sha256:0"), 125, "digest"),
        (("show", "x"), 125, "no image named 'x'"),
        (("rm", "x"), 125, "no image named 'x'"),
        (("export", "x", "y"), 125, "no image named 'x'"),
        (("lst",), 2, "Did you mean 'ls'"),
    ],
)
def test_mistakes(cli: Cli, tmp_path: Path, arguments: tuple[str, ...], status: int, says: str) -> None:
    """Named, and nothing is made."""
    (tmp_path / "noise").write_bytes(bytes(range(256)) * 20)
    done = cli("image", *arguments)
    assert done.returncode == status
    assert says in done.stderr
    assert not (tmp_path / "y").exists()
    assert not (tmp_path / "home/images").exists() or os.listdir(tmp_path / "home/images") == []


@pytest.mark.parametrize("name", ["", *group.list_commands(click.Context(group))])
def test_help(cli: Cli, name: str) -> None:
    """Each command has a line in the list, and says what it does and what its options do."""
    done = cli("image", *filter(None, [name]), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    if name:
        command = group.get_command(click.Context(group), name)
        assert command is not None and command.help
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help and set(option.opts) <= set(done.stdout.replace(",", " ").split())
    else:
        lines = [line.split() for line in done.stdout.splitlines() if line.startswith("  ")]
        assert {words[0] for words in lines if len(words) > 2} >= {"export", "gc", "import", "ls", "pull", "rm", "show"}


def test_what_strangers_wrote(cli: Cli, tmp_path: Path) -> None:
    """A tag is no order to the terminal."""
    (tmp_path / "x").write_bytes(saved(tar([file("f", b"1")]), tag="\x1b[31mred"))
    ok(cli("image", "import", "x"))
    assert "\x1b" not in ok(cli("image", "show", "x"))
