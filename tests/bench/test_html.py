"""The page: well-formed, whole, of itself, and safe whatever the names in it are."""

import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lisrt.bench import Recorder, document, load, merge, page
from lisrt.bench.charts import looks
from lisrt.bench.numbers import duration, percent, significant, size, times
from lisrt.bench.svg import Scale, linear, linear_ticks, log_ticks, logarithmic, spread

from .runs import MACHINE, real, recorder, run
from .test_report import OLD

VOID = {"meta", "br", "hr", "img", "link", "input"}
HOSTILE = '</title><script>alert("1")</script>&amp; \'"><svg onload=x>%FIGURE%{nbsp}'


class Balanced(HTMLParser):
    """Fails where an element is closed that is not the last one opened; keeps what there is."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.seen: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> within {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text.append(data)


def parsed(text: str) -> Balanced:
    """The page, checked: everything closed, nothing from elsewhere, no script, no id twice."""
    found = Balanced()
    found.feed(text)
    found.close()
    assert not found.open
    assert not {"script", "link", "img", "iframe", "object", "use", "image"} & set(found.seen)
    assert not re.search(r"https?:|@import|url\(|javascript:", text, re.IGNORECASE)
    assert not [name for _, name, _ in found.attributes if name in ("src", "href", "xlink:href") or name.startswith("on")]
    ids = [value for _, name, value in found.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    for _, name, value in found.attributes:
        if name == "aria-labelledby":
            assert set((value or "").split()) <= set(ids)
        if name in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height", "d", "viewbox", "points"):
            assert not re.search(r"nan|inf|e[-+]?\d", value or ""), (name, value)
    return found


def words(found: Balanced) -> str:
    return " ".join(found.text).replace("\N{NARROW NO-BREAK SPACE}", " ")


def test_a_page_of_many_backends() -> None:
    """Every row, every drawing, what did not run and why, how to repeat it."""
    report = run("native", "floor", "bwrap", "docker", "podman", failing="docker")
    text = page(report)
    found = parsed(text)
    said = words(found)
    body = text[text.index("All figures") : text.index("Other figures")]
    rows = [row for row in report["rows"] if row["unit"] == "ms"]
    assert body.count('scope="row"') == len(rows)
    for row in rows:
        whole, _, rest = significant(row["p50"]).partition(".")
        assert f'<td class="num">{whole}<span class="f3">{"." if rest else ""}{rest}</span>' in body
    for heading in ("Against the targets", "Against the floor", "Against docker", "Latency", "Scaling", "Memory", "The machine"):
        assert heading in found.text, heading
    for wanted in ("no runsc in PATH", "no more of them", "3 failed", "98.8 %", "--backend native,floor", "loopback only"):
        assert wanted in said, wanted
    assert found.seen.count("svg") > 10
    assert said.count("Figure ") == len(re.findall(r"Figure \d", said)) == len(set(re.findall(r"Figure \d", said)))


def test_a_page_of_a_run_as_it_is() -> None:
    """lisrt with as many as there may be, others at several numbers of them; the bare host; findings in words; a soak."""
    report = real("native", "floor", "docker")
    text = page(report)
    found = parsed(text)
    said = words(found)
    for heading in ("Against the bare host", "Scaling", "As time went by", "Also found", "Against docker"):
        assert heading in found.text, heading
    assert "native: slab is flat" in said and "no mirror answers" in said and "install (workload)" in said
    assert "64 at once" in said and "256 at once" in said
    assert "curve broken s0" in text and "curve s1" in text  # lisrt's only rate beside Docker's curve
    assert "slab, MiB" in said and "this process" in said
    rates = [one for one in report["intervals"] if one["of"] == "rate"]
    assert rates and not [one for one in rates if one["backend"] == "floor"]  # nobody timed its completions
    assert "others ahead" not in said.lower() and "host in" not in said


def test_what_may_be_chance_is_nobodys_lead() -> None:
    """A rival is drawn as ahead where the whole interval says so: with the same times, no."""
    ours, theirs = recorder("native", at=()), recorder("bwrap", at=())
    made = document([ours, theirs], MACHINE, {}, 1, {})
    body = page(made)
    assert "Others are ahead" in body and "Orange squares" in body  # its exec, in these runs
    for one in made["ratios"]:
        one["low"], one["high"] = 0.5 * one["value"], max(1.5, one["value"])
    body = page(made)
    assert "is ahead in any row" in body and "Orange squares" not in body


def test_drawings_say_what_they_show() -> None:
    """To those who do not see them: a role, a title, and the figures in words. Tables have headings of both kinds."""
    text = page(run("native", "floor", "docker"))
    found = parsed(text)
    plots = text.count('<svg class="plot"')
    assert plots > 6
    assert text.count('role="img"') == text.count("<title id=") == text.count("<desc id=") == plots
    assert not re.search(r"<(title|desc) id=[^>]*></", text)
    assert [name for tag, name, _ in found.attributes if tag == "th"].count("scope") == found.seen.count("th")
    assert ("html", "lang", "en") in found.attributes


def test_names_are_text() -> None:
    """Whatever a backend, a workload, a reason or a message is called."""
    one = Recorder(HOSTILE)
    for number in range(20):
        one.sample(HOSTILE, HOSTILE, 0.001 * (number + 1), number)
        one.sample(f"{HOSTILE}, 4", HOSTILE, 0.001 * (number + 1), number)
        one.sample(f"{HOSTILE}, 8", HOSTILE, 0.001 * (number + 1), number)
    one.took(f"{HOSTILE}, 4", HOSTILE, 2.0)
    one.took(f"{HOSTILE}, 8", HOSTILE, 2.0)
    one.failed(HOSTILE, HOSTILE, HOSTILE)
    one.value(HOSTILE, f"memory {HOSTILE}", "KiB", 3, 5.0)
    one.value(HOSTILE, HOSTILE, HOSTILE, 3, 5.0)
    machine = {HOSTILE: HOSTILE, "cpu": HOSTILE, "guarantees": {HOSTILE: HOSTILE}}
    backends = {HOSTILE: {HOSTILE: HOSTILE}, f"{HOSTILE}2": HOSTILE}
    made = document([one, recorder("floor"), recorder("docker")], machine, {}, 1, backends, order=HOSTILE, command=HOSTILE)
    text = page(made)
    found = parsed(text)
    assert "alert" in text and "<script" not in text
    assert "onload" not in {name for _, name, _ in found.attributes}
    assert " ".join(found.text).count(HOSTILE) > 12


@pytest.mark.parametrize("names", [("native",), ("floor",), ("docker",), ("native", "floor")])
def test_a_page_of_few_backends(names: tuple[str, ...]) -> None:
    """Each run has a page, with what there is."""
    found = parsed(page(run(*names)))
    assert "All figures" in found.text
    assert ("Against the floor" in found.text) == (len(names) > 1)


def test_pages_of_next_to_nothing() -> None:
    """No samples, failures alone, one sample, a memory that shrank: a page nevertheless."""
    broken, short = Recorder("native"), Recorder("floor")
    broken.failed("w", "create", "why")
    short.sample("w", "create", 0.0)
    broken.value("w", "memory per idle sandbox", "KiB", 1, -3.5)
    broken.value("w", "nothing", "KiB", 1, None)
    for recorders in ([], [broken], [short], [broken, short]):
        parsed(page(document(recorders, {}, {}, 1, {})))
    said = words(parsed(page(document([broken, short], {}, {}, 1, {"x": "not here"}))))
    assert "1 of 1 (100 %) failed" in said and "not here" in said and "−3.50" in said


def test_a_page_of_several_runs() -> None:
    """The floor's run and Docker's, on one page, with both commands; and one of an older version, which has no samples."""
    first, second = run("native", "floor"), run("native", "docker", seed=8)
    found = parsed(page([first, second]))
    assert "Against the floor" in found.text and "Against docker" in found.text
    said = words(found)
    assert "--seed 7" in said and "--seed 8" in said and "†" in said
    assert page([first, second]) == page(merge([first, second]))
    assert "Machine 2" in parsed(page([first, load(OLD)])).text
    assert "†" not in words(parsed(page(first)))


def test_dark_and_printed() -> None:
    """Both are styled; print comes last, so that it is light on a screen that is dark."""
    text = page(run("native"))
    assert text.index("prefers-color-scheme: dark") < text.index("@media print")
    assert "break-inside: avoid" in text and "@page" in text


# Parts of drawings


@given(st.lists(st.floats(0, 300), max_size=12), st.floats(1, 20))
def test_labels_keep_apart(wanted: list[float], gap: float) -> None:
    """In their order, within the drawing, and where there is room so far apart."""
    places = spread(wanted, gap, 0, 300)
    ordered = sorted(zip(wanted, places, strict=True))
    assert all(-1e-6 <= place <= 300 + 1e-6 for place in places)
    assert all(after[1] - before[1] >= gap - 1e-6 for before, after in pairwise(sorted(ordered, key=lambda pair: pair[1])))
    if all(after - before >= gap for before, after in pairwise(sorted(wanted))):
        assert all(abs(was - place) < 1e-6 for was, place in zip(wanted, places, strict=True))


def test_labels_that_have_no_room_share_it() -> None:
    """Evenly, from end to end."""
    assert spread([5, 5, 5], 100, 0, 10) == pytest.approx([0, 5, 10])
    assert spread([5, 5], 4, 0, 10) == pytest.approx([3, 7])
    assert spread([], 4, 0, 10) == []


@given(st.floats(1e-6, 1e6), st.floats(1.01, 1e9))
def test_ticks_lie_within_the_axis(low: float, times_higher: float) -> None:
    """Round numbers, few enough to be read, and at least one."""
    high = low * times_higher
    log, even = log_ticks(low, high), linear_ticks(low, high)
    assert all(low * (1 - 1e-6) <= tick <= high * (1 + 1e-6) for tick in [*log, *even])
    assert len(log) <= 7 and 2 <= len(even) <= 11
    digits = {f"{tick:.0e}"[0] for tick in log}
    assert digits <= {"1", "2", "3", "5"}


@given(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=30))
def test_scales_hold_all_values(values: list[float]) -> None:
    """Between their ends, in the values' order."""
    for scale in (logarithmic(values, 10, 200), linear(values, 10, 200)):
        places = [scale(value) for value in sorted(values)]
        assert places == sorted(places) and places[0] >= 10 - 1e-6 and places[-1] <= 200 + 1e-6
        assert scale.major(), (scale.low, scale.high)


def test_written_ticks_do_not_touch() -> None:
    """Where words are wide fewer are written."""
    scale = Scale(0.1, 1000, 0, 120, log=True)
    assert len(scale.major(duration)) < len(scale.major(lambda value: "1"))


def test_backends_can_be_told_apart() -> None:
    """By colour, and by shape without it, as many as there are shapes; those that are known look the same in every report."""
    known = looks(["native", "floor", "docker", "bwrap", "podman"])
    assert len({one.shape for one in known.values()}) == 5 and len({one.style for one in known.values()}) == 5
    assert looks(["docker"])["docker"] == known["docker"]
    many = looks(["native", "floor", *(f"rival {number}" for number in range(6))])
    assert len({one.style for one in many.values()}) == 8


# Figures in words


def test_numbers_have_the_digits_that_they_are_worth() -> None:
    """Three that count, and whole numbers whole; units that people say."""
    cases = {0.02444: "0.0244", 0.25: "0.250", 1.523: "1.52", 9.996: "10.0", 164.2: "164", 1643.4: "1,643", 0: "0", -2.5: "−2.50"}
    assert {value: significant(value) for value in cases} == cases
    said = [duration(value).replace("\N{NARROW NO-BREAK SPACE}", " ") for value in (0.2234, 0.9999, 1.5, 999.6, 2900, 744_000)]
    assert said == ["223 µs", "1.00 ms", "1.50 ms", "1.00 s", "2.90 s", "12.4 min"]
    assert [size(value, "KiB").split("\N{NARROW NO-BREAK SPACE}")[1] for value in (230, 5800, 5e6)] == ["KiB", "MiB", "GiB"]
    assert [times(value) for value in (0.8123, 1.4, 9.999, 105.2, 1310.4)] == ["0.81×", "1.40×", "10×", "105×", "1,310×"]


def test_nearly_all_is_not_all() -> None:
    """One failure in ten thousand does not round away."""
    said = [percent(share).replace("\N{NARROW NO-BREAK SPACE}", " ") for share in (1, 0, 9999 / 10_000, 0.988, 1 / 100_000)]
    assert said == ["100 %", "0 %", "99.99 %", "98.8 %", "0.001 %"]


def test_the_machine_is_on_the_page() -> None:
    """Its facts in words, none as Python would print them."""
    report = run("native")
    report["machine"] = MACHINE | {"commit": None, "privileged": False, "swap_bytes": 0, "mitigation_parameters": ["nopti"]}
    said = words(parsed(page(report)))
    assert "Some Processor" in said and "16.0 GiB" in said and "nopti" in said
    assert "None" not in parsed(page(report)).text and "False" not in said
