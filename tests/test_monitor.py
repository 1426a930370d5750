"""The numbers of a run, by a clock of our own, and what a scheduler's HTTP pages say of them."""

import dataclasses
import re
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from distributed import LocalCluster
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from galprote.workflows.dashboard import galaxy_table, headline, shown
from galprote.workflows.monitor import GALAXY_STATES, GalaxyCounts, SurveyMonitor


class Clock:
    """Time that passes when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def make(*names: str) -> tuple[SurveyMonitor, Clock]:
    clock = Clock()
    return SurveyMonitor(names, clock=clock), clock


def chunk(
    monitor: SurveyMonitor, name: str = "A", *, spaxels: int = 100, fitted: int = 60, seconds: float = 1.0
) -> None:
    monitor.chunk(name, spaxels=spaxels, fitted=fitted, bytes_read=10 * spaxels, predict_seconds=seconds)


def test_a_new_monitor_knows_only_names():
    monitor, clock = make("B", "A")
    clock.now += 3
    now = monitor.snapshot()
    assert now.galaxies == (GalaxyCounts("B"), GalaxyCounts("A"))
    assert {galaxy.state for galaxy in now.galaxies} == {"waiting"}
    assert now.seconds == 3
    assert (now.spectra_per_second, now.bytes_per_second, now.fitted, now.bytes_read) == (0, 0, 0, 0)
    assert now.gpu_use is None
    assert now.seconds_left is None


def test_counts_add_to_what_an_earlier_run_finished():
    monitor, _ = make("A", "B")
    monitor.begin("A", spaxels=1000, chunks=10, spaxels_done=300, chunks_done=3)
    chunk(monitor)
    chunk(monitor, fitted=0)
    monitor.chunk_failed("A")
    now = monitor.snapshot()
    assert now.galaxies[0] == GalaxyCounts("A", "running", 1000, 500, 10, 5, 1, 60)
    assert now.galaxies[1] == GalaxyCounts("B")
    assert (now.fitted, now.bytes_read) == (60, 2000)


def test_states_change_and_numbers_stay():
    monitor, _ = make("A")
    monitor.begin("A", spaxels=100, chunks=1)
    chunk(monitor)
    for state in GALAXY_STATES:
        monitor.set_state("A", state)
        assert monitor.snapshot().galaxies == (GalaxyCounts("A", state, 100, 100, 1, 1, 0, 60),)
    monitor.finish("A", "incomplete")
    assert monitor.snapshot().galaxies[0].state == "incomplete"


def test_strangers_and_states_that_are_none_are_refused():
    monitor, _ = make("A")
    with pytest.raises(KeyError, match="B"):
        monitor.begin("B", spaxels=1, chunks=1)
    with pytest.raises(KeyError, match="B"):
        chunk(monitor, "B")
    with pytest.raises(ValueError, match="'ready' is no state of a galaxy; they are waiting, running"):
        monitor.set_state("A", "ready")
    assert monitor.snapshot().galaxies == (GalaxyCounts("A"),)
    assert monitor.snapshot().fitted == 0


def test_a_snapshot_is_of_its_moment():
    monitor, _ = make("A")
    before = monitor.snapshot()
    monitor.begin("A", spaxels=100, chunks=1)
    assert before.galaxies[0].state == "waiting"
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.fitted = 1


def test_rates_are_those_of_the_last_half_a_minute():
    monitor, clock = make("A")
    clock.now += 500  # until the cluster is there
    monitor.begin("A", spaxels=10_000, chunks=100)
    for _ in range(10):
        clock.now += 2
        chunk(monitor)
    assert monitor.snapshot().spectra_per_second == pytest.approx(30)  # 600 in the 20 s since it began
    assert monitor.snapshot().bytes_per_second == pytest.approx(500)
    for _ in range(15):
        clock.now += 2
        chunk(monitor, fitted=20)
    assert monitor.snapshot().spectra_per_second == pytest.approx(10)  # 300 in 30 s; the faster ones are too old
    clock.now += 10
    assert monitor.snapshot().spectra_per_second == pytest.approx(200 / 30)


def test_slow_chunks_count_as_long_as_there_is_nothing_newer():
    monitor, clock = make("A")
    monitor.workers(2, 0)
    monitor.begin("A", spaxels=10_000, chunks=100)
    for _ in range(3):
        clock.now += 100
        chunk(monitor)
        chunk(monitor)
        assert monitor.snapshot().spectra_per_second == pytest.approx(1.2)  # both workers' chunks, not one of them
    clock.now += 20
    assert monitor.snapshot().spectra_per_second == pytest.approx(1.0)  # 120 in 120 s, and not 0


def test_rates_of_a_galaxy_do_not_suffer_from_a_pause_before_it():
    monitor, clock = make("A", "B")
    monitor.begin("A", spaxels=100, chunks=1)
    clock.now += 5
    chunk(monitor)
    monitor.set_state("A", "publishing")
    clock.now += 20
    monitor.begin("B", spaxels=1000, chunks=10)
    assert monitor.snapshot().spectra_per_second == 0
    clock.now += 2
    chunk(monitor, "B")
    assert monitor.snapshot().spectra_per_second == pytest.approx(30)


def test_gpu_use_is_the_share_of_the_workers_time():
    monitor, clock = make("A")
    monitor.workers(3, 2)
    monitor.begin("A", spaxels=10_000, chunks=100)
    assert monitor.snapshot().gpu_use == 0
    clock.now += 10
    chunk(monitor, seconds=4.0)
    chunk(monitor, seconds=1.0)
    now = monitor.snapshot()
    assert (now.workers, now.gpu_workers) == (3, 2)
    assert now.gpu_use == pytest.approx(5 / 20)
    chunk(monitor, seconds=400.0)  # threads that predict at the same time
    assert monitor.snapshot().gpu_use == 1
    monitor.workers(3, 0)
    assert monitor.snapshot().gpu_use is None


def test_time_left_is_that_of_the_running_galaxies_at_this_runs_pace():
    monitor, clock = make("A", "B", "C")
    monitor.begin("A", spaxels=1000, chunks=10, spaxels_done=500, chunks_done=5)
    clock.now += 10
    assert monitor.snapshot().seconds_left is None
    chunk(monitor, fitted=0)  # spaxels without data take their time, too
    assert monitor.snapshot().seconds_left == pytest.approx(40)  # 400 spaxels, 100 took 10 s
    monitor.chunk_failed("A")
    assert monitor.snapshot().seconds_left == pytest.approx(30)
    monitor.finish("A", "incomplete")
    assert monitor.snapshot().seconds_left is None
    clock.now += 1000  # nothing is running
    monitor.begin("B", spaxels=300, chunks=3)
    assert monitor.snapshot().seconds_left == pytest.approx(30)
    clock.now += 20
    chunk(monitor, "B")
    assert monitor.snapshot().seconds_left == pytest.approx(200 * 30 / 200)


def test_threads_may_tell_at_the_same_time():
    monitor = SurveyMonitor(["A"])
    monitor.begin("A", spaxels=100 * 8 * 500, chunks=8 * 500)

    def work() -> None:
        for _ in range(500):
            chunk(monitor)

    threads = [Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    galaxy = monitor.snapshot().galaxies[0]
    assert (galaxy.chunks_done, galaxy.spaxels_done, galaxy.fitted) == (4000, 400_000, 240_000)


def test_the_table_has_problems_first_marks_them_in_words_and_escapes_names():
    galaxies = (
        GalaxyCounts("done", "done", 100, 100, 1, 1),
        GalaxyCounts("going", "running", 1000, 999, 10, 9),
        GalaxyCounts("<b>&", "failed"),
        GalaxyCounts("some", "running", 1000, 300, 10, 3, 2),
    )
    table = galaxy_table(galaxies)
    assert re.findall('data-galaxy="([^"]*)"', table) == ["some", "&lt;b&gt;&amp;", "going", "done"]
    assert "2 of 4 galaxies with problems" in table
    assert "✗ failed" in table
    assert "⚠ 2</td>" in table
    assert "<b>" not in table
    assert re.findall(r"(\d+) %</span>", table) == ["30", "0", "99", "100"]  # 99.9 % are not all
    assert "problems" not in galaxy_table(galaxies[:2])


def test_the_headline_has_all_numbers():
    monitor, clock = make("A", "B")
    assert headline(monitor.snapshot()).count("–") == 2  # GPU use and time left are not known
    monitor.workers(4, 1)
    monitor.begin("A", spaxels=1_000_000, chunks=10)
    clock.now += 10
    chunk(monitor, spaxels=125_000, fitted=25_000, seconds=2.5)
    text = re.sub("<[^>]*>", " ", headline(monitor.snapshot()))
    for part in ("0 of 2", "2,500", "25,000 fitted", "1.25 MB", "125 kB/s", "1 with a GPU", "25%", "1 min 10 s"):
        assert part in text


@contextmanager
def dashboard() -> Iterator[str]:
    """Address of the dashboard of a small cluster."""
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0") as cluster:
        yield f"http://127.0.0.1:{cluster.scheduler.http_server.port}"


def fetch(address: str) -> str:
    with urlopen(address, timeout=20) as answer:
        return answer.read().decode()


def navigation(page: str) -> list[str]:
    return re.findall(r'<li>\s*<a href="([\w-]+)"', page)


def samples(text: str) -> dict[tuple[str, str], float]:
    """Our metrics: {(name, value of the label): value}."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith("galprote_"):
                found[sample.name.removeprefix("galprote_"), "".join(sample.labels.values())] = sample.value
    return found


def test_a_scheduler_serves_the_page_and_the_metrics_and_both_go():
    monitor, clock = make("A", 'B "\\')
    monitor.workers(2, 1)
    monitor.begin("A", spaxels=1000, chunks=10, spaxels_done=300, chunks_done=3)
    clock.now += 10
    chunk(monitor, seconds=5.0)
    monitor.chunk_failed("A")
    with shown(monitor), dashboard() as link:
        assert "Bokeh" in fetch(f"{link}/galprote")
        assert navigation(fetch(f"{link}/galprote"))[:2] == ["galprote", "status"]
        assert navigation(fetch(f"{link}/status"))[:2] == ["galprote", "status"]
        text = fetch(f"{link}/metrics")
        assert "dask_scheduler_workers" in text
        found = samples(text)
        expected = {"spaxels": 1000, "spaxels_done_total": 400, "chunks": 10, "chunks_done_total": 4}
        expected |= {"chunks_failed_total": 1, "fitted_total": 60}
        for name, value in expected.items():
            assert found[name, "A"] == value
            assert found[name, 'B "\\'] == 0
        states = {state: found["galaxies", state] for state in GALAXY_STATES}
        assert states == dict.fromkeys(GALAXY_STATES, 0) | {"running": 1, "waiting": 1}
        run = {"spectra_per_second": 6, "read_bytes_total": 1000, "read_bytes_per_second": 100, "workers": 2}
        run |= {"gpu_workers": 1, "gpu_use_ratio": 0.5, "seconds_left": pytest.approx(60 * 5 / 6)}
        assert {name: value for (name, label), value in found.items() if not label} == run
        chunk(monitor)
        assert samples(fetch(f"{link}/metrics"))["chunks_done_total", "A"] == 5
    with dashboard() as link:
        assert "galprote" not in fetch(f"{link}/metrics")
        assert "galprote" not in fetch(f"{link}/status")
        with pytest.raises(HTTPError) as missing:
            fetch(f"{link}/galprote")
        assert missing.value.code == 404
        missing.value.close()


def test_runs_in_one_process_come_and_go():
    first, second = make("A")[0], make("B")[0]
    for monitor, name in ((first, "A"), (second, "B"), (first, "A")):
        with shown(monitor):
            assert ("spaxels", name) in samples(generate_latest().decode())
    with shown(first):
        with shown(second):
            assert ("spaxels", "B") in samples(generate_latest().decode())
            assert ("spaxels", "A") not in samples(generate_latest().decode())
        assert ("spaxels", "A") in samples(generate_latest().decode())
    assert not samples(generate_latest().decode())


def test_a_run_that_fails_is_shown_no_more():
    with pytest.raises(ZeroDivisionError), shown(make("A")[0]):
        raise ZeroDivisionError
    assert not samples(generate_latest().decode())
