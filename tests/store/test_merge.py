"""Layers made one."""

import os
from pathlib import Path

from lisrt.store.merge import merge
from lisrt.store.unpack import OPAQUE_ATTRIBUTE


def layer(place: Path, **files: str) -> Path:
    place.mkdir()
    for name, text in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    return place


def test_the_topmost_counts(tmp_path: Path) -> None:
    """Files by hard link, directories with all that is in any; one that hides what is below says so."""
    low = layer(tmp_path / "low", both="low", low="low", **{"d/low": "1", "gone/x": "2", "file": "was a file"})
    top = layer(tmp_path / "top", both="top", **{"d/top": "3", "file/in": "4", "hiding/x": "5"})
    os.setxattr(top / "hiding", OPAQUE_ATTRIBUTE, b"y")
    os.mknod(top / "gone", 0o020600, 0)
    (top / "d").chmod(0o711)
    merge([str(top), str(low)], str(tmp_path / "out"))
    out = tmp_path / "out"
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()) == [
        "both", "d/low", "d/top", "file/in", "hiding/x", "low",
    ]  # fmt: skip
    assert (out / "both").samefile(top / "both") and (out / "d/low").samefile(low / "d/low")
    assert (out / "d").stat().st_mode & 0o777 == 0o711 and (out / "gone").stat().st_rdev == 0
    assert os.getxattr(out / "hiding", OPAQUE_ATTRIBUTE) == os.getxattr(out / "file", OPAQUE_ATTRIBUTE) == b"y"
    assert os.listxattr(out / "d") == []


def test_a_file_with_as_many_names_as_there_may_be(tmp_path: Path) -> None:
    """It is copied, once for each name that is one too many."""
    one = layer(tmp_path / "one", first="x")
    made = 1
    try:
        for made in range(2, 70_000):
            os.link(one / "first", one / str(made))
    except OSError:
        made -= 1  # ext4 has 65,000; others have more
    merge([str(one)], str(tmp_path / "out"))
    assert len(os.listdir(tmp_path / "out")) == made
    assert (tmp_path / "out/first").read_text() == (tmp_path / f"out/{made}").read_text() == "x"
