"""recipe.lock: read, written, held to."""

from pathlib import Path

import pytest

from lisrt.build import lock
from lisrt.build.job import Job, Options
from lisrt.build.lock import Versions
from lisrt.build.mirror import Source, architecture
from lisrt.build.recipe import read
from lisrt.errors import ImageError
from lisrt.store.catalog import Catalog

from .conftest import Mirror, Recorded


def test_written_and_read(tmp_path: Path) -> None:
    """Names and versions as they are; a lock of another architecture is none."""
    path = tmp_path / "recipe.lock"
    versions = Versions({"libstdc++6": "12.2.0-14+deb12u1", "tzdata": "2026f-0"}, {"numpy": "2.1"})
    assert lock.write(path, versions, "amd64")
    assert lock.read(path, "amd64") == versions
    assert lock.read(path, "arm64") is None
    assert lock.read(tmp_path / "none", "amd64") is None
    assert [one.name for one in tmp_path.iterdir()] == ["recipe.lock"]


@pytest.mark.parametrize("text", ["[apt", "[apt]\na = 1\n", "apt = 1\n"])
def test_a_damaged_lock(tmp_path: Path, text: str) -> None:
    (tmp_path / "recipe.lock").write_text(text)
    with pytest.raises(ImageError, match=r"recipe\.lock: .*`--update` makes a new one"):
        lock.read(tmp_path / "recipe.lock", "amd64")


def test_a_place_that_can_not_be_written_to(tmp_path: Path, unprivileged: None) -> None:
    """An installed lisrt's, say."""
    tmp_path.chmod(0o555)
    assert not lock.write(tmp_path / "recipe.lock", Versions({}, {}), "amd64")
    tmp_path.chmod(0o755)


def test_sets_of_versions() -> None:
    one, other = Versions({"a": "1", "b": "1"}, {"p": "1"}), Versions({"a": "1", "b": "2"}, {})
    assert one.without(other) == Versions({"b": "1"}, {"p": "1"})
    assert one.differing(other) == ["b 1 (there: 2)"]
    assert one.names() == {"a", "b", "p"}


@pytest.fixture
def sources(mirror: Mirror) -> tuple[Source, ...]:
    mirror.add("lib", "2")
    return (Source(mirror.url, ("tiny",), trusted=True),)


def job(folder: Path, store: Catalog, **options: bool) -> tuple[Job, Recorded]:
    with store.home.adding():  # makes its directories
        folder.mkdir(exist_ok=True)
    (folder / "recipe.toml").write_text("[base]\nhost = true\n")
    report = Recorded()
    return Job(read(folder), Options(**options), report, store), report


def test_a_version_that_the_mirrors_have_is_held(store: Catalog, tmp_path: Path, sources: tuple[Source, ...]) -> None:
    lock.write(tmp_path / "recipe.lock", Versions({"lib": "2"}, {"p": "1"}), architecture())
    for locked in (False, True):
        made, report = job(tmp_path, store, locked=locked)
        assert made.pins(sources, "debian") == Versions({"lib": "2"}, {"p": "1"})
        assert not report.warnings


def test_a_version_that_is_gone(store: Catalog, tmp_path: Path, sources: tuple[Source, ...]) -> None:
    """It is said; `locked` stops there, an update looks at no lock."""
    lock.write(tmp_path / "recipe.lock", Versions({"lib": "1"}, {"p": "1"}), architecture())
    made, report = job(tmp_path, store)
    assert made.pins(sources, "debian") == Versions({}, {"p": "1"})
    assert "gone from the mirrors (lib=1)" in report.warnings[0]
    with pytest.raises(ImageError, match="gone from the mirrors: lib=1; `--update` takes what there is"):
        job(tmp_path, store, locked=True)[0].pins(sources, "debian")
    assert not job(tmp_path, store, update=True)[0].pins(sources, "debian")


def test_locked_needs_a_lock(store: Catalog, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="nothing to be locked to"):
        job(tmp_path, store, locked=True)
    with pytest.raises(ValueError, match="locked, or it updates"):
        Options(locked=True, update=True)
