"""Cases with known causes: a mechanistic model of a small GPU cluster in virtual time, and faults that act on it.

Made to test a diagnosis, therefore it must not know one: it imports nothing of `aiops.diagnose` and shares no constant
with it (an import contract sees to the first, `world.py` states where every number comes from). A fault changes only what
acts on the world from outside (`drive.py`); everything that telemetry shows follows from the physics (`physics.py`) and
from what sensors make of it (`sensors.py`). `python -m aiops.sim.faults OUT --cases 50 --seed 1` writes case folders in
the format of `aiops diagnose`, `score.py` scores answers to them.
"""

from aiops.sim.faults.cases import Case, make_case, write_case
from aiops.sim.faults.kinds import KINDS

__all__ = ["KINDS", "Case", "make_case", "write_case"]
