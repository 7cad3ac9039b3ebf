"""Settings of every test: property tests have no time limit (machines are shared) and, in CI, no luck."""

import os

import pytest
import structlog
from hypothesis import HealthCheck, settings

settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("house"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "house")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On several workers (`--dist loadgroup`), a file stays on one, and so do all that share a Slurm or a PostgreSQL."""
    for item in items:
        home = item.path.parent if item.path.parent.name in ("slurm", "store") else item.path
        item.add_marker(pytest.mark.xdist_group(str(home)))


@pytest.fixture(autouse=True)
def fresh_logging() -> None:
    """A command under test that set up logging wrote to a stream that is closed by now."""
    structlog.reset_defaults()
