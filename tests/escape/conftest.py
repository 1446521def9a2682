"""Sandboxes of each launcher, with `kernel.py` at hand."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.subjects import LAUNCHERS, Box, Subject

KERNEL = (Path(__file__).parent / "kernel.py").read_text()


@pytest.fixture(params=list(LAUNCHERS))
def subject(request: pytest.FixtureRequest, working_host: None, roomy: None) -> Iterator[Subject]:
    """One kind of sandbox for each launcher: what breaks out does not care which face had started it."""
    made = LAUNCHERS[request.param]()
    yield made
    made.shutdown()


@pytest.fixture
def open_box(subject: Subject) -> Iterator[Callable[..., Box]]:
    """Sandboxes in which commands of the workdir can import `kernel`."""
    with contextlib.ExitStack() as boxes:

        def make(**options: object) -> Box:
            box = Box(subject, **options)
            boxes.callback(box.close)
            box.write("kernel.py", KERNEL)
            return box

        yield make


@pytest.fixture
def box(open_box: Callable[..., Box]) -> Box:
    """One sandbox with default options."""
    return open_box()


@pytest.fixture
def plain_box(open_box: Callable[..., Box]) -> Box:
    """One whose programs are an ordinary user: nothing is emulated for them."""
    return open_box(user=1000)
