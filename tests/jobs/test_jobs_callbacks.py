"""The Lightning and Hugging Face callbacks, driven in the order in which those trainers call them (stand-in modules)."""

import sys
import types
from pathlib import Path

import pytest

from aiops.jobs import process
from aiops.jobs.huggingface import huggingface_callback
from aiops.jobs.identity import Identity
from aiops.jobs.lightning import lightning_callback
from aiops.jobs.process import Client


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Client:
    client = Client(Identity("j", "r", "0", control=tmp_path))
    monkeypatch.setattr(process, "client", lambda: client)
    monkeypatch.setattr(client.control, "_announced", True)  # leave this process's signals alone
    return client


class Strategy:
    def broadcast(self, value: object) -> object:
        return value


class LightningTrainer:
    """As much of lightning.pytorch.Trainer as a callback sees."""

    def __init__(self, folder: Path) -> None:
        self.default_root_dir, self.strategy, self.is_global_zero, self.global_step = str(folder), Strategy(), True, 0

    def save_checkpoint(self, path: Path) -> None:
        path.write_bytes(b"weights")

    def fit(self, callback, batches: int) -> None:
        callback.on_train_epoch_start(self, None)
        for index in range(batches):
            callback.on_train_batch_start(self, None, None, index)
            self.global_step += 1
            callback.on_train_batch_end(self, None, None, None, index)
        callback.on_train_epoch_end(self, None)


@pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])
def test_lightning(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    module = types.ModuleType(package)
    module.Callback = type("Callback", (), {})
    monkeypatch.setitem(sys.modules, "lightning.pytorch", module if package == "lightning.pytorch" else None)
    monkeypatch.setitem(sys.modules, package, module)
    (tmp_path / "checkpoint-request.json").write_text('{"id": "c1", "run_id": "r"}')
    client.control.look()
    LightningTrainer(tmp_path).fit(lightning_callback(samples=4), 20)
    totals = client.recorder.totals()
    assert (totals.steps, totals.samples) == (20, 80)
    assert totals.seconds["checkpoint"] > 0 and totals.seconds["data_wait"] > 0
    assert client.control.requested() == ""
    assert '"id": "c1"' in (tmp_path / "checkpoint-ack.json").read_text()


class HuggingFaceTrainer:
    """The order of transformers.Trainer: steps, then evaluation, then saving."""

    def __init__(self, folder: Path) -> None:
        self.args = types.SimpleNamespace(output_dir=str(folder))
        self.state = types.SimpleNamespace(global_step=0, is_world_process_zero=True)

    def train(self, callback, steps: int, evaluate_at: int) -> None:
        callback.on_epoch_begin(self.args, self.state, None)
        for _ in range(steps):
            control = types.SimpleNamespace(should_save=False, should_evaluate=False)
            callback.on_step_begin(self.args, self.state, control)
            self.state.global_step += 1
            control.should_evaluate = self.state.global_step == evaluate_at
            callback.on_step_end(self.args, self.state, control)
            if control.should_evaluate:
                callback.on_evaluate(self.args, self.state, control)
            if control.should_save:
                folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
                folder.mkdir()
                (folder / "weights").write_bytes(b"w")
                callback.on_save(self.args, self.state, control)
        callback.on_epoch_end(self.args, self.state, None)


@pytest.mark.parametrize("evaluate_at", [5, 10])
def test_huggingface(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evaluate_at: int) -> None:
    """A request is answered at the tenth step, also where that step evaluates first."""
    module = types.ModuleType("transformers")
    module.TrainerCallback = type("TrainerCallback", (), {})
    monkeypatch.setitem(sys.modules, "transformers", module)
    monkeypatch.setitem(sys.modules, "torch.distributed", None)
    (tmp_path / "checkpoint-request.json").write_text('{"id": "c1", "run_id": "r"}')
    client.control.look()
    HuggingFaceTrainer(tmp_path).train(huggingface_callback(samples=2), 15, evaluate_at)
    totals = client.recorder.totals()
    assert (totals.steps, totals.samples) == (15, 30)
    assert totals.seconds["checkpoint"] > 0
    assert '"step": 10' in (tmp_path / "checkpoint-ack.json").read_text()
    assert client.control.requested() == ""


def test_a_checkpoint_that_cannot_be_proven_does_not_end_the_job(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    process.prove(Path("/nowhere"), 1)
    assert "not acknowledged" in caplog.text


def test_without_the_library_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lightning.pytorch", "pytorch_lightning", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    for build in (lightning_callback, huggingface_callback):
        with pytest.raises(ImportError):
            build()
