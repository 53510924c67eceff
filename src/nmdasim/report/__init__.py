"""One self-contained page about one or several runs, made only from their run folders.

The page asks no network for anything: plotly's program, the numbers and the pictures are
inside it, and a content security policy tells the browser to refuse every connection.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import jinja2
import plotly.graph_objects as go
import plotly.io
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from nmdasim.errors import ReportError
from nmdasim.report import words
from nmdasim.report.figures import (
    plot_comparison,
    plot_contacts,
    plot_profile,
    plot_raster,
    plot_ring_contacts,
    plot_time_series,
)
from nmdasim.report.palette import END_CARBON, PORE_COLOURS, SUBUNIT_COLOURS
from nmdasim.report.record import RunRecord, is_simulated, read_record, rings_of
from nmdasim.report.scene import HOLE_THRESHOLDS, build_scene, height_text, ring_title
from nmdasim.rundir import write_atomic

__all__ = ["write_report"]

# Entries of provenance.json that have their own place in the page.
_SHOWN_ELSEWHERE = ("methods", "checks", "command", "receptor")
_HERE = Path(__file__).parent


def write_report(runs: Path | Sequence[Path], path: Path) -> Path:
    """Write one HTML file about one or several analysed runs.

    Parameters
    ----------
    runs : pathlib.Path or sequence of pathlib.Path
        Run folders, each with its analysis.
    path : pathlib.Path
        HTML file to write; its folder is made when absent.

    Returns
    -------
    path : pathlib.Path
        The file that was written.

    Raises
    ------
    ReportError
        If no run is given, a folder is no analysed run, or the folder of `path` cannot be made.
    RunStorageError
        If the disk is full or refuses the file.

    Notes
    -----
    The page holds plotly's program (about 5 MB). It needs a browser with WebGL for the
    3-D view; all else shows without it.
    """
    folders = [Path(runs)] if isinstance(runs, str | Path) else [Path(run) for run in runs]
    if not folders:
        raise ReportError("no run was given: name at least one run folder")
    page = render_report([read_record(folder) for folder in folders])
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReportError(
            f"the report cannot be written to {path} ({error.strerror}): "
            "give a place that is writable"
        ) from error
    write_atomic(path, page)
    return path


def render_report(records: Sequence[RunRecord]) -> str:
    """Write the page of one or several runs.

    Parameters
    ----------
    records : sequence of RunRecord

    Returns
    -------
    page : str
        A whole HTML document.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE), autoescape=True, undefined=jinja2.StrictUndefined
    )
    names = _names(records)
    comparison = None
    if len(records) > 1:
        comparison = _figure("comparison", plot_comparison(names, records), height=640)
    return environment.get_template("page.html.j2").render(
        title=" and ".join(dict.fromkeys(record.title for record in records)),
        runs=[
            _run_context(f"run{i}", name, record)
            for i, (name, record) in enumerate(zip(names, records, strict=True), start=1)
        ],
        comparison=comparison,
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup((_HERE / "page.js").read_text(encoding="utf-8")),
        plotly=Markup(get_plotlyjs()),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        thresholds=HOLE_THRESHOLDS,
        pore_colours=PORE_COLOURS,
        subunit_colours=SUBUNIT_COLOURS,
        end_colour=END_CARBON,
        height=height_text,
    )


def _names(records: Sequence[RunRecord]) -> list[str]:
    if len(records) == 1:
        return [records[0].title]
    return [f"{record.inputs['ligand']['name']} · {record.folder.name}" for record in records]


def _run_context(key: str, name: str, record: RunRecord) -> Mapping:
    figure = partial(_run_figure, key)
    site, n_near = words.site_table(record)
    sentences, references = words.methods_with_references(record)
    stages, minimisation = words.equilibration_tables(record)
    return {
        "key": key,
        "name": name,
        "headline": words.headline(record),
        "limits": words.limits(record),
        "scene": figure("scene", build_scene(record), height=640),
        "profile": figure("profile", plot_profile(record), height=640),
        "contacts": figure("contacts", plot_contacts(record), rows=True),
        "ring_contacts": figure("ring-contacts", plot_ring_contacts(record), rows=True),
        "raster": figure("raster", plot_raster(record), rows=True),
        "series": figure("series", plot_time_series(record), height=620),
        "contacts_table": words.contacts_table(record),
        "estimates": words.estimates_table(record),
        "checks": words.checks_table(record),
        "stages": stages,
        "minimisation": minimisation,
        "site": site,
        "n_near": n_near,
        "near": words.NEAR_SITE * 10,
        "rings": [(ring_title(ring.name), ring) for ring in rings_of(record)],
        "ligand": words.ligand_facts(record),
        "drawing": Markup(words.draw_ligand(record)),
        "methods": sentences,
        "references": [Markup(link) for link in words.link_dois(references)],
        "command": words.command(record),
        "inputs": words.flatten(record.inputs),
        "source": words.flatten(record.source),
        "provenance": words.flatten(
            {k: v for k, v in record.provenance.items() if k not in _SHOWN_ELSEWHERE}
        ),
        "segments": [words.flatten(_short(segment)) for segment in record.segments],
        "subunits": sorted(set(record.subunit_of_chain.values())),
        "has_context": not is_simulated(record).all(),
        "ends_elsewhere": record.ends_elsewhere,
        "has_end": record.ligand_end is not None,
    }


def _short(segment: Mapping) -> Mapping:
    return {key: value for key, value in segment.items() if not isinstance(value, list)}


def _run_figure(
    key: str, name: str, figure: go.Figure | None, *, height: int = 0, rows: bool = False
) -> Mapping | None:
    if figure is None:
        return None
    if rows:
        labels = figure.layout.yaxis.ticktext or ()
        height = 125 + 26 * len(labels)
    return _figure(f"{key}-{name}", figure, height=height)


def _figure(key: str, figure: go.Figure, *, height: int) -> Mapping:
    text = plotly.io.to_json(figure, validate=False)
    return {"key": key, "json": Markup(words.escape_json(text)), "height": height}
