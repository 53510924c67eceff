import base64
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import report_run
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from nmdasim.analysis import analyse_run
from nmdasim.contacts import INTERACTION_TYPES
from nmdasim.errors import NmdasimError, ReportError
from nmdasim.report import write_figures, write_report
from nmdasim.report.bins import (
    bin_of_frames,
    bin_starts,
    bin_times,
    binned_mean,
    envelope,
    most_common,
    time_axis,
)
from nmdasim.report.channel import PATHS, plot_block, plot_density, plot_rates, plot_regions
from nmdasim.report.comparison import (
    conditions_of,
    conditions_table,
    differences_tables,
    plot_estimates,
)
from nmdasim.report.export import BROWSERS
from nmdasim.report.figures import TIME_SERIES, plot_raster, plot_time_series
from nmdasim.report.palette import TYPE_COLOURS
from nmdasim.report.record import (
    OPTIONAL_COLUMNS,
    REQUIRED_COLUMNS,
    is_simulated,
    read_record,
    rings_of,
    simulated_span,
)
from nmdasim.report.scene import (
    build_scene,
    cylinder,
    join_meshes,
    pore_surface,
    ribbon,
    sphere,
    viewing_angle,
)
from nmdasim.report.words import (
    all_checks,
    command,
    escape_json,
    ligand_facts,
    limits,
    methods_with_references,
    quantity,
    share_in_vestibule,
    site_table,
    verdict,
)

BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
N_FIGURES = 10


@pytest.fixture(scope="session")
def made_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "first"
    return report_run.write_run(folder, receptor=report_run.RECEPTOR)


@pytest.fixture
def run(made_run, tmp_path):
    """A copy to damage."""
    return shutil.copytree(made_run, tmp_path / "first")


@pytest.fixture(scope="session")
def page(made_run, tmp_path_factory):
    path = write_report(made_run, tmp_path_factory.mktemp("page") / "new" / "report.html")
    return path.read_text(encoding="utf-8")


class Page(HTMLParser):
    """Tags with their attributes, and the text of table rows, outside scripts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.rows, self.text = [], [], ""
        self._inside = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data):
        if not {"script", "style"} & set(self._inside):
            self.text += data
            if {"td", "th"} & set(self._inside):
                self.rows[-1][-1] += data


# ------------------------------------------------------------------------------- the page


def test_the_page_is_one_file_that_loads_nothing(page):
    tags = Page(page).tags
    sources = [a for _, attrs in tags for name, a in attrs.items() if name in ("src", "srcset")]
    links = [(tag, attrs["href"]) for tag, attrs in tags if "href" in attrs]
    assert sources == []
    assert {tag for tag, _ in links} == {"a", "link"}
    assert [href for tag, href in links if tag == "link"] == ["data:,"]
    assert all(href.startswith("https://doi.org/10.") for tag, href in links if tag == "a")


def test_the_browser_is_told_to_refuse_every_connection(page):
    (policy,) = [
        attrs["content"]
        for tag, attrs in Page(page).tags
        if tag == "meta" and attrs.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules.pop("default-src") == "'none'"
    allowed = {source for rule in rules.values() for source in rule.split()}
    assert allowed == {"'unsafe-inline'", "'unsafe-eval'", "data:", "blob:"}


@pytest.mark.parametrize(
    "words",
    [
        "50 ps of S-ketamine (charge +1)",
        "GluN1/GluN2B NMDA receptor (PDB 7EU8)",
        "stayed in the vestibule",
        "says nothing about affinity",
        "no membrane voltage",
        "no ligand-binding domains",
        "5 of 8 means have no error bar",
        "failed, see the table of checks: closest <heavy> atoms",
        "nmdasim run S-ketamine --receptor 7eu8 --protocol vestibule --production-ns 0.05",
        "no water, water only, ions too, between polar walls",
        "C[NH2+][C@]1(c2ccccc2Cl)CCCCC1=O",
        "S (C, atom 4)",
        "openmm",
    ],
)
def test_the_page_says_what_a_referee_asks(page, words):
    assert words in re.sub(r"\s+", " ", Page(page).text)


def test_estimates_carry_their_errors_in_angstrom(page, made_run):
    rows = {row[0]: row for row in Page(page).rows if row}
    depth = read_record(made_run).column("frames", "ligand_depth_nm").mean()
    assert rows["depth of the ligand"][1] == f"{10 * depth:.3g}, error: not enough data"
    assert rows["depth of the ligand"][2] == "Å"
    assert re.fullmatch(r"0\.6\d+ ± 0\.00\d+", rows["filled share of the lumen"][1])


def test_rebuilt_residues_near_the_site_are_marked_wherever_they_appear(page):
    rows = Page(page).rows
    (contact,) = [
        row for row in rows if row[:4] == ["GluN2B T647 †", "D", "threonine", "close contact"]
    ]
    assert contact[-1] == "side chain rebuilt"


def test_failed_checks_come_first_and_say_by_how_much(page):
    checks = [row for row in Page(page).rows if row and row[0] in ("✓ passed", "✗ failed")]
    assert checks[0] == [
        "✗ failed",
        "closest <heavy> atoms",
        "2.1\u00a0Å",
        "2.8\u00a0Å",
        "LEU 643 & ligand",
    ]
    results = [row[0] for row in checks]
    assert results == sorted(results, reverse=True)
    assert {row[0] for row in checks} == {"✓ passed", "✗ failed"}


def test_every_figure_is_in_the_page_as_json(page):
    figures = re.findall(
        r'<script type="application/json" data-for="run1-(\S+)">(.*?)</script>', page
    )
    assert len(figures) == N_FIGURES
    assert all(json.loads(text)["data"] for _, text in figures)


def test_text_from_files_cannot_become_markup(run, tmp_path):
    parts = ("name", "check", "residue", "status", "methods", "source")
    for number, part in enumerate(parts):
        poison(run, part, f"</script><script>alert({number})</script><img src=x>")
    text = write_report(run, tmp_path / "report.html").read_text(encoding="utf-8")
    tags = [tag for tag, _ in Page(text).tags]
    assert tags.count("script") == N_FIGURES + 2
    assert "img" not in tags
    assert {part for k, part in enumerate(parts) if f"alert({k})" not in text} == set()


def poison(run, part, evil):
    analysis = run / "analysis"
    if part == "name":
        report_run.rewrite_inputs(run, ligand_name=evil)
    elif part == "check":
        report_run.dump(analysis / "checks.json", [{**report_run.CHECKS[0], "name": evil}])
    elif part == "methods":
        report_run.dump(run / "provenance.json", {"methods": [evil], "platform": evil})
    elif part == "source":
        with (run / "receptor.cif").open("a") as file:
            file.write(f"\n_nmdasim_source.evil '{evil}'\n")
    else:
        table = pq.read_table(analysis / "contacts.parquet").to_pydict()
        table[part] = [evil] * len(table["chain"])
        pq.write_table(pa.table(table), analysis / "contacts.parquet")


@pytest.mark.slow
def test_several_runs_share_one_page_with_a_comparison(made_run, tmp_path):
    other = report_run.write_run(
        tmp_path / "second", receptor=report_run.RECEPTOR, replica=2, shift_nm=0.1
    )
    path = write_report([made_run, other], tmp_path / "both.html")
    text = path.read_text(encoding="utf-8")
    figures = dict(re.findall(r'data-for="(\S+)">(.*?)</script>', text))
    assert len(figures) == 2 * N_FIGURES + 2
    (ticks,) = [
        trace["x"]
        for trace in json.loads(figures["comparison-estimates"])["data"][:1]
        if trace["marker"]["symbol"] == "line-ns-open"
    ]
    assert ticks[1] - ticks[0] == pytest.approx(1.0, abs=0.5)
    assert "S-ketamine: 2 replicas (first, second)" in Page(text).text
    assert [tag for tag, attrs in Page(text).tags if attrs.get("class") == "run"] == ["details"] * 2


# ------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize("table", sorted(REQUIRED_COLUMNS))
def test_a_run_without_analysis_is_refused_in_one_sentence(run, tmp_path, table):
    (run / "analysis" / f"{table}.parquet").unlink()
    with pytest.raises(ReportError, match=rf"{table}\.parquet: run `nmdasim analyse"):
        write_report(run, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_torn_table_is_refused(run, tmp_path):
    path = run / "analysis" / "profile.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ReportError, match=r"profile\.parquet cannot be read"):
        write_report(run, tmp_path / "report.html")


def test_a_table_of_another_version_is_refused(run, tmp_path):
    path = run / "analysis" / "frames.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["filled_share"]), path)
    with pytest.raises(ReportError, match="no column filled_share"):
        write_report(run, tmp_path / "report.html")


def test_a_run_without_frames_is_refused(run, tmp_path):
    path = run / "analysis" / "frames.parquet"
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    with pytest.raises(ReportError, match="no production frames"):
        write_report(run, tmp_path / "report.html")


@pytest.mark.parametrize(
    "name",
    ["receptor.cif", "topology.cif", "ligand.sdf", "provenance.json", "analysis/checks.json"],
)
@pytest.mark.parametrize("content", [None, "garbage"])
def test_missing_and_damaged_files_are_named(run, tmp_path, name, content):
    (run / name).unlink()
    if content:
        (run / name).write_text(content)
    with pytest.raises(NmdasimError, match=re.escape(name)):
        write_report(run, tmp_path / "report.html")


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ReportError, match=r"has no run\.toml"):
        write_report(tmp_path, tmp_path / "report.html")


def test_no_run_at_all_is_refused(tmp_path):
    with pytest.raises(ReportError, match="no run was given"):
        write_report([], tmp_path / "report.html")


def test_a_place_that_cannot_be_written_is_refused(made_run, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ReportError, match="cannot be written"):
        write_report(made_run, tmp_path / "file" / "report.html")


def test_a_run_without_contacts_still_has_a_report(run, tmp_path):
    for table in ("contacts", "ring_contacts", "contacts_by_frame"):
        path = run / "analysis" / f"{table}.parquet"
        pq.write_table(pq.read_table(path).slice(0, 0), path)
    text = write_report(run, tmp_path / "report.html").read_text(encoding="utf-8")
    assert Page(text).text.count("no contact was found") == 3


# -------------------------------------------------------------------------------- the words


def test_the_rings_stand_in_their_order_above_the_asparagines(made_run):
    rings = rings_of(read_record(made_run))
    heights = [ring.height for ring in rings]
    assert [ring.name for ring in rings][:2] == ["asparagine", "hydrophobic_1"]
    assert heights[0] == pytest.approx(0.0, abs=0.05)
    assert heights == sorted(heights)
    assert rings[1].residues == "GluN1 V644, GluN2B L643"


@pytest.mark.parametrize(
    ("shift_nm", "share", "words"),
    [(0.0, 1.0, "in all 50 frames"), (5.0, 0.0, "was never between"), (-5.0, 0.0, "never between")],
)
def test_the_headline_follows_the_ligand(run, shift_nm, share, words):
    move_ligand(run, np.full(report_run.N_FRAMES, shift_nm))
    record = read_record(run)
    assert share_in_vestibule(record) == share
    assert words in verdict(record)


def test_a_ligand_that_left_halfway_is_told(run):
    move_ligand(run, np.where(np.arange(report_run.N_FRAMES) < 20, 0.0, 9.0))
    assert "in 20 of 50 frames and outside" in verdict(read_record(run))


@pytest.mark.parametrize(
    ("rmsd", "words"),
    [
        ([0.05, 0.19], "and kept its pose: never more than 2 Å (RMSD) from its start"),
        ([0.05, 0.25], "in 25 of 50 frames, at the end 2.5 Å"),
        ([0.3, 0.1], "in 25 of 50 frames, at the end 1.0 Å"),
    ],
)
def test_the_headline_says_whether_the_pose_was_kept(run, rmsd, words):
    path = run / "analysis" / "frames.parquet"
    table = pq.read_table(path).to_pydict()
    table["ligand_rmsd_nm"] = np.repeat(rmsd, 25)
    pq.write_table(pa.table(table), path)
    assert words in verdict(read_record(run))


def move_ligand(run, shift):
    path = run / "analysis" / "frames.parquet"
    table = pq.read_table(path).to_pydict()
    table["ligand_depth_nm"] = np.array(table["ligand_depth_nm"]) + shift
    pq.write_table(pa.table(table), path)


def test_the_membrane_protocol_has_other_limits(run):
    report_run.rewrite_inputs(run, protocol="membrane")
    text = " ".join(limits(read_record(run)))
    assert "no membrane" not in text
    assert "ligand-binding and amino-terminal domains are absent" in text


@pytest.mark.parametrize(("asked", "told"), [(50.0, False), (49.9, False), (200.0, True)])
def test_an_unfinished_run_says_so(run, asked, told):
    report_run.dump(run / "status.json", {"state": "interrupted", "production_ps_asked": asked})
    text = " ".join(limits(read_record(run)))
    assert ("50 ps of the 200 ps that were asked for" in text) == told


def test_residues_near_the_site_agree_with_a_plain_count(made_run):
    record = read_record(made_run)
    ligand = np.array(Chem.RemoveHs(record.ligand).GetConformer().GetPositions())
    atoms = record.atoms
    near = {
        (atoms.chain[i], atoms.number[i])
        for i, position in enumerate(atoms.positions)
        if min(np.linalg.norm(10 * position - atom) for atom in ligand) <= 8.0
    }
    table, n_near = site_table(record)
    assert n_near == len(near)
    distances = [float(row[-1]) for row in table.rows]
    assert distances == sorted(distances)
    assert set(distances) <= {d for d in distances if 1.5 < d <= 8.0}


def test_references_are_numbered_once_in_order_of_mention(made_run):
    sentences, references = methods_with_references(read_record(made_run))
    assert references[0] == "10.1021/acs.jctc.5b00255"
    assert len(references) == 3
    assert [re.findall(r"\[(\d)\]", sentence) for sentence in sentences] == [["1"], ["2"], ["3"]]


def test_checks_of_the_receptor_are_among_the_checks(made_run):
    record = read_record(made_run)
    names = {check["name"]: check["stage"] for check in all_checks(record)}
    assert names["ligand in the vestibule"] == "run"
    assert "receptor" in names.values()


def test_the_command_quotes_what_a_shell_would_break(run):
    report_run.rewrite_inputs(run, ligand_name="CC(=O)O; rm x")
    assert "nmdasim run 'CC(=O)O; rm x' --receptor 7eu8" in command(read_record(run))


@given(st.text())
def test_json_in_a_script_cannot_end_it_and_keeps_its_meaning(text):
    escaped = escape_json(json.dumps(text))
    assert not set("<>&\u2028\u2029") & set(escaped)
    assert json.loads(escaped) == text


# ------------------------------------------------------------------------------- the figures


def test_the_raster_shows_each_contact_in_its_frame(made_run):
    record = read_record(made_run)
    figure = plot_raster(record)
    kinds = list(TYPE_COLOURS)
    raster = np.array(figure.data[0].z)
    row = next(i for i, label in enumerate(figure.layout.yaxis.ticktext) if "L643 B" in label)
    events = record.tables["contacts_by_frame"].to_pylist()
    frames = [event["frame"] for event in events if (event["chain"], event["number"]) == ("B", 643)]
    assert np.flatnonzero(raster[row] == kinds.index("hydrophobic")).tolist() == sorted(frames)


def test_the_most_specific_interaction_wins_in_the_raster(run):
    path = run / "analysis" / "contacts_by_frame.parquet"
    table = pq.read_table(path).to_pylist()
    both = [{**table[0], "frame": 3, "chain": "D", "number": 615, "type": kind}
            for kind in ("close contact", "hydrogen bond", "halogen")]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(both), path)
    figure = plot_raster(read_record(run))
    raster = np.array(figure.data[0].z)
    assert set(raster.ravel()) == {list(TYPE_COLOURS).index("hydrogen bond"), len(TYPE_COLOURS)}


@pytest.mark.parametrize("n_frames", [1, 3, 499, 500, 501, 12345])
def test_bins_hold_every_frame_once_and_keep_extremes_and_mean(n_frames):
    values = np.random.default_rng(n_frames).normal(size=n_frames)
    starts = bin_starts(n_frames, 500)
    sizes = np.diff(np.append(starts, n_frames))
    assert sizes.sum() == n_frames
    assert sizes.max() - sizes.min() <= 1
    folded = envelope(values, n_bins=500)
    assert folded.low.min() == values.min()
    assert folded.high.max() == values.max()
    assert np.average(folded.mean, weights=sizes) == pytest.approx(values.mean(), abs=1e-12)
    bins = bin_of_frames(np.arange(n_frames), n_frames=n_frames, n_bins=500)
    assert np.bincount(bins).tolist() == sizes.tolist()


def test_frames_without_a_value_do_not_move_their_bin():
    values = np.array([1.0, np.nan, 3.0, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(binned_mean(values, n_bins=2), [2.0, np.nan])
    folded = envelope(values, n_bins=2)
    np.testing.assert_array_equal([folded.low[0], folded.high[0], folded.low[1]], [1, 3, np.nan])


def test_the_most_frequent_state_stands_for_a_bin():
    codes = np.array([0, 1, 1, 2, 2, 0])
    assert most_common(codes, n_codes=3, n_bins=2).tolist() == [1, 2]
    assert bin_times(np.arange(6.0), n_bins=2).tolist() == [1.0, 4.0]


@pytest.mark.parametrize(("end_ps", "unit"), [(50.0, "ps"), (2e4, "ns"), (2e7, "µs")])
def test_the_time_axis_has_the_unit_that_a_reader_expects(end_ps, unit):
    time, found = time_axis(np.array([1.0, end_ps]))
    assert found == unit
    assert 0.1 < time[-1] < 1000


@pytest.fixture(scope="session")
def long_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long") / "long"
    return report_run.write_run(folder, receptor=report_run.RECEPTOR, n_frames=20_000)


@pytest.mark.slow
def test_a_long_run_is_folded_and_says_so(long_run, page, tmp_path):
    text = write_report(long_run, tmp_path / "long.html").read_text(encoding="utf-8")
    assert "20000 frames are folded into 500 bins" in Page(text).text
    assert "400 columns of about 50 frames" in Page(text).text
    # The page does not grow with the run: what it holds of frames is bounded.
    assert len(text) < len(page) + 1_500_000


def test_a_spike_of_one_frame_is_seen_in_a_long_run(long_run, tmp_path):
    run = shutil.copytree(long_run, tmp_path / "spike")
    path = run / "analysis" / "frames.parquet"
    table = pq.read_table(path).to_pydict()
    table["ligand_offset_nm"][7_777] = 3.0
    pq.write_table(pa.table(table), path)
    figure = plot_time_series(read_record(run))
    drawn = [np.nanmax(np.asarray(trace.y, dtype=float)) for trace in figure.data]
    assert max(drawn[:3]) == pytest.approx(30.0)


def test_long_contacts_are_shares_of_their_columns(long_run):
    record = read_record(long_run)
    figure = plot_raster(record)
    shares = np.array(figure.data[0].z, dtype=float)
    row = next(i for i, label in enumerate(figure.layout.yaxis.ticktext) if "V644 A" in label)
    assert shares.shape[1] == 400
    assert shares[row].mean() == pytest.approx(0.82, abs=0.01)
    assert shares.max() <= 1.0


def test_states_are_drawn_in_their_frames(made_run):
    record = read_record(made_run)
    (strip,) = [
        trace
        for trace in plot_block(record).data
        if trace.type == "heatmap" and "unblocked" in np.asarray(trace.customdata).ravel().tolist()
    ]
    shown = np.asarray(strip.customdata)[0]
    assert shown.tolist() == record.tables["frames"]["state"].to_pylist()


def test_shares_of_the_paths_are_those_of_the_frames(made_run):
    record = read_record(made_run)
    share = record.column("frames", "water_path_past_ligand").mean()
    notes = [note.text for note in plot_block(record).layout.annotations]
    assert f"{100 * share:.0f} % of the time" in notes
    # A column that is never defined has no row.
    assert sum("of the time" in note for note in notes) == len(PATHS) - 3


def test_the_part_that_had_not_settled_is_shaded(run):
    path = run / "analysis" / "estimates.parquet"
    table = pq.read_table(path).to_pydict()
    table["n_discarded"] = [12] * len(table["name"])
    pq.write_table(pa.table(table), path)
    shades = [shape for shape in plot_block(read_record(run)).layout.shapes if shape.type == "rect"]
    assert [(shade.x0, shade.x1) for shade in shades] == [(1.0, 13.0)]


def test_states_that_did_not_occur_are_named_and_not_listed(run, tmp_path):
    path = run / "analysis" / "states.parquet"
    table = pq.read_table(path).to_pylist()
    absent = {**table[0], "state": "left", "share": 0.0, "n_visits": 0, "n_exits": 0}
    pq.write_table(pa.Table.from_pylist([*table, absent]), path)
    page = Page(write_report(run, tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "Not seen in 50 ps: block left." in page.text
    assert not [row for row in page.rows if row[:2] == ["block", "left"]]
    (kept,) = [row for row in page.rows if row[:2] == ["block", "unblocked"]]
    assert kept[5] == "no end seen; longer than 1.3 ps"


def test_lifetimes_are_folded_and_say_when_no_break_was_seen(page):
    rows = {row[0]: row for row in Page(page).rows if len(row) == 9}
    assert rows["GluN2B L643"][6] == "15 ps (5.1 to 73 ps)"
    assert rows["GluN2B N615"][6] == "no end seen; longer than 7.5 ps"
    assert "LEU" not in rows


def test_every_type_of_contact_has_its_own_colour():
    assert set(TYPE_COLOURS) == set(INTERACTION_TYPES)
    assert len(set(TYPE_COLOURS.values())) == len(TYPE_COLOURS)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gate_threonine_glun1_ca", "across the threonine ring, GluN1, CA atoms"),
        ("gate_a652_glun2_heavy", "across the A652 ring, GluN2, nearest heavy atoms"),
        ("gate_radius", "radius of the gate"),
        ("radius_hydrophobic_1", "radius at the hydrophobic ring 1"),
        ("lumen_area", "cross-section of the lumen at the ligand"),
        ("something_new", "something new"),
    ],
)
def test_quantities_are_named_as_a_reader_says_them(name, words):
    assert quantity(name) == words


def test_densities_are_per_angstrom_and_keep_their_band(made_run):
    record = read_record(made_run)
    water = next(trace for trace in plot_density(record).data if trace.name == "water")
    rows = [row for row in record.rows("density") if row["kind"] == "water"]
    assert water.x == pytest.approx([row["per_nm"] / 10 for row in rows])
    assert water.y == pytest.approx([row["z_nm"] * 10 for row in rows])


def without_solvent(run, *, keep):
    """Leave of the tables on water and ions the kinds that `keep` says."""
    for name in ("density", "permeation", "permeation_rates"):
        path = run / "analysis" / f"{name}.parquet"
        table = pq.read_table(path)
        pq.write_table(
            table.filter(pa.array([keep(kind) for kind in table["kind"].to_pylist()], pa.bool_())),
            path,
        )
    path = run / "analysis" / "frames.parquet"
    frames = pq.read_table(path)
    for column in ("water_path", "water_path_past_ligand"):
        unknown = pa.nulls(len(frames), pa.float64())
        frames = frames.set_column(frames.column_names.index(column), column, unknown)
    pq.write_table(frames, path)


def test_a_trajectory_without_water_has_a_page_of_densities_that_says_so(run, tmp_path):
    without_solvent(run, keep=lambda kind: kind != "water")
    density = plot_density(read_record(run))
    assert {trace.name for trace in density.data if trace.name} == {"Cl-", "Na+"}
    assert "no waters in this trajectory" in {note.text for note in density.layout.annotations}
    text = write_report(run, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "run1-density" in re.findall(r'data-for="(\S+)">', text)


def test_a_trajectory_without_water_and_ions_says_that_nothing_is_known(run, tmp_path):
    without_solvent(run, keep=lambda kind: False)
    assert plot_density(read_record(run)) is None
    page = Page(write_report(run, tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "no density of water and ions, because there are none" in page.text
    assert "holds neither water nor ions: nothing is known of what crosses" in page.text
    assert "No water and no ion crossed" not in page.text


def test_a_rate_without_an_event_is_hollow_and_bounded(made_run, page):
    (points,) = plot_rates(read_record(made_run)).data
    assert list(points.marker.symbol) == ["circle", "circle", "circle-open"]
    assert points.error_x.array[2] == pytest.approx(73.8)
    (row,) = [row for row in Page(page).rows if row[:2] == ["Na+", "whole pore"]]
    assert row[5] == "less than 73.8"


def test_regions_are_drawn_from_their_table(made_run):
    (bars,) = plot_regions(read_record(made_run)).data
    assert list(bars.x) == [1.0, 0.1, 0.0]
    # An error that is not known is not drawn as one of zero.
    assert list(bars.error_x.array) == [0.02, 0.04, None]


def test_an_analysis_of_an_older_version_still_has_a_report(tmp_path):
    old = report_run.write_run(tmp_path / "old", receptor=report_run.RECEPTOR, optional=False)
    assert not set(read_record(old).tables) & set(OPTIONAL_COLUMNS)
    text = write_report(old, tmp_path / "report.html").read_text(encoding="utf-8")
    keys = re.findall(r'data-for="run1-(\S+)">', text)
    assert {"block", "series", "profile"} <= set(keys)
    assert not {"density", "rates", "regions"} & set(keys)
    for sentence in (
        "no table of states", "no density of water and ions", "no crossings of water and ions",
        "no lifetimes of contacts", "no table of the faces",
    ):  # fmt: skip
        assert sentence in Page(text).text


def test_an_optional_table_of_another_version_is_refused(run, tmp_path):
    path = run / "analysis" / "states.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["share"]), path)
    with pytest.raises(ReportError, match="no column share"):
        write_report(run, tmp_path / "report.html")


def test_a_run_of_one_frame_has_a_report(tmp_path):
    one = report_run.write_run(tmp_path / "one", receptor=report_run.RECEPTOR, n_frames=1)
    text = write_report(one, tmp_path / "report.html").read_text(encoding="utf-8")
    assert len(re.findall(r'data-for="run1-(\S+)">', text)) == N_FIGURES


def test_every_cell_knows_the_heading_that_names_it_in_a_narrow_window(page):
    """There the headings are not shown, and each row is a block of its own."""
    labels = [attrs["data-label"] for tag, attrs in Page(page).tags if tag == "td"]
    assert len(labels) > 100
    shown = {cell for row in Page(page).rows for cell in row}
    assert set(labels) <= shown


def test_every_figure_has_a_button_that_saves_it(page):
    saved = {attrs["data-save"] for _, attrs in Page(page).tags if "data-save" in attrs}
    drawn = {attrs["data-for"] for _, attrs in Page(page).tags if "data-for" in attrs}
    assert saved == drawn
    assert len(saved) == N_FIGURES


# ----------------------------------------------------------------- ligands of other kinds


def test_an_ion_has_a_report_without_words_on_molecules(tmp_path):
    ion = Chem.MolFromSmiles("[Mg+2]")
    conformer = Chem.Conformer(1)
    conformer.SetAtomPosition(0, (0.0, 0.0, 8.0))
    ion.AddConformer(conformer)
    file = tmp_path / "magnesium.sdf"
    file.write_text(Chem.MolToMolBlock(ion) + "$$$$\n")
    run = report_run.write_run(
        tmp_path / "run", receptor=report_run.RECEPTOR, ligand_name="magnesium", ligand=file
    )
    text = Page(write_report(run, tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert "magnesium (charge +2)" in text
    assert "The ion has a fixed charge" in text
    assert "gain or lose a proton" not in text
    # The title of the deposited entry is named where the receptor comes from.
    assert "ketamine" not in text.split("Provenance")[0]


@pytest.mark.parametrize(
    ("smiles", "centres"),
    [
        ("CC12CC3CC(C)(C1)CC([NH3+])(C3)C2", "none"),
        ("C[C@]1(c2ccccc2Cl)CCCCC1=O", "R (C, atom 2)"),
    ],
    ids=["a cage", "a centre"],
)
def test_only_the_centres_that_were_asked_for_are_shown(made_run, smiles, centres):
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(molecule, randomSeed=1) == 0
    record = read_record(made_run)
    asked = {**record.inputs, "ligand": {"name": "it", "smiles": smiles, "charge": 1}}
    facts = ligand_facts(replace(record, ligand=molecule, inputs=asked))
    assert facts["stereo centres (CIP)"] == centres
    assert facts["SMILES"] == Chem.CanonSmiles(smiles)


@pytest.mark.parametrize(
    ("recorded", "told"),
    [
        ({}, "not recorded in this run"),
        ({"population": None}, "not known: the pKa is not known as one figure"),
        ({"population": 0.5573, "ph": 7.4}, "56 % at pH 7.4"),
        ({"population": 0.00135, "ph": 7.4}, "0.1 % at pH 7.4"),
        ({"population": 0.99865, "ph": 7.4}, "99.9 % at pH 7.4"),
    ],
    ids=["nothing", "a range", "both", "a trace", "nearly all"],
)
def test_the_share_of_a_charge_state_is_told_as_far_as_it_is_known(made_run, recorded, told):
    record = read_record(made_run)
    facts = ligand_facts(replace(record, provenance={**record.provenance, "ligand": recorded}))
    assert facts["share in this charge state"] == told


def test_a_foreign_trajectory_has_a_report_without_a_simulation(run, tmp_path):
    foreign = report_run.make_foreign(run)
    text = Page(write_report(foreign, tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert "S-ketamine (charge +1) in the pore of the GluN1/GluN2B NMDA receptor" in text
    assert "in a trajectory from elsewhere: 50 frames" in text
    assert "How this trajectory was made is not known" in text
    for absent in ("Rebuilt near the site", "Equilibration", "no membrane voltage", "Segments of"):
        assert absent not in text


# ------------------------------------------------------------------------------ comparison


@pytest.fixture(scope="module")
def two_ligands(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    return [
        read_record(
            report_run.write_run(
                folder / f"{ligand}{replica}", receptor=report_run.RECEPTOR, replica=replica,
                ligand_name=ligand, shift_nm=shift,
            )
        )
        for ligand, shift in (("S-ketamine", 0.0), ("memantine", 0.3))
        for replica in (1, 2, 3)
    ]  # fmt: skip


def test_replicas_are_pooled_by_what_they_have_in_common(two_ligands):
    conditions = conditions_of(two_ligands)
    assert [condition.name for condition in conditions] == ["S-ketamine", "memantine"]
    assert [len(condition.records) for condition in conditions] == [3, 3]
    colours = {condition.colour for condition in conditions}
    assert len(colours) == 2


def test_a_run_given_twice_is_no_replica(two_ligands):
    with pytest.raises(ReportError, match="are the same run"):
        conditions_of([two_ligands[0], two_ligands[0]])


def test_conditions_of_one_ligand_are_named_by_what_differs(made_run, tmp_path):
    other = shutil.copytree(made_run, tmp_path / "membrane")
    report_run.rewrite_inputs(other, protocol="membrane")
    names = [c.name for c in conditions_of([read_record(made_run), read_record(other)])]
    assert names == ["S-ketamine (name vestibule)", "S-ketamine (name membrane)"]


def test_trajectories_from_elsewhere_are_named_by_their_folders(made_run, tmp_path):
    """Their inputs are not known, so that no input is said to be unset."""
    other = report_run.make_foreign(shutil.copytree(made_run, tmp_path / "elsewhere"))
    names = [c.name for c in conditions_of([read_record(made_run), read_record(other)])]
    assert names == ["S-ketamine (first)", "S-ketamine (elsewhere)"]


def test_what_rounding_leaves_of_a_difference_is_no_difference(made_run, tmp_path):
    """The same numbers twice, but for the last bits of single precision."""
    second = shutil.copytree(made_run, tmp_path / "second")
    report_run.rewrite_inputs(second, ligand_name="R-ketamine")
    path = second / "analysis" / "estimates.parquet"
    table = pq.read_table(path)
    means = pa.array(table["mean"].to_numpy() * (1 + 1e-9))
    pq.write_table(table.set_column(table.column_names.index("mean"), "mean", means), path)
    ((_, differences),) = differences_tables(
        conditions_of([read_record(made_run), read_record(second)])
    )
    assert {row[1] for row in differences.rows} == {"+0"}


def test_distances_across_the_gate_are_left_to_the_tables(run, made_run):
    """Their long names would run into each other above the panels."""
    report_run.rewrite_inputs(run, ligand_name="R-ketamine")
    path = run / "analysis" / "estimates.parquet"
    table = pq.read_table(path)
    names = ["gate_a652_glun2_heavy", *table["name"].to_pylist()[1:]]
    pq.write_table(table.set_column(0, "name", pa.array(names)), path)
    both = conditions_of([read_record(run), read_record(made_run)])
    titles = {note.text for note in plot_estimates(both).layout.annotations}
    assert "depth of the ammonium (Å)" in titles
    assert not any("across" in title for title in titles)
    assert any("across" in row[0] for row in conditions_table(both).rows)


def test_differences_have_an_interval_and_an_answer(two_ligands):
    ((title, table),) = differences_tables(conditions_of(two_ligands))
    assert title == "memantine minus S-ketamine"
    rows = {row[0]: row for row in table.rows}
    _, difference, interval, unit, answer, note = rows["depth of the ligand"]
    low, high = map(float, interval.split(" to "))
    assert low < float(difference) < high
    assert low < 3.0 < high
    assert (unit, answer, note) == ("Å", "higher", "")
    assert rows["temperature"][4] == "no difference seen"
    assert any("GluN2B L643, hydrophobic" in name for name in rows)


def test_single_replicas_are_not_enough_data(two_ligands):
    ((_, table),) = differences_tables(conditions_of([two_ligands[0], two_ligands[3]]))
    assert {row[4] for row in table.rows} == {"not enough data"}
    figure = plot_estimates(conditions_of([two_ligands[0], two_ligands[3]]))
    assert {"circle", "circle-open"} == {trace.marker.symbol for trace in figure.data}


# --------------------------------------------------------------------------------- the meshes

POINTS = st.tuples(*[st.floats(-20, 20)] * 3).map(np.array)
RADII = st.floats(0.05, 3.0)


def is_closed(mesh):
    """Whether every edge belongs to two faces that run through it in opposite ways."""
    edges = np.concatenate([mesh.faces[:, [i, (i + 1) % 3]] for i in range(3)])
    forward = set(map(tuple, edges.tolist()))
    return len(forward) == len(edges) and forward == {(b, a) for a, b in forward}


def volume(mesh):
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


@given(POINTS, RADII)
def test_a_sphere_is_round_closed_and_faces_outwards(centre, radius):
    mesh = sphere(centre, radius, name="x")
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices - centre, axis=1), radius, rtol=1e-9)
    assert is_closed(mesh)
    assert 0.85 < volume(mesh) / (4 / 3 * np.pi * radius**3) < 1.0
    assert len(mesh.names) == len(mesh.vertices)


@given(POINTS, POINTS, RADII)
def test_a_cylinder_keeps_its_radius_about_its_axis(start, end, radius):
    length = np.linalg.norm(end - start)
    if length < 0.1:
        end, length = start + np.array([0.0, 0.0, 1.0]), 1.0
    axis = (end - start) / length
    away = cylinder(start, end, radius).vertices - start
    across = away - np.outer(away @ axis, axis)
    np.testing.assert_allclose(np.linalg.norm(across, axis=1), radius, rtol=1e-6)
    assert set(np.round(away @ axis / length, 6)) == {0.0, 1.0}


def helix(n_residues):
    """CA atoms of an ideal alpha helix, Angstrom: 2.3 out, 100 degrees and 1.5 up for each."""
    turn = np.deg2rad(100) * np.arange(n_residues)
    return np.stack([2.3 * np.cos(turn), 2.3 * np.sin(turn), 1.5 * np.arange(n_residues)], axis=1)


@pytest.mark.parametrize("n_residues", [2, 3, 4, 5, 30])
def test_a_ribbon_is_closed_and_passes_every_residue(n_residues):
    positions = helix(n_residues)
    mesh = ribbon(positions, [str(i) for i in range(n_residues)])
    assert is_closed(mesh)
    assert set(mesh.names) == {str(i) for i in range(n_residues)}
    for i, position in enumerate(positions):
        ring = mesh.vertices[:-2][np.isclose(mesh.value[:-2], i)]
        np.testing.assert_allclose(ring.mean(axis=0), position, atol=1e-9)


def test_a_helix_is_flat_and_a_strand_is_round():
    strand = np.array([[0.0, 0.0, 3.3 * i] for i in range(12)])
    widths = []
    for positions in (helix(12), strand):
        mesh = ribbon(positions, [""] * 12)
        ring = mesh.vertices[:-2][np.isclose(mesh.value[:-2], 6)]
        size = np.linalg.norm(ring - ring.mean(axis=0), axis=1)
        widths.append(size.max() / size.min())
    assert widths[0] > 2.0
    assert widths[1] == pytest.approx(1.0, abs=1e-6)


@given(seed=st.integers(0, 1000))
@settings(max_examples=20)
def test_a_turned_chain_gives_a_turned_ribbon(seed):
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    rotation *= np.sign(np.linalg.det(rotation))
    names = [""] * 10
    turned = ribbon(helix(10) @ rotation.T, names).vertices
    np.testing.assert_allclose(turned, ribbon(helix(10), names).vertices @ rotation.T, atol=1e-6)


def test_the_pore_surface_stands_off_its_centre_line_by_the_radius():
    height = np.linspace(-5, 5, 21)
    path = np.stack([np.sin(height), np.cos(height), height], axis=1)
    radius = 2.0 + 0.1 * height
    mesh = pore_surface(path, radius, first_angle=0.3, span=np.pi)
    level = np.searchsorted(height, mesh.vertices[:, 2])
    away = np.linalg.norm(mesh.vertices - path[level], axis=1)
    np.testing.assert_allclose(away, radius[level])
    np.testing.assert_allclose(mesh.value, radius[level])


def test_joined_meshes_keep_their_own_corners():
    one, two = sphere(np.zeros(3), 1.0), sphere(np.full(3, 9.0), 2.0, value=1.0)
    both = join_meshes([one, two])
    assert is_closed(both)
    assert volume(both) == pytest.approx(volume(one) + volume(two))
    assert join_meshes([]).vertices.shape == (0, 3)


@given(st.floats(-3, 3))
def test_the_camera_looks_across_the_ligand(azimuth):
    along = np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
    rod = np.outer(np.linspace(-3, 3, 9), along) + np.array([1.0, 2.0, 8.0])
    view = viewing_angle(rod)
    assert abs(np.cos(view) * along[0] + np.sin(view) * along[1]) < 1e-6


def test_the_last_frame_is_brought_back_into_the_pore_frame(run):
    report_run.write_last_frame(run, lift_nm=0.2, seed=5)
    record = read_record(run)
    start = np.array(record.ligand.GetConformer().GetPositions()) / 10
    # XTC keeps coordinates to 0.001 nm.
    np.testing.assert_allclose(record.ligand_end, start + np.array([0.0, 0.0, 0.2]), atol=2e-3)


@pytest.mark.slow
def test_what_the_analysis_writes_of_one_frame_is_what_the_report_reads(run, tmp_path):
    report_run.write_last_frame(run, lift_nm=0.05, seed=2)
    shutil.rmtree(run / "analysis")
    analyse_run(run)
    page = Page(write_report(run, tmp_path / "report.html").read_text(encoding="utf-8"))
    (moved,) = [row[1] for row in page.rows if row and row[0] == "RMSD to the start"]
    assert moved == "0.5, error: not enough data"
    assert "The ligand stayed in the vestibule" in page.text


def test_what_was_not_simulated_is_drawn_pale_and_bounds_the_pore(tmp_path):
    folder = report_run.write_run(tmp_path / "cut", receptor=report_run.RECEPTOR, segments=("m3",))
    record = read_record(folder)
    low, high = simulated_span(record)
    traces = build_scene(record).data
    pale = np.concatenate([trace.z for trace in traces if trace.meta == "context"])
    pore = np.concatenate([trace.z for trace in traces if trace.meta.startswith("pore")])
    assert {trace.opacity for trace in traces if trace.meta == "context"} == {0.3}
    assert pale.min() < 10 * low
    assert 10 * low < pore.min() < pore.max() < 10 * high
    assert not is_simulated(record).all()
    assert set(record.lining.number[~is_simulated(record)]) <= set(range(599, 628))


def test_a_folder_without_its_trajectory_says_so(page, made_run):
    assert read_record(made_run).ligand_end is None
    assert "the last frame is not shown" in Page(page).text


# -------------------------------------------------------------------------------- the browser


# Uses the page like a reader does and leaves a note of what happened.
VISITOR = """<script>(async () => {
  const rest = () => new Promise((resolve) => setTimeout(resolve, 300));
  while (document.documentElement.dataset.ready !== "yes") await rest();
  const plot = document.getElementById("run1-scene");
  const look = () => ({
    visible: Object.fromEntries(plot.data.map((trace) => [trace.meta, trace.visible !== false])),
    width: plot.layout.scene.aspectratio.x,
  });
  const seen = [look()];
  for (const box of document.querySelectorAll(".controls input")) { box.click(); await rest(); }
  document.querySelector('[data-view="site"]').click();
  await rest();
  seen.push(look());
  document.body.dataset.seen = JSON.stringify(seen);
})();</script>"""


@pytest.fixture(scope="module")
def opened(made_run, tmp_path_factory):
    """The page after Chromium drew it, and what the browser had to say."""
    if BROWSER is None:
        pytest.skip("no Chromium is installed")
    folder = tmp_path_factory.mktemp("browser")
    run = shutil.copytree(made_run, folder / "first")
    report_run.write_last_frame(run, lift_nm=0.2, seed=1)
    report = write_report(run, folder / "report.html")
    with report.open("a") as file:
        file.write(VISITOR)
    result = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--use-angle=swiftshader",
            "--enable-unsafe-swiftshader", "--disable-quic", "--no-first-run", "--disable-sync",
            "--disable-background-networking", "--disable-component-update",
            "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'profile'}",
            "--window-size=1280,4000", "--virtual-time-budget=20000", "--enable-logging=stderr",
            "--dump-dom", report.as_uri(),
        ],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    return result.stdout, result.stderr


@pytest.mark.slow
@pytest.mark.browser
def test_the_browser_draws_every_figure(opened):
    tags = Page(opened[0]).tags
    drawn = {a["id"]: a["data-drawn"] for _, a in tags if "data-drawn" in a}
    assert len(drawn) == N_FIGURES
    assert set(drawn.values()) == {"yes"}
    panels = [a for tag, a in tags if tag == "g" and "subplot" in (a.get("class") or "").split()]
    # Three upright profiles, one of them in two parts, seven other figures, the panels over time.
    assert len(panels) > N_FIGURES + len(TIME_SERIES) - 2


@pytest.mark.slow
@pytest.mark.browser
def test_the_browser_draws_the_pore(opened):
    (source,) = [a["src"] for _, a in Page(opened[0]).tags if a.get("class") == "snapshot"]
    png = base64.b64decode(source.removeprefix("data:image/png;base64,"))
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    coloured = np.ptp(pixels, axis=-1) > 20
    middle = coloured[:, coloured.shape[1] // 4 : -coloured.shape[1] // 4]
    assert 0.05 < coloured.mean() < 0.6
    assert middle.mean() > coloured.mean()


@pytest.mark.slow
@pytest.mark.browser
def test_the_boxes_and_buttons_change_the_view(opened):
    (note,) = [a["data-seen"] for _, a in Page(opened[0]).tags if "data-seen" in a]
    before, after = json.loads(note)
    groups = {"protein", "front", "contacts", "names", "pore", "pore_front", "start", "end"}
    assert set(before["visible"]) == groups
    assert {g for g in groups if before["visible"][g]} == {"protein", "contacts", "pore", "start"}
    assert all(after["visible"][group] != before["visible"][group] for group in groups)
    assert after["width"] > 2 * before["width"]


@pytest.mark.slow
@pytest.mark.browser
def test_the_browser_has_nothing_to_complain_about(opened):
    spoken = [line for line in opened[1].splitlines() if "CONSOLE" in line]
    complaints = [line for line in spoken if re.search("error|refused|violat|fail", line, re.I)]
    assert complaints == []


@pytest.mark.slow
@pytest.mark.browser
def test_figures_are_written_as_svg_files_of_their_own(made_run, tmp_path):
    if BROWSER is None:
        pytest.skip("no Chromium is installed")
    paths = write_figures(made_run, tmp_path / "figures")
    assert len(paths) == N_FIGURES
    for path in paths:
        root = ElementTree.parse(path).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        shown = [n for n in root.iter() if n.tag.rpartition("}")[2] in ("path", "image", "text")]
        assert len(shown) > 5
        links = [v for n in root.iter() for k, v in n.attrib.items() if k.endswith("href")]
        assert all(link.startswith(("data:", "#")) for link in links)
    profile = (tmp_path / "figures" / "run1-profile.svg").read_text()
    assert "pore radius (Å)" in profile


def test_without_a_browser_svg_files_are_refused_in_one_sentence(made_run, tmp_path, monkeypatch):
    monkeypatch.setenv("NMDASIM_BROWSER", "no-such-browser")
    with pytest.raises(ReportError, match=r"no-such-browser\): install Chromium"):
        write_figures(made_run, tmp_path / "figures")


@pytest.mark.slow
def test_a_browser_that_fails_is_named(made_run, tmp_path, monkeypatch):
    monkeypatch.setenv("NMDASIM_BROWSER", shutil.which("false"))
    with pytest.raises(ReportError, match="false could not draw the figures"):
        write_figures(made_run, tmp_path / "figures")
    monkeypatch.setenv("NMDASIM_BROWSER", shutil.which("true"))
    with pytest.raises(ReportError, match="true did not draw run1-scene"):
        write_figures(made_run, tmp_path / "figures")
