import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from nmdasim.catalogue import comparable_groups, render_catalogue, write_catalogue
from nmdasim.catalogue.tree import metabolic_trees
from nmdasim.errors import LigandError, RunStorageError
from nmdasim.ligand import MARKS, library, potencies


@pytest.fixture(scope="module")
def page():
    return render_catalogue(ph=7.4)


@pytest.fixture(scope="module")
def trees():
    return {root.name: ElementTree.fromstring(svg) for root, svg in metabolic_trees(library())}


def texts(tree):
    return [element.text for element in tree.iter("{http://www.w3.org/2000/svg}text")]


class Reader(HTMLParser):
    """Collect tags that are open, identifiers and links."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.sources = [], [], [], []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if "href" in found else []
        self.sources += [found["src"]] if "src" in found else []
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_asks_no_server(page):
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert reader.sources == []
    assert len(set(reader.ids)) == len(reader.ids)
    assert all(link.startswith("#") for link in reader.links)
    assert {link[1:] for link in reader.links} <= set(reader.ids)
    assert "default-src 'none'" in page
    assert not re.search(r"url\((?!#)|@import|<script", page)


def test_every_ligand_has_a_card_with_its_states(page):
    for entry in library():
        (card,) = re.findall(rf'<article class="card" id="{re.escape(entry.name)}">.*?</article>',
                             page, re.S)  # fmt: skip
        assert (
            card.count("<svg") == card.count('class="charge"') == (1 if entry.kind == "ion" else 2)
        )
        assert entry.title in card
    assert "55.7%" in page
    assert "44.3%" in page


def test_shares_follow_the_ph():
    assert "50.0%" in render_catalogue(ph=7.5)


def test_groups_never_mix_conditions_and_lose_nothing():
    rows = potencies()
    groups = list(comparable_groups(rows))
    assert sum(len(findings) for _, findings in groups) == len(rows)
    assert len({conditions for conditions, _ in groups}) == len(groups)
    for conditions, findings in groups:
        for finding in findings:
            assert (finding.assay, finding.preparation, finding.species, finding.subunits,
                    finding.mg_mM, finding.voltage_mV, finding.source) == conditions  # fmt: skip


def test_every_mark_is_explained_and_unconfirmed_rows_are_coloured(page):
    for mark in MARKS:
        assert f">{mark}</span>" in page
    unconfirmed = sum(not finding.is_confirmed for finding in potencies())
    assert page.count('<tr class="unsure">') == unconfirmed > 0
    # Derived from a remembered figure: no better than that.
    (row,) = [f for f in potencies("S-dehydronorketamine") if f.quantity == "dG_298K"]
    assert (row.mark, row.is_confirmed) == ("DERIVED", False)


def test_the_tree_shows_every_metabolite_once(trees):
    assert set(trees) == {"S-ketamine", "R-ketamine", "dextromethorphan"}
    shown = [text for tree in trees.values() for text in texts(tree)]
    for entry in library():
        if entry.reactions:
            assert shown.count(entry.title) == 1


def test_the_tree_names_reactions_and_enzymes(trees):
    shown = texts(trees["S-ketamine"])
    assert shown.count("N-demethylation") == 3
    assert "CYP2B6 or CYP3A4 [SEEN]" in shown
    # One arrow per parent and metabolite, however many sources.
    arrows = [e for e in trees["S-ketamine"].iter() if "arrow" in e.get("class", "")]
    of_s = [entry for entry in library() if entry.name.startswith(("S-", "2S"))]
    assert len(arrows) == len({(r.parent, e.name) for e in of_s for r in e.reactions})


def test_the_page_replaces_a_file_whole(page, tmp_path):
    path = tmp_path / "library.html"
    path.write_text("old")
    assert write_catalogue(path) == path
    assert path.read_text(encoding="utf-8") == page
    assert [entry.name for entry in tmp_path.iterdir()] == ["library.html"]


def test_bad_requests_are_refused(tmp_path):
    with pytest.raises(LigandError, match="pH of 15"):
        write_catalogue(tmp_path / "page.html", ph=15)
    with pytest.raises(RunStorageError, match="cannot write the page"):
        write_catalogue(tmp_path / "missing" / "page.html")
