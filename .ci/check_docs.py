"""Checks the documents: every relative link leads to a file and a heading, every Python example is Python."""

import ast
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+)\)")
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


def documents(root: Path) -> list[Path]:
    patterns = ("*.md", "docs/**/*.md", "rootfs/**/*.md", "bench/**/*.md", "tests/**/*.md", "examples/**/*.md")
    return sorted(path for pattern in patterns for path in root.glob(pattern))


def anchors(text: str) -> set[str]:
    """The names that a forge gives to headings."""
    headings = re.findall(r"^#+ +(.*?) *#*$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def faults(document: Path) -> Iterator[str]:
    text = document.read_text(encoding="utf-8")
    for match in LINK.finditer(FENCE.sub("", text)):
        target, _, anchor = match[1].partition("#")
        if re.match(r"\w+:", target):
            continue
        file = document.parent / target if target else document
        if not file.exists():
            yield f"{target} is not there"
        elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text(encoding="utf-8")):
            yield f"{target or 'this file'} has no heading #{anchor}"
    for _, language, code in FENCE.findall(text):
        if language in ("python", "py"):
            try:
                compile(textwrap.dedent(code), str(document), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            except SyntaxError as error:
                yield f"an example is not Python: {error.msg}: {(error.text or '').strip()}"


def main() -> int:
    root = Path(__file__).resolve().parent.parent
    found = [f"{path.relative_to(root)}: {fault}" for path in documents(root) for fault in faults(path)]
    print("\n".join(found) or f"{len(documents(root))} documents are sound")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
