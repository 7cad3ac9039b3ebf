"""The client in a process of its own, as a job has it: what it imports, reports, and survives."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from collectors.jobs import JobsCollector, parse

ROOT = Path(__file__).parents[2]


def job(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "from aiops import jobs\n" + code],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "AIOPS_JOB_ID": 'j"1', "AIOPS_RUN_ID": "r1", **environment},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


LOOP = "for batch in jobs.steps(range(100), samples=4): pass\n"


def values(text: str, rank: str = "0") -> dict[str, float]:
    return {key.metric: value for key, value in parse(text) if key.label("rank") == rank}


def test_the_client_imports_the_standard_library_and_nothing_else() -> None:
    loaded = job("import sys; print(*{m.split('.')[0] for m in sys.modules} - set(sys.stdlib_module_names))").split()
    ours = job("import sys; print(*[m for m in sys.modules if m.startswith('aiops') and not m.startswith('aiops.jobs')])")
    assert {name for name in loaded if not name.startswith("__")} <= {"aiops", "sitecustomize", "_distutils_hack"}
    assert ours.split() == ["aiops"]


def test_a_run_is_on_file_when_it_ends(tmp_path: Path) -> None:
    job(LOOP, AIOPS_TELEMETRY=str(tmp_path), AIOPS_RANK="3")
    (path,) = tmp_path.glob("*.prom")
    got = values(path.read_text(), rank="3")
    assert (got["job_steps_total"], got["job_samples_total"]) == (100, 400)
    batch = JobsCollector(tmp_path).collect(path.stat().st_mtime + 5)
    assert {(key.label("job_id"), key.label("run_id")) for key in batch.keys} == {('j"1', "r1")}
    assert len(batch.keys) == len(batch.values) >= 9


def test_a_run_arrives_on_the_socket(tmp_path: Path) -> None:
    collector = JobsCollector(socket_path=tmp_path / "jobs.sock")
    assert len(collector.collect(1.0).keys) == 0
    job(LOOP, AIOPS_TELEMETRY=str(tmp_path / "jobs.sock"))
    batch = collector.collect(2.0)
    collector.close()
    assert {k.metric: v for k, v in zip(batch.keys, batch.values, strict=True)}["job_steps_total"] == 100


@pytest.mark.parametrize("target", ["gone/away", "deaf.sock", "full"])
def test_nothing_that_happens_to_telemetry_fails_the_job(tmp_path: Path, target: str) -> None:
    if target == "full":
        (tmp_path / target).symlink_to("/dev/full")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        if target == "deaf.sock":  # bound, and never read: its queue is full after a few reports
            deaf.bind(str(tmp_path / target))
        out = job(LOOP + "for _ in range(50): jobs.flush()\nprint('alive')", AIOPS_TELEMETRY=str(tmp_path / target))
    assert "alive" in out
    assert out.count("telemetry is not written") <= 1  # once, not at every report


def test_a_directory_that_loses_its_space_or_its_rights(tmp_path: Path) -> None:
    """Given a folder that vanishes under the job, when it comes back, then reporting goes on."""
    folder = tmp_path / "t"
    folder.mkdir()
    code = f"import os\n{LOOP}jobs.flush(); os.system('rm -r {folder}'); jobs.flush(); os.mkdir('{folder}'); jobs.flush()"
    job(code, AIOPS_TELEMETRY=str(folder))
    assert values(next(folder.glob("*.prom")).read_text())["job_steps_total"] == 100


def test_a_forked_child_counts_for_itself(tmp_path: Path) -> None:
    """Given a process that counts, when it forks, then the child starts at zero, under the rank it then has."""
    code = f"""
import os, threading
{LOOP}
held = threading.Thread(target=lambda: [jobs.flush() for _ in range(200)]); held.start()
if os.fork() == 0:
    os.environ["AIOPS_RANK"] = "1"
    with jobs.step(): pass
    jobs.flush(); os._exit(0)
assert os.wait()[1] == 0
held.join()
"""
    job(code.replace("import os, threading", "import os, threading, warnings; warnings.simplefilter('ignore')"),
        AIOPS_TELEMETRY=str(tmp_path))  # fmt: skip
    text = "".join(path.read_text() for path in tmp_path.glob("*.prom"))
    assert values(text, "0")["job_steps_total"] == 100
    assert values(text, "1")["job_steps_total"] == 1


def test_break_ends_the_last_step_and_the_loader_is_the_same(tmp_path: Path) -> None:
    code = """
class Loader(list):
    batch_size = 5
loader = jobs.timed(Loader([1, 2, 3]))
assert len(loader) == 3 and loader.batch_size == 5 and list(loader) == [1, 2, 3]
for batch in jobs.steps(loader):
    if batch == 2: break
"""
    job(code, AIOPS_TELEMETRY=str(tmp_path))
    got = values(next(tmp_path.glob("*.prom")).read_text())
    assert (got["job_steps_total"], got["job_samples_total"]) == (2, 10)
