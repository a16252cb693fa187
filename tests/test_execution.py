"""The committed notebook is what a fresh kernel makes of it, in any order of re-runs."""

import ast
import copy
import pathlib
import re

import matplotlib
import nbformat
import numpy as np
import pytest
from notebook_runner import (
    NOTEBOOK,
    ROOT,
    code_cells,
    definitions,
    execute,
    pictures_of,
    pixels,
    read,
    text_of,
)
from PIL import Image, ImageSequence

# A gap at the level of rounding, such as 2e-07: its size depends on the processor.
TINY = re.compile(r"\b\de-(?:0[6-9]|1\d)\b")
CELL_IDS = [cell.id for cell in code_cells(read())]


def differing(now, then):
    """Share of the pixels that differ visibly: a rounded-off contour line moves a few."""
    return (np.abs(now - then).max(axis=-1) > 3).mean()


def assert_same_picture(actual, expected, what):
    """Compare decoded pixels where one Matplotlib drew both; sizes always."""
    (now, _), (then, version) = pixels(actual), pixels(expected)
    if version.split(".")[:2] == matplotlib.__version__.split(".")[:2]:
        assert now.shape == then.shape, f"{what}: {now.shape} is not {then.shape}"
        assert differing(now, then) < 1e-4, f"{what}: the picture differs"


def assert_same_outputs(actual, expected):
    """Compare two runs of a cell: kinds of output, text, pictures and their alt text."""
    kinds = [[o.output_type for o in cell.outputs] for cell in (actual, expected)]
    assert kinds[0] == kinds[1], f"cell {expected.id}: other outputs"
    if "varies" in expected.metadata.get("tags", []):
        return
    now, then = text_of(actual), text_of(expected)
    assert TINY.sub("~", now) == TINY.sub("~", then), f"cell {expected.id}: other text"
    for a, b in zip(TINY.findall(now), TINY.findall(then), strict=True):
        assert float(b) / 30 < float(a) < float(b) * 30, (
            f"cell {expected.id}: {a}, not {b}"
        )
    for now, then in zip(pictures_of(actual), pictures_of(expected), strict=True):
        assert_same_picture(now, then, f"cell {expected.id}")
    for now, then in zip(actual.outputs, expected.outputs, strict=True):
        assert now.get("metadata") == then.get("metadata")


def test_committed_counts_run_from_one(committed):
    counts = [cell.execution_count for cell in code_cells(committed)]
    assert counts == list(range(1, len(counts) + 1))


@pytest.mark.parametrize("cell_id", CELL_IDS)
def test_fresh_run_gives_the_committed_outputs(fresh, committed, cell_id):
    actual = next(c for c in fresh.notebook.cells if c.id == cell_id)
    expected = next(c for c in committed.cells if c.id == cell_id)
    assert_same_outputs(actual, expected)


def test_no_error_and_no_stderr_anywhere(fresh, committed):
    for cell in code_cells(fresh.notebook) + code_cells(committed):
        for output in cell.outputs:
            assert output.output_type != "error", cell.id
            assert output.get("name") != "stderr", f"{cell.id}: {output.get('text')}"


def frames(picture):
    """Every frame of a GIF or PNG file as an int array."""
    with Image.open(picture) as image:
        return [
            np.asarray(frame.convert("RGB")).astype(int)
            for frame in ImageSequence.Iterator(image)
        ]


def test_run_leaves_nothing_but_the_committed_plots(fresh, committed):
    plots = {p.relative_to(ROOT) for p in (ROOT / "plots").iterdir()}
    files = {
        p.relative_to(fresh.folder) for p in fresh.folder.rglob("*") if p.is_file()
    }
    assert files == plots | {pathlib.Path(NOTEBOOK.name)}
    for plot in plots:
        if plot.suffix == ".png":
            now, then = ((f / plot).read_bytes() for f in (fresh.folder, ROOT))
            assert_same_picture(now, then, plot)
        elif drawn_by(committed) == matplotlib.__version__:
            pairs = zip(frames(fresh.folder / plot), frames(ROOT / plot), strict=True)
            # A GIF's palette spreads small differences; a line that moves is 0.004 or more.
            assert np.mean([differing(now, then) for now, then in pairs]) < 2e-3, plot


def drawn_by(committed):
    """The Matplotlib version that drew the committed notebook's figures."""
    return pixels(next(p for c in code_cells(committed) for p in pictures_of(c)))[1]


def test_cells_can_be_run_again(tmp_path, committed):
    """Each cell twice in a row, then all of them once more from the last to the first."""
    once = code_cells(read())
    cells = [copy.deepcopy(c) for cell in once for c in (cell, cell)]
    cells += [copy.deepcopy(cell) for cell in reversed(once)]
    ids = [cell.id for cell in cells]
    for number, cell in enumerate(cells):
        cell.id = f"c{number}"
    again = nbformat.v4.new_notebook(cells=cells, metadata=committed.metadata)
    execute(again, tmp_path)
    expected = {cell.id: cell for cell in code_cells(committed)}
    for cell, name in zip(again.cells, ids, strict=True):
        assert_same_outputs(cell, expected[name])


def test_notebook_is_lean_and_well_formed(committed):
    nbformat.validate(committed)
    assert NOTEBOOK.stat().st_size < 2_000_000
    assert set(committed.metadata) == {"kernelspec", "language_info"}
    assert "version" not in committed.metadata.language_info
    for cell in committed.cells:
        assert re.fullmatch(r"[a-z][a-z0-9-]{1,40}", cell.id)
        assert set(cell.metadata) <= {"tags"}


def test_every_figure_has_alt_text(committed):
    for cell in code_cells(committed):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                alt = output.metadata.get("image/png", {}).get("alt", "")
                assert len(alt.split()) >= 6, cell.id


def test_cells_are_small_and_the_core_loop_smaller(committed):
    for cell in code_cells(committed):
        lines = [line for line in cell.source.splitlines() if line.strip()]
        assert len(lines) <= 25, f"{cell.id} has {len(lines)} lines"
    for node in ast.parse(definitions(committed)).body:
        if getattr(node, "name", "") in ("train_step", "train"):
            node.body = node.body[1:]  # without the docstring
            assert len(ast.unparse(node).splitlines()) <= 12, node.name


def test_prose_does_not_belittle(committed):
    weak = r"\b(just|simply|simple|obviously|obvious|easily|easy|clearly|of course)\b"
    for cell in committed.cells:
        if cell.cell_type == "markdown":
            assert not re.search(weak, cell.source, re.IGNORECASE), cell.id


def test_map_links_lead_to_headings(committed):
    headings = set()
    for cell in committed.cells:
        if cell.cell_type == "markdown":
            for title in re.findall(r"^#+ (.+)$", cell.source, re.MULTILINE):
                headings.add(title.strip().replace(" ", "-"))
    for cell in committed.cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\(#([^)]+)\)", cell.source):
                assert target in headings, f"{cell.id}: no heading for #{target}"


def test_planted_numbers_are_the_readers_to_change(tmp_path):
    """More rows, other noise: nothing breaks, no warning; the timings are left out."""
    notebook = read()
    (cell,) = [c for c in notebook.cells if c.id == "data-make"]
    assert cell.source.startswith("N, TRUE_SLOPE, TRUE_INTERCEPT, NOISE_SD = 200, 2.5")
    cell.source = cell.source.replace(
        "= 200, 2.5, 10.0, 10.0", "= 1000, -3.0, 40.0, 5.0"
    )
    for c in code_cells(notebook):
        if c.id in ("race", "race-figure", "animation-make"):
            c.source = ""
    execute(notebook, tmp_path)
    assert not [c.id for c in code_cells(notebook) if "stderr" in text_of(c)]
