"""Nothing is ever lost, and nothing wrong is ever kept: the short campaign for every day, and the long one."""

import json
import os
from pathlib import Path

import pytest

from tests.chaos.campaign import campaign
from tests.slurm_here import why_not


def check(counts: dict[str, object], faults: int) -> None:
    text = json.dumps(counts, indent=1)
    print(text)
    assert not counts["problems"], text
    assert int(str(counts["faults"])) >= faults, text
    assert int(str(counts["files_compared"])) > 50, text
    assert int(str(counts["looked_at_by_the_watcher"])) > 10, text


@pytest.mark.timeout(600)
def test_a_few_faults(tmp_path: Path) -> None:
    check(campaign(tmp_path, faults=3, seed=2, modes=("local",)), 3)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_many_faults(tmp_path: Path) -> None:
    """With SLURM where it can be started; GALPROTE_FAULTS and GALPROTE_SEED for other campaigns."""
    modes = ("local", "existing", *(() if why_not() else ("slurm",)))
    faults, seed = int(os.environ.get("GALPROTE_FAULTS", "30")), int(os.environ.get("GALPROTE_SEED", "1"))
    check(campaign(tmp_path, faults=faults, seed=seed, modes=modes), faults)
