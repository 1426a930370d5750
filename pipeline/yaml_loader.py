"""A YAML file -> plain Python values, from files of which nothing good is known.

PyYAML's safe loader makes no Python objects, but a file of a few hundred bytes may still stand for billions of values
(aliases of aliases), contain itself, or be nested until Python gives up. Here the values are counted before they are
made, and everything that a survey has no use for is refused, with the line in which it stands.
"""

import re
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from galprote.model.errors import ConfigError

#: Ten thousand galaxies; reading as much takes half a minute.
MAX_BYTES: Final = 2 * 1024**2
#: Values that a file may stand for, aliases written out; twenty thousand galaxies of ten values each.
MAX_VALUES: Final = 200_000
MAX_DEPTH: Final = 32

_PREFIX: Final = "tag:yaml.org,2002:"
_TAGS: Final = frozenset(
    _PREFIX + tag for tag in ("str", "int", "float", "bool", "null", "seq", "map", "timestamp", "merge", "value")
)
#: Characters that no path and no terminal can take: control characters and halves of surrogate pairs.
_UNUSABLE: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
#: What PyYAML raises, besides its own errors, for values such as `!!int x` or the date 2020-99-99.
_NO_VALUE: Final = (ValueError, TypeError, LookupError, AttributeError, OverflowError)


class _Loader(yaml.SafeLoader):
    """YAML without Python objects, in which no key may be given twice (PyYAML takes the last one silently)."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem=f"nested more than {MAX_DEPTH} deep", problem_mark=mark)
        node: yaml.Node | None = super().compose_node(parent, index)  # type: ignore[no-untyped-call]
        self.depth -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)  # type: ignore[no-untyped-call]
        except _NO_VALUE as error:
            kind = node.tag.removeprefix(_PREFIX)
            raise _problem(f"{str(node.value)[:60]!r} is no {kind}", node) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag == f"{_PREFIX}merge":
                continue
            if key.tag not in (f"{_PREFIX}str", f"{_PREFIX}value"):
                raise _problem(f"{str(key.value)[:60]!r} as a key; keys are words", key)
            if key.value in seen:
                raise _problem(f"{key.value!r} is given twice", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Parameters
    ----------
    path : Path

    Returns
    -------
    object
        Of mappings with text as keys, lists, text, numbers, booleans, dates and None.

    Raises
    ------
    ConfigError
        If it cannot be read, is not YAML, larger than `MAX_BYTES`, stands for more than `MAX_VALUES` values, is nested
        deeper than `MAX_DEPTH`, contains itself, or has keys twice, tags of other types, or control characters.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # a NUL in the name
        raise ConfigError(f"{str(path)!r}: cannot be read: {error}") from error
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{path}: more than {MAX_BYTES // 1024**2} MiB: is this YAML? Split a survey of that size")
    try:
        loader = _Loader(raw.decode("utf-8"))
        node = loader.get_single_node()  # type: ignore[no-untyped-call]
        if node is None:
            return None
        _check(node)
        return loader.construct_document(node)  # type: ignore[no-untyped-call]
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error


def count_values(value: Any) -> int:
    """Count the values in nested mappings and lists, those that are shared as often as they are met."""
    if isinstance(value, dict):
        return 1 + sum(count_values(item) for item in value.values())
    return 1 + sum(count_values(item) for item in value) if isinstance(value, list) else 1


def _check(root: yaml.Node) -> None:
    """Refuse what is too large when written out, contains itself, or has values of no use."""
    sizes: dict[int, int] = {}
    _measure(root, sizes, set())
    if sizes[id(root)] > MAX_VALUES:
        raise yaml.YAMLError(
            f"aliases written out, it stands for {sizes[id(root)]:.3g} values; at most {MAX_VALUES:,} are read"
        )


def _measure(node: yaml.Node, sizes: dict[int, int], above: set[int]) -> int:
    """Number of values of a node with all aliases written out; each node is visited once."""
    if id(node) in above:
        raise _problem("an alias (*name) that contains itself", node)
    if id(node) in sizes:
        return sizes[id(node)]
    if node.tag not in _TAGS:
        tag = node.tag.replace(_PREFIX, "!!")[:60]
        raise _problem(f"tag {tag}: only plain values, lists and mappings are read", node)
    if isinstance(node, yaml.ScalarNode) and _UNUSABLE.search(node.value):
        raise _problem(f"a control character or half a surrogate pair in {node.value[:60]!r}", node)
    above.add(id(node))
    size = 1 + sum(_measure(child, sizes, above) for child in _children(node))
    above.discard(id(node))
    sizes[id(node)] = size
    return size


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _problem(text: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=text, problem_mark=node.start_mark)
