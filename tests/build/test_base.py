"""Bases that somebody else has made."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lisrt import Sandbox
from lisrt.build.build import Built
from lisrt.errors import ImageError
from lisrt.store.catalog import Catalog

from .conftest import Recorded

Recipe = Callable[..., Path]
Make = Callable[..., tuple[Built, Recorded]]


def host_tree(path: Path) -> None:
    """A tarball of a system that has a shell: this host's own, as far as a static program and its libraries go."""
    with tarfile.open(path, "w") as tar:
        for name in ("bin/sh", "usr/bin/env", "bin/ls", "bin/cat", "bin/mkdir"):
            source = Path("/", name).resolve()
            tar.add(source, name)
        for library in sorted({*Path("/lib64").glob("ld-*"), *Path("/usr/lib").glob("*-linux-gnu/lib[cp]*.so*"),
                               *Path("/usr/lib").glob("*-linux-gnu/libselinux.so*")}):  # fmt: skip
            if library.resolve().is_file() and library.stat().st_size < 4 << 20:
                tar.add(library.resolve(), str(library).lstrip("/"))
        passwd = b"root:x:0:0:root:/root:/bin/sh\n"
        info = tarfile.TarInfo("etc/passwd")
        info.size = len(passwd)
        tar.addfile(info, io.BytesIO(passwd))


def test_an_archive(recipe: Recipe, make: Make, tmp_path: Path) -> None:
    """Beside the recipe; imported once, cached like all others."""
    folder = recipe('[base]\narchive = "system.tar"\n[[step]]\nrun = "echo 1 > /made"\n')
    host_tree(folder / "system.tar")
    built, told = make(folder)
    assert told.cached == [False]
    assert len(built.record.layers) == 2
    with Sandbox("made") as box:
        assert box.run(["cat", "/made"]).check().stdout == "1\n"
    _, told = make(folder)
    assert told.cached == [True]


def test_an_image_of_the_store(recipe: Recipe, make: Make) -> None:
    """By its name."""
    make(recipe('[base]\nhost = true\n[[step]]\nrun = "echo 1 > /opt/1"\n[[step]]\nworkdir = "/opt"\n', "first"))
    make(recipe('[base]\nimage = "first"\n[[step]]\nrun = "cat 1 > 2"\n', "second"))
    with Sandbox("second") as box:
        assert box.run(["cat", "2"]).check().stdout == "1\n"


@pytest.mark.parametrize(
    ("base", "said"),
    [('archive = "none.tar"', "none.tar: there is no such file"), ('image = "localhost:9/none"', "localhost:9/none")],
)
def test_a_base_that_can_not_be_had(recipe: Recipe, make: Make, store: Catalog, base: str, said: str) -> None:
    with pytest.raises(ImageError) as caught:
        make(recipe(f"[base]\n{base}\n"))
    assert str(caught.value).startswith("recipe made, base: ") and said in str(caught.value)
    assert store.all() == []


@pytest.mark.parametrize("archive", ["../../private", "link"])
def test_an_archive_from_elsewhere(recipe: Recipe, make: Make, store: Catalog, tmp_path: Path, archive: str) -> None:
    """A stranger's recipe sends no directory of this user's anywhere, and leaves no image with it behind."""
    (tmp_path / "private").mkdir()
    (tmp_path / "private/key").write_text("SECRET-WORD")
    folder = recipe(f'[base]\narchive = "{archive}"\n[[step]]\nrun = "cat /key"\n')
    (folder / "link").symlink_to(tmp_path / "private")
    with pytest.raises(ImageError, match="is not in the recipe's folder"):
        make(folder)
    assert store.all() == [] and not any(store.home.part("blobs").iterdir())


def packages(*names: str) -> str:
    """A step that makes a system look as if pip had installed these."""
    folders = " ".join(f"/usr/local/lib/python3.11/dist-packages/{name}.dist-info" for name in names)
    return f"[[step]]\nrun = 'mkdir -p {folders}'\n"


def test_the_lock_follows_the_recipe(recipe: Recipe, make: Make) -> None:
    """Packages come in and go with it; a version changes for an update only; `locked` takes nothing else."""
    base = '[base]\narchive = "system.tar"\n'
    folder = recipe(base + packages("One_Two-1.0", "other-2"))
    host_tree(folder / "system.tar")
    locked = folder / "recipe.lock"
    make(folder)
    assert '"one-two" = "1.0"\n"other" = "2"\n' in locked.read_text()
    make(folder, locked=True)
    for step, said in ((packages("one-two-1.1", "other-2"), r"one-two 1\.1 \(there: 1\.0\)"), (packages("other-2"), "in the lock only"),
                       (packages("One_Two-1.0", "other-2", "new-3"), r"new \(not in the lock\)")):  # fmt: skip
        with pytest.raises(ImageError, match=f"not what .*recipe.lock says: .*{said}"):
            make(recipe(base + step), locked=True)
    make(recipe(base + packages("One_Two-1.0", "new-3")))
    assert '"new" = "3"\n"one-two" = "1.0"\n' in locked.read_text() and "other" not in locked.read_text()
    make(recipe(base + packages("One_Two-1.1", "new-3")))
    assert '"one-two" = "1.0"' in locked.read_text()
    make(recipe(base + packages("One_Two-1.1", "new-3")), update=True)
    assert '"one-two" = "1.1"' in locked.read_text()
