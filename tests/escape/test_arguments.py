"""CVE-2024-32462 and its like: a word of the caller's or of an agent's that a launcher takes for an option of its own."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.subjects import Box

from lisrt import LisrtError, Mount

OPTIONS = ["--bind", "--dev-bind", "--share-net", "--args", "--", "-", "--ro-bind-data", "--unshare-user", "--seccomp", "-c"]


def test_a_program_named_like_an_option(box: Box) -> None:
    """It is looked for, and not found; as an argument it arrives as it is."""
    for word in OPTIONS:
        result = box.run([word, "/", "/host", "true"])
        assert (result.exit_code, result.started) == (127, False), word
    assert box.run(["printf", "%s\n", *OPTIONS]).stdout.split() == OPTIONS


def test_everything_else_named_like_an_option(open_box: Callable[..., Box], tmp_path: Path) -> None:
    """Sources and targets of mounts, the workdir, variables, the host name: words, and never more than that."""
    for word in OPTIONS:
        (tmp_path / word).mkdir()
        (tmp_path / word / "file").write_text(word)
        box = open_box(
            mounts=[Mount(tmp_path / word, f"/{word}/{word}")], workdir=f"/testbed/{word}", env={word: word, "V": f"{word} / /"}
        )
        assert box.read(f"/{word}/{word}/file") == word.encode()
        assert box.sh("pwd; echo $V").stdout == f"/testbed/{word}\n{word} / /\n"
        assert box.python("import os, sys; print(os.environ[sys.argv[1]])", word).stdout == f"{word}\n"
        assert box.sh("ls -A /host 2>/dev/null; grep -c : /proc/net/dev").stdout == "1\n", "no file and no network of the host's"


@pytest.mark.parametrize("name", ["--share-net", "-x", "--"])
def test_a_host_name_like_an_option(open_box: Callable[..., Box], name: str) -> None:
    """Refused, or the host name."""
    try:
        box = open_box(hostname=name)
    except (ValueError, LisrtError):
        return
    assert box.run(["uname", "-n"]).stdout == f"{name}\n"
    assert box.sh("grep -c : /proc/net/dev").stdout == "1\n"
