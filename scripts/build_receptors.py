"""Regenerate the receptors that ship with nmdasim from their deposited entries.

    python scripts/build_receptors.py 7eu8.cif

Fetch the entry by its id from the Protein Data Bank first. The files under
`structures/receptors/` are replaced; the hash of the entry is written into them.
"""

import sys

from nmdasim.receptor import write_receptor
from nmdasim.receptor.prepare import prepare_receptor
from nmdasim.structures import structures_folder


def main(paths: list[str]) -> None:
    """Prepare each deposited file and print its checks."""
    for path in paths:
        receptor = prepare_receptor(path)
        written = write_receptor(receptor, structures_folder() / "receptors" / receptor.name)
        print(written)
        for check in receptor.checks:
            mark = "ok  " if check.passed else "FAIL"
            print(f"  {mark} {check.name}: {check.value:g} {check.unit} {check.detail}")


if __name__ == "__main__":
    main(sys.argv[1:])
