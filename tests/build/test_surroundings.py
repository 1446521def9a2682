"""What of the host reaches a build."""

from pathlib import Path

import pytest

from lisrt.build import surroundings
from lisrt.build.lock import Versions
from lisrt.build.mirror import Source
from lisrt.build.surroundings import HERE, Surroundings, look, mirror_of
from lisrt.errors import ImageError

DEBIAN = Source("http://deb.debian.org/debian", ("bookworm", "bookworm-updates"))
SECURITY = Source("http://deb.debian.org/debian-security", ("bookworm-security",))


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings of the developer's."""
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONFIG_FILE", "LISRT_MIRRORS", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_mirrors_by_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """URLs that begin with the one are taken from the other."""
    monkeypatch.setenv("LISRT_MIRRORS", "http://archive.ubuntu.com/=http://u/ http://deb.debian.org/=https://site/mirror/")
    assert mirror_of(DEBIAN, "debian") == "https://site/mirror/debian"
    assert mirror_of(SECURITY, "debian") == "https://site/mirror/debian-security"
    monkeypatch.setenv("LISRT_MIRRORS", "http://site/")
    with pytest.raises(ImageError, match="FROM=TO"):
        mirror_of(DEBIAN, "debian")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sources.list", "# x\ndeb [arch=amd64 signed-by=/k] http://near/debian/ bookworm main\n"
                         "deb http://near/debian bookworm-updates main\ndeb-src http://no/debian bookworm main\n"),
        ("sources.list.d/a.sources", "Types: deb\n# x\nURIs: http://near/debian/\nSuites: bookworm bookworm-updates\n"
                                     "Components: main\n"),
    ],
)  # fmt: skip
def test_mirrors_of_the_hosts_own_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    """Where it is the same distribution, and has the same suites."""
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / name).write_text(text)
    read = surroundings._apt_sources
    monkeypatch.setattr(surroundings, "_apt_sources", lambda _: read(tmp_path))
    monkeypatch.setattr(surroundings, "_distribution", lambda: "debian")
    found = dict(read(tmp_path))
    if len(found) == 1:
        assert mirror_of(DEBIAN, "debian") == "http://near/debian"
    assert {suite for suites in found.values() for suite in suites} == {"bookworm", "bookworm-updates"}
    assert mirror_of(SECURITY, "debian") == SECURITY.mirror
    assert mirror_of(DEBIAN, "ubuntu") == DEBIAN.mirror


def test_pips_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Indexes that a sandbox can reach; variables go before files."""
    (tmp_path / "config/pip").mkdir(parents=True)
    (tmp_path / "config/pip/pip.conf").write_text(
        "[global]\nindex-url = https://near/simple\nextra-index-url = file:///srv/wheels https://more/simple\ntimeout = 90\n"
        "[install]\ntrusted-host = near\n"
    )
    env = look().env
    assert env["PIP_INDEX_URL"] == "https://near/simple"
    assert env["PIP_EXTRA_INDEX_URL"] == "https://more/simple"
    assert env["PIP_DEFAULT_TIMEOUT"] == "90" and env["PIP_TRUSTED_HOST"] == "near"
    monkeypatch.setenv("PIP_INDEX_URL", "https://other/simple")
    assert look().env["PIP_INDEX_URL"] == "https://other/simple"


def test_files_for_the_builds_own_eyes(tmp_path: Path) -> None:
    """apt's proxies, other mirrors, certificates, and the versions to hold packages to."""
    bundle = tmp_path / "site.pem"
    bundle.write_text("certificates")
    here = Surroundings({"http_proxy": "http://p:1"}, bundle, ('Acquire::http::Proxy "http://p:1";',))
    sources = [(DEBIAN, "http://near/debian"), (SECURITY, SECURITY.mirror)]
    folder = tmp_path / "files"
    folder.mkdir()
    here.files(folder, sources, Versions({"libc6": "2.36"}, {"numpy": "2.1"}))
    conf = (folder / "apt.conf").read_text()
    assert 'Acquire::http::Proxy "http://p:1";' in conf and f'Dir::Etc::SourceList "{HERE}/mirrors.sources";' in conf
    assert "URIs: http://near/debian\n" in (folder / "mirrors.sources").read_text()
    assert (folder / "preferences").read_text() == "Package: libc6\nPin: version 2.36\nPin-Priority: 1001\n"
    assert (folder / "constraints.txt").read_text() == "numpy==2.1\n"
    assert (folder / "ca.pem").read_text() == "certificates"
    variables = here.variables()
    assert variables["SSL_CERT_FILE"] == f"{HERE}/ca.pem" and variables["http_proxy"] == "http://p:1"
    assert variables["APT_CONFIG"] == f"{HERE}/apt.conf"


def test_the_recipes_own_mirrors_stay_where_they_are(tmp_path: Path) -> None:
    Surroundings({}, None, ()).files(tmp_path, [(DEBIAN, DEBIAN.mirror)], Versions())
    assert not (tmp_path / "mirrors.sources").exists()
    assert "SourceList" not in (tmp_path / "apt.conf").read_text()
