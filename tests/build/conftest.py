"""Recipes in directories of a test's own, a store of its own, and a mirror on loopback with packages made here."""

import functools
import hashlib
import io
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lisrt.build.build import Built, build
from lisrt.build.job import Options
from lisrt.build.report import Report
from lisrt.store.catalog import Catalog
from lisrt.store.home import Home


class Recorded(Report):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, str]] = []
        self.warnings: list[str] = []
        self._title = ""

    def begin(self, title: str) -> None:
        self._title = title

    def end(self, note: str, seconds: float) -> None:
        self.notes.append((self._title, note))

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    @property
    def cached(self) -> list[bool]:
        """For each step that writes files whether it came from the cache."""
        steps = (([*title.split(), ""][1:3], note) for title, note in self.notes)
        return [note == "from the cache" for (at, kind), note in steps if at[0].isdigit() and kind not in ("env", "workdir")]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    """A store that is this test's alone, and the default one while it runs."""
    monkeypatch.setenv("LISRT_HOME", str(tmp_path / "store"))
    return Catalog(Home(tmp_path / "store"))


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., Path]:
    """Writes a recipe and the files beside it; returns its directory."""

    def write(text: str, name: str = "made", **files: str) -> Path:
        folder = tmp_path / "recipes" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "recipe.toml").write_text(text)
        for file, content in files.items():
            (folder / file.replace("__", ".")).write_text(content)
        return folder

    return write


@pytest.fixture
def make(store: Catalog, working_host: None) -> Callable[..., tuple[Built, Recorded]]:
    """Builds a recipe, and returns what was made and what was told."""

    def run(folder: Path, **options: object) -> tuple[Built, Recorded]:
        report = Recorded()
        return build(folder, Options(**options), report, store), report  # type: ignore[arg-type]

    return run


def tar_of(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def deb(control: str, files: dict[str, bytes], scripts: dict[str, bytes] | None = None) -> bytes:
    """A Debian package."""
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": tar_of({"./control": control.encode(), **(scripts or {})}),
        "data.tar.xz": tar_of(files),
    }
    out = b"!<arch>\n"
    for name, content in members.items():
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode() + content
        out += b"\n" * (len(content) % 2)
    return out


class Mirror:
    """The directory that a mirror serves, and its URL."""

    def __init__(self, root: Path, url: str, architecture: str) -> None:
        self.root = root
        self.url = url
        self.architecture = architecture
        self.release = root / "dists/tiny/InRelease"
        self.names = "Suite: tiny\n"
        """What the release says that it is."""
        self._stanzas: list[str] = []

    def add(self, name: str, version: str = "1", more: str = "", files: dict[str, bytes] | None = None) -> None:
        """Another package."""
        control = f"Package: {name}\nVersion: {version}\nArchitecture: {self.architecture}\n{more}"
        path = self.root / f"pool/{name}_{version}.deb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(deb(control, files or {f"./usr/share/{name}": version.encode()}))
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        self._stanzas.append(f"{control}Filename: pool/{path.name}\nSize: {len(data)}\nSHA256: {digest}\n")
        self.publish()

    def alter(self, old: str, new: str) -> None:
        """What the index says of the packages."""
        assert all(old in one for one in self._stanzas)
        self._stanzas = [one.replace(old, new) for one in self._stanzas]
        self.publish()

    def forget(self) -> None:
        """All packages go."""
        self._stanzas.clear()
        self.publish()

    def publish(self, until: str = "") -> None:
        """Writes the indexes."""
        packages = "\n".join(self._stanzas).encode()
        place = self.root / f"dists/tiny/main/binary-{self.architecture}/Packages"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(packages)
        line = f" {hashlib.sha256(packages).hexdigest()} {len(packages)} main/binary-{self.architecture}/Packages\n"
        self.release.write_text(f"{self.names}{f'Valid-Until: {until}{chr(10)}' if until else ''}SHA256:\n{line}")


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    """A mirror on loopback."""
    from lisrt.build.mirror import architecture

    class Quiet(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            """Nobody reads it."""

    root = tmp_path / "mirror"
    root.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Mirror(root, f"http://127.0.0.1:{server.server_port}", architecture())
    server.shutdown()
    thread.join()
    server.server_close()
