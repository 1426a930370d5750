"""One reader a file format; all give the same lazy Dataset of `flux` and `variance`."""

from galprote.pipeline.readers.opening import open_cube

__all__ = ["open_cube"]
