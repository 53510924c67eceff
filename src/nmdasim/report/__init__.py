"""One self-contained page about one or several runs, made only from their run folders.

The page asks no network for anything: plotly's program, the numbers and the pictures are
inside it, and a content security policy tells the browser to refuse every connection.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import jinja2
import plotly.graph_objects as go
import plotly.io
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from nmdasim.errors import ReportError
from nmdasim.report import results, words
from nmdasim.report.bins import MAX_COLUMNS, MAX_POINTS, N_BINS
from nmdasim.report.channel import plot_block, plot_density, plot_rates, plot_regions
from nmdasim.report.comparison import (
    Condition,
    conditions_of,
    conditions_table,
    differences_tables,
    plot_estimates,
    plot_profiles,
)
from nmdasim.report.export import find_browser, write_svg_files
from nmdasim.report.figures import (
    plot_contacts,
    plot_profile,
    plot_raster,
    plot_ring_contacts,
    plot_time_series,
)
from nmdasim.report.palette import END_CARBON, PORE_COLOURS, SUBUNIT_COLOURS
from nmdasim.report.record import RunRecord, is_simulated, read_record, rings_of
from nmdasim.report.scene import PASSING_RADII, build_scene, height_text, ring_title
from nmdasim.rundir import write_atomic

__all__ = ["write_figures", "write_report"]

# Entries of provenance.json that have their own place in the page.
_SHOWN_ELSEWHERE = ("methods", "checks", "command", "receptor")
_HERE = Path(__file__).parent
_TALL = 640


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
    records = _records(runs)
    path = Path(path)
    # Refused before any work.
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReportError(
            f"the report cannot be written to {path} ({error.strerror}): "
            "give a place that is writable"
        ) from error
    write_atomic(path, render_report(records))
    return path


def write_figures(runs: Path | Sequence[Path], folder: Path) -> list[Path]:
    """Write each figure of the report as an SVG file of its own.

    Parameters
    ----------
    runs : pathlib.Path or sequence of pathlib.Path
        Run folders, each with its analysis.
    folder : pathlib.Path
        Folder to write into; made when absent.

    Returns
    -------
    paths : list of pathlib.Path
        `comparison-*.svg` of several runs, then `runN-*.svg` of each.

    Raises
    ------
    ReportError
        If no run is given, a folder is no analysed run, or no Chromium is installed.
    RunStorageError
        If the disk is full or refuses a file.

    Notes
    -----
    An installed Chromium or Chrome draws them, without a network; the variable
    `NMDASIM_BROWSER` names another one.
    """
    find_browser()  # Refused before any work.
    records = _records(runs)
    figures = dict(_comparison_figures(conditions_of(records))) if len(records) > 1 else {}
    for i, record in enumerate(records, start=1):
        figures |= {f"run{i}-{name}": drawn for name, drawn in _figures(record).items() if drawn}
    return write_svg_files(figures, Path(folder))


def render_report(records: Sequence[RunRecord]) -> str:
    """Write the page of one or several runs.

    Parameters
    ----------
    records : sequence of RunRecord

    Returns
    -------
    page : str
        A whole HTML document.

    Raises
    ------
    ReportError
        If the same run is given twice.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE), autoescape=True, undefined=jinja2.StrictUndefined
    )
    names = _names(records)
    return environment.get_template("page.html.j2").render(
        title=" and ".join(dict.fromkeys(record.title for record in records)),
        runs=[
            _run_context(f"run{i}", name, record)
            for i, (name, record) in enumerate(zip(names, records, strict=True), start=1)
        ],
        comparison=_comparison(conditions_of(records)) if len(records) > 1 else None,
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup((_HERE / "page.js").read_text(encoding="utf-8")),
        plotly=Markup(get_plotlyjs()),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        thresholds=PASSING_RADII,
        pore_colours=PORE_COLOURS,
        subunit_colours=SUBUNIT_COLOURS,
        end_colour=END_CARBON,
        height=height_text,
    )


def _records(runs: Path | Sequence[Path]) -> list[RunRecord]:
    folders = [Path(runs)] if isinstance(runs, str | Path) else [Path(run) for run in runs]
    if not folders:
        raise ReportError("no run was given: name at least one run folder")
    return [read_record(folder) for folder in folders]


def _names(records: Sequence[RunRecord]) -> list[str]:
    if len(records) == 1:
        return [records[0].title]
    return [f"{record.inputs['ligand']['name']} · {record.folder.name}" for record in records]


def _comparison(conditions: Sequence[Condition]) -> Mapping:
    return {
        "conditions": [
            (condition.name, [record.folder.name for record in condition.records])
            for condition in conditions
        ],
        "table": conditions_table(conditions),
        "differences": differences_tables(conditions),
        **{
            name.replace("comparison-", ""): _embedded(name, *drawn)
            for name, drawn in _comparison_figures(conditions).items()
        },
    }


def _comparison_figures(conditions: Sequence[Condition]) -> Mapping[str, tuple[go.Figure, int]]:
    figures = {
        "comparison-estimates": plot_estimates(conditions),
        "comparison-profiles": plot_profiles(conditions),
    }
    return {name: (figure, int(figure.layout.height)) for name, figure in figures.items()}


def _figures(record: RunRecord) -> Mapping[str, tuple[go.Figure, int] | None]:
    """Draw every figure of one run; None where there is nothing to draw."""
    figures = {
        "scene": build_scene(record),
        "profile": plot_profile(record),
        "block": plot_block(record),
        "density": plot_density(record),
        "rates": plot_rates(record),
        "ring-contacts": plot_ring_contacts(record),
        "contacts": plot_contacts(record),
        "raster": plot_raster(record),
        "regions": plot_regions(record),
        "series": plot_time_series(record),
    }
    return {name: figure and (figure, _height(figure)) for name, figure in figures.items()}


def _height(figure: go.Figure) -> int:
    """Give a figure the height it asks for, or one that its rows need, or that of the 3-D view."""
    if figure.layout.height:
        return int(figure.layout.height)
    labels = figure.layout.yaxis.ticktext
    return 125 + 26 * len(labels) if labels else _TALL


def _run_context(key: str, name: str, record: RunRecord) -> Mapping:
    site, n_near = words.site_table(record)
    sentences, references = words.methods_with_references(record)
    stages, minimisation = words.equilibration_tables(record)
    estimates, across = words.estimates_tables(record)
    return {
        "key": key,
        "name": name,
        "headline": words.headline(record),
        "limits": words.limits(record),
        "figures": {
            figure.replace("-", "_"): drawn and _embedded(f"{key}-{figure}", *drawn)
            for figure, drawn in _figures(record).items()
        },
        "states": results.states_table(record),
        "never": results.never_visited(record),
        "rates": results.rates_table(record),
        "permeation": results.permeation_sentence(record),
        "lifetimes": results.lifetimes_table(record),
        "regions": results.regions_table(record),
        **_folded(record.tables["frames"].num_rows),
        "contacts_table": words.contacts_table(record),
        "estimates": estimates,
        "across": across,
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
        "is_foreign": record.is_foreign,
        "is_cut_out": words.is_cut_out(record),
        "is_ion": record.ligand.GetNumAtoms() == 1,
    }


def _folded(n_frames: int) -> Mapping[str, str]:
    """Say how a long run was folded to be drawn; nothing of a short one."""
    points = columns = ""
    if n_frames > MAX_POINTS:
        points = (
            f" The {n_frames} frames are folded into {N_BINS} bins: the line is the mean of a bin, "
            "the pale band reaches from its lowest to its highest value."
        )
    if n_frames > MAX_COLUMNS:
        columns = (
            f" Folded into {MAX_COLUMNS} columns of about {n_frames / MAX_COLUMNS:.3g} frames."
        )
    return {"folded": points, "columns": columns}


def _short(segment: Mapping) -> Mapping:
    return {key: value for key, value in segment.items() if not isinstance(value, list)}


def _embedded(key: str, figure: go.Figure, height: int) -> Mapping:
    text = plotly.io.to_json(figure, validate=False)
    return {"key": key, "json": Markup(words.escape_json(text)), "height": height}
