"""The committed notebook is what a fresh kernel makes of it, in any order of re-runs."""

import ast
import io
import pathlib
import re

import matplotlib
import nbformat
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image, ImageSequence

from notebook_runner import (
    DRAWN_BY,
    NOTEBOOK,
    ROOT,
    code_cells,
    pictures_of,
    pixels,
    python_of,
    read,
    text_of,
)
from test_loop import least_squares

CELLS = {cell.id: cell for cell in code_cells(read())}
# Whichever Matplotlib draws: title and labels of the last axes, number and mean height of all points.
FIGURES = {
    "loop-figure": ("Twenty updates bring the line close to the best one", "x", "y", 15, 1.0),
    "loss-figure": ("W and b arrive together", "updates", "", 309, 333.386),
    "fit-figure": ("New rows: off by 10.0", "actual y", "predicted y", 206, 139.705),
    "hubble": (
        *("A line 6.5 times as steep as today's", "distance (Mpc)", "velocity (km/s)"),
        *(28, 319.893),
    ),
    "missing-figure": (
        "Two gaps written as −200 lie far from all other points",
        *("CO (mg/m³)", "benzene (µg/m³)", 12, -5.59167),
    ),
    "path-figure": (
        *("The measured losses lie on the predicted lines", "updates", "loss above its minimum"),
        *(310, 296205.5),
    ),
    "normalize-surfaces": ("normalized x, a bowl: b is off by 0%", "W", "b", 206, 66.7825),
    "noise-figure": (
        *("95% of the slopes lie within two standard errors", "learned slope", "density"),
        *(202, 6.17374),
    ),
    "bugs-figure": (
        *("A falling loss misses 16 of 21 bugs, the questions miss 0", "question", "bug"),
        *(2, 0.5),
    ),
    "huber-figure": ("Bad rows drag the MSE's line more than Huber's", "x", "y", 166, 146.169),
    "pinball-figure": ("Three pinball lines: a band for 80% of the rows", "x", "y", 166, 136.531),
    "pulls-figure": (
        *("The spoiled row pulls 3 times as hard as any other", "x", "pull on W"),
        *(163, 0.0106282),
    ),
    "batches-run": (
        "Single rows rattle, and a shrinking rate calms them",
        *("updates", "excess over the minimum", 600, 6.03138),
    ),
    "mlp-figure": ("Where a line fails, train_step fits a curve", "x", "y", 1200, -0.0373805),
}


def assert_same_picture(now, then, what, share=1e-4):
    """Compare decoded pixels, where the very same Matplotlib drew both: few may differ visibly."""
    assert now.shape == then.shape, f"{what}: another size"
    if matplotlib.__version__ == DRAWN_BY:  # a rounded-off contour line moves a few pixels
        assert (np.abs(now - then).max(axis=-1) > 3).mean() < share, f"{what}: the picture differs"


def assert_same_outputs(actual, expected):
    """Compare two runs of a cell: kinds of output, text, pictures and their alt text."""
    kinds = [[o.output_type for o in cell.outputs] for cell in (actual, expected)]
    assert kinds[0] == kinds[1], f"cell {expected.id}: other outputs"
    if "varies" in expected.metadata.get("tags", []):
        return
    assert text_of(actual) == text_of(expected), f"cell {expected.id}: other text"
    if matplotlib.__version__ != DRAWN_BY:
        return
    for now, then in zip(pictures_of(actual), pictures_of(expected), strict=True):
        assert_same_picture(pixels(now), pixels(then), f"cell {expected.id}")
    for now, then in zip(actual.outputs, expected.outputs, strict=True):
        assert now.get("metadata") == then.get("metadata")


@pytest.mark.parametrize("cell_id", CELLS)
def test_every_run_gives_the_committed_outputs(run, cell_id):
    """In a fresh kernel; run twice in a row; and run again after all cells below it."""
    for cells in (run.first, run.second, run.back):
        if cell_id in cells:  # the slowest run twice, the others three times
            assert_same_outputs(cells[cell_id], CELLS[cell_id])


@pytest.mark.parametrize("cell_id", FIGURES)
def test_figure_holds_what_it_should(run, cell_id):
    title, *words, points, height = FIGURES[cell_id]
    assert run.state["looks"][title][:3] == [*words, points]
    assert run.state["looks"][title][3] == pytest.approx(height, rel=1e-3)


def test_no_error_and_no_stderr_anywhere(run):
    for cells in (run.first, run.second, run.back, CELLS):
        for cell_id, cell in cells.items():
            for output in cell.outputs:
                assert output.output_type != "error", cell_id
                assert output.get("name") != "stderr", f"{cell_id}: {output.get('text')}"


def test_state_of_the_notebook(run):
    data, shapes = run.state["data"], run.state["shapes"]
    train_shape, test_shape = [160, 1], [40, 1]
    assert shapes == {
        "X_train": train_shape,
        "y_train": train_shape,
        "X_test": test_shape,
        "y_test": test_shape,
    }
    assert set(run.state["dtypes"].values()) == {"float32"}
    assert run.state["variables"] == ["ResourceVariable", "ResourceVariable"]
    # The split loses no row, repeats none, keeps each y with its x, and shuffles.
    whole, train, test = (
        list(zip(data["X" + part], data["y" + part], strict=True))
        for part in ("_all", "_train", "_test")
    )
    assert len(train + test) == 200 and set(train + test) == set(whole)
    assert train != whole[:160]
    # The data follow their recipe: 4 standard errors for 200 draws.
    x = np.array(data["X_all"])
    noise = np.subtract(data["y_all"], 2.5 * x + 10)
    assert 0 <= x.min() and x.max() <= 100 and abs(x.mean() - 50) < 8.2
    assert abs(noise.mean()) < 2.9 and abs(noise.std() - 10) < 2
    x = np.array(data["X_train"])
    slope, intercept = least_squares((x - x.mean()) / x.std(), data["y_train"])
    np.testing.assert_allclose(run.state["W"], [[slope]], rtol=1e-5)
    np.testing.assert_allclose(run.state["b"], [intercept], rtol=1e-5)


def frames(picture):
    """Every frame of a PNG or GIF file, as arrays."""
    with Image.open(picture) as image:
        shown = [frame.convert("RGB") for frame in ImageSequence.Iterator(image)]
    return [np.asarray(frame).astype(int) for frame in shown]


def test_run_leaves_nothing_but_the_committed_plots(run):
    plots = {p.relative_to(ROOT) for p in (ROOT / "plots").iterdir()}
    files = {p.relative_to(run.folder) for p in run.folder.rglob("*") if p.is_file()}
    assert files == plots | {pathlib.Path(NOTEBOOK.name)}
    if matplotlib.__version__ != DRAWN_BY:
        return
    for plot in plots:
        for now, then in zip(frames(run.folder / plot), frames(ROOT / plot), strict=True):
            # A GIF's palette spreads small differences; a line that moves is 0.004 or more.
            assert_same_picture(now, then, plot, 1e-4 if plot.suffix == ".png" else 3e-3)


def test_every_figure_is_sharp_and_white_and_has_words():
    drawn = {cell_id: cell for cell_id, cell in CELLS.items() if pictures_of(cell)}
    assert set(drawn) == set(FIGURES)
    outputs = [
        o for cell in drawn.values() for o in cell.outputs if "image/png" in o.get("data", {})
    ]
    pictures = [picture for cell in drawn.values() for picture in pictures_of(cell)]
    saved = [path.read_bytes() for path in (ROOT / "plots").iterdir()]
    for output, picture in zip(outputs, pictures, strict=True):
        width = output.metadata["image/png"]["width"]
        assert abs(pixels(picture).shape[1] - 2 * width) <= 1
    for picture in pictures + saved:
        image = np.asarray(Image.open(io.BytesIO(picture)).convert("RGBA"))
        assert image[..., 3].min() == 255
        assert (image[[0, 0, -1, -1], [0, -1, 0, -1], :3] == 255).all()
    alts = [output.metadata["image/png"]["alt"] for output in outputs]
    pages = [
        o.data.get("text/html", "") for cell in CELLS.values() for o in cell.outputs if "data" in o
    ]
    films = re.findall(r'<img[^>]+alt="([^"]+)"', "".join(pages))
    assert len(films) == 1
    assert len(alts) == len(set(alts)) == len(drawn)
    assert all(6 <= len(alt.split()) <= 40 for alt in alts + films)


def test_lines_and_points_stand_out_from_white():
    """The contrast of WCAG 2.1, from its relative luminance, is 3 or more."""
    for color in re.findall(r"#[0-9a-f]{6}\b", str([cell.source for cell in CELLS.values()])):
        if color == "#ffffff":
            continue
        parts = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
        assert 1.05 / (np.dot(parts, [0.2126, 0.7152, 0.0722]) + 0.05) >= 3, color


def test_notebook_is_lean_and_well_formed():
    committed = read()
    nbformat.validate(committed)
    assert [cell.execution_count for cell in CELLS.values()] == [i + 1 for i in range(len(CELLS))]
    assert NOTEBOOK.stat().st_size < 2_000_000
    assert set(committed.metadata) == {"kernelspec", "language_info"}
    assert "version" not in committed.metadata.language_info
    for cell in committed.cells:
        assert re.fullmatch(r"[a-z][a-z0-9-]{1,40}", cell.id)
        assert set(cell.metadata) <= {"tags"}


def lines_of(cell):
    """The lines of a code cell that are not blank."""
    return [line for line in cell.source.splitlines() if line.strip()]


def test_cells_are_small_and_the_loop_comes_soon():
    pages = [cell_id for cell_id, cell in CELLS.items() if cell.source.startswith("%%")]
    sizes = {
        cell_id: len(lines_of(cell)) for cell_id, cell in CELLS.items() if cell_id not in pages
    }
    assert max(sizes.values()) <= 22 and np.median(list(sizes.values())) <= 10
    wide = {cell_id for cell_id, cell in CELLS.items() for line in lines_of(cell) if len(line) > 88}
    assert not wide
    assert sizes["whole-loop"] <= 15
    assert list(CELLS).index("train-step") < 10
    (step,) = ast.parse(CELLS["train-step"].source).body
    assert [argument.arg for argument in step.args.args] == ["X", "y", "variables", "optimizer"]
    assert not step.args.defaults


def test_no_default_binds_a_function_of_another_cell():
    """Whoever edits `mse` and runs its cell must not go on with the old one."""
    defined = {
        node.name
        for cell in CELLS.values()
        for node in ast.parse(python_of(cell)).body
        if isinstance(node, ast.FunctionDef)
    }
    for cell in CELLS.values():
        for node in ast.walk(ast.parse(python_of(cell))):
            if isinstance(node, ast.FunctionDef | ast.Lambda):
                for default in [*node.args.defaults, *filter(None, node.args.kw_defaults)]:
                    names = {n.id for n in ast.walk(default) if isinstance(n, ast.Name)}
                    assert not names & defined, cell.id
