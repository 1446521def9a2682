"""Head and tail of a stream: exact for any output, however it arrives."""

import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st

from lisrt.pipes import CHUNK, Capture

#: No piece of it is repeated within any distance that the tests reach, so a byte in the wrong place is noticed.
STREAM = b"".join(number.to_bytes(4, "big") for number in range(300_000))

LIMITS = st.one_of(st.integers(0, 40), st.sampled_from([CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 4 * CHUNK + 1]))
SIZES = st.one_of(st.integers(0, 20), st.integers(0, CHUNK), st.sampled_from([1, CHUNK, CHUNK + 1, 2 * CHUNK]))


def captured(limit: int, data: bytes, sizes: list[int]) -> Capture:
    """What is kept of data that arrives in pieces of the given sizes, and the rest at once."""
    capture = Capture(limit)
    at = 0
    for size in sizes:
        capture.add(data[at : at + size])
        at += size
    capture.add(data[at:])
    return capture


def assert_exact(capture: Capture, limit: int, data: bytes) -> None:
    """All of what fits; of more, the first half of the limit (the odd byte goes here) and the last half."""
    kept, dropped = capture.result()
    head, tail = (limit + 1) // 2, limit // 2
    expected = data if len(data) <= limit else data[:head] + data[len(data) - tail :]
    assert kept == expected
    assert dropped == len(data) - len(kept)
    assert capture.total == len(data)


@settings(max_examples=200, deadline=None, database=None)
@given(LIMITS, st.lists(SIZES, max_size=12), st.integers(0, 100))
def test_head_and_tail_are_exact(limit: int, sizes: list[int], more: int) -> None:
    """For any limit, any amount and any way it is cut into pieces."""
    data = STREAM[: sum(sizes) + more]
    assert_exact(captured(limit, data, sizes), limit, data)


@settings(max_examples=200, deadline=None, database=None)
@given(st.integers(0, 30), st.binary(max_size=60), st.data())
def test_the_pieces_make_no_difference(limit: int, data: bytes, draw: st.DataObject) -> None:
    """Two ways to cut the same bytes give the same result."""
    one, other = (draw.draw(st.lists(st.integers(0, 10), max_size=10)) for _ in range(2))
    assert captured(limit, data, one).result() == captured(limit, data, other).result()
    assert_exact(captured(limit, data, one), limit, data)


@settings(max_examples=50, deadline=None, database=None)
@given(st.integers(0, 50), st.lists(st.binary(max_size=30), max_size=10))
def test_the_result_may_be_asked_for_at_any_time(limit: int, pieces: list[bytes]) -> None:
    """Asking changes nothing of what comes later."""
    capture = Capture(limit)
    so_far = b""
    assert capture.result() == (b"", 0)
    for piece in pieces:
        capture.add(piece)
        so_far += piece
        assert_exact(capture, limit, so_far)


def test_a_limit_of_nothing_counts_everything() -> None:
    """max_output=0: no byte is kept and each is counted."""
    capture = captured(0, STREAM, [1, CHUNK, 3])
    assert capture.result() == (b"", len(STREAM))


def test_a_flood_takes_bounded_memory() -> None:
    """A gigabyte through a limit of a mebibyte takes some mebibytes, not a gigabyte."""
    piece = bytes(CHUNK)
    limit = 1 << 20
    tracemalloc.start()
    try:
        capture = Capture(limit)
        for _ in range((1 << 30) // CHUNK):
            capture.add(piece)
        kept, dropped = capture.result()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (len(kept), dropped) == (limit, (1 << 30) - limit)
    assert peak < 8 * limit
