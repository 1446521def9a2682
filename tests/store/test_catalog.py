"""The store itself: names and ids, what goes and what stays, many programs at once, and programs that die."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from support.archives import COMPRESSIONS, file, saved, tar
from support.fresh import environment, program, python
from support.hosts import host

from lisrt import ImageError
from lisrt.store.catalog import Catalog, Swept
from lisrt.store.imports import import_image
from lisrt.store.record import ImageRecord

from .conftest import contents


def made(catalog: Catalog, tmp_path: Path, name: str, text: str = "") -> ImageRecord:
    """An image whose one file says `text`, else its name."""
    source = tmp_path / "source.tar"
    source.write_bytes(tar([file("name", (text or name).encode())]))
    return import_image(source, catalog, name)


def test_names_and_ids(catalog: Catalog, tmp_path: Path) -> None:
    """By name, by id, by the beginning of that; a name that moves."""
    one, two = made(catalog, tmp_path, "one"), made(catalog, tmp_path, "some/where:5000/two")
    for reference in ("some/where:5000/two", two.id, two.id[7:], two.id[7:15]):
        assert catalog.get(reference) == two
    assert made(catalog, tmp_path, "one", "another").id != one.id
    assert catalog.get("one").id != one.id
    assert catalog.get(one.id) == one
    assert [listed.names for listed in catalog.all()] == [("one",), ("some/where:5000/two",), ()]


def test_what_is_not_there(catalog: Catalog, tmp_path: Path) -> None:
    """The nearest name, or those that there are."""
    with pytest.raises(ImageError, match="no image named 'x'; there are host"):
        catalog.get("x")
    with pytest.raises(ImageError, match="`lisrt image build debian-12-slim` makes it"):
        catalog.get("debian-12-slim")
    made(catalog, tmp_path, "debian-12")
    with pytest.raises(ImageError, match="did you mean 'debian-12'"):
        catalog.get("debian12")
    with pytest.raises(ImageError, match="no image"):
        catalog.get("../../etc/passwd")
    with pytest.raises(ImageError, match="no image"):
        catalog.get("0" * 64)


def test_going(catalog: Catalog, tmp_path: Path) -> None:
    """A name goes; with the last one the image; with the sweep what nothing needs any more."""
    one, two = made(catalog, tmp_path, "one"), made(catalog, tmp_path, "two")
    made(catalog, tmp_path, "also-one", "one")
    assert catalog.remove("one") == (["one"], False)
    assert catalog.get("also-one").id == one.id
    assert catalog.remove(two.id[7:19]) == (["two"], True)
    assert catalog.sweep(dry_run=True).blobs == 1
    before = contents(catalog)
    assert catalog.sweep().bytes == two.size
    assert before.keys() - contents(catalog).keys() == {f"blobs/{two.layers[0].blob[7:]}"}
    with pytest.raises(ImageError, match="no image named 'two'"):
        catalog.remove("two")


def test_what_has_lost_its_name(catalog: Catalog, tmp_path: Path) -> None:
    """A name that moves on leaves its image, which goes when that is asked for, with what it alone needs."""
    old, new = made(catalog, tmp_path, "one", "old"), made(catalog, tmp_path, "one", "new")
    assert catalog.sweep() == Swept(0, 0, 0)
    assert catalog.sweep(unnamed=True, dry_run=True) == Swept(1, 1, old.size)
    assert catalog.get(old.id) == old
    assert catalog.sweep(unnamed=True) == Swept(1, 1, old.size)
    assert [listed.record for listed in catalog.all()] == [new]
    assert catalog.tag(new.id[:20], "two").id == new.id
    assert catalog.names_of(new) == ("one", "two")
    with pytest.raises(ValueError, match="taken"):
        catalog.tag("one", "host")


def test_latest(catalog: Catalog, tmp_path: Path) -> None:
    """A name without a tag and `:latest` are one, unless both are there; to remove the one takes no other name along."""
    one = made(catalog, tmp_path, "host:5000/one")
    assert catalog.get("host:5000/one:latest") == one
    catalog.tag("host:5000/one", "kept")
    assert catalog.remove("host:5000/one:latest") == (["host:5000/one"], False)
    two = made(catalog, tmp_path, "two:latest")
    assert catalog.get("two") == two and catalog.stamp("two") == catalog.stamp("two:latest") is not None
    assert made(catalog, tmp_path, "two", "other") == catalog.get("two") != catalog.get("two:latest")
    with pytest.raises(ImageError, match="no image"):
        catalog.get("two:later")


def test_few_digits_of_an_id(catalog: Catalog, tmp_path: Path) -> None:
    """Five are told how many it takes."""
    one = made(catalog, tmp_path, "one")
    with pytest.raises(ImageError, match="at least 6 digits"):
        catalog.get(one.id[7:12])


def test_it_stays_where_it_first_came_from(catalog: Catalog, tmp_path: Path) -> None:
    """The same image once more, from another file: what is known of it stays."""
    one = made(catalog, tmp_path, "one")
    (tmp_path / "source.tar").rename(tmp_path / "copy.tar")
    assert import_image(tmp_path / "copy.tar", catalog, "two").provenance == one.provenance


def test_names_go_while_others_add(catalog: Catalog, tmp_path: Path) -> None:
    """A build may take minutes: who takes a name away, or gives one, need not wait for it."""
    made(catalog, tmp_path, "one")
    with catalog.home.adding():
        other = Catalog(catalog.home)
        other.tag("one", "two")
        assert other.remove("one") == (["one"], False)


def test_a_record_that_is_damaged(catalog: Catalog, tmp_path: Path) -> None:
    """Named; the others go on, nothing is swept that it might need, and it can be removed."""
    one, _ = made(catalog, tmp_path, "one"), made(catalog, tmp_path, "two")
    (catalog.home.part("images") / f"{one.id[7:]}.json").write_text("{")
    assert [listed.names for listed in catalog.all()] == [("two",)]
    assert [one.id[7:19] in fault for fault in catalog.faults()] == [True]
    for refused in (lambda: catalog.get("one"), catalog.sweep):
        with pytest.raises(ImageError, match=f"image {one.id[7:19]} .*damaged.*lisrt image rm"):
            refused()
    made(catalog, tmp_path, "three")
    catalog.remove(one.id[7:19])
    assert catalog.sweep().blobs == 1
    assert catalog.faults() == []


def test_a_record_of_a_later_lisrt(catalog: Catalog, tmp_path: Path) -> None:
    """It is left alone, and named."""
    one = made(catalog, tmp_path, "one")
    path = catalog.home.part("images") / f"{one.id[7:]}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(ImageError, match="format 99"):
        catalog.get("one")


IMPORTS = """
    import sys
    from pathlib import Path
    from lisrt.store.catalog import Catalog
    from lisrt.store.home import Home
    from lisrt.store.imports import import_image
    catalog = Catalog(Home(Path(sys.argv[1])))
"""


def test_many_at_once(catalog: Catalog, tmp_path: Path) -> None:
    """Processes that take in the same layers, others that remove names and sweep: no image ever lacks a layer."""
    layers = [tar([file("common", b"c" * 1000)]), *(tar([file("own", b"%d" % number)]) for number in range(3))]
    for number in range(3):
        (tmp_path / f"source-{number}").write_bytes(saved(layers[0], layers[1 + number], how="gzip"))
    script = tmp_path / "scenario.py"
    script.write_text(
        textwrap.dedent(IMPORTS)
        + textwrap.dedent("""
        me = int(sys.argv[2])
        for turn in range(15):
            name = f"x{me}-{turn % 3}"
            import_image(Path(f"source-{(me + turn) % 3}"), catalog, name)
            for layer in catalog.get(name).layers:
                assert catalog.blobs.has(layer.blob, layer.size), (name, layer)
            if turn % 3 == 1:
                catalog.remove(name)
                catalog.sweep()
        """)
    )
    command = [sys.executable, str(script), str(catalog.home.path)]
    running = [subprocess.Popen([*command, str(me)], cwd=tmp_path, env=environment(), stderr=subprocess.PIPE) for me in range(6)]
    errors = [process.communicate(timeout=50)[1].decode() for process in running]
    assert errors == [""] * len(running)
    for listed in catalog.all():
        for layer in listed.record.layers:
            assert catalog.blobs.has(layer.blob, layer.size)
    assert os.listdir(catalog.home.part("new")) == []


def test_killed(catalog: Catalog, tmp_path: Path) -> None:
    """An import that is killed midway: nobody sees anything of it, and whoever comes next takes away what it wrote."""
    made(catalog, tmp_path, "before")
    before = contents(catalog)
    (tmp_path / "big").write_bytes(COMPRESSIONS["gzip"](tar([file("noise", os.urandom(8 << 20))])))
    source = textwrap.dedent(IMPORTS).replace("sys.argv[1]", repr(str(catalog.home.path))) + textwrap.dedent("""
        def progress(what, done, total):
            if done > 4 << 20:
                print("in the midst", flush=True)
                sys.stdin.readline()
        import_image(Path("big"), catalog, "big", progress=progress)
    """)
    with program(source, cwd=tmp_path) as running:
        running.expect("in the midst")
        assert len(os.listdir(catalog.home.part("new"))) == 1
        os.kill(running.pid, signal.SIGKILL)
        running.finish()
    assert [listed.names for listed in catalog.all()] == [("before",)]
    assert {name: data for name, data in contents(catalog).items() if not name.startswith("new/")} == before
    made(catalog, tmp_path, "before")
    assert os.listdir(catalog.home.part("new")) == []


def test_a_living_draft_stays(catalog: Catalog) -> None:
    """What another one is writing is not taken for a dead one's."""
    with catalog.home.adding(), catalog.home.draft() as first:
        with catalog.home.draft() as second:
            assert first.is_dir() and second.is_dir()
        assert first.is_dir() and not second.exists()


def test_a_draft_of_another_host(catalog: Catalog, tmp_path: Path) -> None:
    """Its lock may not be seen here: it stays until the store is swept."""
    made(catalog, tmp_path, "one")
    other = catalog.home.part("new") / "elsewhere-1-abc"
    other.mkdir()
    (other / ".lock").touch()
    made(catalog, tmp_path, "two")
    assert other.is_dir()
    catalog.sweep()
    assert not other.exists()


FULL = """
    import os, sys
    from pathlib import Path
    from lisrt import ImageError
    from lisrt.store.catalog import Catalog
    from lisrt.store.home import Home
    from lisrt.store.imports import import_image

    catalog = Catalog(Home(Path(os.environ["PLACE"]) / "home"))
    import_image(Path("small"), catalog, "small")
    before = sorted(path for path in catalog.home.path.rglob("*"))
    for name in ("big.tar", "saved", "folder"):
        try:
            import_image(Path(name), catalog, "big")
        except ImageError as error:
            assert "No space left on device" in str(error) and str(error).startswith(name), error
            print(error)
        assert sorted(path for path in catalog.home.path.rglob("*")) == before
        assert catalog.get("small")
"""


def test_a_full_disk(tmp_path: Path, working_host: None) -> None:
    """Midway: the layer and the cause; the store is what it was, and goes on."""
    noise = os.urandom(4 << 20)
    (tmp_path / "small").write_bytes(tar([file("f", b"1")]))
    (tmp_path / "big.tar").write_bytes(tar([file("noise", noise)]))
    (tmp_path / "saved").write_bytes(saved(tar([file("f", b"2")]), tar([file("noise", noise)]), how="gzip"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/noise").write_bytes(noise)
    (tmp_path / "place").mkdir()
    setup = 'mount -t tmpfs -o size=2m none "$PLACE"'
    done = python(FULL, cwd=tmp_path, env={"PLACE": str(tmp_path / "place")}, prefix=host(setup))
    one, two, three = done.stdout.splitlines()
    assert "layer" in one and "layer 2 of 2" in two and three


def test_nowhere_to_keep_images(tmp_path: Path, unprivileged: None) -> None:
    """The directory, the cause, and the setting."""
    from lisrt.store.home import Home

    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(ImageError, match=r"images can't be kept in .*closed/home: Permission denied; .*\$LISRT_HOME"):
        made(Catalog(Home(tmp_path / "closed/home")), tmp_path, "x")
