"""The metabolic tree as a drawing."""

import html
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise

from nmdasim.ligand import LibraryEntry, Reaction, formula_svg, is_confirmed

_BOX, _DRAWING = (226, 158), (218, 124)
_COLUMN, _ROW, _MARGIN = 470, 176, 12
# Labels stand where the arrows have fanned out.
_LABEL_AT = 0.66


def metabolic_trees(entries: Sequence[LibraryEntry]) -> Iterator[tuple[LibraryEntry, str]]:
    """Draw what the body makes of each ligand that is given.

    Parameters
    ----------
    entries : sequence of LibraryEntry

    Yields
    ------
    root : LibraryEntry
        A ligand with metabolites that is none itself.
    svg : str
        Its tree from left to right: formulae, reactions, enzymes. Dashed arrows are not
        confirmed or known only from secondary sources.
    """
    for entry in entries:
        if entry.reactions:
            continue
        levels = _levels(entry, entries)
        if len(levels) > 1:
            yield entry, _drawn(levels)


def _levels(root: LibraryEntry, entries: Sequence[LibraryEntry]) -> list[list[LibraryEntry]]:
    """Sort the metabolites by their number of steps from the root, the longest way counting."""
    depth = {root.name: 0}
    # Entries may come in any order: repeat until no metabolite moves further down.
    for _ in entries:
        for entry in entries:
            steps = [depth[r.parent] + 1 for r in entry.reactions if r.parent in depth]
            if steps:
                depth[entry.name] = max(steps)
    by_name = {entry.name: entry for entry in entries}
    levels = [
        [by_name[name] for name, _ in members]
        for _, members in groupby(sorted(depth.items(), key=lambda item: item[1]), lambda i: i[1])
    ]
    for above, level in pairwise(levels):
        order = {entry.name: place for place, entry in enumerate(above)}
        level.sort(key=lambda entry: _height_of_parents(entry, order))
    return levels


def _height_of_parents(entry: LibraryEntry, order: dict[str, int]) -> float:
    """Average the places of the parents, so that arrows cross as little as may be."""
    places = [order[parent] for parent in {r.parent for r in entry.reactions} & order.keys()]
    return sum(places) / len(places)


def _drawn(levels: list[list[LibraryEntry]]) -> str:
    height = max(len(level) for level in levels) * _ROW + 2 * _MARGIN
    width = (len(levels) - 1) * _COLUMN + _BOX[0] + 2 * _MARGIN
    corners = {
        entry.name: (
            _MARGIN + column * _COLUMN,
            height * (row + 0.5) / len(level) - _BOX[1] / 2,
        )
        for column, level in enumerate(levels)
        for row, entry in enumerate(level)
    }
    tip = f"tip-{levels[0][0].name}"
    arrows, labels, boxes = [], [], []
    for entry in (entry for level in levels for entry in level):
        boxes.append(_box(entry, corners[entry.name]))
        for parent, reactions in groupby(entry.reactions, lambda reaction: reaction.parent):
            if parent in corners:
                arrow, label = _arrow(corners[parent], corners[entry.name], list(reactions), tip)
                arrows.append(arrow)
                labels.append(label)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}" '
        f'width="{width}" role="img" class="tree">'
        f'<defs><marker id="{tip}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto"><path d="M0 0L8 4L0 8z" fill="#5b6770"/></marker></defs>'
        + "".join((*arrows, *boxes, *labels))
        + "</svg>"
    )


def _box(entry: LibraryEntry, corner: tuple[float, float]) -> str:
    x, y = corner
    drawing = formula_svg(entry.smiles, width=_DRAWING[0], height=_DRAWING[1])
    placed = drawing[drawing.index("<svg") :].replace(
        "<svg", f'<svg x="{x + 4:.0f}" y="{y + 26:.0f}"', 1
    )
    return (
        f'<a href="#{html.escape(entry.name)}"><rect x="{x:.0f}" y="{y:.0f}" width="{_BOX[0]}" '
        f'height="{_BOX[1]}" rx="7" class="node"/>'
        f'<text x="{x + _BOX[0] / 2:.0f}" y="{y + 19:.0f}" class="name">'
        f"{html.escape(entry.title)}</text></a>{placed}"
    )


def _arrow(
    parent: tuple[float, float], child: tuple[float, float], reactions: list[Reaction], tip: str
) -> tuple[str, str]:
    """Draw one arrow; several sources for one reaction share it."""
    start = parent[0] + _BOX[0], parent[1] + _BOX[1] / 2
    end = child[0], child[1] + _BOX[1] / 2
    bend = (end[0] - start[0]) / 2
    sure = all(is_confirmed(r.mark) and r.mark != "SEEN-2nd" for r in reactions)
    path = (
        f'<path d="M{start[0]:.0f} {start[1]:.0f}C{start[0] + bend:.0f} {start[1]:.0f} '
        f'{end[0] - bend:.0f} {end[1]:.0f} {end[0]:.0f} {end[1]:.0f}" '
        f'class="arrow{"" if sure else " unsure"}" marker-end="url(#{tip})"/>'
    )
    t = _LABEL_AT
    x = _bezier(t, start[0], start[0] + bend, end[0] - bend, end[0])
    y = _bezier(t, start[1], start[1], end[1], end[1])
    enzymes = " or ".join(dict.fromkeys(r.enzymes for r in reactions if r.enzymes))
    marks = ", ".join(dict.fromkeys(r.mark for r in reactions))
    label = (
        f'<text x="{x:.0f}" y="{y - 5:.0f}" class="reaction">{html.escape(reactions[0].name)}'
        f'</text><text x="{x:.0f}" y="{y + 9:.0f}" class="enzymes">'
        f"{html.escape(enzymes or 'enzyme not read')} [{html.escape(marks)}]</text>"
    )
    return path, label


def _bezier(t: float, *points: float) -> float:
    """Evaluate a cubic curve."""
    a, b, c, d = points
    s = 1.0 - t
    return a * s**3 + 3 * b * s**2 * t + 3 * c * s * t**2 + d * t**3
