"""Debian's own formats: versions, dependencies, packages; and the first layer that is made of them."""

import hashlib
import itertools
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from support.features import missing

from lisrt.build import bootstrap
from lisrt.build.debian import Wanted, compare, dependencies, fields
from lisrt.build.mirror import Source
from lisrt.errors import ImageError
from lisrt.store.archive import decompressed
from lisrt.store.home import Home
from lisrt.store.record import LayerRecord

from .conftest import deb, tar_of

IN_ORDER = "1.0~~ 1.0~rc1 1.0 1.0-0+b1 1.0-1~deb12u1 1.0-1 1.0-1+b1 1.0a 1.0+git 1.9 1.10 1:0.1".split()


@pytest.mark.parametrize(("older", "newer"), list(itertools.combinations(IN_ORDER, 2)))
def test_versions(older: str, newer: str) -> None:
    """As deb-version(7) orders them."""
    assert compare(older, newer) < 0 < compare(newer, older)
    assert compare(older, older) == 0


@pytest.mark.parametrize(("older", "newer"), list(itertools.pairwise(IN_ORDER)))
def test_versions_are_ordered_as_dpkg_orders_them(older: str, newer: str) -> None:
    """The real one is asked, where there is one."""
    if shutil.which("dpkg") is None:
        missing("dpkg")
    assert subprocess.run(["dpkg", "--compare-versions", older, "lt", newer]).returncode == 0


def test_dependencies() -> None:
    """Groups, alternatives, versions, architectures."""
    found = dependencies("libc6 (>= 2.34), awk | mawk:any (<< 2),\n perl:any")
    assert found == [[Wanted("libc6", ">=", "2.34")], [Wanted("awk"), Wanted("mawk", "<<", "2")], [Wanted("perl")]]
    assert found[0][0].admits("2.34") and not found[0][0].admits("2.33")
    assert not found[1][1].admits("2") and found[1][1].admits("1.9")


def test_fields_keep_further_lines() -> None:
    assert fields("A: 1\nB: x\n y\n .\n z\nno field\nC:\n") == {"A": "1", "B": "x\n y\n .\n z", "C": ""}


@pytest.mark.parametrize(
    "data",
    [b"", b"!<arch>\n", b"no package at all", deb("Package: x\n", {})[:-10], b"!<arch>\n" + b"x" * 60],
    ids=["empty", "no members", "another file", "cut off", "a bad header"],
)
def test_a_damaged_package_is_an_image_error(tmp_path: Path, data: bytes) -> None:
    """It is named, whatever is wrong with it."""
    path = tmp_path / "broken.deb"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r"^broken\.deb"):
        first_layer(Home(tmp_path / "store"), path)


def first_layer(home: Home, *packages: Path) -> LayerRecord:
    source = Source("http://mirror/debian", ("suite",), signed_by="/keys.gpg")
    with home.adding():
        return bootstrap.first_layer(packages, [source], "debian", home)


def members(home: Home, layer: LayerRecord) -> dict[str, tarfile.TarInfo]:
    with open(home.part("blobs") / layer.blob.removeprefix("sha256:"), "rb") as raw:
        with decompressed(raw) as source, tarfile.open(fileobj=source, mode="r|") as tar:
            return {entry.name: entry for entry in tar}


def content(home: Home, layer: LayerRecord, name: str) -> str:
    with open(home.part("blobs") / layer.blob.removeprefix("sha256:"), "rb") as raw:
        with decompressed(raw) as source, tarfile.open(fileobj=source, mode="r|") as tar:
            for entry in tar:
                if entry.name == name:
                    file = tar.extractfile(entry)
                    assert file is not None
                    return file.read().decode()
    raise KeyError(name)


def package(folder: Path, name: str, files: dict[str, bytes], more: str = "", **scripts: bytes) -> Path:
    path = folder / f"{name}.deb"
    control = f"Package: {name}\nVersion: 1\nArchitecture: amd64\n{more}"
    path.write_bytes(deb(control, files, {f"./{script}": text for script, text in scripts.items()}))
    return path


def test_the_first_layer_has_a_database_that_dpkg_goes_on_from(tmp_path: Path) -> None:
    """Status, lists, scripts, triggers, configuration files with their digests."""
    home = Home(tmp_path / "store")
    made = package(
        tmp_path,
        "tool",
        {"./bin/tool": b"#!/bin/sh\n", "./etc/tool.conf": b"x=1"},
        "Multi-Arch: same\n",
        conffiles=b"/etc/tool.conf\n/etc/gone\n",
        postinst=b"#!/bin/sh\n",
        triggers=b"# a comment\ninterest-noawait /usr/lib\ninterest ldconfig\nactivate other\n",
    )
    layer = first_layer(home, made)
    status = content(home, layer, "var/lib/dpkg/status")
    assert "Package: tool\nStatus: install ok unpacked\nVersion: 1\n" in status
    assert f"Conffiles:\n /etc/tool.conf {hashlib.md5(b'x=1').hexdigest()}\n" in status
    assert "/etc/gone" not in status
    assert content(home, layer, "var/lib/dpkg/info/tool:amd64.list").split() == ["/bin/tool", "/etc/tool.conf"]
    assert content(home, layer, "var/lib/dpkg/triggers/File") == "/usr/lib tool:amd64/noawait\n"
    assert content(home, layer, "var/lib/dpkg/triggers/ldconfig") == "tool:amd64\n"
    there = members(home, layer)
    assert there["var/lib/dpkg/info/tool:amd64.postinst"].mode == 0o755
    assert there["bin"].linkname == "usr/bin" and there["usr/bin/tool"].isreg()
    assert "Signed-By: /keys.gpg" in content(home, layer, "etc/apt/sources.list.d/debian.sources")


def test_the_same_packages_make_the_same_layer(tmp_path: Path) -> None:
    """Byte by byte: a layer is what its packages are."""
    one = package(tmp_path, "one", {"./lib/a": b"a"})
    made = {first_layer(Home(tmp_path / name), one).diff_id for name in ("first", "second")}
    assert len(made) == 1


def test_a_package_can_write_nowhere_else(tmp_path: Path) -> None:
    """A signature vouches for who made it, not for what is in it."""
    bad = package(tmp_path, "bad", {"./../../outside": b"x"})
    with pytest.raises(ImageError, match=r"bad\.deb.*`\.\.`"):
        first_layer(Home(tmp_path / "store"), bad)
    assert tar_of({}) and not (tmp_path / "outside").exists()


@pytest.mark.parametrize("name", ["Package: ../x", "Version: 1/../2", "Architecture: ../x"])
def test_a_package_is_named_as_packages_are(tmp_path: Path, name: str) -> None:
    """The name in it becomes a path of dpkg's files, whatever the mirror calls it."""
    bad = package(tmp_path, "bad", {}, f"{name}\n")
    with pytest.raises(ImageError, match=r"^bad\.deb.*a package whose (Package|Version|Architecture) is '"):
        first_layer(Home(tmp_path / "store"), bad)


def test_its_scripts_and_triggers_are_named_as_files(tmp_path: Path) -> None:
    """Of dpkg's directories, and of no other."""
    script = package(tmp_path, "script", {}, **{"../../outside": b"x"})
    with pytest.raises(ImageError, match=r"^script\.deb.*control file './../../outside'"):
        first_layer(Home(tmp_path / "store"), script)
    trigger = package(tmp_path, "trigger", {}, triggers=b"interest ../../../../outside\n")
    with pytest.raises(ImageError, match=r"`\.\.` in the path 'var/lib/dpkg/triggers/\.\./"):
        first_layer(Home(tmp_path / "store"), trigger)
