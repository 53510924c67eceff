"""Receptors: deposited entry in, complete membrane domain in the pore frame out.

Preparation itself lives in `nmdasim.receptor.prepare`, which is imported only where it is
used, because most work starts from a receptor that is already prepared.
"""

from nmdasim.receptor.model import (
    Receptor,
    ReceptorResidue,
    load_receptor,
    receptor_file,
    receptor_names,
    write_receptor,
)

__all__ = [
    "Receptor",
    "ReceptorResidue",
    "load_receptor",
    "receptor_file",
    "receptor_names",
    "write_receptor",
]
