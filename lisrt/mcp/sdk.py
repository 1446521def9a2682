"""The official SDK, which may not be there."""

from __future__ import annotations

import importlib

__all__ = ["load_sdk"]

_OF_THE_SDK = ("mcp", "mcp_types", "uvicorn")


def load_sdk() -> None:
    """Imports the SDK. Raises ModuleNotFoundError with the command that installs it, also where an older one is."""
    try:
        for name in _OF_THE_SDK:  # mcp_types came with version 2; a server over HTTP needs uvicorn
            importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in _OF_THE_SDK:
            raise
        text = "lisrt mcp needs the SDK of the Model Context Protocol, version 2: pip install 'lisrt[mcp]'"
        raise ModuleNotFoundError(text, name=error.name) from None
