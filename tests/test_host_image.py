"""The image `host`: an allow-list of this machine's /etc, and nothing that a site would not show to strangers."""

import fnmatch
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lisrt import hostimage
from lisrt.image import host_root


@pytest.fixture
def skeleton(tmp_path: Path) -> Path:
    """The part of the image that is copied."""
    (tmp_path / "base").mkdir()
    place, lock = hostimage.shared_skeleton(tmp_path / "base", tmp_path)
    os.close(lock)
    return place


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
        assert os.listdir(skeleton / name) == (["user"] if name == "home" else [])


def test_usr_is_bound_not_copied(tmp_path: Path) -> None:
    """What is large is shown from where it is, to all sandboxes alike."""
    image, lock = host_root(str(tmp_path), str(tmp_path / "work"))
    os.close(lock)
    [skeleton] = map(Path, image.layers)
    assert ("/usr", "usr") in image.binds
    assert sum(path.lstat().st_size for path in skeleton.rglob("*")) < 100 << 20
    for name in ("bin", "lib"):
        if os.path.islink(f"/{name}"):
            assert os.readlink(skeleton / name) == os.readlink(f"/{name}")
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
    image, lock = hostimage.shared_skeleton(tmp_path, tmp_path / "work", str(etc))
    os.close(lock)
    found = files(image / "etc")
    assert found == {"ssl", "ssl/script", "skel", "skel/link", "mtab", *hostimage.SYNTHETIC} | (
        {"ssl/unreadable"} if os.geteuid() == 0 else set()
    )
    assert os.readlink(image / "etc" / "skel" / "link") == "/etc/shadow"
    assert stat.S_IMODE((image / "etc" / "ssl" / "script").stat().st_mode) == 0o755


def test_half_an_image_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full in the middle, or Ctrl-C, leaves nothing that the next try would take for an image."""
    base, work = tmp_path / "base", tmp_path / "work"
    base.mkdir()
    work.mkdir()
    for error in (OSError(28, "No space left on device"), KeyboardInterrupt()):

        def fails(source: str, target: Path, status: os.stat_result, error: BaseException = error) -> None:
            raise error

        with monkeypatch.context() as patched:
            patched.setattr(hostimage, "_copy", fails)
            with pytest.raises(type(error)):
                host_root(str(base), str(work))
        assert os.listdir(base) == os.listdir(work) == []
    image, lock = host_root(str(base), str(work))
    os.close(lock)
    assert os.path.isfile(f"{image.layers[0]}/etc/passwd")


def test_one_skeleton_serves_all(tmp_path: Path) -> None:
    """The next process finds it; several that start together make one."""
    places = []
    with ThreadPoolExecutor(8) as pool:
        for place, lock in pool.map(lambda n: hostimage.shared_skeleton(tmp_path, tmp_path / f"work{n}"), range(8)):
            places.append(place)
            os.close(lock)
    assert len(set(places)) == 1
    assert [name for name in os.listdir(tmp_path) if name.startswith(".host-")] == [places[0].name]
    assert not [name for at in tmp_path.glob("work*") for name in os.listdir(at)]
    before = places[0].stat()
    place, lock = hostimage.shared_skeleton(tmp_path, tmp_path / "later")
    os.close(lock)
    assert os.path.samestat(place.stat(), before)


def test_a_changed_etc_is_another_skeleton(tmp_path: Path) -> None:
    """Content, mode, link: each makes a new one; the old one stays as long as somebody uses it."""
    etc = tmp_path / "etc"
    (etc / "ssl").mkdir(parents=True)
    (etc / "ssl" / "file").write_text("one")
    old, in_use = hostimage.shared_skeleton(tmp_path, tmp_path / "work", str(etc))

    def renewed() -> Path:
        place, lock = hostimage.shared_skeleton(tmp_path, tmp_path / "work", str(etc))
        os.close(lock)
        return place

    (etc / "ssl" / "file").write_text("two")
    second = renewed()
    assert (second / "etc/ssl/file").read_text() == "two" and (old / "etc/ssl/file").read_text() == "one"
    os.close(in_use)
    (etc / "ssl" / "link").symlink_to("file")
    third = renewed()
    assert os.readlink(third / "etc/ssl/link") == "file"
    assert not old.exists() and not second.exists()


def test_a_damaged_skeleton_is_made_again(tmp_path: Path) -> None:
    """Some hosts delete old files from /tmp one by one. Nobody is given what is left; who uses it keeps it."""
    (tmp_path / "work").mkdir()
    place, lock = hostimage.shared_skeleton(tmp_path, tmp_path / "work")
    (place / "etc/passwd").unlink()
    own, own_lock = hostimage.shared_skeleton(tmp_path, tmp_path / "work")
    assert own == tmp_path / "work/host" and (own / "etc/passwd").exists()
    assert not (place / "etc/passwd").exists()
    os.close(own_lock)
    os.close(lock)
    again, lock = hostimage.shared_skeleton(tmp_path, tmp_path / "work2")
    assert again == place and (place / "etc/passwd").exists()
    (place / "etc/passwd").write_text("")
    os.close(lock)
    _, lock = hostimage.shared_skeleton(tmp_path, tmp_path / "work3")
    assert (place / "etc/passwd").read_text() == hostimage.SYNTHETIC["passwd"]
    os.close(lock)
