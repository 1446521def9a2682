"""Writes the four reports of this example: `python make_input.py` puts them into input/ beside it. They are the same every time.

Invented, and dull as such reports are. What the task asks for stands in a few places of each, among much that looks like it.
"""

import random
import sys
import textwrap
from pathlib import Path
from typing import TypedDict

NAMES = ("Aldermoor 2031.txt", "brackwell_waterworks(2031).en.txt", "CAWSEY-report.txt", "dunmere.txt")
SIZE = 9_500  # characters a month, or a little more

MONTHS = "January February March April May June July August September October November December".split()
STREETS = """\
Abbot's Walk|Anchor Street|Bell Yard|Candlemaker Row|Chapel Rise|Cooper Street|Dyer's Lane|Eastgate|Falcon Street|Fuller Road
Glover's Hill|Half Moon Lane|Harbour Parade|Hatter Street|Ironmonger Row|Kiln Lane|Lantern Street|Lower Mill Road|Mason's Rise
Nettle Lane|Old Tannery|Orchard Row|Pinfold|Quarry Road|Ropewalk|Saddler Street|Sandpit Lane|Thatcher's End|Upper Mill Road
Vinegar Yard|Wainwright Street|Weaver's Green""".replace("\n", "|").split("|")
PEOPLE = "A. Birch|B. Quill|C. Marrow|D. Fenn|E. Larkin|F. Osgood|G. Tull|H. Wren|I. Pascoe|J. Stroud|K. Yarrow".split("|")

FOUND = (
    "On {day} {month} {person} found a leak in the main below {street}: {litres} litres an hour.",
    "The main below {street} was losing {litres} litres an hour when {person} listened to it on {day} {month}.",
    "A leak of {litres} litres an hour, found on {day} {month} in the main below {street}, was closed by {person}.",
)
LOOKALIKES = (
    "A leak that {person} suspected in the main below {street} on {day} {month} was not there: the meter was at fault.",
    "A leak of {litres} litres an hour at a house in {street} was its owner's to close, as {person} told them on {day} {month}.",
    "The main below {street} was flushed on {day} {month} for {few} minutes, which took {litres} litres.",
)
FILLER = (
    "Samples taken in {street} on {day} {month} were within all limits.",
    "{person} read the meters of {street} and of {other}, {litres} in number, in {few} days.",
    "Pump {few} ran for {litres} hours this month and was greased twice.",
    "Complaints from {street}: {few}, most of them about the noise of the works in {other}.",
    "The reservoir stood at {few} feet on {day} {month}, which is usual for {month}.",
    "{person} and {mate} exchanged {few} valves in {other} and left the old ones in the yard.",
    "A contractor dug in {other} on {day} {month} without asking, and hit nothing.",
    "The council asked on {day} {month} what the works in {street} would cost; {person} wrote back.",
    "Chlorine was dosed as in the month before; {litres} grams were used on {day} {month}.",
    "The van was in the garage for {few} days, and {mate} went about by bicycle.",
)


class Facts(TypedDict):
    """What the task asks of a report."""

    street: str
    laid: int
    leaks: int
    litres_per_hour: int


class Report:
    """One of the four."""

    def __init__(self, number: int) -> None:
        self._random = random.Random(2031 + number).random  # all that is the same in every Python
        self._number = number
        self.oldest = self._one(STREETS)
        self._others = [street for street in STREETS if street != self.oldest]
        self._laid = 1871 + 7 * number
        self._corrected = number % 2 == 1
        self._leaks: list[int] = []
        chapters = [self._month(month) for month in MONTHS]
        paragraphs = [self._title(), self._opening(), *(one for chapter in chapters for one in chapter)]
        self.text = "\n\n".join(textwrap.fill(paragraph, 78) for paragraph in paragraphs) + "\n"

    @property
    def facts(self) -> Facts:
        laid = self._laid + (16 if self._corrected else 0)
        return Facts(street=self.oldest, laid=laid, leaks=len(self._leaks), litres_per_hour=sum(self._leaks))

    def _one(self, of: "list[str] | tuple[str, ...]") -> str:
        return of[int(self._random() * len(of))]

    def _fill(self, template: str, **known: object) -> str:
        values = {
            "street": self._one(STREETS),
            "other": self._one(STREETS),
            "person": self._one(PEOPLE),
            "mate": self._one(PEOPLE),
            "month": "",
            "day": 1 + int(self._random() * 28),
            "few": 2 + int(self._random() * 18),
            "litres": 20 + 5 * int(self._random() * 160),
            **known,
        }
        return template.format(**values)

    def _title(self) -> str:
        place = NAMES[self._number].replace("-", " ").replace("_", " ").replace(".", " ").split()[0].title()
        return f"THE WATERWORKS OF {place.upper()}: REPORT FOR THE YEAR 2031"

    def _opening(self) -> str:
        gone = self._one(self._others)
        return (
            f"The network has {180 + 20 * self._number} kilometres of mains. The oldest main of all, laid in 1863 below {gone}, "
            f"was taken out of service in 2029. Of those in service the oldest is the one below {self.oldest}, laid in "
            f"{self._laid}. What was done in the year is told month by month."
        )

    def _month(self, month: str) -> list[str]:
        found = [month.upper()]
        if self._corrected and month == "October":
            found.append(
                f"Correction to page 1: the main below {self.oldest} was laid in {self._laid + 16}. The year given there is "
                "that of the main before it."
            )
        while sum(map(len, found)) < SIZE:
            found.append(" ".join(self._sentence(month) for _ in range(2 + int(self._random() * 4))))
        for _ in range(int(self._random() * (2 + self._number / 2))):
            litres = 20 + 5 * int(self._random() * 160)
            self._leaks.append(litres)
            leak = self._fill(self._one(FOUND), month=month, street=self.oldest, litres=litres)
            place = 1 + int(self._random() * len(found))
            found.insert(place, f"{self._sentence(month)} {leak} {self._sentence(month)}")
        return found

    def _sentence(self, month: str) -> str:
        kind = self._random()
        if kind < 0.08:  # of other mains: those of the oldest are counted
            return self._fill(self._one(FOUND), month=month, street=self._one(self._others))
        return self._fill(self._one(LOOKALIKES if kind < 0.2 else FILLER), month=month)


def reports() -> dict[str, Report]:
    """The four by their names."""
    return {name: Report(number) for number, name in enumerate(NAMES)}


def main() -> None:
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "input"
    directory.mkdir(parents=True, exist_ok=True)
    for name, report in reports().items():
        (directory / name).write_text(report.text, encoding="utf-8")
        print(f"{directory / name}: {len(report.text)} characters")


if __name__ == "__main__":
    main()
