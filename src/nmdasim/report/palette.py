"""Colours and the common look of all figures.

The colours are those of Okabe and Ito (2008), which readers with any of the common
colour-vision deficiencies can tell apart.
"""

import plotly.graph_objects as go

OKABE_ITO = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermilion": "#D55E00",
    "purple": "#CC79A7",
}
"""Colours by name."""

PORE_COLOURS = (OKABE_ITO["vermilion"], OKABE_ITO["green"], OKABE_ITO["blue"])
"""Too tight for water, water only, ions too: the order of HOLE's red, green and blue."""

SUBUNIT_COLOURS = {
    "GluN1": ("#8FB6D3", "#B9D3E6"),
    "GluN2A": ("#E3B778", "#F0D6AE"),
    "GluN2B": ("#E3B778", "#F0D6AE"),
    "": ("#BBBBBB", "#D5D5D5"),
}
"""Two light shades for the two copies of each subunit, so that the ligand stands out."""

LIGAND_CARBON = "#2B2B2B"
"""Carbon atoms of the ligand at the start; those of residues are light grey."""

END_CARBON = OKABE_ITO["purple"]
"""Carbon atoms of the ligand in the last frame."""

TYPE_COLOURS = {
    "salt bridge": OKABE_ITO["vermilion"],
    "metal coordination": OKABE_ITO["black"],
    "hydrogen bond": OKABE_ITO["blue"],
    "cation-pi": OKABE_ITO["purple"],
    "pi-stacking": OKABE_ITO["sky"],
    "halogen": OKABE_ITO["green"],
    "water bridge": OKABE_ITO["yellow"],
    "hydrophobic": OKABE_ITO["orange"],
    "close contact": "#9A9A9A",
}
"""Kinds of interaction, the most specific first."""

STATE_COLOURS = {
    "blocked": OKABE_ITO["blue"],
    "partial": OKABE_ITO["sky"],
    "unblocked": OKABE_ITO["orange"],
    "left": "#9A9A9A",
    "trapped": OKABE_ITO["purple"],
    "foot in the door": OKABE_ITO["vermilion"],
    "open": OKABE_ITO["yellow"],
    "closed": "#6B6B6B",
}
"""States of the block, then of the gate."""

NOTHING = "#F4F4F4"
"""Where there is nothing, or nothing is known."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
"""Fonts that the reader's machine already has."""

_AXIS = {
    "showline": True,
    "linecolor": "#444",
    "ticks": "outside",
    "tickcolor": "#444",
    "gridcolor": "#E8E8E8",
    "zeroline": False,
    "title": {"standoff": 8},
    "automargin": True,
}

TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": FONT, "size": 13, "color": "#1A1A1A"},
        "paper_bgcolor": "#FFFFFF",
        "plot_bgcolor": "#FFFFFF",
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "hoverlabel": {"bgcolor": "#FFFFFF", "font": {"family": FONT, "color": "#1A1A1A"}},
        "margin": {"l": 60, "r": 20, "t": 20, "b": 50},
        "colorway": [OKABE_ITO[name] for name in ("blue", "orange", "green", "vermilion")],
    }
)
"""What all figures have in common."""
