"""What is in a galaxy's continuum-subtracted cube: lines of gas, and what the model left.

    python benchmarks/residual_spectrum.py output/a478/A478.zarr docs/images/a478-residual.png

The mean spectrum of the fitted spaxels, weighted by the inverse of their variance: the equivalent width of each line
within +-600 km/s above a straight line beside it, and how large the rest is.
"""

import sys
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

C_KMS = 299_792.458
LINES = {
    "Hbeta": 4861.33, "[OIII] 4959": 4958.91, "[OIII] 5007": 5006.84, "[NI] 5199": 5199.1, "[NII] 5755": 5754.64,
    "HeI 5876": 5875.62, "[OI] 6300": 6300.30, "[OI] 6364": 6363.78, "Halpha + [NII]": 6563.0, "[SII]": 6723.6,
}  # fmt: skip
HALF_WIDTH_KMS = {"Halpha + [NII]": 2200.0, "[SII]": 1100.0}
SKY = (5577.34, 5889.95, 5895.92, 6300.30, 6363.78, 6863.96, 6923.22, 6948.94, 6978.26, 7276.41, 7316.28, 7340.89)
TELLURIC = ((6860.0, 6960.0), (7160.0, 7340.0), (7585.0, 7710.0))


def stacked(store: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, float]:
    """Observed wavelength, mean residual and error in units of the mean flux, redshift, and median chi^2."""
    maps = xr.open_zarr(store).load()
    good = ((maps.status & maps.status.not_fitted_bits) == 0).to_numpy()
    flux, error = (maps[name].to_numpy()[:, good] for name in ("continuum_subtracted", "continuum_subtracted_error"))
    usable = np.isfinite(flux) & np.isfinite(error)
    weight = np.where(usable, 1 / np.where(usable, error, 1.0) ** 2, 0.0)
    total = np.maximum(weight.sum(axis=1), 1e-30)
    mean = (np.nan_to_num(flux) * weight).sum(axis=1) / total / float(maps.flux.to_numpy()[good].mean())
    sigma = total**-0.5 / float(maps.flux.to_numpy()[good].mean())
    chi = np.where(usable, flux / np.where(usable, error, 1.0), np.nan) ** 2
    counted = usable.sum(axis=1) > 0.5 * good.sum()
    chi_squared = float(np.median(np.nanmean(chi[counted], axis=1)))
    wavelength = maps.wavelength_observed.to_numpy()[counted]
    return wavelength, mean[counted], sigma[counted], float(maps.attrs["redshift"]), chi_squared


def main() -> None:
    """Measure, print, draw."""
    store, picture = Path(sys.argv[1]), Path(sys.argv[2])
    wavelength, mean, sigma, redshift, chi_squared = stacked(store)
    rest, step = wavelength / (1 + redshift), float(np.median(np.diff(wavelength))) / (1 + redshift)
    lines = np.zeros(len(rest), dtype=bool)
    print("| line | equivalent width, Angstrom (rest) | error |\n|---|---|---|")
    for name, centre in LINES.items():
        half = HALF_WIDTH_KMS.get(name, 600.0)
        velocity = (rest / centre - 1) * C_KMS
        inside, beside = np.abs(velocity) < half, (np.abs(velocity) > half + 300) & (np.abs(velocity) < half + 2000)
        if inside.sum() < 3:
            continue
        base = np.polyval(np.polyfit(rest[beside], mean[beside], 1), rest[inside])
        width = float((mean[inside] - base).sum() * step)
        error = float(np.sqrt((sigma[inside] ** 2).sum()) * step)
        lines |= np.abs(velocity) < half + 400
        print(f"| {name} | {width:+.2f} | {error:.2f} |")
    sky = np.min(np.abs(wavelength[:, None] - np.array(SKY)), axis=1) < 8
    telluric = np.any([(wavelength > first) & (wavelength < last) for first, last in TELLURIC], axis=0)
    rest_of_it = ~lines & ~sky & ~telluric
    for first, last in ((4800, 5300), (5300, 5800), (5800, 6200), (6200, 6700), (6700, 7100)):
        part = rest_of_it & (rest > first) & (rest < last)
        values = mean[part]
        smooth = np.convolve(values, np.ones(25) / 25, "same")
        print(
            f"{first}-{last} A: mean {100 * values.mean():+.2f} %, rms {100 * values.std():.2f} %, of 25 channels "
            f"{100 * smooth.std():.2f} %, expected of a channel {100 * np.median(sigma[part]):.2f} %"
        )
    print(f"chi^2 per channel and spaxel, median over the channels: {chi_squared:.2f}")
    print(f"rms within 8 A of sky lines {100 * mean[sky & ~lines].std():.2f} %, in telluric bands "
          f"{100 * mean[telluric & ~lines].std():.2f} %")  # fmt: skip
    draw(rest, mean, redshift, picture)


def draw(rest: np.ndarray, mean: np.ndarray, redshift: float, picture: Path) -> None:
    """The mean residual spectrum with what is known marked."""
    figure = Figure(figsize=(13, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(rest, 100 * mean, color="#0072b2", linewidth=0.7)
    top = 14.0
    for name, centre in LINES.items():
        axes.axvline(centre, color="#d55e00", linewidth=0.6, zorder=0)
        axes.text(centre, top, name, rotation=90, fontsize=8, ha="right", va="top")
    for line in SKY:
        axes.axvline(line / (1 + redshift), color="#888888", linewidth=0.6, linestyle=":", zorder=0)
    for first, last in TELLURIC:
        axes.axvspan(first / (1 + redshift), last / (1 + redshift), color="#eeeeee", zorder=0)
    axes.set(
        xlim=(rest[0], rest[-1]),
        ylim=(-6, top),
        xlabel="rest-frame wavelength (Å)",
        ylabel="observed - model (% of the flux)",
    )
    axes.set_title("Mean residual; orange: gas; dotted: night sky; grey: telluric bands", fontsize=11)
    FigureCanvasAgg(figure).print_figure(picture, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
