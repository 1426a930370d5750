"""Another template library beside a checkpoint's own: to test a network with spectra that it was not trained on."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from galprote.model.checkpoint import Checkpoint
from galprote.model.decoder import Decoder
from galprote.model.errors import LibraryError
from galprote.model.libraries import library_sha256, read_library
from galprote.model.line_spread import MUSE, LineSpread
from galprote.model.templates import TemplateLibrary, verified_decoder


@dataclass(frozen=True)
class OtherLibrary:
    """Templates of another library within a checkpoint's ages and metallicities, at its resolution.

    Attributes
    ----------
    decoder : Decoder
    remarks : tuple of str
        What the reader of a comparison has to know.
    """

    decoder: Decoder
    remarks: tuple[str, ...]


def other_library(path: Path, checkpoint: Checkpoint) -> OtherLibrary:
    """Read a library for a checkpoint that was not trained on it.

    Raises
    ------
    LibraryError
        If it cannot be read, or has too little in common with the checkpoint's grid.
    """
    library = read_library(path)
    training = checkpoint.metadata.get("training", {})
    law = training.get("config", {}).get("line_spread")
    remarks = []
    if training.get("library_sha256") == library_sha256(path):
        remarks.append(f"library: the network was trained on {library.name} itself: nothing new is tested")
    if law is None:
        remarks.append("library: the checkpoint does not tell its line spread function; MUSE's is taken")
    line_spread = MUSE if law is None else LineSpread.model_validate(law)
    return OtherLibrary(verified_decoder(within(library, checkpoint.decoder), line_spread), tuple(remarks))


def within(library: TemplateLibrary, decoder: Decoder) -> TemplateLibrary:
    """The part of a library with ages and metallicities between a decoder's smallest and largest."""
    chosen = []
    for name, axis, own in (
        ("ages in Gyr", library.ages_gyr, decoder.ages_gyr),
        ("metallicities", library.metallicities, decoder.metallicities),
    ):
        inside = (axis >= own[0] - 1e-6) & (axis <= own[-1] + 1e-6)
        if inside.sum() < 2:
            raise LibraryError(
                f"{library.name}: {name} {axis[0]:g} to {axis[-1]:g}, of which {inside.sum()} within the checkpoint's "
                f"{own[0]:g} to {own[-1]:g}; needs at least two"
            )
        chosen.append(inside)
    ages, metallicities = chosen
    return replace(
        library,
        flux=library.flux[metallicities][:, ages],
        ages_gyr=library.ages_gyr[ages],
        metallicities=library.metallicities[metallicities],
    )


def transfer(other: Decoder, own: Decoder) -> tuple[Tensor, Tensor]:
    """How weights on one grid are shared out on another: (n_metallicity, own's), (n_age, own's) float32."""
    return _shares(other.metallicities, own.metallicities), _shares(other.log_ages, own.log_ages)


def _shares(values: NDArray[np.float64], nodes: NDArray[np.float64]) -> Tensor:
    place = np.interp(values, nodes, np.arange(len(nodes)))
    below = np.minimum(place.astype(int), len(nodes) - 2)
    shares = np.zeros((len(values), len(nodes)))
    rows = np.arange(len(values))
    shares[rows, below], shares[rows, below + 1] = 1 - (place - below), place - below
    return torch.from_numpy(shares.astype(np.float32))
