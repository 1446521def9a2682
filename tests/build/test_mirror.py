"""Whose packages are taken, which of them, and what is said of a mirror that lies, lags or lacks something."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support.features import missing

from lisrt.build import bootstrap, fetch, resolve
from lisrt.build.fetch import Wanted
from lisrt.build.mirror import Index, Source, read_index
from lisrt.errors import ImageError

from .conftest import Mirror


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mirror is on loopback."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(fetch, "TRIES", 1)


def index(mirror: Mirror, folder: Path, **options: object) -> Index:
    source = Source(mirror.url, ("tiny",), **{"trusted": True, **options})  # type: ignore[arg-type]
    folder.mkdir()
    return read_index([(source, mirror.url)], folder, lambda _: None)


def chosen(mirror: Mirror, folder: Path, *asked: str, **versions: str) -> list[str]:
    return [f"{offer.name}={offer.version}" for offer in resolve.choose(index(mirror, folder), asked, versions)]


def test_what_every_system_has_and_what_that_needs(mirror: Mirror, tmp_path: Path) -> None:
    """Essential and required ones, with dependencies; of versions the newest, or the lock's."""
    mirror.add("base", more="Essential: yes\nDepends: lib (>= 2)\n")
    mirror.add("must", more="Priority: required\n")
    mirror.add("lib", "2")
    mirror.add("lib", "10")
    mirror.add("lib", "1")
    mirror.add("other")
    assert chosen(mirror, tmp_path / "a") == ["base=1", "lib=10", "must=1"]
    assert chosen(mirror, tmp_path / "b", lib="2") == ["base=1", "lib=2", "must=1"]
    assert chosen(mirror, tmp_path / "c", lib="1") == ["base=1", "lib=10", "must=1"]  # too old for what needs it
    assert chosen(mirror, tmp_path / "d", "other", lib="7") == ["base=1", "lib=10", "must=1", "other=1"]


def test_alternatives(mirror: Mirror, tmp_path: Path) -> None:
    """What is needed anyhow serves; else the first that exists; a name that is none is what provides it."""
    mirror.add("base", more="Essential: yes\nDepends: awk, nothing | first | second, shell | second\n")
    mirror.add("gawk", more="Provides: awk\n")
    mirror.add("mawk", more="Provides: awk\nEssential: yes\n")
    mirror.add("first")
    mirror.add("second")
    mirror.add("dash", more="Provides: shell (= 2)\n")
    assert chosen(mirror, tmp_path / "a") == ["base=1", "dash=1", "first=1", "mawk=1"]


@pytest.mark.parametrize(("depends", "said"), [("lib", "'lib', which base needs"), ("lib (>= 3) | x", "'lib >= 3 | x'")])
def test_what_nobody_has(mirror: Mirror, tmp_path: Path, depends: str, said: str) -> None:
    """It is named, and who wants it."""
    mirror.add("base", more=f"Essential: yes\nDepends: {depends}\n")
    if ">=" in depends:
        mirror.add("lib", "2")
    with pytest.raises(ImageError) as caught:
        chosen(mirror, tmp_path / "a")
    assert said in str(caught.value) or "nothing on the mirrors is 'lib', which base needs" in str(caught.value)


def test_a_package_that_the_recipe_wants_and_nobody_has(mirror: Mirror, tmp_path: Path) -> None:
    mirror.add("base", more="Essential: yes\n")
    with pytest.raises(ImageError, match="package 'nonesuch', which the recipe needs, is on none of the mirrors"):
        chosen(mirror, tmp_path / "a", "nonesuch")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("Package: base\n", "Package: ../../pwned\n", "a package whose Package is '../../pwned'"),
        ("Package: base\n", "Package: base\nPackage: ../../pwned\n", "a package whose Package is '../../pwned'"),
        ("Package: base\n", "Package: base\nPackage: other\n", "a package that is both 'base' and 'other'"),
        ("Package: base\n", "Package: .b\n", "a package whose Package is '.b'"),
        ("Version: 1\n", "Version: 1/../2\n", "a package whose Version is '1/../2'"),
        ("Version: 1\n", "", "a package whose Version is ''"),
        ("Architecture: ", "Architecture: ../", "a package whose Architecture is '../"),
        ("Filename: pool/", "Filename: pool/../../", "a package 'base' whose Filename is 'pool/../../base_1.deb'"),
        ("Filename: pool/", "Filename: pool /", "whose Filename is 'pool /base_1.deb'"),
        ("SHA256: ", "SHA512: ", "a package 'base' whose SHA256 is ''"),
        ("Size: ", "Size: -", "a package 'base' whose Size is '-"),
    ],
)
def test_a_mirror_names_no_files_of_ours(mirror: Mirror, tmp_path: Path, old: str, new: str, said: str) -> None:
    """A package is downloaded to a file of its name: one that leads elsewhere is refused before."""
    mirror.add("base", more="Essential: yes\n")
    mirror.alter(old, new)
    with pytest.raises(ImageError) as caught:
        offers = resolve.choose(index(mirror, tmp_path / "a"), (), {})
        (tmp_path / "a/deeper").mkdir()
        bootstrap.download(offers, tmp_path / "a/deeper", lambda done, of: None)
    assert str(caught.value).startswith(f"{mirror.url} has ") and said in str(caught.value)
    assert not list(tmp_path.rglob("*pwned*"))


def test_versions_that_are_gone(mirror: Mirror, tmp_path: Path) -> None:
    mirror.add("lib", "2")
    assert resolve.missing(index(mirror, tmp_path / "a"), {"lib": "1", "other": "3"}) == ["lib=1", "other=3"]
    assert resolve.missing(index(mirror, tmp_path / "b"), {"lib": "2"}) == []


def test_an_index_that_is_not_what_the_release_says(mirror: Mirror, tmp_path: Path) -> None:
    """It is not believed."""
    mirror.add("base")
    [packages] = mirror.root.rglob("Packages")
    packages.write_bytes(packages.read_bytes().replace(b"base", b"evil"))
    with pytest.raises(ImageError, match=r"Packages: its digest is [0-9a-f]{64}, and should be [0-9a-f]{64}"):
        index(mirror, tmp_path / "a")


def test_a_stale_release(mirror: Mirror, tmp_path: Path) -> None:
    """Somebody may hold updates back; for a snapshot of the past one can say so."""
    mirror.publish(until="Sat, 01 Jan 2022 00:00:00 UTC")
    with pytest.raises(ImageError, match="was valid until Sat, 01 Jan 2022.*check-valid-until = false"):
        index(mirror, tmp_path / "a")
    index(mirror, tmp_path / "b", check_valid_until=False)


@pytest.mark.parametrize(
    ("suite", "names"),
    [
        ("tiny", "Suite: oldstable\nCodename: tiny\n"),
        ("oldstable-security", "Suite: oldstable-security\nCodename: tiny-security\n"),
        ("tiny-security", "Suite: oldstable-security\nCodename: tiny-security\n"),
        ("tiny-updates", "Suite: tiny-updates\nCodename: tiny\n"),
        ("tiny/updates", "Suite: oldstable\nCodename: tiny\n"),
        ("tiny", "Origin: me\n"),
    ],
)
def test_a_suite_by_either_name(mirror: Mirror, tmp_path: Path, suite: str, names: str) -> None:
    """As Debian and Ubuntu have them; a trusted mirror of one's own may say nothing."""
    mirror.names = names
    mirror.add("base", more="Essential: yes\n")
    if suite != "tiny":
        (mirror.root / "dists" / suite).parent.mkdir(exist_ok=True)
        if "/" in suite:
            (mirror.root / "dists/tiny").rename(mirror.root / "dists/moved")
            (mirror.root / "dists/tiny").mkdir()
            (mirror.root / "dists" / suite).symlink_to(mirror.root / "dists/moved")
        else:
            (mirror.root / "dists" / suite).symlink_to("tiny")
    (tmp_path / "a").mkdir()
    source = Source(mirror.url, (suite,), trusted=True)
    assert read_index([(source, mirror.url)], tmp_path / "a", lambda _: None).needed() == ["base"]


@pytest.mark.parametrize(
    "names", ["Suite: sid\nCodename: sid\n", "Suite: tiny-updates\nCodename: tiny\n", "Suite: tiny2\n", "Codename: tin\n"]
)
def test_another_suite(mirror: Mirror, tmp_path: Path, names: str) -> None:
    """One key signs them all, so a mirror could give any for any: what it gives is not what was asked for."""
    mirror.names = names
    mirror.add("base")
    with pytest.raises(ImageError, match=r"/dists/tiny/InRelease is that of Suite '.*', Codename '.*', and not of 'tiny'"):
        index(mirror, tmp_path / "a")


def test_a_component_that_is_not_there(mirror: Mirror, tmp_path: Path) -> None:
    mirror.publish()
    with pytest.raises(ImageError, match="has no component 'contrib'"):
        index(mirror, tmp_path / "a", components=("contrib",))


def test_a_suite_that_is_not_there(mirror: Mirror, tmp_path: Path) -> None:
    """The URL and the status."""
    with pytest.raises(ImageError, match=r"dists/tiny/InRelease: HTTP status 404"):
        index(mirror, tmp_path / "a")


def test_without_a_key_nothing_is_taken(mirror: Mirror, tmp_path: Path) -> None:
    """Neither without a keyring, nor with one that is not there, nor a release that nobody has signed."""
    mirror.add("base")
    with pytest.raises(ImageError, match="name a `keyring`, or write `trusted = true`"):
        index(mirror, tmp_path / "a", trusted=False)
    with pytest.raises(ImageError, match="there is no keyring /usr/share/keyrings/nobody.gpg"):
        index(mirror, tmp_path / "b", trusted=False, keyring="nobody.gpg")
    if shutil.which("gpgv") is None:
        missing("gpgv")
    (tmp_path / "keys.gpg").write_bytes(b"")
    with pytest.raises(ImageError, match="is not signed by a key of"):
        index(mirror, tmp_path / "c", trusted=False, keyring=str(tmp_path / "keys.gpg"))


def test_without_gpgv_nothing_is_believed(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror.add("base")
    (tmp_path / "keys.gpg").write_bytes(b"")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImageError, match="can't be checked without gpgv; install it"):
        index(mirror, tmp_path / "a", trusted=False, keyring=str(tmp_path / "keys.gpg"))


class Signer:
    """A key of the test's own."""

    def __init__(self, home: Path, user: str) -> None:
        home.mkdir(mode=0o700)
        self._base = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
        self._home = home
        self._gpg("--quick-gen-key", user, "ed25519", "sign", "never")
        self.keyring = home / "public.gpg"
        self._gpg("--output", str(self.keyring), "--export")

    def sign(self, path: Path) -> None:
        """In place, text and signature in one."""
        self._gpg("--output", f"{path}.signed", "--clearsign", str(path))
        os.replace(f"{path}.signed", path)

    def close(self) -> None:
        subprocess.run(["gpgconf", "--homedir", str(self._home), "--kill", "gpg-agent"], check=True)

    def _gpg(self, *arguments: str) -> None:
        subprocess.run([*self._base, *arguments], check=True, capture_output=True)


def test_a_signature_counts(mirror: Mirror, tmp_path: Path) -> None:
    """The right key's is taken; another's is not; nor the right one's under another text."""
    if shutil.which("gpg") is None or shutil.which("gpgv") is None:
        missing("gpg and gpgv")
    right, other = Signer(tmp_path / "right", "right <r@example.org>"), Signer(tmp_path / "other", "other <o@example.org>")
    mirror.add("base", more="Essential: yes\n")
    right.sign(mirror.release)
    signed = mirror.release.read_bytes()
    assert index(mirror, tmp_path / "a", trusted=False, keyring=str(right.keyring)).needed() == ["base"]
    with pytest.raises(ImageError, match="is not signed by a key of"):
        index(mirror, tmp_path / "b", trusted=False, keyring=str(other.keyring))
    mirror.release.write_bytes(signed.replace(b"Suite: tiny", b"Suite: fake"))
    with pytest.raises(ImageError, match="is not signed by a key of"):
        index(mirror, tmp_path / "c", trusted=False, keyring=str(right.keyring))
    # what stands outside of the signed text is not part of it
    digest = b"SHA256:\n " + b"0" * 64 + b" 1 main/binary-x/Packages\n"
    mirror.release.write_bytes(digest + b"\n" + signed)
    assert index(mirror, tmp_path / "d", trusted=False, keyring=str(right.keyring)).needed() == ["base"]
    mirror.names = ""
    mirror.publish()
    right.sign(mirror.release)
    with pytest.raises(ImageError, match="is that of Suite '', Codename '', and not of 'tiny'"):
        index(mirror, tmp_path / "e", trusted=False, keyring=str(right.keyring))
    right.close()
    other.close()


def test_many_files_at_once(mirror: Mirror, tmp_path: Path) -> None:
    """All of them, or the first that is wrong, by its URL; connections are kept and closed."""
    files = {f"{number}.bin": os.urandom(1000 + number) for number in range(40)}
    for name, data in files.items():
        (mirror.root / name).write_bytes(data)
    seen: list[int] = []
    wanted = [Wanted(f"{mirror.url}/{name}", tmp_path / name, "", len(data)) for name, data in files.items()]
    fetch.fetch_all(wanted, seen.append)
    assert all((tmp_path / name).read_bytes() == data for name, data in files.items())
    assert sum(seen) == sum(map(len, files.values()))
    (mirror.root / "7.bin").write_bytes(b"short")
    with pytest.raises(ImageError, match=r"/7\.bin: it ends after 5 of 1007 bytes"):
        fetch.fetch_all(wanted)


def test_nobody_answers(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"http://127\.0\.0\.1:9/x: .*refused"):
        fetch.fetch(Wanted("http://127.0.0.1:9/x", tmp_path / "x"))


def test_the_hosts_proxy_is_asked(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a host that nobody knows here: the server's directory is named as a proxy gets to see the URL."""
    place = mirror.root / "http:" / "mirror.invalid"
    place.mkdir(parents=True)
    (place / "file").write_text("by proxy")
    with pytest.raises(ImageError, match=r"http://mirror\.invalid/file: "):
        fetch.fetch(Wanted("http://mirror.invalid/file", tmp_path / "file"))
    monkeypatch.setenv("http_proxy", mirror.url)
    assert fetch.fetch(Wanted("http://mirror.invalid/file", tmp_path / "file")).read_text() == "by proxy"
