"""A run on Dask's dashboard: a page of our own, first in the navigation bar, and its numbers for Prometheus."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from threading import RLock
from typing import Any

from bokeh.models.widgets import Div
from distributed.dashboard import scheduler as dask_dashboard
from distributed.dashboard.components.scheduler import BOKEH_THEME, env
from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from galprote.workflows.monitor import GalaxyCounts, Snapshot, SurveyMonitor
from galprote.workflows.progress import duration
from galprote.workflows.words import GALAXY_STATES, OVER, GalaxyState

#: Name of the page, in the navigation bar and, behind a slash, in the address.
PAGE = "galprote"

#: Milliseconds between two updates of the page.
UPDATE_INTERVAL = 1000

#: Signs for those who do not see colours; the state is written out beside them.
_SIGNS: dict[GalaxyState, str] = {
    "failed": "✗",
    "incomplete": "⚠",
    "stopped": "■",
    "running": "▶",
    "publishing": "✎",
    "waiting": "…",
    "done": "✓",
    "skipped": "✓",
}

#: States in which somebody may have to do something.
_PROBLEMS: frozenset[GalaxyState] = frozenset({"failed", "incomplete", "stopped"})

_STYLE = """
:host { width: 100%; color: #222; font: 15px/1.4 Helvetica, Arial, sans-serif; }
.bk-clearfix { display: block; width: 100%; }
.numbers { display: flex; flex-wrap: wrap; gap: 12px; margin: 12px 0 0; }
.number { flex: 1 1 150px; background: #fff; border: 1px solid #ccc; border-radius: 6px; padding: 10px 16px; }
.number dt { color: #555; font-size: 14px; white-space: nowrap; }
.number dd { margin: 0; font-size: 26px; font-variant-numeric: tabular-nums; white-space: nowrap; }
.number dd small { display: block; color: #555; font-size: 14px; min-height: 20px; }
.problems { margin: 12px 0 0; font-weight: bold; }
table { width: 100%; margin: 12px 0 24px; border-collapse: collapse; background: #fff; border: 1px solid #ccc; }
th { background: #eee; text-align: left; }
th, td { padding: 7px 14px; border-bottom: 1px solid #ddd; white-space: nowrap; font-variant-numeric: tabular-nums; }
th.count, td.count { text-align: right; }
td.name { white-space: normal; overflow-wrap: anywhere; font-weight: bold; }
td.bar { width: 34%; }
.track { display: inline-block; width: calc(100% - 66px); height: 14px; vertical-align: middle;
  background: #e4e4e4; border: 1px solid #888; border-radius: 3px; overflow: hidden; }
.track div { height: 100%; background: #2c6fa8; }
.percent { display: inline-block; width: 60px; text-align: right; }
tr.problem td { background: #fff3e6; }
tr.problem td:first-child { box-shadow: inset 6px 0 #b34700; }
tr.problem td.state, td.some { font-weight: bold; }
"""

_lock = RLock()  # Prometheus asks the collector while it is being registered
_shown: list[SurveyMonitor] = []


@contextmanager
def shown(monitor: SurveyMonitor) -> Iterator[None]:
    """Show a run on the dashboards of schedulers that start meanwhile in this process; to Prometheus, all the while.

    The page is `/galprote`, Prometheus' page is `/metrics`. At the end both forget the run; the page of a scheduler
    that goes on is served to the end of it. Of several runs at once the latest is shown.

    Parameters
    ----------
    monitor : SurveyMonitor
    """
    with _lock:
        _shown.append(monitor)
        if len(_shown) == 1:
            REGISTRY.register(_collector)
        _install_page()
    try:
        yield
    finally:
        with _lock:
            _shown.remove(monitor)
            if not _shown:
                REGISTRY.unregister(_collector)
            _install_page()


def survey_page(monitor: SurveyMonitor) -> Callable[[Any, dict[str, Any], Any], None]:
    """Make the function with which a Dask scheduler makes the page of a run.

    Parameters
    ----------
    monitor : SurveyMonitor

    Returns
    -------
    callable
        Given the scheduler, variables of the template, and a Bokeh document, it fills the document.
    """

    def fill(_: Any, extra: dict[str, Any], doc: Any) -> None:
        numbers, table = (Div(stylesheets=[_STYLE], sizing_mode="stretch_width", disable_math=True) for _ in range(2))

        def update() -> None:
            now = monitor.snapshot()
            numbers.text, table.text = headline(now), galaxy_table(now.galaxies)

        update()
        doc.add_root(numbers)
        doc.add_root(table)
        doc.add_periodic_callback(update, UPDATE_INTERVAL)
        doc.template = env.get_template("simple.html")
        doc.template_variables.update(extra)
        doc.theme = BOKEH_THEME

    return fill


def headline(now: Snapshot) -> str:
    """The numbers of the whole run, as HTML."""
    left = "–" if now.seconds_left is None else duration(now.seconds_left)
    gpu_use = "–" if now.gpu_use is None else f"{now.gpu_use:.0%}"
    done = sum(galaxy.state in OVER for galaxy in now.galaxies)
    tiles = (
        ("Galaxies", f"{done} of {len(now.galaxies)}", "done"),
        ("Spectra per second", f"{now.spectra_per_second:,.0f}", f"{now.fitted:,} fitted"),
        ("Read", _bytes(now.bytes_read), f"{_bytes(now.bytes_per_second)}/s"),
        ("Workers", f"{now.workers}", f"{now.gpu_workers} with a GPU"),
        ("GPU use", gpu_use, "of their time" if now.gpu_workers else "no GPU"),
        ("Time left", left, f"running for {duration(now.seconds)}"),
    )
    numbers = "".join(
        f'<div class="number"><dt>{title}</dt><dd>{value}<small>{note}</small></dd></div>'
        for title, value, note in tiles
    )
    return f'<dl class="numbers">{numbers}</dl>'


def galaxy_table(galaxies: tuple[GalaxyCounts, ...]) -> str:
    """The galaxies as an HTML table: first those with problems, then those under way, then the others."""
    under_way = ("running", "publishing")
    ordered = sorted(galaxies, key=lambda galaxy: (not _has_problem(galaxy), galaxy.state not in under_way))
    problems = sum(map(_has_problem, galaxies))
    warning = f'<p class="problems">⚠ {problems} of {len(galaxies)} galaxies with problems</p>' if problems else ""
    titles = "".join(
        f"<th{' class=count' if title in ('Spaxels', 'Chunks', 'Failed', 'Fitted') else ''}>{title}</th>"
        for title in ("Galaxy", "State", "Progress", "Spaxels", "Chunks", "Failed", "Fitted")
    )
    rows = "".join(map(_row, ordered))
    return f"{warning}<table><thead><tr>{titles}</tr></thead><tbody>{rows}</tbody></table>"


def _row(galaxy: GalaxyCounts) -> str:
    share = galaxy.spaxels_done / galaxy.spaxels if galaxy.spaxels else float(galaxy.state in OVER)
    percent = f"{int(100 * share)}"  # rounded down: 100 % means all
    failed = (
        f'<td class="count some">⚠ {galaxy.chunks_failed}</td>' if galaxy.chunks_failed else "<td class=count>0</td>"
    )
    name = escape(galaxy.name)
    return (
        f'<tr class="{"problem" if _has_problem(galaxy) else ""}" data-galaxy="{name}">'
        f'<td class="name">{name}</td><td class="state">{_SIGNS[galaxy.state]} {galaxy.state}</td>'
        f'<td class="bar"><div class="track" role="progressbar" aria-valuenow="{percent}" aria-label="{name}">'
        f'<div style="width:{percent}%"></div></div><span class="percent">{percent} %</span></td>'
        f'<td class="count">{_of(galaxy.spaxels_done, galaxy.spaxels)}</td>'
        f'<td class="count">{_of(galaxy.chunks_done, galaxy.chunks)}</td>{failed}'
        f'<td class="count">{galaxy.fitted:,}</td></tr>'
    )


def _has_problem(galaxy: GalaxyCounts) -> bool:
    return galaxy.state in _PROBLEMS or galaxy.chunks_failed > 0


def _of(done: int, total: int) -> str:
    return f"{done:,} / {total:,}" if total else "–"


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.5:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:,.2f} TB"


class SurveyCollector(Collector):
    """The numbers of a run for Prometheus; all names begin with `galprote_`.

    Parameters
    ----------
    monitor : callable
        Gives the SurveyMonitor to ask; None where there is none.
    """

    def __init__(self, monitor: Callable[[], SurveyMonitor | None]) -> None:
        self._monitor = monitor

    def collect(self) -> Iterator[Metric]:
        """Give all metrics of this moment."""
        monitor = self._monitor()
        if monitor is not None:
            now = monitor.snapshot()
            yield from _galaxy_metrics(now.galaxies)
            yield from _run_metrics(now)


def _galaxy_metrics(galaxies: tuple[GalaxyCounts, ...]) -> Iterator[Metric]:
    for family, field, description in (
        (GaugeMetricFamily, "spaxels", "Spaxels of a galaxy; 0 until it begins"),
        (CounterMetricFamily, "spaxels_done", "Finished spaxels of a galaxy, those of earlier runs among them"),
        (GaugeMetricFamily, "chunks", "Chunks of a galaxy; 0 until it begins"),
        (CounterMetricFamily, "chunks_done", "Finished chunks of a galaxy, those of earlier runs among them"),
        (CounterMetricFamily, "chunks_failed", "Failed chunks of a galaxy"),
        (CounterMetricFamily, "fitted", "Spectra of a galaxy that this run fitted"),
    ):
        metric = family(f"{PAGE}_{field}", description, labels=["galaxy"])
        for galaxy in galaxies:
            metric.add_metric([galaxy.name], getattr(galaxy, field))
        yield metric
    states = GaugeMetricFamily(f"{PAGE}_galaxies", "Galaxies in a state", labels=["state"])
    for state in GALAXY_STATES:
        states.add_metric([state], sum(galaxy.state == state for galaxy in galaxies))
    yield states


def _run_metrics(now: Snapshot) -> Iterator[Metric]:
    yield CounterMetricFamily(f"{PAGE}_read_bytes", "Bytes of cubes that this run read", value=now.bytes_read)
    for name, description, value in (
        ("spectra_per_second", "Fitted spectra per second, lately", now.spectra_per_second),
        ("read_bytes_per_second", "Bytes of cubes read per second, lately", now.bytes_per_second),
        ("workers", "Workers of the run", now.workers),
        ("gpu_workers", "Workers with a GPU", now.gpu_workers),
        ("gpu_use_ratio", "Share of time in which workers with a GPU predict, lately", now.gpu_use),
        ("seconds_left", "Seconds that the running galaxies will take", now.seconds_left),
    ):
        if value is not None:
            yield GaugeMetricFamily(f"{PAGE}_{name}", description, value=value)


def _latest() -> SurveyMonitor | None:
    with _lock:
        return _shown[-1] if _shown else None


_collector = SurveyCollector(_latest)
_dask_variables = dask_dashboard.template_variables


def _variables(scheduler: Any) -> dict[str, Any]:
    """Dask's variables of the template, with our page first in the navigation bar."""
    variables = _dask_variables(scheduler)
    return {**variables, "pages": [PAGE, *variables["pages"]]}


def _install_page() -> None:
    """Make Dask's next scheduler show the latest of the monitors, or nothing of ours."""
    monitor = _latest()
    if monitor is None:
        dask_dashboard.applications.pop(f"/{PAGE}", None)
        dask_dashboard.template_variables = _dask_variables
    else:
        dask_dashboard.applications[f"/{PAGE}"] = survey_page(monitor)
        dask_dashboard.template_variables = _variables
