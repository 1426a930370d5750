"""From a selection to spectrum, grid and numbers: asks for them in the background, and shows the answers."""

from typing import TYPE_CHECKING, Any

import numpy as np

from galprote.model.errors import GalproteError
from galprote.model.grids import N_WAVELENGTH
from galprote.pipeline.quality import NOT_FITTED, Status
from galprote.workflows.report.words import flux_words
from galprote.workflows.store_cube import unpacking_words
from galprote.workflows.viewer.background import Background
from galprote.workflows.viewer.chunked import ChunkedMean
from galprote.workflows.viewer.grid_view import GridView
from galprote.workflows.viewer.look import Lines, Look, lines_of, look_at
from galprote.workflows.viewer.refitting import Refit, Spectra
from galprote.workflows.viewer.selection import Selection
from galprote.workflows.viewer.side_view import SideView
from galprote.workflows.viewer.spectrum_view import SpectrumView
from galprote.workflows.viewer.stored import StoredGalaxy
from galprote.workflows.viewer.values_view import flag_word, table, title

if TYPE_CHECKING:
    from galprote.workflows.refit import Refits


class Inspector:
    """What is known of the selection.

    Parameters
    ----------
    galaxy : StoredGalaxy
    other : StoredGalaxy, optional
        The run that it is compared to.
    spectra : Spectra
    threads : tuple of two Background
        For what is read from the store, and for fits, which take longer.
    side : SideView
    """

    def __init__(
        self,
        galaxy: StoredGalaxy,
        other: StoredGalaxy | None,
        spectra: Spectra,
        threads: tuple[Background, Background],
        side: SideView,
    ) -> None:
        self.galaxy, self.other, self.spectra = galaxy, other, spectra
        (self.reading, self.fitting), self.side = threads, side
        self.unit = flux_words(str(galaxy.about.get("flux_unit", "")))
        self.spectrum, self.grid = SpectrumView(self.unit), GridView()
        self.selection: Selection | None = None
        self.title = self.words = ""
        self.lines: Lines | None = None
        self._hidden = 0
        self._waiting = self._problem = False
        self._look: Look | None = None
        self._refit: Refit | None = None
        self.spectrum.clear("Click a spaxel or drag a region to see its spectrum.")

    def select(self, selection: Selection, hidden: int) -> None:
        """Look at something else, or at the same with other flags hidden."""
        again = selection is self.selection
        self.selection, self._hidden, self._look = selection, hidden, None
        if not again:
            self.title, self._refit, self.lines = title(self.galaxy, selection), None, None
            self.side.select(self.title)
            self.spectrum.clear()
            self.grid.clear()
        self._problem = False
        self.side.working("Reading…")
        galaxy, other, wanted = self.galaxy, self.other, selection
        self.reading.ask("look", lambda stop: look_at(galaxy, other, wanted, hidden, stop), self._looked)
        if self.spectra.cube is None:
            return
        if not again or not selection.single:
            shown = self._shown(selection, hidden)
            self._refit, self._waiting = None, len(shown) > 0
            if self._waiting:
                self.fitting.ask("refit", lambda _: self.spectra.fit(shown), self._refitted)
            else:
                self.fitting.forget("refit")

    def _shown(self, selection: Selection, hidden: int) -> Selection:
        """What of a region is not hidden; a spaxel, or a bin, is wanted whatever its flags."""
        if selection.single:
            return selection
        good = (self.galaxy.map("status")[selection.y, selection.x] & np.int32(hidden)) == 0
        return Selection(selection.y[good], selection.x[good], "region", selection.bins, selection.step)

    def _looked(self, answer: Any) -> None:
        if self._failed(answer):
            return
        self._look = answer
        assert self.selection is not None
        self.side.numbers.text = table(self.galaxy, self.selection, self._look.numbers, self._look.others, self._hidden)
        if not self._problem:
            self.side.working(self.waits_for())
        self._show()

    def waits_for(self) -> str:
        """What of the selection is not there yet, in words; '' if nothing is missing."""
        return self._fitting_words() if self._waiting else ""

    def _fitting_words(self) -> str:
        packed = self.spectra.unpacks
        if packed is not None:
            return f"{unpacking_words(packed)} Then the spectrum is fitted…"
        return "Fitting the spectrum again from the cube…"

    def _refitted(self, answer: Any) -> None:
        self._waiting = False
        if self._failed(answer):
            return
        self._refit = answer
        self.side.working("" if self._look is not None else "Reading…")
        if self._look is not None:
            self._show()

    def _failed(self, answer: Any) -> bool:
        if not isinstance(answer, Exception):
            return False
        self._problem = True
        known = isinstance(answer, (GalproteError, OSError))
        self.side.problem(str(answer) if known else f"unexpected {type(answer).__name__}: {answer}")
        return True

    def _show(self) -> None:
        assert self._look is not None
        self.lines = lines_of(self.galaxy, self._look, self._refit, N_WAVELENGTH)
        self.words = self._spectrum_words(self._look)
        self.spectrum.show(self.lines, self.words, self._missing(self._look))
        self._show_grid(self._look)

    def _spectrum_words(self, look: Look) -> str:
        """What is shown."""
        assert self.selection is not None
        words = [self._not_in_maps()] if self._refit is not None and self._not_in_maps() else []
        if self._refit is not None and self.selection.kind != "spaxel":
            words.append(f"Mean spectrum of {self._refit.spaxels:,} spaxels, fitted.")
        elif look.residual is not None and look.residual.asked > 1:
            words.append(f"Mean residual of {_share(look.residual, self.galaxy)}.")
        if self._refit is not None and self._refit.note:
            words.append(f"The maps were {self._refit.note}.")
        return " ".join(words)

    def _not_in_maps(self) -> str:
        """Why a single spectrum's fit is not the run's, in words; '' if the run fitted it."""
        selection = self.selection
        if selection is None or not selection.single:
            return ""
        bits = int(self.galaxy.map("status")[selection.y[0], selection.x[0]]) & int(NOT_FITTED)
        flags = ", ".join(flag_word(bit) for bit in Status if bit & bits)
        return f"Not in the maps ({flags}): fitted here only." if bits else ""

    def _missing(self, look: Look) -> str:
        """What is not shown, and why."""
        words = []
        if self.spectra.cube is None:
            words.append(self.spectra.missing)
        if self._refit is None and self.galaxy.cube("residual") is None:
            words.append("The run kept no residual cube (products.residual).")
        elif self._refit is None and look.residual is None:
            words.append("The run has no residual here.")
        return "\n".join(words)

    def _show_grid(self, look: Look) -> None:
        means = self._means(look)
        if look.grid is not None and np.isfinite(look.grid.mean).any():
            of = "" if look.grid.asked == 1 else f", mean of {_share(look.grid, self.galaxy)}"
            ages, metals = np.log10(self.galaxy.axis("age")) + 9, self.galaxy.axis("metallicity")
            self.grid.show(look.grid.mean, ages, metals, means, f"Light fractions{of}")
        elif self._refit is not None and np.isfinite(self._refit.fit.populations.grid[0]).any():
            fit = self._refit.fit
            light, made = fit.populations.grid[0], "not in the maps" if self._not_in_maps() else "fitted again"
            self.grid.show(light, fit.log_ages, fit.metallicities, _fitted_means(fit), f"Light fractions, {made}")
        elif self.galaxy.cube("grid") is None and self.spectra.cube is None:
            self.grid.clear("Light fractions: no grid, no cube")
        else:
            self.grid.clear("Light fractions" if self._waiting else "Light fractions: none here")

    @staticmethod
    def _means(look: Look) -> dict[str, float]:
        """Light-weighted means of the maps, with errors; of a region without."""
        found = {number.name: number for number in look.numbers}
        means: dict[str, float] = {}
        for key, name in (("log_age", "age_lw"), ("metallicity", "metallicity_lw")):
            number = found.get(name)
            means[key] = number.value if number else np.nan
            means[f"{key}_error"] = number.error if number else np.nan
        return means


def _fitted_means(fit: "Refits") -> dict[str, float]:
    """Light-weighted means of a fit, with errors."""
    found = fit.populations
    values = {
        "log_age": found.log_age, "log_age_error": found.log_age_error, "metallicity": found.metallicity,
        "metallicity_error": found.metallicity_error,
    }  # fmt: skip
    return {name: float(value[0]) for name, value in values.items()}


def _share(mean: ChunkedMean, galaxy: StoredGalaxy) -> str:
    """How many of what was asked for were read, in words."""
    what = "bins" if galaxy.binned else "spaxels"
    return f"{mean.asked:,} {what}" if mean.spaxels == mean.asked else f"{mean.spaxels:,} of {mean.asked:,} {what}"
