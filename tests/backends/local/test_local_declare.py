"""What a person may declare, and the one line that they get when it is wrong."""

from pathlib import Path
from typing import Any

import pytest

from aiops.backends.local import LocalBackend, declare
from aiops.errors import ConfigError

WEB = {"command": ["serve"], "target": 10}


@pytest.mark.parametrize(
    ("section", "key", "said"),
    [
        ({"sevices": {}}, "backend.local.sevices", "unknown key"),
        ({"services": {"web": {"target": 1}}}, "backend.local.services.web.command", "required"),
        ({"services": {"web": {**WEB, "command": "serve --fast"}}}, "backend.local.services.web.command", "tuple"),
        ({"services": {"web": {**WEB, "command": []}}}, "backend.local.services.web.command", "at least 1"),
        ({"services": {"web": {**WEB, "min": 5, "max": 2}}}, "backend.local.services.web", "min <= replicas <= max"),
        ({"services": {"web": {**WEB, "target": 0}}}, "backend.local.services.web.target", "greater than 0"),
        ({"services": {"web": {**WEB, "target": float("nan")}}}, "backend.local.services.web.target", "finite"),
        ({"services": {"web": {**WEB, "drain": "soon"}}}, "backend.local.services.web.drain", "a duration such as 30s"),
        ({"services": {"web": {**WEB, "memory": "much"}}}, "backend.local.services.web.memory", "a size such as 512Mi"),
        ({"services": {"web": {**WEB, "health": {}}}}, "backend.local.services.web.health", "exactly one of path and command"),
        ({"services": {"../x": WEB}}, "backend.local.services.../x", "a name of 1-63 letters"),
        ({"jobs": {"a": {"command": ["x"], "queue": "b"}}, "queues": {"c": {}}}, "jobs.a", ".queue: expected one of: c"),
        ({"jobs": {"web": {"command": ["x"]}}, "services": {"web": WEB}}, "backend.local", "a name that no service has"),
        ({"links": {"a": {"capacity": 1, "parent": "b"}}}, "backend.local", "links.a.parent"),
        ({"ports": [9, 3]}, "backend.local", "1024 <= first <= last <= 65535"),
        ({"nodes": {"n": {"gpus": -1}}}, "backend.local.nodes.n.gpus", "greater than or equal to 0"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_one_line_with_its_key(section: dict[str, Any], key: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        LocalBackend.from_settings(section, "aiops.yaml")
    line = str(raised.value)
    assert line.startswith("aiops.yaml: ") and key in line and said in line and "\n" not in line


def test_a_file_of_its_own_is_read_and_its_directory_is_where_commands_run(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(
        "services: {web: {command: [serve], target: 5, cwd: app}}\njobs: {a: {command: [x]}}"
    )
    found = declare.read({"cluster": str(tmp_path / "cluster.yaml")}, "aiops.yaml")
    assert found.services["web"].cwd == tmp_path / "app" and found.jobs["a"].cwd == tmp_path


def test_a_file_and_inline_declarations_contradict_each_other(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text("services: {}")
    with pytest.raises(ConfigError, match="services: expected it in"):
        declare.read({"cluster": str(tmp_path / "cluster.yaml"), "services": {}}, "aiops.yaml")


@pytest.mark.parametrize("text", ["services: [", "services: {}\nservices: {}", "- a", "services: {web: {}}"])
def test_an_error_in_the_file_names_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "cluster.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"cluster\.yaml"):
        declare.read({"cluster": str(tmp_path / "cluster.yaml")}, "aiops.yaml")


def test_building_the_backend_touches_nothing(tmp_path: Path) -> None:
    LocalBackend.from_settings({"state_dir": str(tmp_path / "state")}, "aiops.yaml")
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("text", "size"), [("512Mi", 2**29), ("16G", 2**34), ("1k", 1024), (7, 7), ("100", 100), ("2GiB", 2**31)]
)
def test_sizes(text: object, size: float) -> None:
    assert declare.LinkSpec(capacity=text).capacity == size


def test_the_example_is_valid() -> None:
    root = Path(__file__).parents[3]
    found = declare.read({"cluster": str(root / "examples/local/cluster.yaml")}, "x")
    assert set(found.services) == {"web"} and set(found.jobs) == {"train", "sweep"}
