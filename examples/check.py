"""Says which examples were solved: `python examples/check.py RUN`, where RUN is the directory of a `lisrt run --tasks` of them.

Exits 0 when all that were run were solved.
"""

import argparse
import importlib.util
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

if not __debug__:
    raise SystemExit("the checks are assertions, which python -O leaves out")


def judge(name: str, answer: str | None, files: Path) -> str | None:
    """What is wrong with an answer and the files that came with it; None when nothing is."""
    path = HERE / name / "check.py"
    if not path.is_file():
        return "there is no such example"
    spec = importlib.util.spec_from_file_location(f"check_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        module.check(answer, files)
    except AssertionError as wrong:
        return str(wrong)
    except Exception as broken:  # a file that is missing, or is not what it should be: each format has errors of its own
        return f"{type(broken).__name__}: {broken}"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description="Say which examples were solved in a run.")
    parser.add_argument("run", type=Path, metavar="RUN", help="the directory of a `lisrt run --tasks`")
    run = parser.parse_args().run
    try:
        results = [json.loads(line) for line in (run / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        parser.error(f"there is no run of tasks in {run}: {error}")
    solved = 0
    for result in sorted(results, key=lambda result: str(result["task"])):
        wrong = judge(result["task"], result["answer"], run / "episodes" / result["task"] / "files")
        solved += wrong is None
        print(f"{result['task']:24} {result['exit_reason']:16} {'solved' if wrong is None else wrong}")
    print(f"{solved} of {len(results)} solved")
    return 0 if results and solved == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
