"""The command as it is typed: exit codes and messages."""

import io
import json
import socket
from pathlib import Path

import numpy as np
import pytest
import yaml
from astropy.io import fits
from rich.console import Console

from galprote.workflows import terminal
from galprote.workflows.cluster import dashboard_address
from galprote.workflows.progress import LiveProgress
from galprote.workflows.reporting import results_table
from galprote.workflows.survey import GalaxyResult
from tests import surveys
from tests.surveys import call

COMMANDS = ("run", "plan", "inspect", "init", "mock", "fit", "train", "evaluate")
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return surveys.write_cube(tmp_path_factory.mktemp("cube") / "cube.fits", surveys.LONG, empty_rows=slice(10, 12))


@pytest.fixture
def survey(tmp_path: Path, cube: Path, checkpoint: Path) -> Path:
    """A survey of one galaxy; two worker processes."""
    return surveys.long_survey(tmp_path, cube, checkpoint)


# --- usage ---


def test_version(capsys: Capture) -> None:
    code, output, _ = call(capsys, "--version")
    assert code == 0
    assert output.startswith("galprote ")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(capsys: Capture, command: str) -> None:
    code, output, _ = call(capsys, command, "--help")
    assert code == 0
    assert "--debug" in output
    assert command in call(capsys, "--help")[1]


@pytest.mark.parametrize("words", [["fly"], ["run"], ["run", "--fast", "a.yaml"], ["inspect"], ["plan", "a", "b"]])
def test_wrong_usage(capsys: Capture, words: list[str]) -> None:
    code, _, error = call(capsys, *words)
    assert code == 2
    assert "Usage" in error
    assert "Traceback" not in error


# --- configuration ---


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("output: [", ["not valid YAML"]),
        ("output: out\n", ["galaxies"]),
        ("output: out\ngalaxies: [{name: A, cube: a.fits, redshift: -0.2, foreground: {ebv: 0}}]",
         ["galaxies[0].redshift = -0.2", "greater than -0.01"]),
        ("output: out\ngalaxies: [{name: A, cube: a.fits, redshfit: 0.1, foreground: {ebv: 0}}]",
         ["redshfit", "redshift"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["run", "plan"])
def test_wrong_settings(capsys: Capture, tmp_path: Path, command: str, text: str, named: list[str]) -> None:
    path = tmp_path / "survey.yaml"
    path.write_text(text)
    code, _, error = call(capsys, command, path)
    assert code == 2
    assert error.startswith(f"error: {path}")
    for part in named:
        assert part in error
    assert "Traceback" not in error


def test_debug_shows_the_traceback(capsys: Capture, tmp_path: Path) -> None:
    code, _, error = call(capsys, "run", tmp_path / "no.yaml", "--debug")
    assert code == 2
    assert "Traceback" in error
    assert "no.yaml: cannot be read" in error


def test_a_missing_cube_is_an_error_for_run_and_an_answer_for_plan(
    capsys: Capture, tmp_path: Path, checkpoint: Path
) -> None:
    galaxies = [{"name": name, "cube": f"[cubes]/{name}.fits"} for name in ("N1", "N2")]
    survey = surveys.write_survey(tmp_path, galaxies, checkpoint)
    code, _, error = call(capsys, "run", survey)
    assert code == 2
    assert f"N1: no such cube: {tmp_path}" in error
    assert "N2: no such cube" in error
    code, output, _ = call(capsys, "plan", survey)
    assert code == 2, "as the run"
    assert output.count("cannot run") == 5
    assert f"N2: no such cube: {tmp_path}/[cubes]/N2.fits" in output, "brackets are no markup"
    code, output, _ = call(capsys, "plan", survey, "--json")
    assert [galaxy["plan"] for galaxy in json.loads(output)["galaxies"]] == [None, None]
    assert not (tmp_path / "out").exists()


def test_a_run_of_which_no_galaxy_can_be_computed_is_refused_as_planned(
    capsys: Capture, tmp_path: Path, cube: Path, checkpoint: Path
) -> None:
    """One truncated cube; one missing, one truncated; a redshift that the cube does not cover: nothing is written."""
    (tmp_path / "short.fits").write_bytes(cube.read_bytes()[:100_000])
    short, gone = {"name": "N1", "cube": "short.fits"}, {"name": "N2", "cube": "gone.fits"}
    far = {"name": "N3", "cube": str(cube), "redshift": 0.2}
    output = tmp_path / "out"
    output.mkdir()
    (output / "run.json").write_text("an earlier run's")
    for galaxies, words in (([short], "truncated"), ([gone, short], "N2: no such cube"), ([far], "does not cover")):
        survey = surveys.write_survey(tmp_path, galaxies, checkpoint)
        code, planned, _ = call(capsys, "plan", survey)
        assert (code, "run would refuse, and compute nothing" in planned) == (2, True)
        assert "Products of" not in planned, "there will be none"
        code, said, error = call(capsys, "run", survey)
        assert (code, said) == (2, "")
        assert words in error
        for line in error.removeprefix("error: ").splitlines():
            assert f"cannot run {line}" in planned
        assert {path.name for path in output.iterdir()} == {"run.json", ".lock"}
        assert (output / "run.json").read_text() == "an earlier run's"


def test_a_plan_is_not_squeezed(capsys: Capture, survey: Path) -> None:
    content = yaml.safe_load(survey.read_text())
    content["output"] = "sub/../out"
    survey.write_text(yaml.safe_dump(content))
    code, output, _ = call(capsys, "plan", survey)
    assert code == 0
    assert "…" not in output
    for text in ("1897 of 1902", "40 x 6", "40 of 1 row", "peak memory", "N1_CONTSUB.fits"):
        assert (text in output) == (text != "N1_CONTSUB.fits"), text
    assert f"Output: {survey.parent / 'out'}" in output
    assert not (survey.parent / "out").exists()


def test_an_output_that_cannot_be_made(capsys: Capture, survey: Path) -> None:
    (survey.parent / "out").write_text("a file")
    code, _, error = call(capsys, "run", survey)
    assert code == 2
    assert "output = " in error
    assert "File exists" in error
    assert "Traceback" not in error


def test_a_file_that_cannot_be_written(capsys: Capture, tmp_path: Path, checkpoint: Path) -> None:
    """An error of the file system is no bug: no traceback either."""
    code, _, error = call(
        capsys, "mock", tmp_path / "no" / "such" / "x.txt", "--checkpoint", checkpoint, "--ny", 8, "--nx", 8
    )
    assert code == 2
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--peak-snr", -5, "mock: --peak-snr = -5: should be greater than 0"),
        ("--peak-snr", 1000, "mock: sky_noise = 9: expected at most peak_flux / peak_snr = 1.5, the whole noise of the "
         "brightest spaxel; give a lower --peak-snr"),
        ("--red-end", 5000, "mock: --red-end = 5000: expected at least 7160, the model's red end at redshift 0.008"),
        ("--ebv", 3, "mock: --ebv = 3: should be less than or equal to 2"),
        ("--ny", 5000, "mock: --ny, --nx = [5000, 100]: expected two sizes between 4 and 4096"),
    ],
)  # fmt: skip
def test_a_mock_that_cannot_be_made_is_told_by_its_options(
    capsys: Capture, tmp_path: Path, option: str, value: float, told: str
) -> None:
    assert call(capsys, "mock", tmp_path / "mock.fits", option, value) == (2, "", f"error: {told}\n")
    assert not list(tmp_path.iterdir())


def test_a_mock_may_have_the_redshifts_of_a_survey_s(capsys: Capture, tmp_path: Path, checkpoint: Path) -> None:
    sizes = ("--ny", 8, "--nx", 8, "--checkpoint", checkpoint)
    code, _, error = call(capsys, "mock", tmp_path / "far.fits", "--redshift", 0.21, *sizes)
    assert (code, "0.2 " in error) == (2, True)
    assert call(capsys, "mock", tmp_path / "far.fits", "--redshift", 0.2, *sizes)[0] == 0
    code, output, _ = call(capsys, "inspect", tmp_path / "far.fits", "--json")
    assert (code, json.loads(output)["problems"]) == (0, [])
    assert json.loads(output)["redshifts"][1] >= 0.2


def test_inspect(capsys: Capture, cube: Path, tmp_path: Path) -> None:
    code, output, _ = call(capsys, "inspect", cube)
    assert code == 0
    assert "AWAV" in output or "air" in output
    code, output, _ = call(capsys, "inspect", cube, "--json")
    assert code == 0
    assert json.loads(output)
    bad = tmp_path / "bad.fits"
    bad.write_bytes(b"no FITS file" * 300)
    code, _, error = call(capsys, "inspect", bad)
    assert code == 2
    assert f"error: {bad}: not a FITS file" in error


def test_a_cube_that_no_run_can_use_is_wrong_input_for_inspect(capsys: Capture, cube: Path, tmp_path: Path) -> None:
    """A truncated cube, and images that are no cube, are told with all that can be read of them, and exit code 2."""
    truncated, images = tmp_path / "truncated.fits", tmp_path / "images.fits"
    truncated.write_bytes(cube.read_bytes()[: -cube.stat().st_size // 3])
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.zeros((4, 4)), name="AGE")]).writeto(images)
    for path, told in ((truncated, "truncated: HDU "), (images, "has 2 axes")):
        code, output, error = call(capsys, "inspect", path)
        assert (code, error, output.count("PROBLEM")) == (2, "", 1)
        code, output, _ = call(capsys, "inspect", path, "--json")
        (problem,) = json.loads(output)["problems"]
        assert code == 2
        assert told in problem
        assert call(capsys, "inspect", path, "-q") == (2, f"PROBLEM {problem}\n", "")
    assert call(capsys, "inspect", cube, "-q") == (0, f"{cube}: no problems\n", "")


def test_brackets_in_a_message_are_no_markup() -> None:
    why = "[mask] is no [/path] of file.fits[DQ]"
    with terminal.console.capture() as shown:
        terminal.show(results_table([GalaxyResult("N1", "failed", error=why)]))
        terminal.show(why)
        terminal.say(why)
    assert shown.get().count(why) == 3
    console = Console(file=io.StringIO(), width=160, force_terminal=True, color_system=None)
    with LiveProgress(console) as progress:
        progress.start("N1", 10, 0)
        progress.finish("N1", why)
        progress.message(why)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().count(why) >= 2


def test_brackets_in_a_path_are_no_markup(capsys: Capture, tmp_path: Path) -> None:
    """`[nm]` would be a style that is not known, and go; `[/b]` one that was never begun, and an error."""
    path = tmp_path / "[nm]" / "[" / "b].fits"
    path.parent.mkdir(parents=True)
    surveys.write_cube(path)
    code, output, error = call(capsys, "inspect", path)
    assert (code, error) == (0, "")
    assert "/[nm]/[/b].fits" in "".join(line.strip() for line in output.splitlines())


def test_a_busy_port_is_left_to_others() -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        assert dashboard_address(f"127.0.0.1:{port}") == "127.0.0.1:0"
    assert dashboard_address(f"127.0.0.1:{port}") == f"127.0.0.1:{port}"
    assert dashboard_address(None) == "127.0.0.1:0", "Dask would listen on port 8787 otherwise"
