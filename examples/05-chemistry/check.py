"""Five precipitations: the yields by hand-balanced equations and molar masses from the literature, and
the letter that follows."""

import csv
from pathlib import Path
from typing import NamedTuple


class Batch(NamedTuple):
    """Grams, molar mass and formula units per unit of the solid of both reactants, and the solid's molar mass."""

    first: tuple[str, float, float, int]
    second: tuple[str, float, float, int]
    solid: float

    def outcome(self) -> tuple[str, float]:
        """The limiting reactant, and grams of the solid."""
        units, name = min((grams / mass / count, name) for name, grams, mass, count in (self.first, self.second))
        return name, units * self.solid


BATCHES = {
    "A": Batch(("BaCl2·2H2O", 12.2, 244.26, 1), ("Na2SO4", 9.0, 142.04, 1), 233.38),
    "B": Batch(("AgNO3", 14.0, 169.87, 2), ("K2CrO4", 7.0, 194.19, 1), 331.73),
    "C": Batch(("Pb(NO3)2", 9.5, 331.2, 1), ("KI", 8.8, 166.00, 2), 461.0),
    "D": Batch(("FeCl3·6H2O", 27.0, 270.30, 1), ("NaOH", 13.5, 39.997, 3), 106.87),
    "E": Batch(("CuSO4·5H2O", 30.0, 249.68, 1), ("NaOH", 9.0, 39.997, 2), 97.56),
}


def check(answer: str | None, files: Path) -> None:
    with (files / "yields.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["batch"]: row for row in csv.DictReader(file)}
    assert rows.keys() == BATCHES.keys(), f"the table has the batches {sorted(rows)}"
    for name, batch in BATCHES.items():
        limiting, grams = batch.outcome()
        assert rows[name]["limiting"].strip() == limiting, f"{limiting} limits batch {name}, not {rows[name]['limiting']}"
        found = float(rows[name]["solid_g"])
        assert abs(found / grams - 1) < 0.002, f"batch {name} gives {grams:.2f} g, not {found}"
    best = max(BATCHES, key=lambda name: BATCHES[name].outcome()[1])
    assert (answer or "").strip() == best, f"the answer is {best}, not {answer!r}"
