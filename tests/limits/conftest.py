"""Which ways of enforcement to test. LISRT_TEST_ENFORCERS=watchdog,cgroup1 names those that this host must have; in the
virtual machine (tests/vm/) its environment says it."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from lisrt import Limits, Sandbox

OF_HOST = {"v2-none": "watchdog", "v2-delegated": "cgroup2", "v2-user-bus": "scope"}
ENFORCERS = os.environ.get(
    "LISRT_TEST_ENFORCERS", OF_HOST.get(os.environ.get("LISRT_TEST_HOST", ""), "watchdog")
).split(",")


@pytest.fixture(params=ENFORCERS)
def enforce(request: pytest.FixtureRequest, working_host: None) -> str:
    """Each way of enforcement in turn."""
    return str(request.param)


@pytest.fixture
def limited(enforce: str) -> Iterator[Callable[..., Sandbox]]:
    """Sandboxes with limits of one's own; all are closed at the end."""
    with ExitStack() as stack:

        def make(**limits: Any) -> Sandbox:
            return stack.enter_context(Sandbox(limits=Limits(enforce=enforce, **limits)))

        yield make
