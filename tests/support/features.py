"""Skips that a host may cause and a developer may not."""

from typing import NoReturn

import pytest


def missing(feature: str) -> NoReturn:
    """Skip for something this host lacks; under LISRT_MUST_WORK=1 the conftest turns it into a failure."""
    pytest.skip(f"this host has no {feature}")
