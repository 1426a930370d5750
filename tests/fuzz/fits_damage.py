"""FITS files -> damaged FITS files: headers, structure, compression and data, from a seed."""

import gzip
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

BLOCK: Final = 2880
CARD: Final = 80
#: Cards in which a fault is worth most tries.
INTERESTING: Final = (
    "SIMPLE", "XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "NAXIS3", "PCOUNT", "GCOUNT", "EXTNAME", "CTYPE1",
    "CTYPE2", "CTYPE3", "CUNIT1", "CUNIT2", "CUNIT3", "CRVAL1", "CRVAL2", "CRVAL3", "CRPIX1", "CRPIX3", "CD1_1",
    "CD2_2", "CD1_3", "CD3_1", "CD3_3", "BUNIT", "ERRDATA", "BSCALE", "BZERO", "BLANK", "OBJECT", "WCSAXES", "PC3_3",
    "CDELT3", "CROTA2", "RADESYS", "EQUINOX", "RESTFRQ", "SPECSYS", "LONPOLE", "PV2_1", "A_ORDER", "CPDIS1", "FSCALE",
    "ZIMAGE", "EXTEND", "GROUPS", "INHERIT", "DATE-OBS", "MJD-OBS", "CNAME3", "VELREF", "END",
)  # fmt: skip
VALUES: Final = (
    "0", "-1", "1", "2", "7", "16", "-32", "-64", "1000000000000", "-1000000000000", "99999999999999999999", "9" * 60,
    "1E400", "-1E400", "1E38", "1E-400", "NaN", "nan", "Inf", "-inf", "T", "F", "''", "'text'",
    "'" + "x" * 60 + "'", "'it",
    "(1.0, 2.0)", "0x10", "1.5", "1D10", "1,5", "", "/", "'DATA'", "'STAT'", "'DQ'", "'IMAGE   '", "'BINTABLE'",
    "'AWAV'", "'WAVE'", "'WAVE-LOG'", "'WAVE-TAB'", "'FREQ'", "'VRAD'", "'LINEAR'", "'RA---TAN'", "'DEC--SIN'",
    "'RA---XXX'", "'GLON-CAR'", "'XLON-TAN'", "'STOKES'", "'Angstrom'", "'m'", "'nm'", "'km'", "'deg'", "'arcsec'",
    "'K'",
    "'Jy'", "'%'", "'count'", "'erg/s/cm**2/Angstrom'", "'10**(-99999)*erg/s/cm**2/Angstrom'", "'10**(999)*erg'",
    "'m**999999999'", "'((((((((('", "'erg/s/cm**2/Angstrom**(1/0)'", "'1e-20 erg'", "'FK99'", "'ICRS'", "'LOOKUP'",
)  # fmt: skip


@dataclass
class Parts:
    """A FITS file in pieces: for each HDU the cards (without END) and the padded data."""

    headers: list[list[bytes]]
    data: list[bytes]

    def to_bytes(self, ends: tuple[bool, ...] = ()) -> bytes:
        """The file; `ends` says which headers get their END."""
        whole = b""
        for number, (cards, data) in enumerate(zip(self.headers, self.data, strict=True)):
            end = [] if ends and not ends[number % len(ends)] else [b"END".ljust(CARD)]
            header = b"".join([*cards, *end])
            whole += header + b" " * (-len(header) % BLOCK) + data
        return whole


def parts_of(raw: bytes) -> Parts:
    """Take a well-formed file of images apart."""
    parts, position = Parts([], []), 0
    while position < len(raw):
        cards = []
        while (card := raw[position : position + CARD]) != b"END".ljust(CARD):
            cards.append(card)
            position += CARD
        position += CARD
        position += -position % BLOCK
        values = {card[:8].strip(): card[10:30].split(b"/")[0].strip() for card in cards}
        size = abs(int(values[b"BITPIX"])) // 8 * (int(values[b"NAXIS"]) > 0)
        for axis in range(int(values[b"NAXIS"])):
            size *= int(values[b"NAXIS%d" % (axis + 1)])
        size += -size % BLOCK
        parts.headers.append(cards)
        parts.data.append(raw[position : position + size])
        position += size
    return parts


def card(keyword: str, value: str) -> bytes:
    """A card with any text as its value, 80 bytes."""
    return f"{keyword:8}= {value:>20}".encode("latin-1", "replace").ljust(CARD)[:CARD]


def _pick(random_: random.Random, cards: list[bytes]) -> int:
    known = [n for n, text in enumerate(cards) if text[:8].strip().decode("latin-1") in INTERESTING]
    return random_.choice(known) if known and random_.random() < 0.9 else random_.randrange(len(cards))


def drop_card(random_: random.Random, parts: Parts) -> bytes:
    cards = random_.choice(parts.headers)
    for _ in range(random_.choice((1, 1, 1, 3))):
        if cards:
            del cards[_pick(random_, cards)]
    return parts.to_bytes()


def duplicate_card(random_: random.Random, parts: Parts) -> bytes:
    cards = random_.choice(parts.headers)
    keyword = cards[_pick(random_, cards)][:8].decode("latin-1").strip()
    cards.insert(random_.randrange(len(cards) + 1), card(keyword, random_.choice(VALUES)))
    return parts.to_bytes()


def absurd_value(random_: random.Random, parts: Parts) -> bytes:
    cards = random_.choice(parts.headers)
    where = _pick(random_, cards)
    cards[where] = card(cards[where][:8].decode("latin-1").strip(), random_.choice(VALUES))
    return parts.to_bytes()


def add_card(random_: random.Random, parts: Parts) -> bytes:
    cards = random_.choice(parts.headers)
    for _ in range(random_.choice((1, 1, 2, 5))):
        cards.insert(random_.randrange(len(cards) + 1), card(random_.choice(INTERESTING), random_.choice(VALUES)))
    return parts.to_bytes()


def garble_card(random_: random.Random, parts: Parts) -> bytes:
    cards = random_.choice(parts.headers)
    where = _pick(random_, cards)
    text = bytearray(cards[where])
    for _ in range(random_.choice((1, 2, 8, 80))):
        text[random_.randrange(random_.choice((8, 30, CARD)))] = random_.randrange(256)
    cards[where] = bytes(text)
    return parts.to_bytes()


def shuffle_cards(random_: random.Random, parts: Parts) -> bytes:
    cards = random_.choice(parts.headers)
    one, other = _pick(random_, cards), _pick(random_, cards)
    cards[one], cards[other] = cards[other], cards[one]
    return parts.to_bytes()


def no_end(random_: random.Random, parts: Parts) -> bytes:
    count = len(parts.headers)
    without = random_.randrange(count)
    if random_.random() < 0.5:
        return parts.to_bytes(tuple(n != without for n in range(count)))
    parts.headers[without].insert(random_.randrange(len(parts.headers[without])), b"END".ljust(CARD))
    return parts.to_bytes()


def many_cards(random_: random.Random, parts: Parts) -> bytes:
    cards = random_.choice(parts.headers)
    cards += [card(f"K{n}", str(n)) for n in range(random_.choice((100, 3000)))]
    return parts.to_bytes()


def rearrange_hdus(random_: random.Random, parts: Parts) -> bytes:
    one, other = random_.randrange(len(parts.data)), random_.randrange(len(parts.data))
    what = random_.choice(("headers", "data", "both", "remove", "repeat"))
    if what == "remove" and len(parts.data) > 1:
        del parts.headers[one], parts.data[one]
    elif what == "repeat":
        parts.headers.append(list(parts.headers[one]))
        parts.data.append(parts.data[one])
    else:
        if what in ("headers", "both"):
            parts.headers[one], parts.headers[other] = parts.headers[other], parts.headers[one]
        if what in ("data", "both"):
            parts.data[one], parts.data[other] = parts.data[other], parts.data[one]
    return parts.to_bytes()


def flip_header_bytes(random_: random.Random, parts: Parts) -> bytes:
    raw = bytearray(parts.to_bytes())
    starts, position = [], 0
    for cards, data in zip(parts.headers, parts.data, strict=True):
        length = (len(cards) + 1) * CARD
        starts.append((position, length))
        position += length + -length % BLOCK + len(data)
    for _ in range(random_.choice((1, 1, 2, 5, 50))):
        start, length = random_.choice(starts)
        raw[start + random_.randrange(length)] ^= 1 << random_.randrange(8)
    return bytes(raw)


def truncate(random_: random.Random, parts: Parts) -> bytes:
    raw = parts.to_bytes()
    size = random_.randrange(len(raw))
    return raw[: size - size % BLOCK if random_.random() < 0.3 else size]


def insert_or_cut(random_: random.Random, parts: Parts) -> bytes:
    raw = parts.to_bytes()
    where = random_.randrange(len(raw))
    size = random_.choice((1, 4, CARD, BLOCK))
    return raw[:where] + (random_.randbytes(size) + raw[where:] if random_.random() < 0.5 else raw[where + size :])


def no_fits(random_: random.Random, parts: Parts) -> bytes:
    return random_.choice(
        (b"", b"SIMPLE  =", b"\0" * 5000, random_.randbytes(5000), b"no FITS file\n" * 500, b"SIMPLE  =" + b" " * 8000)
    )


def packed(random_: random.Random, parts: Parts) -> bytes:
    kind = random_.choice(("truncated", "flipped", "tiny", "inside", "trailing"))
    if kind == "inside":
        raw = random_.choice((drop_card, absurd_value, garble_card, truncate, no_fits))(random_, parts)
        return gzip.compress(raw, 1)
    raw = bytearray(gzip.compress(parts.to_bytes(), 1))
    if kind == "truncated":
        return bytes(raw[: random_.randrange(2, len(raw))])
    if kind == "tiny":
        return bytes(raw[: random_.randrange(2, 30)])
    if kind == "trailing":
        return bytes(raw) + random_.randbytes(50)
    for _ in range(random_.choice((1, 5))):
        raw[random_.randrange(2, len(raw))] ^= 1 << random_.randrange(8)
    return bytes(raw)


Damage = Callable[[random.Random, Parts], bytes]
DAMAGES: Final[tuple[Damage, ...]] = (
    drop_card, duplicate_card, absurd_value, absurd_value, add_card, garble_card, garble_card, shuffle_cards, no_end,
    many_cards, rearrange_hdus, flip_header_bytes, flip_header_bytes, truncate, insert_or_cut, no_fits, packed,
)  # fmt: skip


def damaged_file(raw: bytes, seed: int) -> tuple[str, bytes]:
    """Name of a kind of damage, and the file with it; the same for the same seed."""
    random_ = random.Random(f"fits-{seed}")
    damage = DAMAGES[seed % len(DAMAGES)]
    return damage.__name__, damage(random_, parts_of(raw))


#: Values that voxels get, by name.
VOXELS: Final[dict[str, float]] = {
    "nan": np.nan, "inf": np.inf, "-inf": -np.inf, "1e38": 1e38, "-1e38": -1e38, "3e38": 3e38, "1e30": 1e30,
    "zero": 0.0,
    "negative": -1e3, "tiny": 1e-40, "constant": 1234.5,
}  # fmt: skip


def damage_voxels(random_: random.Random, flux: NDArray[Any], variance: NDArray[Any], spaxel: tuple[int, int]) -> str:
    """Spoil one spaxel of flux and variance (channels, y, x) in place, and say how."""
    name = random_.choice(list(VOXELS))
    array, where = random_.choice(((flux, "flux"), (variance, "variance"), (flux, "both")))
    extent = random_.choice(("all", "half", "some", "one", "bits"))
    channels = len(flux)
    if extent == "bits":  # any four bytes at all
        chosen = np.array(random_.sample(range(channels), 40))
        raw = np.frombuffer(random_.randbytes(160), dtype=">f4")
        array[chosen, spaxel[0], spaxel[1]] = raw
        return f"random bits in {where}"
    count = {"all": channels, "half": channels // 2, "some": 60, "one": 1}[extent]
    start = random_.randrange(channels - count + 1)
    chosen = np.arange(start, start + count) if extent != "some" else np.array(random_.sample(range(channels), count))
    array[chosen, spaxel[0], spaxel[1]] = VOXELS[name]
    if where == "both":
        variance[chosen, spaxel[0], spaxel[1]] = VOXELS[random_.choice(list(VOXELS))]
    return f"{extent} {name} in {where}"
