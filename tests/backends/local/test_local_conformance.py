"""The public suite over real processes on this machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from local_stage import LocalStage, job, service

from aiops.testing.backend import BackendConformance
from aiops.testing.backend_links import LinkConformance


class TestLocalBackend(BackendConformance):
    @pytest.fixture
    def stage(self, tmp_path: Path) -> Iterator[LocalStage]:
        stage = LocalStage(tmp_path, {"nodes": {"n0": {"gpus": 2}}, "services": {"web": service()}, "jobs": {"train": job()}})
        yield stage
        stage.finish()


class TestLocalLinks(LinkConformance):
    @pytest.fixture(params=["storage", "nic"])
    def stage(self, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[LocalStage]:
        links = {"a-link": {"capacity": 1_000_000_000, "kind": request.param, "device": "lo"}}
        stage = LocalStage(tmp_path, {"nodes": {"n0": {"gpus": 1}}, "links": links})
        yield stage
        stage.finish()
