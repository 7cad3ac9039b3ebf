"""The section `backend.slurm`: how to reach the cluster, what is protected, and what its licences mean.

Only shapes and their checks. Nothing here has to be set where Slurm's programs find their own configuration.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from aiops.errors import ConfigError
from aiops.settings import Seconds, Section, invalid

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_GBPS = 125e6  # bytes/s of one Gbit/s


def _name(value: object) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError("expected a name of letters, digits, '.', '_' or '-'")
    return value


def _template(value: object) -> str:
    text = str(value)
    if not text.startswith("/") or "{job}" not in text or re.search(r"[{}]", re.sub(r"\{(job|user)\}", "", text)):
        raise ValueError("expected an absolute path with {job}, and {user} if wanted, such as /scratch/aiops/{user}/{job}")
    return text


Name = Annotated[str, BeforeValidator(_name)]


class Licence(Section):
    """A licence that stands for bandwidth: how much one unit is, and which storage it serves."""

    unit_bytes_per_s: float = Field(default=_GBPS, gt=0, lt=1e18)
    kind: Literal["uplink", "fabric", "storage"] = "fabric"
    volume: str = ""


class Rest(Section):
    """slurmrestd for reading: a URL, or `unix:///path`; the token file is read again for every request.

    `else_commands`: where it does not answer, Slurm's own programs are asked instead, which speak to slurmctld themselves.
    """

    url: str = Field(pattern=r"^(https?|unix)://")
    token_file: Path | None = None
    user: str = ""
    else_commands: bool = True


class SlurmSettings(Section):
    """The backend's section. Slurm's programs present `token_file`, where it is given, in place of munge.

    `min_runtime`: a younger run is stopped for nobody, nor one within Slurm's own PreemptExemptTime (600 s: as our queues).
    """

    state_dir: Path = Path("aiops-data/slurm")
    conf: Path | None = None
    rest: Rest | None = None
    token_file: Path | None = None
    interval: Seconds = Field(default=5.0, le=60.0)
    timeout: Seconds = Field(default=10.0, le=120.0)
    control_dir: Annotated[str, BeforeValidator(_template)] | None = None
    signal: Literal["off", "batch", "steps"] = "off"
    protected_accounts: tuple[str, ...] = ()
    protected_users: tuple[str, ...] = ()
    protected_partitions: tuple[str, ...] = ()
    protected_qos: tuple[str, ...] = ()
    protected_nodes: tuple[str, ...] = ()
    preemptible_partitions: tuple[str, ...] = ()
    preemptible_qos: tuple[str, ...] = ()
    min_runtime: Seconds = Field(default=600.0, ge=0)
    licences: dict[Name, Licence] = Field(default_factory=dict)
    reservation_user: Name | None = None

    def bandwidth(self, licence: str) -> Licence | None:
        """What a licence stands for; names that end in `_gbps` speak for themselves."""
        kind: Literal["storage", "fabric"] = "storage" if licence.startswith(("store", "stor")) else "fabric"
        return self.licences.get(licence) or (Licence(kind=kind) if licence.endswith("_gbps") else None)


def read(section: Mapping[str, Any], where: str) -> SlurmSettings:
    """Checked settings. Raises ConfigError for the first thing that is wrong."""
    try:
        settings = SlurmSettings(**section)
    except ValidationError as error:
        raise invalid(error, where, "backend.slurm") from None
    except TypeError as error:
        raise ConfigError(where, "backend.slurm", f"expected a mapping of names to values: {error}") from None
    return settings.model_copy(update={"state_dir": Path.cwd() / settings.state_dir})
