"""The errors that galprote raises on purpose: their message is written for the user, and no traceback is needed."""


class GalproteError(Exception):
    """Base of every error with a message for the user; the command line prints it and exits."""


class ConfigError(GalproteError):
    """A configuration file or a command's argument is wrong."""


class CubeError(GalproteError):
    """A data cube cannot be used: missing, damaged, wrong units, shape or wavelength range."""


class SpectrumError(GalproteError):
    """A file with a spectrum cannot be used: missing, damaged, not understood, or of another wavelength range."""


class PlanError(GalproteError):
    """The work does not fit into the memory, disk or devices that it was given."""


class LibraryError(GalproteError):
    """A template library cannot be used."""


class CheckpointError(GalproteError):
    """A model checkpoint cannot be used."""
