"""The public suite over the in-process API server, through the official client."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes_stage import KubernetesStage

from aiops.testing.backend import BackendConformance
from aiops.testing.kubernetes import ApiServer


class TestKubernetesBackend(BackendConformance):
    @pytest.fixture
    def stage(self, tmp_path: Path) -> Iterator[KubernetesStage]:
        with ApiServer() as server:
            stage = KubernetesStage.small(server, tmp_path)
            yield stage
            stage.finish()
