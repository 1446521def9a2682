"""The shape of the code: who may import whom, how big things get, what `import lisrt` does, what the public names are."""

import ast
import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fresh import environment

import lisrt

PACKAGE = Path(lisrt.__file__).resolve().parent
ROOT = Path(__file__).resolve().parent.parent

#: A module may import those of its own row (without cycles) and of the rows below it. New modules are entered here.
LEVELS = (
    ("__main__",),
    ("cli",),
    ("agent", "bench", "build", "doctor", "census", "mcp"),
    ("pool", "aiopool", "aio"),
    ("sandbox",),
    (
        "session", "freezer", "saving", "box", "follower", "snapshot", "changes", "process", "pipes", "transfer", "files",
        "channel", "plan", "image", "hostimage", "roots", "stored", "spawner", "spawned", "bwrap", "explain", "enforcement",
        "guarantees", "emulation", "uplink", "hubs", "gate", "identity", "writable", "publish", "published",
        "stock", "claims", "demand", "poolstats", "admission",
    ),
    ("store", "egress", "nat"),
    ("waiting", "kernel"),
    ("kernel.native",),
    ("kernel._native",),
)

#: Anyone may import these; they import each other and the standard library.
LEAVES = ("spec", "limits", "result", "errors", "settings", "passwd", "idmap")

#: What may lie in the root of the repository.
ROOT_FILES = set(
    """
    .clang-format .editorconfig .gitattributes .gitignore .pre-commit-config.yaml .python-version CHANGELOG.md CITATION.cff
    CODE_OF_CONDUCT.md CONTRIBUTING.md LICENSE MANIFEST.in Makefile README.md SECURITY.md justfile pyproject.toml setup.py
    """.split()
)
ROOT_DIRECTORIES = {".ci", ".github", "bench", "csrc", "docs", "examples", "lisrt", "rootfs", "tests"}

MAX_FILE = 400
MAX_FUNCTION = 60


def module_name(path: Path) -> str:
    """`lisrt/kernel/native.py` is `kernel.native`; the package itself is the empty name."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


SOURCES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(), str(path)) for name, path in SOURCES.items()}


def level(name: str) -> int | None:
    """The row of a module: that of its longest prefix in the table; None for the leaves; unknown ones fail."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        prefix = ".".join(parts[:length])
        if prefix in LEAVES:
            return None
        for row, names in enumerate(LEVELS):
            if prefix in names:
                return row
    raise AssertionError(f"lisrt.{name} is in no row of LEVELS: decide where it belongs")


def resolve(name: str) -> str:
    """The module that an imported dotted name lives in: `kernel.wire.pair` is in `kernel.wire`."""
    parts = name.split(".") if name else []
    while parts and ".".join(parts) not in SOURCES and ".".join(parts) != "kernel._native":
        parts.pop()
    return ".".join(parts)


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(name: str, *, at_run_time: bool = False) -> Iterator[str]:
    """The modules of lisrt that a module imports, lazy imports included."""
    package = name if SOURCES[name].name == "__init__.py" else name.rpartition(".")[0]
    pending: list[ast.AST] = [TREES[name]]
    while pending:
        node = pending.pop()
        if at_run_time and is_type_checking(node):
            continue
        pending += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            for alias in node.names:
                top, _, rest = alias.name.partition(".")
                if top == "lisrt":
                    yield resolve(rest)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = package.split(".")[: len(package.split(".")) - node.level + 1] if package else []
                source = ".".join([*base, *filter(None, [node.module])])
            elif node.module == "lisrt" or (node.module or "").startswith("lisrt."):
                source = (node.module or "")[len("lisrt.") :]
            else:
                continue
            for alias in node.names:
                yield resolve(f"{source}.{alias.name}" if source else alias.name)


@pytest.mark.parametrize("name", [name for name in SOURCES if name])
def test_imports_point_down(name: str) -> None:
    """A module imports its own row, rows below, and the leaves; never the package itself unless it is a customer of it."""
    own = level(name)
    for target in set(imports(name)) - {name}:
        if target == "":
            assert own is not None and own <= 2, f"lisrt.{name} imports the public names, which is for the top rows"
            continue
        row = level(target)
        if row is None:
            continue
        assert own is not None, f"the leaf lisrt.{name} imports lisrt.{target}"
        assert row >= own, f"lisrt.{name} imports lisrt.{target}, which is above it"


def test_kernel_imports_nothing_from_above() -> None:
    """kernel/ knows Linux and the leaves only."""
    for name in SOURCES:
        if name.partition(".")[0] == "kernel":
            others = {target for target in imports(name) if target.partition(".")[0] not in ("kernel", *LEAVES)}
            assert not others, f"lisrt.{name} imports {sorted(others)}"


def test_only_native_imports_the_extension() -> None:
    """One module stands between Python and the compiled code."""
    users = {name for name in SOURCES if "kernel._native" in set(imports(name))}
    assert users <= {"kernel.native"}


def test_imports_have_no_cycle() -> None:
    """No module needs itself, however far round."""
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name in done or name not in SOURCES:
            return
        for target in set(imports(name, at_run_time=True)) - {name, ""}:
            visit(target, (*path, name))
        done.add(name)

    for name in SOURCES:
        if name:
            visit(name, ())


def test_kernel_never_says_sandbox() -> None:
    """kernel/ speaks Linux: what a sandbox is, it doesn't know."""
    for name, path in SOURCES.items():
        if name.startswith("kernel."):
            said = [line for line in path.read_text().splitlines() if "sandbox" in line.lower()]
            assert not said, f"lisrt/{name}: {said}"


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    assert function.end_lineno is not None
    total = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None and first.end_lineno is not None:
        total -= first.end_lineno - first.lineno + 1
    return total


@pytest.mark.parametrize("name", SOURCES)
def test_sizes(name: str) -> None:
    """A file can be read in one sitting, a function on one screen."""
    lines = len(SOURCES[name].read_text().splitlines())
    assert lines <= MAX_FILE, f"{SOURCES[name]} has {lines} lines"
    long = {function.name: length(function) for function in functions(TREES[name]) if length(function) > MAX_FUNCTION}
    assert not long


@pytest.mark.parametrize("name", SOURCES)
def test_no_finaliser_and_no_swallowed_exception(name: str) -> None:
    """Resources are context managers, not `__del__`; no `except` hides everything and says nothing."""
    assert not [function.lineno for function in functions(TREES[name]) if function.name == "__del__"]
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.ExceptHandler):
            catches_all = node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
            silent = all(isinstance(statement, ast.Pass) for statement in node.body)
            assert not (catches_all and silent), f"{SOURCES[name]}:{node.lineno}"


def test_import_is_silent() -> None:
    """`import lisrt` prints nothing, starts nothing, opens nothing, makes no file, and drags in no heavy package."""
    source = """
import os, sys, threading
fds = os.listdir("/proc/self/fd")
import lisrt
assert len(os.listdir("/proc/self/fd")) == len(fds), "opens a file"
assert threading.active_count() == 1, "starts a thread"
assert len(os.listdir("/proc/self/task")) == 1, "starts a thread"
try:
    os.waitpid(-1, os.WNOHANG)
    raise AssertionError("starts a process")
except ChildProcessError:
    pass
heavy = {"openai", "rich", "click", "httpx", "pydantic", "numpy", "multiprocessing", "pytest"} & set(sys.modules)
assert not heavy, heavy
"""
    missing = "/nonexistent/scratch"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", source],
        env=environment(LISRT_SCRATCH=missing, HOME="/nonexistent/home"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not os.path.exists("/nonexistent")


def test_public_names() -> None:
    """`__all__` is sorted, complete, importable, and what the design promises is there."""
    names = list(lisrt.__all__)
    assert names == sorted(names)
    assert len(names) == len(set(names))
    for name in names:
        assert getattr(lisrt, name) is not None
    promised = """
        AsyncSandbox CommandFailed ExecResult HostError ImageError LisrtError Mount Outcome Sandbox SandboxGone SetupError
        Transfer Usage
    """
    assert set(promised.split()) <= set(names)
    visible = {name for name, value in vars(lisrt).items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert visible - {"annotations"} <= set(names)


def test_public_names_have_docstrings() -> None:
    """Every public class, verb and property says what it is."""
    for name in lisrt.__all__:
        value = getattr(lisrt, name)
        if not inspect.isclass(value):
            continue
        assert inspect.getdoc(value), name
        for member, function in vars(value).items():
            if not member.startswith("_") and (inspect.isfunction(function) or isinstance(function, property)):
                assert inspect.getdoc(getattr(value, member)), f"{name}.{member}"


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_both_faces_have_the_same_names() -> None:
    """What Sandbox has, AsyncSandbox has, and the other way round."""
    assert public(lisrt.Sandbox) == public(lisrt.AsyncSandbox)


@pytest.mark.parametrize("name", ["__init__", *sorted(public(lisrt.Sandbox))])
def test_both_faces_have_the_same_signatures(name: str) -> None:
    """The same parameters, defaults, types and results; the one is called, the other awaited."""
    sync, other = inspect.getattr_static(lisrt.Sandbox, name), inspect.getattr_static(lisrt.AsyncSandbox, name)
    if not inspect.isfunction(sync):
        assert type(sync) is type(other)
        return
    assert inspect.isfunction(other)
    mine, theirs = inspect.signature(sync), inspect.signature(other)
    assert mine.parameters == theirs.parameters
    if name != "__init__":
        assert inspect.iscoroutinefunction(other)
        assert not inspect.iscoroutinefunction(sync)
        result = str(mine.return_annotation).replace("Sandbox", "AsyncSandbox")
        assert str(theirs.return_annotation) in (str(mine.return_annotation), result)


@pytest.mark.parametrize("verb", ["run", "sh", "write", "read", "read_text", "upload", "download"])
def test_options_are_keyword_only(verb: str) -> None:
    """After the subject of a verb everything is named."""
    subjects = {"write": 2, "upload": 2, "download": 2}.get(verb, 1)
    parameters = list(inspect.signature(getattr(lisrt.Sandbox, verb)).parameters.values())[1:]
    assert all(parameter.kind is parameter.POSITIONAL_OR_KEYWORD for parameter in parameters[:subjects])
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters[subjects:])


def root_entries() -> set[str]:
    """What the repository has in its root: by git where it can tell, else what lies there and isn't hidden or built."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0:
        return {line.partition("/")[0] for line in listed.stdout.splitlines()}
    built = {"build", "dist", "__pycache__", "venv"}
    return {
        name for name in os.listdir(ROOT) if not name.startswith(".") and name not in built and not name.endswith(".egg-info")
    }


def test_the_root_is_an_allow_list() -> None:
    """No notes, no leftovers: a new file in the root is a decision, taken here."""
    found = root_entries()
    assert found - ROOT_DIRECTORIES <= ROOT_FILES
    assert {name for name in found if (ROOT / name).is_dir()} <= ROOT_DIRECTORIES
    assert {"README.md", "LICENSE", "pyproject.toml"} <= found


def test_tests_of_behaviour_use_public_names_only() -> None:
    """The suites for behaviour are customers: `lisrt`, not `lisrt.something`."""
    for folder in ("contract", "leaks", "embedding"):
        for path in sorted((ROOT / "tests" / folder).glob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom):
                    assert not (node.module or "").startswith("lisrt."), f"{path}:{node.lineno}"
                if isinstance(node, ast.Import):
                    assert not any(alias.name.startswith("lisrt.") for alias in node.names), f"{path}:{node.lineno}"
