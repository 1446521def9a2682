"""How a model might go about it: Euler first, and halving the step shows that this is not enough. Then an edit that
fits two places is refused, and made again where it belongs."""

THROW = r'''import csv
import math
import sys

g, m, d, cd, rho = 9.81, 0.145, 0.074, 0.35, 1.2
k = rho * cd * math.pi * (d / 2) ** 2 / 2 / m


def rates(state):
    x, y, u, w = state
    speed = math.hypot(u, w)
    return (u, w, -k * speed * u, -g - k * speed * w)


def add(state, factor, change):
    return tuple(a + factor * b for a, b in zip(state, change))


def euler(state, h):
    return add(state, h, rates(state))


def runge_kutta(state, h):
    a = rates(state)
    b = rates(add(state, h / 2, a))
    c = rates(add(state, h / 2, b))
    d = rates(add(state, h, c))
    return add(state, h / 6, tuple(p + 2 * q + 2 * r + s for p, q, r, s in zip(a, b, c, d)))


def throw(h, step):
    angle = math.radians(35)
    state, path = (0.0, 1.5, 40 * math.cos(angle), 40 * math.sin(angle)), []
    while state[1] > 0:
        path.append((len(path) * h, state[0], state[1]))
        before, state = state, step(state, h)
    part = before[1] / (before[1] - state[1])
    path.append((path[-1][0] + part * h, before[0] + part * (state[0] - before[0]), 0.0))
    return path


step = euler
for h in (0.1, 0.05, 0.025, 0.0125):
    print(h, "%.4f" % throw(h, step)[-1][1])
path = throw(0.0125, step)
with open("output/path.csv", "w", newline="") as file:
    csv.writer(file).writerows([("t", "x", "y"), *(["%.5f" % value for value in point] for point in path)])
print("\\boxed{%.1f}" % path[-1][1], file=open("answer.txt", "w"))
'''

PLAY = [
    [
        "Drag k v^2 per mass, two coordinates: a small system of equations, best integrated numerically.",
        ("str_replace_editor", {"command": "create", "path": "throw.py", "file_text": THROW}),
        ("execute_bash", {"command": "python3 throw.py; cat answer.txt"}),
    ],
    [
        "That still changes with the step, so Euler will not do.",
        (
            "str_replace_editor",
            {"command": "str_replace", "path": "throw.py", "old_str": "euler", "new_str": "runge_kutta"},
        ),
        ("execute_bash", {"command": "grep -n euler throw.py"}),
    ],
    [
        (
            "str_replace_editor",
            {"command": "str_replace", "path": "throw.py", "old_str": "step = euler\n", "new_str": "step = runge_kutta\n"},
        ),
        ("execute_bash", {"command": "python3 throw.py; cat answer.txt; wc -l output/path.csv; tail -n 2 output/path.csv"}),
    ],
    [("submit", {})],
]
