"""The public suite over real processes on this machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from local_stage import LocalStage, job, service

from aiops.testing.backend import BackendConformance


class TestLocalBackend(BackendConformance):
    @pytest.fixture
    def stage(self, tmp_path: Path) -> Iterator[LocalStage]:
        stage = LocalStage(tmp_path, {"nodes": {"n0": {"gpus": 2}}, "services": {"web": service()}, "jobs": {"train": job()}})
        yield stage
        stage.finish()
