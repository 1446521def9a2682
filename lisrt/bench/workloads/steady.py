"""Work that takes a while, inside and on the bare host in turn: what isolation costs while a program runs."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

from lisrt import spawner
from lisrt.bench.backend import Instance, Unavailable
from lisrt.bench.measure import quantile
from lisrt.bench.workloads.base import FAULTS, Run, Subject, lacks, one_of_each
from lisrt.image import HOST

NAME = "steady"
HOME = "/testbed/steady"
DRAWS = 1000
"""Of the bootstrap."""

# Nothing waits for the disk: an overlay that may forget does not either (`volatile`), or sandboxes would be the quicker ones.
_PYTHON = """\
import ast, compileall, io, json, os, pathlib, re, sqlite3, subprocess, sys, tokenize
for number in range(40):
    name = f"p/{number}.py"
    os.makedirs("p", exist_ok=True)
    body = "".join(f"def f{n}(a, b=({n}, 'x')):\\n    return [a, *b, {{'k': {n}}}][{n} % 3]\\n" for n in range(120))
    pathlib.Path(name).write_text(body)
    ast.dump(ast.parse(body))
    len(list(tokenize.generate_tokens(io.StringIO(body).readline)))
compileall.compile_dir("p", quiet=2, force=True)
base = sqlite3.connect("data.db")
base.execute("pragma synchronous = off")
base.execute("create table t (a integer, b text)")
for number in range(200):
    base.execute("insert into t values (?, ?)", (number, json.dumps(list(range(number)))))
    base.commit() if number % 20 == 0 else None
assert base.execute("select count(*) from t").fetchone() == (200,)
for number in range(30):
    assert subprocess.run([sys.executable, "-S", "-c", "pass"]).returncode == 0
for number in range(2000):
    with open(f"p/{number % 50}.txt", "a") as file:
        file.write("x" * 100)
    os.stat(f"p/{number % 50}.txt")
assert len(re.findall("x+", "\\n".join(path.read_text() for path in pathlib.Path("p").glob("*.txt")))) == 50
"""
_GIT = """\
export HOME=$PWD GIT_CONFIG_NOSYSTEM=1
git init -q . && git config user.name n && git config user.email n@example.org && git config gc.auto 0
git config core.fsync none
git add . && git commit -qm one
for n in 1 2 3 4 5; do for f in d$n/*; do echo changed >> $f; done; git add -A && git commit -qm change-$n; done
git log --stat > log.txt && git status --short > /dev/null
git checkout -q HEAD~3 && git diff HEAD~2 > diff.txt && test -s diff.txt
"""
_COMPILE = """\
for f in *.c; do gcc -O1 -Wall -c $f || exit 1; done
gcc *.o -o all && ./all
"""
_SUITE = """\
cd */
if python3 -c 'import pytest' 2> /dev/null
then python3 -m pytest -q -p no:cacheprovider .
else python3 -m unittest -q
fi
"""


@dataclass(frozen=True, slots=True)
class Case:
    """A script, the files that it finds, and what it can't do without."""

    name: str
    needs: str
    script: str
    archive: bytes

    @property
    def argv(self) -> list[str]:
        """In the directory that the archive is unpacked in."""
        return ["bash", "-c", f"set -e\n{self.script}"]


class Steady:
    """How much longer each case takes inside than outside."""

    only_lisrt = False

    def run(self, run: Run) -> None:
        cases = _cases(run)
        if any(subject.image not in (None, HOST) for subject in run.subjects):
            run.notes.append("steady: the bare host has its own Python, git and compiler, and the image others")
        rounds = max(1, run.config.serial // 5)
        place = tempfile.mkdtemp(prefix="lisrt-bench-", dir=_beside(run.subjects[0]))
        try:
            with one_of_each(run, NAME) as made:
                _all(run, [case for case in cases if _can(run, case, made)], made, place, rounds)
        finally:
            shutil.rmtree(place, ignore_errors=True)


def _all(run: Run, cases: list[Case], made: list[tuple[Subject, Instance]], place: str, rounds: int) -> None:
    random, step = run.random(NAME), run.steps(NAME, rounds * len(cases))
    for case in cases:
        ratios: dict[str, list[float]] = {subject.name: [] for subject, _ in made}
        for number in range(rounds):
            _round(run, case, made, os.path.join(place, f"{case.name}-{number}"), random, ratios)
            step()
        for subject, _ in made:
            _compare(run, subject, case, ratios[subject.name])


def _can(run: Run, case: Case, made: list[tuple[Subject, Instance]]) -> bool:
    """Whether everybody has its programs; else there would be nothing to compare with."""
    programs = (case.needs, "tar", "bash")
    without = [] if all(map(shutil.which, programs)) else ["this host"]
    without += [f"the image of {subject.name}" for subject, one in made if lacks(one, programs)]
    if without:
        run.notes.append(f"steady: {case.name} is left out: {' and '.join(without)} has not all of {', '.join(programs)}")
    return not without


def _round(
    run: Run, case: Case, made: list[tuple[Subject, Instance]], place: str, random: Random, ratios: dict[str, list[float]]
) -> None:
    """Once on the bare host and once in each sandbox, in random order. Nothing is deleted meanwhile: an ext4 without a journal
    looks at every inode that was, before it takes one."""
    took: dict[str, float | None] = {}
    turns: list[tuple[str, Callable[[], float | None]]] = [("", partial(_outside, run, case, place))]
    turns += [(subject.name, partial(_inside, subject, one, case, place)) for subject, one in made]
    random.shuffle(turns)
    for name, turn in turns:
        took[name] = turn()
    bare = took.pop("")
    for name, seconds in took.items():
        if bare and seconds:
            ratios[name].append(seconds / bare)


def _inside(subject: Subject, instance: Instance, case: Case, place: str) -> float | None:
    recorder, home = subject.recorder, f"{HOME}/{os.path.basename(place)}"
    try:
        instance.write(f"{home}.tar", case.archive)
        instance.run(["bash", "-c", f"mkdir {home} && tar xf {home}.tar -C {home}"])
    except FAULTS as error:
        recorder.failed(NAME, case.name, f"{case.name}: its files could not be had: {error}")
        return None
    script = f"cd {home}\n{case.argv[2]}"
    started = time.perf_counter()
    with recorder.timed(NAME, case.name) as timing:
        found = instance.run(["bash", "-c", script])
    took = time.perf_counter() - started
    if timing.ok and found.exit_code == 0:
        return took
    if timing.ok:
        last = found.stdout[-300:].decode(errors="replace")
        recorder.failed(NAME, case.name, f"{case.name}: exited with {found.exit_code}: {last}")
    return None


def _outside(run: Run, case: Case, place: str) -> float | None:
    """With nothing of this process's environment, as in a sandbox."""
    home = Path(place)
    home.mkdir()
    subprocess.run(["tar", "xf", "-", "-C", str(home)], input=case.archive, check=True)
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": os.path.dirname(place), "LANG": "C.UTF-8"}
    started = time.perf_counter()
    done = subprocess.run(case.argv, cwd=home, env=env, stdin=subprocess.DEVNULL, capture_output=True)
    took = time.perf_counter() - started
    if done.returncode != 0:
        last = done.stderr[-300:].decode(errors="replace")
        run.of_host.failed(NAME, case.name, f"{case.name}: exited with {done.returncode}: {last}")
        return None
    run.of_host.sample(NAME, case.name, took)
    return took


def _compare(run: Run, subject: Subject, case: Case, ratios: list[float]) -> None:
    if not ratios:
        return
    middle, low, high = interval(ratios, run.random(f"bootstrap {case.name}"))
    subject.recorder.value(NAME, f"{case.name}, more than on the bare host", "%", len(ratios), 100 * (middle - 1))
    run.series.setdefault("steady", {}).setdefault(subject.name, {})[case.name] = {
        "ratio": middle, "low": low, "high": high, "ratios": ratios,
    }  # fmt: skip
    words = f"{middle:.3f} × the bare host's (95 % interval {low:.3f} to {high:.3f}, {len(ratios)} rounds)"
    run.notes.append(f"{subject.name}: {case.name} takes {words}")


def interval(samples: list[float], random: Random) -> tuple[float, float, float]:
    """The median, and the bounds of its 95 % interval by bootstrap."""
    drawn = sorted(_median(random.choices(samples, k=len(samples))) for _ in range(DRAWS))
    return _median(samples), drawn[DRAWS * 25 // 1000], drawn[DRAWS * 975 // 1000 - 1]


def _median(samples: list[float]) -> float:
    return quantile(sorted(samples), 0.5) or 0.0


def _beside(subject: Subject) -> str | None:
    """A directory of the file system that lisrt's sandboxes write to; else wherever temporary files go."""
    home = spawner.running(subject.launcher) if subject.launcher else None
    return os.path.dirname(home.base) if home else None


def git(random: Random) -> Case:
    """Many small files."""
    files = {f"d{n % 6}/f{n}.txt": "".join(f"{random.random()}\n" for _ in range(60)) for n in range(240)}
    return Case("git", "git", _GIT, _tar(files))


def _cases(run: Run) -> list[Case]:
    found = [
        Case("python", "python3", "python3 work.py", _tar({"work.py": _PYTHON})),
        git(run.random("files")),
        Case("compile", "gcc", _COMPILE, _tar(_project())),
    ]
    if run.config.suite is not None:
        try:
            found.append(Case("suite", "python3", _SUITE, _plain(Path(run.config.suite).read_bytes())))
        except (OSError, tarfile.TarError) as error:
            raise Unavailable(f"--suite {run.config.suite}: {error}") from error
    return found


def _project() -> dict[str, str]:
    """Twelve files of C and a main that calls into each."""
    files, calls = {}, ""
    for number in range(12):
        functions = "".join(
            f"static int g{n}(int a) {{ int s = a; for (int i = 0; i < {n + 3}; i++) s = s * 31 + (i ^ {n}); return s; }}\n"
            for n in range(40)
        )
        uses = " + ".join(f"g{n}(a + {n})" for n in range(40))
        heads = "#include <stdio.h>\n#include <string.h>\n"
        files[f"part{number}.c"] = f"{heads}{functions}int part{number}(int a) {{ return {uses}; }}\n"
        calls += f"    s += (unsigned)part{number}({number});\n"
    heads = "".join(f"int part{number}(int);\n" for number in range(12))
    body = f"    unsigned s = 0;\n{calls}    return printf(\"%u\\n\", s) < 0;\n"
    files["main.c"] = f"#include <stdio.h>\n{heads}int main(void)\n{{\n{body}}}\n"
    return files


def _tar(files: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


def _plain(packed: bytes) -> bytes:
    """An archive without its compression: not every image has the programs for that."""
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(packed)) as source, tarfile.open(fileobj=out, mode="w") as target:
        for member in source:
            target.addfile(member, source.extractfile(member) if member.isfile() else None)
    return out.getvalue()
