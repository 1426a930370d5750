"""Every key of a survey's and a training's YAML, from the pydantic models that read them."""

import inspect
import re
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from docs.reference.docstrings import attribute_docstrings
from docs.reference.tables import plain, table
from docs.reference.types import default_text, sections_of, type_text
from galprote.model.training_config import TrainingConfig
from galprote.pipeline import cluster_config
from galprote.pipeline.config import GalaxyConfig, SurveyConfig

HEAD: Final = ("key", "value", "default", "meaning")

#: Keys that are read before the models see the YAML.
DEFAULTS: Final = (
    "`defaults`",
    "section",
    "empty",
    "Keys of every galaxy: all [below](#a-galaxy) but `name`. A galaxy's own are laid over them, section by section.",
)


class Key(NamedTuple):
    """A key: its whole path, the model that has it, and its field."""

    path: str
    owner: type[BaseModel]
    field: FieldInfo

    @property
    def meaning(self) -> str:
        """Its docstring; for a section without one, that of the section."""
        name = self.path.rpartition(".")[2]
        text = attribute_docstrings(self.owner).get(name, "")
        sections = sections_of(self.field.annotation)
        return text or (" ".join(summary(section) for section in sections) if len(sections) == 1 else "")


def summary(section: type[BaseModel]) -> str:
    """First paragraph of a section's docstring."""
    return " ".join((inspect.getdoc(section) or "").split("\n\n")[0].split())


def keys_of(section: type[BaseModel], prefix: str = "") -> list[Key]:
    """The section's own keys."""
    return [Key(prefix + name, section, field) for name, field in section.model_fields.items()]


def sections_under(root: type[BaseModel]) -> dict[type[BaseModel], str]:
    """A section and all that are in it -> the path at which each is met first.

    Galaxies and clusters have parts of their own.
    """
    found: dict[type[BaseModel], str] = {}

    def visit(section: type[BaseModel], prefix: str) -> None:
        found[section] = prefix
        for key in keys_of(section, prefix):
            for inner in sections_of(key.field.annotation):
                elsewhere = inner is GalaxyConfig or inner.__module__.endswith("cluster_config")
                if inner not in found and not elsewhere:
                    visit(inner, f"{key.path}.")

    visit(root, "")
    return found


def survey_tables() -> str:
    """All keys of a survey but those of `cluster`."""
    parts = []
    for root, title in ((SurveyConfig, "The survey"), (GalaxyConfig, "A galaxy")):
        met = sections_under(root)
        for section, prefix in met.items():
            heading = f"### `{prefix.removesuffix('.')}`" if prefix else f"## {title}"
            extra = [DEFAULTS] if section is SurveyConfig else []
            parts.append(_section_text(heading, section, prefix, extra, met=met))
    return "\n\n".join(parts)


def cluster_tables() -> str:
    """All keys of `cluster`, type by type."""
    every = cluster_config.LocalCluster.model_fields.keys() & cluster_config.ExistingCluster.model_fields.keys()
    slurm, steps = cluster_config.SlurmCluster, cluster_config.SlurmAllocationCluster
    assert steps.model_fields.keys() == slurm.model_fields.keys() - {"account"}
    parts = [
        _section_text("### All types", cluster_config.LocalCluster, "cluster.", only=every, about=""),
        *(
            _section_text(f"### {title}", section, "cluster.", only=section.model_fields.keys() - every)
            for title, section in (
                ("`type: local`", cluster_config.LocalCluster),
                ("`type: local-cuda`", cluster_config.LocalCudaCluster),
                ("`type: slurm` and `type: slurm-allocation`", slurm),  # `account` is of the first alone
            )
        ),
        _section_text("### `cluster.gpu` and `cluster.cpu`", cluster_config.WorkerGroup, "cluster.gpu."),
        _section_text(
            "### `type: existing`",
            cluster_config.ExistingCluster,
            "cluster.",
            only=cluster_config.ExistingCluster.model_fields.keys() - every,
        ),
    ]
    return "\n\n".join(parts)


def training_tables() -> str:
    """All keys of a training's YAML."""
    parts = []
    met = sections_under(TrainingConfig)
    for section, prefix in met.items():
        heading = f"### `{prefix.removesuffix('.')}`" if prefix else "## The file"
        parts.append(_section_text(heading, section, prefix, met=met))
    return "\n\n".join(parts)


def _section_text(
    heading: str,
    section: type[BaseModel],
    prefix: str,
    extra: Iterable[tuple[str, str, str, str]] = (),
    only: Collection[str] | None = None,
    met: Mapping[type[BaseModel], str] = MappingProxyType({}),
    about: str | None = None,
) -> str:
    rows = [
        (f"`{key.path}`", _value_text(key, met), default_text(key.field), _linked(plain(key.meaning)))
        for key in keys_of(section, prefix)
        if only is None or key.path.removeprefix(prefix) in only
    ]
    about = plain(summary(section)) if about is None else about
    return "\n\n".join(part for part in (heading, about, table(HEAD, [*rows, *extra])) if part)


def _value_text(key: Key, met: Mapping[type[BaseModel], str]) -> str:
    """What to write; sections are links to their tables, which are those of the place where they are met first."""
    if key.path == "cluster":
        return "[section](#cluster)"
    if key.path == "cluster.type":
        return ", ".join(f"`{name}`" for name in cluster_config.CLUSTER_TYPES)
    anchor = {"galaxies": "a-galaxy", "cluster.gpu": "clustergpu-and-clustercpu"}
    anchor["cluster.cpu"] = anchor["cluster.gpu"]
    text = type_text(key.field.annotation, key.field.metadata)
    inner = [met[section] for section in sections_of(key.field.annotation) if section in met]
    slug = anchor.get(key.path, (inner[0] if inner else key.path).replace(".", ""))
    return re.sub(r"^(section|list of sections)", rf"[\1](#{slug})", text)


def _linked(text: str) -> str:
    """Pages that a docstring names, as links."""
    return re.sub(r"docs/([a-z-]+)\.md", r"[\1](\1.md)", text)
