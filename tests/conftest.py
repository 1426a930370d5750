"""Settings of the whole test suite."""

from hypothesis import settings

# The same examples on every machine, and no clock: a shared runner may pause anywhere. To look for new
# counterexamples, run pytest with --hypothesis-profile=default.
settings.register_profile("reproducible", deadline=None, derandomize=True)
settings.load_profile("reproducible")
