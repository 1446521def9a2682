"""A map, and not just a page: every place is on it and where it belongs, and the distances are right."""

import itertools
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

DAYS = json.loads((Path(__file__).parent / "input/walk.json").read_text(encoding="utf-8"))["days"]
PLACES = {stop["name"]: stop for day in DAYS for stop in day["stops"]}


class Page(HTMLParser):
    """What the map shows, and what the page says around it."""

    def __init__(self) -> None:
        super().__init__()
        self.svgs = 0
        self.inside: list[str] = []
        self.circles: dict[str, tuple[float, float]] = {}
        self.lines: dict[str, list[tuple[float, float]]] = {}
        self.labels = ""
        self.prose = ""
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        links = [values.get("src", ""), "" if tag == "a" else values.get("href", ""), values.get("xlink:href", "")]
        self.loaded += [link for link in links if link and not link.startswith(("data:", "#"))]
        if tag == "script":
            self.loaded.append("a script")
        if tag in ("svg", "style", "text"):
            self.inside.append(tag)
        self.svgs += tag == "svg"
        if "svg" in self.inside and tag == "circle" and "data-place" in values:
            self.circles[values["data-place"]] = (float(values["cx"]), float(values["cy"]))
        if "svg" in self.inside and tag == "polyline" and "data-day" in values:
            numbers = [float(number) for number in re.findall(r"-?[\d.]+(?:e-?\d+)?", values["points"])]
            self.lines[values["data-day"]] = list(zip(numbers[::2], numbers[1::2], strict=True))

    def handle_endtag(self, tag: str) -> None:
        if tag in self.inside:
            while self.inside.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if "style" in self.inside:
            self.loaded += re.findall(r"@import[^;]*|url\(['\"]?https?:[^)]*", data)
        elif "svg" not in self.inside:
            self.prose += data
        elif "text" in self.inside:
            self.labels += data


def kilometres(one: dict[str, float], other: dict[str, float]) -> float:
    """By the angle between two vectors from the centre of the Earth, which is not how the haversine goes."""
    a, b = ([math.radians(place["lat"]), math.radians(place["lon"])] for place in (one, other))
    first, second = (
        (math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)) for lat, lon in (a, b)
    )
    return 6371 * 2 * math.asin(math.dist(first, second) / 2)


def check(answer: str | None, files: Path) -> None:
    page = Page()
    page.feed((files / "map.html").read_text(encoding="utf-8"))
    page.close()
    assert page.svgs == 1, f"there are {page.svgs} SVG images in the page"
    assert not page.loaded, f"the page loads something: {page.loaded}"
    check_map(page)
    prose = " ".join(page.prose.split())
    numbers = [float(number) for number in re.findall(r"\d+\.\d+", prose)]
    at = 0
    for day in DAYS:
        for stop in day["stops"]:
            found = prose.find(stop["name"], at)
            assert found >= 0, f"{stop['name']} is not listed, or not in its place on day {day['day']}"
            at = found + len(stop["name"])
        length = sum(itertools.starmap(kilometres, itertools.pairwise(day["stops"])))
        assert any(abs(number / length - 1) < 0.01 for number in numbers), f"day {day['day']} has {length:.1f} km"
    total = sum(kilometres(*pair) for day in DAYS for pair in itertools.pairwise(day["stops"]))
    assert re.fullmatch(r"\d+\.\d", (answer or "").strip()), f"the answer is no number with one decimal: {answer!r}"
    assert abs(float(answer or "") / total - 1) < 0.01, f"the walk has {total:.1f} km, not {answer}"


def check_map(page: Page) -> None:
    missing = PLACES.keys() - page.circles.keys()
    assert not missing, f"not on the map: {sorted(missing)}"
    unnamed = [name for name in PLACES if name not in page.labels]
    assert not unnamed, f"without a name on the map: {unnamed}"
    shrink = math.cos(math.radians(sum(place["lat"] for place in PLACES.values()) / len(PLACES)))
    true = {name: (place["lon"] * shrink, -place["lat"]) for name, place in PLACES.items()}
    drawn = {name: page.circles[name] for name in PLACES}
    (here, flat), (there, spread) = centred(true), centred(drawn)
    scale = sum(here[name][axis] * there[name][axis] for name in PLACES for axis in (0, 1)) / flat
    assert scale > 0, "the map is upside down, or a mirror image"
    size = math.sqrt(spread)
    for name in PLACES:
        off = math.dist(there[name], (here[name][0] * scale, here[name][1] * scale))
        assert off < 0.02 * size, f"{name} is not where it belongs on the map, or north-south has another scale"
    for day in DAYS:
        line = page.lines.get(str(day["day"]), [])
        assert len(line) == len(day["stops"]), f"the line of day {day['day']} has {len(line)} points"
        for point, stop in zip(line, day["stops"], strict=True):
            assert math.dist(point, drawn[stop["name"]]) < 0.01 * size, f"day {day['day']} misses {stop['name']}"


def centred(points: dict[str, tuple[float, float]]) -> tuple[dict[str, tuple[float, float]], float]:
    """The same around their middle, and the sum of the squares of the distances from it."""
    middle = [sum(point[axis] for point in points.values()) / len(points) for axis in (0, 1)]
    moved = {name: (x - middle[0], y - middle[1]) for name, (x, y) in points.items()}
    return moved, sum(x * x + y * y for x, y in moved.values())
