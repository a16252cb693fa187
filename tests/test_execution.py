"""The committed notebook is what a fresh kernel makes of it, in any order of re-runs."""

import ast
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
    pictures_of,
    pixels,
    read,
    text_of,
)
from PIL import Image, ImageSequence
from test_functions import least_squares

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
def test_every_run_gives_the_committed_outputs(run, committed, cell_id):
    """In a fresh kernel; run twice in a row; and run again after all cells below it."""
    expected = next(c for c in committed.cells if c.id == cell_id)
    for cells in (run.first, run.second, run.back):
        assert_same_outputs(cells[cell_id], expected)


def test_no_error_and_no_stderr_anywhere(run, committed):
    cells = [*run.first.values(), *run.second.values(), *run.back.values()]
    for cell in cells + code_cells(committed):
        for output in cell.outputs:
            assert output.output_type != "error", cell.id
            assert output.get("name") != "stderr", f"{cell.id}: {output.get('text')}"


def test_state_of_the_notebook(run):
    shapes, data = run.state["shapes"], run.state["data"]
    assert shapes["X_train"] == shapes["y_train"] == [160, 1]
    assert shapes["X_test"] == shapes["y_test"] == [40, 1]
    assert set(run.state["dtypes"].values()) == {"float32"}
    assert run.state["variables"] == ["ResourceVariable", "ResourceVariable"]
    # The split loses no row, repeats none, keeps each y with its x, and shuffles.
    rows = set(zip(data["X"], data["y"], strict=True))
    both = [
        row
        for part in ("train", "test")
        for row in zip(data[f"X_{part}"], data[f"y_{part}"], strict=True)
    ]
    assert len(both) == 200 and set(both) == rows
    assert data["X_train"] != data["X"][:160]
    # The data follow their recipe: 4 standard errors for 200 draws.
    x, noise = (
        np.array(data["X"]),
        np.subtract(data["y"], 2.5 * np.array(data["X"]) + 10),
    )
    assert 0 <= x.min() and x.max() <= 100 and abs(x.mean() - 50) < 8.2
    assert abs(noise.mean()) < 2.9 and abs(noise.std() - 10) < 2
    # W and b are the least-squares answer for training rows normalized by their own.
    x = np.array(data["X_train"])
    slope, intercept = least_squares((x - x.mean()) / x.std(), data["y_train"])
    np.testing.assert_allclose(run.state["W"], [[slope]], rtol=1e-5)
    np.testing.assert_allclose(run.state["b"], [intercept], rtol=1e-5)


def frames(picture):
    """Every frame of a GIF or PNG file as an int array."""
    with Image.open(picture) as image:
        return [
            np.asarray(frame.convert("RGB")).astype(int)
            for frame in ImageSequence.Iterator(image)
        ]


def test_run_leaves_nothing_but_the_committed_plots(run, committed):
    plots = {p.relative_to(ROOT) for p in (ROOT / "plots").iterdir()}
    files = {p.relative_to(run.folder) for p in run.folder.rglob("*") if p.is_file()}
    assert files == plots | {pathlib.Path(NOTEBOOK.name)}
    for plot in plots:
        if plot.suffix == ".png":
            now, then = ((f / plot).read_bytes() for f in (run.folder, ROOT))
            assert_same_picture(now, then, plot)
        elif drawn_by(committed) == matplotlib.__version__:
            pairs = zip(frames(run.folder / plot), frames(ROOT / plot), strict=True)
            # A GIF's palette spreads small differences; a line that moves is 0.004 or more.
            assert np.mean([differing(now, then) for now, then in pairs]) < 2e-3, plot


def drawn_by(committed):
    """The Matplotlib version that drew the committed notebook's figures."""
    return pixels(next(p for c in code_cells(committed) for p in pictures_of(c)))[1]


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
        assert len(lines) <= 22 or cell.id == "explorer-page", (
            f"{cell.id} has {len(lines)} lines"
        )
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
