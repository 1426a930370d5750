"""Tables of what the network says of itself: coverage of its errors, anomalies that it tells."""

from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.table import Table

from galprote.model.anomalies import ANOMALIES
from galprote.model.anomaly_suite import ANOMALY_SNR, FALSE_ALARMS
from galprote.model.populations import APPRAISED

#: Short names of what has an error; of the last two the error is in dex.
COLUMNS: Final = {
    "log_age": "log age",
    "metallicity": "[M/H]",
    "av": "A_V",
    "log_age_mw": "age MW",
    "metallicity_mw": "Z MW",
    "log_mass_to_light": "M/L",
    "log_mass": "mass",
}

#: Kinds of spectra in words.
WORDS: Final = {
    "ordinary": "ordinary (false alarms)",
    "star": "star of the Milky Way",
    "agn": "active nucleus",
    "redshift": "redshift off by 1,000 km/s",
    "blend": "blend of two redshifts",
    "dusty": "A_V 3 to 5",
    "dead": "dead channels",
    "step": "step of 5 to 20 %",
    "sky": "night sky",
    "noise": "noise",
}


def _table(title: str, caption: str) -> Table:
    table = Table(title=title, caption=caption, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.caption_justify = "left"
    return table


def coverage_table(cases: dict[str, Any]) -> Table:
    """Per cent of the true values within one and two errors, and the median error of age, [M/H] and A_V."""
    caption = "per cent within 1 and 2 errors (a Gaussian: 68 95); error: median of log age, [M/H], A_V"
    table = _table("coverage: true values within the errors", caption)
    table.add_column("case", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    for name in (*COLUMNS.values(), "error"):
        table.add_column(name, justify="right", no_wrap=True)
    kind = ""
    for name, case in cases.items():
        if kind and name.split("_")[0] != kind:
            table.add_section()
        kind = name.split("_")[0]
        shares = (f"{100 * case[key]['within_1']:.0f} {100 * case[key]['within_2']:.0f}" for key in APPRAISED)
        errors = " ".join(f"{case[key]['median_error']:.2f}" for key in ("log_age", "metallicity", "av"))
        table.add_row(name.replace("_", " "), str(case["spectra"]), *shares, errors)
    return table


def anomalies_table(cases: dict[str, Any]) -> Table:
    """Per cent of each kind that is caught at each signal-to-noise ratio."""
    levels = [f"{100 * level:g}" for level in FALSE_ALARMS]
    caption = (
        f"per cent caught when {' or '.join(levels)} % of ordinary spectra are flagged; ordinary: flagged by the "
        "weights' tables;\nreason: right reasons among those caught at 1 %, S/N 35"
    )
    table = _table("anomalies: spectra that are no galaxy's stars", caption)
    table.add_column("kind", no_wrap=True)
    for snr in ANOMALY_SNR:
        table.add_column(f"S/N {snr}", justify="right", no_wrap=True)
    table.add_column("reason", justify="right", no_wrap=True)
    for kind in ("ordinary", *ANOMALIES):
        row = [cases.get(f"snr_{snr}_{kind}") for snr in ANOMALY_SNR]
        shares = ["" if case is None else " ".join(f"{100 * case['caught'][k]:.0f}" for k in levels) for case in row]
        reasons = [case["reason"] for case in (row[2], row[0]) if case and case.get("reason") is not None]
        table.add_row(WORDS[kind], *shares, f"{100 * reasons[0]:.0f}" if reasons else "")
    return table
