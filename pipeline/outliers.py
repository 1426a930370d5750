"""Where two maps differ most: connected groups of outlying spaxels, and what our maps' flags say of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from galprote.pipeline.comparison import Array, outlying, robust_sigma
from galprote.pipeline.quality import NOT_TRUSTED, UNRELIABLE, Status

#: Spaxels that touch at a side or a corner belong together.
_TOUCHING: Final = np.ones((3, 3), dtype=int)
#: A group whose S/N is below this is told to be faint.
FAINT: Final = 10.0


@dataclass(frozen=True)
class Group:
    """Connected spaxels that differ in the same sense.

    Attributes
    ----------
    number : int
        From 1, the most significant first: by the sum of squared deviations, in robust standard deviations.
    spaxels : int
    y, x : int
        Its worst spaxel, from 0.
    ra, dec : float
        Of that, ICRS degrees; NaN without a WCS.
    ours, reference, difference : float
        Means over the group.
    in_sigma, in_errors : float
        Its mean deviation from the median difference in robust standard deviations, and its mean difference in
        expected errors. NaN where the former are 0 (over half of the differences are the same), or errors not known.
    snr, trust : float
        Medians of our maps.
    flags : tuple of str
        Names of status bits that at least a fifth of it has, the commonest first.
    remarks : tuple of str
        What may be the matter, as far as our maps know: what it borders on, how faint it is, its bin.
    """

    number: int
    spaxels: int
    y: int
    x: int
    ra: float
    dec: float
    ours: float
    reference: float
    difference: float
    in_sigma: float
    in_errors: float
    snr: float
    trust: float
    flags: tuple[str, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Outliers:
    """Outlying spaxels of one quantity.

    Attributes
    ----------
    labels : (y, x) int32
        Number of the spaxel's group; 0: no outlier.
    groups : tuple of Group
    """

    labels: NDArray[np.int32]
    groups: tuple[Group, ...]


def find_outliers(
    ours: Array, theirs: Array, error: Array, about: Mapping[str, NDArray[Any]], *, most: int = 200
) -> Outliers:
    """Group the outlying spaxels of two maps.

    Parameters
    ----------
    ours, theirs, error : (y, x) float64
        The first two NaN where they are not compared; the error of their difference, NaN where it is not known.
    about : mapping of str to (y, x)
        `status`, and where there are any `snr`, `trust`, `ra`, `dec`, `bin_id`.
    most : int
        Groups that are described; all outlying spaxels are labelled.
    """
    difference = ours - theirs
    compared = np.isfinite(difference)
    flat = difference[compared]
    odd = np.zeros(difference.shape, dtype=bool)
    odd[compared] = outlying(flat, error[compared])
    if not odd.any():
        return Outliers(np.zeros(odd.shape, dtype=np.int32), ())
    sigma = robust_sigma(flat) or np.nan
    deviation = difference - np.median(flat)
    labels = _labelled(odd & (deviation > 0), odd & (deviation < 0))
    weight = ndimage.sum_labels(deviation**2, labels, np.arange(1, labels.max() + 1))
    rank = np.zeros(labels.max() + 1, dtype=np.int32)
    rank[np.argsort(-weight, kind="stable") + 1] = np.arange(1, labels.max() + 1)
    labels = rank[labels]
    boxes = ndimage.find_objects(labels)
    maps = {"ours": ours, "theirs": theirs, "error": error, "deviation": deviation, **about}
    groups = tuple(_group(number + 1, box, labels, maps, sigma) for number, box in enumerate(boxes[:most]))
    return Outliers(labels, groups)


def _labelled(high: NDArray[np.bool_], low: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Numbers of connected groups of either sign."""
    upper, count = ndimage.label(high, _TOUCHING)
    lower, _ = ndimage.label(low, _TOUCHING)
    labels: NDArray[np.int32] = np.where(lower > 0, lower + count, upper).astype(np.int32)
    return labels


def _group(
    number: int,
    box: tuple[slice, slice],
    labels: NDArray[np.int32],
    maps: Mapping[str, NDArray[Any]],
    sigma: float,
) -> Group:
    """Describe a group within its box."""
    inside = labels[box] == number
    here = {name: values[box][inside] for name, values in maps.items()}
    worst = int(np.argmax(np.abs(here["deviation"])))
    y, x = (int(index[worst]) + part.start for index, part in zip(np.nonzero(inside), box, strict=True))
    difference = here["ours"] - here["theirs"]
    with np.errstate(invalid="ignore", divide="ignore"):
        errors = difference / here["error"]
    return Group(
        number=number,
        spaxels=int(inside.sum()),
        y=y,
        x=x,
        ra=float(maps["ra"][y, x]) if "ra" in maps else np.nan,
        dec=float(maps["dec"][y, x]) if "dec" in maps else np.nan,
        ours=float(here["ours"].mean()),
        reference=float(here["theirs"].mean()),
        difference=float(difference.mean()),
        in_sigma=float(here["deviation"].mean()) / sigma,
        in_errors=_mean(errors),
        snr=_middle(here.get("snr")),
        trust=_middle(here.get("trust")),
        flags=common_flags(here["status"]),
        remarks=_remarks(number, box, labels, maps, here),
    )


def common_flags(status: NDArray[Any], share: float = 0.2) -> tuple[str, ...]:
    """Names of the status bits that at least that share of spaxels have, the commonest first."""
    if not status.size:
        return ()
    shares = {str(bit.name).lower(): float(np.mean((status & int(bit)) > 0)) for bit in Status}
    return tuple(name for name in sorted(shares, key=lambda name: -shares[name]) if shares[name] >= share > 0)


def _remarks(
    number: int,
    box: tuple[slice, slice],
    labels: NDArray[np.int32],
    maps: Mapping[str, NDArray[Any]],
    here: Mapping[str, NDArray[Any]],
) -> tuple[str, ...]:
    status = maps["status"]
    wider = tuple(slice(max(part.start - 2, 0), part.stop + 2) for part in box)
    near = ndimage.binary_dilation(labels[wider] == number, _TOUCHING, iterations=2)
    ring = status[wider][near & (labels[wider] != number)]
    found = []
    distrusted = ring[(ring & int(NOT_TRUSTED)) > 0] & int(NOT_TRUSTED)
    if distrusted.size:
        untrusted = common_flags(distrusted & ~int(Status.UNLIKE_TRAINING))
        found.append(f"beside spaxels flagged {untrusted[0] if untrusted else 'unlike_training'}")
    rows, columns = status.shape
    at_edge = (
        (wider[0].start == 0 and near[:2].any()) or (wider[1].start == 0 and near[:, :2].any())
        or (wider[0].stop >= rows and near[-2:].any()) or (wider[1].stop >= columns and near[:, -2:].any())
    )  # fmt: skip
    if at_edge or ((ring & int(UNRELIABLE & ~NOT_TRUSTED)) > 0).any():
        found.append("at the edge of what was fitted")
    snr = _middle(here.get("snr"))
    if snr < FAINT:
        found.append(f"faint, S/N {snr:.0f}")
    if "bin_id" in here:
        bins = np.unique(here["bin_id"])
        found.append(f"bin {bins[0]}" if len(bins) == 1 else f"{len(bins):,} bins")
    return tuple(found)


def _middle(values: NDArray[Any] | None) -> float:
    known = np.asarray([] if values is None else values, dtype=np.float64)
    known = known[np.isfinite(known)]
    return float(np.median(known)) if known.size else np.nan


def _mean(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else np.nan
