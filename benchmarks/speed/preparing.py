"""Preprocessing: native spectra of MUSE to what the model sees."""

from time import process_time

from benchmarks.speed.figures import Part, in_turns
from benchmarks.speed.setup import Setup
from galprote.pipeline.block import prepare_block


def measure(setup: Setup) -> Part:
    """Time `prepare_block` on a chunk of a mock cube."""
    flux, variance, settings, prepared = setup.chunk
    channels, *image = flux.shape
    n = image[0] * image[1]
    part = Part(
        "Preprocessing",
        f"`prepare_block` on a chunk of {n:,} mock spectra of {channels:,} channels with noise, sky residuals, emission"
        " lines and bad variances; one core, process time",
    )
    part.add("spectra that are fitted", float(prepared.batch.fitted.mean()) * 100, "%")
    job = {"prepare": lambda: prepare_block(flux, variance, None, settings)}
    seconds = in_turns(job, process_time, 2 if setup.quick else 9)["prepare"]
    part.add("one core", n / seconds, "spectra/s", "more", "memory", "target: 5,000")
    part.add("one core, of flux and variance", 2 * flux.nbytes / seconds / 1e6, "MB/s", "more", "memory")
    return part
