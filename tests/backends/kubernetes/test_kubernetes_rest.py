"""The public suite by REST alone: over the in-process API server, and over a real one where KUBE_ASSETS has the binaries."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from real_control_plane import RealApiServer, missing
from rest_stage import RestStage

from aiops.backends.kubernetes.connection import Refused
from aiops.testing.backend import BackendConformance
from aiops.testing.kubernetes import ApiServer

_EVICTION = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "train-0", "namespace": "default"}}
_POD = "/api/v1/namespaces/default/pods/train-0"


class ServerRows(BackendConformance):
    """The suite, and what both servers must agree on besides."""

    def test_an_eviction_is_refused_by_a_budget_and_by_another_uid(self, stage: RestStage) -> None:
        stage.covered(allowed=0)
        with pytest.raises(Refused) as budget:
            stage.rest.create(f"{_POD}/eviction", _EVICTION)
        with pytest.raises(Refused) as other:
            stage.rest.create(f"{_POD}/eviction", {**_EVICTION, "deleteOptions": {"preconditions": {"uid": "another"}}})
        assert budget.value.code == 429 and other.value.code in (409, 429)
        assert stage.rest.get(_POD)["metadata"]["name"] == "train-0"

    def test_a_dry_run_changes_nothing_and_a_stale_version_conflicts(self, stage: RestStage) -> None:
        path = "/apis/apps/v1/namespaces/default/deployments/web"
        before = stage.rest.get(path)
        assert stage.rest.patch(path, {"spec": {"replicas": 3}}, dry_run=True)["spec"]["replicas"] == 3
        assert stage.rest.get(path)["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
        assert stage.rest.patch(f"{path}/scale", {"spec": {"replicas": 2}})["spec"]["replicas"] == 2
        stale = {"metadata": {"resourceVersion": before["metadata"]["resourceVersion"]}, "spec": {"replicas": 4}}
        with pytest.raises(Refused) as conflict:
            stage.rest.patch(path, stale)
        assert conflict.value.code == 409 and stage.rest.get(path)["metadata"]["generation"] == 2


class TestInProcess(ServerRows):
    @pytest.fixture
    def stage(self, tmp_path: Path) -> Iterator[RestStage]:
        with ApiServer(controllers=False) as server:
            stage = RestStage(server.kubeconfig(tmp_path / "kubeconfig"), lambda: setattr(server.faults, "blind", True))
            yield stage
            stage.finish()


@pytest.mark.real
@pytest.mark.skipif(bool(missing()), reason=missing())
class TestReal(ServerRows):
    @pytest.fixture
    def stage(self, tmp_path: Path) -> Iterator[RestStage]:
        with RealApiServer(tmp_path) as server:
            stage = RestStage(server.kubeconfig(tmp_path / "kubeconfig"), server.__exit__)
            yield stage
            stage.finish()
