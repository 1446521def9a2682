"""A waltz: by the events of the MIDI file, and the recording by whether the melody can be heard in it."""

import itertools
import math
import struct
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SCALE = {7, 9, 11, 0, 2, 4, 6}  # G major, C being 0
NAMES = ["C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B"]
BARS, BEATS, TEMPO = 8, 3, 108
SECONDS = BARS * BEATS * 60 / TEMPO


class Note(NamedTuple):
    start: float
    end: float
    pitch: int


def check(answer: str | None, files: Path) -> None:
    melody, bass = check_midi((files / "waltz.mid").read_bytes())
    check_notes(melody, bass)
    names = [f"{NAMES[note.pitch % 12]}{note.pitch // 12 - 1}" for note in melody]
    assert (answer or "").split() == names, f"the melody is {' '.join(names)}"
    check_recording(files / "waltz.wav", melody)


def check_midi(data: bytes) -> tuple[list[Note], list[Note]]:
    """The melody and the bass, their times in beats."""
    chunks = []
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from(">4sI", data, at)
        assert at + 8 + size <= len(data), "the MIDI file is cut off"
        chunks.append((kind, data[at + 8 : at + 8 + size]))
        at += 8 + size
    assert chunks and chunks[0][0] == b"MThd", "this is no MIDI file"
    form, count, division = struct.unpack(">HHH", chunks[0][1][:6])
    tracks = [body for kind, body in chunks if kind == b"MTrk"]
    assert form == 1, f"the format is {form}"
    assert count == len(tracks), f"{count} tracks are announced, and {len(tracks)} there"
    assert division < 0x8000, "ticks of a quarter note were asked for"
    read = [list(events(track)) for track in tracks]
    metas = {kind: body for track in read for _, status, kind, body in track if status == 0xFF}
    beat = int.from_bytes(metas.get(0x51, b""), "big")
    assert beat and abs(60e6 / beat / TEMPO - 1) < 0.01, f"a beat has {beat} microseconds"
    assert metas.get(0x58, b"")[:2] == b"\x03\x02", "the metre is not 3/4"
    parts = [part for part in (notes(track, division) for track in read) if part]
    assert len(parts) == 2, f"{len(parts)} tracks have notes"
    bass, melody = sorted(parts, key=lambda part: sum(note.pitch for note in part) / len(part))
    return melody, bass


def events(track: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Tick, status, first byte and the rest of each event."""
    at = tick = status = 0

    def number() -> int:
        nonlocal at
        value = 0
        while True:
            value = value << 7 | track[at] & 0x7F
            at += 1
            if track[at - 1] < 0x80:
                return value

    while at < len(track):
        tick += number()
        if track[at] >= 0x80:
            status = track[at]
            at += 1
        if status in (0xFF, 0xF0, 0xF7):
            kind = 0
            if status == 0xFF:
                kind, at = track[at], at + 1
            size = number()
            yield tick, status, kind, track[at : at + size]
            at += size
            if kind == 0x2F:
                return
        else:
            size = 1 if status >> 4 in (0xC, 0xD) else 2
            yield tick, status, track[at], track[at + 1 : at + size]
            at += size
    raise AssertionError("a track has no end")


def notes(track: list[tuple[int, int, int, bytes]], division: int) -> list[Note]:
    found = []
    sounding: dict[int, int] = {}
    for tick, status, pitch, rest in track:
        if status >> 4 == 9 and rest[0]:
            assert pitch not in sounding, f"note {pitch} is struck while it sounds"
            sounding[pitch] = tick
        elif status >> 4 in (8, 9):
            found.append(Note(sounding.pop(pitch) / division, tick / division, pitch))
    assert not sounding, f"these notes never end: {sorted(sounding)}"
    return sorted(found)


def check_notes(melody: list[Note], bass: list[Note]) -> None:
    strange = sorted({NAMES[note.pitch % 12] for note in melody + bass if note.pitch % 12 not in SCALE})
    assert not strange, f"not in G major: {strange}"
    end = max(note.end for note in melody + bass)
    assert (BARS - 1) * BEATS < end <= BARS * BEATS, f"the music ends after {end / BEATS:.2f} bars"
    assert {int(note.start // BEATS) for note in melody} == set(range(BARS)), "a bar lacks a note of the melody"
    for before, after in itertools.pairwise(melody):
        assert before.end <= after.start, f"two notes of the melody sound at once at beat {after.start:g}"
    assert melody[0].pitch % 12 == melody[-1].pitch % 12 == 7, "the melody does not begin and end on G"
    assert len({note.pitch for note in melody}) >= 5, "the melody has fewer than five different notes"
    downbeats = {note.start for note in bass}
    highest, lowest = max(note.pitch for note in bass), min(note.pitch for note in melody)
    assert highest < lowest, "the bass goes above the melody"
    silent = [bar + 1 for bar in range(BARS) if bar * BEATS not in downbeats]
    assert not silent, f"the bass is missing on the first beat of bars {silent}"


def check_recording(path: Path, melody: list[Note]) -> None:
    with wave.open(str(path), "rb") as file:
        kind = (file.getnchannels(), file.getsampwidth())
        assert kind == (1, 2), f"the recording has {kind[0]} channels of {kind[1]} bytes"
        rate, count = file.getframerate(), file.getnframes()
        assert 8000 <= rate <= 48000, f"{rate} samples a second"
        assert abs(count / rate - SECONDS) < 0.5, f"the recording has {count / rate:.2f} s, not {SECONDS:.2f}"
        samples = struct.unpack(f"<{count}h", file.readframes(count))
    assert max(map(abs, samples)) > 2000, "there is nothing to hear"
    heard = sum(clearest(note, samples, rate) for note in melody)
    assert heard >= 0.9 * len(melody), f"only {heard} of the melody's {len(melody)} notes can be heard"


def clearest(note: Note, samples: tuple[int, ...], rate: int) -> bool:
    """Whether in the middle of it its pitch sounds louder than the ones around it."""
    start, end = (int(beat * 60 / TEMPO * rate) for beat in note[:2])
    length = min(end - start, rate // 5)
    part = samples[(start + end - length) // 2 :][:length]
    powers = {pitch: power(part, 440 * 2 ** ((pitch - 69) / 12), rate) for pitch in range(note.pitch - 2, note.pitch + 3)}
    return max(powers, key=powers.__getitem__) == note.pitch


def power(part: tuple[int, ...], frequency: float, rate: int) -> float:
    """How loud a frequency is, by Goertzel, under a window of Hann."""
    turn = 2 * math.cos(2 * math.pi * frequency / rate)
    one = two = 0.0
    for number, value in enumerate(part):
        hann = 0.5 - 0.5 * math.cos(2 * math.pi * number / len(part))
        one, two = hann * value + turn * one - two, one
    return one * one + two * two - turn * one * two
