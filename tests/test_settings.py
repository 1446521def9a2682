"""A user's defaults: the environment over the file over what is built in."""

import os
from pathlib import Path

import pytest

from lisrt import ImageError, Sandbox, settings
from lisrt.image import resolve_name


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The settings file of a user who has set nothing; its directory is not there yet."""
    for name in ("LISRT_IMAGE", "LISRT_SCRATCH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "lisrt" / "config.toml"


def write(config: Path, text: str | bytes) -> None:
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_bytes(text.encode() if isinstance(text, str) else text)


@pytest.mark.parametrize("key", settings.KEYS)
def test_the_environment_beats_the_file_beats_the_default(config: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """For every key; an empty variable counts as none, and a file without the key likewise."""
    assert settings.get(key) is None
    write(config, "")
    assert settings.get(key) is None
    write(config, f'{key} = "/from the file"\n')
    assert settings.get(key) == "/from the file"
    monkeypatch.setenv(f"LISRT_{key.upper()}", "/from the environment")
    assert settings.get(key) == "/from the environment"
    monkeypatch.setenv(f"LISRT_{key.upper()}", "")
    assert settings.get(key) == "/from the file"
    write(config, f'{key} = ""\n')
    assert settings.get(key) is None


def test_keys_do_not_mix(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each key has a line and a variable of its own."""
    write(config, 'image = "an image"\nscratch = "/a place"\n')
    assert (settings.get("image"), settings.get("scratch")) == ("an image", "/a place")
    monkeypatch.setenv("LISRT_IMAGE", "another")
    assert (settings.get("image"), settings.get("scratch")) == ("another", "/a place")


def test_the_file_lies_in_the_users_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """$XDG_CONFIG_HOME, or ~/.config without it."""
    assert settings.path() == tmp_path / "config" / "lisrt" / "config.toml"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for empty in (True, False):
        if empty:
            monkeypatch.setenv("XDG_CONFIG_HOME", "")
        else:
            monkeypatch.delenv("XDG_CONFIG_HOME")
        assert settings.path() == tmp_path / "home" / ".config" / "lisrt" / "config.toml"


def test_the_file_is_read_anew_each_time(config: Path) -> None:
    """A long-lived program sees the change."""
    write(config, 'image = "one"')
    assert settings.get("image") == "one"
    write(config, 'image = "two"')
    assert settings.get("image") == "two"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("image = ", "Invalid value"),
        ("image = host", "line 1"),
        ('image = "a"\nimage = "b"\n', "line 2"),
        ("[[[", "line 1"),
        (b'image = "caf\xe9"', "(?i)utf-8"),
        ('imgae = "host"', "imgae.*image, launcher, mirrors, scratch"),
        ('[sandboxes]\nimage = "host"', "sandbox"),
        ("image = 3", "image must be a string"),
        ('image = ["host"]', "image must be a string"),
        ("[image]", "image must be a string"),
    ],
)
def test_a_broken_file_is_named(config: Path, text: str | bytes, why: str) -> None:
    """ValueError with the path of the file and what is wrong in it: nobody has to search."""
    write(config, text)
    with pytest.raises(ValueError, match=why) as raised:
        settings.get("image")
    assert str(config) in str(raised.value)


def test_a_broken_file_is_found_whichever_key_is_asked_for(config: Path) -> None:
    """An unknown key breaks the whole file, or a misspelt one would be silently without effect."""
    write(config, 'scratch = "/x"\nimgae = "host"\n')
    with pytest.raises(ValueError, match="imgae"):
        settings.get("scratch")


def test_the_environment_does_not_need_the_file(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a variable says is not spoilt by a file that is not needed for it."""
    write(config, "[[[")
    monkeypatch.setenv("LISRT_IMAGE", "host")
    assert settings.get("image") == "host"


def test_a_file_that_can_not_be_there_is_none(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file where a directory would have to be: nothing is set."""
    config.parent.parent.write_text("")
    assert settings.get("image") is None


def test_a_directory_in_its_place_is_named(config: Path) -> None:
    """An OSError with the path, not a default."""
    config.mkdir(parents=True)
    with pytest.raises(OSError) as raised:
        settings.get("image")
    assert raised.value.filename == os.fspath(config) or str(config) in str(raised.value)


# What the settings are for


def test_the_image_falls_back_to_host(config: Path) -> None:
    """With nothing set."""
    assert resolve_name(None) == "host"


def test_an_argument_beats_all_settings(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the caller writes is what the caller gets."""
    write(config, "[[[")
    monkeypatch.setenv("LISRT_IMAGE", "another")
    assert resolve_name("host") == "host"


@pytest.mark.parametrize("how", ["argument", "variable", "file"])
def test_an_unknown_image_is_named(config: Path, monkeypatch: pytest.MonkeyPatch, how: str, working_host: None) -> None:
    """ImageError with the name, and with what there is, wherever the name came from."""
    argument = "nonesuch" if how == "argument" else None
    monkeypatch.setenv("LISRT_HOME", str(config.parent / "store"))
    if how == "variable":
        monkeypatch.setenv("LISRT_IMAGE", "nonesuch")
    if how == "file":
        write(config, 'image = "nonesuch"')
    with pytest.raises(ImageError, match="'nonesuch'.*host"):
        Sandbox(argument)


def test_scratch_is_a_place(config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """~ is the home directory; a relative path, which would be another place in each directory, is refused by name."""
    monkeypatch.setenv("HOME", str(tmp_path))
    write(config, 'scratch = "~/scratch"')
    assert settings.get("scratch") == f"{tmp_path}/scratch"
    write(config, 'scratch = "scratch"')
    with pytest.raises(ValueError, match="config.toml: scratch must be an absolute path: 'scratch'"):
        settings.get("scratch")
    monkeypatch.setenv("LISRT_SCRATCH", "here")
    with pytest.raises(ValueError, match=r"\$LISRT_SCRATCH: scratch must be an absolute path"):
        settings.get("scratch")
