"""One file a family of layouts in which single spectra are kept; all give a `RawSpectrum`."""
