"""How fast galprote is on this machine, and beside what: one command, and a comparison with an earlier run of it."""

import os

# Before numpy and torch are imported anywhere: figures are of one core.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
