"""What stands under the attributes of a class: their docstrings, which Python itself forgets."""

import ast
import inspect
import textwrap
from functools import cache
from itertools import pairwise


@cache
def attribute_docstrings(owner: type) -> dict[str, str]:
    """Name of each attribute that a class (or one that it inherits from) declares -> its docstring, in one line."""
    found: dict[str, str] = {}
    for base in reversed(owner.__mro__):
        if base.__module__.startswith("galprote."):
            found |= _own(base)
    return found


def _own(owner: type) -> dict[str, str]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    found = {}
    for statement, following in pairwise(body):
        target = statement.target if isinstance(statement, ast.AnnAssign) else None
        if isinstance(statement, ast.Assign):
            target = statement.targets[0]
        is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        if isinstance(target, ast.Name) and is_text and isinstance(following.value.value, str):
            found[target.id] = " ".join(following.value.value.split())
    return found
