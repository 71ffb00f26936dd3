"""Which tests in a real browser run when."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests of this folder: nothing runs beside them, and few are in `make test`."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.alone)
            if item.get_closest_marker("core") is None:
                item.add_marker(pytest.mark.thorough)
