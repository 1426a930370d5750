"""Start the driver and the workers of a survey as a run does, step by step, and print the seconds of each as JSON.

python -m benchmarks.speed.start SURVEY.yaml WORKERS
"""

import sys
from time import perf_counter
from typing import Any

BEGAN = perf_counter()


def main(survey: str, workers: int) -> None:
    """Import, load, start; print."""
    import json
    from pathlib import Path

    from galprote.pipeline.config import read_survey
    from galprote.pipeline.plan import WORKER_BYTES
    from galprote.workflows.cluster import start_cluster
    from galprote.workflows.survey import load_model

    steps = {"imports of the driver": perf_counter() - BEGAN}
    began = perf_counter()
    config = read_survey(Path(survey))
    model, _ = load_model(config)
    steps["survey and weights, in the driver"] = perf_counter() - began
    began = perf_counter()
    started = start_cluster(
        config.cluster, workers=workers, worker_bytes=WORKER_BYTES, device=model.device, output=Path(survey), say=print
    )
    with started as (client, _):
        client.wait_for_workers(workers)
        steps["cluster, until the workers are there"] = perf_counter() - began
        began = perf_counter()
        client.run(_imports)
        steps["imports of the workers"] = perf_counter() - began
        began = perf_counter()
        client.run(_first_batch, model)
        steps["weights and first batch, in the workers"] = perf_counter() - began
        began = perf_counter()
    steps["end of the cluster"] = perf_counter() - began
    print(json.dumps(steps))


def _imports() -> None:
    """What a worker needs for its first chunk."""
    import galprote.pipeline.graph  # noqa: F401


def _first_batch(model: Any) -> None:
    """Load the weights, and fit a batch of flat spectra."""
    import numpy as np

    from galprote.model.grids import N_KEPT
    from galprote.model.predictor import shared_predictor

    predictor = shared_predictor(model.checkpoint, model.sha256, model.device)
    spectra = np.ones((predictor.batch, N_KEPT), dtype=np.float32)
    predictor(spectra, np.full_like(spectra, 0.05), 0.01)


if __name__ == "__main__":
    main(sys.argv[1], int(float(sys.argv[2])))
