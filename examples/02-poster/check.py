"""A poster that tells everything, and a picture of it that is one."""

import json
import re
import struct
import xml.etree.ElementTree as ET
import zlib
from collections import Counter
from pathlib import Path

INFO = json.loads((Path(__file__).parent / "input/event_info.json").read_text(encoding="utf-8"))
FACTS = [
    *INFO["event"].values(),
    INFO["datetime"]["date"],
    INFO["datetime"]["time"],
    INFO["location"]["venue"],
    INFO["location"]["address"],
    *(speaker["name"] for speaker in INFO["speakers"]),
    INFO["registration"]["url"],
]
SIZE = (600, 900)


def check(answer: str | None, files: Path) -> None:
    source = (files / "poster.svg").read_text(encoding="utf-8")
    check_svg(source)
    width, height, pixels = decoded((files / "poster.png").read_bytes())
    assert (width, height) == SIZE, f"the PNG is {width} x {height}"
    shares = Counter(pixels)
    assert max(shares.values()) < 0.97 * len(pixels), "the PNG is all but one colour"
    colours = (answer or "").lower().split()
    assert len(set(colours)) == len(colours) == 3, f"the answer is not three colours: {answer!r}"
    for colour in colours:
        assert re.fullmatch("#[0-9a-f]{6}", colour), f"{colour} is not a colour like #12ab9f"
        assert colour in source.lower(), f"{colour} is not in the SVG"
        share = shares[bytes.fromhex(colour[1:])] / len(pixels)
        assert share >= 0.01, f"{colour} covers {share:.2%} of the PNG"


def check_svg(source: str) -> None:
    root = ET.fromstring(source)
    assert root.tag == "{http://www.w3.org/2000/svg}svg", f"the root is {root.tag}"
    box = [float(number) for number in re.split(r"[ ,]+", root.get("viewBox", "").strip()) if number]
    assert box == [0, 0, *SIZE], f"the viewBox is {root.get('viewBox')!r}"
    texts = root.findall(".//{http://www.w3.org/2000/svg}text")
    told = " ".join(" ".join(part.strip() for text in texts for part in text.itertext()).split()).lower()
    missing = [fact for fact in FACTS if fact.lower() not in told]
    assert not missing, f"the poster does not tell {missing}"
    for text in texts:
        for name, limit in (("x", SIZE[0]), ("y", SIZE[1])):
            place = re.fullmatch(r"-?[\d.]+", text.get(name, ""))
            assert place is None or 0 <= float(place[0]) <= limit, f"{''.join(text.itertext())!r} is off the poster"


def decoded(data: bytes) -> tuple[int, int, list[bytes]]:
    """Width, height and the pixels of a PNG, as three bytes each. 8 bits, not interlaced, with or without a palette or alpha."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n", "this is no PNG"
    chunks: dict[bytes, bytes] = {}
    at = 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        body = data[at + 4 : at + 8 + length]
        assert struct.pack(">I", zlib.crc32(body)) == data[at + 8 + length : at + 12 + length], "the PNG is damaged"
        chunks[body[:4]] = chunks.get(body[:4], b"") + body[4:]
        at += 12 + length
    assert b"IEND" in chunks, "the PNG is cut off"
    width, height, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    assert (depth, interlaced) == (8, 0), "8 bits a channel were asked for, not interlaced"
    assert width * height <= 4_000_000, f"the PNG is {width} x {height}"
    raw = zlib.decompressobj().decompress(chunks[b"IDAT"], height * (1 + width * channels))
    assert len(raw) == height * (1 + width * channels), "the PNG lacks lines"
    lines = unfiltered(raw, width * channels, channels)
    pixels = [line[at : at + channels] for line in lines for at in range(0, len(line), channels)]
    if kind == 3:
        palette = chunks[b"PLTE"]
        return width, height, [palette[3 * one[0] : 3 * one[0] + 3] for one in pixels]
    return width, height, [one[:3] if channels > 2 else one[:1] * 3 for one in pixels]


def unfiltered(raw: bytes, stride: int, step: int) -> list[bytes]:
    """The lines as they were before the encoder's filters."""
    lines: list[bytes] = []
    above = bytes(stride)
    for start in range(0, len(raw), stride + 1):
        kind, line = raw[start], bytearray(raw[start + 1 : start + 1 + stride])
        assert kind <= 4, f"the PNG has a filter {kind}"
        for at in range(stride if kind else 0):
            left, up = line[at - step] if at >= step else 0, above[at]
            corner = above[at - step] if at >= step else 0
            line[at] = (line[at] + (left, up, (left + up) // 2, paeth(left, up, corner))[kind - 1]) & 255
        above = bytes(line)
        lines.append(above)
    return lines


def paeth(left: int, up: int, corner: int) -> int:
    guess = left + up - corner
    return min((left, up, corner), key=lambda one: abs(guess - one))
