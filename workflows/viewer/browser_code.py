"""The little that the browser does by itself, from the .js files beside this one."""

from importlib.resources import files
from typing import Any

from bokeh.models import CustomJS, CustomJSHover, CustomJSTickFormatter


def code(name: str) -> str:
    """Read one of them."""
    return (files("galprote.workflows.viewer") / name).read_text(encoding="utf-8")


def callback(name: str, **arguments: Any) -> CustomJS:
    """Make a callback of one."""
    return CustomJS(args=arguments, code=code(f"{name}.js"))


def hover(name: str, **arguments: Any) -> CustomJSHover:
    """Make the formatter of a tooltip of one."""
    return CustomJSHover(args=arguments, code=code(f"{name}.js"))


def ticks(name: str) -> CustomJSTickFormatter:
    """Make the formatter of an axis of one."""
    return CustomJSTickFormatter(code=code(f"{name}.js"))
