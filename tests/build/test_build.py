"""Builds on this host's own /usr, without a network: steps, the cache, what fails and what is left then."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.fresh import environment, python
from test_hostile_hosts import host

from lisrt import Sandbox
from lisrt.build.build import Built
from lisrt.errors import ImageError
from lisrt.store.archive import decompressed
from lisrt.store.catalog import Catalog

from .conftest import Recorded

BASE = "[base]\nhost = true\n"
Recipe = Callable[..., Path]
Make = Callable[..., tuple[Built, Recorded]]


def run(script: str) -> str:
    return f"[[step]]\nrun = '''{script}'''\n"


def shown(image: str, command: str) -> str:
    with Sandbox(image) as box:
        return box.sh(command, merge_stderr=True).check().stdout


def test_steps_make_an_image(recipe: Recipe, make: Make, store: Catalog) -> None:
    """Each sees what those before it have made; settings reach later steps, and programs in the image."""
    text = BASE + """
        [[step]]
        copy = "greeting"
        to = "/opt/greeting"
        [[step]]
        env = { WHO = "world", PATH = "/opt/bin:/usr/bin:/bin" }
        [[step]]
        workdir = "/opt/work"
        [[step]]
        run = "pwd > here; echo \\"$(cat /opt/greeting), $WHO\\" > /opt/said; chown daemon /opt/said; id -u >> /opt/said"
        """
    built, _ = make(recipe(text, greeting="hello"))
    assert shown("made", "cat /opt/said /opt/work/here; echo $WHO; pwd") == "hello, world\n0\n/opt/work\nworld\n/opt/work\n"
    assert store.get("made").id == built.record.id
    assert built.record.provenance["kind"] == "build"
    assert len(built.record.layers) == 2
    assert "lisrt" not in shown(built.record.id, "ls -A /run")


def test_what_was_built_before_comes_from_the_cache(recipe: Recipe, make: Make) -> None:
    """Until the step, what it copies, a variable or something below it is another."""
    copy = '[[step]]\ncopy = "file"\nto = "/opt/file"\n'
    steps = run("echo 1 > /opt/1") + copy + run("cat /opt/file > /opt/2")
    first, told = make(recipe(BASE + steps, file="a"))
    assert told.cached == [False, False, False]
    again, told = make(recipe(BASE + steps, file="a"))
    assert told.cached == [True, True, True]
    assert again.record.id == first.record.id
    _, told = make(recipe(BASE + steps, file="b"))
    assert told.cached == [True, False, False]
    assert shown("made", "cat /opt/2") == "b"
    _, told = make(recipe(BASE + '[[step]]\nenv = { A = "1" }\n' + steps, file="b"))
    assert told.cached == [False, False, False]
    _, told = make(recipe(BASE + steps, file="a"), cache=False)
    assert told.cached == [False, False, False]
    _, told = make(recipe(BASE + steps + run("echo 3 > /opt/3"), file="a"))
    assert told.cached == [True, True, True, False]
    assert shown("made", "cat /opt/1 /opt/2 /opt/3") == "1\na3\n"


def test_a_cached_layer_that_is_gone_is_made_again(recipe: Recipe, make: Make, store: Catalog) -> None:
    """`lisrt image gc` may have taken it, or a crash have damaged what names it."""
    folder = recipe(BASE + run("echo 1 > /opt/1"))
    make(folder)
    store.remove("made")
    store.sweep()
    _, told = make(folder)
    assert told.cached == [False]
    for path in store.home.part("builds").glob("*.json"):
        path.write_bytes(b"{")
    _, told = make(folder)
    assert told.cached == [False]
    assert shown("made", "cat /opt/1") == "1\n"


def test_a_failing_step_is_told_with_all_there_is_to_know(recipe: Recipe, make: Make, store: Catalog) -> None:
    """Recipe, step, command, status, the last lines; the store is as it was."""
    make(recipe(BASE + run("echo good > /opt/state")))
    script = 'for n in $(seq 100); do echo line $n; done; echo to stderr >&2; printf "a\\033[2Jb"; exit 7'
    folder = recipe(BASE + run("echo better > /opt/state") + run(script))
    with pytest.raises(ImageError) as caught:
        make(folder)
    said = str(caught.value)
    assert said.startswith("recipe made, step 2: 'for n in $(seq 100)")
    assert "exited with status 7" in said
    assert "| line 100\n" in said and "| to stderr" in said and "| line 50\n" not in said
    assert "\033" not in said
    log = store.home.part("builds") / "made.log"
    assert str(log) in said and "line 1\nline 2\n" in log.read_text()
    assert shown("made", "cat /opt/state") == "good\n"
    assert not list(store.home.part("new").iterdir())
    _, told = make(recipe(BASE + run("echo better > /opt/state")))
    assert told.cached == [True]


def test_a_check_that_fails_names_nothing(recipe: Recipe, make: Make, store: Catalog) -> None:
    """What the image could not prove, it is not."""
    folder = recipe(BASE + run("echo 1 > /opt/1"), check__sh="#!/bin/sh\necho looking\ntest -e /opt/2 || exit 3\n")
    with pytest.raises(ImageError) as caught:
        make(folder)
    assert "recipe made, " in str(caught.value) and "check.sh" in str(caught.value)
    assert "status 3" in str(caught.value) and "| looking" in str(caught.value)
    assert store.names() == [] and store.all() == []


def test_a_check_that_names_no_program(recipe: Recipe, make: Make, store: Catalog) -> None:
    """Said with the file, and what to look at."""
    folder = recipe(BASE + run("echo 1 > /opt/1"), check__sh="#!\n")
    with pytest.raises(ImageError, match=r"^recipe made, .*check\.sh: Exec format error.*what its first line names"):
        make(folder)
    assert store.names() == [] and store.all() == []


def test_a_check_runs_without_a_network_and_leaves_no_trace(recipe: Recipe, make: Make) -> None:
    """In a sandbox of the image as it will be used."""
    check = "#!/bin/sh\ntest $(tail -n +3 /proc/net/dev | wc -l) = 1 && touch /opt/checked\n"
    _, told = make(recipe(BASE + run("echo 1 > /opt/1"), check__sh=check))
    assert ("made check.sh", "passed") in told.notes
    assert shown("made", "ls /opt") == "1\n"


def test_another_check_is_run(recipe: Recipe, make: Make) -> None:
    """On the image that is there: all else comes from the cache."""
    steps = BASE + run("echo 1 > /opt/1")
    make(recipe(steps, check__sh="#!/bin/sh\ntest -e /opt/1\n"))
    _, told = make(recipe(steps, check__sh="#!/bin/sh\ntest -e /opt/1\n"))
    assert not [note for note in told.notes if "check.sh" in note[0]]
    with pytest.raises(ImageError, match=r"check\.sh"):
        make(recipe(steps, check__sh="#!/bin/sh\ntest -e /opt/2\n"))


def test_a_step_has_the_hosts_network_and_an_image_has_none(recipe: Recipe, make: Make) -> None:
    """Fetching is what builds are for."""
    make(recipe(BASE + run("tail -n +3 /proc/net/dev | wc -l > /opt/devices")))
    here = len(Path("/proc/net/dev").read_text().splitlines()) - 2
    assert int(shown("made", "cat /opt/devices")) == here


def test_a_recipe_may_begin_with_another(recipe: Recipe, make: Make, store: Catalog) -> None:
    """Which is built first, and shares its layers."""
    recipe(BASE + run("echo 1 > /opt/1") + '[[step]]\nenv = { A = "1" }\n', "below")
    built, told = make(recipe('[base]\nrecipe = "../below"\n' + run("echo $A > /opt/2")))
    assert told.cached == [False, False]
    assert built.record.layers[:1] == store.get("below").layers
    assert shown("made", "cat /opt/1 /opt/2; echo $A") == "1\n1\n1\n"
    _, told = make(recipe('[base]\nrecipe = "../below"\n' + run("echo $A > /opt/2")))
    assert told.cached == [True, True]


def test_a_recipe_that_begins_with_itself(recipe: Recipe, make: Make) -> None:
    recipe('[base]\nrecipe = "../two"\n' + run("true"), "one")
    folder = recipe('[base]\nrecipe = "../one"\n' + run("true"), "two")
    with pytest.raises(ImageError, match="its base is a recipe that begins with this one"):
        make(folder)


def test_names(recipe: Recipe, make: Make, store: Catalog) -> None:
    """The recipe's, or those that are asked for; one that can't be is refused before anything is built."""
    folder = recipe(BASE + run("echo 1 > /opt/1"))
    make(folder, names=("mine", "mine:2"))
    assert store.names() == ["mine", "mine:2"]
    with pytest.raises(ValueError, match="can't be named 'host'"):
        make(folder, names=("host",))


def test_the_image_keeps_nothing_of_the_host(recipe: Recipe, make: Make, store: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies, indexes and what passwords are in them reach the steps, and no layer, record or log."""
    monkeypatch.setenv("http_proxy", "http://somebody:SECRET-WORD@proxy.invalid:3128")
    monkeypatch.setenv("PIP_INDEX_URL", "https://token:SECRET-WORD@index.invalid/simple")
    script = 'test -n "$http_proxy" && test -n "$PIP_INDEX_URL" && test -r "$APT_CONFIG" && echo 1 > /opt/1'
    make(recipe(BASE + run(script)))
    monkeypatch.undo()
    monkeypatch.setenv("LISRT_HOME", str(store.home.path))
    assert shown("made", "env | grep -i -E 'proxy|pip_|apt_config'; :") == ""
    for path in store.home.path.rglob("*"):
        if path.is_file():
            with open(path, "rb") as raw, decompressed(raw) as plain:
                assert b"SECRET-WORD" not in plain.read()
    blob = store.home.part("blobs") / store.get("made").layers[0].blob.removeprefix("sha256:")
    with open(blob, "rb") as raw, decompressed(raw) as plain:
        assert b"run/lisrt" not in plain.read()


def test_the_command(recipe: Recipe, store: Catalog, working_host: None) -> None:
    """Steps on stderr, the image on stdout; a failure exits 125."""

    def lisrt(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "lisrt", "image", "build", *arguments]
        env = {**environment(), "LISRT_HOME": os.environ["LISRT_HOME"]}
        return subprocess.run(command, env=env, capture_output=True, text=True)

    folder = recipe(BASE + run("echo 1 > /opt/1"))
    done = lisrt(str(folder), "--tag", "mine")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"mine  {store.get('mine').id}\n"
    assert json.loads(lisrt(str(folder), "--json").stdout)["id"] == store.get("made").id
    assert "made 1/1: run echo 1 > /opt/1" in done.stderr
    done = lisrt(str(recipe(BASE + run("exit 3"))))
    assert done.returncode == 125
    assert "lisrt: recipe made, step 1: 'exit 3'" in done.stderr
    assert lisrt("no-such-recipe").returncode == 125
    assert lisrt("--locked", "--update", str(folder)).returncode == 2


def test_more_steps_than_snapshots_are_kept_above_each_other(recipe: Recipe, make: Make) -> None:
    """Layers stay those of their steps, however many there are."""
    built, _ = make(recipe(BASE + "".join(run(f"echo {n} >> /opt/all; rm -f /opt/last-*; touch /opt/last-{n}") for n in range(33))))
    assert len(built.record.layers) == 33
    assert shown("made", "tr '\\n' ' ' < /opt/all; ls /opt").split() == [*map(str, range(33)), "all", "last-32"]


FULL = """
    from pathlib import Path
    from lisrt import ImageError, Sandbox
    from lisrt.build.build import build
    from lisrt.build.job import Options
    from lisrt.build.report import Report
    from lisrt.store.home import Home

    try:
        build(Path("big"), Options(), Report())
    except ImageError as error:
        print(error)
    print(*sorted(path.name for part in ("new", "blobs", "images") for path in Home().part(part).iterdir()))
    build(Path("small"), Options(), Report())
    with Sandbox("small") as box:
        print(box.read_text("/opt/1"))
"""


def test_a_disk_that_is_full_midway(recipe: Recipe, tmp_path: Path, working_host: None) -> None:
    """The step is named, nothing of it stays, and what fits is built."""
    big = recipe(BASE + run("head -c 9000000 /dev/urandom > /opt/big"), "big").parent
    recipe(BASE + run("echo fits > /opt/1"), "small")
    (tmp_path / "store").mkdir()
    setup = f'mount -t tmpfs -o size=4m none "{tmp_path}/store"'
    done = python(FULL, cwd=big, env={"LISRT_HOME": str(tmp_path / "store")}, prefix=host(setup))
    assert done.stdout.splitlines() == ["recipe big, step 1: No space left on device", "", "fits", ""]
