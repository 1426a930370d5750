"""Run a checkpoint over many spectra: device, batches of one size, halving when memory runs out."""

import logging
import threading
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from galprote.model.appraisal import KINDS, PARTS, Appraised
from galprote.model.checkpoint import Checkpoint, default_checkpoint, load_checkpoint
from galprote.model.errors import PlanError
from galprote.model.grids import N_KEPT, N_WAVELENGTH
from galprote.model.inference import for_inference
from galprote.model.populations import APPRAISED
from galprote.model.precision import Precision
from galprote.model.refinement import Observation

logger = logging.getLogger(__name__)

CPU_BATCH: Final = 256
GPU_BATCH: Final = 4096

_lock = threading.Lock()


class Predictions(NamedTuple):
    """What the model says of n spectra. Everything from `widths` on is NaN from a network without appraisal.

    Attributes
    ----------
    grid : (n, n_metallicity, n_age) float32
        Light fractions.
    av : (n,) float32
        mag.
    dispersion, velocity : (n,) float32
        Kinematics that the model spectrum has, km/s: beyond the instrument's resolution, and off the assumed redshift.
    model : (n, 948) float32
        Model spectra, scaled so that the median of what the network would see of them is one.
    norm : (n,) float32
        That median before the scaling, in the templates' unit: leads from flux to mass.
    gain : (n,) float32
        What `model` is to be multiplied by to fit the observed spectrum, weighted by its noise, near one: noise moves
        the median of a spectrum with absorption lines, by up to 1 %. One from a plain network.
    widths : (n, Q, 2) float32
        Half-widths of the intervals around the numbers of `galprote.model.populations.APPRAISED` that hold 68.27 % and
        95.45 % of the errors.
    model_error : (n, PARTS) float32
        Rms error of the model spectrum in parts of it (`galprote.model.appraisal.part_masks`), in units of the median.
    kinds : (n, K) float32
        Probability of each of `galprote.model.appraisal.KINDS`, were they as frequent as in training.
    trust : (n,) float32
        Share of ordinary spectra of this signal-to-noise ratio that look as odd as this one, or odder.
    noise_scale : (n,) float32
        Scatter of the residuals in units of the stated noise.
    shift : (n,) float32
        Velocity off the assumed redshift at which the spectrum's lines fit best, km/s, within 7500.
    """

    grid: NDArray[np.float32]
    av: NDArray[np.float32]
    dispersion: NDArray[np.float32]
    velocity: NDArray[np.float32]
    model: NDArray[np.float32]
    norm: NDArray[np.float32]
    gain: NDArray[np.float32]
    widths: NDArray[np.float32]
    model_error: NDArray[np.float32]
    kinds: NDArray[np.float32]
    trust: NDArray[np.float32]
    noise_scale: NDArray[np.float32]
    shift: NDArray[np.float32]


class Predictor:
    """A checkpoint on a device.

    Every batch has the same number of rows, the last one padded: a matrix product may round differently for another
    number of rows, and a spectrum's answer must not depend on how many neighbours it happens to have.

    Parameters
    ----------
    checkpoint : Checkpoint
    device : {"cpu", "cuda"} or torch.device
    batch : int, optional
        Spectra in a batch; 256 on a CPU, 4096 on a GPU.
    precision : {"float32", "bfloat16", "int8"}
        Of those layers that bear it (`galprote.model.inference`).
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str | torch.device = "cpu",
        batch: int | None = None,
        precision: Precision = "float32",
    ) -> None:
        self.checkpoint = checkpoint
        self.device = torch.device(device)
        if self.device.type == "cuda":
            # TensorFloat-32 keeps ten bits: maps made on a GPU would differ from those made on a CPU.
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cuda.matmul.allow_tf32 = False
            torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False  # sums in float32
        self.batch = batch or (CPU_BATCH if self.device.type == "cpu" else GPU_BATCH)
        self.precision = precision
        self.model = for_inference(checkpoint.model.to(self.device), self.precision)
        self._templates = checkpoint.decoder.templates().to(self.device)
        self._curve = (checkpoint.decoder.attenuation() * (-0.4 * float(np.log(10.0)))).to(self.device)

    def __call__(
        self,
        spectra: NDArray[np.float32],
        noise: NDArray[np.float32],
        calibration: float = 0.0,
        redshift: float | NDArray[np.float32] = 0.0,
        template_error: float = 0.0,
    ) -> Predictions:
        """Predict.

        Parameters
        ----------
        spectra : (n, 876) float32
            Rest-frame spectra without the emission bands, divided by their median.
        noise : (n, 876) float32
            Standard deviation in the same unit, infinite where a sample was filled. A plain network ignores it.
        calibration : float
            Expected scatter of a smooth error of the flux calibration, relative.
        redshift : float or (n,) float32
            Of the galaxy: where a star of the Milky Way would be.
        template_error : float
            Expected difference of the stars from the templates, relative; only the errors heed it.

        Raises
        ------
        PlanError
            If not even one spectrum fits into the device's memory.
        """
        for name, array in (("spectra", spectra), ("noise", noise)):
            if array.shape != (len(spectra), N_KEPT):
                raise ValueError(f"{name}: shape {array.shape}, expected (n, {N_KEPT}), one row for each spectrum")
        n = len(spectra)
        redshifts = np.broadcast_to(np.asarray(redshift, dtype=np.float32), (n,))
        result = self._empty(n)
        start = 0
        while start < n:
            rows = slice(start, start + self.batch)
            try:
                parts = self._batch(spectra[rows], noise[rows], redshifts[rows], calibration, template_error)
            except torch.OutOfMemoryError as error:
                self._halve(error)
                continue
            for whole, part in zip(result, parts, strict=True):
                whole[rows] = part[: n - start].cpu().numpy()
            start = rows.stop
        return result

    def _empty(self, n: int) -> Predictions:
        """Room for n spectra."""
        cells = self.checkpoint.decoder.shape
        spectra = (cells, (), (), (), (N_WAVELENGTH,), (), ())
        shapes = (*spectra, (len(APPRAISED), 2), (PARTS,), (len(KINDS),), (), (), ())
        return Predictions(*(np.empty((n, *shape), dtype=np.float32) for shape in shapes))

    @torch.inference_mode()
    def _batch(
        self,
        spectra: NDArray[np.float32],
        noise: NDArray[np.float32],
        redshift: NDArray[np.float32],
        calibration: float,
        template_error: float,
    ) -> tuple[torch.Tensor, ...]:
        """One batch of `self.batch` rows, the missing ones padded."""
        flux, sigma, z = (self._padded(array) for array in (spectra, noise, redshift))
        seen = Observation(flux, sigma, torch.full_like(z, calibration), z, torch.full_like(z, template_error))
        prediction = self.model(seen.flux, seen.noise, seen.calibration)
        fit = self.model.populations(prediction)
        if self.model.refinement is None:
            mixture = (fit.grid.flatten(1) @ self._templates) * torch.exp(fit.av[:, None] * self._curve)
            norm = self.model.norm(mixture)
            return *fit, mixture / norm[:, None], norm, torch.ones_like(norm), *self._unappraised()
        answer, look = self.model.reconsider(seen, prediction, fit)
        appraised = self.model.appraise(seen, answer, look)
        worth = self._unappraised() if appraised is None else _plain(appraised)
        mixture, amplitude = self.model.refinement.mixture(answer, look)
        norm = self.model.norm(mixture)
        return *fit, mixture / norm[:, None], norm, amplitude * norm, *worth

    def _unappraised(self) -> list[torch.Tensor]:
        shapes = ((len(APPRAISED), 2), (PARTS,), (len(KINDS),), (), (), ())
        return [torch.full((self.batch, *shape), torch.nan, device=self.device) for shape in shapes]

    def _padded(self, rows: NDArray[np.float32]) -> torch.Tensor:
        padded = rows
        # PyTorch wants to be able to write, and sums differ with the order in memory.
        if len(rows) < self.batch or not rows.flags.writeable or not rows.flags.c_contiguous:
            padded = np.ones((self.batch, *rows.shape[1:]), dtype=np.float32)
            padded[: len(rows)] = rows
        return torch.from_numpy(padded).to(self.device)

    def _halve(self, error: Exception) -> None:
        if self.batch == 1:
            raise PlanError(f"{self.device}: out of memory for a single spectrum: {error}") from error
        torch.cuda.empty_cache()
        self.batch //= 2
        logger.warning("%s: out of memory; batches are now of %d spectra", self.device, self.batch)


def _plain(appraised: Appraised) -> tuple[torch.Tensor, ...]:
    """In the order and units of `Predictions`."""
    return (
        appraised.log_widths.exp(),
        appraised.log_model_error.exp(),
        appraised.kind_logits.softmax(dim=1),
        appraised.trust,
        appraised.noise_scale,
        appraised.shift,
    )


def resolve_device(device: str) -> str:
    """Turn `auto` into `cuda` where there is an NVIDIA GPU, `cpu` elsewhere.

    Raises
    ------
    PlanError
        If `cuda` was asked for and there is none.
    """
    available = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if available else "cpu"
    if device == "cuda" and not available:
        raise PlanError("device: cuda was asked for, but PyTorch finds no NVIDIA GPU here; use auto or cpu")
    return device


def shared_predictor(
    checkpoint: Path | None, sha256: str | None, device: str, precision: Precision = "float32"
) -> Predictor:
    """Give this process's only predictor of a checkpoint: loaded at the first call, whichever thread makes it.

    Parameters
    ----------
    checkpoint : Path, optional
        The shipped one by default.
    sha256 : str, optional
        Expected hash: workers refuse a file that is not the one the run was planned with.
    device : {"cpu", "cuda"}
    precision : {"float32", "bfloat16", "int8"}
    """
    path = (checkpoint or default_checkpoint()).resolve()
    with _lock:
        state = path.stat() if path.is_file() else None
        predictor = _load(path, device, precision, (state.st_mtime_ns, state.st_size) if state else None)
    if sha256 is not None and predictor.checkpoint.sha256 != sha256:
        raise PlanError(f"{checkpoint}: the checkpoint changed since the run was planned")
    return predictor


@lru_cache(maxsize=4)
def _load(checkpoint: Path, device: str, precision: Precision, version: tuple[int, int] | None) -> Predictor:
    """`version`, the file's date and size, makes a rewritten file another one."""
    return Predictor(load_checkpoint(checkpoint), device, precision=precision)
