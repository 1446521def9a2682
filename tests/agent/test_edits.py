"""Edits of bytes: what is asked for changes, nothing else does."""

import pytest

from lisrt.agent.tools.edits import cap, insert, line_range, numbered, replace_once, split_lines
from lisrt.agent.tools.observation import ToolError

AWKWARD = b"tab\there\r\nbad \xff\xfe utf8\n\x1b[31mred\x1b[0m\r\rno end"


def test_cap_keeps_head_and_tail_and_says_what_is_gone() -> None:
    text = "a" * 60 + "b" * 100 + "c" * 40
    head, marker, tail = cap(text, 80).split("\n")
    assert (head, tail) == ("a" * 40, "c" * 40)
    assert "120 characters" in marker
    assert cap(text, 200) == text


def test_cap_of_odd_and_tiny_limits_counts_right() -> None:
    for limit in (1, 2, 3, 7):
        head, marker, tail = cap("0123456789", limit).split("\n")
        assert len(head) + len(tail) == limit
        assert f"{10 - limit} characters" in marker
        assert "0123456789".startswith(head)
        assert "0123456789".endswith(tail)


def test_cap_names_bytes_that_never_arrived() -> None:
    assert "7 characters and 5000 bytes" in cap("x" * 17, 10, dropped_bytes=5000)
    assert "0 characters and 5000 bytes" in cap("x" * 10, 10, dropped_bytes=5000)


@pytest.mark.parametrize(
    ("data", "lines"),
    [(b"", []), (b"\n", [b""]), (b"a", [b"a"]), (b"a\r\nb\n", [b"a\r", b"b"]), (b"a\rb", [b"a\rb"])],
)
def test_lines_end_at_line_feeds_only(data: bytes, lines: list[bytes]) -> None:
    assert split_lines(data) == lines


def test_numbered_looks_like_cat_n() -> None:
    assert numbered([b"one", b"tw\xffo", b"three"], 2, 3) == "     2\ttw\ufffdo\n     3\tthree"


@pytest.mark.parametrize(
    ("asked", "shown"),
    [(None, (1, 9)), ([1, 9], (1, 9)), ([3, -1], (3, 9)), ([9, 9], (9, 9)), ([4, 400], (4, 9))],
)
def test_line_range(asked: list[int] | None, shown: tuple[int, int]) -> None:
    assert line_range(asked, 9) == shown


@pytest.mark.parametrize("asked", [[], [1], [1, 2, 3], [0, 3], [-1, 3], [10, 12], [5, 4], [5, 0], [5, -2]])
def test_impossible_line_ranges_are_refused(asked: list[int]) -> None:
    with pytest.raises(ToolError):
        line_range(asked, 9)


def test_replace_changes_one_place_and_no_other_byte() -> None:
    edited, at = replace_once(AWKWARD, b"here", b"there\twith tab")
    assert edited == AWKWARD.replace(b"here", b"there\twith tab")
    assert AWKWARD[at : at + 4] == b"here"


def test_replace_works_next_to_bytes_that_are_no_text() -> None:
    assert replace_once(b"\xff\xc3\xa9\xfe", "é".encode(), b"e")[0] == b"\xffe\xfe"


def test_replace_of_a_text_that_is_not_there() -> None:
    with pytest.raises(ToolError, match="does not occur"):
        replace_once(b"abc", b"x", b"y")


def test_replace_names_the_lines_of_every_occurrence() -> None:
    with pytest.raises(ToolError, match=r"3 times, at lines 1, 3, 3;"):
        replace_once(b"key\n\nkey key\n", b"key", b"y")


def test_replace_of_very_many_occurrences_stays_short() -> None:
    with pytest.raises(ToolError, match=r"500 times.*and further on") as refused:
        replace_once(b"key\n" * 500, b"key", b"y")
    assert len(str(refused.value)) < 300


def test_occurrences_that_overlap_are_not_unique() -> None:
    with pytest.raises(ToolError, match="2 times"):
        replace_once(b"aaa", b"aa", b"b")


@pytest.mark.parametrize(("old", "new"), [(b"", b"x"), (b"abc", b"abc")])
def test_replace_that_says_nothing_is_refused(old: bytes, new: bytes) -> None:
    with pytest.raises(ToolError):
        replace_once(b"abc", old, new)


def test_replace_explains_line_ends() -> None:
    with pytest.raises(ToolError, match=r"end in \\r\\n"):
        replace_once(b"one\r\ntwo\r\n", b"one\ntwo", b"x")


@pytest.mark.parametrize(
    ("data", "after", "text", "edited"),
    [
        (b"a\nb\n", 0, b"new", b"new\na\nb\n"),
        (b"a\nb\n", 1, b"new", b"a\nnew\nb\n"),
        (b"a\nb\n", 1, b"new\n", b"a\nnew\nb\n"),
        (b"a\nb\n", 2, b"n1\nn2", b"a\nb\nn1\nn2\n"),
        (b"a\nb", 2, b"new", b"a\nb\nnew"),
        (b"a\nb", 2, b"new\n", b"a\nb\nnew\n"),
        (b"a\nb", 1, b"new", b"a\nnew\nb"),
        (b"a\r\nb\r\n", 1, b"new", b"a\r\nnew\r\nb\r\n"),
        (b"a\r\nb\r\n", 0, b"new", b"new\r\na\r\nb\r\n"),
        (b"a\r\nb", 2, b"new", b"a\r\nb\r\nnew"),
        (b"", 0, b"new", b"new\n"),
        (b"a\nb\n", 1, b"", b"a\n\nb\n"),
        (b"a", 1, b"new", b"a\nnew"),
    ],
)
def test_insert(data: bytes, after: int, text: bytes, edited: bytes) -> None:
    assert insert(data, after, text)[0] == edited


def test_insert_leaves_every_other_byte() -> None:
    edited, _ = insert(AWKWARD, 1, b"new")
    assert edited == AWKWARD.replace(b"\r\nbad", b"\r\nnew\r\nbad")


@pytest.mark.parametrize("after", [-1, 3, 100])
def test_insert_beyond_the_file_is_refused(after: int) -> None:
    with pytest.raises(ToolError, match="0 to 2"):
        insert(b"a\nb\n", after, b"new")
