"""A page on which to look at a galaxy's products: maps; spectra, grids and numbers of what one points at."""
