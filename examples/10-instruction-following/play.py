"""How a model might go about it: a draft with one sentence a line, a program that counts, and edits until the rules hold."""

DRAFT = """\
Bread begins with flour, water and patient hands.
Rising needs tiny living helpers that feed on sugar in dough.
Each of them breathes out little bubbles, and the warm kitchen makes them breathe faster.
During baking every bubble swells once more before heat sets its walls and leaves us a light loaf with an even crumb.
"""

RULES = r'''import re
import sys

text = " ".join(open("draft.txt").read().split("\n")).strip()
sentences = [s.strip() for s in re.findall(r"[^.]+\.", text)]
lengths = [len(s.split()) for s in sentences]
words = [w.strip(",.").lower() for w in text.split()]
wrong = []
if "".join(s[0] for s in sentences) != "BREAD":
    wrong.append("initials " + "".join(s[0] for s in sentences))
if lengths != sorted(set(lengths)) or not 60 <= sum(lengths) <= 80:
    wrong.append("lengths %s, %d in all" % (lengths, sum(lengths)))
wrong += ["forbidden: " + w for w in ("the", "yeast", "gas") if w in words]
if words.count("warm") != 2:
    wrong.append("warm: %d" % words.count("warm"))
if words[-1] != "crumb" or text.count(",") != 3 or len(re.findall(r"\d+", text)) != 1:
    wrong.append("last word %s, %d commas, numbers %s" % (words[-1], text.count(","), re.findall(r"\d+", text)))
if wrong:
    sys.exit("\n".join(wrong))
open("answer.txt", "w").write(text + "\n")
print("all rules hold:", lengths)
'''

PLAY = [
    [
        ("str_replace_editor", {"command": "create", "path": "draft.txt", "file_text": DRAFT}),
        ("str_replace_editor", {"command": "create", "path": "rules.py", "file_text": RULES}),
        ("execute_bash", {"command": "python3 rules.py"}),
    ],
    [
        "The sentence with A is missing, and with it the number, a comma and the second warm.",
        (
            "str_replace_editor",
            {
                "command": "insert",
                "path": "draft.txt",
                "insert_line": 3,
                "new_str": "At about 37 degrees they are happiest, so bakers cover a warm bowl and wait until it doubles.",
            },
        ),
        ("execute_bash", {"command": "python3 rules.py"}),
    ],
    [
        (
            "str_replace_editor",
            {"command": "str_replace", "path": "draft.txt", "old_str": "the warm kitchen", "new_str": "a warm kitchen"},
        ),
        ("execute_bash", {"command": "python3 rules.py && cat answer.txt"}),
    ],
    [("submit", {})],
]
