"""The stateful test of the decision core at its nightly size, in batches that each replay from their seed.

    python tests/campaign/stateful.py [--examples 2000] [--steps 200] [--seconds 3600] [--seed 1]     (make campaign-stateful)

Any sequence of wishes, lies, lost replies, crashes, clock jumps, orders and changes of leader
(`tests/decide/test_stateful.py`); every example ends with `aiops.decide.check`. Prints how many ran, how many turns of the loop
they took, and what broke.
"""

import argparse
import logging
import sys
import time
from pathlib import Path
from typing import Any

import structlog
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

sys.path.insert(0, str(Path(__file__).parents[1] / "decide"))
from test_stateful import Cluster

BATCH = 50


class Counted(Cluster):
    """Counts examples and turns of the real loop."""

    examples = turns = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).examples += 1

    def turn(self, *wishes: Any, after: float = 10.0) -> None:
        type(self).turns += 1
        super().turn(*wishes, after=after)


def batch(number: int, examples: int, steps: int) -> str:
    """One batch of examples; what it broke, '' for nothing."""
    rules = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck), database=None,
        print_blob=True, phases=(Phase.generate,),  # shrinking takes longer than the campaign: the seed replays it
    )  # fmt: skip
    try:
        run_state_machine_as_test(seed(number)(Counted), settings=rules)
    except Exception as error:  # an example that fails may fail in any way: its seed replays it
        return f"seed {number}: {type(error).__name__}: {str(error)[:2000]}"
    return ""


def main() -> int:
    """Print the counts; 0 where nothing broke."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--examples", type=int, default=2000)
    options.add_argument("--steps", type=int, default=200)
    options.add_argument("--seconds", type=float, default=3600.0)
    options.add_argument("--seed", type=int, default=1)
    asked = options.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))  # not a line per cycle
    until, broken, number = time.monotonic() + asked.seconds, [], asked.seed * 100_000
    while Counted.examples < asked.examples and time.monotonic() < until:
        broken += [found for found in [batch(number, min(BATCH, asked.examples), asked.steps)] if found]
        number += 1
        print(
            f"\r{Counted.examples} examples, {Counted.turns} turns, {len(broken)} broken", end="", file=sys.stderr, flush=True
        )
    print(file=sys.stderr)
    print(f"{Counted.examples} of {asked.examples} examples of up to {asked.steps} steps, {Counted.turns} turns of the loop")
    print(f"batches with a violation: {len(broken)}")
    for found in broken:
        print(found, file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
