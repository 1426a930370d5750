"""Tables of maps, status bits, attributes and FITS keywords, from the code that writes them."""

from typing import Final

from docs.reference.docstrings import attribute_docstrings
from docs.reference.tables import plain, table
from galprote.pipeline.bin_products import COLUMNS
from galprote.pipeline.products import BIN_MAPS, CUBE_UNIT, EVERY_MAP, KINEMATIC_MAPS
from galprote.pipeline.quality import DOUBTFUL, NOT_FITTED, NOT_TRUSTED, Status

#: Units as people write them.
_UNITS: Final = {CUBE_UNIT: "the cube's", "solMass / solLum": "M☉ / L☉", "solMass / pc2": "M☉ / pc²", "km / s": "km/s"}

#: What a reader of the maps should know besides their long names.
NOTES: Final = {
    "av": "O'Donnell (1994), R_V = 3.1",
    "age_mw": "the mass *formed* counts",
    "metallicity_mw": "the mass *formed* counts",
    "mass_to_light": "stars and remnants",
    "stellar_mass_density": "stars and remnants, per area across the line of sight",
    "flux": "or the window of the weights",
    "snr": "from the cube's variance",
    "noise_scale": "a robust one; 1 where STAT is right",
    "residual_rms": "of the samples with data; emission bands, masked and replaced samples are left out",
    "filled_fraction": "of the 876 that the weights use, masked ones apart; they were filled",
    "status": "[Status bits](#status-bits)",
    "v_stars": "[Kinematics](kinematics.md); its error where it was measured",
    "sigma_stars": "beyond the instrument's resolution",
}

#: When maps are there that are not always.
_WHEN: Final = {
    **{product.name: "`binning`" for product in BIN_MAPS},
    **{product.name: "`kinematics`" for product in KINEMATIC_MAPS[:1]},
    **{product.name: "`kinematics: {method: measure}`" for product in KINEMATIC_MAPS[1:]},
}

#: Attributes of the store (and keywords of FITS headers that say the same), with their meaning.
ATTRIBUTES: Final = {
    "Conventions": ("", "of the attributes: CF-1.11"),
    "title": ("", "for people"),
    "source": ("CREATOR", "galprote and its version"),
    "galaxy": ("OBJECT", "`name` in the survey"),
    "redshift": ("REDSHIFT", "of the galaxy, barycentric"),
    "binning": ("", "`binning.method`"),
    "kinematics": ("", "`kinematics.method`"),
    "mass_convention": ("", "which mass is meant where"),
    "mass_density_note": ("", "why there are no surface densities; empty if there are"),
    "flux_unit": ("BUNIT", "of the cube; in FITS of each extension"),
    "flux_unit_assumed": ("", "whether the cube says nothing of its unit"),
    "variance_source": ("", "where in the cube the variances were found"),
    "variance_note": ("", "what was odd about them"),
    "wcs_header": ("CTYPE1 ...", "the image's WCS, as FITS cards; empty if there is none"),
    "foreground_ebv": ("EBV_MW", "E(B-V) of the Milky Way, mag, that was corrected"),
    "foreground_law": ("LAW_MW", "by this law"),
    "foreground_r_v": ("RV_MW", "with this R_V"),
    "foreground_source": ("EBVSRC", "where the value comes from"),
    "masked_observed": ("MASKOBS", "bands that were not used, Å, observed frame"),
    "masked_rest": ("MASKREST", "the same, rest frame"),
    "masked_fraction": ("MASKFRAC", "share of the samples that they took"),
    "provenance": (
        "CKPTSHA, PRECISN, INFILE, INBYTES, INHDRSHA, FINGERPR, SOFT01 ..., HISTORY",
        "JSON: all settings, the input's name, size, date and header hash, hashes of masks, checkpoint, precision, "
        "versions; `fingerprint`, the hash of all but the versions of libraries and `foreground.source`",
    ),
    "failed_rows": ("", "first and last row of what could not be computed, if anything"),
    "bins": ("NBINS", "with `binning`: how many"),
    "covariance": ("COVAR", "with `binning`: a of 1 + a log10(N)"),
    "covariance_spaxels": ("", "with `covariance: measure`: sizes of the boxes"),
    "covariance_excess": ("", "and the noise that was found in them, over that of independent spaxels"),
    "covariance_note": ("", "why it could not be measured"),
}


def maps_table() -> str:
    """Every map; a map and its error share a row."""
    names = {product.name for product in EVERY_MAP}
    rows = []
    for product in EVERY_MAP:
        if product.name.endswith("_error"):
            continue
        error = f"{product.name}_error" in names
        meaning = f"with {_WHEN[product.name]}: " if product.name in _WHEN else ""
        meaning += plain(product.long_name) + (f"; {NOTES[product.name]}" if product.name in NOTES else "")
        unit = _UNITS.get(product.unit, product.unit) if product.dtype == "float32" else product.dtype
        rows.append((f"`{product.name}`" + (" ±" if error else ""), f"`{product.extension}`", unit, meaning))
    assert len(rows) + sum(name.endswith("_error") for name in names) == len(names) == len(EVERY_MAP)
    return table(("Zarr", "FITS extension", "unit, or type", "meaning"), rows)


def status_table() -> str:
    """Every bit of `status`."""
    texts = attribute_docstrings(Status)
    rows = []
    for bit in Status:
        name = str(bit.name)
        values = "NaN" if bit & NOT_FITTED else "not trusted" if bit & NOT_TRUSTED else "given"
        doubt = "doubtful" if bit & DOUBTFUL else values
        rows.append((str(int(bit)), f"`{name.lower()}`", doubt, plain(texts[name])))
    return table(("bit", "name", "values", "meaning"), rows)


def bins_table() -> str:
    """What the table of bins has besides the maps' values."""
    return table(("column", "unit", "meaning"), [(f"`{name}`", *about) for name, about in COLUMNS.items()])


def attributes_table() -> str:
    """Attributes of the store."""
    rows = [(f"`{name}`", keyword and f"`{keyword}`", text) for name, (keyword, text) in ATTRIBUTES.items()]
    return table(("attribute", "FITS keyword", "meaning"), rows)
