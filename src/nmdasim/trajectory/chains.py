"""Chains of the receptor found by sequence in any topology.

Letters, numbers and segment names differ between programs, and may be absent: GROMACS numbers
through all chains, NAMD cuts a chain into segments, a PDB file has 26 letters. What stays is the
sequence and the order of the residues in the file.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import mdtraj as md
import numpy as np

from nmdasim.errors import SelectionError
from nmdasim.subunits import ONE_LETTER, recognise_subunit, subunits
from nmdasim.trajectory.model import CAPS

# Pieces shorter than this cannot be told by themselves.
_MIN_BLOCK = 12
# Between caps, pieces down to this are told where they occur once beside a longer one.
_MIN_PIECE = 5
# Least share of equal residues within a block, as for whole chains in `subunits`.
_MIN_IDENTITY = 0.8
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_Residues = Sequence[md.core.topology.Residue]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainOfReceptor:
    """One chain of the protein."""

    letter: str
    """Its letter: that of the file where it is one and no other chain has it."""
    subunit: str
    """GluN1, GluN2A or GluN2B; empty where the sequence is of no subunit."""
    numbers: dict[int, int]
    """UniProt number of each residue by its place in the topology; the file's own numbers where
    the sequence is of no subunit. Caps have the number beside their residue."""
    differences: tuple[str, ...] = ()
    """Residues that are not those of the human subunit, such as I655V, in order."""
    alike: tuple[str, ...] = ()
    """Other subunits whose sequence fits the given residues as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """Consecutive residues that belong together."""

    subunit: str
    numbers: dict[int, int]
    letter: str
    by_number: bool = False


def find_chains(topology: md.Topology) -> tuple[ChainOfReceptor, ...]:
    """Find the chains of a protein and recognise the subunits by their sequence.

    Parameters
    ----------
    topology : mdtraj.Topology

    Returns
    -------
    chains : tuple of ChainOfReceptor
        In the order of the file; amino acids and caps only.

    Raises
    ------
    SelectionError
        If there is no protein.

    Notes
    -----
    First each stretch with rising numbers is compared as it is numbered, with one shift for all
    of it, which tells short pieces too. A stretch that fits no subunit is cut into pieces
    without gaps, each of which is laid along the subunits by itself; a short piece between caps
    is laid beside the longer ones next to it. Pieces that follow each other with rising UniProt
    numbers of one subunit are one chain.
    """
    blocks: list[_Block] = []
    for stretch in _stretches(topology):
        blocks += _numbered(stretch) or _laid(stretch)
    blocks = _beside(topology, blocks)
    if not blocks:
        raise SelectionError(
            "the topology holds no amino acids: give the topology of the whole system, or check "
            "the names of its residues"
        )
    joined = _joined(blocks)
    free = (letter for letter in _LETTERS if letter not in {block.letter for block in joined})
    chains: list[ChainOfReceptor] = []
    for block in joined:
        taken = {chain.letter for chain in chains}
        own = block.letter if block.letter and block.letter not in taken else ""
        letter = own or next(free, f"P{len(chains) + 1}")
        chains.append(
            ChainOfReceptor(
                letter=letter,
                subunit=block.subunit,
                numbers=block.numbers,
                differences=_differences(topology, block),
                alike=_alike(topology, block),
            )
        )
    return tuple(chains)


def _stretches(topology: md.Topology) -> list[_Residues]:
    """Cut the protein where a chain ends or the numbers fall."""
    stretches: list[list[md.core.topology.Residue]] = []
    last = None
    for residue in topology.residues:
        if residue.name not in ONE_LETTER and residue.name not in CAPS:
            continue
        goes_on = (
            last is not None
            and residue.chain is last.chain
            and residue.segment_id == last.segment_id
            # A cap may have the number of the residue that it caps.
            and (
                residue.resSeq > last.resSeq
                or (residue.resSeq == last.resSeq and _capped(residue, last))
            )
        )
        if not goes_on:
            stretches.append([])
        stretches[-1].append(residue)
        last = residue
    return list(stretches)


def _capped(*residues: md.core.topology.Residue) -> bool:
    return any(residue.name in CAPS for residue in residues)


def _letter_of(residue: md.core.topology.Residue) -> str:
    letter = str(residue.chain.chain_id or "").strip()
    return letter if len(letter) == 1 else ""


def _numbered(stretch: _Residues) -> list[_Block]:
    """Recognise a stretch that is numbered as in UniProt but for a constant."""
    known = recognise_subunit(
        {r.resSeq: ONE_LETTER[r.name] for r in stretch if r.name in ONE_LETTER}
    )
    if known is None:
        return []
    numbers = {r.index: r.resSeq + known.shift for r in stretch}
    return [
        _Block(
            subunit=known.subunit,
            numbers=numbers,
            letter=_letter_of(stretch[0]),
            by_number=known.shift == 0,
        )
    ]


def _laid(stretch: _Residues) -> list[_Block]:
    """Lay a stretch along the subunits without regard to its numbers."""
    blocks: list[_Block] = []
    for residues in _between_caps(stretch):
        letters = np.array([ONE_LETTER[r.name] for r in residues])
        for start, stop, subunit, shift in _cut(letters, 0, len(letters)):
            part = residues[start:stop]
            numbers = {
                r.index: start + place + shift if subunit else r.resSeq
                for place, r in enumerate(part)
            }
            blocks.append(_Block(subunit=subunit, numbers=numbers, letter=_letter_of(part[0])))
    return _with_caps(blocks, stretch)


def _between_caps(stretch: _Residues) -> list[_Residues]:
    """Cut a stretch at its caps, which end a piece of a chain."""
    groups = itertools.groupby(stretch, key=lambda residue: residue.name in CAPS)
    return [list(group) for capped, group in groups if not capped]


def _beside(topology: md.Topology, blocks: Sequence[_Block]) -> list[_Block]:
    """Tell short pieces that occur once before or after a longer one of the same chain."""
    told = list(blocks)
    for place, block in enumerate(blocks):
        text = "".join(_letters(topology, block).values())
        if block.subunit or not _MIN_PIECE <= len(text) < _MIN_BLOCK:
            continue
        known = [k for k, other in enumerate(told) if other.subunit]
        sides = [[k for k in known if k > place][:1], [k for k in known if k < place][-1:]]
        for after, side in enumerate(sides):
            first = _number_beside(text, told[side[0]], after=bool(after)) if side else 0
            if first:
                # A cap in front has the number before.
                first -= topology.residue(min(block.numbers)).name in CAPS
                numbers = {index: first + k for k, index in enumerate(sorted(block.numbers))}
                told[place] = replace(block, subunit=told[side[0]].subunit, numbers=numbers)
                break
    return told


def _number_beside(text: str, longer: _Block, *, after: bool) -> int:
    """Give the number of the first of some residues before or after a block, 0 if not sure."""
    sequence = subunits()[longer.subunit].sequence
    if after:
        start, stop = max(longer.numbers.values()), len(sequence)
    else:
        start, stop = 0, min(longer.numbers.values()) - 1
    first = sequence.find(text, start, stop)
    alone = first >= 0 and sequence.find(text, first + 1, stop) < 0
    return first + 1 if alone else 0


def _letters(topology: md.Topology, block: _Block) -> dict[int, str]:
    """One-letter codes of the amino acids of a block by their number."""
    named = ((n, topology.residue(index).name) for index, n in block.numbers.items())
    return {number: ONE_LETTER[name] for number, name in named if name in ONE_LETTER}


def _differences(topology: md.Topology, block: _Block) -> tuple[str, ...]:
    """List what differs from the human sequence as it is usually written, such as N616Q."""
    if not block.subunit:
        return ()
    sequence = subunits()[block.subunit].sequence
    return tuple(
        f"{sequence[number - 1] if 0 < number <= len(sequence) else '-'}{number}{letter}"
        for number, letter in _letters(topology, block).items()
        if sequence[number - 1 : number] != letter
    )


def _alike(topology: md.Topology, block: _Block) -> tuple[str, ...]:
    """Name the other subunits along which the pieces of a chain lie as well."""
    # Numbers as in UniProt tell subunits apart that the letters do not.
    if not block.subunit or block.by_number:
        return ()
    letters = _letters(topology, block)
    pieces = [
        "".join(letters[number] for _, number in piece)
        for _, piece in itertools.groupby(enumerate(sorted(letters)), key=lambda at: at[1] - at[0])
    ]
    wrong = len(_differences(topology, block))
    return tuple(
        name
        for name, subunit in subunits().items()
        if name != block.subunit
        and sum(len(piece) - _most_equal(piece, subunit.sequence) for piece in pieces) <= wrong
    )


def _most_equal(text: str, sequence: str) -> int:
    """Count equal residues where a text lies best along a sequence."""
    same = np.array(list(text))[:, None] == np.array(list(sequence))
    return int(max(same.diagonal(k).sum() for k in range(1 - len(text), len(sequence))))


def _cut(letters: np.ndarray, start: int, stop: int) -> list[tuple[int, int, str, int]]:
    """Find the longest piece that lies along a subunit, then look left and right of it."""
    if stop <= start:
        return []
    best = _best_piece(letters[start:stop]) if stop - start >= _MIN_BLOCK else None
    if best is None:
        return [(start, stop, "", 0)]
    first, last, subunit, number = best
    first, last = first + start, last + start
    return [
        *_cut(letters, start, first),
        (first, last, subunit, number - first),
        *_cut(letters, last, stop),
    ]


def _best_piece(letters: np.ndarray) -> tuple[int, int, str, int] | None:
    """Give first, end, subunit and number of the first residue of the best piece without gaps."""
    best, most = None, 0.0
    for name, subunit in subunits().items():
        sequence = np.array(list(subunit.sequence))
        same = letters[:, None] == sequence
        row, column = np.nonzero(same)
        matching = np.bincount(column - row + len(letters) - 1)
        # The best places first: a piece gains no more than its matches, so that few are looked at.
        for place in np.argsort(-matching, kind="stable"):
            # Four differences cost what one match in five gains, so that a piece that is less
            # than 80 % equal does not grow.
            if matching[place] <= most:
                break
            diagonal = int(place) - len(letters) + 1
            matches = same.diagonal(diagonal)
            first, last, score = _best_run(np.where(matches, 1.0, -4.0))
            if score > most and last - first >= _MIN_BLOCK:
                offset = max(0, -diagonal)
                number = first + max(0, diagonal) + 1
                best, most = (first + offset, last + offset, name, number), score
    return best


def _best_run(gains: np.ndarray) -> tuple[int, int, float]:
    """Give start, end and sum of the run with the largest sum."""
    total = np.concatenate([[0.0], np.cumsum(gains)])
    rise = total - np.minimum.accumulate(total)
    last = int(rise.argmax())
    first = int(total[: last + 1].argmin()) if last else 0
    return first, last, float(rise[last])


def _with_caps(blocks: list[_Block], stretch: _Residues) -> list[_Block]:
    """Give caps to the block of the residue that they cap."""
    for place, residue in enumerate(stretch):
        if residue.name not in CAPS:
            continue
        side = 1 if residue.name == "ACE" else -1
        neighbour = place + side
        if 0 <= neighbour < len(stretch):
            index = stretch[neighbour].index
            for block in blocks:
                if index in block.numbers:
                    block.numbers[residue.index] = block.numbers[index] - side
    return [replace(block, numbers=dict(sorted(block.numbers.items()))) for block in blocks]


def _joined(blocks: Sequence[_Block]) -> list[_Block]:
    """Join blocks that go on with the numbers of the same subunit, whatever lies between."""
    joined: list[_Block] = []
    open_at = -1
    for block in blocks:
        last = joined[open_at] if open_at >= 0 and block.subunit else None
        if (
            last is not None
            and block.subunit == last.subunit
            and min(block.numbers.values()) >= max(last.numbers.values()) - 1
        ):
            joined[open_at] = replace(last, numbers=last.numbers | block.numbers)
            continue
        if block.subunit:
            open_at = len(joined)
        joined.append(block)
    return joined
