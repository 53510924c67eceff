import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import report_run
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rdkit import Chem

from nmdasim.analysis import analyse_run
from nmdasim.errors import NmdasimError, ReportError
from nmdasim.report import write_report
from nmdasim.report.figures import TIME_SERIES, plot_raster, thin
from nmdasim.report.palette import TYPE_COLOURS
from nmdasim.report.record import (
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
    limits,
    methods_with_references,
    share_in_vestibule,
    site_table,
    verdict,
)

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
N_FIGURES = 6


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
        "convention of the program HOLE",
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


@pytest.mark.parametrize("part", ["name", "check", "residue", "status", "methods", "source"])
def test_text_from_files_cannot_become_markup(run, tmp_path, part):
    evil = "</script><script>alert(1)</script><img src=x>"
    poison(run, part, evil)
    text = write_report(run, tmp_path / "report.html").read_text(encoding="utf-8")
    tags = [tag for tag, _ in Page(text).tags]
    assert tags.count("script") == N_FIGURES + 2
    assert "img" not in tags
    assert "alert(1)" in text


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


def test_several_runs_share_one_page_with_a_comparison(made_run, tmp_path):
    other = report_run.write_run(
        tmp_path / "second", receptor=report_run.RECEPTOR, replica=2, shift_nm=0.1
    )
    path = write_report([made_run, other], tmp_path / "both.html")
    text = path.read_text(encoding="utf-8")
    figures = dict(re.findall(r'data-for="(\S+)">(.*?)</script>', text))
    assert len(figures) == 2 * N_FIGURES + 1
    points = [trace["x"][0] for trace in json.loads(figures["comparison"])["data"][:2]]
    assert points[1] - points[0] == pytest.approx(1.0, abs=0.5)
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
    assert text.count("no contact was found") == 3


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


@pytest.mark.parametrize("n_frames", [1, 1999, 2000, 2001, 12345])
def test_thinning_keeps_the_mean_and_bounds_the_number_of_points(n_frames):
    values = np.random.default_rng(n_frames).normal(size=n_frames)
    thinned = thin(values)
    size = -(-n_frames // 2000)
    assert len(thinned) <= 2000
    assert thinned.mean() == pytest.approx(values[: len(thinned) * size].mean(), abs=1e-12)


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
    assert len(panels) == 4 + len(TIME_SERIES)


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
