"""What agents did in the paper, each in a sandbox of the image `debian-12` as an ordinary user: packages fetched at run time,
long documents searched, sentences found by a program, results that are no text."""

import json
import os
import random
import re
import struct
import xml.etree.ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import registries
from support.features import missing

from lisrt import ExecResult, ImageError, Sandbox
from lisrt.store.catalog import Catalog

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def debian(working_host: None) -> str:
    """The image's name."""
    try:
        Catalog().get("debian-12")
    except ImageError:
        missing("image debian-12: `lisrt image build debian-12`")
    return "debian-12"


@pytest.fixture(params=["host", "proxy", "nat"])
def box(debian: str, request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """With the host's network, by way of the proxy, and by NAT; each has the certificates that this host trusts."""
    with Sandbox(debian, network=registries.network(request.param)) as made:
        yield made


def sh(box: Sandbox, script: str, timeout: float = 220) -> str:
    """A script that must succeed; else its last words are shown."""
    result: ExecResult = box.sh(f"set -e\n{script}", timeout=timeout, merge_stderr=True)
    assert result.ok, f"{result.summary()}\n{result.stdout[-3000:]}"
    return result.stdout


def apt(box: Sandbox, *packages: str) -> None:
    sh(box, f"apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q {' '.join(packages)}")


def test_packages_whose_scripts_want_a_real_root(box: Sandbox) -> None:
    """Users are made, files given to them, services set up: all of it with one uid."""
    apt(box, "openssh-client", "dbus", "cron", "nginx-light", "postgresql-common", "man-db", "systemd")
    assert sh(box, "dpkg --audit; getent passwd postgres messagebus systemd-network | wc -l").split() == ["3"]
    assert "nginx version" in sh(box, "nginx -v")
    sh(box, "systemctl --version && man -w ls && ssh -V && dbus-daemon --version && command -v crontab")


def test_what_else_root_does(box: Sandbox) -> None:
    """useradd, su, tar as root, install, chown of names that there are."""
    assert sh(box, "useradd --create-home bob && id -u bob && su bob -c 'echo as bob'") == "1000\nas bob\n"
    sh(box, "tar -C / -cf /tmp/a.tar etc/passwd usr/bin/passwd && mkdir /tmp/a && tar -C /tmp/a -xpf /tmp/a.tar")
    sh(box, "cmp /usr/bin/passwd /tmp/a/usr/bin/passwd && install -o bob -g bob -m 600 /etc/passwd /tmp/b")
    sh(box, "chown -R bob:bob /home/bob && chgrp daemon /tmp/b && mkdir /tmp/g && cd /tmp/g && git init -q . && git status")


def test_chemistry(box: Sandbox) -> None:
    """A name becomes a structure by OPSIN, a Java library that apt brings, and RDKit, which pip brings, checks it."""
    sh(box, "pip install -q rdkit")
    apt(box, "default-jre-headless", "libopsin-java")
    names = ["2-acetoxybenzoic acid", "1,3,7-trimethylpurine-2,6-dione", "2,4,6-trinitrotoluene", "(2S)-2-aminopropanoic acid"]
    box.write("names.txt", "\n".join(names) + "\n")
    sh(box, "java -jar /usr/share/java/opsin-cli.jar -osmi names.txt smiles.txt")
    script = """
from rdkit import Chem
from rdkit.Chem.rdMolDescriptors import CalcMolFormula
for line in open("smiles.txt"):
    molecule = Chem.MolFromSmiles(line.strip())
    print(CalcMolFormula(molecule), len(Chem.FindMolChiralCenters(molecule)))
"""
    box.write("check.py", script)
    assert sh(box, "python3 check.py").splitlines() == ["C9H8O4 0", "C8H10N4O2 0", "C7H5N3O6 0", "C3H7NO2 1"]


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reports of some hundred kilobytes: those of $LISRT_TEST_DOCUMENTS, or made ones."""
    named = os.environ.get("LISRT_TEST_DOCUMENTS")
    if named:
        return Path(named)
    folder = tmp_path_factory.mktemp("documents")
    choice = random.Random(12)
    words = "market competition collaboration firm price barrier merger authority data the of and in 2023 17% €4.5".split()
    for number in range(4):
        lines = [" ".join(choice.choices(words, k=14)) for _ in range(1500)]
        lines[700] = f"Finding {number}: the merger was BLOCKED on {number + 1} March 2023."
        (folder / f"report {number}.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_long_context(box: Sandbox, documents: Path) -> None:
    """Documents too long to be read whole are searched with grep, cut with sed, and counted by a script."""
    moved = box.upload(documents, "documents")
    texts = {path.name: path.read_bytes() for path in sorted(documents.iterdir())}
    assert moved.files == len(texts) and moved.bytes == sum(map(len, texts.values())) > 200_000
    lines = sum(text.count(b"competition") > 0 for one in texts.values() for text in one.split(b"\n"))
    assert sh(box, "grep -h competition documents/* | wc -l").strip() == str(lines)
    first, text = next(iter(texts.items()))
    tenth = text.split(b"\n")[9].decode(errors="replace")
    assert box.run(["sed", "-n", "10p", f"documents/{first}"]).check().stdout == f"{tenth}\n"
    extraction = """
import collections, json, pathlib, re
found = {}
for path in sorted(pathlib.Path("documents").iterdir()):
    text = path.read_text(errors="replace")
    years = collections.Counter(re.findall(r"\\b(?:19|20)\\d\\d\\b", text))
    found[path.name] = {"words": len(text.split()), "years": years}
pathlib.Path("found.json").write_text(json.dumps(found))
"""
    box.write("extract.py", extraction)
    sh(box, "python3 extract.py")
    found = json.loads(box.read("found.json"))
    for name, raw in texts.items():
        text = raw.decode(errors="replace")
        assert found[name]["words"] == len(text.split())
        assert sum(found[name]["years"].values()) == len(re.findall(r"\b(?:19|20)\d\d\b", text))


def test_constraint_search(box: Sandbox) -> None:
    """Three sentences about rain, equally long, with no word in common: too many for a head, few for a program."""
    search = """
import itertools, random
subjects = "Rain|Grey water|A storm|Cold drizzle|One shower|Night thunder".split("|")
verbs = "covers|soaks|cools every|drums upon|washes|shakes".split("|")
objects = "old roofs|city streets|my garden|quiet fields|long roads|harbour walls".split("|")
ends = "before dawn|till noon|all week|again today|without mercy|like music".split("|")
sentences = [" ".join(parts) + "." for parts in itertools.product(subjects, verbs, objects, ends)]
random.Random(3).shuffle(sentences)
by_length = {}
for sentence in sentences:
    by_length.setdefault(len(sentence), []).append(sentence)
def words(sentence):
    return set(sentence.lower().strip(".").split())
def find():
    for same in by_length.values():
        for a in same[:60]:
            fit = [b for b in same if not words(a) & words(b)]
            for b, c in itertools.combinations(fit[:60], 2):
                if not words(b) & words(c):
                    return a, b, c
print("\\n".join(find()))
"""
    box.write("search.py", search)
    found = sh(box, "python3 search.py").splitlines()
    assert len(found) == 3 and len({len(sentence) for sentence in found}) == 1
    sets = [set(sentence.lower().strip(".").split()) for sentence in found]
    assert not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])


EVENT = {
    "event": {"name": "Sandbox Days 2026", "slogan": "A computer for everyone"},
    "datetime": {"date": "15-16 March 2026", "time": "09:00 - 18:00", "timezone": "CET"},
    "location": {"venue": "Old Harbour Hall", "address": "1 Quay Road", "latitude": 53.545, "longitude": 9.966},
    "speakers": [{"name": "Dr. Ada Example", "topic": "Layers"}, {"name": "Prof. B. Sample", "topic": "Forks & snapshots"}],
}

POSTER = """
import json, xml.sax.saxutils
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
event = json.load(open("event_info.json"))
figure = plt.figure(figsize=(6, 8), dpi=100)
figure.text(0.5, 0.85, event["event"]["name"], ha="center", size=24)
figure.text(0.5, 0.78, event["event"]["slogan"], ha="center", size=14)
for number, speaker in enumerate(event["speakers"]):
    figure.text(0.1, 0.6 - number * 0.08, f"{speaker['name']}: {speaker['topic']}", size=12)
figure.savefig("output/poster.png")
figure.savefig("output/poster.svg", metadata={"Title": event["event"]["name"]})
place = event["location"]
page = "<!DOCTYPE html><html><head><title>{}</title></head><body><svg viewBox='-180 -90 360 180'>" \\
       "<rect x='-180' y='-90' width='360' height='180' fill='#cde'/><circle cx='{}' cy='{}' r='2'/></svg></body></html>"
title = xml.sax.saxutils.escape(place["venue"])
open("output/map.html", "w").write(page.format(title, place["longitude"], -place["latitude"]))
"""

SOUND = """
import math, struct, wave
notes = [262, 294, 330, 392]
with wave.open("output/tune.wav", "wb") as out:
    out.setnchannels(1), out.setsampwidth(2), out.setframerate(22050)
    for note in notes:
        out.writeframes(b"".join(struct.pack("<h", int(9000 * math.sin(2 * math.pi * note * i / 22050))) for i in range(5512)))
track = b"".join(b"\\x00\\x90" + bytes([60 + n, 80]) + b"\\x60\\x80" + bytes([60 + n, 0]) for n in (0, 2, 4, 7))
track += b"\\x00\\xff\\x2f\\x00"
with open("output/tune.mid", "wb") as out:
    out.write(b"MThd" + struct.pack(">IHHH", 6, 0, 1, 96) + b"MTrk" + struct.pack(">I", len(track)) + track)
"""


def test_results_that_are_no_text(box: Sandbox, tmp_path: Path) -> None:
    """A poster, a tune, a film and a map, downloaded, and what they claim to be."""
    box.write("event_info.json", json.dumps(EVENT))
    box.write("poster.py", POSTER)
    box.write("sound.py", SOUND)
    sh(box, "mkdir output && python3 poster.py && python3 sound.py")
    apt(box, "--no-install-recommends ffmpeg")
    film = "-loop 1 -i output/poster.png -i output/tune.wav -t 1 -vf scale=320:-2 -pix_fmt yuv420p output/film.mp4"
    sh(box, f"ffmpeg -v error {film}")
    assert "Video: h264" in sh(box, "ffmpeg -hide_banner -i output/film.mp4 2>&1 || true")
    box.download("output", tmp_path / "output")
    read = {path.name: path.read_bytes() for path in (tmp_path / "output").iterdir()}
    assert read["poster.png"].startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", read["poster.png"][16:24]) == (600, 800)
    svg = xml.etree.ElementTree.fromstring(read["poster.svg"])
    assert svg.tag == "{http://www.w3.org/2000/svg}svg" and b"Sandbox Days 2026" in read["poster.svg"]
    assert read["tune.wav"][:4] == b"RIFF" and read["tune.wav"][8:12] == b"WAVE" and len(read["tune.wav"]) == 44 + 4 * 5512 * 2
    assert read["tune.mid"].startswith(b"MThd\0\0\0\6") and read["tune.mid"].endswith(b"\xff\x2f\0")
    assert read["film.mp4"][4:8] == b"ftyp" and len(read["film.mp4"]) > 1000
    assert read["map.html"].startswith(b"<!DOCTYPE html>") and b"<title>Old Harbour Hall</title>" in read["map.html"]


def test_apt_in_an_image_that_does_not_know_of_us(box: Sandbox) -> None:
    """As images of registries are: nothing in them tells apt to stay root, and it works all the same."""
    sh(box, "rm /etc/apt/apt.conf.d/01lisrt")
    box.snapshot()
    apt(box, "hello")
    assert sh(box, "hello") == "Hello, world!\n"
    assert not any("00lisrt" in change.path for change in box.diff())
