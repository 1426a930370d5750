"""A report that people look at: HTML pages of a survey and of its galaxies, without scripts, that need no network.

galaxy_maps.py                a store's maps, one at a time, and a galaxy's numbers
residual_spectrum.py          the mean residual spectrum, streamed from the residual cube
radial.py, examples.py        radial profiles; the best, the median and the worst fit, from the cube
map_picture.py, hatching.py   a map as SVG, spaxels without a good value hatched; limits.py: of the colours
charts.py, axes.py            histograms and profiles as SVG; spectra.py: with matplotlib; lines.py: known lines
galaxy_page.py                a galaxy's page; index_page.py: the survey's, from records.py; html.py: templates
files.py                      names, and files that appear when they are complete
writing.py                    when pages are written; page_task.py: on a worker; finishing.py: at the end
"""
