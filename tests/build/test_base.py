"""Bases that somebody else has made."""

import io
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from support.features import missing

from lisrt import Sandbox
from lisrt.build.build import Built
from lisrt.errors import ImageError
from lisrt.store.catalog import Catalog

from .conftest import Mirror, Recorded
from .test_mirror import Signer

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
    [
        ('archive = "none.tar"', "none.tar: there is no such file"),
        ('image = "localhost:9/none"', "localhost:9/none"),
        ('image = "debian-12"', "`lisrt image build debian-12` makes it"),
    ],
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


# what is asked of it here; the packages are as installed as their status says
DPKG = b"""#!/bin/sh
cd /var/lib/dpkg
while IFS= read -r line; do
    case $line in Status:*) line="Status: install ok installed" ;; esac
    echo "$line"
done < status > status-new
cat status-new > status
"""


def system(folder: Path) -> dict[str, bytes]:
    """A system that a base can be configured in, as a package's files."""
    host_tree(folder / "system.tar")
    with tarfile.open(folder / "system.tar") as tar:
        # fewer than host_tree has, which are slow to compress
        needed = [entry for entry in tar if re.search(r"bin/|/ld-|/lib(c|cap|selinux|pcre2-8)\.so|etc/", entry.name)]
        read = {f"./{entry.name}": tar.extractfile(entry) for entry in needed}
        return {name: file.read() for name, file in read.items() if file} | {"./usr/bin/dpkg": DPKG}


@pytest.fixture
def near(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mirror:
    """A mirror, asked without a proxy, with all that a base needs."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    mirror.add("base", more="Essential: yes\n", files=system(tmp_path))
    return mirror


def suites(mirror: Mirror, more: str) -> str:
    return f'[base]\ndistribution = "tiny"\n[[base.source]]\nmirror = "{mirror.url}"\nsuites = ["tiny"]\n{more}\n'


def rebuilt(mirror: Mirror, tmp_path: Path) -> None:
    """The same version, with something else in it."""
    mirror.forget()
    mirror.add("base", more="Essential: yes\n", files={**system(tmp_path), "./opt/other": b"1"})


def test_a_package_that_was_rebuilt_is_another_base(recipe: Recipe, make: Make, near: Mirror, tmp_path: Path) -> None:
    """Under the version that it had: on a mirror of one's own nobody is kept from it."""
    folder = recipe(suites(near, "trusted = true"))
    assert make(folder)[1].notes == [("made base: tiny tiny", "1 packages")]
    assert '"base" = "1"' in (folder / "recipe.lock").read_text()
    assert make(folder)[1].notes == [("made base: tiny tiny", "from the cache")]
    rebuilt(near, tmp_path)
    assert make(folder)[1].notes == [("made base: tiny tiny", "1 packages")]
    with Sandbox("made") as box:
        assert box.read_text("/opt/other") == "1"


def test_a_base_that_other_keys_vouched_for_is_another(recipe: Recipe, make: Make, near: Mirror, tmp_path: Path) -> None:
    """Of one that the same keys did the lock's versions are enough, and no mirror is asked."""
    if shutil.which("gpg") is None or shutil.which("gpgv") is None:
        missing("gpg and gpgv")
    right, other = Signer(tmp_path / "right", "right <r@example.org>"), Signer(tmp_path / "other", "other <o@example.org>")
    right.sign(near.release)
    folder = recipe(suites(near, f'keyring = "{right.keyring}"'))
    assert make(folder)[1].notes == [("made base: tiny tiny", "1 packages")]
    signed = near.release.read_bytes()
    near.release.unlink()
    assert make(folder)[1].notes == [("made base: tiny tiny", "from the cache")]
    near.release.write_bytes(signed)
    keys = right.keyring.read_bytes()
    right.keyring.write_bytes(other.keyring.read_bytes())
    with pytest.raises(ImageError, match="^recipe made, base: .*is not signed by a key of"):
        make(folder)
    right.keyring.write_bytes(keys)
    rebuilt(near, tmp_path)
    right.sign(near.release)
    assert make(folder, update=True)[1].notes == [("made base: tiny tiny", "1 packages")]
    right.close()
    other.close()
