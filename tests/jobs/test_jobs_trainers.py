"""The callbacks in the real trainers, wherever these are installed: every step is counted, a checkpoint request answered."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

COMMON = """
import sys, time, torch
from aiops import jobs

class Data(torch.utils.data.Dataset):
    def __len__(self): return 64
    def __getitem__(self, i):
        time.sleep(0.002)
        return {"x": torch.randn(8), "labels": torch.randn(1)}

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 1)
    def forward(self, x=None, labels=None):
        time.sleep(0.005)
        out = self.layer(x)
        return {"loss": ((out - labels) ** 2).mean(), "logits": out}
"""
HUGGING_FACE = """
from transformers import Trainer, TrainingArguments
how = TrainingArguments(output_dir=sys.argv[1], num_train_epochs=2, per_device_train_batch_size=4, report_to=[], use_cpu=True,
                        save_strategy="no", eval_strategy="epoch", disable_tqdm=True, logging_strategy="no")
callback = jobs.huggingface_callback(samples=4)
Trainer(model=Model(), args=how, train_dataset=Data(), eval_dataset=Data(), callbacks=[callback]).train()
"""
LIGHTNING = """
import pytorch_lightning
class Module(pytorch_lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = Model()
    def training_step(self, batch, index): return self.model(**batch)["loss"]
    def validation_step(self, batch, index): self.model(**batch)
    def configure_optimizers(self): return torch.optim.SGD(self.parameters(), 1e-3)
def load(): return torch.utils.data.DataLoader(Data(), batch_size=4)
trainer = pytorch_lightning.Trainer(
    max_epochs=2, callbacks=[jobs.lightning_callback(samples=4)], logger=False, accelerator="cpu",
    enable_checkpointing=False, enable_progress_bar=False, default_root_dir=sys.argv[1],
)
trainer.fit(Module(), load(), load())
"""


@pytest.mark.parametrize(("package", "program"), [("transformers", HUGGING_FACE), ("pytorch_lightning", LIGHTNING)])
def test_a_real_trainer_counts_its_steps_and_answers_a_checkpoint_request(package: str, program: str, tmp_path: Path) -> None:
    absent = [name for name in (package, "torch") if find_spec(name) is None]
    if absent:
        pytest.skip(f"{' and '.join(absent)} not installed")
    told, control = tmp_path / "telemetry", tmp_path / "control"
    told.mkdir(), control.mkdir()
    (control / "checkpoint-request.json").write_text(json.dumps({"id": "want", "run_id": "1", "at": 0.0}))
    environment = {
        "AIOPS_TELEMETRY": str(told), "AIOPS_CONTROL_DIR": str(control), "AIOPS_JOB_ID": "j", "AIOPS_RUN_ID": "1",
        "PYTHONPATH": ":".join(path for path in sys.path if path), "HF_HUB_OFFLINE": "1", "PATH": "", "HOME": str(tmp_path),
    }  # fmt: skip
    script = tmp_path / "job.py"
    script.write_text(COMMON + program + "\njobs.flush()\n")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(tmp_path / "out")],
        env=environment, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (report,) = told.glob("*.prom")
    series = {line.partition("{")[0]: float(line.rpartition(" ")[2]) for line in report.read_text().splitlines()}
    assert (series["job_steps_total"], series["job_samples_total"]) == (32, 128)
    assert series["job_data_wait_seconds_total"] >= 128 * 0.002 * 0.9, "a batch of 4 is 4 samples of 2 ms, waited for"
    assert series["job_compute_seconds_total"] >= 32 * 0.005 * 0.9
    proof = json.loads((control / "checkpoint-ack.json").read_text())
    assert (proof["id"], proof["complete"]) == ("want", True)
    assert all(Path(file["path"]).stat().st_size == file["bytes"] for file in proof["manifest"]["files"])
