"""`python -m benchmarks.speed`: it measures, writes what it found, and tells what got slower from what did not."""

import json
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from benchmarks.processes import watch
from benchmarks.speed import __main__ as command
from benchmarks.speed import machine
from benchmarks.speed.compare import compare
from benchmarks.speed.figures import Part, in_turns

RATES = {"float32": 100.0, "bfloat16": 200.0, "int8": 300.0, "memory": 20.0, "cores": 150.0}


def results(**figures: tuple[float, str, str]) -> dict[str, Any]:
    """Results of one part: figures as (value, better, rate)."""
    part = Part("A part", "somehow")
    for name, (value, better, rate) in figures.items():
        part.add(name, value, "spectra/s", better, rate)
    about = machine.about() | {"quick": False, "rates": dict(RATES), "rates_at_the_end": {"float32": 1.0}}
    return about | {"parts": {"model": part.as_dict()}}


def slower(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    return [change.new.name for change in compare(old, new) if change.slower]


def changed(old: dict[str, Any], factor: float) -> dict[str, Any]:
    """All figures of a run multiplied."""
    new = deepcopy(old)
    for figure in new["parts"]["model"]["figures"]:
        figure["value"] *= factor
    return new


def test_slower_is_what_is_worse_beyond_the_tolerance() -> None:
    old = results(speed=(1000.0, "more", "float32"), cost=(50.0, "less", ""), size=(7.0, "", ""))
    assert slower(old, old) == []
    assert slower(old, changed(old, 0.95)) == slower(old, changed(old, 1.05)) == []
    assert slower(old, changed(old, 0.85)) == ["speed"]
    assert slower(old, changed(old, 1.15)) == ["cost"]


def test_a_busy_machine_slows_nothing_down_but_excuses_nothing_either() -> None:
    old = results(speed=(1000.0, "more", "float32"))
    new = changed(old, 0.6)
    new["rates"]["float32"] = 60.0
    assert slower(old, new) == []
    new["rates"]["float32"] = 80.0
    assert slower(old, new) == ["speed"]


def test_on_another_machine_only_what_its_rates_do_not_explain_counts() -> None:
    old = results(speed=(1000.0, "more", "float32"), disk=(500.0, "more", "disk"))
    new = changed(old, 1.0)
    new["machine"]["cpu"] = "another one"
    new["rates"]["float32"] = 200.0  # twice as fast, and galprote is not
    assert slower(old, new) == ["speed"]
    new["machine"]["cpu"] = old["machine"]["cpu"]
    assert slower(old, new) == []


def test_the_command_measures_writes_and_compares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine, "rates", lambda *, quick: dict(RATES))
    paths = {name: tmp_path / f"{name}.json" for name in ("old", "worse")}
    words = ["--quick", "--only", "preparing", "--folder", str(tmp_path), "--json", str(paths["old"])]
    assert command.main([*words, "--markdown", str(tmp_path / "table.md")]) == 0
    found = json.loads(paths["old"].read_text())
    (speed,) = [f for f in found["parts"]["preparing"]["figures"] if f["name"] == "one core"]
    assert speed["value"] > 100
    table = (tmp_path / "table.md").read_text()
    assert "**Preprocessing**" in table
    assert found["commit"] in table
    assert f"torch {found['versions']['torch']}" in table
    assert [path.suffix for path in tmp_path.iterdir() if path.is_dir()] == []  # temporary data are gone
    speed["value"] *= 0.5
    paths["worse"].write_text(json.dumps(found))
    capsys.readouterr()
    assert command.main(["compare", *map(str, paths.values())]) == 1
    assert "**slower**" in capsys.readouterr().out
    assert command.main(["compare", *map(str, reversed(paths.values()))]) == 0
    assert command.main(["compare", *map(str, paths.values()), "--tolerance", "0.6"]) == 0


def test_a_part_that_fails_loses_nothing_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_: Any) -> Part:
        raise RuntimeError("the run ended with exit code 70")

    part = Part("One that works", "somehow")
    part.add("rate", 5.0, "spectra/s", "more")
    part.add("of a run with two chunks", float("nan"), "spectra/s", "more")
    monkeypatch.setattr(machine, "rates", lambda *, quick: dict(RATES))
    monkeypatch.setattr(command, "PARTS", {"runs": fails, "model": lambda _: part})
    assert command.main(["--quick", "--folder", str(tmp_path), "--json", str(tmp_path / "found.json")]) == 1
    table, found = capsys.readouterr().out, json.loads((tmp_path / "found.json").read_text())
    assert found["failed"] == ["runs"]
    assert "exit code 70" in table
    assert "| rate | 5 spectra/s |" in table
    assert "of a run with two chunks: the run is too short" in table
    assert "NaN" not in (tmp_path / "found.json").read_text()


@pytest.mark.parametrize("words", [["--only", "modle"], ["compare"], ["compare", "nothing.json"]])
def test_wrong_usage_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        command.main(words)
    assert stop.value.code == 2
    assert words[-1] in capsys.readouterr().err


def test_no_room_on_the_disk_is_said_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "QUICK_DISK", 1 << 60)
    with pytest.raises(SystemExit, match=r"GiB free, .* GiB needed"):
        command.main(["--quick", "--only", "preparing", "--folder", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []


def test_a_watched_command_is_seen_with_its_children(tmp_path: Path) -> None:
    child = "x = b'x' * (60 << 20); import time; s = time.process_time()\nwhile time.process_time() - s < 0.5: pass"
    file = tmp_path / "file"
    code = f"import pathlib, subprocess, sys; pathlib.Path({str(file)!r}).touch()\n"
    code += f"subprocess.run([sys.executable, '-c', {child!r}]); sys.exit(3)"
    found = watch([sys.executable, "-c", code], lambda: [file] if file.exists() else [], memory_every=0.05)
    assert found.exit_code == 3
    assert found.processor_seconds > 0.5
    assert found.times("file")[0] < found.seconds - 0.4
    assert found.peaks.processes == 2
    assert found.peaks.child > 50 << 20 > found.peaks.command
    assert found.peaks.every >= found.peaks.child


def test_jobs_have_turns_and_a_median() -> None:
    clock, calls = iter(range(1000)), []
    seconds = in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, lambda: next(clock), 3)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"
    assert seconds == {"a": 1, "b": 1}
