"""A small Debian, from its own mirror: bootstrapped, configured, added to, locked."""

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.features import missing

from lisrt import Sandbox
from lisrt.build.build import build
from lisrt.build.job import Options
from lisrt.build.recipes import find
from lisrt.errors import ImageError
from lisrt.store.catalog import Catalog
from lisrt.store.home import Home

from .conftest import Recorded

pytestmark = pytest.mark.slow
HOST = "deb.debian.org"


class Place:
    """A store and a recipe that the tests of this file share: a bootstrap is dear."""

    def __init__(self, folder: Path) -> None:
        self.store = Catalog(Home(folder / "store"))
        self.recipe = folder / "recipes/tiny"
        self.recipe.mkdir(parents=True)
        shutil.copytree(find("debian-12").parent / "keys", folder / "recipes/keys")
        self.base = (find("debian-12-slim") / "recipe.toml").read_text().partition("[[step]]")[0]

    def build(self, steps: str, **options: bool) -> Recorded:
        (self.recipe / "recipe.toml").write_text(self.base + steps)
        report = Recorded()
        build(self.recipe, Options(**options), report, self.store)
        return report

    @property
    def lock(self) -> Path:
        return self.recipe / "recipe.lock"


@pytest.fixture(scope="module")
def place(working_host: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """With a first image in it: the base, and one package more."""
    try:
        socket.create_connection((HOST, 80), timeout=20).close()
    except OSError:
        missing(f"way to {HOST}")
    with pytest.MonkeyPatch.context() as patch:
        made = Place(tmp_path_factory.mktemp("debian"))
        patch.setenv("LISRT_HOME", str(made.store.home.path))
        told = made.build('[[step]]\napt = ["hello"]\n')
        assert told.cached == [False]
        yield made


def test_it_is_a_debian(place: Place) -> None:
    """Whole in the eyes of its own tools, with sources to go on from, and nothing of how it was made."""
    with Sandbox("tiny") as box:
        assert box.run(["hello"]).check().stdout == "Hello, world!\n"
        script = "dpkg --audit; dpkg -V 2>&1 | grep -v -E '^missing  *(/usr/share/(doc|man)|/var/log/apt)'; apt-get check -qq; :"
        assert box.sh(script, merge_stderr=True).stdout == ""
        assert box.sh("ls -A /run/lisrt /var/lib/apt/lists/*_dists_*; :").stdout == ""
        assert "deb.debian.org/debian-security" in box.read_text("/etc/apt/sources.list.d/debian.sources")
        assert box.sh("dpkg -S /bin/sh /usr/bin/hello").ok
        assert "PRETTY_NAME=\"Debian GNU/Linux 12" in box.read_text("/etc/os-release")


def test_again_it_comes_from_the_cache(place: Place) -> None:
    """Held to the lock or not, no mirror is asked."""
    for options in ({}, {"locked": True}):
        told = place.build('[[step]]\napt = ["hello"]\n', **options)
        assert told.cached == [True]
        assert dict(told.notes)["tiny base: debian bookworm"] == "from the cache"


def test_an_update_finds_the_base_unchanged(place: Place) -> None:
    """The same versions are the same layers."""
    before = place.lock.read_text()
    told = place.build('[[step]]\napt = ["hello"]\n', update=True)
    assert told.cached == [False]
    assert dict(told.notes)["tiny base: debian bookworm"] == "from the cache"
    assert place.lock.read_text() == before


def test_a_package_that_does_not_exist(place: Place) -> None:
    """Recipe, step, package, and apt's own words."""
    with pytest.raises(ImageError) as caught:
        place.build('[[step]]\napt = ["no-such-package"]\n')
    assert str(caught.value).startswith("recipe tiny, step 1: 'apt-get install no-such-package' ")
    assert "| E: Unable to locate package no-such-package" in str(caught.value)


def test_a_locked_version_that_is_gone(place: Place) -> None:
    """It is named; without --locked the newest is taken, and that is said."""
    text = place.lock.read_text()
    place.lock.write_text(text.replace('"hello" = "2', '"hello" = "1'))
    try:
        with pytest.raises(ImageError, match="gone from the mirrors: hello=1"):
            place.build('[[step]]\napt = ["hello"]\n', locked=True, cache=False)
        told = place.build('[[step]]\napt = ["hello"]\n')
        assert "hello=1" in told.warnings[0]
        assert told.cached == [True]
    finally:
        place.lock.write_text(text)
