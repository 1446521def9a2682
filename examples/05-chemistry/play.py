"""How a model might go about it: formulas read by a program, equations balanced with fractions. At first it does not know the dot
of a hydrate."""

FORMULAS = r'''import csv
import re
from fractions import Fraction

MASSES = {row["element"]: Fraction(row["mass"]) for row in csv.DictReader(open("documents/atomic_masses.csv"))}
TOKEN = re.compile(r"([A-Z][a-z]?)(\d*)|(\()|\)(\d*)")


def atoms(formula):
    stack, at = [{}], 0
    while at < len(formula):
        match = TOKEN.match(formula, at)
        if match is None:
            raise ValueError("what is %r in %s?" % (formula[at], formula))
        at = match.end()
        if match[1]:
            group, times = {match[1]: 1}, int(match[2] or 1)
        elif match[3]:
            stack.append({})
            continue
        else:
            group, times = stack.pop(), int(match[4] or 1)
        for element, count in group.items():
            stack[-1][element] = stack[-1].get(element, 0) + count * times
    return stack[0]


def mass(formula):
    return sum(MASSES[element] * count for element, count in atoms(formula).items())


def balanced(left, right):
    """The coefficients: the one solution of a linear system, up to a factor."""
    names = left + right
    counts = [atoms(name) for name in names]
    elements = sorted(set().union(*counts))
    rows = [[Fraction(count.get(e, 0)) * (1 if n < len(left) else -1) for n, count in enumerate(counts)] for e in elements]
    pivots = []
    for column in range(len(names)):
        row = next((r for r in range(len(pivots), len(rows)) if rows[r][column]), None)
        if row is None:
            continue
        here = len(pivots)
        rows[here], rows[row] = rows[row], rows[here]
        rows[here] = [value / rows[here][column] for value in rows[here]]
        for other in range(len(rows)):
            if other != here and rows[other][column]:
                factor = rows[other][column]
                rows[other] = [a - factor * b for a, b in zip(rows[other], rows[here])]
        pivots.append(column)
    free = [column for column in range(len(names)) if column not in pivots]
    assert len(free) == 1, "%s: %d ways to balance" % (names, len(free))
    found = {free[0]: Fraction(1)}
    for row, column in enumerate(pivots):
        found[column] = -rows[row][free[0]]
    assert min(found.values()) > 0
    return {name: found[n] for n, name in enumerate(names)}
'''

YIELDS = r'''import csv

from formulas import balanced, mass

best = None
with open("documents/batches.csv", encoding="utf-8") as source, open("output/yields.csv", "w", encoding="utf-8") as target:
    table = csv.writer(target)
    table.writerow(["batch", "limiting", "solid_g"])
    for row in csv.DictReader(source):
        left, right = [row["first"], row["second"]], row["products"].split(" + ")
        parts = balanced(left, right)
        moles = {name: float(grams) / float(mass(name)) / float(parts[name])
                 for name, grams in zip(left, (row["first_g"], row["second_g"]))}
        limiting = min(moles, key=moles.get)
        grams = moles[limiting] * float(parts[row["solid"]]) * float(mass(row["solid"]))
        table.writerow([row["batch"], limiting, "%.3f" % grams])
        print(row["batch"], {name: str(part) for name, part in parts.items()}, limiting, "%.3f g" % grams)
        best = max(best or (0, ""), (grams, row["batch"]))
open("answer.txt", "w").write(best[1] + "\n")
'''

PLAY = [
    [("execute_bash", {"command": "head documents/*"})],
    [
        ("str_replace_editor", {"command": "create", "path": "formulas.py", "file_text": FORMULAS}),
        ("execute_bash", {"command": "python3 -c 'from formulas import mass; print(float(mass(\"Pb(NO3)2\")))'"}),
    ],
    [
        ("str_replace_editor", {"command": "create", "path": "yields.py", "file_text": YIELDS}),
        ("execute_bash", {"command": "python3 yields.py"}),
    ],
    [
        "A hydrate is its salt, and so many times water: each part is read on its own.",
        (
            "str_replace_editor",
            {
                "command": "str_replace",
                "path": "formulas.py",
                "old_str": "def atoms(formula):\n",
                "new_str": '''def atoms(formula):
    total = {}
    for part in formula.split("·"):
        times, rest = re.fullmatch(r"(\\d*)(.*)", part).groups()
        for element, count in plain(rest).items():
            total[element] = total.get(element, 0) + count * int(times or 1)
    return total


def plain(formula):
''',
            },
        ),
        ("execute_bash", {"command": "python3 yields.py && cat output/yields.csv answer.txt"}),
    ],
    [("submit", {})],
]
