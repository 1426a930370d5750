"""An image at a glance, counted a few rows at a time: flags, what was fitted, and where there are data."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from galprote.pipeline.quality import Kinds, Status
from galprote.workflows.viewer.stored import StoredGalaxy
from galprote.workflows.viewer.values import flag_counts

#: Spaxels that are counted at a time.
BLOCK: Final = 1_000_000


@dataclass(frozen=True)
class Overview:
    """Counts of an image.

    Attributes
    ----------
    flags : dict of Status to int
        Spaxels with each bit that there is.
    fitted, untrusted : int
    rows, columns : (ny,), (nx,) bool
        Those with data.
    """

    flags: dict[Status, int]
    fitted: int
    untrusted: int
    rows: NDArray[np.bool_]
    columns: NDArray[np.bool_]

    @classmethod
    def of(cls, galaxy: StoredGalaxy) -> "Overview":
        """Count a galaxy's image."""
        status = galaxy.map("status")
        flags: dict[Status, int] = {}
        fitted = untrusted = 0
        rows, columns = (np.zeros(size, dtype=bool) for size in galaxy.shape)
        step = max(1, BLOCK // galaxy.shape[1])
        for first in range(0, galaxy.shape[0], step):
            part = status[first : first + step]
            for bit, count in flag_counts(part).items():
                flags[bit] = flags.get(bit, 0) + count
            kinds, data = Kinds.of(part), (part & Status.NO_DATA) == 0
            untrusted += int(kinds.untrusted.sum())
            fitted += int((data & ~kinds.unfitted & ~kinds.masked).sum())
            rows[first : first + step] = data.any(axis=1)
            columns |= data.any(axis=0)
        return cls({bit: flags[bit] for bit in Status if bit in flags}, fitted, untrusted, rows, columns)
