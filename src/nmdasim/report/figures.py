"""The plane figures of a report on radius, contacts and time series."""

import html
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from nmdasim.report.bins import MAX_COLUMNS, bin_starts, bin_times, time_axis
from nmdasim.report.channel import draw_over_time, first_equilibrated, upright_band
from nmdasim.report.palette import NOTHING, OKABE_ITO, TEMPLATE, TYPE_COLOURS
from nmdasim.report.record import RunRecord, residue_label, rings_of, simulated_span
from nmdasim.report.scene import PASSING_RADII, height_text, ring_title
from nmdasim.report.words import status_mark, without_unit

#: Column of frames.parquet, title of the panel, factor to the unit of the title.
TIME_SERIES: tuple[tuple[str, str, float], ...] = (
    ("ligand_offset_nm", "offset from the axis (Å)", 10.0),
    ("ligand_tilt_deg", "tilt against the axis (°)", 1.0),
    ("ammonium_angle_deg", "direction of the ammonium (°)", 1.0),
    ("ligand_rmsd_nm", "RMSD to the start (Å)", 10.0),
    ("filled_share", "filled share of the lumen", 1.0),
    ("vestibule_volume_nm3", "volume of the vestibule (nm³)", 1.0),
    ("fit_rmsd_nm", "RMSD of the pore's backbone (Å)", 10.0),
    ("temperature_k", "temperature (K)", 1.0),
    ("potential_kj_mol", "potential energy (MJ/mol)", 1e-3),
)
_ANGSTROM = 10.0
_MAX_ROWS = 40
_TOP_RADIUS = 8.0
_PANELS_ACROSS = 3
# Light enough for black numbers in every cell.
_OCCUPANCY_SCALE = [[0.0, "#FFFFFF"], [1.0, "#6FB1DB"]]


def plot_profile(record: RunRecord) -> go.Figure:
    """Draw the pore radius along the axis, which stands upright as in the 3-D view.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    figure : plotly.graph_objects.Figure
    """
    z = record.column("profile", "z_nm") * _ANGSTROM
    figure = go.Figure()
    for name, title, colour in (
        ("open", "ligand not counted", OKABE_ITO["blue"]),
        ("ligand", "ligand counted", OKABE_ITO["vermilion"]),
    ):
        radius = record.column("profile", f"radius_{name}_nm") * _ANGSTROM
        error = record.column("profile", f"radius_{name}_error_nm") * _ANGSTROM
        start = record.column("profile", f"radius_start_{name}_nm") * _ANGSTROM
        figure.add_traces(upright_band(z, radius, error, colour))
        figure.add_scatter(
            x=radius, y=z, mode="lines", name=f"{title}, mean", line={"color": colour, "width": 2},
            hovertemplate=f"{title}<br>z %{{y:.1f}} Å, radius %{{x:.2f}} Å<extra></extra>",
        )  # fmt: skip
        figure.add_scatter(
            x=start, y=z, mode="lines", name=f"{title}, start", hoverinfo="skip",
            line={"color": colour, "width": 1, "dash": "dot"},
        )  # fmt: skip
    _mark_profile(figure, record)
    figure.update_layout(
        template=TEMPLATE,
        xaxis={"title": {"text": "pore radius (Å)"}, "range": [0, _TOP_RADIUS]},
        yaxis={"title": {"text": "height z along the pore axis (Å)"}, "range": _ends(z)},
        legend={"orientation": "h", "y": -0.13, "x": 0, "font": {"size": 11}},
        margin={"l": 55, "r": 12, "t": 30, "b": 50},
    )
    return figure


def plot_contacts(record: RunRecord) -> go.Figure | None:
    """Draw how often each residue touches the ligand, by kind of interaction.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    figure : plotly.graph_objects.Figure or None
        Residues are ordered by height; None without any contact.
    """
    rows = record.tables["contacts"].to_pylist()
    heights = residue_heights(record)
    order = sorted(
        {(row["chain"], row["number"]) for row in rows},
        key=lambda key: (heights.get(key, 0.0), key),
    )
    labels = {(row["chain"], row["number"]): contact_label(row) for row in rows}
    cells = [((row["chain"], row["number"]), row["type"], row) for row in rows]
    return _occupancy_map(cells, order, [labels[key] for key in order])


def plot_ring_contacts(record: RunRecord) -> go.Figure | None:
    """Draw the contacts folded over the equivalent residues of each pair of subunits.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    figure : plotly.graph_objects.Figure or None
        None without any contact.
    """
    rows = record.tables["ring_contacts"].to_pylist()
    ring_height = {ring.name: ring.height for ring in rings_of(record)}
    heights = residue_heights(record, by_label=True)

    def level(row: Mapping) -> float:
        return heights.get(row["residue"], ring_height.get(row["ring"], 0.0))

    order = list(dict.fromkeys(row["residue"] for row in sorted(rows, key=level)))
    ring = {row["residue"]: row["ring"] for row in rows}
    labels = [html.escape(_with_ring(residue, ring[residue])) for residue in order]
    return _occupancy_map([(row["residue"], row["type"], row) for row in rows], order, labels)


def plot_raster(record: RunRecord) -> go.Figure | None:
    """Draw which residue is in contact when.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    figure : plotly.graph_objects.Figure or None
        Up to 400 frames: each frame, coloured by the most specific interaction. More frames:
        in 400 bins, the share of the frames with a contact of any kind. The forty residues that
        are touched most; None without any contact.
    """
    contacts = record.rows("contacts")
    touched: dict[tuple[str, int], float] = {}
    for row in contacts:
        key = (row["chain"], row["number"])
        touched[key] = max(touched.get(key, 0.0), row["occupancy"])
    most = sorted(touched, key=lambda key: -touched[key])[:_MAX_ROWS]
    heights = residue_heights(record)
    order = sorted(most, key=lambda key: (heights.get(key, 0.0), key))
    if not order:
        return None
    names = {(row["chain"], row["number"]): contact_label(row) for row in contacts}
    labels = [names[key] for key in order]
    time = record.column("frames", "time_ps")
    if len(time) > MAX_COLUMNS:
        return _share_map(record, order, labels, time)
    kinds = list(TYPE_COLOURS)
    raster = np.full((len(order), len(time)), len(kinds))
    for frames, rows, codes in _events(record, order, kinds):
        np.minimum.at(raster, (rows, frames), codes)
    return _raster_figure(raster, time, labels, kinds)


def plot_time_series(record: RunRecord) -> go.Figure:
    """Draw the observables of each frame as small multiples over one time axis.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    figure : plotly.graph_objects.Figure
        Observables that the analysis does not have are left out. The dashed line is the mean
        over the frames that its estimate uses.
    """
    shown = [panel for panel in TIME_SERIES if record.has(panel[0])]
    time, unit = time_axis(record.column("frames", "time_ps"))
    n_rows = -(-len(shown) // _PANELS_ACROSS)
    figure = make_subplots(
        rows=n_rows,
        cols=_PANELS_ACROSS,
        shared_xaxes="all",
        subplot_titles=[title for _, title, _ in shown],
        horizontal_spacing=0.11,
        vertical_spacing=0.3 / n_rows,
    )
    for panel, (column, title, factor) in enumerate(shown):
        row, col = panel // _PANELS_ACROSS + 1, panel % _PANELS_ACROSS + 1
        values = record.column("frames", column).astype(float) * factor
        draw_over_time(
            figure, time, values, colour=OKABE_ITO["blue"], row=row, col=col,
            hover=f"{title}: %{{y:.3~f}} at %{{x:.4~f}} {unit}<extra></extra>",
        )  # fmt: skip
        first = first_equilibrated(record, without_unit(column))
        used = values[min(first, len(values) - 1) :]
        if np.isfinite(used).any():
            figure.add_hline(
                y=float(np.nanmean(used)), row=row, col=col, line_width=1,
                line_dash="dash", line_color="#666",
            )  # fmt: skip
    for panel in range(max(0, len(shown) - _PANELS_ACROSS), len(shown)):
        at = {"row": panel // _PANELS_ACROSS + 1, "col": panel % _PANELS_ACROSS + 1}
        figure.update_xaxes(title_text=f"time ({unit})", showticklabels=True, **at)
    figure.update_annotations(font_size=12)
    figure.update_layout(
        template=TEMPLATE, showlegend=False, height=100 + 180 * n_rows,
        margin={"l": 45, "r": 10, "t": 55, "b": 45},
    )  # fmt: skip
    return figure


def residue_heights(record: RunRecord, *, by_label: bool = False) -> dict:
    """Find how high each residue's CA lies at the start.

    Parameters
    ----------
    record : RunRecord
    by_label : bool
        Fold equivalent residues under one label such as "GluN1 V644".

    Returns
    -------
    heights : dict of (chain, number) or str to float, nm
    """
    atoms, subunits = record.atoms, record.subunit_of_chain
    heights: dict = {}
    for i in np.flatnonzero(atoms.name == "CA"):
        chain, number = str(atoms.chain[i]), int(atoms.number[i])
        key = (
            residue_label(subunits.get(chain, ""), str(atoms.residue[i]), number)
            if by_label
            else (chain, number)
        )
        heights.setdefault(key, []).append(float(atoms.positions[i, 2]))
    return {key: float(np.mean(values)) for key, values in heights.items()}


def contact_label(row: Mapping) -> str:
    """Name a row of the contact table for an axis, with the mark of a rebuilt residue.

    Parameters
    ----------
    row : mapping
        Row of contacts.parquet.

    Returns
    -------
    label : str
        Safe to put into a page.
    """
    label = residue_label(row["subunit"], row["residue"], row["number"])
    return html.escape(
        f"{_with_ring(label, row['ring'])} {row['chain']}{status_mark(row['status'])}"
    )


def _with_ring(label: str, ring: str | None) -> str:
    return f"{ring_title(ring)} · {label}" if ring and ring != label else label


def _ends(z: NDArray) -> list[float]:
    return [float(z.min()), float(z.max())]


def _mark_profile(figure: go.Figure, record: RunRecord) -> None:
    z = record.column("profile", "z_nm") * _ANGSTROM
    low, high = (height * _ANGSTROM for height in simulated_span(record))
    for bottom, top in ((z.min(), low), (high, z.max())):
        if top > bottom:
            figure.add_hrect(
                y0=float(bottom), y1=float(top), fillcolor="#F3F3F3", line_width=0, layer="below"
            )
    heavy = [atom.GetIdx() for atom in record.ligand.GetAtoms() if atom.GetAtomicNum() > 1]
    span = np.array(record.ligand.GetConformer().GetPositions())[heavy, 2]
    figure.add_hrect(
        y0=float(span.min()), y1=float(span.max()), fillcolor="#BBBBBB", opacity=0.3,
        line_width=0, layer="below",
    )  # fmt: skip
    figure.add_annotation(
        x=1, xref="paper", y=float(span.min()), text="ligand at the start", showarrow=False,
        xanchor="right", yanchor="bottom", font={"size": 11, "color": "#444"},
    )  # fmt: skip
    for ring in rings_of(record):
        height = ring.height * _ANGSTROM
        figure.add_hline(y=height, line_width=0.8, line_color="#888", layer="below")
        figure.add_annotation(
            x=1, xref="paper", y=height, showarrow=False, xanchor="right", yanchor="bottom",
            text=f"{ring_title(ring.name)} {height_text(ring.height)} Å", font={"size": 11},
            hovertext=html.escape(ring.residues),
        )  # fmt: skip
    for threshold, what in zip(PASSING_RADII, ("water", "ions"), strict=True):
        figure.add_vline(x=threshold, line_width=0.8, line_dash="dash", line_color="#999")
        figure.add_annotation(
            x=threshold, y=1, yref="paper", text=what, showarrow=False, yanchor="bottom",
            font={"size": 11, "color": "#444"},
        )  # fmt: skip


def _occupancy_map(
    cells: Sequence[tuple[object, str, Mapping]], order: Sequence[object], labels: Sequence[str]
) -> go.Figure | None:
    if not order:
        return None
    known = list(TYPE_COLOURS)
    kinds = sorted(
        {kind for _, kind, _ in cells},
        key=lambda kind: (known.index(kind) if kind in known else len(known), kind),
    )
    shape = (len(order), len(kinds))
    occupancy, text, hover = (
        np.full(shape, np.nan),
        np.full(shape, "", object),
        np.full(shape, "", object),
    )
    for key, kind, row in cells:
        at = order.index(key), kinds.index(kind)
        occupancy[at] = row["occupancy"]
        text[at] = occupancy_text(row["occupancy"], row["occupancy_error"])
        hover[at] = _contact_hover(labels[at[0]], row)
    figure = go.Figure(
        go.Heatmap(
            z=occupancy, y=list(range(len(order))),
            x=[html.escape(kind).replace(" ", "<br>") for kind in kinds],
            text=text, texttemplate="%{text}", textfont={"color": "#111"},
            hovertext=hover, hoverinfo="text",
            colorscale=_OCCUPANCY_SCALE, zmin=0, zmax=1, xgap=2, ygap=2,
            showscale=False,
        )
    )  # fmt: skip
    figure.update_layout(
        template=TEMPLATE,
        yaxis={"tickvals": list(range(len(order))), "ticktext": list(labels), "showgrid": False},
        xaxis={"side": "top", "showgrid": False, "tickangle": 0},
        margin={"l": 10, "r": 10, "t": 75, "b": 10},
    )
    return figure


def occupancy_text(occupancy: float, error: float | None) -> str:
    """Write an occupancy with its error where there is one.

    Parameters
    ----------
    occupancy : float
    error : float or None
        nan or None when there is not enough data.

    Returns
    -------
    text : str

    Examples
    --------
    >>> occupancy_text(0.82, 0.04), occupancy_text(0.1, float("nan"))
    ('0.82 ± 0.04', '0.10')
    """
    known = error is not None and np.isfinite(error)
    return f"{occupancy:.2f} ± {error:.2f}" if known else f"{occupancy:.2f}"


def _contact_hover(label: str, row: Mapping) -> str:
    parts = [
        label,
        html.escape(row["type"]),
        f"in {100 * row['occupancy']:.0f} % of the frames",
    ]
    if row.get("mean_distance_nm") is not None:
        parts.append(
            f"mean distance {row['mean_distance_nm'] * _ANGSTROM:.1f} Å, "
            f"closest {row['min_distance_nm'] * _ANGSTROM:.1f} Å"
        )
    return "<br>".join(parts)


def _events(
    record: RunRecord, order: Sequence[tuple[str, int]], kinds: Sequence[str]
) -> Iterator[tuple[NDArray, NDArray, NDArray]]:
    """Give frames, rows and kinds of the contacts of some residues, batch by batch."""
    table = record.tables["contacts_by_frame"].select(["frame", "chain", "number", "type"])
    chains = sorted({chain for chain, _ in order})
    highest = max(number for _, number in order)
    rows = np.full((len(chains) + 1, highest + 2), -1)
    for i, (chain, number) in enumerate(order):
        rows[chains.index(chain), number] = i
    for batch in table.to_batches(max_chunksize=100_000):
        numbers = batch.column("number").to_numpy(zero_copy_only=False)
        row = rows[_codes(batch.column("chain"), chains), np.clip(numbers, 0, highest + 1)]
        kind = _codes(batch.column("type"), kinds)
        kept = (row >= 0) & (kind < len(kinds))
        yield batch.column("frame").to_numpy(zero_copy_only=False)[kept], row[kept], kind[kept]


def _codes(words: pa.Array, known: Sequence[str]) -> NDArray:
    """Turn words into their places in a list; what is not in it comes last."""
    encoded = words if pa.types.is_dictionary(words.type) else words.dictionary_encode()
    place = [known.index(w) if w in known else len(known) for w in encoded.dictionary.to_pylist()]
    table = np.array([*place, len(known)])
    return table[encoded.indices.fill_null(len(place)).to_numpy(zero_copy_only=False)]


def _share_map(
    record: RunRecord, order: Sequence[tuple[str, int]], labels: Sequence[str], time: NDArray
) -> go.Figure:
    touched = np.zeros((len(order), len(time)), dtype=bool)
    for frames, rows, _ in _events(record, order, list(TYPE_COLOURS)):
        touched[rows, frames] = True
    starts = bin_starts(len(time), MAX_COLUMNS)
    size = np.diff(np.append(starts, len(time)))
    share = np.add.reduceat(touched, starts, axis=1, dtype=np.int64) / size
    shown, unit = time_axis(time)
    figure = go.Figure(
        go.Heatmap(
            z=np.round(share, 3), x=bin_times(shown, n_bins=MAX_COLUMNS),
            y=list(range(len(labels))), zmin=0, zmax=1, ygap=2,
            colorscale=[[0.0, NOTHING], [1.0, OKABE_ITO["blue"]]],
            colorbar={"title": {"text": "share of<br>the frames"}, "thickness": 12, "len": 0.9},
            hovertemplate=f"%{{z:.2f}} of the frames at %{{x:.4~f}} {unit}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(
        template=TEMPLATE,
        xaxis={"title": {"text": f"time ({unit})"}, "showgrid": False},
        yaxis={"tickvals": list(range(len(labels))), "ticktext": list(labels), "showgrid": False},
        margin={"l": 10, "r": 10, "t": 75, "b": 45},
    )
    return figure


def _raster_figure(
    raster: NDArray, time: NDArray, labels: Sequence[str], kinds: Sequence[str]
) -> go.Figure:
    shown, unit = time_axis(time)
    colours = [*TYPE_COLOURS.values(), NOTHING]
    n = len(colours)
    names = np.array([*kinds, "none"], dtype=object)
    present = [i for i in range(len(kinds)) if (raster == i).any()]
    figure = go.Figure(
        go.Heatmap(
            z=raster, x=shown, y=list(range(len(labels))), customdata=names[raster],
            hovertemplate=f"%{{x:.4~f}} {unit}: %{{customdata}}<extra></extra>",
            colorscale=[
                [(i + edge) / n, colour] for i, colour in enumerate(colours) for edge in (0, 1)
            ],
            zmin=-0.5, zmax=n - 0.5, showscale=False, ygap=2,
        )
    )  # fmt: skip
    for i in present:
        figure.add_scatter(
            x=[None], y=[None], mode="markers", name=html.escape(kinds[i]),
            marker={"symbol": "square", "size": 12, "color": colours[i]},
        )  # fmt: skip
    figure.update_layout(
        template=TEMPLATE,
        showlegend=True,
        xaxis={"title": {"text": f"time ({unit})"}, "showgrid": False},
        yaxis={"tickvals": list(range(len(labels))), "ticktext": list(labels), "showgrid": False},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        margin={"l": 10, "r": 10, "t": 75, "b": 45},
    )
    return figure
