"""A cube file on disk -> its headers, the cube in it, and the arrays that read its data."""

from dataclasses import dataclass
from pathlib import Path

from galprote.model.errors import CubeError
from galprote.pipeline.readers.channels import ChannelRange
from galprote.pipeline.readers.fitsfile import Hdu, read_hdus, require_complete
from galprote.pipeline.readers.formats import find_cube_parts
from galprote.pipeline.readers.parts import CubeParts, image_of
from galprote.pipeline.readers.slabs import ANY_BIT, Kind, SlabArray
from galprote.pipeline.readers.units import FluxUnit, flux_unit
from galprote.pipeline.readers.unpack import is_gzip, unpack_gzip


@dataclass(frozen=True)
class CubeFile:
    """A cube file that was looked at, with none of its data read.

    Attributes
    ----------
    source : Path
        The file as named by the user.
    path : Path
        The file to read: the same, or what it was unpacked to.
    hdus : tuple of Hdu
        All HDUs.
    """

    source: Path
    path: Path
    hdus: tuple[Hdu, ...]

    def parts(self) -> CubeParts:
        """Find the cube in the file.

        Raises
        ------
        CubeError
            If the file is truncated, or has no cube that can be read.
        """
        try:
            require_complete(self.path, self.hdus)
        except CubeError as error:
            raise of_source(error, self.path, self.source) from error
        try:
            return find_cube_parts(self.path, self.hdus)
        except CubeError as error:
            raise CubeError(f"{self.source}: {of_source(error, self.path, self.source)}") from error

    def unit(self, parts: CubeParts) -> FluxUnit:
        """Understand the flux unit; the primary header is asked where the cube's own is silent.

        Raises
        ------
        CubeError
            If the unit is not one of flux density per wavelength, nor counts.
        """
        found = str(parts.flux.header.get("BUNIT", "")).strip()
        found = found or str(self.hdus[0].header.get("BUNIT", "")).strip()
        fscale = float(parts.flux.header.get("FSCALE", 1.0))
        try:
            return flux_unit(parts.unit or found, default=parts.default_unit, fscale=fscale)
        except CubeError as error:
            raise CubeError(f"{self.source}: {error}") from error

    def slabs(self, hdu: Hdu, parts: CubeParts, channels: ChannelRange, kind: Kind, factor: float) -> SlabArray:
        """Return the array-like that reads some channels of an HDU."""
        status = self.path.stat()
        return SlabArray(
            path=str(self.path),
            stamp=(status.st_size, status.st_mtime_ns),
            image=image_of(hdu),
            first=channels.first,
            channels=channels.wavelength.size,
            step=channels.step,
            axes=parts.axes,
            kind=kind,
            factor=factor,
            bits=parts.flag_bits if kind == "flag" else ANY_BIT,
        )


def open_file(path: str | Path, scratch: str | Path | None = None) -> CubeFile:
    """Read the headers of a cube file, after unpacking it if it is gzip-compressed.

    Raises
    ------
    CubeError
        If the file is missing, not FITS, ends inside a header, or cannot be unpacked.
    """
    source = Path(path).expanduser()
    if source.is_dir():
        raise CubeError(f"{source}: is a folder; name one FITS file, or a Zarr store (its name ends in .zarr)")
    plain = unpack_gzip(source, Path(scratch).expanduser() if scratch else None) if is_gzip(source) else source
    try:
        return CubeFile(source, plain.absolute(), read_hdus(plain.absolute()))
    except CubeError as error:
        raise of_source(error, plain.absolute(), source) from error


def of_source(error: CubeError, path: Path, source: Path) -> CubeError:
    """The same error about the file that the user named, not about what it was unpacked to."""
    return CubeError(str(error).replace(str(path), str(source)))
