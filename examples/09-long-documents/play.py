"""How a model might go about it: it searches before it reads. Its first program trips over sentences that go over two lines."""

FACTS = r'''import json
import pathlib
import re

facts = {}
for path in sorted(pathlib.Path("documents").iterdir()):
    text = path.read_text(encoding="utf-8")
    street, laid = re.search(r"in service the oldest is the one below ([^,]+), laid in (\d+)", text).groups()
    correction = re.search(r"Correction to page 1: the main below %s was laid in (\d+)" % re.escape(street), text)
    main = "the main below " + re.escape(street)
    litres = [
        int(number)
        for pattern in (
            r"found a leak in %s: (\d+) litres an hour",
            r"%s was losing (\d+) litres an hour",
            r"A leak of (\d+) litres an hour, found on \d+ \w+ in %s,",
        )
        for number in re.findall("(?i)" + pattern % main, text)
    ]
    facts[path.name] = {
        "street": street,
        "laid": int(correction[1] if correction else laid),
        "leaks": len(litres),
        "litres_per_hour": sum(litres),
    }
print(json.dumps(facts, indent=1))
'''

PLAY = [
    [
        ("str_replace_editor", {"command": "view", "path": "/testbed/documents"}),
        ("execute_bash", {"command": "wc documents/*; head -n 12 documents/CAWSEY-report.txt"}),
        ("execute_bash", {"command": "grep -inE 'oldest|correction' documents/*"}),
    ],
    [
        "Two of the reports correct themselves. Now the ways in which leaks are told of.",
        ("execute_bash", {"command": "grep -ihoE '(leak|losing).{0,30}' documents/* | sort | uniq -c | sort -rn | head -n 25"}),
        ("str_replace_editor", {"command": "view", "path": "documents/dunmere.txt", "view_range": [1, 40]}),
    ],
    [
        ("str_replace_editor", {"command": "create", "path": "facts.py", "file_text": FACTS}),
        ("execute_bash", {"command": "python3 facts.py"}),
    ],
    [
        "The lines are broken at 78 characters, so the spaces must be made equal first.",
        (
            "str_replace_editor",
            {
                "command": "str_replace",
                "path": "facts.py",
                "old_str": 'text = path.read_text(encoding="utf-8")',
                "new_str": 'text = " ".join(path.read_text(encoding="utf-8").split())',
            },
        ),
        ("execute_bash", {"command": "python3 facts.py | tee answer.txt"}),
    ],
    [("submit", {})],
]
