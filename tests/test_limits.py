"""Limits as a value, and who enforces what."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lisrt import HostError, Limits
from lisrt.enforcement import Enforcement, choose, describe, wants_groups
from lisrt.kernel.steps import BY_CGROUP, BY_OURSELVES
from lisrt.limits import size


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("0", 0), ("200MiB", 200 << 20), ("1 GiB", 1 << 30), ("1.5G", 3 << 29), ("64k", 65536), ("5MB", 5_000_000), (" 7 B ", 7)],
)
def test_sizes(text: str, bytes_: int) -> None:
    """Binary units by K or KiB, decimal ones by KB."""
    assert size(text) == bytes_


@given(st.integers(0, 2**50))
def test_a_number_is_itself(number: int) -> None:
    """As a number, and as its digits."""
    assert size(number) == size(str(number)) == size(f"{number}B") == number


@pytest.mark.parametrize("text", ["", "MiB", "1 potato", "-1", "1e3", "0x10", "1,5G", "1..5G"])
def test_what_is_no_size(text: str) -> None:
    """Refused with the text in the message."""
    with pytest.raises(ValueError, match="200MiB"):
        size(text)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("memory", 0, ValueError), ("memory", "1K", ValueError), ("memory", True, TypeError), ("memory", 1.5, TypeError),
        ("swap", -1, ValueError), ("cpus", 0, ValueError), ("cpus", float("nan"), ValueError), ("cpus", "2", TypeError),
        ("pids", 0, ValueError), ("pids", 1.0, TypeError), ("disk", 1, ValueError), ("files", 0, ValueError),
        ("open_files", 1, ValueError), ("output", 0, ValueError), ("wall_time", 0, ValueError), ("wall_time", "1", TypeError),
        ("enforce", "docker", ValueError),
    ],
)  # fmt: skip
def test_wrong_limits(name: str, value: Any, error: type[Exception]) -> None:
    """Checked at birth, by name."""
    with pytest.raises(error):
        Limits(**{name: value})


def test_limits_are_values() -> None:
    """Equal, hashable, frozen."""
    assert Limits(memory="1MiB") == Limits(memory=1 << 20)
    assert len({Limits(), Limits(), Limits(pids=None)}) == 2
    with pytest.raises(AttributeError):
        Limits().memory = 1  # type: ignore[misc]


ALL = {"memory": 2, "pids": 2, "cpu": 2}


@pytest.mark.parametrize(
    ("limits", "versions", "expected"),
    [
        (Limits(memory="1G"), ALL, Enforcement(BY_CGROUP, BY_CGROUP, None, 2)),
        (Limits(memory="1G"), {}, Enforcement(BY_OURSELVES, BY_OURSELVES, None, 0)),
        (Limits(memory="1G", enforce="watchdog"), ALL, Enforcement(BY_OURSELVES, BY_OURSELVES, None, 0)),
        (Limits(memory="1G", enforce="cgroup1"), {"memory": 1}, Enforcement(BY_CGROUP, BY_OURSELVES, None, 1)),
        (Limits(cpus=2), {}, Enforcement(None, BY_OURSELVES, BY_OURSELVES, 0)),
        (Limits(cpus=0.5), {"cpu": 1}, Enforcement(None, BY_OURSELVES, BY_CGROUP, 1)),
        (Limits(pids=None), ALL, Enforcement(None, None, None, 2)),
    ],
)
def test_who_enforces(monkeypatch: pytest.MonkeyPatch, limits: Limits, versions: dict[str, int], expected: Enforcement) -> None:
    """The best that there is, or what was asked for by name."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert choose(limits, versions) == expected


def test_root_has_no_rlimit(monkeypatch: pytest.MonkeyPatch) -> None:
    """RLIMIT_NPROC does not bind root: said of the default, refused for a number of one's own."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    by = choose(Limits(), {})
    assert by.pids is None and describe(Limits(), by, "/x")["pids"].startswith("NOT ENFORCED")
    with pytest.raises(HostError) as caught:
        choose(Limits(pids=10), {})
    assert caught.value.check == "pids"
    assert choose(Limits(pids=10), {"pids": 1}).pids == BY_CGROUP


def test_groups_are_not_looked_for_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default sandbox costs no look at control groups."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert not wants_groups(Limits())
    assert wants_groups(Limits(memory="1G")) and not wants_groups(Limits(memory="1G", enforce="watchdog"))
    assert wants_groups(Limits(enforce="scope"))
