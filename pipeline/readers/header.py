"""The bytes of a FITS header -> a header in which every card that decides about the numbers can be trusted.

astropy parses a card when it is first asked for, and raises wherever that happens to be; of a keyword that is there
twice it takes the first. wcslib leaves out what it cannot read and puts defaults, from which follow wrong wavelengths.
Here all cards are parsed at once: a damaged one is an error if it matters, and is forgotten if it does not.
"""

import math
import re
import warnings
from typing import Any, Final

from astropy.io import fits
from astropy.io.fits.card import Undefined

from galprote.model.errors import CubeError

_MOST_AXES: Final = 999
#: No file system holds more bytes in a file.
_MOST_BYTES: Final = 1 << 62
_STRUCTURE: Final = re.compile(r"BITPIX|NAXIS\d*|GCOUNT|PCOUNT")
#: Numbers and texts that decide what the data of an image mean.
_NUMBERS: Final = re.compile(
    r"BSCALE|BZERO|BLANK|FSCALE|WCSAXES|(CRVAL|CRPIX|CDELT|CROTA)[1-3]|(CD|PC|PV)[1-3]_\d+|EQUINOX|LONPOLE|LATPOLE"
    r"|RESTFRQ|RESTFREQ|RESTWAV"
)
_TEXTS: Final = re.compile(r"XTENSION|EXTNAME|BUNIT|ERRDATA|(CTYPE|CUNIT)[1-3]|RADESYS|SPECSYS")


def parse_header(raw: bytes, where: str) -> fits.Header:
    """Parse a header, and refuse one that is damaged where it matters.

    Parameters
    ----------
    raw : bytes
        With END and padding.
    where : str
        File and HDU, for messages.

    Returns
    -------
    astropy.io.fits.Header
        All its cards can be read; those without a value, and damaged ones that do not matter, are left out.

    Raises
    ------
    CubeError
        If a card that matters cannot be read, is of the wrong type, not finite, or there twice with different values.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # astropy warns of cosmetic faults in cards that are never looked at
        cards = fits.Header.fromstring(raw).cards
        image = raw[:6] == b"SIMPLE" or b"IMAGE" in raw[:80]
        kept: list[Any] = []
        seen: dict[str, Any] = {}
        for card in cards:
            keyword = str(card.keyword)
            matters = _matters(keyword, image=image)
            value = _value(card, where, matters=matters)
            if isinstance(value, Undefined):
                continue
            if matters and seen.setdefault(keyword, value) != value:
                raise CubeError(
                    f"{where}: {keyword} is there twice, as {seen[keyword]!r} and {value!r}: remove the wrong one"
                )
            kept.append(card)
    return fits.Header(kept)


def _matters(keyword: str, *, image: bool) -> bool:
    if _STRUCTURE.fullmatch(keyword) or keyword == "XTENSION":
        return True
    return image and bool(_NUMBERS.fullmatch(keyword) or _TEXTS.fullmatch(keyword))


def _value(card: Any, where: str, *, matters: bool) -> Any:
    """The card's value; Undefined if there is none, or none that matters."""
    try:
        value = card.value
        str(card).encode("ascii")  # wcslib takes nothing else
    except Exception as error:  # astropy raises several types
        if matters:
            raise _damaged(card, where, "cannot be read") from error
        return Undefined()
    if not matters or isinstance(value, Undefined):
        return value
    keyword = str(card.keyword)
    if _TEXTS.fullmatch(keyword):
        if not isinstance(value, str):
            raise _damaged(card, where, f"is {value!r}, no text")
    elif isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
        raise _damaged(card, where, f"is {value!r:.60}, no finite number")
    elif _STRUCTURE.fullmatch(keyword) and not isinstance(value, int):
        raise _damaged(card, where, f"is {value!r}, no integer")
    return value


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer of hundreds of digits
        return False


def _damaged(card: Any, where: str, what: str) -> CubeError:
    return CubeError(f"{where} is not valid FITS: {card.keyword} {what}: correct the header, or copy the file again")


def array_shape(header: fits.Header, where: str) -> tuple[int, list[int], int]:
    """Tell what the data of an HDU are.

    Parameters
    ----------
    header : astropy.io.fits.Header
        From `parse_header`.
    where : str
        File and HDU, for messages.

    Returns
    -------
    bitpix : int
    axes : list of int
        NAXIS1, NAXIS2 and so on.
    length : int
        Bytes of data, without padding.

    Raises
    ------
    CubeError
        If a keyword is missing, or not what FITS allows.
    """
    try:
        bitpix, count = int(header["BITPIX"]), int(header["NAXIS"])
        _within(where, "NAXIS", count, _MOST_AXES)
        axes = [int(header[f"NAXIS{i + 1}"]) for i in range(count)]
        groups, extra = int(header.get("GCOUNT", 1)), int(header.get("PCOUNT", 0))
    except KeyError as error:
        raise CubeError(f"{where} is not valid FITS: {error.args[0]}") from error
    sizes = {f"NAXIS{i + 1}": axis for i, axis in enumerate(axes)}
    for name, value in (sizes | {"GCOUNT": groups, "PCOUNT": extra}).items():
        _within(where, name, value, _MOST_BYTES)
    length = abs(bitpix) // 8 * groups * (extra + (math.prod(axes) if axes else 0))
    if length > _MOST_BYTES:
        raise CubeError(f"{where} is not valid FITS: BITPIX and NAXISn stand for {length:.3g} bytes of data")
    return bitpix, axes, length


def _within(where: str, name: str, value: int, most: int) -> None:
    if not 0 <= value <= most:
        raise CubeError(f"{where} is not valid FITS: {name} = {value:.6g}, expected 0 to {most:.3g}")
