"""The clusters that tests of actions run on: in process always, a real control plane where KUBE_ASSETS has one."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from cluster_stage import ClusterStage, in_process, real
from real_control_plane import RealApiServer, missing_controllers

sys.path.insert(0, str(Path(__file__).parents[2] / "store"))  # its private PostgreSQL, for two daemons with one lease
from private_postgres import postgres

__all__ = ["postgres"]


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealApiServer | None]:
    """Started once, at the first test that wants it; None where there is none."""
    if missing_controllers():
        yield None
        return
    with RealApiServer(tmp_path_factory.mktemp("control-plane"), controllers=True) as server:
        yield server


@pytest.fixture(params=["in_process", pytest.param("real", marks=pytest.mark.real)])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ClusterStage]:
    with ExitStack() as stack:
        if request.param == "in_process":
            yield stack.enter_context(in_process(tmp_path))
            return
        server = request.getfixturevalue("control_plane")
        if server is None:
            pytest.skip(missing_controllers())
        yield stack.enter_context(real(server, tmp_path))
