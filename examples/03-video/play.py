"""How a model might go about it: it renders in the background, and asks itself what the file holds. At first the number of frames
is missing in one header."""

RENDER = r'''import math
import struct

W, H, RATE, FRAMES, R = 160, 120, 15, 60, 9
FLOOR, G, KEPT = H - 10, 250.0, 0.8  # dots, dots a second squared, what a bounce leaves of the speed


def heights():
    y, v, dt = 14.0, 0.0, 1 / (RATE * 50)
    for number in range(FRAMES * 50):
        if number % 50 == 0:
            yield y
        v += G * dt
        y += v * dt
        if y > FLOOR - R and v > 0:
            y, v = FLOOR - R, -KEPT * v


def frame(number, height):
    cx, cy = 14 + (W - 28) * number / (FRAMES - 1), height
    lines = []
    for y in range(H):
        line = bytearray(b"\xf0\xf0\xf0" * W if y <= FLOOR else b"\xa0\xc0\xb0" * W)
        if abs(y - cy) < R:
            half = math.sqrt(R * R - (y - cy) ** 2)
            left, right = max(0, round(cx - half)), min(W, round(cx + half) + 1)
            line[3 * left:3 * right] = b"\x40\x20\x30" * (right - left)
        lines.append(bytes(line))
    return b"".join(reversed(lines))  # a bitmap begins at the bottom


def chunk(kind, data):
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def listed(kind, *parts):
    return chunk(b"LIST", kind + b"".join(parts))


size = 3 * W * H
avih = struct.pack("<14I", round(1e6 / RATE), size * RATE, 0, 0x10, FRAMES, 0, 1, size, W, H, 0, 0, 0, 0)
strh = struct.pack("<4s4sIHHIIIIIIiIhhhh", b"vids", b"DIB ", 0, 0, 0, 0, 1, RATE, 0, 0, size, -1, 0, 0, 0, W, H)
strf = struct.pack("<IiiHHIIiiII", 40, W, H, 1, 24, 0, size, 0, 0, 0, 0)
header = listed(b"hdrl", chunk(b"avih", avih), listed(b"strl", chunk(b"strh", strh), chunk(b"strf", strf)))
frames = [chunk(b"00db", frame(number, height)) for number, height in enumerate(heights())]
index = b"".join(struct.pack("<4sIII", b"00db", 0x10, 4 + n * (size + 8), size) for n in range(FRAMES))
body = b"AVI " + header + listed(b"movi", *frames) + chunk(b"idx1", index)
with open("/testbed/output/bounce.avi", "wb") as file:
    file.write(b"RIFF" + struct.pack("<I", len(body)) + body)
print("done", len(body))
'''

PROBE = r'''import struct

data = open("/testbed/output/bounce.avi", "rb").read()
at = data.index(b"strh") + 8
rate, scale, length = (struct.unpack_from("<I", data, at + o)[0] for o in (24, 20, 32))
frames = data.count(b"00db" + struct.pack("<I", 57600))
print(rate / scale, "frames a second,", frames, "frames")
assert length == frames, "the stream's header says %d frames" % length
ys, start = [], data.index(b"movi") + 4
for n in range(frames):
    body = data[start + 8 + n * 57608:][:57600]
    rows = [y for y in range(120) if min(body[y * 480 + 1:(y + 1) * 480:3]) < 100]
    ys.append(sum(rows) / len(rows))  # counted from the bottom
print(*(round(y) for y in ys))
ways = [b > a for a, b in zip(ys, ys[1:]) if a != b]
turns = [rises for falls, rises in zip(ways, ways[1:]) if rises and not falls]
print("bounces:", len(turns))
open("/testbed/answer.txt", "w").write(str(len(turns)))
'''

PLAY = [
    [
        ("execute_bash", {"command": "python3 --version; command -v ffmpeg || echo 'no ffmpeg: AVI by hand it is'"}),
        ("str_replace_editor", {"command": "create", "path": "render.py", "file_text": RENDER}),
    ],
    [
        ("execute_bash", {"command": "setsid python3 render.py > render.log 2>&1 & echo $! > pid"}),
        ("str_replace_editor", {"command": "create", "path": "probe.py", "file_text": PROBE}),
    ],
    [
        (
            "execute_bash",
            {"command": 'tail --pid="$(cat pid)" -f /dev/null; cat render.log && python3 probe.py', "timeout": 90},
        ),
    ],
    [
        "The length is the field before the size of the buffer.",
        (
            "str_replace_editor",
            {
                "command": "str_replace",
                "path": "render.py",
                "old_str": "RATE, 0, 0, size, -1",
                "new_str": "RATE, 0, FRAMES, size, -1",
            },
        ),
        ("execute_bash", {"command": "python3 render.py && python3 probe.py && cat answer.txt"}),
    ],
    [("submit", {})],
]
