"""From a layer to a tree: what an ordinary user can have of it, and nothing of what an attacker wants."""

import gzip
import os
import stat
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from support.archives import COMPRESSIONS, Entry, digest, file, folder, hard, link, special, tar

from lisrt import ImageError
from lisrt.kernel import native
from lisrt.store import archive
from lisrt.store.unpack import Unpacked, examine

Unpack = Callable[[Iterable[Entry] | bytes], Unpacked]

TREE = [
    folder("./", 0o755),
    folder("usr/", 0o755, mtime=1_000_000_000),
    folder("usr/bin", 0o555, mtime=1_000_000_001),
    file("usr/bin/tool", b"#!/bin/sh\n", 0o755, mtime=1_000_000_002),
    link("bin", "usr/bin"),
    link("etc", "/usr/etc"),
    hard("usr/bin/again", "usr/bin/tool"),
    file("usr/empty", b"", 0o000),
]


@pytest.mark.parametrize("how", COMPRESSIONS)
def test_a_tree(unpacked: Unpack, tmp_path: Path, root: Path, how: str) -> None:
    """Files, directories, both kinds of links, times and modes, however the layer is compressed."""
    made = unpacked(COMPRESSIONS[how](tar(TREE)))
    assert made.diff_id == digest(tar(TREE))
    assert (made.entries, made.size, made.devices) == (len(TREE), len(tar(TREE)), 0)
    assert (root / "usr/bin/tool").read_text() == "#!/bin/sh\n"
    assert (root / "usr/bin/tool").samefile(root / "usr/bin/again")
    assert os.readlink(root / "bin") == "usr/bin"
    assert os.readlink(root / "etc") == "/usr/etc"
    assert [int((root / name).stat().st_mtime) for name in ("usr", "usr/bin", "usr/bin/tool")] == [
        1_000_000_000 + number for number in range(3)
    ]
    assert stat.S_IMODE((root / "usr/bin/tool").stat().st_mode) == 0o755


def test_the_owner_can_do_everything(unpacked: Unpack, root: Path) -> None:
    """Root in a sandbox has no power over modes, so its files need none."""
    unpacked(TREE)
    assert stat.S_IMODE((root / "usr/empty").stat().st_mode) == 0o600
    assert stat.S_IMODE((root / "usr/bin").stat().st_mode) == 0o755


def test_set_user_id_goes(unpacked: Unpack, root: Path) -> None:
    """Out here those bits would be the caller's. A directory's sticky and group bits are harmless."""
    unpacked([file("su", b"x", 0o6755), folder("tmp", 0o1777), folder("mail", 0o2775)])
    assert stat.S_IMODE((root / "su").stat().st_mode) == 0o755
    assert stat.S_IMODE((root / "tmp").stat().st_mode) == 0o1777
    assert stat.S_IMODE((root / "mail").stat().st_mode) == 0o2775


def test_devices_stay_out(unpacked: Unpack, root: Path) -> None:
    """They are counted; a pipe is no device."""
    made = unpacked([special("null", tarfile.CHRTYPE), special("sda", tarfile.BLKTYPE, 8, 0), special("pipe", tarfile.FIFOTYPE)])
    assert made.devices == 2
    assert os.listdir(root) == ["pipe"]
    assert stat.S_ISFIFO((root / "pipe").lstat().st_mode)


def test_whiteouts(unpacked: Unpack, root: Path) -> None:
    """What was removed becomes device 0:0, an emptied directory opaque; aufs' own files mean nothing."""
    unpacked([folder("a"), file("a/.wh.gone"), folder("b"), file("b/.wh..wh..opq"), file(".wh..wh.plnk"), file("a/here", b"1")])
    gone = (root / "a/gone").lstat()
    assert stat.S_ISCHR(gone.st_mode) and gone.st_rdev == 0
    assert os.getxattr(root / "b", "user.overlay.opaque") == b"y"
    assert sorted(os.listdir(root / "a")) == ["gone", "here"]
    assert sorted(os.listdir(root)) == ["a", "b"]


def test_removed_and_made_again(unpacked: Unpack, root: Path) -> None:
    """A directory that takes the place of a whiteout shows nothing of what is below it; a file simply replaces it."""
    unpacked([file(".wh.d"), folder("d"), file("d/new", b"1"), file(".wh.f"), file("f", b"2")])
    assert os.getxattr(root / "d", "user.overlay.opaque") == b"y"
    assert (root / "f").read_bytes() == b"2"


def test_a_whiteout_after_the_file(unpacked: Unpack, root: Path) -> None:
    """It hides what is in lower layers, not what is in its own."""
    unpacked([file("f", b"2"), file(".wh.f")])
    assert (root / "f").read_bytes() == b"2"


def test_the_last_one_counts(unpacked: Unpack, root: Path) -> None:
    """Every kind of entry replaces every other."""
    kinds: list[Callable[[str], Entry]] = [
        lambda name: file(name, b"new"),
        folder,
        lambda name: link(name, "target"),
        lambda name: hard(name, "source"),
        lambda name: special(name, tarfile.FIFOTYPE),
    ]
    entries: list[Entry] = [file("source", b"source")]
    for i, old in enumerate(kinds):
        for j, new in enumerate(kinds):
            entries.append(old(f"{i}-{j}"))
            if i == 1 and j != 1:
                entries.append(file(f"{i}-{j}/inner/most", b"in the way"))
            entries.append(new(f"{i}-{j}"))
    unpacked(entries)
    types = [stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFREG, stat.S_IFIFO]
    for i in range(len(kinds)):
        assert [stat.S_IFMT((root / f"{i}-{j}").lstat().st_mode) for j in range(len(kinds))] == types


def test_parents_are_made(unpacked: Unpack, root: Path) -> None:
    """An archive need not speak of them."""
    unpacked([file("a/b/c", b"1")])
    assert (root / "a/b/c").read_bytes() == b"1"


def test_a_path_of_a_thousand_parts(unpacked: Unpack, root: Path) -> None:
    """None of which the archive speaks of: they are made one after the other, without a call in a call for each."""
    fd = os.open(root, os.O_RDONLY)
    try:
        unpacked([file("a/" * 1500 + "f", b"1"), folder("b"), file("b/" + "a/" * 1500 + "f", b"2")])
        for top, data in (("a/", b"1"), ("b/a/", b"2")):
            found = native.open_beneath(fd, f"{top}{'a/' * 1499}f".encode(), os.O_RDONLY)
            assert os.read(found, 2) == data
            os.close(found)
    finally:
        for name in os.listdir(root):
            native.remove_tree(fd, name)  # pytest's own way to do that calls itself for each
        os.close(fd)


@pytest.mark.parametrize("new", [folder("l"), link("l", "c")], ids=["directory", "link"])
def test_a_link_that_is_replaced_after_use(unpacked: Unpack, root: Path, new: Entry) -> None:
    """What comes after it goes where it leads now."""
    unpacked([folder("b"), folder("c"), folder("b/d"), folder("c/d"), link("l", "b"), file("l/x"), file("l/d/x"), new]
             + [file("l/y"), file("l/d/y")])
    now = root / ("c" if isinstance(new, tarfile.TarInfo) and new.issym() else "l")
    assert sorted(os.listdir(root / "b")) == ["d", "x"]
    assert os.listdir(root / "b/d") == ["x"]
    assert sorted(os.listdir(now)) == ["d", "y"]
    assert os.listdir(now / "d") == ["y"]


def test_a_link_to_what_is_replaced(unpacked: Unpack, root: Path) -> None:
    """Known by another name, it is not known any more."""
    unpacked([file("b/x"), link("l", "b"), file("l/x"), file("b"), folder("b"), file("l/y")])
    assert os.listdir(root / "b") == ["y"]


def test_a_link_to_a_file_is_replaced_not_followed(unpacked: Unpack, root: Path) -> None:
    """`cat > file` would follow it."""
    unpacked([file("target", b"old"), link("name", "target"), file("name", b"new")])
    assert (root / "target").read_bytes() == b"old"
    assert (root / "name").read_bytes() == b"new"


def test_extended_attributes(unpacked: Unpack, root: Path) -> None:
    """`user.*` but overlayfs' own; capabilities and SELinux labels belong to others."""
    names = ("user.mine", "user.overlay.opaque", "security.capability", "trusted.overlay.opaque", "system.posix_acl_access")
    headers = {f"SCHILY.xattr.{name}": "y" for name in names}
    unpacked([folder("d", pax_headers=headers), file("f", b"1", pax_headers=headers)])
    for name in ("d", "f"):
        assert os.listxattr(root / name) == ["user.mine"]


def test_a_hole_stays_one(unpacked: Unpack, root: Path) -> None:
    """GNU tar's sparse files, in each of the formats that pax headers have for them."""
    size = 1 << 30
    lines = b"1\n%d\n4\n" % (size - 4)
    body = lines + bytes(-len(lines) % 512) + b"tail"
    headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "big", "GNU.sparse.realsize": str(size)}
    unpacked([file("GNUSparseFile.0/big", body, pax_headers=headers)])
    status = (root / "big").stat()
    assert status.st_size == size
    assert status.st_blocks * 512 < 1 << 20
    with open(root / "big", "rb") as big:
        big.seek(-6, os.SEEK_END)
        assert big.read() == b"\0\0tail"


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([file("../outside/new", b"x")], ".."),
        ([file("a/../../outside/new", b"x")], ".."),
        ([folder("..")], ".."),
        ([hard("x", "../outside/precious")], ".."),
        ([hard("x", "/etc/passwd")], "not there"),
        ([hard("x", "usr")], "not there"),
        ([folder("d"), hard("x", "d")], "directory"),
        ([hard("x", "")], "hard link"),
        ([link("l", "../outside"), file("l/new", b"x")], "No such file"),
        ([link("l", "/"), link("l2", "l/../../outside"), file("l2/precious", b"x")], "No such file"),
        ([link("l", "../outside"), hard("x", "l/precious")], "not there"),
        ([link("l", "loop"), link("loop", "l"), file("l/x", b"x")], "levels of symbolic links"),
        ([file("f", b"x"), file("f/x", b"x")], "Not a directory"),
        ([file("n" * 256, b"x")], "too long"),
        ([file("d/" * 2048 + "x", b"x")], "too long"),
        ([file(".wh..", b"")], "whiteout"),
        ([file("d/.wh.", b"")], "whiteout"),
        ([special("odd", b"Q")], "type"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_attacks(unpacked: Unpack, root: Path, entries: list[Entry], says: str) -> None:
    """Refused, with the layer and the entry; nothing outside is touched or read."""
    with pytest.raises(ImageError) as caught:
        unpacked(entries)
    assert str(caught.value).startswith("layer 1: entry ")
    assert says in str(caught.value)
    for path in root.rglob("*"):
        assert not path.is_file() or path.is_symlink() or path.read_bytes() in (b"x", b"")


def test_absolute_names_are_inside(unpacked: Unpack, root: Path) -> None:
    """An archive's root is the tree's."""
    unpacked([file("/etc/passwd", b"root"), link("abs", "/etc"), file("abs/more", b"1"), hard("/h", "/etc/passwd")])
    assert (root / "etc/passwd").read_bytes() == b"root"
    assert (root / "etc/more").read_bytes() == b"1"
    assert (root / "h").samefile(root / "etc/passwd")


def test_a_directory_that_became_a_link(unpacked: Unpack, root: Path, tmp_path: Path) -> None:
    """What was opened before the exchange is not written to after it, and its times are nobody else's."""
    before = (tmp_path / "outside").stat().st_mtime
    with pytest.raises(ImageError):
        unpacked([folder("d", mtime=1), file("d/a", b"1"), link("d", "../outside"), file("d/b", b"x")])
    assert (tmp_path / "outside").stat().st_mtime == before


@pytest.mark.parametrize("mtime", [-1.5, 1e300, 2.0**70])
def test_times_that_no_clock_has(unpacked: Unpack, root: Path, mtime: float) -> None:
    """A pax header may name any number."""
    unpacked([file("f", b"", pax_headers={"mtime": str(mtime)}), folder("d", pax_headers={"mtime": "nan"})])
    assert (root / "f").stat().st_mtime == 0


HUGE = tarfile.TarInfo("././@PaxHeader")
HUGE.type, HUGE.size = tarfile.XHDTYPE, 1 << 40


@pytest.mark.parametrize("how", ["plain", "gzip"])
def test_a_header_that_claims_to_be_huge(unpacked: Unpack, how: str) -> None:
    """tarfile would read all of it into memory."""
    with pytest.raises(ImageError, match=r"^layer 1: headers larger"):
        unpacked(COMPRESSIONS[how](HUGE.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20)))


SPARSE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "s", "GNU.sparse.realsize": "4"}


def old_sparse(blocks: int) -> bytes:
    """A sparse file as GNU tar had them before: that many blocks, each of which says that there is another one."""
    info = tarfile.TarInfo("s")
    info.type = tarfile.GNUTYPE_SPARSE
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    head[482] = 1
    head[148:156] = b"%06o\0 " % (256 + sum(head[:148]) + sum(head[156:]))
    block = (b"00000000001\0" * 42).ljust(504, b"\0") + b"\1" + bytes(7)
    return bytes(head) + block * blocks


@pytest.mark.parametrize("kind", ["lines", "blocks"])
def test_a_sparse_file_of_countless_pieces(tmp_path: Path, kind: str) -> None:
    """tarfile makes a list of them, from data that is hardly there once it is compressed. A tenth of this was gigabytes."""
    if kind == "lines":
        content = tar([file("GNUSparseFile.0/s", b"9999999\n" + b"0\n" * (5 << 20), pax_headers=SPARSE)])
    else:
        content = old_sparse((12 << 20) // 512)
    (tmp_path / "layer").write_bytes(gzip.compress(content, 1))
    with pytest.raises(ImageError, match=r"^layer 1: a sparse file of more than 131,072 pieces"):
        examine(tmp_path / "layer", "layer 1")


@pytest.mark.parametrize(
    "content",
    [
        tar([file("GNUSparseFile.0/s", b"5\n0\n", pax_headers=SPARSE)])[: 4 * 512].replace(b"5\n0\n", b"99\n0"),
        tar([file("GNUSparseFile.0/s", b"5\n0\n" + b"1" * 4096, pax_headers=SPARSE)]),
        old_sparse(3),
    ],
    ids=["cut off", "no line", "cut off, old"],
)
def test_a_damaged_map(tmp_path: Path, content: bytes) -> None:
    """tarfile reads on at the archive's end, for ever."""
    (tmp_path / "layer").write_bytes(content)
    with pytest.raises(ImageError, match=r"^layer 1: a sparse file's map is damaged"):
        examine(tmp_path / "layer", "layer 1")


def global_header(records: dict[str, str]) -> bytes:
    return tarfile.TarInfo.create_pax_global_header(records)


@pytest.mark.parametrize(
    "records",
    [
        {f"key{number}": "" for number in range(200)},
        {"comment": "x" * (65 << 10)},
        {"GNU.sparse.map": "0,1"},
    ],
    ids=["many", "large", "sparse"],
)
def test_global_headers(tmp_path: Path, records: dict[str, str]) -> None:
    """tarfile copies them for every entry: fifty thousand keys and a few thousand entries took a minute."""
    (tmp_path / "layer").write_bytes(global_header(records) + tar([file("a"), file("b")]))
    with pytest.raises(ImageError, match=r"^layer 1: (global )?headers larger"):
        examine(tmp_path / "layer", "layer 1")
    (tmp_path / "layer").write_bytes(global_header({"comment": "a commit, as git archive has it"}) + tar([file("a")]))
    assert examine(tmp_path / "layer", "layer 1").entries == 1


def test_headers_about_headers(unpacked: Unpack) -> None:
    """tarfile calls itself for each: a thousand were a RecursionError."""
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, 512
    block = b"19 comment=nothing\n"
    with pytest.raises(ImageError, match=r"^layer 1: headers larger, or more"):
        unpacked((info.tobuf() + block + bytes(512 - len(block))) * 2000)


def test_a_size_below_nothing(unpacked: Unpack) -> None:
    """It would send a reader back to where it has been, for ever (CVE-2025-8194)."""
    info = tarfile.TarInfo("x")
    info.size = -512
    with pytest.raises(ImageError, match="^layer 1: a size below 0"):
        unpacked(info.tobuf(format=tarfile.GNU_FORMAT) + bytes(1024))


WHOLE = tar([file("a", b"x" * 2000), file("b", os.urandom(3000)), folder("c"), file("c/d", b"y")]).rstrip(b"\0")
WHOLE += bytes(-len(WHOLE) % 512 + 1024)
"""With the end mark, and without what fills the last record."""


@pytest.mark.parametrize("how", COMPRESSIONS)
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_cut_off(tmp_path: Path, how: str, part: float) -> None:
    """A layer that ends too early is one that is damaged, wherever it ends."""
    whole = COMPRESSIONS[how](WHOLE)
    (tmp_path / "layer").write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(ImageError, match=r"^layer 1\b"):
        examine(tmp_path / "layer", "layer 1", is_whole=False)


@pytest.mark.parametrize("end", range(0, len(WHOLE) - 1023, 512))
def test_cut_off_between_entries(tmp_path: Path, end: int) -> None:
    """Nobody knows the digest of a plain archive: only its end mark says that nothing is missing."""
    (tmp_path / "layer").write_bytes(WHOLE[:end])
    with pytest.raises(ImageError, match=r"^layer 1\b"):
        examine(tmp_path / "layer", "layer 1", is_whole=False)


@pytest.mark.parametrize("how", COMPRESSIONS)
def test_damaged(tmp_path: Path, how: str) -> None:
    """One bit, anywhere: an error or another digest, never another error than ImageError."""
    whole = bytearray(COMPRESSIONS[how](WHOLE))
    for at in range(0, len(whole), max(1, len(whole) // 150)):
        whole[at] ^= 0x10
        (tmp_path / "layer").write_bytes(whole)
        whole[at] ^= 0x10
        try:
            assert examine(tmp_path / "layer", "layer 1").diff_id != digest(WHOLE) or how != "plain"
        except ImageError as error:
            assert str(error).startswith("layer 1")


def test_no_archive_at_all(tmp_path: Path) -> None:
    """Whatever it is."""
    for content in (b"", b"x", os.urandom(4096), b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"BZh9", b"x" * 513):
        (tmp_path / "layer").write_bytes(content)
        with pytest.raises(ImageError, match="^layer 1"):
            examine(tmp_path / "layer", "layer 1")


def test_too_many_entries(unpacked: Unpack, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million files cost an ordinary file system its inodes. (The bound is lowered here; the slow test has the real one.)"""
    monkeypatch.setattr(archive, "MOST_ENTRIES", 100)
    with pytest.raises(ImageError, match="^layer 1: 100 entries"):
        unpacked([file(str(number)) for number in range(200)])


@pytest.mark.slow
def test_a_million_entries(tmp_path: Path) -> None:
    """They are refused; a bound on memory comes with it, since they are not kept."""
    block = tarfile.TarInfo("x").tobuf()
    with open(tmp_path / "layer", "wb") as out:
        for _ in range(1000):
            out.write(block * 1000)
        out.write(bytes(1024))
    with pytest.raises(ImageError, match="^layer 1: 1,000,000 entries"):
        examine(tmp_path / "layer", "layer 1")


@pytest.mark.parametrize("how", ["gzip", "zstd", "xz", "bzip2"])
def test_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Contents hundreds of times as large as the file are not written to the end."""
    monkeypatch.setattr(archive, "RATIO_FROM", 1 << 20)
    compress = (lambda data: gzip.compress(data, 9)) if how == "gzip" else COMPRESSIONS[how]
    (tmp_path / "layer").write_bytes(compress(tar([file("zeros", bytes(64 << 20))])))
    with pytest.raises(ImageError, match="^layer 1: its contents are more than 250 times"):
        examine(tmp_path / "layer", "layer 1")
