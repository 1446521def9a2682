"""What lisrt exports, Docker loads and runs."""

from pathlib import Path

import pytest
from support.archives import file, folder, saved, tar
from support.roots import root_of

from lisrt.store.catalog import Catalog
from lisrt.store.export import export
from lisrt.store.home import Home
from lisrt.store.imports import import_image

from .conftest import Docker

pytestmark = pytest.mark.root

STARTED = {"Entrypoint": ["sh", "-c"], "Cmd": ["exit 9"]}
CONFIG = {"Env": ["GREETING=hello", "PATH=/bin"], "WorkingDir": "/data", "User": "user", **STARTED}


@pytest.mark.parametrize("how", ["gzip", "zstd"])
def test_loaded(docker: Docker, tmp_path: Path, how: str) -> None:
    """However layers came in: files, what was removed, variables, directory, user, and what is run by default."""
    below = root_of("sh", "cat", "id", more=[folder("data"), file("data/old", b"old")])
    above = tar([file("data/answer", b"42\n"), file("data/.wh.old")])
    (tmp_path / "saved").write_bytes(saved(below, above, how=how, **CONFIG))
    catalog = Catalog(Home(tmp_path / "home"))
    record = import_image(tmp_path / "saved", catalog, "x")
    with open(tmp_path / "out.tar", "wb") as out:
        export(record, f"exported:{how}", catalog, out)
    assert f"exported:{how}" in docker("load", "-i", str(tmp_path / "out.tar"))
    run = ["run", "--rm", "--network", "none", f"exported:{how}"]
    assert docker(*run, "cat *; echo $GREETING $PWD; id -u") == "42\nhello /data\n1000\n"
    docker(*run, status=9)
    docker("save", "-o", str(tmp_path / "again.tar"), f"exported:{how}")
    assert import_image(tmp_path / "again.tar", catalog, "again").layers == record.layers
