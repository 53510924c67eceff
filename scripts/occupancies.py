"""List how often the ligand touches each residue, from the tables that runs left behind.

    python scripts/occupancies.py runs/S-ketamine
    python scripts/occupancies.py runs/S-ketamine runs/replica-1 --type hydrophobic

Needs only pyarrow: the tables of a run folder are plain Parquet files, which pandas, polars, R
and DuckDB read as well.
"""

import argparse
from pathlib import Path

import pyarrow.parquet as pq


def main() -> None:
    """Read the command line and print one line for each residue and type of contact."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="analysed run folder")
    parser.add_argument("--type", help="one type of contact, such as 'hydrogen bond'")
    parser.add_argument("--least", type=float, default=0.1, help="least share of the frames")
    given = parser.parse_args()
    for run in given.runs:
        print(run)
        rows = pq.read_table(run / "analysis" / "contacts.parquet").to_pylist()
        for row in sorted(rows, key=lambda row: -row["occupancy"]):
            if row["occupancy"] < given.least or given.type not in (None, row["type"]):
                continue
            error = row["occupancy_error"]
            share = f"{row['occupancy']:.2f} ± {error:.2f}" if error == error else "not enough data"
            residue = f"{row['subunit']} {row['residue']}{row['number']} ({row['chain']})"
            print(f"  {residue:20} {row['type']:15} {share:16} {row['status']}")


if __name__ == "__main__":
    main()
