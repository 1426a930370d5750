"""A finished Zarr store as FITS files: the same values to the bit, in bounded memory, and the same bytes every time.

astropy's writer wants a cube in memory, and stamps the time into checksums. Here an HDU's data are written slab by slab
to where they belong; its header, with the checksums (sums that do not depend on the order of the words), comes last.

Sources: FITS standard 4.0, section 4.4.2.7 and appendix J (checksums); Greisen et al. 2006 (A&A 446, 747; "FITS Paper
III", DOI 10.1051/0004-6361:20053818) for the spectral axis and its frame.
"""

import json
import math
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np
import yaml
import zarr
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from galprote.model.errors import GalproteError
from galprote.pipeline.products import EVERY_MAP, MAPS
from galprote.pipeline.readers.axis import vacuum_to_air
from galprote.pipeline.store import image_axis
from galprote.pipeline.whole_files import appearing

#: FITS extension (and the end of the file's name) of each cube, and its axes before y and x.
CUBES: Final = {
    "residual": ("RESIDUAL", ("wavelength",)),
    "continuum_subtracted": ("CONTSUB", ("wavelength_observed",)),
    "grid": ("GRID", ("metallicity", "age")),
}
#: Keyword, attribute and comment of sums of flags.
SUMS: Final = (
    ("NOTFIT", "not_fitted_bits", "sum of the flags of spaxels without values"),
    ("UNRELIAB", "unreliable_bits", "sum of those that figures and reports leave out"),
)
#: A slab of a cube is cut into column ranges where it would be larger; exporting takes up to twice as much.
SLAB_BYTES: Final = 72 * 1024**2
#: Largest error of a wavelength axis that is written as a formula, in channels (0.08 km/s for MUSE).
AXIS_TOLERANCE: Final = 1e-3
BLOCK_BYTES: Final = 2880  # of which FITS files consist
_BITPIX: Final = {"uint8": 8, "float32": -32, "float64": -64, "int16": 16, "int32": 32}
#: Keywords of a celestial header that are written anew, or belong to a spectral axis.
_REPLACED: Final = re.compile(r"WCSAXES|(CDELT|CD|PC)\d.*|SPECSYS|SSYS...|VELOSYS|ZSOURCE|VELANGL|RESTFRQ|RESTWAV")

#: Keyword, value and comment of header cards.
Cards = list[tuple[str, Any, str]]
#: Part of an array: its first row and column, and values (..., rows, columns) in native byte order.
Block = tuple[int, int, NDArray[Any]]


class Hdu(NamedTuple):
    """An HDU: cards after the mandatory ones, and blocks that tile `shape` (one block, if of 2-byte numbers).

    A block's first row may also be counted through all planes. A table's rows are bytes.
    """

    cards: Cards
    shape: tuple[int, ...] = ()
    dtype: str = "uint8"
    blocks: Iterable[Block] = ()
    table: bool = False


def export_fits(store: Path, folder: Path) -> list[Path]:
    """Write a galaxy's products as FITS.

    Parameters
    ----------
    store : Path
        A finished `<name>.zarr`.
    folder : Path
        Where to write; must exist.

    Returns
    -------
    list of Path
        `<name>_MAPS.fits` (an extension for each of `MAPS`), then `<name>_RESIDUAL.fits`, `<name>_CONTSUB.fits` and
        `<name>_GRID.fits` of those cubes that the store has. A cube is in the primary HDU; further HDUs hold its axes
        to full precision (`WAVELENGTH`, air, Angstrom; `METALLICITY`, dex; `AGE`, Gyr). Each file appears when it is
        complete and on the disk. All HDUs have checksums. Equal stores give equal bytes.

    Raises
    ------
    GalproteError
        If the store lacks an array or attribute of a finished one.
    OSError
        If a file cannot be written, for example on a full disk; no part of it is left.
    """
    group = zarr.open_group(store, mode="r")
    arrays, about = dict(group.arrays()), dict(group.attrs)
    try:
        files = {"MAPS": _map_hdus(arrays, about)}
        files |= {CUBES[name][0]: _cube_hdus(arrays, name, about) for name in CUBES if name in arrays}
    except KeyError as error:
        raise GalproteError(f"{store}: {error} is missing from this store; run the galaxy again") from error
    paths = [folder / f"{store.name.removesuffix('.zarr')}_{extension}.fits" for extension in files]
    for path, hdus in zip(paths, files.values(), strict=True):
        write_hdus(path, hdus)
    return paths


def _map_hdus(arrays: dict[str, zarr.Array[Any]], about: dict[str, Any]) -> list[Hdu]:
    hdus = [Hdu(galaxy_cards(about))]
    present = [product for product in EVERY_MAP if product in MAPS or product.name in arrays]
    for product in present:
        array = arrays[product.name]
        cards = map_cards(array.attrs, product.extension, about["wcs_header"])
        values = np.asarray(array[...])
        hdus.append(Hdu(cards, values.shape, product.dtype, [(0, 0, values)]))
    return hdus


def map_cards(about: Mapping[str, Any], extension: str, wcs_header: str) -> Cards:
    """Cards of a map with the attributes `about`: name, unit, WCS, flags."""
    cards = _image_cards(about, extension) + celestial_cards(wcs_header, axes=2)
    for mask, meaning in zip(about.get("flag_masks", ()), about.get("flag_meanings", "").split(), strict=True):
        cards.append((f"FLAG{int(mask).bit_length() - 1:02d}", meaning, f"value {mask}"))
    for keyword, name, comment in SUMS:
        if name in about:
            cards.append((keyword, int(about[name]), comment))
    return cards


def _cube_hdus(arrays: dict[str, zarr.Array[Any]], name: str, about: dict[str, Any]) -> list[Hdu]:
    array, (extension, axes) = arrays[name], CUBES[name]
    coordinates = {axis: np.asarray(arrays[axis][...], dtype=np.float64) for axis in axes}
    cards = _image_cards(array.attrs, extension) + celestial_cards(about["wcs_header"], axes=array.ndim)
    if name == "grid":
        cards += _axis_cards(3, "INDEX", "values: AGE") + _axis_cards(4, "INDEX", "values: METALLICITY")
    else:
        cards += spectral_cards(coordinates[axes[0]])
    if name == "residual":
        cards.append(("SPECSYS", "SOURCE", "wavelengths are in the rest frame of the galaxy"))
        cards.append(("ZSOURCE", float(about["redshift"]), "redshift that was taken out"))
        cards.append(("SSYSSRC", "BARYCENT", "frame of ZSOURCE"))
    elif name == "continuum_subtracted" and (frame := fits.Header.fromstring(about["wcs_header"]).get("SPECSYS")):
        cards.append(("SPECSYS", frame, "as in the input"))
    hdus = [Hdu(cards + galaxy_cards(about), _shape(array), "float32", _slabs(array))]
    if name == "continuum_subtracted":
        error = arrays["continuum_subtracted_error"]
        same = [card for card in cards if card[0] not in ("EXTNAME", "BUNIT", "LONGNAME")]  # axes and frame
        hdus.append(Hdu(_image_cards(error.attrs, f"{extension}_ERR") + same, _shape(error), "float32", _slabs(error)))
    for axis, values in coordinates.items():
        cards = _image_cards(arrays[axis].attrs, axis.removesuffix("_observed").upper())
        hdus.append(Hdu(cards, values.shape, "float64", [(0, 0, values[None])]))
    return hdus


def _shape(array: zarr.Array[Any]) -> tuple[int, ...]:
    """Shape of a cube in FITS, where the image comes last."""
    return array.shape if image_axis(array) else (*array.shape[2:], *array.shape[:2])


def _slabs(array: zarr.Array[Any]) -> Iterator[Block]:
    """Read a cube in blocks of whole inner chunks: all of a shard, or a range of its columns. All share memory."""
    first = image_axis(array) == 0
    *lead, ny, nx = _shape(array)
    rows, columns = array.chunks[:2] if first else array.chunks[-2:]
    width = max(1, SLAB_BYTES // (math.prod(array.chunks) * 4)) * columns
    memory = np.empty(math.prod(lead) * rows * min(width, nx), dtype=">f4")
    for row in range(0, ny, rows):
        for left in range(0, nx, width):
            shape = (*lead, min(rows, ny - row), min(width, nx - left))
            slab = memory[: math.prod(shape)].reshape(shape)
            for column in range(0, shape[-1], columns):  # one by one: zarr takes five times what it reads
                start, stop = left + column, left + column + columns
                part = slab[..., column : column + columns]
                if first:
                    part[...] = np.moveaxis(np.asarray(array[row : row + rows, start:stop]), (0, 1), (-2, -1))
                else:
                    part[...] = array[..., row : row + rows, start:stop]
            yield row, left, slab


def _image_cards(about: Mapping[str, Any], extension: str) -> Cards:
    units, name = _ascii(about["units"]), _ascii(about["long_name"])
    return [("EXTNAME", extension, ""), ("BUNIT", units, ""), ("LONGNAME", name, "")]


def galaxy_cards(about: dict[str, Any]) -> Cards:
    """What was done to which cube, and with what."""
    record = json.loads(about["provenance"])
    software = [f"{name} {version}" for name, version in sorted(record["versions"].items())]
    settings = yaml.safe_dump(record["settings"], width=70).splitlines()
    return [
        ("OBJECT", _ascii(about["galaxy"]), ""),
        ("REDSHIFT", float(about["redshift"]), "barycentric; of the galaxy"),
        ("EBV_MW", float(about["foreground_ebv"]), "[mag] E(B-V) of the Milky Way, corrected"),
        ("LAW_MW", _ascii(about["foreground_law"]), "extinction law of the dust of the Milky Way"),
        ("RV_MW", float(about["foreground_r_v"]), "R_V of the dust of the Milky Way"),
        ("EBVSRC", _ascii(about["foreground_source"]), ""),
        ("MASKOBS", _ascii(about["masked_observed"]), "[A] not used, observed frame"),
        ("MASKREST", _ascii(about["masked_rest"]), "[A] not used, rest frame"),
        ("MASKFRAC", float(about["masked_fraction"]), "share of the samples that were not used"),
        *([("NBINS", int(about["bins"]), "bins of spaxels")] if "bins" in about else []),
        *(
            [("COVAR", float(about["covariance"]), "a: noise of N spaxels is 1 + a log10(N)")]
            if "bins" in about
            else []
        ),
        ("CREATOR", f"galprote {record['versions']['galprote']}", ""),
        ("CKPTSHA", record["checkpoint_sha256"], ""),
        ("PRECISN", record["precision"], "of the network's largest layers"),
        ("INFILE", _ascii(record["input"]["file"]), ""),
        ("INBYTES", int(record["input"]["bytes"]), "size of INFILE"),
        ("INHDRSHA", record["input"]["header_sha256"], ""),
        ("FINGERPR", record["fingerprint"], ""),
        *((f"SOFT{number:02d}", text, "") for number, text in enumerate(software, 1)),
        *(("HISTORY", line, "") for line in ("corrected, shifted to the rest frame and fitted with:", *settings)),
    ]


def _ascii(value: object) -> str:
    """Text that FITS allows: other characters as Python escapes."""
    return str(value).encode("unicode_escape").decode("ascii")


def celestial_cards(text: str, axes: int) -> Cards:
    """WCS cards of the first two of `axes` axes, from a store's header text ('' if it has no celestial WCS).

    The text has CDELT 1 and all in PC; here CDELT is a pixel's size, for programs that look at nothing else.
    """
    cards: Cards = [("WCSAXES", axes, "")]
    if not text:
        return cards + _axis_cards(1, "INDEX", "pixel") + _axis_cards(2, "INDEX", "pixel")
    header = fits.Header.fromstring(text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wcslib reports every keyword that it tidies up
        matrix = WCS(header).pixel_scale_matrix
    sizes = np.copysign(np.hypot(matrix[:, 0], matrix[:, 1]), np.diag(matrix))
    rotation = np.ndenumerate(matrix / sizes[:, None])
    cards += [(f"PC{i + 1}_{j + 1}", float(value), "") for (i, j), value in rotation if value != (i == j)]
    cards += [(f"CDELT{n}", float(size), "[deg] size of a pixel") for n, size in enumerate(sizes, 1)]
    kept = [card for card in header.cards if card.keyword and not _REPLACED.fullmatch(card.keyword)]
    return cards + [(card.keyword, card.value, card.comment) for card in kept]


def spectral_cards(wavelength: NDArray[np.float64], axis: int = 3) -> Cards:
    """WCS cards of an axis, from air wavelengths (n,) in Angstrom.

    Of AWAV and WAVE, linear and -LOG (FITS Paper III, eq. 5), the one that fits best: the input may be regular in
    vacuum. If all are off by over `AXIS_TOLERANCE` channels, no formula is written: world coordinates count channels.
    """
    vacuum = wavelength
    for _ in range(4):  # each step leaves 3e-5 of the error
        vacuum = vacuum * wavelength / vacuum_to_air(vacuum)
    best = (AXIS_TOLERANCE, _axis_cards(axis, "INDEX", "values: WAVELENGTH"))
    for ctype, values in (("AWAV", wavelength), ("AWAV-LOG", wavelength), ("WAVE", vacuum), ("WAVE-LOG", vacuum)):
        start = float(values[0])
        along = start * np.log(values / start) if ctype.endswith("LOG") else values - start
        step = float(along[-1]) / (len(along) - 1)
        error = float(np.abs(along / step - np.arange(len(along))).max())
        medium = "wavelength in " + ("air" if ctype.startswith("AWAV") else "vacuum")
        formula = [*_axis_cards(axis, ctype, medium, start, step), (f"CUNIT{axis}", "Angstrom", "")]
        best = min(best, (error, formula), key=lambda candidate: candidate[0])
    return best[1]


def _axis_cards(n: int, ctype: str, comment: str, start: float = 1.0, step: float = 1.0) -> Cards:
    cards: Cards = [(f"CTYPE{n}", ctype, comment), (f"CRPIX{n}", 1.0, "")]
    return [*cards, (f"CRVAL{n}", start, ""), (f"CDELT{n}", step, "")]


def write_hdus(path: Path, hdus: Iterable[Hdu]) -> None:
    """Write a FITS file, which appears when it is complete."""
    with appearing(path) as partial, partial.open("wb") as file:
        for hdu in hdus:
            _write_hdu(file, hdu)


def _write_hdu(file: BinaryIO, hdu: Hdu) -> None:
    """Write an HDU at the end of a file."""
    offset = file.seek(0, os.SEEK_END)
    header = _header(hdu, primary=offset == 0)
    start, total = offset + len(header.tostring()), 0
    itemsize = np.dtype(hdu.dtype).itemsize if hdu.shape else 0
    file.truncate(start + -(-math.prod(hdu.shape) * itemsize // BLOCK_BYTES) * BLOCK_BYTES)
    ny, nx = (1, 1, *hdu.shape)[-2:]
    for top, left, block in hdu.blocks:
        values = _big_endian(block)
        total = _add(total, values)
        for plane, image in enumerate(values.reshape(-1, *values.shape[-2:])):
            for row, piece in enumerate([image] if image.shape[1] == nx else image, plane * ny + top):
                file.seek(start + (row * nx + left) * itemsize)
                file.write(piece.data)
    header["DATASUM"] = str(total)
    header["CHECKSUM"] = checksum_text(0xFFFFFFFF - _add(total, header.tostring().encode("ascii")))
    file.seek(offset)
    file.write(header.tostring().encode("ascii"))


def _header(hdu: Hdu, *, primary: bool) -> fits.Header:
    """All cards, with places held for the checksums."""
    kind = ("XTENSION", "BINTABLE", "binary table") if hdu.table else ("XTENSION", "IMAGE", "image extension")
    cards: Cards = [("SIMPLE", True, "FITS standard") if primary else kind]
    cards += [("BITPIX", _BITPIX[hdu.dtype], ""), ("NAXIS", len(hdu.shape), "")]
    cards += [(f"NAXIS{n}", length, "") for n, length in enumerate(hdu.shape[::-1], 1)]
    cards += [("EXTEND", True, "")] if primary else [("PCOUNT", 0, ""), ("GCOUNT", 1, "")]
    cards += [*hdu.cards, ("LONGSTRN", "OGIP 1.0", ""), ("CHECKSUM", "0" * 16, ""), ("DATASUM", "0", "")]
    return fits.Header(cards)


def _big_endian(values: NDArray[Any]) -> NDArray[Any]:
    """Values as FITS stores them."""
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder(">"))


def _add(total: int, values: NDArray[Any] | bytes) -> int:
    """Add the bytes, as big-endian 32-bit words, to a ones' complement sum."""
    data = np.frombuffer(values, dtype=np.uint8)
    words = np.pad(data, (0, -data.size % 4)) if data.size % 4 else data
    total += int(np.sum(words.view(">u4"), dtype=np.uint64))
    return total and (total - 1) % 0xFFFFFFFF + 1  # carries come back in at the lowest bit


def checksum_text(value: int) -> str:
    """Encode 32 bits in 16 letters and digits whose words sum up to them (FITS standard 4.0, appendix J)."""
    punctuation = {*range(0x3A, 0x41), *range(0x5B, 0x61)}
    columns = []
    for byte in value.to_bytes(4, "big"):
        four = [byte // 4 + byte % 4 + 0x30] + 3 * [byte // 4 + 0x30]
        for first in (0, 2):
            while {four[first], four[first + 1]} & punctuation:
                four[first] += 1
                four[first + 1] -= 1
        columns.append(four)
    text = "".join(chr(columns[byte][letter]) for letter in range(4) for byte in range(4))
    return text[-1] + text[:-1]  # the card's value starts in its twelfth column: three bytes into a word
