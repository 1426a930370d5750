"""A valid survey -> surveys that are wrong in every way: types, keys, tags, aliases, bytes; from a seed."""

import copy
import datetime
import random
from collections.abc import Callable
from typing import Any, Final

import yaml

from tests.fuzz.harness import places

VALUES: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 1, 10**12, 10**400, -(10**30), 0.5, 1e308, -1e-300, float("nan"), float("inf"),
    float("-inf"), "", " ", "x", "1", "nan", "1e3", "0x10", "../../etc/passwd", "/", "~", "~nobody_of_this_name/x",
    "a\0b",
    "\ud800", "\u202e", "é" * 50, "x" * 5000, "{name}", "{", "*", "[", "[a", "**", "?", "a\nb", [], [[]], [None], {},
    {"a": 1}, [1, 2, 3], datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1, 5, 5), b"bytes", {1, 2},
    "127.0.0.1:99999999", "4 parsecs", "-5GiB", "1e999GiB", "cuda", "slurm", 2**31, 2**63, 2**64, "out\tput", "null",
)  # fmt: skip
NAMES: Final = (
    "../x", "/etc/x", "..", ".", "", "a/b", "a\\b", ".hidden", "-rf", "a b", "x\n", "CON", "A" * 101, "ä", "a:b", "~",
)  # fmt: skip
TEXTS: Final = (
    "!!python/object/apply:os.system ['true']", "!!python/name:os.system", "!!binary aGk=", "!!set {a, b}", "!!int x",
    "!!float x", "!!bool maybe", "!!timestamp x", "2020-99-99", "!!int ''", "!unknown 5", "!!omap [a: 1]", "0x", "0b2",
    "1:99:99", "*nothing", "&a", "<<: *b", "{<<: 5}", "? [1]: 2", "{[1]: 2}", "{1: 2, 0x1: 3}", "'", '"\\ud800"',
    '"\\0"',
    '"\\x1b[31m"', "|\n  text", ">", "@", "`", "%TAG", "---", "...", "- -", ": :", "\t", "{", "[", "!!str", "!!null x",
    "9" * 5000, "&c [*c]", "&d {x: *d}", "." * 3000, "=", "{=: 1}", "!<tag:yaml.org,2002:python/tuple> [1]",
)  # fmt: skip


def change_value(random_: random.Random, survey: Any) -> str:
    for _ in range(random_.choice((1, 1, 2))):
        container, key = random_.choice(places(survey, []))
        container[key] = copy.deepcopy(random_.choice(VALUES))
    return dump(survey)


def remove_key(random_: random.Random, survey: Any) -> str:
    container, key = random_.choice(places(survey, []))
    del container[key]
    return dump(survey)


def strange_key(random_: random.Random, survey: Any) -> str:
    containers = [box for box, _ in places(survey, []) if isinstance(box, dict)]
    box = random_.choice(containers)
    box[random_.choice((1, None, True, 1.5, "", "x" * 3000, "\0", "output", "<<", "=", "redshfit", "name", "é"))] = 1
    return dump(survey)


def move_value(random_: random.Random, survey: Any) -> str:
    found = places(survey, [])
    (one, key), (other, name) = random_.choice(found), random_.choice(found)
    try:
        one[key], other[name] = copy.deepcopy(other[name]), copy.deepcopy(one[key])
    except (KeyError, IndexError, TypeError):
        one[key] = []
    return dump(survey)


def bad_name(random_: random.Random, survey: Any) -> str:
    survey["galaxies"][0]["name"] = random_.choice(NAMES)
    return dump(survey)


def text_value(random_: random.Random, survey: Any) -> str:
    """Replace what stands behind a colon by text that the dumper would never write."""
    lines = dump(survey).splitlines()
    where = random_.choice([n for n, line in enumerate(lines) if ":" in line])
    lines[where] = lines[where].split(":")[0] + ": " + random_.choice(TEXTS)
    return "\n".join(lines) + "\n"


def edit_lines(random_: random.Random, survey: Any) -> str:
    lines = dump(survey).splitlines()
    where = random_.randrange(len(lines))
    kind = random_.choice(("twice", "remove", "indent", "tab", "swap", "join"))
    if kind == "twice":
        lines.insert(where, lines[where])
    elif kind == "remove":
        del lines[where]
    elif kind in ("indent", "tab"):
        lines[where] = (" " * random_.randrange(1, 5) if kind == "indent" else "\t") + lines[where]
    elif kind == "swap":
        other = random_.randrange(len(lines))
        lines[where], lines[other] = lines[other], lines[where]
    else:
        lines[where : where + 2] = [" ".join(lines[where : where + 2])]
    return "\n".join(lines) + "\n"


def edit_bytes(random_: random.Random, survey: Any) -> bytes:
    raw = bytearray(dump(survey).encode())
    for _ in range(random_.choice((1, 2, 5, 30))):
        where = random_.randrange(len(raw))
        kind = random_.randrange(3)
        if kind == 0:
            raw[where] = random_.choice((random_.randrange(256), *b"[]{}:,-#&*!|>'\"%@`\t\n"))
        elif kind == 1:
            del raw[where : where + random_.choice((1, 5))]
        else:
            texts = (random_.randbytes(2), b"*a", b"&a ", b": ", b"- ", b"\xff\xfe", b"{", b"!!")
            raw[where:where] = random_.choice(texts)
        raw = raw or bytearray(b"x")
    return bytes(raw)


def bomb(random_: random.Random, survey: Any) -> str:
    """Aliases of aliases, depth, size, self-reference."""
    text, kind = dump(survey), random_.randrange(8)
    width, levels = random_.choice(((9, 9), (2, 60), (100, 4), (1000, 3)))
    if kind == 0:
        lines = [f"a0: &a0 [{', '.join(['lol'] * width)}]"]
        lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels)]
        return "\n".join(lines) + f"\n{text}defaults: *a{levels - 1}\n"
    if kind == 1:
        lines = ["a0: &a0 {x: 1, y: 2}"]
        lines += [f"a{n}: &a{n} {{{', '.join(f'k{m}: *a{n - 1}' for m in range(width))}}}" for n in range(1, levels)]
        return "\n".join(lines) + f"\n{text}"
    if kind == 2:
        lines = ["a0: &a0 {x: 1}"]
        lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * width)}]}}" for n in range(1, levels)]
        return "\n".join(lines) + f"\n{text}"
    if kind == 3:
        depth = random_.choice((50, 1000, 100_000))
        return text + "deep: " + random_.choice(("[", "{a: ", "- ")) * depth
    if kind == 4:
        return text + "more: " + random_.choice(("[]", "&x [*x]", "&x {a: *x}", "&x [[[*x]]]", "&x {<<: *x}"))
    if kind == 5:
        return text + random_.choice(("# x\n", "k: 1\n", "- a\n")) * 1_000_000
    if kind == 6:
        defaults = "\n".join(f"  k{n}: {n}" for n in range(2000))
        return f"{text}defaults:\n  foreground:\n" + defaults.replace("  k", "    k")
    galaxies = "\n".join("- &g {name: A, cube: a.fits}" if n == 0 else "- *g" for n in range(5000))
    return f"output: out\ngalaxies:\n{galaxies}\n"


def dump(survey: Any) -> str:
    """YAML text, with whatever types it takes."""
    return yaml.dump(survey, allow_unicode=True, sort_keys=False)


Damage = Callable[[random.Random, Any], str | bytes]
DAMAGES: Final[tuple[Damage, ...]] = (
    change_value, change_value, change_value, remove_key, strange_key, move_value, bad_name, text_value, text_value,
    edit_lines, edit_bytes, edit_bytes, bomb,
)  # fmt: skip


def damaged_survey(survey: Any, seed: int) -> tuple[str, bytes]:
    """Name of a kind of damage, and the YAML with it; the same for the same seed."""
    random_ = random.Random(f"yaml-{seed}")
    damage = DAMAGES[seed % len(DAMAGES)]
    text = damage(random_, copy.deepcopy(survey))
    return damage.__name__, text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
