"""How a model might go about it: the tune in a file of its own, and two programs that write and play it. At first it plays louder
than 16 bits can hold; then it does not like a bar of its tune."""

TUNE = r'''# bars of (note, beats)
MELODY = [
    [("G4", 1), ("B4", 1), ("D5", 1)],
    [("E5", 2), ("D5", 1)],
    [("C5", 1), ("E5", 1), ("C5", 1)],
    [("B4", 2), ("A4", 1)],
    [("G4", 1), ("A4", 0.5), ("B4", 0.5), ("C5", 1)],
    [("D5", 2), ("B4", 1)],
    [("A4", 1), ("D5", 1), ("F#4", 1)],
    [("G4", 3)],
]
BASS = ["G2", "C3", "A2", "G2", "E3", "B2", "D3", "G2"]


def pitch(name):
    return "C C# D D# E F F# G G# A A# B".split().index(name[:-1]) + 12 * int(name[-1]) + 12


def melody():
    at = 0
    for bar in MELODY:
        assert sum(beats for _, beats in bar) == 3, bar
        for name, beats in bar:
            yield at, beats, pitch(name)
            at += beats


def bass():
    for number, name in enumerate(BASS):
        yield 3 * number, 3, pitch(name)
'''

WRITE = r'''import struct

from tune import MELODY, bass, melody

TICKS = 480


def number(value):
    data = [value & 127]
    while value := value >> 7:
        data.insert(0, value & 127 | 128)
    return bytes(data)


def track(events):
    """Events of (tick, bytes), in any order; the instrument comes first, and what ends before what begins."""
    body, last = b"", 0
    for tick, data in sorted(events, key=lambda e: (e[0], e[1][0] >> 4 != 0xC, e[1])):
        body += number(tick - last) + data
        last = tick
    body += b"\x00\xff\x2f\x00"
    return b"MTrk" + struct.pack(">I", len(body)) + body


def part(notes, channel, program):
    events = [(0, bytes([0xC0 | channel, program]))]
    for at, beats, pitch in notes:
        events.append((int(at * TICKS), bytes([0x90 | channel, pitch, 90])))
        events.append((int((at + beats) * TICKS), bytes([0x80 | channel, pitch, 0])))
    return track(events)


head = track([(0, b"\xff\x51\x03" + struct.pack(">I", 60_000_000 // 108)[1:]), (0, b"\xff\x58\x04\x03\x02\x18\x08")])
with open("/testbed/output/waltz.mid", "wb") as file:
    file.write(b"MThd" + struct.pack(">IHHH", 6, 1, 3, TICKS))
    file.write(head + part(melody(), 0, 73) + part(bass(), 1, 32))
names = " ".join(name for bar in MELODY for name, _ in bar)
open("/testbed/answer.txt", "w").write(names + "\n")
'''

PLAYER = r'''import math
import struct
import wave

from tune import bass, melody

RATE, BEAT = 16000, 60 / 108
samples = [0.0] * round(24 * BEAT * RATE)


def play(notes, loudness):
    for at, beats, pitch in notes:
        start, length = round(at * BEAT * RATE), round(beats * BEAT * RATE)
        step = 2 * math.pi * 440 * 2 ** ((pitch - 69) / 12) / RATE
        for n in range(min(length, len(samples) - start)):
            swell = min(1, n / 300, (length - n) / 1500)
            samples[start + n] += loudness * swell * (math.sin(step * n) + 0.25 * math.sin(2 * step * n))


play(melody(), 22000)
play(bass(), 12000)
with wave.open("/testbed/output/waltz.wav", "wb") as file:
    file.setnchannels(1)
    file.setsampwidth(2)
    file.setframerate(RATE)
    file.writeframes(struct.pack("<%dh" % len(samples), *(round(s) for s in samples)))
print("loudest", round(max(map(abs, samples))))
'''

STRANGERS = r"""python3 -c 'from tune import *
print("not in G major:", {p % 12 for _, _, p in melody()} - {pitch(name) % 12 for name in "G4 A4 B4 C4 D4 E4 F#4".split()})'"""

PLAY = [
    [
        "A small waltz: I, IV, ii, I, vi, iii, V, I.",
        ("str_replace_editor", {"command": "create", "path": "/testbed/tune.py", "file_text": TUNE}),
        ("str_replace_editor", {"command": "create", "path": "/testbed/write.py", "file_text": WRITE}),
        ("str_replace_editor", {"command": "create", "path": "/testbed/play.py", "file_text": PLAYER}),
    ],
    [("execute_bash", {"command": "python3 write.py && od -An -tx1 -N48 output/waltz.mid && python3 play.py"})],
    [
        "Both together are too loud for 16 bits.",
        (
            "str_replace_editor",
            {
                "command": "str_replace",
                "path": "/testbed/play.py",
                "old_str": "play(melody(), 22000)\nplay(bass(), 12000)",
                "new_str": "play(melody(), 14000)\nplay(bass(), 7000)",
            },
        ),
        ("execute_bash", {"command": "python3 play.py && ls -l output"}),
    ],
    [
        "The second half of bar 3 only repeats: it may climb.",
        (
            "str_replace_editor",
            {
                "command": "str_replace",
                "path": "/testbed/tune.py",
                "old_str": '("E5", 1), ("C5", 1)]',
                "new_str": '("E5", 0.5), ("F5", 0.5), ("G5", 1)]',
            },
        ),
        ("execute_bash", {"command": STRANGERS}),
    ],
    [
        "F is not in G major. Better as it was.",
        ("str_replace_editor", {"command": "undo_edit", "path": "/testbed/tune.py"}),
        ("execute_bash", {"command": "python3 write.py && python3 play.py && cat answer.txt && ls -l output"}),
    ],
    [("submit", {})],
]
