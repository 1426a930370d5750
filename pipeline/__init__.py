"""Reads, prepares, fits and stores cubes of spectra: everything between a file and its maps."""
