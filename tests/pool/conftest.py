"""Pools that share nothing with those of other tests, or with other programs of this user."""

import pytest
from support.procs import new_marker

from lisrt import Admission


@pytest.fixture
def name() -> str:
    """Of an admission that nobody else has."""
    return f"test-{new_marker()}"


@pytest.fixture
def rules(name: str) -> Admission:
    """Room for all that a test makes."""
    return Admission(name=name)
