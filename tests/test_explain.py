"""From faults to sentences: the tables fit the helper, and every row that an error names is one that doctor prints."""

import ast
import errno
import os
from pathlib import Path

import pytest

import lisrt
from lisrt import HostError, SetupError, explain
from lisrt.doctor import Check, Status, examine
from lisrt.explain import fault_error
from lisrt.kernel import native
from lisrt.kernel.wire import Fault

STAGES = dict(native.stages())
TABLES = {"host faults": explain._HOST_FAULTS, "hints": explain._HINTS}
KEYS = [(table, *key) for table, entries in TABLES.items() for key in entries]


@pytest.fixture(scope="module")
def rows(working_host: None) -> list[Check]:
    """What doctor prints here."""
    return list(examine().rows)


def stage_number(slug: str) -> int:
    return list(STAGES).index(slug)


@pytest.mark.parametrize(("table", "stage", "number"), KEYS)
def test_every_key_names_a_stage_and_an_errno(table: str, stage: str, number: int | None) -> None:
    """A misspelt key would never be found again."""
    assert stage in STAGES
    assert number is None or number in errno.errorcode


def test_stages_have_a_name_and_words() -> None:
    """Each has both, and no two share a name; the words complete "could not ..."."""
    assert len(STAGES) == len(native.stages()) > 20
    for slug, words in STAGES.items():
        assert slug == slug.lower() and " " not in slug
        assert words and words[0].islower() and not words.endswith(".")


@pytest.mark.parametrize("key", explain._LIMITS)
def test_every_limit_names_a_row_of_doctor(key: int, rows: list[Check]) -> None:
    """The limits of a process are rows, too."""
    assert explain._LIMITS[key][0] in {row.name for row in rows}


@pytest.mark.parametrize("key", explain._HOST_FAULTS)
def test_every_host_fault_names_a_row_of_doctor(key: tuple[str, int | None], rows: list[Check]) -> None:
    """`HostError.check` is a promise: `lisrt doctor` has a row of that name."""
    assert explain._HOST_FAULTS[key][0] in {row.name for row in rows}


def literal_checks() -> list[tuple[str, str]]:
    """(place, row) of every HostError that the code makes with a literal `check`."""
    found = []
    package = Path(lisrt.__file__).parent
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "HostError":
                values = {keyword.arg: keyword.value for keyword in node.keywords}
                assert {"check", "fix"} <= set(values), f"{path}:{node.lineno}"
                if isinstance(values["check"], ast.Constant):
                    found.append((f"{path.name}:{node.lineno}", str(values["check"].value)))
    return found


def test_every_host_error_names_a_row_of_doctor(rows: list[Check]) -> None:
    """Those made elsewhere, too."""
    checks = literal_checks()
    assert checks
    names = {row.name for row in rows}
    assert not [(place, row) for place, row in checks if row not in names]


def test_doctors_rows(rows: list[Check]) -> None:
    """Each name once, each row with a finding, and a fix wherever it failed."""
    names = [row.name for row in rows]
    assert len(names) == len(set(names))
    for row in rows:
        assert row.found
        assert row.status is not Status.FAIL, row
        assert {"name", "group", "status", "found", "meaning", "fix"} <= set(row.as_json())


ERRNOS = [errno.EPERM, errno.ENOSPC, errno.ENOENT, errno.EINVAL, errno.ELOOP, errno.EMFILE, errno.ENOMEM]


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "bwrap"])  # that has words of its own: test_bwrap.py
@pytest.mark.parametrize("number", ERRNOS)
def test_every_fault_becomes_a_sentence(stage: str, number: int) -> None:
    """Whatever fails: what it was, why in words, where, and one thing to do."""
    error = fault_error(Fault(stage_number(stage), number, "/some/place"))
    message = str(error)
    assert message.startswith(f"could not {STAGES[stage]} (/some/place): {os.strerror(number)}. ")
    assert not message.endswith((" ", "..")), message
    assert len(message.split(". ", 1)[1]) > 10
    if isinstance(error, HostError):
        assert error.check and error.fix and error.fix in message
    else:
        assert isinstance(error, SetupError)
        assert (error.stage, error.errno, error.path) == (stage, number, "/some/place")


def test_root_under_bubblewrap_without_its_capability() -> None:
    """The one who can do something about it is told what."""
    error = fault_error(Fault(stage_number("dev"), errno.EPERM, "/dev, as root"))
    assert isinstance(error, HostError) and error.check == "bwrap"
    assert "CAP_SYS_ADMIN" in error.fix and "native" in error.fix


def test_a_fault_without_a_path_has_no_empty_brackets() -> None:
    """Nothing between "could not do it" and the reason."""
    assert "()" not in str(fault_error(Fault(stage_number("pivot"), errno.EINVAL, "")))


@pytest.mark.parametrize("number", [-1, len(STAGES), 10**6])
def test_a_stage_from_another_version_is_no_crash(number: int) -> None:
    """A helper that knows more stages than this Python still gets its errno told."""
    error = fault_error(Fault(number, errno.EIO, ""))
    assert isinstance(error, SetupError)
    assert "Input/output error" in str(error)


@pytest.mark.parametrize("kind", ["mount-namespace", "pid-namespace", "namespaces", "user-namespace", "nested-user-namespace"])
def test_a_used_up_number_of_namespaces_is_no_apparmor(kind: str) -> None:
    """ENOSPC from unshare or clone means user.max_*_namespaces; to be sent to AppArmor for it would cost an afternoon."""
    error = fault_error(Fault(stage_number(kind), errno.ENOSPC, ""))
    assert isinstance(error, HostError)
    assert "user.max_" in error.fix
    assert "AppArmor" not in error.fix


def test_a_hint_says_what_to_change() -> None:
    """A mount whose target passes through a link in the image: the message says so."""
    error = fault_error(Fault(stage_number("mount-point"), errno.ELOOP, "bin/tool"))
    assert isinstance(error, SetupError)
    assert "link" in str(error)
