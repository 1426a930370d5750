"""Every command, argument and option of `galprote-pipeline`, from the Typer application."""

import enum
import inspect
from pathlib import Path
from typing import Any, Final

import typer

from docs.reference.tables import plain, table
from galprote.workflows.cli import app

_TYPES: Final[dict[Any, str]] = {Path: "PATH", str: "TEXT", int: "NUMBER", float: "NUMBER"}


def commands() -> dict[str, Any]:
    """Name -> command, in the order of `--help`."""
    group: Any = typer.main.get_command(app)
    return dict(group.commands)


def parameters(command: Any) -> list[Any]:
    """Arguments and options, without those that are hidden."""
    return [parameter for parameter in command.params if not parameter.hidden]


def is_argument(parameter: Any) -> bool:
    """Whether it is given by its place."""
    return bool(parameter.param_type_name == "argument")


def command_sections() -> str:
    """A section for each command."""
    return "\n\n".join(_section(name, command) for name, command in commands().items())


def _section(name: str, command: Any) -> str:
    arguments = [parameter for parameter in parameters(command) if is_argument(parameter)]
    options = [parameter for parameter in parameters(command) if not is_argument(parameter)]
    shown = [_optional(argument) for argument in arguments]
    usage = " ".join(["galprote-pipeline", name, *shown, "[OPTIONS]"])
    about = "\n\n".join(" ".join(part.split()) for part in plain(inspect.cleandoc(command.help or "")).split("\n\n"))
    rows = [(f"`{_metavar(argument)}`", "", plain(argument.help or "")) for argument in arguments]
    rows += [(_words(option), _default(option), plain(option.help or "")) for option in options]
    return f"## {name}\n\n```text\n{usage}\n```\n\n{about}\n\n" + table(("", "default", "meaning"), rows)


def _optional(argument: Any) -> str:
    many = "..." if argument.nargs != 1 or argument.multiple else ""
    return f"{_metavar(argument)}{many}" if argument.required else f"[{_metavar(argument)}{many}]"


def _metavar(parameter: Any) -> str:
    """What stands for the value in the usage."""
    if parameter.metavar:
        return str(parameter.metavar)
    if is_argument(parameter):
        return str(parameter.name).upper()
    annotation = parameter.type_descriptor.annotation
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return "|".join(str(choice.value) for choice in annotation)
    return _TYPES.get(annotation, "VALUE")


def _words(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    return names if option.is_flag else f"{names} `{_metavar(option)}`"


def _default(option: Any) -> str:
    value = option.default
    if option.required:
        return "required"
    if option.is_flag or value is None or value in ("", (), []):
        return ""
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, list | tuple):
        value = " ".join(str(getattr(item, "value", item)) for item in value)
    return f"`{value}`"
