"""A Slurm cluster: its jobs, nodes, partitions, licences and reservations, read whole and changed by argument lists.

Its place: behind `ports.Backend`. It must not know policies, forecasts or the store. slurmctld is the only truth; what we
keep is a journal of effects, and marks that we leave in Slurm itself, so that any later daemon can tell what was done.
"""

from aiops.backends.slurm.backend import SlurmBackend

__all__ = ["SlurmBackend"]
