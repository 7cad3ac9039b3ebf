"""Bad configuration: one clear line naming file, key, and what was expected."""

from pathlib import Path

import pytest

from aiops.errors import ConfigError
from aiops.settings import read, seconds


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "aiops.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        pytest.param("listen: {prot: 80}", "listen.prot", "unknown key", id="misspelt key"),
        pytest.param("listen:\n  port: 1\n  port: 2\n", "", "found duplicate key", id="no silent second winner"),
        pytest.param("listen: {port: 99999}", "listen.port", "less than or equal to 65535", id="out of range"),
        pytest.param("every: {tick: soon}", "every.tick", "a duration such as 30s", id="not a duration"),
        pytest.param("every: {tick: 0}", "every.tick", "greater than 0", id="a zero period would spin"),
        pytest.param("- a\n- b\n", "", "expected a mapping", id="a list at the top"),
        pytest.param("a: [1,\n", "", "expected valid YAML", id="broken syntax"),
        pytest.param("policies: {prescale: {mode: yolo}}", "policies.prescale.mode", "'observe', 'advise' or 'act'", id="mode"),
        pytest.param("backend: {local: {}, slurm: {}}", "backend", "at most 1", id="one cluster, one backend"),
        pytest.param("cluster: ''", "cluster", "match pattern", id="a name of nothing"),
        pytest.param('cluster: "a\\nb"', "cluster", "match pattern", id="a name over two lines"),
        pytest.param("a: !!python/object/apply:os.system [ls]", "", "expected valid YAML", id="no code from YAML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, key: str, says: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert str(path) in caught.value.where
    assert caught.value.key == key
    assert says in caught.value.expected
    assert "\n" not in str(caught.value)


def test_the_line_of_a_syntax_error_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"aiops.yaml:3"):
        read(written(tmp_path, "a: 1\nb: [1\nc: 2"))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read(tmp_path / "missing.yaml")


def test_flag_beats_environment_beats_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, "listen: {host: 127.0.0.2, port: 1001}\ncluster: from-file\n")
    monkeypatch.setenv("AIOPS_LISTEN__PORT", "1002")
    assert read(path).listen.port == 1002
    assert read(path).listen.host == "127.0.0.2"
    assert read(path, {"listen.port": 1003}).listen.port == 1003
    assert read(path).cluster == "from-file"


def test_a_wrong_flag_is_refused_like_a_wrong_file() -> None:
    with pytest.raises(ConfigError, match=r"command line: listen\.port: "):
        read(None, {"listen.port": 70000})


@pytest.mark.parametrize(
    ("text", "value"), [("30s", 30), ("5m", 300), ("1.5h", 5400), ("7d", 604800), (12, 12), ("250ms", 0.25)]
)
def test_durations(text: object, value: float) -> None:
    assert seconds(text) == value


def test_without_a_file_everything_only_observes() -> None:
    assert {policy.mode.value for policy in read(None).policies.values()} == {"observe"}


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        pytest.param("AIOPS_LISTEN", "8080", "listen", id="a section that is not JSON"),
        pytest.param("AIOPS_POLICIES", "{prescale", "policies", id="broken JSON"),
        pytest.param("AIOPS_LISTN__PORT", "1", "AIOPS_LISTN__PORT", id="misspelt section"),
        pytest.param("AIOPS_LISTEN__PROT", "1", "unknown key", id="misspelt key"),
    ],
)
def test_a_wrong_environment_is_refused_in_one_line(name: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=says) as caught:
        read(None)
    assert "environment" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_other_programs_call_aiops_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOPS_RUN_ID", "7")
    assert read(None).cluster == "local"
