"""The image `host`: an allow-list of this machine's /etc, and nothing that a site would not show to strangers."""

import fnmatch
import os
import stat
from pathlib import Path

import pytest

from lisrt import hostimage
from lisrt.image import host_image


@pytest.fixture
def skeleton(tmp_path: Path) -> Path:
    """The part of the image that is copied."""
    hostimage.build_skeleton(tmp_path / "image")
    return tmp_path / "image"


def files(root: Path) -> set[str]:
    """Every name below, relative."""
    return {os.path.relpath(os.path.join(at, name), root) for at, dirs, names in os.walk(root) for name in dirs + names}


def test_nothing_is_in_etc_that_is_not_named(skeleton: Path) -> None:
    """Each entry is one of the list, or made by us; never because the host happens to have it."""
    allowed = [*hostimage.ETC, *hostimage.SYNTHETIC, "mtab"]
    found = os.listdir(skeleton / "etc")
    assert not [name for name in found if not any(fnmatch.fnmatchcase(name, pattern) for pattern in allowed)]
    assert {"passwd", "group", "hosts", "nsswitch.conf", "ld.so.cache", "os-release"} <= set(found)
    assert not {"shadow", "ssh", "sudoers", "fstab", "krb5.conf", "munge", "slurm", "hostname"} & set(found)
    assert not [name for name in hostimage.ETC_NEVER if (skeleton / "etc" / name).exists()]


def test_who_lives_here_is_not_told(skeleton: Path) -> None:
    """Users, hosts and name servers are ours, the same on every machine."""
    for name, text in hostimage.SYNTHETIC.items():
        assert (skeleton / "etc" / name).read_text() == text
    assert "root:x:0:0:" in hostimage.SYNTHETIC["passwd"]


def test_places_for_data_are_there_and_empty(skeleton: Path) -> None:
    """With the modes that programs expect; no directory of the host's data is looked into."""
    for name, mode in hostimage.DIRECTORIES.items():
        assert stat.S_IMODE((skeleton / name).stat().st_mode) == mode
    for name in ("home", "root", "tmp", "run", "opt", "usr", "proc", "dev", "var/tmp", "var/cache", "var/lib"):
        assert os.listdir(skeleton / name) == []


def test_usr_is_bound_not_copied(tmp_path: Path) -> None:
    """What is large is shown from where it is, to all sandboxes alike."""
    image = host_image(str(tmp_path))
    assert ("/usr", "usr") in image.binds
    assert sum(path.lstat().st_size for path in (tmp_path / "host").rglob("*")) < 100 << 20
    for name in ("bin", "lib"):
        if os.path.islink(f"/{name}"):
            assert os.readlink(tmp_path / "host" / name) == os.readlink(f"/{name}")
        else:
            assert (f"/{name}", name) in image.binds


def test_odd_files_are_left_out(tmp_path: Path) -> None:
    """Unreadable, huge and special files are skipped; links stay links, whatever they point at; modes are plain."""
    etc = tmp_path / "etc"
    ssl, skel = etc / "ssl", etc / "skel"
    for place in (etc, ssl, ssl / "private", skel):
        place.mkdir()
    (ssl / "private" / "key.pem").write_text("secret")
    (ssl / "unreadable").write_text("x")
    (ssl / "unreadable").chmod(0)
    (ssl / "script").write_text("x")
    (ssl / "script").chmod(0o4711)
    with open(ssl / "huge", "wb") as file:
        file.truncate(hostimage.LARGEST_FILE + 1)
    os.mkfifo(skel / "fifo")
    (skel / "link").symlink_to("/etc/shadow")
    (etc / "site-secrets").write_text("x")
    hostimage.build_skeleton(tmp_path / "image", str(etc))
    found = files(tmp_path / "image" / "etc")
    assert found == {"ssl", "ssl/script", "skel", "skel/link", "mtab", *hostimage.SYNTHETIC} | (
        {"ssl/unreadable"} if os.geteuid() == 0 else set()
    )
    assert os.readlink(tmp_path / "image" / "etc" / "skel" / "link") == "/etc/shadow"
    assert stat.S_IMODE((tmp_path / "image" / "etc" / "ssl" / "script").stat().st_mode) == 0o755


def test_half_an_image_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full in the middle leaves nothing that the next try would take for an image."""

    def fails(source: str, etc: Path) -> None:
        raise OSError(28, "No space left on device", str(etc))

    with monkeypatch.context() as patched:
        patched.setattr(hostimage, "_fill_etc", fails)
        with pytest.raises(OSError, match="No space"):
            host_image(str(tmp_path))
    assert os.listdir(tmp_path) == []
    assert host_image(str(tmp_path)).name == "host"
