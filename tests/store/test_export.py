"""Images that leave: what others make of them, and that they come back as they were."""

import io
import json
import os
import shutil
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from support.archives import Layout, digest, file, folder, tar
from support.features import missing

from lisrt import ImageError
from lisrt.store import manifest
from lisrt.store.catalog import Catalog
from lisrt.store.export import export
from lisrt.store.home import Home
from lisrt.store.imports import import_image
from lisrt.store.record import ImageRecord

LAYERS = [tar([folder("etc"), file("etc/a", b"1")]), tar([file("etc/.wh.a"), file("etc/b", b"2")])]
CONFIG = {"Env": ["A=b"], "WorkingDir": "/etc", "User": "7", "Entrypoint": ["/x"], "Cmd": ["y"]}


@pytest.fixture(params=["gzip", "zstd", "plain"])
def image(request: pytest.FixtureRequest, catalog: Catalog, tmp_path: Path) -> ImageRecord:
    """Two layers, compressed in each of the ways that they may come in."""
    made = Layout()
    made.add(made.image(*LAYERS, how=request.param, config=CONFIG, architecture=manifest.here()))
    return import_image(made.write(tmp_path / "source"), catalog, "x")


def test_there_and_back(catalog: Catalog, image: ImageRecord, tmp_path: Path) -> None:
    """The same image, the same bytes each time."""
    out, again = io.BytesIO(), io.BytesIO()
    found = export(image, "some/x:1", catalog, out)
    assert export(image, "some/x:1", catalog, again) == found
    assert out.getvalue() == again.getvalue()
    (tmp_path / "out.tar").write_bytes(out.getvalue())
    other = Catalog(Home(tmp_path / "other"))
    back = import_image(tmp_path / "out.tar", other, "y", pick="some/x:1")
    assert (back.id, back.config) == (image.id, image.config)
    assert back.provenance["digest"] == found


def test_compressed_for_everybody(catalog: Catalog, image: ImageRecord, tmp_path: Path) -> None:
    """Layers come out as gzip, unless they are wanted as they are."""
    for as_is in (False, True):
        with open(tmp_path / "out.tar", "wb") as out:
            export(image, "", catalog, out, as_is=as_is)
        back = import_image(tmp_path / "out.tar", Catalog(Home(tmp_path / f"other-{as_is}")), "y")
        other = Catalog(Home(tmp_path / f"other-{as_is}"))
        heads = {other.blobs.path(layer.blob).read_bytes()[:2] for layer in back.layers}
        if as_is:
            assert back.layers == image.layers
        else:
            assert heads == {b"\x1f\x8b"}
    assert os.listdir(catalog.home.part("new")) == []


def test_what_docker_wants(catalog: Catalog, image: ImageRecord) -> None:
    """`docker load` before version 25 reads manifest.json: names of files that are there, and no links."""
    out = io.BytesIO()
    export(image, "some/x:1", catalog, out)
    out.seek(0)
    with tarfile.open(fileobj=out) as archive:
        [one] = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
        assert one["RepoTags"] == ["some/x:1"]
        configuration = json.load(archive.extractfile(one["Config"]))  # type: ignore[arg-type]
        assert configuration["rootfs"]["diff_ids"] == [digest(layer) for layer in LAYERS]
        assert all(archive.getmember(name).isreg() for name in one["Layers"])
        assert (configuration["os"], configuration["architecture"]) == ("linux", manifest.here())


def test_sparse_files_elsewhere(catalog: Catalog, tmp_path: Path) -> None:
    """umoci unpacks what we have packed."""
    for tool in ("skopeo", "umoci"):
        if shutil.which(tool) is None:
            missing(tool)
    (tmp_path / "source").mkdir()
    with open(tmp_path / "source/big", "wb") as big:
        big.truncate(20 << 20)
        big.seek(0, os.SEEK_END)
        big.write(b"tail")
    os.link(tmp_path / "source/big", tmp_path / "source/again")
    with open(tmp_path / "out.tar", "wb") as out:
        export(import_image(tmp_path / "source", catalog, "x"), "x:1", catalog, out)
    run("skopeo", "copy", "oci-archive:out.tar", "oci:layout:1", cwd=tmp_path)
    run("umoci", "unpack", "--rootless", "--image", "layout:1", "bundle", cwd=tmp_path)
    assert (tmp_path / "bundle/rootfs/big").read_bytes() == (tmp_path / "source/big").read_bytes()
    assert (tmp_path / "bundle/rootfs/big").samefile(tmp_path / "bundle/rootfs/again")


def run(*command: str, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={**os.environ, "TMPDIR": str(cwd)})
    assert done.returncode == 0, done.stderr


def test_what_skopeo_makes_of_it(catalog: Catalog, image: ImageRecord, tmp_path: Path) -> None:
    """As an OCI archive and as one of Docker's; and an image of Docker's kind from it."""
    if shutil.which("skopeo") is None:
        missing("skopeo")
    with open(tmp_path / "out.tar", "wb") as out:
        export(image, "localhost/some/x:1", catalog, out)
    for form in ("oci-archive", "docker-archive"):
        run("skopeo", "copy", f"{form}:out.tar", f"oci:{form}:1", cwd=tmp_path)
        record = import_image(tmp_path / form, catalog, form)
        assert record.id == image.id
    run("skopeo", "copy", "oci-archive:out.tar", "docker-archive:docker.tar:x:1", cwd=tmp_path)
    assert import_image(tmp_path / "docker.tar", catalog, "docker").id == image.id


def test_what_stands_on_the_host(catalog: Catalog, image: ImageRecord) -> None:
    """It would be half an image elsewhere."""
    with pytest.raises(ImageError, match="can't be exported"):
        export(replace(image, base="host"), "", catalog, io.BytesIO())


def test_a_layer_that_is_not_there(catalog: Catalog, image: ImageRecord) -> None:
    """Named."""
    catalog.blobs.path(image.layers[0].blob).unlink()
    with pytest.raises(ImageError, match=f"the store lacks {image.layers[0].blob}"):
        export(image, "", catalog, io.BytesIO())
