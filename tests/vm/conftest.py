"""These tests are of a machine that run.py makes, in its environment $LISRT_TEST_HOST. What belongs to another
environment, and everywhere else the whole folder, is left out, not skipped."""

import os

import pytest

HOST = os.environ.get("LISRT_TEST_HOST", "")

collect_ignore_glob = [] if HOST.startswith("v2-") else ["test_*.py"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "host(name): a test for one environment of the virtual machine")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    def is_elsewhere(item: pytest.Item) -> bool:
        marker = item.get_closest_marker("host")
        return marker is not None and HOST not in marker.args

    others = [item for item in items if is_elsewhere(item)]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if not is_elsewhere(item)]
