"""A model card: what a checkpoint is, what it learned from, what it reaches and what it is not for, as Markdown."""

import json
from pathlib import Path
from typing import Any, Final

from galprote.model.checkpoint import Checkpoint
from galprote.model.errors import ConfigError
from galprote.model.grids import covered
from galprote.model.statistics import QUANTITIES

#: What holds for every checkpoint of this kind.
LIMITS: Final = (
    "One dust screen for all stars, O'Donnell (1994) with R_V = 3.1.",
    "Ages, abundances and their scale are those of the template library; another library gives other answers.",
    "Spectra of stars, active nuclei, foreground objects or a wrong redshift get an answer like any other: look at the "
    "trust that comes with it (weights without an appraisal give none).",
    "Numbers are for spectra made from templates. Real spectra hold what nobody simulated.",
)
HEADERS: Final = ("log age [dex]", "[M/H] [dex]", "A_V [mag]")


def model_card(checkpoint: Checkpoint, results: dict[str, Any] | None = None) -> str:
    """Describe a checkpoint.

    Parameters
    ----------
    checkpoint : Checkpoint
    results : dict, optional
        What `galprote-pipeline evaluate --output` wrote for the same weights.

    Returns
    -------
    str
        Markdown.
    """
    lines = ["# Model card", "", *_network(checkpoint), "", *_training(checkpoint), "", "## What it is not for", ""]
    lines += [f"- {limit}" for limit in LIMITS]
    if results is not None:
        lines += ["", *_results(results)]
    return "\n".join(lines) + "\n"


def read_results(path: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    """Read what `evaluate --output` wrote, and make sure that it is about these weights.

    A card that is put into a checkpoint changes the file's hash, but not that of its tensors, which is what counts.

    Raises
    ------
    ConfigError
        If the file is no such thing, or about another checkpoint.
    """
    try:
        results: dict[str, Any] = json.loads(path.read_text())
        about = results["about"]["weights_sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not what `galprote-pipeline evaluate --output` writes: {error!r}") from error
    if about != checkpoint.weights_sha256:
        raise ConfigError(
            f"{path}: measured with other weights; run `galprote-pipeline evaluate --suite all --output FILE` again"
        )
    return results


def _network(checkpoint: Checkpoint) -> list[str]:
    config, decoder = checkpoint.model.config, checkpoint.decoder
    learned = sum(parameter.numel() for parameter in checkpoint.model.parameters())
    stages = "none: the paper's plain network"
    if config.refinement is not None:
        refinement = config.refinement
        stages = f"{refinement.stages} stages of {refinement.hidden} features on {refinement.components} components"
    first, last = covered(config.visible)
    masks = ", ".join(f"{low:g} to {high:g}" for low, high in config.masks)
    rows = {
        "input": f"{config.visible.sum()} samples, {first:.0f} to {last:.0f} A rest-frame air, emission bands left out"
        + (f", and {masks} A" if masks else "")
        + ("; their noise; which of them were filled" if config.refinement is not None else ""),
        "output": f"{config.n_metallicity} x {config.n_age} light fractions "
        f"([M/H] {decoder.metallicities[0]:g} to {decoder.metallicities[-1]:g}, "
        f"{decoder.ages_gyr[0]:g} to {decoder.ages_gyr[-1]:g} Gyr), A_V 0 to {config.av_max:g} mag",
        "blocks": f"{len(config.kernels)}, kernels {', '.join(map(str, config.kernels))}, {config.channels} channels",
        "refinement": stages,
        "appraisal": "errors and trust" if config.appraisal is not None else "none: no errors, no trust",
        "learned parameters": f"{learned / 1e6:.1f} million",
    }
    return _table(("", ""), rows.items())


def _training(checkpoint: Checkpoint) -> list[str]:
    training = checkpoint.metadata.get("training", {})
    config = training.get("config", {})
    stream = config.get("stream")
    rows = {
        "templates": checkpoint.decoder.library,
        "library's SHA-256": training.get("library_sha256") or "unknown",
        "line spread function": _line_spread(config.get("line_spread")),
        "spectra": f"{training.get('spectra', 0):,} in {training.get('step', 0):,} steps",
        "started from": f"weights {config['start_from'][:12]}" if config.get("start_from") else "random weights",
        "versions": ", ".join(f"{name} {number}" for name, number in training.get("versions", {}).items()),
    }
    if stream is None:
        rows["spectra are"] = "the paper's (sections 2 and 3)"
    else:
        low, high = stream["artefacts"]["snr"]
        without = set(stream["without"])
        paper, quiet = (0.0 if name in without else stream[name] for name in ("paper", "quiet"))
        rows["spectra are"] = f"{paper:.0%} the paper's, {quiet:.0%} with Gaussian noise only, others:"
        rows["signal-to-noise"] = f"{low:g} to {high:g} per sample of 2.48 A"
        dispersion, velocity = (
            0.0 if name in without else stream[f"{name}_kms"] for name in ("dispersion", "velocity")
        )
        rows["dispersion, velocity"] = f"0 to {dispersion:g}, +-{velocity:g} km/s"
        calibration = 0.0 if "calibration" in without else stream["artefacts"]["calibration"]
        rows["calibration errors"] = f"up to {calibration:.0%}"
        rows["left out"] = ", ".join(sorted(without)) or "nothing"
    appraisal = checkpoint.metadata.get("appraisal", {}).get("recipe")
    if appraisal is not None:
        stars = appraisal["stars"] or "rough ones"
        rows["errors and trust"] = (
            f"{appraisal['spectra']:,} spectra, {appraisal['anomalies']:.0%} anomalies, stars: {stars}"
        )
    return ["## What it learned from", "", *_table(("", ""), rows.items())]


def _line_spread(law: dict[str, Any] | None) -> str:
    given = {name: value for name, value in (law or {}).items() if value is not None}
    return ", ".join(f"{name} {value}" for name, value in given.items()) or "MUSE's"


def _results(results: dict[str, Any]) -> list[str]:
    """Bias and scatter of each case; the rest is in the JSON."""
    lines = ["## What it reaches", "", "Mean error and scatter of predicted minus true (`galprote-pipeline evaluate`)."]
    for suite, cases in results.items():
        if suite in ("about", *OWN_TABLES):
            continue
        rows = []
        for case, values in cases.items():
            if all(name in values for name in QUANTITIES):
                shown = (f"{values[name]['mean']:+.3f} ± {values[name]['sigma']:.3f}" for name in QUANTITIES)
                rows.append((case.replace("_", " "), *shown))
        lines += ["", f"### {suite}", "", *_table(("case", *HEADERS), rows)]
    for suite, table in OWN_TABLES.items():
        if suite in results:
            lines += ["", f"### {suite}", "", *table(results[suite])]
    return lines


def _coverage(cases: dict[str, Any]) -> list[str]:
    lines = [
        "Per cent of the true values within one and two of the errors that the network gives (a Gaussian: 68, 95).",
        "",
    ]
    rows = []
    for case, values in cases.items():
        shown = (f"{100 * values[name]['within_1']:.0f}, {100 * values[name]['within_2']:.0f}" for name in QUANTITIES)
        rows.append((case.replace("_", " "), *shown))
    return lines + _table(("case", *HEADERS), rows)


def _anomalies(cases: dict[str, Any]) -> list[str]:
    lines = ["Per cent caught when 1 % and 5 % of ordinary spectra are flagged.", ""]
    rows = [
        (case.replace("_", " "), *(f"{100 * share:.0f}" for share in case_["caught"].values()))
        for case, case_ in cases.items()
    ]
    return lines + _table(("case", "1 %", "5 %"), rows)


#: Suites with other numbers than means and scatters.
OWN_TABLES: Final = {"coverage": _coverage, "anomalies": _anomalies}


def _table(header: tuple[str, ...], rows: Any) -> list[str]:
    text = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return text + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
