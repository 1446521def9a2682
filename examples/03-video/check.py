"""A video of a ball that bounces: by its headers, and by where the ball is in each frame."""

import itertools
import struct
from collections.abc import Iterator
from pathlib import Path

WIDTH, HEIGHT, RATE, FRAMES = 160, 120, 15, 60


def check(answer: str | None, files: Path) -> None:
    data = (files / "bounce.avi").read_bytes()
    assert data[:4] == b"RIFF" and data[8:12] == b"AVI ", "this is no AVI file"
    assert struct.unpack_from("<I", data, 4)[0] == len(data) - 8, "the file is cut off, or its length is wrong"
    chunks = list(walked(data, 12, len(data)))
    upright = check_headers(dict(chunks))
    frames = [body for kind, body in chunks if kind in (b"00db", b"00dc")]
    assert len(frames) == FRAMES, f"there are {len(frames)} frames"
    assert len(dict(chunks).get(b"idx1", b"")) == 16 * FRAMES, "the index is missing, or not one of all frames"
    places = [ball(frame, upright) for frame in frames]
    check_motion(places)
    bounces = lows(places)
    assert (answer or "").strip() == str(len(bounces)), f"the ball bounces {len(bounces)} times, not {answer}"


def walked(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    """The chunks, those inside of lists included."""
    while at + 8 <= end:
        kind, size = struct.unpack_from("<4sI", data, at)
        assert at + 8 + size <= end, f"a chunk {kind!r} is cut off"
        if kind == b"LIST":
            yield from walked(data, at + 12, at + 8 + size)
        else:
            yield kind, data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def check_headers(chunks: dict[bytes, bytes]) -> bool:
    """Whether the first line of a frame is its uppermost."""
    delay, *_, total, _, streams, _, width, height = struct.unpack_from("<10I", chunks[b"avih"])
    assert (width, height, streams) == (WIDTH, HEIGHT, 1), f"the main header says {width} x {height}, {streams} streams"
    assert total == FRAMES, f"the main header says {total} frames"
    assert abs(delay * RATE / 1e6 - 1) < 0.01, f"the main header says {delay} microseconds a frame"
    kind, scale, rate, length = struct.unpack_from("<4s16xII4xI", chunks[b"strh"])
    assert kind == b"vids", f"the stream is {kind!r}"
    assert abs(rate / scale / RATE - 1) < 0.01, f"the stream has {rate / scale:g} frames a second"
    assert length == FRAMES, f"the stream says {length} frames"
    _, wide, high, _, bits, compression = struct.unpack_from("<IiiHHI", chunks[b"strf"])
    assert (wide, abs(high), bits, compression) == (WIDTH, HEIGHT, 24, 0), f"{wide} x {high}, {bits} bits, {compression}"
    return bool(high < 0)


def ball(frame: bytes, upright: bool) -> tuple[float, float]:
    """Where the middle of what is dark is: from the left, and from the top."""
    stride = (3 * WIDTH + 3) // 4 * 4
    assert len(frame) == stride * HEIGHT, f"a frame has {len(frame)} bytes"
    xs: list[int] = []
    ys: list[int] = []
    for number in range(HEIGHT):
        green = frame[number * stride + 1 : number * stride + 3 * WIDTH : 3]
        dark = [x for x, value in enumerate(green) if value < 128]
        xs += dark
        ys += [number if upright else HEIGHT - 1 - number] * len(dark)
    assert 20 <= len(xs) <= WIDTH * HEIGHT / 4, f"{len(xs)} dots of a frame are dark: the ball is all that should be"
    return sum(xs) / len(xs), sum(ys) / len(ys)


def check_motion(places: list[tuple[float, float]]) -> None:
    steps = [after[0] - before[0] for before, after in itertools.pairwise(places)]
    assert min(steps) > -0.01, "the ball moves to the left"
    assert places[-1][0] - places[0][0] > WIDTH / 2, "the ball does not cross the picture"
    floors = lows(places)
    assert len(floors) >= 2, f"the ball bounces {len(floors)} times"
    tops = [min(y for _, y in places[start:end]) for start, end in itertools.pairwise([0, *floors, len(places)])]
    tops = tops if floors[-1] < len(places) - 4 else tops[:-1]  # the last bounce may have no time to rise
    assert all(after > before + 1 for before, after in itertools.pairwise(tops)), f"not every bounce is lower: {tops}"
    depths = [places[at][1] for at in floors]
    assert max(depths) - min(depths) < HEIGHT / 10, "the floor is not level"


def lows(places: list[tuple[float, float]]) -> list[int]:
    """The frames in which the ball turns from falling to rising."""
    found: list[int] = []
    falling = False
    for number, ((_, before), (_, after)) in enumerate(itertools.pairwise(places)):
        if after < before - 0.2 and falling:
            found.append(number)
        if abs(after - before) > 0.2:
            falling = after > before
    return found
