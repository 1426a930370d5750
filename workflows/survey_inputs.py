"""Are a survey's files there? Told before anything heavy is imported."""

from collections.abc import Container

from galprote.model.errors import ConfigError
from galprote.pipeline.config import GalaxyConfig, SurveyConfig, find_cube
from galprote.pipeline.mask_config import missing_masks


def refuse_missing(survey: SurveyConfig) -> dict[str, str]:
    """Galaxies whose cube or mask is not there, with a message about each.

    Raises
    ------
    ConfigError
        If that is so for all of them, or the survey's weights are not there.
    """
    missing = missing_inputs(survey)
    if len(missing) == len(survey.galaxies):
        raise ConfigError("\n".join(missing.values()))
    if survey.model.checkpoint is not None and not survey.model.checkpoint.is_file():
        raise ConfigError(f"model.checkpoint: no such file: {survey.model.checkpoint}")
    return missing


def missing_files(galaxy: GalaxyConfig) -> list[str]:
    """Say which of the other files of a galaxy are not there."""
    from galprote.pipeline.images import split_extension  # NumPy and astropy, for few

    wanted = {
        "file of bins (binning.file)": galaxy.binning.file,
        "map of velocities (kinematics.map)": galaxy.kinematics.map,
    }
    return [
        f"no such {what}: {path}" for what, path in wanted.items() if path and not split_extension(path)[0].is_file()
    ]


def missing_inputs(survey: SurveyConfig) -> dict[str, str]:
    """Galaxies whose cube or mask is not there, with a message about each."""
    problems: dict[str, list[str]] = {}
    for galaxy in survey.galaxies:
        if galaxy.cube is not None:
            try:
                find_cube(galaxy)
            except ConfigError as error:
                problems.setdefault(galaxy.name, []).append(str(error))
        others = missing_files(galaxy) if galaxy.binning.file or galaxy.kinematics.map else []
        for text in [*missing_masks(galaxy.masks), *others]:
            problems.setdefault(galaxy.name, []).append(f"{galaxy.name}: {text}")
    return {name: "\n".join(texts) for name, texts in problems.items()}


def inputs_in_the_way(survey: SurveyConfig, missing: Container[str]) -> dict[str, str]:
    """Galaxies whose cube has the place of a product, with a message; cubes of `missing` galaxies are not there."""
    from galprote.pipeline.layout import all_product_files

    products = {survey.output.resolve() / file for galaxy in survey.galaxies for file in all_product_files(galaxy.name)}
    there = [galaxy for galaxy in survey.galaxies if galaxy.cube is not None and galaxy.name not in missing]
    cubes = {galaxy.name: find_cube(galaxy).resolve() for galaxy in there}
    return {
        name: f"{name}: the cube {cube} has the name of a product; choose another output folder"
        for name, cube in cubes.items()
        if cube in products
    }
