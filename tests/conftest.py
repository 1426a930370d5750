"""Settings of the whole test suite."""

import os

# Before torch is imported anywhere: small matrices gain nothing from threads, and lose much on a shared machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import settings

# The same examples on every machine, and no clock: a shared runner may pause anywhere. To look for new
# counterexamples, run pytest with --hypothesis-profile=default.
settings.register_profile("reproducible", deadline=None, derandomize=True)
settings.load_profile("reproducible")
