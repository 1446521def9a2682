"""What the tests of the MCP server share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("mcp_types")

from support.command import Cli


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The servers are on loopback: a proxy of the developer's must not come between."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "LISRT_MCP_TOKEN"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def cli(tmp_path: Path, scratch: Path, working_host: None) -> Iterator[Cli]:
    """`lisrt` with a scratch base of its own, in which nothing may be left."""
    made = Cli(tmp_path, scratch)
    yield made
    made.assert_clean()
