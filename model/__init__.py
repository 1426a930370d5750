"""GalProTE: the model, its training data and its evaluation; usable alone, without cubes."""

import os

# Without it the last bits of MKL's small matrix products may depend on where an array lies in memory, and those of a
# spectrum's answer on its place in the batch (seen on an AMD EPYC). Read at the first product; costs nothing.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
