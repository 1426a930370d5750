"""Products must not be written through links: what a link leads to belongs to somebody else."""

from collections.abc import Iterable
from pathlib import Path

from galprote.model.errors import ConfigError
from galprote.pipeline.layout import all_product_files


def refuse_links(output: Path, names: Iterable[str]) -> None:
    """Refuse symbolic links where products and working folders of galaxies will be.

    The output folder itself may be a link to a folder, as is common on clusters.

    Parameters
    ----------
    output : Path
        The survey's output folder; it need not exist.
    names : iterable of str
        Of the galaxies.

    Raises
    ------
    ConfigError
        Naming every link and what it leads to, or the output folder that is a dangling link.
    """
    if output.is_symlink() and not output.exists():
        raise ConfigError(f"output = {output}: a link to {output.readlink()}, which is not there; make that folder")
    paths = [output / file for name in names for file in (*all_product_files(name), f"{name}.partial")]
    paths += [output / name for name in (".lock", ".scratch", ".slurm", "mock")]
    links = [path for path in paths if path.is_symlink()]
    if links:
        raise ConfigError(
            "\n".join(
                f"{path} is a link to {path.readlink()}: products are not written through links; remove it, or choose "
                "another output folder"
                for path in links
            )
        )
