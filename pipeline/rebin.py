"""Flux-conserving rebinning as one sparse matrix.

The cumulative flux is known exactly at the edges of the input's samples; a polynomial through the nearest edges (by
default a cubic through four) gives it at the edges of the output, and its differences are the fluxes of the output's
samples. Total flux is conserved, noise is averaged (unlike interpolation), and a smooth spectrum comes back to fourth
order: overlap weights, which take the flux to be constant in each input sample, would broaden every line by the input's
sampling.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array


def edges_of(centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Edges of contiguous samples with the given centres, (n,) -> (n + 1,)."""
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


def rebin_matrix(input_edges: NDArray[np.float64], output_edges: NDArray[np.float64], *, nodes: int = 4) -> csr_array:
    """Matrix that turns mean flux densities on input samples into those on output samples.

    Parameters
    ----------
    input_edges : (m + 1,) float64, increasing
    output_edges : (n + 1,) float64, increasing
    nodes : int
        Edges, an even number, that each polynomial goes through. With 4, MUSE's lines, two channels wide, come out as
        if the stars had 17 km/s more dispersion (in quadrature); with 8, 10 km/s.

    Returns
    -------
    (n, m) csr_array of float32
        Rows sum to the share of the output sample that the input covers, which is one but at the input's ends. About
        five entries a row for MUSE, with 4 nodes.
    """
    full_width = np.diff(output_edges)
    output_edges = np.clip(output_edges, input_edges[0], input_edges[-1])
    m, n = len(input_edges) - 1, len(output_edges) - 1
    # Input edges around each output edge, and the Lagrange weights of their cumulative fluxes.
    first = np.clip(np.searchsorted(input_edges, output_edges, side="right") - nodes // 2, 0, m + 1 - nodes)
    stencil = first[:, None] + np.arange(nodes)
    position = input_edges[stencil]
    weights = np.ones_like(position)
    for node in range(nodes):
        for other in set(range(nodes)) - {node}:
            weights[:, node] *= (output_edges - position[:, other]) / (position[:, node] - position[:, other])
    # An output sample is the difference of two such sums. The cumulative flux at an edge is a sum over all samples
    # before it, so relative to the first edge of the lower stencil only the samples in between remain.
    width = np.diff(input_edges)
    begin, stop = first[:-1], first[1:] + nodes - 1
    samples = begin[:, None] + np.arange(int((stop - begin).max()))
    difference = np.zeros(samples.shape)
    for edges, sign in ((slice(1, None), 1.0), (slice(None, -1), -1.0)):
        part = np.zeros(samples.shape)
        for node in range(nodes):
            part += weights[edges, node, None] * (samples < stencil[edges, node, None])
        difference += sign * part
    inside = samples < stop[:, None]
    entries = difference * width[np.minimum(samples, m - 1)] / full_width[:, None]
    used = inside & (np.abs(entries) > 1e-9)
    rows = np.broadcast_to(np.arange(n)[:, None], samples.shape)
    return csr_array((entries[used].astype(np.float32), (rows[used], samples[used])), shape=(n, m))
