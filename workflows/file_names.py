"""How surveys name their cubes, and what name a galaxy can have."""

import re
from enum import StrEnum
from typing import Final


class SurveyKind(StrEnum):
    """Surveys whose file names are known, and any other."""

    PHANGS = "phangs"
    MAUVE = "mauve"
    MANGA = "manga"
    GENERIC = "generic"


_ENDING: Final = r"\.fits(?:\.gz)?"
_PHANGS: Final = re.compile(
    r"(?P<name>[A-Za-z0-9+-]+)_PHANGS_DATACUBE_(?:native|copt_[0-9.]+asec)(?:_fixed)?" + _ENDING
)
_MAUVE: Final = re.compile(
    r"(?P<name>[A-Za-z0-9+-]+(?:_\d+)?)_DATACUBE_FINAL_WCS_Pall_mad_red_v\d+[a-z]*(?:_fixed)?" + _ENDING
)
_MANGA: Final = re.compile(r"(?P<name>manga-\d+-\d+)-L(?:OG|IN)CUBE" + _ENDING)
#: How a survey names its cubes. MAUVE takes three galaxies from PHANGS.
FILE_NAMES: Final[dict[SurveyKind, tuple[re.Pattern[str], ...]]] = {
    SurveyKind.PHANGS: (_PHANGS,),
    SurveyKind.MAUVE: (_MAUVE, _PHANGS),
    SurveyKind.MANGA: (_MANGA,),
    SurveyKind.GENERIC: (_PHANGS, _MAUVE, _MANGA),
}
#: The same in words.
NAMED_AS: Final[dict[SurveyKind, str]] = {
    SurveyKind.PHANGS: "NAME_PHANGS_DATACUBE_native.fits or NAME_PHANGS_DATACUBE_copt_0.92asec.fits",
    SurveyKind.MAUVE: "NAME_DATACUBE_FINAL_WCS_Pall_mad_red_v3tk.fits, or as PHANGS names its cubes",
    SurveyKind.MANGA: "manga-PLATE-IFU-LOGCUBE.fits",
    SurveyKind.GENERIC: "*.fits",
}
#: No cubes of spectra, whatever axes they have.
NO_CUBES: Final = (
    (re.compile(r"manga-\d+-\d+-(?:MAPS|LOGCUBE)-.*"), "maps or model of MaNGA's data analysis pipeline"),
    (re.compile(r".*[_-]MAPS[_.-].*"), "maps"),
    (re.compile(r".*_TRUTH\.fits"), "the truth of a synthetic cube"),
    (re.compile(r"drpall.*|dapall.*"), "a table of MaNGA"),
)


def name_in(file_name: str, kind: SurveyKind) -> str:
    """Return the galaxy's name in a file's name, '' if the file is not named as the survey names its cubes."""
    matches = (pattern.fullmatch(file_name) for pattern in FILE_NAMES[kind])
    return next((match["name"] for match in matches if match), "")


def usable_name(text: str) -> str:
    """Make a name for products' files of any text: without blanks, other signs as `_`, '' if nothing is left."""
    text = re.sub(r"[^A-Za-z0-9._+-]+", "_", re.sub(r"\s+", "", text))
    return text.strip("_").lstrip("._+-")[:100]


def stem(file_name: str) -> str:
    """Return what stands before DATACUBE, cube, or the ending in a file's name."""
    return re.split(r"[_-]DATACUBE|[_-]cube|\.fits?", file_name, maxsplit=1, flags=re.IGNORECASE)[0]
