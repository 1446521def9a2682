"""The page of `lisrt view --html`: all of it is text of strangers, and none of it may do anything."""

import base64
import io
import json
import os
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.episodes import (
    BASH,
    HOSTILE,
    end,
    hostile_episode,
    is_harmless,
    record,
    response,
    result,
    start,
    tool,
    whole,
    write,
)
from support.fresh import environment

from lisrt.agent.view import Place, Run, Trajectory, attachments, find, page, run_page

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
SVG = '<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(1)</script><rect width="9" height="9"/></svg>'
#: What a page is made of.
ELEMENTS = set(
    "html head meta title style body header"
    " h1 h2 h3 h4 p section div span b pre code details summary dl dt dd figure figcaption img"
    " table thead tbody tr th td a".split()
)
EMPTY = {"meta", "img"}


class Seen(HTMLParser):
    """What a browser would find in a page; that every element is closed is checked on the way."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        """Of each <pre>: escapes taken back."""
        self.policy = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if ("http-equiv", "Content-Security-Policy") in attrs:
            assert not {"style", "img", "body"} & set(self.elements), "the policy comes too late"
            self.policy = dict(attrs)["content"] or ""
        if tag not in EMPTY:
            self._open.append(tag)
        if tag == "pre":
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "pre" in self._open:
            self.texts[-1] += data.encode("ascii").decode("unicode_escape") if self._open[-1] == "b" else data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"an instruction: {data}")

    def check(self) -> None:
        """It can do nothing, and asks for nothing."""
        assert set(self.elements) <= ELEMENTS
        assert self.policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
        for tag, name, value in self.attributes:
            assert not name.startswith("on") and name not in ("style", "srcdoc", "action", "background"), (tag, name)
            if name in ("src", "href"):
                assert re.match(r"data:image/(png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/=]*\Z|#e\d+\Z", value), (tag, value)
            if name == "http-equiv":
                assert value == "Content-Security-Policy"


def made(path: Path, *, full: bool = False) -> str:
    place = find(path)
    if isinstance(place, Run):
        return "".join(run_page(place, place.rows(), full=full))
    return "".join(page(place, Trajectory(place.trajectory), full=full))


def seen(path: Path, *, full: bool = False) -> Seen:
    text = made(path, full=full)
    assert all(map(is_harmless, text))
    found = Seen(text)
    found.check()
    return found


def test_a_page_is_whole_and_does_nothing(tmp_path: Path) -> None:
    write(tmp_path / "trajectory.jsonl", whole())
    (tmp_path / "files").mkdir()
    found = seen(tmp_path)
    assert found.elements["details"] >= 4 and found.elements["h1"] == 1
    assert "\nwc -l numbers.txt\npython3 sum.py" in found.texts and "\n42\n" in found.texts


@pytest.mark.parametrize("full", [False, True])
def test_hostile_text_is_text(tmp_path: Path, full: bool) -> None:
    """In every field of every record; and each arrives as it was."""
    write(tmp_path / "trajectory.jsonl", hostile_episode())
    found = seen(tmp_path, full=full)
    assert sum(text.strip("\n") == HOSTILE.strip("\n") for text in found.texts) >= 10
    assert "img" not in found.elements and "a" not in found.elements


def test_hostile_text_in_a_run(tmp_path: Path) -> None:
    """Ids, reasons, answers and errors, too."""
    results = [result(HOSTILE, HOSTILE, HOSTILE), result("x", "y", None, error=HOSTILE), result("t")]
    write(tmp_path / "results.jsonl", results)
    write(tmp_path / "episodes/t/trajectory.jsonl", hostile_episode())
    found = seen(tmp_path)
    assert found.elements["a"] == 3 and found.elements["details"] > 3


@given(st.text(alphabet=st.characters() | st.sampled_from("<>&\"'\r\n\0\x1b`\\-/! ")))
def test_any_text_arrives(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """An observation as a browser has it is what the program had printed."""
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    write(path, [start("t"), response(1, None, BASH), tool(1, BASH, text, exit_code=0)])
    found = seen(path, full=True)
    assert not text or f"\n{text}" in found.texts  # the line end after <pre> is the page's


def test_long_texts_are_cut_and_the_page_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Per text, and in all; what is left out is named; --full has it all."""
    middle = "M" * 300
    text = "a" * 150_000 + middle + "z" * 150_000
    path = write(tmp_path / "t.jsonl", [start(), *(response(turn, text) for turn in range(1, 6)), end()])
    assert middle not in made(path) and "left out here" in made(path)
    assert made(path, full=True).count(middle) == 5
    monkeypatch.setattr(sys.modules["lisrt.agent.view.page"], "MAX_TEXTS", 500_000)
    small = made(path)
    assert len(small) < 700_000 and "this page is full" in small
    Seen(small).check()


def test_a_run_larger_than_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tasks are all in the table; the episodes that have no room are counted."""
    write(tmp_path / "results.jsonl", [result(f"t-{number}") for number in range(10)])
    for number in range(10):
        write(tmp_path / f"episodes/t-{number}/trajectory.jsonl", [start(), response(1, "text " * 20_000), end()])
    monkeypatch.setattr(sys.modules["lisrt.agent.view.page"], "MAX_TEXTS", 250_000)
    text = made(tmp_path)
    assert "7 more episodes left out" in text and text.count('class="episode"') == 3
    assert all(f"t-{number}</a>" in text or f"t-{number}" in text for number in range(10))
    Seen(text).check()


def test_an_episode_of_a_run_that_can_not_be_read(tmp_path: Path) -> None:
    """The others are there all the same."""
    write(tmp_path / "results.jsonl", [result("a"), result("b")])
    write(tmp_path / "episodes/a/trajectory.jsonl", [{"x": 1}])
    write(tmp_path / "episodes/b/trajectory.jsonl", whole())
    text = made(tmp_path)
    assert "no trajectory" in text and "python3 sum.py" in text


# Files


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write(tmp_path / "trajectory.jsonl", whole())
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


def test_pictures_and_texts_are_in_the_page(files: Path) -> None:
    """Pictures by what they are, not by what they are called; HTML and everything else as text."""
    (files / "deep/er").mkdir(parents=True)
    (files / "deep/er/plot.png").write_bytes(PNG)
    (files / "renamed.txt").write_bytes(PNG)
    (files / "poster.svg").write_text(SVG)
    said = HOSTILE.replace("\0", "").encode("utf-8", "replace").decode()
    (files / "page.html").write_text(f"<html><script>alert(1)</script>{said}")
    (files / "not.png").write_text("text\n")
    (files / "program").write_bytes(b"\x7fELF\0\0\xff")
    (files / "latin.txt").write_bytes(b"caf\xe9")
    (files / "empty").touch()
    found = seen(files.parent)
    sources = [value for tag, name, value in found.attributes if name == "src"]
    assert [source.partition(";")[0] for source in sources] == ["data:image/svg+xml", "data:image/png", "data:image/png"]
    assert base64.b64decode(sources[0].partition(",")[2]).decode() == SVG
    assert any("<script>alert(1)</script>" in text for text in found.texts) and "\ntext\n" in found.texts
    text = made(files.parent)
    for name in ("deep/er/plot.png", "program", "latin.txt", "empty", "not.png"):
        assert name in text
    assert text.count("neither an image nor a text") == 2


def test_links_are_not_followed_and_nothing_is_waited_for(files: Path, tmp_path: Path) -> None:
    """Links to files and directories, a FIFO, a socket, a directory that can't be read, names of any kind."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("SECRET-KEY")
    (files / "link").symlink_to(secret / "key")
    (files / "tree").symlink_to(secret)
    (files / "up").symlink_to("..")
    (files / "gone").symlink_to("<nowhere>")
    os.mkfifo(files / "pipe")
    (files / "locked").mkdir(mode=0)
    (files / "<b>\x1b\u202e\n").write_text("odd name")
    os.mkdir(os.fsencode(files) + b"/\xff")
    (Path(os.fsdecode(os.fsencode(files) + b"/\xff")) / "x").write_text("in there")
    text = made(files.parent)
    assert "SECRET-KEY" not in text
    assert text.count("a link to") == 4 and "neither a file nor a link" in text and "odd name" in text and "in there" in text
    if os.geteuid() != 0:
        assert "locked" in text
    seen(files.parent)


def test_a_files_directory_that_is_a_link(files: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/key").write_text("SECRET-KEY")
    files.rmdir()
    files.symlink_to("elsewhere")
    assert "SECRET-KEY" not in made(files.parent)
    trajectory = tmp_path / "trajectory.jsonl"
    assert "SECRET-KEY" not in "".join(page(Place(trajectory, files), Trajectory(trajectory)))


def test_a_trajectory_does_not_say_which_files_are_shown(tmp_path: Path) -> None:
    """`output` in its end may name anything: a page is for others."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/key").write_text("SECRET-KEY")
    write(tmp_path / "run/trajectory.jsonl", [start(), end(output=str(tmp_path / "secret"))])
    assert "SECRET-KEY" not in made(tmp_path / "run")


def test_files_have_limits(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a picture, of a text, of all together, and of names; what is left out is named with its size."""
    for name, value in (("MAX_IMAGE", 2000), ("MAX_TEXT", 1000)):
        monkeypatch.setattr(attachments, name, value)
    monkeypatch.setattr(attachments.Room, "__init__", lambda self: self.__dict__.update(bytes=3000, names=6))
    (files / "1-large.png").write_bytes(PNG + b"\0" * 2000)
    (files / "2-large.txt").write_text("x" * 1001)
    for number in range(3, 7):
        (files / f"{number}.txt").write_text("y" * 990)
    for number in range(7, 10):
        (files / f"{number}.txt").write_text("z")
    text = made(files.parent)
    assert text.count("y" * 990) == 3
    assert "larger than 2 KiB" in text and "larger than 1000 B" in text and "of files already" in text
    assert "3 more" in text and "7.txt" not in text
    Seen(text).check()


def test_a_deep_tree(files: Path) -> None:
    """Deeper than Python's stack, and than a path may be long."""
    at = os.open(files, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("deep", dir_fd=at)
        below = os.open("deep", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    try:
        assert "deep" in made(files.parent)
    finally:  # pytest's own removal recurses, and would fail every run to come
        subprocess.run(["rm", "-rf", files / "deep"], check=True)


# The command


def lisrt_view(cwd: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lisrt", "view", *arguments]
    done = subprocess.run(command, env=environment(**env), cwd=cwd, capture_output=True, text=True, timeout=50)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_the_command_shows_an_episode(tmp_path: Path) -> None:
    """By its file or its directory; without colours in a pipe."""
    write(tmp_path / "out/trajectory.jsonl", whole())
    for path in ("out", "out/trajectory.jsonl"):
        done = lisrt_view(tmp_path, path)
        assert (done.returncode, done.stderr) == (0, "")
        assert "Turn 2" in done.stdout and "\x1b" not in done.stdout


def test_a_terminal_of_other_letters(tmp_path: Path) -> None:
    """Latin-1, or ASCII: what it lacks is written out."""
    write(tmp_path / "trajectory.jsonl", [start("漢字 é"), response(1, "…"), end()])
    done = lisrt_view(tmp_path, ".", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0 and "\\u6f22\\u5b57 \\xe9" in done.stdout


def test_the_command_writes_a_page(tmp_path: Path) -> None:
    """All of it or nothing; readable as the umask says; to stdout by -."""
    write(tmp_path / "trajectory.jsonl", hostile_episode())
    done = lisrt_view(tmp_path, ".", "--html", "page.html")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    Seen(text).check()
    assert sorted(os.listdir(tmp_path)) == ["page.html", "trajectory.jsonl"]
    assert lisrt_view(tmp_path, "trajectory.jsonl", "--html", "-", PYTHONIOENCODING="ascii").stdout == text


def test_one_task_of_a_run(tmp_path: Path) -> None:
    """By its id; a mistake is told with what is near."""
    results = [result("sums-1"), result("bad", "bad_task", None, error=f"no prompt {HOSTILE}")]
    write(tmp_path / "results.jsonl", results)
    write(tmp_path / "episodes/sums-1/trajectory.jsonl", whole())
    assert "Turn 2" in lisrt_view(tmp_path, ".", "--task", "sums-1").stdout
    assert lisrt_view(tmp_path, ".", "--task", "sums-1", "--html", "x.html").returncode == 0
    near = lisrt_view(tmp_path, ".", "--task", "sums-2")
    assert near.returncode == 2 and "sums-1" in near.stderr
    none = lisrt_view(tmp_path, ".", "--task", "bad")
    assert none.returncode == 0 and "no prompt" in none.stderr and "\x1b" not in none.stderr
    assert "sums-1" in lisrt_view(tmp_path, ".").stdout


def test_mistakes(tmp_path: Path) -> None:
    """Status 2, and what is wrong."""
    write(tmp_path / "trajectory.jsonl", whole())
    (tmp_path / "other").write_text("hello\n")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").mkdir()
    for arguments, words in (
        (["missing"], "does not exist"),
        (["other"], "no trajectory"),
        (["pipe"], "regular file"),
        (["empty"], "holds no trajectory"),
        ([".", "--task", "x"], "one episode"),
        ([".", "--html", "no/such/place.html"], "--html"),
        ([".", "--html", "empty"], "is a directory"),
        ([".", "--html", "trajectory.jsonl"], "record"),
    ):
        done = lisrt_view(tmp_path, *arguments)
        assert done.returncode == 2 and words in " ".join(done.stderr.split()), (arguments, done.stderr)
    assert json.loads((tmp_path / "trajectory.jsonl").read_text().splitlines()[0])["type"] == "start"


def test_a_reader_that_leaves(tmp_path: Path) -> None:
    """As with `head`: no word, and the status of SIGPIPE."""
    records = [record_ for turn in range(1, 500) for record_ in (response(turn, "word " * 500), record("reminder", turn=turn))]
    write(tmp_path / "trajectory.jsonl", [start(), *records])
    command = [sys.executable, "-m", "lisrt", "view", "."]
    with subprocess.Popen(
        command, env=environment(), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert isinstance(process.stdout, io.TextIOBase) and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert (process.stderr.read(), process.wait(50)) == ("", 141)
