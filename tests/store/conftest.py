"""What the store's tests share."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from support.archives import Entry, tar

from lisrt.store.catalog import Catalog
from lisrt.store.home import Home
from lisrt.store.unpack import Unpacked, unpack


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """A store of its own."""
    return Catalog(Home(tmp_path / "home"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty directory to unpack into, beside something that must stay as it is."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_text("mine")
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def unpacked(tmp_path: Path, root: Path) -> Callable[[Iterable[Entry] | bytes], Unpacked]:
    """Unpacks an archive into `root`, and makes sure that nothing has happened outside."""

    def do(archive: Iterable[Entry] | bytes) -> Unpacked:
        (tmp_path / "layer").write_bytes(archive if isinstance(archive, bytes) else tar(archive))
        try:
            return unpack(tmp_path / "layer", root, "layer 1")
        finally:
            assert sorted(os.listdir(tmp_path)) == ["layer", "outside", "root"]
            assert os.listdir(tmp_path / "outside") == ["precious"]
            assert (tmp_path / "outside" / "precious").read_text() == "mine"

    return do


def contents(catalog: Catalog) -> dict[str, bytes]:
    """Every file of a store but its lock, with what is in it."""
    if not catalog.home.path.exists():
        return {}
    found = (path for path in sorted(catalog.home.path.rglob("*")) if path.is_file() and path.name != "lock")
    return {os.fspath(path.relative_to(catalog.home.path)): path.read_bytes() for path in found}
