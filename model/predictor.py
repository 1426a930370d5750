"""Run a checkpoint over many spectra: device, batches of one size, halving when memory runs out."""

import logging
import threading
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from galprote.model.checkpoint import Checkpoint, default_checkpoint, load_checkpoint
from galprote.model.decoder import kept_median
from galprote.model.errors import PlanError
from galprote.model.grids import N_KEPT

logger = logging.getLogger(__name__)

CPU_BATCH: Final = 128
GPU_BATCH: Final = 4096

_lock = threading.Lock()


class Predictor:
    """A checkpoint on a device.

    Every batch has the same number of rows, the last one padded: a matrix product may round differently for another
    number of rows, and a spectrum's answer must not depend on how many neighbours it happens to have.

    Parameters
    ----------
    checkpoint : Checkpoint
    device : {"cpu", "cuda"} or torch.device
    batch : int, optional
        Spectra in a batch; 128 on a CPU, 4096 on a GPU.
    """

    def __init__(self, checkpoint: Checkpoint, device: str | torch.device = "cpu", batch: int | None = None) -> None:
        self.checkpoint = checkpoint
        self.device = torch.device(device)
        if self.device.type == "cuda":
            # TensorFloat-32 keeps ten bits: maps made on a GPU would differ from those made on a CPU.
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cuda.matmul.allow_tf32 = False
        self.batch = batch or (CPU_BATCH if self.device.type == "cpu" else GPU_BATCH)
        self.model = checkpoint.model.to(self.device).eval()
        self._templates = checkpoint.decoder.templates().to(self.device)
        self._curve = (checkpoint.decoder.attenuation() * (-0.4 * float(np.log(10.0)))).to(self.device)

    def __call__(
        self, spectra: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Predict.

        Parameters
        ----------
        spectra : (n, 876) float32
            Rest-frame spectra without the emission bands, divided by their median.

        Returns
        -------
        grid : (n, n_metallicity, n_age) float32
            Light fractions.
        av : (n,) float32
            mag.
        model : (n, 948) float32
            Model spectra, scaled so that the median of their kept samples is one.

        Raises
        ------
        PlanError
            If not even one spectrum fits into the device's memory.
        """
        if spectra.ndim != 2 or spectra.shape[1] != N_KEPT:
            raise ValueError(f"spectra: shape {spectra.shape}, expected (n, {N_KEPT})")
        shape = (self.model.config.n_metallicity, self.model.config.n_age)
        grid = np.empty((len(spectra), *shape), dtype=np.float32)
        av = np.empty(len(spectra), dtype=np.float32)
        model = np.empty((len(spectra), len(self._curve)), dtype=np.float32)
        start = 0
        while start < len(spectra):
            rows = slice(start, start + self.batch)
            try:
                grid[rows], av[rows], model[rows] = self._batch(spectra[rows])
            except torch.OutOfMemoryError as error:
                self._halve(error)
                continue
            start = rows.stop
        return grid, av, model

    @torch.inference_mode()
    def _batch(
        self, spectra: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        padded = np.ones((self.batch, N_KEPT), dtype=np.float32)
        padded[: len(spectra)] = spectra
        grid, av = self.model.populations(self.model(torch.from_numpy(padded).to(self.device)))
        model = (grid.flatten(1) @ self._templates) * torch.exp(av[:, None] * self._curve)
        model = model / kept_median(model)[:, None]
        n = len(spectra)
        return grid[:n].cpu().numpy(), av[:n].cpu().numpy(), model[:n].cpu().numpy()

    def _halve(self, error: Exception) -> None:
        if self.batch == 1:
            raise PlanError(f"{self.device}: out of memory for a single spectrum: {error}") from error
        torch.cuda.empty_cache()
        self.batch //= 2
        logger.warning("%s: out of memory; batches are now of %d spectra", self.device, self.batch)


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


def shared_predictor(checkpoint: Path | None, sha256: str | None, device: str) -> Predictor:
    """Give this process's only predictor of a checkpoint: loaded at the first call, whichever thread makes it.

    Parameters
    ----------
    checkpoint : Path, optional
        The shipped one by default.
    sha256 : str, optional
        Expected hash: workers refuse a file that is not the one the run was planned with.
    device : {"cpu", "cuda"}
    """
    path = (checkpoint or default_checkpoint()).resolve()
    with _lock:
        state = path.stat() if path.is_file() else None
        predictor = _load(path, device, (state.st_mtime_ns, state.st_size) if state else None)
    if sha256 is not None and predictor.checkpoint.sha256 != sha256:
        raise PlanError(f"{checkpoint}: the checkpoint changed since the run was planned")
    return predictor


@lru_cache(maxsize=4)
def _load(checkpoint: Path, device: str, version: tuple[int, int] | None) -> Predictor:
    """`version`, the file's date and size, makes a rewritten file another one."""
    return Predictor(load_checkpoint(checkpoint), device)
