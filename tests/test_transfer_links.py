"""Which links of a sandbox's tree may be made on the host. The kernel's own resolution is the judge."""

import errno
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lisrt.transfer import stays_below

NAMES = [b"a", b"b", b"c"]
PARTS = st.lists(st.sampled_from([*NAMES, b"..", b"..", b".", b"", b"...", b"..a"]), max_size=8)
TARGETS = st.builds(lambda start, parts: start + b"/".join(parts), st.sampled_from([b"", b"", b"", b"/"]), PARTS)
LINKS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map(b"/".join)


def build(top: bytes, links: list[tuple[bytes, bytes]]) -> list[bytes]:
    """Makes the links that are accepted, as a download does: parents are real directories, one entry a name."""
    made = []
    for link, target in links:
        parts = link.split(b"/")
        parents = [b"/".join(parts[:end]) for end in range(1, len(parts))]
        if any(os.path.lexists(top + b"/" + parent) and not is_directory(top + b"/" + parent) for parent in parents):
            continue
        if os.path.lexists(top + b"/" + link) or not stays_below(link, target):
            continue
        os.makedirs(os.path.dirname(top + b"/" + link), exist_ok=True)
        os.symlink(target, top + b"/" + link)
        made.append(link)
    return made


def is_directory(path: bytes) -> bool:
    """A directory itself, not a link to one."""
    return os.path.isdir(path) and not os.path.islink(path)


def is_inside(path: bytes, top: bytes) -> bool:
    """Where the path leads, by the kernel's rules, is the top or below it. A circle leads nowhere."""
    try:
        os.stat(path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return True
    real = os.path.realpath(path)
    return real == top or real.startswith(top + b"/")


def assert_stays(top: bytes, link: bytes) -> None:
    """The link, and whatever can be named behind it without climbing, is inside."""
    path = top + b"/" + link
    assert is_inside(path, top), f"{link!r} leads to {os.path.realpath(path)!r}"
    for behind in (b"a", b"a/b", b"b/c/a"):
        assert is_inside(path + b"/" + behind, top), f"{link!r}/{behind!r} leads to {os.path.realpath(path + b'/' + behind)!r}"


@settings(max_examples=400, deadline=None, database=None)
@given(st.lists(st.tuples(LINKS, TARGETS), min_size=1, max_size=10))
@example([(b"a/b", b".."), (b"a/c", b"b/.."), (b"c", b"a/b/..")])
@example([(b"a/a/b", b"../.."), (b"b", b"a/a/b/.."), (b"c", b"a/a/b/../..")])
@example([(b"a", b"b"), (b"b", b"c"), (b"c", b"..")])
@example([(b"a", b"b/c"), (b"b/c", b"../a")])
@example([(b"b/c", b"../.."), (b"b/a", b"..//../x")])
@example([(b"a", b"")])
@example([(b"a", b"/")])
@example([(b"a/b", b"./../../c"), (b"a/c", b".//..")])
def test_no_chain_of_accepted_links_leads_out(links: list[tuple[bytes, bytes]]) -> None:
    """Any number of accepted links, in any order, through one another: each still ends inside the tree."""
    with tempfile.TemporaryDirectory() as directory:
        top = os.fsencode(os.path.realpath(directory)) + b"/outer/top"
        os.makedirs(top)
        for link in build(top, links):
            assert_stays(top, link)


@settings(max_examples=300, deadline=None, database=None)
@given(LINKS, TARGETS)
def test_a_link_that_leads_out_is_refused(link: bytes, target: bytes) -> None:
    """Made alone in a tree of plain directories; what leads out of it is never accepted."""
    with tempfile.TemporaryDirectory() as directory:
        top = os.fsencode(os.path.realpath(directory)) + b"/o/u/t/e/r/top"
        os.makedirs(os.path.dirname(top + b"/" + link))
        if not target or b"\0" in target:
            assert not stays_below(link, target)
            return
        os.symlink(target, top + b"/" + link)
        assert is_inside(top + b"/" + link, top) or not stays_below(link, target)


@pytest.mark.parametrize(
    ("link", "target"),
    [
        (b"link", b"file"),
        (b"link", b"dir/file"),
        (b"link", b"./dir//file/"),
        (b"link", b"..."),
        (b"link", b"..hidden/x"),
        (b"link", b"\xff\n"),
        (b"bin/python", b"python3.11"),
        (b"lib/libx.so", b"../lib64/libx.so.1"),
        (b"a/b/c/link", b"../../../x"),
        (b"a/link", b".."),
        (b"link", b"."),
    ],
)
def test_ordinary_links_are_kept(link: bytes, target: bytes) -> None:
    """Links as programs make them: to a sibling, into a directory, up to the top at most."""
    assert stays_below(link, target)


@pytest.mark.parametrize(
    ("link", "target"),
    [
        (b"link", b"/etc/passwd"),
        (b"link", b"//x"),
        (b"link", b".."),
        (b"link", b"../x"),
        (b"a/link", b"../../x"),
        (b"a/link", b".././../x"),
        (b"a/link", b"..//..//x"),
        (b"link", b"dir/../../x"),
        (b"a/link", b"other/../x"),
        (b"link", b""),
    ],
)
def test_links_that_lead_out_or_may_are_refused(link: bytes, target: bytes) -> None:
    """Absolute ones, ones that climb above the top, and ones that climb after a name, which may itself be a link."""
    assert not stays_below(link, target)


def test_why_climbing_after_a_name_is_refused(tmp_path: Path) -> None:
    """`a/..` is harmless where `a` is a directory and leads out where `a` is an accepted link to the top."""
    top = tmp_path / "top"
    (top / "d").mkdir(parents=True)
    assert stays_below(b"d/up", b"..")
    (top / "d" / "up").symlink_to("..")
    (top / "d" / "out").symlink_to("up/..")
    assert not (top / "d" / "out").resolve().is_relative_to(top.resolve())
    assert not stays_below(b"d/out", b"up/..")
