"""GalProTE: the model, its training data and its evaluation; usable alone, without cubes."""
