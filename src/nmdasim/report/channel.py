"""Figures of the channel and its block: states, paths, gates, densities, events, regions."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from nmdasim.report.bins import (
    MAX_COLUMNS,
    MAX_POINTS,
    N_BINS,
    bin_times,
    binned_mean,
    envelope,
    most_common,
    time_axis,
)
from nmdasim.report.palette import NOTHING, OKABE_ITO, STATE_COLOURS, TEMPLATE
from nmdasim.report.record import RunRecord, rings_of, simulated_span
from nmdasim.report.results import place_text
from nmdasim.report.scene import PASSING_RADII, ring_title

_ANGSTROM = 10.0
#: Columns of frames.parquet that hold yes or no, with their words.
PATHS: Mapping[str, str] = {
    "water_path_past_ligand": "water, past the ligand",
    "water_path": "water, through the pore",
    "bare_ion_past_ligand": "bare Na⁺ fits, past the ligand",
    "bare_ion_path": "bare Na⁺ fits, through the pore",
    "hydrated_ion_past_ligand": "hydrated Na⁺ fits, past the ligand",
    "hydrated_ion_path": "hydrated Na⁺ fits, through the pore",
}
_DEPTHS = (
    ("ligand_depth_nm", "centre of the ligand", OKABE_ITO["black"]),
    ("ammonium_depth_nm", "its basic nitrogen", OKABE_ITO["blue"]),
)
_RADII = (
    ("filter_radius_nm", "filter (asparagine ring)", OKABE_ITO["blue"]),
    ("radius_past_ligand_nm", "past the ligand", OKABE_ITO["vermilion"]),
    ("gate_radius_nm", "gate (threonine to VIVI ring)", OKABE_ITO["green"]),
)
_STRIPS = (("state", "block"), ("gate_state", "gate"))
_SHARE_SCALE = [[0.0, "#F4F4F4"], [1.0, OKABE_ITO["blue"]]]
_KIND_COLOURS = ("blue", "vermilion", "green", "purple", "orange", "black")
_PIXELS = {"depth": 250, "states": 60, "radii": 200, "paths": 150}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Panels:
    """Where each panel of a figure with one time axis stands."""

    row: Mapping[str, int]
    top: Mapping[str, float]
    height: int


def plot_block(record: RunRecord) -> go.Figure:
    """Draw over one time axis where the ligand is, the states, the radii and the paths.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    figure : plotly.graph_objects.Figure
        Panels of which the analysis has no column are left out. Long runs are folded into bins.
    """
    strips = [(column, title) for column, title in _STRIPS if record.has(column)]
    paths = [(column, title) for column, title in PATHS.items() if record.has(column)]
    radii = [line for line in _RADII if record.has(line[0])]
    there = {"depth": True, "states": strips, "radii": radii, "paths": paths}
    names = [name for name, content in there.items() if content]
    sizes = {**_PIXELS, "states": 18 + 22 * len(strips), "paths": 22 * len(paths)}
    figure, panels = _stacked(names, sizes)
    time, unit = time_axis(record.column("frames", "time_ps"))
    _draw_depth(figure, record, time, unit, panels)
    if strips:
        _draw_states(figure, record, strips, time, panels)
    if radii:
        _draw_lines(figure, record, radii, time, unit, panels, "radii", "radius (Å)")
        for threshold, what in zip(PASSING_RADII, ("water", "ions"), strict=True):
            figure.add_hline(
                y=threshold, row=panels.row["radii"], col=1,
                line={"width": 0.8, "dash": "dash", "color": "#888"},
            )  # fmt: skip
            figure.add_annotation(
                x=1.01, xref="paper", y=threshold, yref=f"y{panels.row['radii']}",
                text=f"{what}, {threshold:.2f} Å", showarrow=False, xanchor="left",
                font={"size": 11},
            )  # fmt: skip
        figure.update_yaxes(rangemode="tozero", row=panels.row["radii"])
    if paths:
        _draw_paths(figure, record, paths, time, unit, panels)
    figure.update_xaxes(range=_span(time))
    figure.update_xaxes(title_text=f"time ({unit})", row=len(names))
    figure.update_layout(
        template=TEMPLATE, height=panels.height, margin={"l": 60, "r": 135, "t": 30, "b": 45}
    )
    return figure


def plot_density(record: RunRecord) -> go.Figure | None:
    """Draw how many waters and ions there are at each height of the pore.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    figure : plotly.graph_objects.Figure or None
        Water on the left, ions on the right, each with its standard error as a band; None when
        the analysis has no density.
    """
    kinds: dict[str, list[dict]] = {}
    for row in record.rows("density"):
        kinds.setdefault(row["kind"], []).append(row)
    if not kinds:
        return None
    order = sorted(kinds, key=lambda kind: (kind != "water", kind))
    figure = make_subplots(cols=2, rows=1, shared_yaxes=True, horizontal_spacing=0.06)
    levels = np.array([row["z_nm"] for rows in kinds.values() for row in rows]) * _ANGSTROM
    low, high = (end * _ANGSTROM for end in simulated_span(record))
    low, high = max(low - 6.0, float(levels.min())), min(high + 6.0, float(levels.max()))
    ions, most = 0, {1: 0.0, 2: 0.0}
    for kind in order:
        ions += kind != "water"
        colour = OKABE_ITO[_KIND_COLOURS[ions % len(_KIND_COLOURS)]]
        column = 1 if kind == "water" else 2
        z, mean, error = (
            np.array([row[name] for row in kinds[kind]], dtype=float)
            for name in ("z_nm", "per_nm", "per_nm_error")
        )
        z, mean, error = z * _ANGSTROM, mean / _ANGSTROM, error / _ANGSTROM
        seen = (z >= low) & (z <= high) & np.isfinite(mean)
        most[column] = max(most[column], float(np.max(mean[seen], initial=0.0)))
        figure.add_traces(upright_band(z, mean, error, colour), rows=1, cols=column)
        figure.add_scatter(
            x=mean, y=z, mode="lines", name=html.escape(kind), row=1, col=column,
            line={"color": colour, "width": 2}, hovertemplate=f"{html.escape(kind)}"
            "<br>%{x:.3f} per Å at z %{y:.1f} Å<extra></extra>",
        )  # fmt: skip
    mark_rings(figure, record, columns=2)
    figure.update_yaxes(range=[low, high])
    figure.update_yaxes(title_text="height z along the pore axis (Å)", col=1)
    for column, what in ((1, "waters"), (2, "ions")):
        top = 1.08 * most[column] or 1.0
        figure.update_xaxes(title_text=f"{what} per Å of height", range=[0.0, top], col=column)
        if not most[column]:
            there = bool(kinds.keys() & {"water"} if column == 1 else kinds.keys() - {"water"})
            figure.add_annotation(
                text=f"none of the {what} was seen here" if there
                else f"no {what} in this trajectory", yref="paper", y=0.5, showarrow=False,
                xref="x2 domain" if column == 2 else "x domain", x=0.5, font={"size": 13},
            )  # fmt: skip
    figure.update_layout(
        template=TEMPLATE, height=520, margin={"l": 60, "r": 150, "t": 35, "b": 50},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
    )  # fmt: skip
    return figure


def plot_rates(record: RunRecord) -> go.Figure | None:
    """Draw the rates of crossing with their Poisson intervals.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    figure : plotly.graph_objects.Figure or None
        The whole pore for every kind and direction, and each level that something crossed;
        None without a table of rates.
    """
    rows = [
        row
        for row in record.rows("permeation_rates")
        if row["rate_high_per_ns"] is not None
        and np.isfinite(row["rate_high_per_ns"])
        and (row["count"] or row["place"] == "whole pore")
    ]
    if not rows:
        return None
    labels = [html.escape(f"{r['kind']}, {place_text(r['place'])}, {_direction(r)}") for r in rows]
    rate, low, high = (
        np.array([row[f"rate{end}_per_ns"] for row in rows]) for end in ("", "_low", "_high")
    )
    seen = np.array([row["count"] > 0 for row in rows])
    figure = go.Figure(
        go.Scatter(
            x=rate, y=list(range(len(rows))), mode="markers",
            error_x={"type": "data", "symmetric": False, "array": high - rate,
                     "arrayminus": rate - low, "thickness": 1.5, "width": 4},
            marker={"size": 9, "color": OKABE_ITO["blue"],
                    "symbol": np.where(seen, "circle", "circle-open").tolist()},
            customdata=np.stack([[row["count"] for row in rows], low, high], axis=1),
            hovertemplate="%{customdata[0]} events<br>%{x:.3~g} per ns "
            "(%{customdata[1]:.3~g} to %{customdata[2]:.3~g})<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(
        template=TEMPLATE, height=112 + 24 * len(rows), showlegend=False,
        xaxis={"title": {"text": "events per ns"}, "rangemode": "tozero"},
        yaxis={"tickvals": list(range(len(rows))), "ticktext": labels, "showgrid": False,
               "range": [len(rows) - 0.5, -0.5]},
        margin={"l": 10, "r": 20, "t": 32, "b": 45},
    )  # fmt: skip
    return figure


def plot_regions(record: RunRecord) -> go.Figure | None:
    """Draw for which share of the time the ligand touches each face of the channel.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    figure : plotly.graph_objects.Figure or None
        None when the analysis has no table of regions.
    """
    rows = [row for row in record.rows("regions") if row["occupancy"] is not None]
    rows = [row for row in rows if np.isfinite(row["occupancy"])]
    if not rows:
        return None
    share = np.array([row["occupancy"] for row in rows])
    error = np.array([row["occupancy_error"] or np.nan for row in rows], dtype=float)
    figure = go.Figure(
        go.Bar(
            x=share, y=[html.escape(row["region"]) for row in rows], orientation="h",
            marker={"color": OKABE_ITO["sky"]}, width=0.6,
            error_x={"type": "data", "color": "#333",
                     "array": [e if np.isfinite(e) else None for e in error.tolist()]},
            hovertext=[html.escape(row["residues"] or "no residue") for row in rows],
            hovertemplate="%{y}: %{x:.2f} of the frames<br>%{hovertext}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(
        template=TEMPLATE, height=117 + 30 * len(rows), showlegend=False,
        xaxis={"title": {"text": "share of the frames in contact"}, "range": [0, 1.02]},
        yaxis={"autorange": "reversed", "showgrid": False},
        margin={"l": 10, "r": 20, "t": 32, "b": 45},
    )  # fmt: skip
    return figure


def first_equilibrated(record: RunRecord, name: str = "ligand_depth") -> int:
    """Tell from which frame on an observable was averaged.

    Parameters
    ----------
    record : RunRecord
    name : str
        As in estimates.parquet.

    Returns
    -------
    first : int
        0 when nothing was left out or the analysis does not say.
    """
    for row in record.rows("estimates"):
        if row["name"] == name:
            return int(row.get("n_discarded") or 0)
    return 0


def upright_band(z: NDArray, middle: NDArray, error: NDArray, colour: str) -> list[go.Scatter]:
    """Draw the error of a profile as a band beside its line, height upwards.

    Parameters
    ----------
    z, middle, error : ndarray of float64, shape (n_levels,)
        nan where not known: the band has a gap there.
    colour : str

    Returns
    -------
    traces : list of plotly.graph_objects.Scatter
        One for each stretch without a gap.
    """
    known = np.isfinite(middle) & np.isfinite(error)
    edges = np.flatnonzero(np.diff(known.astype(int), prepend=0, append=0))
    traces = []
    for first, last in edges.reshape(-1, 2):
        part = slice(first, last)
        low, high = (middle - error)[part], (middle + error)[part]
        traces.append(
            go.Scatter(
                x=np.concatenate([low, high[::-1]]), y=np.concatenate([z[part], z[part][::-1]]),
                fill="toself", fillcolor=colour, opacity=0.25, line={"width": 0},
                hoverinfo="skip", showlegend=False, mode="lines",
            )
        )  # fmt: skip
    return traces


def mark_rings(figure: go.Figure, record: RunRecord, *, columns: int = 1) -> None:
    """Draw a line at each ring, with its name beyond the right edge.

    Parameters
    ----------
    figure : plotly.graph_objects.Figure
        Changed in place; its height axis points upwards in Angstrom.
    record : RunRecord
    columns : int
        Panels side by side that share the axis.
    """
    for ring in rings_of(record):
        height = ring.height * _ANGSTROM
        figure.add_hline(y=height, line_width=0.8, line_color="#888", layer="below")
        figure.add_annotation(
            x=1.01, xref="paper", y=height, yref="y", showarrow=False, xanchor="left",
            text=ring_title(ring.name), font={"size": 11}, hovertext=html.escape(ring.residues),
        )  # fmt: skip


def draw_over_time(
    figure: go.Figure, time: NDArray, values: NDArray, *, colour: str, row: int, col: int = 1,
    hover: str, **named: object,
) -> None:  # fmt: skip
    """Draw one series, folded into bins with its extremes as a band where it is long.

    Parameters
    ----------
    figure : plotly.graph_objects.Figure
        Changed in place.
    time, values : ndarray of float64, shape (n_frames,)
    colour : str
    row, col : int
        The panel.
    hover : str
        Template of what the mouse shows.
    **named
        Name and legend of the trace.
    """
    if len(values) > MAX_POINTS:
        folded, time = envelope(values), bin_times(time, n_bins=N_BINS)
        figure.add_traces(
            _band_over_time(time, folded.low, folded.high, colour), rows=row, cols=col
        )
        values = folded.mean
    # A single frame makes no line.
    mode = "lines" if len(values) > 1 else "markers"
    figure.add_scatter(
        x=time, y=values, mode=mode, line={"color": colour, "width": 1.3}, row=row, col=col,
        hovertemplate=hover, **named,
    )  # fmt: skip


def _band_over_time(time: NDArray, low: NDArray, high: NDArray, colour: str) -> list[go.Scatter]:
    hidden = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    fill = f"rgba({red},{green},{blue},0.22)"
    return [
        go.Scatter(x=time, y=low, **hidden),
        go.Scatter(x=time, y=high, fill="tonexty", fillcolor=fill, **hidden),
    ]


def _stacked(names: Sequence[str], sizes: Mapping[str, int]) -> tuple[go.Figure, _Panels]:
    gap, above, below = 46, 30, 45
    pixels = [sizes[name] for name in names]
    inner = sum(pixels) + gap * (len(names) - 1)
    figure = make_subplots(
        rows=len(names), cols=1, shared_xaxes=True, vertical_spacing=gap / inner,
        row_heights=[size / sum(pixels) for size in pixels],
    )  # fmt: skip
    tops = [1.0 - (sum(pixels[:i]) + gap * i) / inner for i in range(len(names))]
    return figure, _Panels(
        row={name: i for i, name in enumerate(names, start=1)},
        top=dict(zip(names, tops, strict=True)),
        height=inner + above + below,
    )


def _legend(figure: go.Figure, panels: _Panels, name: str) -> str:
    key = f"legend{panels.row[name]}" if panels.row[name] > 1 else "legend"
    figure.update_layout(
        {key: {"orientation": "h", "x": 0, "y": panels.top[name], "yanchor": "bottom",
               "font": {"size": 11.5}, "bgcolor": "rgba(0,0,0,0)", "traceorder": "normal"}}
    )  # fmt: skip
    return key


def _draw_lines(
    figure: go.Figure, record: RunRecord, lines: Sequence[tuple[str, str, str]], time: NDArray,
    unit: str, panels: _Panels, panel: str, axis: str,
) -> None:  # fmt: skip
    legend = _legend(figure, panels, panel)
    for column, title, colour in lines:
        values = record.column("frames", column).astype(float) * _ANGSTROM
        draw_over_time(
            figure, time, values, colour=colour, row=panels.row[panel], name=title, legend=legend,
            showlegend=True, hover=f"{title}: %{{y:.2f}} Å at %{{x:.4~f}} {unit}<extra></extra>",
        )  # fmt: skip
    figure.update_yaxes(title_text=axis, row=panels.row[panel])


def _draw_depth(
    figure: go.Figure, record: RunRecord, time: NDArray, unit: str, panels: _Panels
) -> None:
    lines = [line for line in _DEPTHS if record.has(line[0])]
    _draw_lines(figure, record, lines, time, unit, panels, "depth", "depth (Å)")
    for ring in rings_of(record):
        height = ring.height * _ANGSTROM
        figure.add_hline(
            y=height, row=1, col=1, line={"width": 0.8, "color": "#AAA"}, layer="below"
        )
        figure.add_annotation(
            x=1.01, xref="paper", y=height, yref="y", text=ring_title(ring.name),
            showarrow=False, xanchor="left", font={"size": 11},
        )  # fmt: skip
    first = first_equilibrated(record)
    if first:
        cut = float(time[min(first, len(time) - 1)])
        figure.add_vrect(
            x0=float(time[0]), x1=cut, row=1, col=1, fillcolor="#BBBBBB", opacity=0.35,
            line_width=0, layer="below", annotation_text="not settled",
            annotation_position="bottom left", annotation_font_size=11,
        )  # fmt: skip


def _draw_states(
    figure: go.Figure, record: RunRecord, strips: Sequence[tuple[str, str]], time: NDArray,
    panels: _Panels,
) -> None:  # fmt: skip
    names = list(STATE_COLOURS)
    row, legend, n_bins = panels.row["states"], _legend(figure, panels, "states"), MAX_COLUMNS
    codes = np.full((len(strips), min(n_bins, len(time))), len(names))
    for strip, (column, _) in enumerate(strips):
        words = record.tables["frames"][column].to_pylist()
        known = {name: code for code, name in enumerate(names)}
        frames = np.array([known.get(word, len(names)) for word in words])
        codes[strip] = most_common(frames, n_codes=len(names) + 1, n_bins=n_bins)
    colours = [*STATE_COLOURS.values(), NOTHING]
    figure.add_trace(_codes_map(codes, time, [*names, "cannot be told"], colours), row=row, col=1)
    for code, name in enumerate(names):
        if (codes == code).any():
            figure.add_scatter(
                x=[None], y=[None], mode="markers", name=name, legend=legend, row=row, col=1,
                marker={"symbol": "square", "size": 11, "color": colours[code]},
            )  # fmt: skip
    titles = [title for _, title in strips]
    figure.update_yaxes(
        tickvals=list(range(len(strips))), ticktext=titles, autorange="reversed", showgrid=False,
        row=row,
    )  # fmt: skip


def _codes_map(
    codes: NDArray, time: NDArray, names: Sequence[str], colours: Sequence[str]
) -> go.Heatmap:
    n = len(colours)
    scale = [[(i + edge) / n, colour] for i, colour in enumerate(colours) for edge in (0, 1)]
    return go.Heatmap(
        z=codes, x=bin_times(time, n_bins=codes.shape[1]), y=list(range(len(codes))),
        customdata=np.array(names, dtype=object)[codes], colorscale=scale, zmin=-0.5,
        zmax=n - 0.5, showscale=False, ygap=3,
        hovertemplate="%{customdata} at %{x:.4~f}<extra></extra>",
    )  # fmt: skip


def _draw_paths(
    figure: go.Figure, record: RunRecord, paths: Sequence[tuple[str, str]], time: NDArray,
    unit: str, panels: _Panels,
) -> None:  # fmt: skip
    row = panels.row["paths"]
    shares = [
        binned_mean(record.column("frames", column).astype(float), n_bins=MAX_COLUMNS)
        for column, _ in paths
    ]
    figure.add_heatmap(
        z=np.array(shares), x=bin_times(time, n_bins=MAX_COLUMNS), y=list(range(len(paths))),
        colorscale=_SHARE_SCALE, zmin=0, zmax=1, ygap=3, showscale=False, row=row, col=1,
        hovertemplate=f"%{{z:.2f}} of the frames at %{{x:.4~f}} {unit}<extra></extra>",
    )  # fmt: skip
    figure.update_yaxes(
        tickvals=list(range(len(paths))), ticktext=[title for _, title in paths],
        autorange="reversed", showgrid=False, row=row,
    )  # fmt: skip
    for at, (share, _) in enumerate(zip(shares, paths, strict=True)):
        column = record.column("frames", paths[at][0]).astype(float)
        whole = float(np.nanmean(column)) if np.isfinite(share).any() else np.nan
        figure.add_annotation(
            x=1.01, xref="paper", y=at, yref=f"y{row}", showarrow=False, xanchor="left",
            text=f"{100 * whole:.0f} % of the time", font={"size": 11},
        )  # fmt: skip


def _span(time: NDArray) -> list[float] | None:
    return [float(time[0]), float(time[-1])] if len(time) > 1 else None


def _direction(row: Mapping) -> str:
    return {"in": "inwards", "out": "outwards"}.get(row["direction"], str(row["direction"]))
