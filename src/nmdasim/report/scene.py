"""The 3-D view of pore and ligand: meshes for plotly, in Angstrom, pore axis vertical."""

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from rdkit import Chem
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d

from nmdasim.pore import POLAR, radii_of, radius_profile
from nmdasim.report.palette import (
    END_CARBON,
    LIGAND_CARBON,
    OKABE_ITO,
    PORE_COLOURS,
    SUBUNIT_COLOURS,
    TEMPLATE,
)
from nmdasim.report.record import (
    Atoms,
    Ring,
    RunRecord,
    is_simulated,
    residue_label,
    rings_of,
    simulated_span,
)

#: Radii from which water, and from which ions pass between polar walls, Angstrom.
PASSING_RADII = (POLAR.water * 10.0, POLAR.ions * 10.0)

_ANGSTROM = 10.0
_PER_RESIDUE = 5
_SIDES = 8
# Neighbouring CA atoms lie 3.8 Angstrom apart (trans) or 2.9 (cis); more is a gap.
_MAX_CA_STEP = 4.5
# CA(i) to CA(i+3): 5.0 to 5.5 Angstrom in an alpha helix, about 10 in a strand.
_HELIX_STEP = 6.2
_MAX_BOND = 2.0
# Residues whose CA lies farther than this in front of the ligand are cut away.
_CUT_IN_FRONT = 2.0
_ELEMENTS = ("C", "N", "O", "S", "Cl", "F", "Br", "I", "H", "P")
_ELEMENT_COLOURS = (
    "#A8A8A8", OKABE_ITO["blue"], OKABE_ITO["vermilion"], OKABE_ITO["yellow"],
    OKABE_ITO["green"], OKABE_ITO["green"], "#8C510A", OKABE_ITO["purple"], "#F4F4F4",
    OKABE_ITO["orange"],
)  # fmt: skip
_LIGHT = {"ambient": 0.55, "diffuse": 0.6, "specular": 0.1, "roughness": 0.5, "fresnel": 0.02}
# Shorter pieces of backbone are not cut off from the rest.
_MIN_PIECE = 6
_CONTEXT_OPACITY = 0.3
# The surface ends this far beyond the outermost rings, nm.
_PORE_MARGIN = 0.6
_MAX_PORE_RADIUS = 7.0
_SIDE_ZOOM, _SITE_ZOOM = 1.9, 4.0
_LABEL_GAP = -1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mesh:
    """A triangulated surface whose vertices carry a value and a name."""

    vertices: NDArray[np.float64]
    """Shape (n_vertices, 3), Angstrom."""
    faces: NDArray[np.int64]
    """Vertex indices, shape (n_faces, 3)."""
    value: NDArray[np.float64]
    """What colours the vertex, shape (n_vertices,)."""
    names: tuple[str, ...] = ()
    """What the mouse shows at each vertex; empty, or one for each."""


def join_meshes(meshes: Iterable[Mesh]) -> Mesh:
    """Put meshes together into one.

    Parameters
    ----------
    meshes : iterable of Mesh

    Returns
    -------
    mesh : Mesh
        Empty when none is given.
    """
    meshes = list(meshes)
    if not meshes:
        return Mesh(vertices=np.zeros((0, 3)), faces=np.zeros((0, 3), dtype=int), value=np.zeros(0))
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
    return Mesh(
        vertices=np.concatenate([mesh.vertices for mesh in meshes]),
        faces=np.concatenate([m.faces + s for m, s in zip(meshes, starts, strict=True)]),
        value=np.concatenate([mesh.value for mesh in meshes]),
        names=tuple(name for mesh in meshes for name in mesh.names),
    )


def sphere(centre: NDArray, radius: float, *, value: float = 0.0, name: str = "") -> Mesh:
    """Build a sphere.

    Parameters
    ----------
    centre : ndarray of float64, shape (3,), Angstrom
    radius : float, Angstrom
    value : float
        Value of every vertex.
    name : str
        Name of every vertex.

    Returns
    -------
    mesh : Mesh
        14 meridians and 7 parallels between two poles.
    """
    n_around, n_up = 14, 7
    polar = np.linspace(np.pi, 0.0, n_up + 2)[1:-1]
    around = np.linspace(0.0, 2 * np.pi, n_around, endpoint=False)
    grid = np.stack(
        [
            np.outer(np.sin(polar), np.cos(around)),
            np.outer(np.sin(polar), np.sin(around)),
            np.outer(np.cos(polar), np.ones(n_around)),
        ],
        axis=-1,
    ).reshape(-1, 3)
    poles = np.array([[0.0, 0.0, -1.0], [0.0, 0.0, 1.0]])
    vertices = np.concatenate([grid, poles]) * radius + centre
    faces = np.concatenate([_tube_faces(n_up, n_around), _cap_faces(n_up, n_around)])
    return _uniform(vertices, faces, value, name)


def cylinder(
    start: NDArray, end: NDArray, radius: float, *, value: float = 0.0, name: str = ""
) -> Mesh:
    """Build an open cylinder between two points.

    Parameters
    ----------
    start, end : ndarray of float64, shape (3,), Angstrom
    radius : float, Angstrom
    value : float
        Value of every vertex.
    name : str
        Name of every vertex.

    Returns
    -------
    mesh : Mesh
    """
    direction = (end - start) / max(float(np.linalg.norm(end - start)), 1e-9)
    across = _perpendicular(direction)
    path = np.stack([start, end])
    vertices = _cross_sections(
        path,
        np.stack([across, across]),
        np.stack([np.cross(direction, across)] * 2),
        np.array([[radius, radius]] * 2),
    )
    return _uniform(vertices, _tube_faces(2, _SIDES), value, name)


def ribbon(positions: NDArray, names: Sequence[str]) -> Mesh:
    """Sweep a ribbon along a chain of CA atoms: flat where it is helical, round elsewhere.

    Parameters
    ----------
    positions : ndarray of float64, shape (n_residues, 3), Angstrom
        CA atoms of consecutive residues, at least two.
    names : sequence of str
        Name of each residue.

    Returns
    -------
    mesh : Mesh
        The cubic spline through `positions` is its centre line; the value of a vertex is
        the fractional index of its residue.
    """
    n_residues = len(positions)
    index = np.arange(n_residues)
    at = np.linspace(0, n_residues - 1, (n_residues - 1) * _PER_RESIDUE + 1)
    spline = CubicSpline(index, positions, bc_type="natural")
    tangent = spline(at, 1)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    normal = _interpolate(index, _bend_directions(positions), at)
    normal -= (normal * tangent).sum(axis=1, keepdims=True) * tangent
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    helicity = np.clip(np.interp(at, index, _helicity(positions)), 0.0, 1.0)
    size = np.stack([0.4 - 0.1 * helicity, 0.4 + 0.9 * helicity], axis=1)
    vertices = _cross_sections(spline(at), normal, np.cross(tangent, normal), size)
    ends = spline(at[[0, -1]])
    nearest = np.rint(at).astype(int)
    return Mesh(
        vertices=np.concatenate([vertices, ends]),
        faces=np.concatenate([_tube_faces(len(at), _SIDES), _cap_faces(len(at), _SIDES)]),
        value=np.concatenate([np.repeat(at, _SIDES), at[[0, -1]]]),
        names=(*(names[i] for i in np.repeat(nearest, _SIDES)), names[0], names[-1]),
    )


def pore_surface(path: NDArray, radius: NDArray, *, first_angle: float, span: float) -> Mesh:
    """Turn a radius profile round the centre line of the pore.

    Parameters
    ----------
    path : ndarray of float64, shape (n_levels, 3), Angstrom
        Centre of the largest sphere at each level.
    radius : ndarray of float64, shape (n_levels,), Angstrom
        Levels without a radius (nan) must be left out by the caller.
    first_angle, span : float, rad
        Where the surface starts and how far it goes round; 2 pi closes it.

    Returns
    -------
    mesh : Mesh
        The value of a vertex is its radius.
    """
    n_around = 37
    angles = first_angle + np.linspace(0.0, span, n_around)
    rim = np.stack([np.cos(angles), np.sin(angles), np.zeros(n_around)], axis=1)
    vertices = (path[:, None] + radius[:, None, None] * rim).reshape(-1, 3)
    faces = _grid_faces(len(path), n_around)
    return Mesh(vertices=vertices, faces=faces, value=np.repeat(radius, n_around))


def viewing_angle(ligand: NDArray) -> float:
    """Choose the side from which the ligand is seen widest.

    Parameters
    ----------
    ligand : ndarray of float64, shape (n_atoms, 3)

    Returns
    -------
    azimuth : float, rad
        Direction of the camera in the plane of the membrane.
    """
    flat = ligand[:, :2] - ligand[:, :2].mean(axis=0)
    _, _, directions = np.linalg.svd(flat, full_matrices=False)
    return float(np.arctan2(directions[-1, 1], directions[-1, 0]))


def build_scene(record: RunRecord) -> go.Figure:
    """Draw the pore, its surface and the ligand.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    figure : plotly.graph_objects.Figure
        Each trace names the group it belongs to in `meta`: protein, context (not simulated),
        front, contacts, names, pore, pore_front, start, end.
    """
    start = np.array(record.ligand.GetConformer().GetPositions())
    azimuth = viewing_angle(start)
    view = np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
    cut = float(start.mean(axis=0) @ view) + _CUT_IN_FRONT
    traces = [
        *_backbone_traces(record, view, cut),
        *_contact_traces(record),
        *_pore_traces(record, azimuth),
        _ligand_trace(record.ligand, start, group="start", visible=True),
    ]
    if record.ligand_end is not None:
        end = record.ligand_end * _ANGSTROM
        traces.append(_ligand_trace(record.ligand, end, group="end", visible=record.ends_elsewhere))
    figure = go.Figure(traces)
    # Plotly turns the normals of visible faces away from the viewer: light from behind.
    x, y, z = -1e4 * (view + 0.5 * np.cross([0.0, 0.0, 1.0], view) + [0.0, 0.0, 0.7])
    figure.update_traces(lightposition={"x": x, "y": y, "z": z}, selector={"type": "mesh3d"})
    figure.update_layout(
        template=TEMPLATE,
        showlegend=False,
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        scene=_scene_layout(record, view),
        meta=scene_views(record),
    )
    return figure


def _uniform(vertices: NDArray, faces: NDArray, value: float, name: str) -> Mesh:
    names = (name,) * len(vertices) if name else ()
    return Mesh(vertices=vertices, faces=faces, value=np.full(len(vertices), value), names=names)


def _cross_sections(path: NDArray, first: NDArray, second: NDArray, size: NDArray) -> NDArray:
    angles = np.linspace(0.0, 2 * np.pi, _SIDES, endpoint=False)
    rim = (
        np.cos(angles)[None, :, None] * (first * size[:, :1])[:, None, :]
        + np.sin(angles)[None, :, None] * (second * size[:, 1:])[:, None, :]
    )
    return (path[:, None, :] + rim).reshape(-1, 3)


def _grid_faces(n_rows: int, n_columns: int) -> NDArray:
    corner = (np.arange(n_rows - 1)[:, None] * n_columns + np.arange(n_columns - 1)).ravel()
    right, up = corner + 1, corner + n_columns
    return np.concatenate(
        [np.stack([corner, right, up], axis=1), np.stack([right, up + 1, up], axis=1)]
    )


def _tube_faces(n_rows: int, n_around: int) -> NDArray:
    row = np.arange(n_rows - 1)[:, None] * n_around
    here, following = np.arange(n_around), (np.arange(n_around) + 1) % n_around
    a, b = (row + here).ravel(), (row + following).ravel()
    return np.concatenate(
        [np.stack([a, b, a + n_around], axis=1), np.stack([b, b + n_around, a + n_around], axis=1)]
    )


def _cap_faces(n_rows: int, n_around: int) -> NDArray:
    """Close a tube with two fans round the two vertices that follow its grid."""
    here, following = np.arange(n_around), (np.arange(n_around) + 1) % n_around
    first, last = n_rows * n_around, n_rows * n_around + 1
    top = (n_rows - 1) * n_around
    return np.concatenate(
        [
            np.stack([np.full(n_around, first), following, here], axis=1),
            np.stack([np.full(n_around, last), top + here, top + following], axis=1),
        ]
    )


def _interpolate(index: NDArray, values: NDArray, at: NDArray) -> NDArray:
    return np.stack([np.interp(at, index, column) for column in values.T], axis=1)


def _bend_directions(positions: NDArray) -> NDArray:
    """Find unit vectors towards the inside of the bend; straight pieces get any side."""
    bend = np.zeros_like(positions)
    if len(positions) > 2:
        inner = positions[:-2] - 2 * positions[1:-1] + positions[2:]
        bend = np.concatenate([inner[:1], inner, inner[-1:]])
    length = np.linalg.norm(bend, axis=1, keepdims=True)
    side = _perpendicular(positions[-1] - positions[0])
    return np.where(length > 1e-6, bend / np.maximum(length, 1e-6), side)


def _perpendicular(direction: NDArray) -> NDArray:
    across = np.cross(direction, np.eye(3)[np.argmin(np.abs(direction))])
    return across / np.linalg.norm(across)


def _helicity(positions: NDArray) -> NDArray:
    """One where a residue lies inside a helical turn, zero elsewhere."""
    helical = np.zeros(len(positions))
    steps = np.linalg.norm(positions[3:] - positions[:-3], axis=1)
    for i in np.flatnonzero(steps < _HELIX_STEP):
        helical[i : i + 4] = 1.0
    return helical


def _backbone_traces(record: RunRecord, view: NDArray, cut: float) -> list[go.Mesh3d]:
    colours = _chain_colours(record)
    parts: dict[tuple[str, str, bool], list[Mesh]] = {}
    for chain, positions, names, simulated in _backbone_pieces(record):
        front = _without_short_runs(positions @ view > cut)
        for first, last in _runs(2 * front + simulated):
            # One residue of overlap closes the gap between two parts of one chain.
            piece = slice(first, min(last + 2, len(positions)))
            if len(positions[piece]) > 1:
                mesh = ribbon(positions[piece], names[piece])
                behind = "protein" if simulated[first] else "context"
                key = ("front" if front[first] else behind, chain, bool(simulated[first]))
                parts.setdefault(key, []).append(mesh)
    return [
        _mesh_trace(
            join_meshes(meshes),
            group=group,
            color=colours[chain],
            opacity=1.0 if simulated else _CONTEXT_OPACITY,
            visible=group != "front",
        )
        for (group, chain, simulated), meshes in sorted(parts.items())
    ]


def _backbone_pieces(record: RunRecord) -> list[tuple[str, NDArray, list[str], NDArray]]:
    """Cut the lining into chains without gaps: letter, positions, names, simulated or not."""
    lining, simulated = record.lining, is_simulated(record)
    positions = lining.positions * _ANGSTROM
    breaks = np.flatnonzero(
        (lining.chain[1:] != lining.chain[:-1])
        | (lining.number[1:] != lining.number[:-1] + 1)
        | (np.linalg.norm(np.diff(positions, axis=0), axis=1) > _MAX_CA_STEP)
    )
    names = [
        _lining_name(record, i) + ("" if simulated[i] else "<br>not simulated")
        for i in range(len(positions))
    ]
    return [
        (str(lining.chain[part[0]]), positions[part], [names[i] for i in part], simulated[part])
        for part in np.split(np.arange(len(positions)), breaks + 1)
        if len(part) > 1
    ]


def _lining_name(record: RunRecord, i: int) -> str:
    chain, lining = str(record.lining.chain[i]), record.lining
    label = residue_label(
        record.subunit_of_chain.get(chain, ""), str(lining.residue[i]), int(lining.number[i])
    )
    return html.escape(f"{label} (chain {chain})")


def _without_short_runs(flags: NDArray) -> NDArray:
    """Turn runs that are too short to make sense alone into part of their neighbours."""
    flags = flags.copy()
    for first, last in sorted(_runs(flags), key=lambda run: run[1] - run[0]):
        length = last + 1 - first
        if length < _MIN_PIECE and length < len(flags):
            flags[first : last + 1] = flags[first - 1] if first else flags[last + 1]
    return flags


def _runs(flags: NDArray) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(flags.astype(int))) + 1
    starts, ends = np.concatenate([[0], edges]), np.concatenate([edges, [len(flags)]])
    return [(int(a), int(b) - 1) for a, b in zip(starts, ends, strict=True)]


def _chain_colours(record: RunRecord) -> dict[str, str]:
    colours: dict[str, str] = {}
    used: dict[str, int] = {}
    for chain in dict.fromkeys(record.lining.chain.tolist()):
        subunit = record.subunit_of_chain.get(chain, "")
        shades = SUBUNIT_COLOURS.get(subunit, SUBUNIT_COLOURS[""])
        colours[chain] = shades[used.get(subunit, 0) % len(shades)]
        used[subunit] = used.get(subunit, 0) + 1
    return colours


def _contact_traces(record: RunRecord) -> list[go.Mesh3d | go.Scatter3d]:
    contacts = record.tables["contacts"].to_pylist()
    residues = {(row["chain"], row["number"]): row for row in contacts if row["occupancy"] > 0}
    meshes, tips, labels = [], [], []
    for (chain, number), row in sorted(residues.items()):
        chosen = np.flatnonzero((record.atoms.chain == chain) & (record.atoms.number == number))
        if not len(chosen):
            continue
        label = html.escape(residue_label(row["subunit"], row["residue"], number))
        note = "" if row["status"] == "observed" else f"<br>{html.escape(row['status'])}"
        meshes.extend(
            _sticks(record.atoms, chosen, name=f"{label} (chain {html.escape(chain)}){note}")
        )
        tips.append(record.atoms.positions[chosen[-1]] * _ANGSTROM)
        labels.append(f"{label} {html.escape(chain)}")
    if not meshes:
        return []
    x, y, z = np.array(tips).T
    text = go.Scatter3d(
        x=x, y=y, z=z, text=labels, mode="text", hoverinfo="skip",
        textfont={"size": 12, "color": "#222"}, visible=False, meta="names",
    )  # fmt: skip
    return [_element_trace(join_meshes(meshes), group="contacts"), text]


def _sticks(atoms: Atoms, chosen: NDArray, *, name: str) -> list[Mesh]:
    positions = atoms.positions[chosen] * _ANGSTROM
    codes = [_element_code(element) for element in atoms.element[chosen]]
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    meshes = [
        sphere(position, 0.22, value=code, name=name)
        for position, code in zip(positions, codes, strict=True)
    ]
    for i, j in np.argwhere(np.triu(distance < _MAX_BOND, k=1)):
        middle = (positions[i] + positions[j]) / 2
        meshes.append(cylinder(positions[i], middle, 0.2, value=codes[i], name=name))
        meshes.append(cylinder(middle, positions[j], 0.2, value=codes[j], name=name))
    return meshes


def _ligand_trace(
    molecule: Chem.Mol, positions: NDArray, *, group: str, visible: bool
) -> go.Mesh3d:
    meshes = []
    codes = [_element_code(atom.GetSymbol()) for atom in molecule.GetAtoms()]
    when = "at the start" if group == "start" else "in the last frame"
    shown = {atom.GetIdx() for atom in molecule.GetAtoms() if not _on_carbon(atom)}
    for atom in molecule.GetAtoms():
        i, symbol = atom.GetIdx(), atom.GetSymbol()
        if i not in shown:
            continue
        name = f"ligand {html.escape(symbol)}{i + 1}, {when}"
        radius = 0.24 if symbol == "H" else 0.42
        meshes.append(sphere(positions[i], radius, value=codes[i], name=name))
    for bond in molecule.GetBonds():
        i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        if not {i, j} <= shown:
            continue
        middle = (positions[i] + positions[j]) / 2
        for a, b, code in ((positions[i], middle, codes[i]), (middle, positions[j], codes[j])):
            meshes.append(cylinder(a, b, 0.17, value=code, name=f"ligand, {when}"))
    return _element_trace(
        join_meshes(meshes), group=group, visible=visible,
        carbon=END_CARBON if group == "end" else LIGAND_CARBON,
    )  # fmt: skip


def _on_carbon(atom: Chem.Atom) -> bool:
    """Tell hydrogens that only clutter the picture."""
    return atom.GetSymbol() == "H" and all(n.GetSymbol() == "C" for n in atom.GetNeighbors())


def _element_code(symbol: str) -> float:
    title = symbol.title()
    return float(_ELEMENTS.index(title)) if title in _ELEMENTS else 0.0


def _element_trace(
    mesh: Mesh, *, group: str, visible: bool = True, carbon: str | None = None
) -> go.Mesh3d:
    n = len(_ELEMENTS)
    colours = (carbon or _ELEMENT_COLOURS[0], *_ELEMENT_COLOURS[1:])
    steps = [(i + edge, colour) for i, colour in enumerate(colours) for edge in (0, 1)]
    return _mesh_trace(
        mesh,
        group=group,
        visible=visible,
        intensity=mesh.value.astype(np.float32),
        colorscale=[[position / n, colour] for position, colour in steps],
        cmin=-0.5,
        cmax=n - 0.5,
        showscale=False,
    )


def _pore_traces(record: RunRecord, azimuth: float) -> list[go.Mesh3d]:
    path, radius = _lumen(record)
    if len(radius) < 2:
        return []
    low, high = PASSING_RADII
    top = max(2 * high, float(radius.max()))
    steps = ((0, low), (low, high), (high, top))
    scale = [
        [edge / top, colour]
        for (a, b), colour in zip(steps, PORE_COLOURS, strict=True)
        for edge in (a, b)
    ]
    traces = []
    for group, first in (("pore", azimuth + np.pi / 2), ("pore_front", azimuth - np.pi / 2)):
        mesh = pore_surface(path, radius, first_angle=first, span=np.pi)
        names = [f"pore radius {value:.1f} Å at z = {z:.1f} Å" for value, z in _levels(mesh)]
        traces.append(
            _mesh_trace(
                mesh,
                names=names,
                group=group,
                visible=group == "pore",
                opacity=0.5,
                intensity=mesh.value.astype(np.float32),
                colorscale=scale,
                cmin=0,
                cmax=top,
                showscale=False,
            )
        )
    return traces


def _lumen(record: RunRecord) -> tuple[NDArray, NDArray]:
    """Centre line and radius of the starting structure between the outermost rings."""
    levels = record.column("profile", "z_nm")
    radius = record.column("profile", "radius_start_open_nm") * _ANGSTROM
    atoms = record.atoms
    centre = radius_profile(atoms.positions, radii=radii_of(atoms.element), levels=levels).centre[0]
    path = np.column_stack([gaussian_filter1d(centre, 3, axis=0), levels]) * _ANGSTROM
    rings = [ring.height for ring in rings_of(record)] or [0.0]
    low, high = simulated_span(record)
    shown = (
        np.isfinite(radius)
        & np.isfinite(path).all(axis=1)
        & (levels > max(min(rings) - _PORE_MARGIN, low))
        & (levels < min(max(rings) + _PORE_MARGIN, high))
    )
    return path[shown], np.minimum(radius[shown], _MAX_PORE_RADIUS)


def _levels(mesh: Mesh) -> Iterable[tuple[float, float]]:
    return zip(mesh.value.tolist(), mesh.vertices[:, 2].tolist(), strict=True)


def _mesh_trace(
    mesh: Mesh, *, group: str, names: Sequence[str] | None = None, visible: bool = True,
    **appearance: object,
) -> go.Mesh3d:  # fmt: skip
    x, y, z = mesh.vertices.T.astype(np.float32)
    i, j, k = mesh.faces.T.astype(np.uint16 if len(mesh.vertices) < 65536 else np.uint32)
    text = list(names if names is not None else mesh.names)
    return go.Mesh3d(
        x=x, y=y, z=z, i=i, j=j, k=k, text=text or None,
        hoverinfo="text" if text else "skip", lighting=_LIGHT, flatshading=False,
        visible=visible, meta=group,
        **appearance,
    )  # fmt: skip


def _scene_layout(record: RunRecord, view: NDArray) -> dict:
    lower, upper = _box(record)
    hidden = {"visible": False, "showspikes": False}
    axes = {
        f"{name}axis": {**hidden, "range": [float(lower[i]), float(upper[i])]}
        for i, name in enumerate("xyz")
    }
    side = _view(view, (lower + upper) / 2, lower, upper, zoom=_SIDE_ZOOM)
    return {
        **axes,
        **{key.removeprefix("scene."): value for key, value in side.items()},
        "aspectmode": "manual",
        "dragmode": "turntable",
        "bgcolor": "#FFFFFF",
        "annotations": _ring_labels(rings_of(record), record.lining, view),
    }


def scene_views(record: RunRecord) -> Mapping[str, Mapping]:
    """Prepare the places from which the buttons look at the scene.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    views : mapping of str to mapping
        What plotly's relayout takes: "side" shows the whole pore, "site" the ligand.
    """
    ligand = np.array(record.ligand.GetConformer().GetPositions())
    azimuth = viewing_angle(ligand)
    view = np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
    lower, upper = _box(record)
    return {
        "side": _view(view, (lower + upper) / 2, lower, upper, zoom=_SIDE_ZOOM),
        "site": _view(view, ligand.mean(axis=0), lower, upper, zoom=_SITE_ZOOM),
    }


def _box(record: RunRecord) -> tuple[NDArray, NDArray]:
    positions = record.lining.positions * _ANGSTROM
    lower, upper = positions.min(axis=0) - 2.0, positions.max(axis=0) + 2.0
    top = max((ring.height for ring in rings_of(record)), default=0.0) + _PORE_MARGIN
    upper[2] = max(upper[2], top * _ANGSTROM)
    return lower, upper


def _view(
    view: NDArray, target: NDArray, lower: NDArray, upper: NDArray, *, zoom: float
) -> Mapping[str, Mapping]:
    """Look at a point; without perspective the size of the box in the scene is the zoom."""
    size = upper - lower
    ratio = zoom * size / size.max()
    centre = (target - (lower + upper) / 2) / size * ratio
    eye = centre + 2.0 * (view + np.array([0.0, 0.0, 0.1]))
    names = "xyz"
    return {
        "scene.aspectratio": dict(zip(names, ratio.tolist(), strict=True)),
        "scene.camera": {
            "eye": dict(zip(names, eye.tolist(), strict=True)),
            "center": dict(zip(names, centre.tolist(), strict=True)),
            "up": {"x": 0, "y": 0, "z": 1},
            "projection": {"type": "orthographic"},
        },
    }


def _ring_labels(rings: Sequence[Ring], atoms: Atoms, view: NDArray) -> list[dict]:
    right = np.array([-view[1], view[0], 0.0])
    # The pore widens downwards: what stands below the rings may reach under their labels.
    beside = atoms.positions[:, 2] > min((ring.height for ring in rings), default=0.0)
    across = (atoms.positions @ right)[beside]
    edge = float(across.max(initial=0.0)) * _ANGSTROM + _LABEL_GAP
    x, y, _ = (right * edge).tolist()
    return [
        {
            "x": x, "y": y, "z": ring.height * _ANGSTROM, "showarrow": False, "xanchor": "left",
            "text": f"{html.escape(ring_title(ring.name))} {height_text(ring.height)} Å",
            "font": {"size": 11, "color": "#222"},
        }
        for ring in rings
    ]  # fmt: skip


def height_text(height: float) -> str:
    """Write a height in Angstrom.

    Parameters
    ----------
    height : float, nm

    Returns
    -------
    text : str

    Examples
    --------
    >>> height_text(1.511), height_text(-1e-9)
    ('15.1', '0.0')
    """
    return f"{round(height * _ANGSTROM, 1) + 0.0:.1f}"


def ring_title(name: str) -> str:
    """Write the key of a ring as a reader says it.

    Parameters
    ----------
    name : str

    Returns
    -------
    title : str

    Examples
    --------
    >>> ring_title("hydrophobic_1"), ring_title("a652"), ring_title("vivi")
    ('hydrophobic ring 1', 'A652 ring', 'VIVI ring')
    """
    stem, _, index = name.partition("_")
    if stem in ("a652", "vivi"):
        stem = stem.upper()
    return f"{stem} ring {index}".strip()
