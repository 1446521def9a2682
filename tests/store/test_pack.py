"""From a tree to a layer, and back: the same tree."""

import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.features import missing

from lisrt import ImageError
from lisrt.store import archive
from lisrt.store import pack as packing
from lisrt.store.catalog import Catalog
from lisrt.store.home import Home
from lisrt.store.pack import pack, write_tar
from lisrt.store.unpack import unpack

NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=()), min_size=1, max_size=20
).filter(lambda name: name not in (".", "..") and not name.startswith(".wh.") and _fits(name))
DATA = st.one_of(st.binary(max_size=2000), st.integers(1, 1 << 20).map(bytes))


def _fits(name: str) -> bool:
    try:
        return len(os.fsencode(name)) <= 255
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return False


LEAVES = st.one_of(
    st.tuples(st.just("file"), DATA, st.integers(0, 0o777)),
    st.tuples(st.just("link"), NAMES, st.just(0)),
    st.tuples(st.just("hard"), st.just(b""), st.just(0)),
    st.tuples(st.just("fifo"), st.just(b""), st.integers(0, 0o777)),
    st.tuples(st.just("whiteout"), st.just(b""), st.just(0)),
)
TREES = st.recursive(
    LEAVES, lambda inner: st.tuples(st.just("folder"), st.dictionaries(NAMES, inner, max_size=5), st.booleans()), max_leaves=20
)


def build(at: Path, name: str, node: tuple[str, object, object], first: list[Path]) -> None:
    kind, value, more = node
    path = at / name
    match kind:
        case "file":
            path.write_bytes(value)  # type: ignore[arg-type]
            path.chmod(int(more) | 0o600)  # type: ignore[call-overload]
            os.utime(path, (1_500_000_000, 1_500_000_000))
            first.append(path)
        case "link":
            path.symlink_to(str(value))
        case "hard" if first:
            os.link(first[0], path)
        case "fifo":
            os.mkfifo(path)
            path.chmod(int(more) | 0o600)  # type: ignore[call-overload]
        case "whiteout":
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(0, 0))
        case "folder":
            path.mkdir()
            if more:
                os.setxattr(path, "user.overlay.opaque", b"y")
            for inner, child in value.items():  # type: ignore[attr-defined]
                build(path, inner, child, first)
            os.utime(path, (1_400_000_000, 1_400_000_000))


def facts(root: Path) -> dict[str, object]:
    """What a tree is, by its paths."""
    found: dict[str, object] = {}
    inodes: dict[int, str] = {}
    for path in sorted(root.rglob("*")):
        status, name = path.lstat(), os.fspath(path.relative_to(root))
        kind = stat.S_IFMT(status.st_mode)
        first = inodes.setdefault(status.st_ino, name)
        detail: object = None
        if kind == stat.S_IFREG:
            detail = path.read_bytes(), stat.S_IMODE(status.st_mode), status.st_mtime, first
        elif kind == stat.S_IFLNK:
            detail = os.readlink(path)
        elif kind == stat.S_IFDIR:
            detail = stat.S_IMODE(status.st_mode), status.st_mtime, os.listxattr(path)
        found[name] = kind, detail
    return found


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(NAMES, TREES, max_size=6))
def test_there_and_back(tree: dict[str, tuple[str, object, object]]) -> None:
    """Any names, contents, links, whiteouts: unpacked again it is what it was, and packed again the same bytes."""
    with tempfile.TemporaryDirectory() as place:
        for name in ("a", "b"):
            (Path(place) / name).mkdir()
        a, b, home = Path(place) / "a", Path(place) / "b", Home(Path(place) / "home")
        first: list[Path] = []
        for name, node in tree.items():
            build(a, name, node, first)
        os.chmod(a, 0o755)
        os.utime(a, (1_300_000_000, 1_300_000_000))
        with home.adding():
            layer = pack(a, home)
            made = unpack(Catalog(home).blobs.path(layer.blob), b, "layer 1")
            assert made.diff_id == layer.diff_id
            assert facts(b) == facts(a)
            assert pack(b, home).diff_id == layer.diff_id


def test_a_file_of_eight_exbibytes(tmp_path: Path, catalog: Catalog) -> None:
    """A program in a sandbox makes one with one call. It must not be written out, and comes back as it was."""
    (tmp_path / "a").mkdir()
    with open(tmp_path / "a/big", "wb") as big:
        size = _largest(big.fileno())
        big.seek(size - 4)
        big.write(b"tail")
        big.seek(1 << 30)
        big.write(b"middle")
    (tmp_path / "a/empty").touch()
    os.truncate(tmp_path / "a/empty", 1 << 40)
    with catalog.home.adding():
        layer = pack(tmp_path / "a", catalog.home)
    assert layer.size < 1 << 20
    (tmp_path / "b").mkdir()
    unpack(catalog.blobs.path(layer.blob), tmp_path / "b", "layer 1")
    assert (tmp_path / "b/big").stat().st_size == size
    assert (tmp_path / "b/empty").stat().st_size == 1 << 40
    with open(tmp_path / "b/big", "rb") as big:
        assert os.pread(big.fileno(), 8, (1 << 30) - 1) == b"\0middle\0"
        assert os.pread(big.fileno(), 8, size - 5) == b"\0tail"


def _largest(fd: int) -> int:
    """What the file system takes: 16 TiB on ext4, 8 EiB on tmpfs."""
    for bits in range(62, 30, -1):
        try:
            os.ftruncate(fd, 1 << bits)
            return 1 << bits
        except OSError:
            continue
    raise AssertionError("no room for a GiB")


def test_other_programs_read_sparse_files(tmp_path: Path) -> None:
    """GNU tar, which made the format up."""
    if shutil.which("tar") is None:
        missing("tar")
    (tmp_path / "a/d").mkdir(parents=True)
    with open(tmp_path / "a/d/big", "wb") as big:
        big.seek(1 << 24)
        big.write(b"tail")
        big.truncate(1 << 25)
    with open(tmp_path / "a.tar", "wb") as out:
        write_tar(tmp_path / "a", out)
    (tmp_path / "b").mkdir()
    subprocess.run(["tar", "-xf", "../a.tar"], cwd=tmp_path / "b", check=True)
    assert (tmp_path / "b/d/big").read_bytes() == (tmp_path / "a/d/big").read_bytes()


ODD = ("short", "caf\u00e9", "n" * 200, "not-\udcff-utf8", "\u00e9" * 100)


@pytest.mark.parametrize("how", ["ours", "GNU tar's"])
def test_sparse_files_of_any_name(tmp_path: Path, catalog: Catalog, how: str) -> None:
    """A name that a plain header can't hold has a pax header of its own, which says where the sparse file's data is."""
    for place in ("a/d", "b"):
        (tmp_path / place).mkdir(parents=True)
    for name in ODD:
        with open(tmp_path / "a/d" / name, "wb") as out:
            out.seek(1 << 20)
            out.write(b"tail")
    if how == "ours":
        with catalog.home.adding():
            layer = pack(tmp_path / "a", catalog.home)
        blob = catalog.blobs.path(layer.blob)
    else:
        if shutil.which("tar") is None:
            missing("tar")
        blob = tmp_path / "layer"
        subprocess.run(["tar", "--sparse", "--format=pax", "-cf", blob, "-C", tmp_path / "a", "."], check=True)
    unpack(blob, tmp_path / "b", "layer 1")
    assert sorted(os.listdir(tmp_path / "b")) == ["d"]
    assert sorted(os.listdir(tmp_path / "b/d")) == sorted(ODD)
    for name in ODD:
        assert (tmp_path / "b/d" / name).read_bytes() == bytes(1 << 20) + b"tail"


def test_a_file_of_many_pieces(tmp_path: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """`unpack` takes only so many: small holes are written out, and where that is of no use the file is named."""
    monkeypatch.setattr(archive, "MOST_PIECES", 20)
    for name in "ab":
        (tmp_path / name).mkdir()
    with open(tmp_path / "a/f", "wb") as out:
        for number in range(50):
            out.seek(number << 14)
            out.write(b"piece")
        out.truncate(1 << 30)
    with catalog.home.adding():
        layer = pack(tmp_path / "a", catalog.home)
        unpack(catalog.blobs.path(layer.blob), tmp_path / "b", "layer 1")
        assert (tmp_path / "b/f").stat().st_size == 1 << 30
        with open(tmp_path / "b/f", "rb") as made, open(tmp_path / "a/f", "rb") as wanted:
            assert made.read(1 << 20) == wanted.read(1 << 20)
        with open(tmp_path / "a/g", "wb") as out:
            for number in range(50):
                out.seek(number << 20)
                out.write(b"piece")
        with pytest.raises(ImageError, match="^'g': a sparse file of more than"):
            pack(tmp_path / "a", catalog.home)


def test_attributes(tmp_path: Path, catalog: Catalog) -> None:
    """`user.*`, whatever bytes are in them."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a/f").touch()
    wanted = {"user.text": b"caf\xc3\xa9", "user.bytes": bytes(range(256)), "user.empty": b""}
    for name, value in wanted.items():
        os.setxattr(tmp_path / "a/f", name, value)
    os.setxattr(tmp_path / "a/f", "user.with=sign", b"a pax header can't say it")
    with catalog.home.adding():
        layer = pack(tmp_path / "a", catalog.home)
    (tmp_path / "b").mkdir()
    unpack(catalog.blobs.path(layer.blob), tmp_path / "b", "layer 1")
    assert {name: os.getxattr(tmp_path / "b/f", name) for name in os.listxattr(tmp_path / "b/f")} == wanted


def test_what_its_owner_may_not_read(tmp_path: Path, catalog: Catalog, unprivileged: None) -> None:
    """A program in a sandbox may say `chmod 0`, and go on above that. The modes stay as they were."""
    (tmp_path / "a/closed/inner").mkdir(parents=True)
    (tmp_path / "a/closed/inner/f").write_text("1")
    (tmp_path / "a/listed").mkdir()
    (tmp_path / "a/listed/g").write_text("2")
    modes = {"closed/inner/f": 0, "closed/inner": 0o300, "listed": 0o400, "closed": 0}
    for name, mode in modes.items():
        (tmp_path / "a" / name).chmod(mode)
    with catalog.home.adding():
        layer = pack(tmp_path / "a", catalog.home)
    (tmp_path / "b").mkdir()
    unpack(catalog.blobs.path(layer.blob), tmp_path / "b", "layer 1")
    assert [(tmp_path / "b" / name).read_text() for name in ("closed/inner/f", "listed/g")] == ["1", "2"]
    for name in ("closed", "listed"):
        assert stat.S_IMODE((tmp_path / "a" / name).stat().st_mode) == modes[name]
        (tmp_path / "a" / name).chmod(0o700)
    assert stat.S_IMODE((tmp_path / "a/closed/inner").stat().st_mode) == 0o300
    (tmp_path / "a/closed/inner").chmod(0o700)
    assert stat.S_IMODE((tmp_path / "a/closed/inner/f").stat().st_mode) == 0


def test_too_many_entries(tmp_path: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """`unpack` would refuse them: better now than when the snapshot is needed. One less is well."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for number in range(8):
        (tmp_path / f"a/{number}").touch()
    monkeypatch.setattr(archive, "MOST_ENTRIES", 10)
    with catalog.home.adding():
        layer = pack(tmp_path / "a", catalog.home)
        unpack(catalog.blobs.path(layer.blob), tmp_path / "b", "layer 1")
        (tmp_path / "a/8").touch()
        with pytest.raises(ImageError, match="10 entries or more"):
            pack(tmp_path / "a", catalog.home)


def test_the_longest_name_is_gone(tmp_path: Path, catalog: Catalog) -> None:
    """Its whiteout's name has more than the 255 bytes that a file's name can have."""
    for name in "ab":
        (tmp_path / name).mkdir()
    os.mknod(tmp_path / "a" / ("n" * 255), stat.S_IFCHR | 0o600, os.makedev(0, 0))
    with catalog.home.adding():
        layer = pack(tmp_path / "a", catalog.home)
    unpack(catalog.blobs.path(layer.blob), tmp_path / "b", "layer 1")
    assert os.listdir(tmp_path / "b") == ["n" * 255]


def test_attributes_that_no_header_holds(
    tmp_path: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems have room for megabytes of them, and `unpack` refuses such headers. (The bound is lowered here.)"""
    monkeypatch.setattr(packing, "_MOST_ATTRIBUTES", 1000)
    (tmp_path / "a").mkdir()
    (tmp_path / "a/f").touch()
    os.setxattr(tmp_path / "a/f", "user.large", bytes(1000))
    with catalog.home.adding(), pytest.raises(ImageError, match="extended attributes"):
        pack(tmp_path / "a", catalog.home)


def test_a_name_that_would_be_a_whiteout(tmp_path: Path, catalog: Catalog) -> None:
    """A program in a sandbox may call a file so; in a layer it would remove another one."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a/.wh.passwd").touch()
    with catalog.home.adding(), pytest.raises(ImageError, match=r"\.wh\.passwd"):
        pack(tmp_path / "a", catalog.home)


def test_what_is_no_file_stays_behind(tmp_path: Path) -> None:
    """A socket without its server is nothing."""
    import socket

    (tmp_path / "a").mkdir()
    here = os.getcwd()
    os.chdir(tmp_path / "a")  # its path must fit into 108 bytes
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("socket")
    finally:
        os.chdir(here)
    (tmp_path / "a/f").touch()
    with open(tmp_path / "a.tar", "wb") as out:
        write_tar(tmp_path / "a", out)
    with tarfile.open(tmp_path / "a.tar") as archive:
        assert archive.getnames() == [".", "f"]


def test_deep(tmp_path: Path, catalog: Catalog) -> None:
    """Deeper than anybody means it: ImageError, not a RecursionError, and no descriptor stays open."""
    before = len(os.listdir("/proc/self/fd"))
    (tmp_path / "a").mkdir()
    fd = os.open(tmp_path / "a", os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d" * 10, dir_fd=fd)
        below = os.open("d" * 10, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    with catalog.home.adding(), pytest.raises(ImageError, match="256 deep"):
        pack(tmp_path / "a", catalog.home)
    assert len(os.listdir("/proc/self/fd")) == before
