"""How a model might go about it: a shell loop that is far too slow, the same in Python, and a second way for certainty."""

SLOW = r'''echo counting
for ((n = 1; n < 1000000; n++)); do
    ((n % 7)) && continue
    odd=${n//[02468]/} even=${n//[13579]/}
    [ ${#odd} -eq ${#even} ] && echo "$n"
done > found.txt
wc -l < found.txt'''

COUNT = r'''python3 - <<'EOF' | tee brute.txt
found = [n for n in range(7, 10**6, 7) if sum(int(digit) % 2 for digit in str(n)) * 2 == len(str(n))]
print(found[:5], len(found))
EOF'''

#: By the places of the odd digits instead.
OTHER = r'''from itertools import combinations

total = 0
for length in (2, 4, 6):
    for odd in combinations(range(length), length // 2):
        tails = [1, 0, 0, 0, 0, 0, 0]
        for place in range(length):
            digits = "13579" if place in odd else "2468" if place == 0 else "02468"
            longer = [0] * 7
            for rest, count in enumerate(tails):
                for digit in digits:
                    longer[(10 * rest + int(digit)) % 7] += count
            tails = longer
        total += tails[0]
brute = int(open("brute.txt").read().split()[-1])
print(total, brute)
assert total == brute
open("answer.txt", "w").write("\\boxed{%d}\n" % (total % 1000))
'''

PLAY = [
    [("execute_bash", {"command": SLOW, "timeout": 0.5})],
    ["bash is too slow for this.", ("execute_bash", {"command": COUNT})],
    [
        "Now the same by another way, before I trust it.",
        ("str_replace_editor", {"command": "create", "path": "other.py", "file_text": OTHER}),
        ("execute_bash", {"command": "python3 other.py && cat answer.txt"}),
    ],
    [("submit", {})],
]
