"""Whatever bytes an archive, a manifest or a configuration is made of: it is taken, or refused with an ImageError."""

import json
import os
import tarfile
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from support.archives import COMPRESSIONS, file, folder, hard, link, special, tar

from lisrt import ImageError
from lisrt.store import manifest
from lisrt.store.catalog import Catalog
from lisrt.store.home import Home
from lisrt.store.imports import import_image
from lisrt.store.unpack import examine, unpack

SPARSE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "s", "GNU.sparse.realsize": "4096"}
GOOD = tar(
    [
        folder("d"),
        file("d/f", b"data" * 300, pax_headers={"mtime": "1.5", "SCHILY.xattr.user.x": "y", "path": "d/g"}),
        hard("h", "d/g"),
        link("l" * 120, "d"),
        special("p", tarfile.FIFOTYPE),
        file("GNUSparseFile.0/s", b"1\n0\n4\n".ljust(512, b"\0") + b"data", pax_headers=SPARSE),
        file(".wh.gone"),
    ]
)
LARGE = (b"\x80" + b"\xff" * 11, b"77777777777\0", b"99999999999999")
SMALL = (b"\xff" * 12, b"-1\0", b"../", b"0\n", b"nan", b"=", b"\n")
VALUES = st.one_of(st.binary(min_size=1, max_size=12), st.sampled_from([*LARGE, *SMALL]))
CHANGES = st.lists(st.tuples(st.integers(0, len(GOOD) - 1), VALUES), min_size=1, max_size=4)


def changed(changes: list[tuple[int, bytes]], sums: bool) -> bytes:
    """The archive with these bytes in it; with `sums` its headers' checksums are true again, so they are believed."""
    data = bytearray(GOOD)
    for at, value in changes:
        data[at : at + len(value)] = value
    for start in range(0, len(data) - 511, 512) if sums else ():
        block = data[start : start + 512]
        if block[257:262] == b"ustar":
            total = 256 + sum(block[:148]) + sum(block[156:])
            data[start + 148 : start + 156] = b"%06o\0 " % (total & 0o777777)
    return bytes(data)


@settings(max_examples=400, deadline=None)
@given(CHANGES, st.booleans())
def test_archives(changes: list[tuple[int, bytes]], sums: bool) -> None:
    """Nothing else than ImageError, and nothing outside, whichever bytes are changed."""
    with tempfile.TemporaryDirectory() as place:
        layer, root = Path(place) / "layer", Path(place) / "root"
        root.mkdir()
        layer.write_bytes(changed(changes, sums))
        try:
            examine(layer, "layer 1", is_whole=False)
        except ImageError as error:
            assert str(error).startswith("layer 1")
        try:
            unpack(layer, root, "layer 1")
        except ImageError as error:
            assert str(error).startswith("layer 1")
        assert sorted(os.listdir(place)) == ["layer", "root"]


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["gzip", "zstd", "xz", "bzip2"]), st.integers(0, 5000), st.binary(min_size=1, max_size=8))
def test_compressed_archives(how: str, at: int, value: bytes) -> None:
    """The same below them."""
    data = bytearray(COMPRESSIONS[how](GOOD))
    at %= len(data)
    data[at : at + len(value)] = value
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "source").write_bytes(data)
        try:
            import_image(Path(place) / "source", Catalog(Home(Path(place) / "home")), "x")
        except ImageError as error:
            assert str(error).startswith(f"{place}/source")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from([manifest.LAYER, manifest.CONFIG, "linux"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            "schemaVersion mediaType manifests layers config digest size platform annotations os architecture rootfs diff_ids "
            "Env Cmd Entrypoint User WorkingDir".split()
        ),
        inner,
        max_size=6,
    ),
    max_leaves=25,
)


@settings(max_examples=400, deadline=None)
@given(JSON)
def test_documents(value: object) -> None:
    """What a registry says may be any JSON."""
    text = json.dumps(value).encode()
    for read in (manifest.is_index, manifest.index, manifest.manifest, manifest.described):
        try:
            read(text)
        except ImageError:
            pass
