"""Trees of this host: unpacked once, whole or not there, kept while in use."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.archives import file, folder, tar
from support.fresh import environment, program

from lisrt import ImageError
from lisrt.store import archive, cache
from lisrt.store.catalog import Catalog
from lisrt.store.imports import import_image
from lisrt.store.pack import pack
from lisrt.store.record import LayerRecord

LAYER = tar([folder("d"), *(file(f"d/{number}", b"%d" % number) for number in range(200))])


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "base").mkdir()
    return tmp_path / "base"


@pytest.fixture
def layer(catalog: Catalog, tmp_path: Path) -> LayerRecord:
    (tmp_path / "source").write_bytes(LAYER)
    return import_image(tmp_path / "source", catalog, "x").layers[0]


def trees(base: Path) -> list[str]:
    return [path.name for path in (base / ".layers").iterdir() if path.is_dir()]


def test_once(catalog: Catalog, base: Path, layer: LayerRecord) -> None:
    """The same directory, not unpacked again."""
    tree = cache.tree(layer, catalog.blobs, base)
    before = (tree.path / "d/0").stat()
    again = cache.tree(layer, catalog.blobs, base)
    os.close(again.lock)
    os.close(tree.lock)
    assert again.path == tree.path
    assert os.path.samestat((again.path / "d/0").stat(), before)
    assert len(list((tree.path / "d").iterdir())) == 200


def test_in_use_and_not(catalog: Catalog, base: Path, layer: LayerRecord) -> None:
    """What somebody has a lock on stays; then what is needed; nothing else."""
    tree = cache.tree(layer, catalog.blobs, base)
    assert cache.remove_unused(base, set()) == 0
    os.close(tree.lock)
    assert cache.remove_unused(base, {layer.diff_id}) == 0
    assert cache.remove_unused(base, set(), dry_run=True) == 1
    assert trees(base)
    assert cache.remove_unused(base, set()) == 1
    assert trees(base) == []


def test_a_tree_that_lost_files(catalog: Catalog, base: Path, layer: LayerRecord) -> None:
    """Some hosts delete old files from /tmp: it is unpacked anew; while others use it, said."""
    first = cache.tree(layer, catalog.blobs, base)
    (first.path / "d/7").unlink()
    with pytest.raises(ImageError, match=r"has lost files, and programs use it"):
        cache.tree(layer, catalog.blobs, base)
    os.close(first.lock)
    again = cache.tree(layer, catalog.blobs, base)
    os.close(again.lock)
    assert (again.path / "d/7").read_bytes() == b"7"


def test_a_layer_that_is_damaged_at_rest(catalog: Catalog, base: Path, layer: LayerRecord) -> None:
    """The layer, the file and the digests; no tree."""
    blob = catalog.blobs.path(layer.blob)
    other = catalog.home.path / "other"
    other.write_bytes(tar([file("x", b"")]))
    os.replace(other, blob)
    with pytest.raises(ImageError, match=f"layer {layer.diff_id} in {blob} has contents of digest"):
        cache.tree(layer, catalog.blobs, base)
    assert not blob.exists()
    blob.write_bytes(LAYER[:100])
    with pytest.raises(ImageError, match=f"^layer {layer.diff_id}"):
        cache.tree(layer, catalog.blobs, base)
    with pytest.raises(ImageError, match=f"the store lacks {layer.blob}"):
        cache.tree(layer, catalog.blobs, base)
    assert trees(base) == []


@pytest.mark.parametrize("how", ["cut off", "one bit", "an archive"])
def test_a_damaged_layer_is_repaired(catalog: Catalog, base: Path, layer: LayerRecord, tmp_path: Path, how: str) -> None:
    """By importing it again, as the message says; what was set aside goes with the next sweep."""
    blob = catalog.blobs.path(layer.blob)
    whole = blob.read_bytes()
    other = {"cut off": whole[:-20], "one bit": bytes([whole[0], whole[1] ^ 1]) + whole[2:], "an archive": tar([file("x")])}[how]
    blob.write_bytes(other)
    with pytest.raises(ImageError, match="the damaged file was set aside: import, pull or build the image again"):
        cache.tree(layer, catalog.blobs, base)
    import_image(tmp_path / "source", catalog, "x")
    assert blob.read_bytes() == whole
    os.close(cache.tree(layer, catalog.blobs, base).lock)
    assert catalog.sweep().blobs == 1
    assert len(list(blob.parent.iterdir())) == 1


def test_a_layer_that_was_cut_off_is_brought_again(
    catalog: Catalog, layer: LayerRecord, tmp_path: Path
) -> None:
    """Also when nobody has used it meanwhile: the import said that the store lacks what it had just brought."""
    blob = catalog.blobs.path(layer.blob)
    os.truncate(blob, layer.size - 20)
    import_image(tmp_path / "source", catalog, "x")
    assert blob.stat().st_size == layer.size


def test_no_room_is_no_damage(catalog: Catalog, base: Path, layer: LayerRecord) -> None:
    """What else goes wrong leaves the layer where it is."""
    with resource_limit(resource.RLIMIT_FSIZE, 0), pytest.raises(ImageError):
        cache.tree(layer, catalog.blobs, base)
    os.close(cache.tree(layer, catalog.blobs, base).lock)


@contextlib.contextmanager
def resource_limit(which: int, value: int) -> Iterator[None]:
    before = resource.getrlimit(which)
    resource.setrlimit(which, (value, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(which, before)


def test_a_layer_of_zeros(
    catalog: Catalog, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What we packed is no bomb, however well it was compressed: else the snapshot is taken and can't be opened."""
    monkeypatch.setattr(archive, "RATIO_FROM", 1 << 20)
    (tmp_path / "source").mkdir()
    (tmp_path / "source/zeros").write_bytes(bytes(8 << 20))
    with catalog.home.adding():
        layer = pack(tmp_path / "source", catalog.home)
    assert layer.size * archive.MOST_RATIO < 8 << 20
    tree = cache.tree(layer, catalog.blobs, base)
    os.close(tree.lock)
    assert (tree.path / "zeros").stat().st_size == 8 << 20


def test_the_longest_path(catalog: Catalog, base: Path, tmp_path: Path) -> None:
    """With the place of the tree before it, it would be too long for the kernel."""
    (tmp_path / "source").write_bytes(tar([file("d" * 200 + "/" + "a/" * 1940 + "f", b"1")]))
    layer = import_image(tmp_path / "source", catalog, "x").layers[0]
    for _ in range(2):
        os.close(cache.tree(layer, catalog.blobs, base).lock)
    assert cache.remove_unused(base, set()) == 1


UNPACK = """
    import os, sys
    from pathlib import Path
    from lisrt.store import cache
    from lisrt.store.catalog import Catalog
    from lisrt.store.home import Home
    catalog = Catalog(Home(Path({home!r})))
    [layer] = catalog.get("x").layers
"""


def test_many_at_once(catalog: Catalog, base: Path, layer: LayerRecord, tmp_path: Path) -> None:
    """Processes that want the same tree, and one that removes what nobody uses: all of them see it whole."""
    script = tmp_path / "scenario.py"
    script.write_text(
        textwrap.dedent(UNPACK.format(home=str(catalog.home.path)))
        + textwrap.dedent(f"""
        base = Path({str(base)!r})
        for _ in range(20):
            tree = cache.tree(layer, catalog.blobs, base)
            assert len(os.listdir(tree.path / "d")) == 200
            os.close(tree.lock)
            cache.remove_unused(base, set())
        """)
    )
    command = [sys.executable, str(script)]
    running = [subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE) for _ in range(5)]
    assert [process.communicate(timeout=50)[1].decode() for process in running] == [""] * 5


def test_a_damaged_tree_that_many_want(catalog: Catalog, base: Path, layer: LayerRecord, tmp_path: Path) -> None:
    """Nobody uses it: those who look at it at the same time are not taken for users."""
    script = tmp_path / "scenario.py"
    script.write_text(
        textwrap.dedent(UNPACK.format(home=str(catalog.home.path)))
        + textwrap.dedent(f"""
        base = Path({str(base)!r})
        for line in sys.stdin:
            os.close(cache.tree(layer, catalog.blobs, base).lock)
            print("there", flush=True)
        """)
    )
    tree = cache.tree(layer, catalog.blobs, base)
    os.close(tree.lock)
    command = [sys.executable, str(script)]
    with contextlib.ExitStack() as stack:
        pipe = subprocess.PIPE
        running = [
            stack.enter_context(subprocess.Popen(command, cwd=tmp_path, env=environment(), stdin=pipe, stdout=pipe, text=True))
            for _ in range(4)
        ]
        for number in range(30):
            (tree.path / f"d/{number}").unlink()
            for process in running:
                print(file=process.stdin, flush=True)
            for process in running:
                assert process.stdout is not None
                assert process.stdout.readline() == "there\n"


def test_killed(catalog: Catalog, base: Path, layer: LayerRecord, tmp_path: Path) -> None:
    """Midway: no tree, the next one unpacks it, and what is half-made goes with those that nobody uses."""
    source = textwrap.dedent(UNPACK.format(home=str(catalog.home.path))) + textwrap.dedent(f"""
        def progress(size):
            print("in the midst", flush=True)
            sys.stdin.readline()
        cache.tree(layer, catalog.blobs, Path({str(base)!r}), progress)
    """)
    (tmp_path / "many").write_bytes(tar([file(f"f{number}") for number in range(300)]))
    import_image(tmp_path / "many", catalog, "x")
    with program(source, cwd=tmp_path) as running:
        running.expect("in the midst")
        os.kill(running.pid, signal.SIGKILL)
        running.finish()
    assert [name[:5] for name in trees(base)] == [".new-"]
    made = cache.tree(catalog.get("x").layers[0], catalog.blobs, base)
    assert len(os.listdir(made.path)) == 300
    assert cache.remove_unused(base, set()) == 1
    os.close(made.lock)
    assert len(trees(base)) == 1
