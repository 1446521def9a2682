"""Five variants of a gene: what each does was worked out by hand, codon by codon."""

import csv
from pathlib import Path

EFFECTS = {
    "A": ("TGG", "TGC", "W4C", "missense"),
    "B": ("TCA", "TCG", "S10=", "synonymous"),
    "C": ("ATC", "ACC", "I17T", "missense"),
    "D": ("CGA", "TGA", "R11*", "nonsense"),
    "E": ("TTA", "TTG", "L22=", "synonymous"),
}


def check(answer: str | None, files: Path) -> None:
    with (files / "effects.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["option"]: row for row in csv.DictReader(file)}
    assert rows.keys() == EFFECTS.keys(), f"the table has the options {sorted(rows)}"
    for option, effect in EFFECTS.items():
        found = tuple(rows[option][name] for name in ("codon_before", "codon_after", "change", "effect"))
        assert found == effect, f"option {option} is {', '.join(effect)}, not {', '.join(found)}"
    assert (answer or "").strip() == "D", f"the answer is D, the only one that ends the protein early, not {answer!r}"
