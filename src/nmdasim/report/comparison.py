"""Comparison of several runs: replicas pooled, conditions side by side, differences bounded."""

import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from nmdasim.errors import ReportError
from nmdasim.report.channel import mark_rings
from nmdasim.report.palette import OKABE_ITO, TEMPLATE
from nmdasim.report.record import RunRecord
from nmdasim.report.words import Table, across_gate, estimate_text, flatten, quantity
from nmdasim.statistics import (
    Answer,
    Difference,
    Estimate,
    combine_replicas,
    compare_estimates,
    compare_shares,
)

#: Contacts in the table of differences, those touched most.
_MAX_CONTACTS = 20
_ANGSTROM = 10.0
_PANELS_ACROSS = 3
_UNITS = {"nm": "Å", "deg": "°", "nm2": "Å²", "nm3": "nm³", "": ""}
_SCALE = {"nm": 10.0, "nm2": 100.0}
# What may differ between replicas of one condition.
_OF_A_REPLICA = (("simulation", "seed"), ("simulation", "replica"), ("simulation", "production_ns"))
_COLOURS = ("blue", "vermilion", "green", "orange", "purple", "sky", "black")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Condition:
    """One ligand under one condition, with its replicas."""

    name: str
    """What to call it."""
    records: tuple[RunRecord, ...]
    """Its replicas."""
    colour: str
    """Its colour in every figure."""


def conditions_of(records: Sequence[RunRecord]) -> tuple[Condition, ...]:
    """Pool the replicas: runs whose inputs are the same but for seed, replica and length.

    Parameters
    ----------
    records : sequence of RunRecord

    Returns
    -------
    conditions : tuple of Condition
        In order of first mention. Named by the ligand, and by what else differs between them.

    Raises
    ------
    ReportError
        If the same run is given twice: it would be taken for two replicas.
    """
    groups: dict[str, list[RunRecord]] = {}
    identities: dict[str, RunRecord] = {}
    for record in records:
        identity = _identity(record)
        if identity in identities:
            raise ReportError(
                f"{identities[identity].folder} and {record.folder} are the same run: give each "
                "run once, because a copy is no replica"
            )
        identities[identity] = record
        groups.setdefault(_key(record), []).append(record)
    first = [group[0] for group in groups.values()]
    return tuple(
        Condition(name=name, records=tuple(group), colour=OKABE_ITO[_COLOURS[i % len(_COLOURS)]])
        for i, (name, group) in enumerate(zip(_names(first), groups.values(), strict=True))
    )


def plot_estimates(conditions: Sequence[Condition]) -> go.Figure:
    """Draw each estimate of each condition, its replicas as small points.

    Parameters
    ----------
    conditions : sequence of Condition

    Returns
    -------
    figure : plotly.graph_objects.Figure
        A hollow point has no error because there is not enough data for one. Distances across
        the gate are left to the tables.
    """
    tables = [_estimates(condition) for condition in conditions]
    shown = [n for n in dict.fromkeys(name for t in tables for name in t) if not across_gate(n)]
    n_rows = -(-len(shown) // _PANELS_ACROSS)
    figure = make_subplots(
        rows=n_rows, cols=_PANELS_ACROSS, shared_yaxes=True,
        subplot_titles=[_title(name, tables) for name in shown],
        horizontal_spacing=0.05, vertical_spacing=0.42 / n_rows,
    )  # fmt: skip
    for panel, name in enumerate(shown):
        at = {"row": panel // _PANELS_ACROSS + 1, "col": panel % _PANELS_ACROSS + 1}
        for condition, table in zip(conditions, tables, strict=True):
            for trace in _points(condition, table.get(name, [])):
                figure.add_trace(trace, **at)
    figure.update_annotations(font_size=12)
    figure.update_yaxes(autorange="reversed", showgrid=False, type="category")
    figure.update_xaxes(nticks=5)
    figure.update_layout(
        template=TEMPLATE, showlegend=False, margin={"l": 60, "r": 15, "t": 52, "b": 30},
        height=82 + n_rows * (70 + 26 * len(conditions)),
    )  # fmt: skip
    return figure


def plot_profiles(conditions: Sequence[Condition]) -> go.Figure:
    """Draw the radius that remains past the ligand, one line for each condition.

    Parameters
    ----------
    conditions : sequence of Condition

    Returns
    -------
    figure : plotly.graph_objects.Figure
        Mean of the replicas' profiles; dotted, the ligand not counted.
    """
    figure = go.Figure()
    for condition in conditions:
        z = condition.records[0].column("profile", "z_nm")
        for name, dash, width in (("ligand", "solid", 2), ("open", "dot", 1)):
            profiles = [
                np.interp(z, r.column("profile", "z_nm"), r.column("profile", f"radius_{name}_nm"))
                for r in condition.records
            ]
            figure.add_scatter(
                x=np.mean(profiles, axis=0) * _ANGSTROM, y=z * _ANGSTROM, mode="lines",
                name=html.escape(condition.name), showlegend=name == "ligand",
                line={"color": condition.colour, "dash": dash, "width": width},
                hovertemplate="%{x:.2f} Å at z %{y:.1f} Å<extra></extra>",
            )  # fmt: skip
    mark_rings(figure, conditions[0].records[0])
    figure.update_layout(
        template=TEMPLATE, height=520, margin={"l": 60, "r": 150, "t": 35, "b": 50},
        xaxis={"title": {"text": "pore radius (Å)"}, "range": [0, 8]},
        yaxis={"title": {"text": "height z along the pore axis (Å)"}},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
    )  # fmt: skip
    return figure


def differences_tables(conditions: Sequence[Condition]) -> tuple[tuple[str, Table], ...]:
    """Compare each condition with the first, quantity by quantity.

    Parameters
    ----------
    conditions : sequence of Condition

    Returns
    -------
    tables : tuple of (str, Table)
        A title and the differences with their 95 % intervals, for each condition but the first.
    """
    first, *others = conditions
    return tuple(
        (f"{other.name} minus {first.name}", _differences(first, other)) for other in others
    )


def conditions_table(conditions: Sequence[Condition]) -> Table:
    """Write the estimates of the conditions side by side.

    Parameters
    ----------
    conditions : sequence of Condition

    Returns
    -------
    table : Table
    """
    tables = [_estimates(condition) for condition in conditions]
    rows = []
    for name in dict.fromkeys(name for table in tables for name in table):
        unit = next(table[name][0].unit for table in tables if name in table)
        cells = []
        for table in tables:
            pooled = combine_replicas(table[name]) if name in table else None
            factor = _SCALE.get(unit, 1.0)
            cells.append(
                estimate_text(pooled.mean * factor, pooled.error * factor) if pooled else "absent"
            )
        rows.append((quantity(name), _UNITS.get(unit, unit), *cells))
    headings = [f"{c.name}, {_replicas(len(c.records))}" for c in conditions]
    return Table(headings=("quantity", "unit", *headings), rows=tuple(rows))


def _identity(record: RunRecord) -> str:
    if record.is_foreign:
        return json.dumps([record.provenance.get("trajectories"), _key(record)], default=str)
    return json.dumps(_sections(record), sort_keys=True, default=str)


def _key(record: RunRecord) -> str:
    """Write all inputs but those of a replica, the same for equal ones."""
    if record.is_foreign:
        kept: object = [record.inputs["ligand"], record.provenance.get("topology")]
    else:
        kept = {
            section: {k: v for k, v in values.items() if (section, k) not in _OF_A_REPLICA}
            for section, values in _sections(record).items()
        }
    return json.dumps(kept, sort_keys=True, default=str)


def _sections(record: RunRecord) -> dict[str, Mapping]:
    return {
        name: values
        for name, values in record.inputs.items()
        if name != "run" and isinstance(values, Mapping)
    }


def _names(records: Sequence[RunRecord]) -> list[str]:
    """Name conditions by the ligand; where that is the same, by what differs."""
    names = [str(record.inputs["ligand"]["name"]) for record in records]
    facts = [flatten(json.loads(_key(r))) if not r.is_foreign else {} for r in records]
    for name in {n for n in names if names.count(n) > 1}:
        same = [i for i, other in enumerate(names) if other == name]
        # Of a trajectory from elsewhere no inputs are known that could differ.
        known = not any(records[i].is_foreign for i in same)
        differing = [
            key
            for key in dict.fromkeys(key for i in same for key in facts[i])
            if known and len({facts[i].get(key) for i in same}) > 1 and "sha256" not in key
        ]
        for i in same:
            said = ", ".join(
                f"{key.rpartition(' · ')[2]} {facts[i].get(key, 'unset')}" for key in differing[:2]
            )
            names[i] = f"{name} ({said or records[i].folder.name})"
    return names


def _estimates(condition: Condition) -> dict[str, list[Estimate]]:
    """Estimates of each replica by name; those without a mean are left out."""
    found: dict[str, list[Estimate]] = {}
    for record in condition.records:
        for row in record.rows("estimates"):
            if row["mean"] is not None and math.isfinite(row["mean"]) and row["n_frames"]:
                found.setdefault(row["name"], []).append(_estimate(row))
    return found


def _estimate(row: Mapping) -> Estimate:
    return Estimate(
        name=row["name"],
        unit=row["unit"] or "",
        mean=row["mean"],
        error=_number(row["error"]),
        n_frames=row["n_frames"],
        n_effective=_number(row["n_effective"]),
        note=row["note"] or "",
        n_discarded=int(row.get("n_discarded") or 0),
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _title(name: str, tables: Sequence[Mapping[str, Sequence[Estimate]]]) -> str:
    unit = next(table[name][0].unit for table in tables if name in table)
    shown = _UNITS.get(unit, unit)
    return html.escape(f"{quantity(name)} ({shown})" if shown else quantity(name))


def _points(condition: Condition, estimates: Sequence[Estimate]) -> list[go.Scatter]:
    if not estimates:
        return []
    pooled = combine_replicas(estimates)
    factor = _SCALE.get(pooled.unit, 1.0)
    label, known = html.escape(condition.name), math.isfinite(pooled.error)
    replicas = go.Scatter(
        x=[e.mean * factor for e in estimates], y=[label] * len(estimates), mode="markers",
        marker={"size": 5, "color": "#888", "symbol": "line-ns-open"},
        hovertemplate="one replica: %{x:.3~f}<extra></extra>",
    )  # fmt: skip
    mean = go.Scatter(
        x=[pooled.mean * factor], y=[label], mode="markers",
        error_x={"type": "data", "array": [pooled.error * factor if known else 0.0],
                 "visible": known},
        marker={"symbol": "circle" if known else "circle-open", "size": 9,
                "color": condition.colour},
        hovertemplate="%{x:.3~f}" + ("" if known else ", not enough data for an error")
        + "<extra></extra>",
    )  # fmt: skip
    return [mean] if len(estimates) == 1 else [replicas, mean]


def _differences(first: Condition, second: Condition) -> Table:
    one, two = _estimates(first), _estimates(second)
    found = [compare_estimates(one[name], two[name]) for name in one if name in two]
    rows = [_difference_row(quantity(difference.name), difference) for difference in found]
    rows += [
        _difference_row(f"{residue}, {kind}: share of the time", difference)
        for (residue, kind), difference in _contact_differences(first, second)
    ]
    return Table(
        headings=("quantity", "difference", "95 % interval", "unit", "answer", "note"),
        rows=tuple(rows),
    )


def _contact_differences(
    first: Condition, second: Condition
) -> list[tuple[tuple[str, str], Difference]]:
    """Compare the folded contacts that either side makes most."""
    sides = [_occupancies(condition) for condition in (first, second)]
    highest = {
        key: max(np.mean([e.mean for e in side.get(key, [])] or [0.0]) for side in sides)
        for key in {*sides[0], *sides[1]}
    }
    most = sorted(highest, key=lambda key: (-highest[key], key))[:_MAX_CONTACTS]
    return [
        (key, compare_shares(*(_with_absent(side, key, c)
                               for side, c in zip(sides, (first, second), strict=True))))
        for key in most
    ]  # fmt: skip


def _occupancies(condition: Condition) -> dict[tuple[str, str], list[Estimate]]:
    found: dict[tuple[str, str], list[Estimate]] = {}
    for record in condition.records:
        for row in record.rows("ring_contacts"):
            found.setdefault((row["residue"], row["type"]), []).append(
                _share(row["occupancy"], _number(row["occupancy_error"]), record)
            )
    return found


def _with_absent(
    side: Mapping[tuple[str, str], list[Estimate]], key: tuple[str, str], condition: Condition
) -> list[Estimate]:
    """Count replicas in which a contact was never seen as a share of zero without an error."""
    seen = side.get(key, [])
    missing = len(condition.records) - len(seen)
    return [*seen, *(_share(0.0, math.nan, condition.records[0]) for _ in range(missing))]


def _share(occupancy: float, error: float, record: RunRecord) -> Estimate:
    return Estimate(
        name="share", unit="", mean=occupancy, error=error,
        n_frames=record.tables["frames"].num_rows, n_effective=math.nan,
    )  # fmt: skip


def _difference_row(name: str, difference: Difference) -> tuple[str, ...]:
    factor = _SCALE.get(difference.unit, 1.0)
    interval = "none"
    if math.isfinite(difference.low):
        interval = f"{_signed(difference.low * factor)} to {_signed(difference.high * factor)}"
    return (
        name,
        _signed(difference.difference * factor),
        interval,
        _UNITS.get(difference.unit, difference.unit),
        str(difference.answer),
        difference.note if difference.answer is Answer.NOT_ENOUGH_DATA else "",
    )


def _signed(value: float) -> str:
    """Write a difference; what is left of rounding is none."""
    return f"{round(value, 6) + 0.0:+.3g}"


def _replicas(count: int) -> str:
    return "1 replica" if count == 1 else f"{count} replicas"
