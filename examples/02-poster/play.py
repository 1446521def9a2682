"""How a model might go about it where nothing renders SVG: it draws the PNG itself, with letters of 5 by 7 dots. At first the
checksums in it have their bytes the wrong way round, which its own look at the picture finds."""

DESIGN = r'''import json

info = json.load(open("/testbed/documents/event_info.json", encoding="utf-8"))
NIGHT, MOON, HILL, PAPER = "#10183a", "#f2c14e", "#2f5d50", "#f7f3e8"
STARS = [(60, 90), (140, 40), (210, 150), (330, 60), (80, 230), (260, 250), (370, 190), (540, 260), (120, 330), (570, 60)]

#: What stands where: text, middle, line below, height of a letter, colour.
TEXTS = [
    (info["event"]["name"], 300, 390, 34, PAPER),
    (info["event"]["slogan"], 300, 430, 24, MOON),
    (info["datetime"]["date"], 300, 485, 24, PAPER),
    (info["datetime"]["time"] + " " + info["datetime"]["timezone"], 300, 517, 24, PAPER),
    (info["location"]["venue"], 300, 570, 24, PAPER),
    (info["location"]["address"], 300, 602, 18, PAPER),
]
for number, speaker in enumerate(info["speakers"]):
    TEXTS.append((speaker["name"], 300, 668 + 48 * number, 18, MOON))
    TEXTS.append((speaker["topic"], 300, 688 + 48 * number, 13, PAPER))
TEXTS.append((info["registration"]["url"], 300, 850, 17, PAPER))
TEXTS.append(("Free. Register until " + info["registration"]["deadline"], 300, 875, 13, MOON))
'''

SVG = r'''from xml.sax.saxutils import escape

from design import HILL, MOON, NIGHT, STARS, TEXTS

parts = [
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 600 900" font-family="sans-serif" text-anchor="middle">',
    f'<rect width="600" height="900" fill="{NIGHT}"/>',
    f'<circle cx="450" cy="150" r="80" fill="{MOON}"/>',
    f'<rect y="630" width="600" height="270" fill="{HILL}"/>',
]
parts += [f'<rect x="{x}" y="{y}" width="5" height="5" fill="{MOON}"/>' for x, y in STARS]
parts += [
    f'<text x="{x}" y="{y}" font-size="{size}" fill="{colour}">{escape(text)}</text>'
    for text, x, y, size, colour in TEXTS
]
with open("/testbed/output/poster.svg", "w", encoding="utf-8") as file:
    file.write("\n".join([*parts, "</svg>", ""]))
'''

PNG = r'''import struct
import zlib

from design import HILL, MOON, NIGHT, STARS, TEXTS
from letters import DOTS

W, H = 600, 900


def rgb(colour):
    return bytes.fromhex(colour[1:])


rows = [bytearray(rgb(NIGHT if y < 630 else HILL) * W) for y in range(H)]


def bar(x, y, width, height, colour):
    for row in rows[max(y, 0):y + height]:
        row[3 * x:3 * (x + width)] = rgb(colour) * width


for dy in range(-80, 81):
    half = int((80 * 80 - dy * dy) ** 0.5)
    bar(450 - half, 150 + dy, 2 * half + 1, 1, MOON)
for x, y in STARS:
    bar(x, y, 5, 5, MOON)
for text, x, y, size, colour in TEXTS:
    dot = max(1, min(size // 9, (W - 20) // (6 * len(text))))
    left = x - 3 * dot * len(text)
    for number, letter in enumerate(text.upper()):
        for line, bits in enumerate(DOTS.get(letter, DOTS["?"])):
            for column in range(5):
                if bits >> (4 - column) & 1:
                    bar(left + dot * (6 * number + column), y - dot * (7 - line), dot, dot, colour)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack("<I", zlib.crc32(kind + data))


with open("/testbed/output/poster.png", "wb") as file:
    file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", W, H, 8, 2, 0, 0, 0)))
    file.write(chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows), 9)) + chunk(b"IEND", b""))
'''

#: 35 dots a letter, as seven numbers of five bits.
LETTERS = r'''DOTS = {
    letter: [int(row, 32) for row in rows]
    for letter, rows in zip(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:-/?' ",
        """
        4ahhvhh uhhuhhu ehggghe uhhhhhu vgguggv vgguggg ehgnhhf hhhvhhh e44444e 72222ic hikokih ggggggv hrllhhh hhpljhh ehhhhhe
        uhhuggg ehhhlid uhhukih fgge11u v444444 hhhhhhe hhhhha4 hhhllla hha4ahh hha4444 v1248gv ehjlphe 4c4444e eh1248v u11e11u
        26aiv22 vgu11he 68guhhe v124888 ehhehhe ehhf12c 00000cc 0000cc8 0cc0cc0 000v000 01248g0 eh12404 4480000 0000000
        """.split(),
    )
}
'''

LOOK = r'''import struct, sys, zlib

data = open("/testbed/output/poster.png", "rb").read()
at, body = 8, b""
while at < len(data):
    length, kind = struct.unpack_from(">I4s", data, at)
    crc, = struct.unpack_from(">I", data, at + 8 + length)
    if crc != zlib.crc32(data[at + 4:at + 8 + length]):
        sys.exit("chunk %s: the checksum is wrong" % kind.decode())
    if kind == b"IDAT":
        body += data[at + 8:at + 8 + length]
    at += 12 + length
raw = zlib.decompress(body)
rows = [raw[y * 1801 + 1:(y + 1) * 1801] for y in range(900)]
for y in range(355, 395, 2):  # the title, smaller
    print("".join("#" if rows[y][3 * x] > 200 else " " for x in range(40, 560, 4)))
counts = {}
for row in rows:
    for x in range(0, 1800, 3):
        colour = row[x:x + 3]
        counts[colour] = counts.get(colour, 0) + 1
best = sorted(counts, key=counts.get)[-3:]
print(*("#" + colour.hex() for colour in best))
'''

PLAY = [
    [
        ("execute_bash", {"command": "cat documents/event_info.json"}),
        ("execute_bash", {"command": "command -v rsvg-convert || echo nothing renders SVG here"}),
    ],
    [
        "I keep the design apart, so that both pictures are the same.",
        ("str_replace_editor", {"command": "create", "path": "/testbed/design.py", "file_text": DESIGN}),
        ("str_replace_editor", {"command": "create", "path": "/testbed/svg.py", "file_text": SVG}),
        ("execute_bash", {"command": "python3 svg.py && grep -c '<text' output/poster.svg"}),
    ],
    [
        ("str_replace_editor", {"command": "create", "path": "/testbed/letters.py", "file_text": LETTERS}),
        ("str_replace_editor", {"command": "create", "path": "/testbed/png.py", "file_text": PNG}),
        ("str_replace_editor", {"command": "create", "path": "/testbed/look.py", "file_text": LOOK}),
        ("execute_bash", {"command": "python3 png.py && python3 look.py"}),
    ],
    [
        "All numbers in a PNG have their high byte first.",
        (
            "str_replace_editor",
            {"command": "str_replace", "path": "png.py", "old_str": 'struct.pack("<I"', "new_str": 'struct.pack(">I"'},
        ),
        ("execute_bash", {"command": "python3 png.py && python3 look.py | tee seen.txt"}),
    ],
    [("execute_bash", {"command": "tail -n 1 seen.txt > answer.txt; cat answer.txt; ls -l output"})],
    [("submit", {})],
]
