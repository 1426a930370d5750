"""YAML of which nothing good is known: what it stands for is counted before it is made."""

import time
from pathlib import Path
from typing import Any

import pytest

from galprote.model.errors import ConfigError
from galprote.pipeline.config import MAX_PROBLEMS, read_survey
from galprote.pipeline.yaml_loader import MAX_BYTES, MAX_DEPTH, MAX_VALUES, count_values, read_yaml

GALAXY = "{name: A, cube: a.fits, redshift: 0.01, foreground: {ebv: 0.1}"


def read(folder: Path, text: str | bytes) -> Any:
    path = folder / "a.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return read_yaml(path)


def refusal(folder: Path, text: str | bytes) -> str:
    began = time.process_time()
    with pytest.raises(ConfigError) as caught:
        read(folder, text)
    assert time.process_time() - began < 20
    message = str(caught.value)
    assert message.startswith(f"{folder / 'a.yaml'}: ")
    assert len(message) < 1000
    return message


def laughs(width: int, levels: int, form: str) -> str:
    lines = ["a0: &a0 {x: lol}"]
    for n in range(1, levels):
        many = [f"*a{n - 1}"] * width
        body = {
            "list": f"[{', '.join(many)}]",
            "mapping": "{" + ", ".join(f"k{m}: {alias}" for m, alias in enumerate(many)) + "}",
            "merge": f"{{<<: [{', '.join(many)}]}}",
        }[form]
        lines.append(f"a{n}: &a{n} {body}")
    return "\n".join(lines)


def test_plain_values_come_out_as_they_are(tmp_path: Path) -> None:
    text = 'a: &x {b: [1, 2.5, true, null, "é\\tü"]}\nc: *x\nd: {<<: *x, e: 2020-01-01}\n'
    found = read(tmp_path, text)
    assert found["c"] == found["a"] == {"b": [1, 2.5, True, None, "é\tü"]}
    assert list(found["d"]) == ["b", "e"]
    assert read(tmp_path, "# nothing\n") is None


@pytest.mark.parametrize("form", ["list", "mapping", "merge"])
@pytest.mark.parametrize(("width", "levels"), [(10, 9), (2, 31), (2, 500), (1000, 3)])
def test_aliases_of_aliases_are_counted_and_not_written_out(tmp_path: Path, form: str, width: int, levels: int) -> None:
    message = refusal(tmp_path, laughs(width, levels, form))
    assert f"at most {MAX_VALUES:,} are read" in message


def test_a_moderate_use_of_aliases_is_no_bomb(tmp_path: Path) -> None:
    assert count_values(read(tmp_path, laughs(10, 4, "list"))) > 2000


@pytest.mark.parametrize("inner", ["&x [*x]", "&x {a: *x}", "&x [[[{a: *x}]]]", "&x {<<: *x}"])
def test_what_contains_itself_is_refused(tmp_path: Path, inner: str) -> None:
    assert "contains itself" in refusal(tmp_path, f"a: {inner}\n")


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 100_000])
def test_deep_nesting_is_refused(tmp_path: Path, opening: str, depth: int) -> None:
    assert f"nested more than {MAX_DEPTH} deep" in refusal(tmp_path, opening * depth)


def test_a_large_file_is_refused_unread(tmp_path: Path) -> None:
    assert "more than 2 MiB" in refusal(tmp_path, b"a" * (MAX_BYTES + 1))
    with pytest.raises(ConfigError, match="more than 2 MiB"):
        read_yaml(Path("/dev/zero"))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a: !!python/object/apply:os.system ['true']", "!!python/object/apply:os.system: only plain values"),
        ("a: !!set {b, c}", "!!set: only plain values"),
        ("a: !!binary aGk=", "!!binary: only plain values"),
        ("a: !mine 5", "!mine: only plain values"),
        ("a: !!int x", "'x' is no int"),
        ("a: !!bool maybe", "'maybe' is no bool"),
        ("a: 2020-99-99", "'2020-99-99' is no timestamp"),
        ("a: " + "9" * 5000, "is no int"),
        ("a: 1\na: 2", "'a' is given twice"),
        ("1: a", "keys are words"),
        ("[1, 2]: a", "keys are words"),
        ('a: "\\0"', "a control character"),
        ('a: "\\x1b[31m"', "a control character"),
        ('a: "\\ud800"', "half a surrogate pair"),
        (b"a: \xff\xfe", "not valid YAML"),
        ("a: \x07", "not valid YAML"),
        ("a: *nothing", "not valid YAML"),
        ("a: 1\n---\nb: 2", "not valid YAML"),
    ],
)
def test_what_is_no_plain_value_is_refused(tmp_path: Path, text: str | bytes, named: str) -> None:
    assert named in refusal(tmp_path, text)


# --- surveys ---


def survey_refusal(folder: Path, text: str) -> str:
    path = folder / "a.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_survey(path)
    assert len(str(caught.value)) < 30_000
    return str(caught.value)


@pytest.mark.parametrize("key", ["redshift", "snr_min", "max_filled", "masks"])
@pytest.mark.parametrize("value", ["yes", "off"])
def test_a_truth_value_is_no_number(tmp_path: Path, key: str, value: str) -> None:
    galaxy = GALAXY.replace("redshift: 0.01", f"{key}: {value}") + "}"
    found = {"yes": "true", "off": "false"}[value]
    assert f"galaxies[0]: {key} = {found}" in survey_refusal(tmp_path, f"output: out\ngalaxies: [{galaxy}]")


def test_thousands_of_problems_are_not_all_told(tmp_path: Path) -> None:
    keys = "\n".join(f"k{n}: 1" for n in range(5000))
    message = survey_refusal(tmp_path, f"output: out\ngalaxies: [{GALAXY}}}]\n{keys}")
    assert len(message.splitlines()) == MAX_PROBLEMS + 1
    assert message.endswith("and 4,900 more")


def test_defaults_of_thousands_of_values_are_refused(tmp_path: Path) -> None:
    keys = ", ".join(f"k{n}: 1" for n in range(5000))
    text = f"output: out\ngalaxies: [{GALAXY}}}]\ndefaults: {{foreground: {{{keys}}}}}"
    assert "defaults: more than 1,000 values" in survey_refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("path", "named"), [("~nobody_of_this_name/x", "no such user's folder"), ("x" * 300, "more than 255 bytes")]
)
@pytest.mark.parametrize("key", ["output", "cube", "mask", "checkpoint"])
def test_paths_that_cannot_be_are_refused(tmp_path: Path, key: str, path: str, named: str) -> None:
    values = {"output": "out", "cube": "a.fits", "mask": "m.fits", "checkpoint": "c"} | {key: path}
    galaxy = GALAXY.replace("a.fits", values["cube"]) + f", masks: {{files: [{values['mask']}]}}}}"
    text = f"output: {values['output']}\ngalaxies: [{galaxy}]\nmodel: {{checkpoint: {values['checkpoint']}}}"
    assert named in survey_refusal(tmp_path, text)


@pytest.mark.parametrize("name", ["../x", "/x", "..", ".hidden", "a/b", "a\\b", "", "-x", "a b", "x" * 101])
def test_a_name_is_no_path(tmp_path: Path, name: str) -> None:
    galaxy = GALAXY.replace("name: A", f"name: '{name}'") + "}"
    assert "galaxies[0].name" in survey_refusal(tmp_path, f"output: out\ngalaxies: [{galaxy}]")
