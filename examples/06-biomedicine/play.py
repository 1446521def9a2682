"""How a model might go about it. At first it counts from the beginning of the transcript; the bases do not fit, and so it
notices."""

EFFECTS = r'''import csv
import re
import sys

table = {row["codon"]: row["amino_acid"] for row in csv.DictReader(open("documents/codon_table.csv"))}
lines = open("documents/KAL9.fasta").read().split("\n")
sequence = "".join(lines[1:])
print(lines[0], len(sequence))

out = csv.writer(open("output/effects.csv", "w"))
out.writerow(["option", "codon_before", "codon_after", "change", "effect"])
for row in csv.DictReader(open("documents/variants.csv")):
    place, before, after = re.fullmatch(r"c\.(\d+)([ACGT])>([ACGT])", row["variant"]).groups()
    at = int(place) - 1
    if sequence[at] != before:
        sys.exit("%s: base %s is %s" % (row["variant"], place, sequence[at]))
    number, offset = divmod(at, 3)
    old = sequence[3 * number:3 * number + 3]
    new = old[:offset] + after + old[offset + 1:]
    was, becomes = table[old], table[new]
    effect = "synonymous" if was == becomes else "nonsense" if becomes == "*" else "missense"
    change = "%s%d%s" % (was, number + 1, "=" if was == becomes else becomes)
    out.writerow([row["option"], old, new, change, effect])
    print(row["option"], row["variant"], old, new, change, effect)
    if effect == "nonsense":
        open("answer.txt", "w").write(row["option"] + "\n")
'''

PLAY = [
    [
        ("str_replace_editor", {"command": "view", "path": "/testbed/documents"}),
        ("str_replace_editor", {"command": "view", "path": "/testbed/documents/variants.csv"}),
        ("str_replace_editor", {"command": "view", "path": "/testbed/documents/codon_table.csv", "view_range": [1, 5]}),
    ],
    [
        ("str_replace_editor", {"command": "create", "path": "/testbed/effects.py", "file_text": EFFECTS}),
        ("execute_bash", {"command": "python3 effects.py"}),
    ],
    [
        "Coding positions begin at the start codon: the header says that this is base 18.",
        (
            "str_replace_editor",
            {
                "command": "insert",
                "path": "/testbed/effects.py",
                "insert_line": 8,
                "new_str": 'start, end = map(int, re.search(r"(\\d+)\\.\\.(\\d+)", lines[0]).groups())\n'
                'sequence = sequence[start - 1:end]\nassert sequence.startswith("ATG") and table[sequence[-3:]] == "*"',
            },
        ),
        ("execute_bash", {"command": "python3 effects.py"}),
    ],
    [("execute_bash", {"command": "cat answer.txt; cat output/effects.csv"})],
    [("submit", {})],
]
