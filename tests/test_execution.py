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

from notebook_runner import DRAWN_BY, NOTEBOOK, ROOT, code_cells, pictures_of, pixels, read, text_of
from test_functions import least_squares, numpy_descent

CELLS = {cell.id: cell for cell in code_cells(read())}
# Whichever Matplotlib draws: title and labels of the last axes; number and mean height of all points.
FIGURES = {
    "data-figure": ("200 points scatter about the planted line", "x", "y", 202, 142.592),
    "loss-figure": ("The loss falls to about the noise floor", "updates", "MSE", 103, 794.853),
    "fit-figure": ("The loop learned y = 2.49 x + 9.57", "x", "y", 164, 138.189),
    "test-rows": ("Unseen rows: off by 10.0, the noise is 10", "actual y", "predicted y", 42, 145.622),
    "hubble": ("Farther nebulae recede faster: a slope 6.5 times today's", "distance (Mpc)", "velocity (km/s)", 28, 319.893),
    "your-data": ("Each kg adds 2.00 cm", "load (kg)", "length (cm)", 7, 11.6571),
    "path-figure": ("The measured losses lie on the predicted lines", "updates", "loss above its minimum", 246, 3458.36),
    "rate-figure": ("η = 1.05\ndiverging", "updates", "", 260, 141205),
    "normalize-surfaces": ("bowl, normalized x: b is off by 0%", "W", "b", 206, 66.7825),
    "noise-figure": ("95% of the slopes lie within two standard errors", "learned slope", "density", 202, 6.17374),
    "bug-figure": ("A falling loss misses 11 of 13 bugs", "", "", 0, 0),
    "huber-figure": ("Outliers in y drag the MSE, not Huber", "x", "y", 166, 146.169),
    "pinball-figure": ("Pinball: a band for 80% of the rows", "x", "y", 166, 136.531),
    "batches-run": ("One-row batches rattle, and a decaying rate calms them", "updates", "excess of the loss", 600, 6.03138),
    "mlp-figure": ("Where a line fails, train_step fits a curve", "x", "y", 1200, -0.0373805),
}  # fmt: skip


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
    for now, then in zip(pictures_of(actual), pictures_of(expected), strict=True):
        assert_same_picture(pixels(now), pixels(then), f"cell {expected.id}")
    for now, then in zip(actual.outputs, expected.outputs, strict=True):
        assert now.get("metadata") == then.get("metadata")


@pytest.mark.parametrize("cell_id", CELLS)
def test_every_run_gives_the_committed_outputs(run, cell_id):
    """In a fresh kernel; run twice in a row; and run again after all cells below it."""
    for cells in (run.first, run.second, run.back):
        if cell_id in cells:  # the slowest two run twice, the others three times
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
    assert shapes == {"X_train": [160, 1], "y_train": [160, 1], "X_test": [40, 1], "y_test": [40, 1]}
    assert set(run.state["dtypes"].values()) == {"float32"}
    assert run.state["variables"] == ["ResourceVariable", "ResourceVariable"]
    assert run.state["one_function"], "XLA's options no longer arrive"
    # The split loses no row, repeats none, keeps each y with its x, and shuffles.
    pairs = {
        part: list(zip(data["X" + part], data["y" + part], strict=True)) for part in ("", "_train", "_test")
    }
    whole, train, test = pairs.values()
    assert len(train + test) == 200 and set(train + test) == set(whole)
    assert train != whole[:160]
    # The data follow their recipe: 4 standard errors for 200 draws.
    x = np.array(data["X"])
    noise = np.subtract(data["y"], 2.5 * x + 10)
    assert 0 <= x.min() and x.max() <= 100 and abs(x.mean() - 50) < 8.2
    assert abs(noise.mean()) < 2.9 and abs(noise.std() - 10) < 2
    x = np.array(data["X_train"])
    slope, intercept = least_squares((x - x.mean()) / x.std(), data["y_train"])
    np.testing.assert_allclose(run.state["W"], [[slope]], rtol=1e-5)
    np.testing.assert_allclose(run.state["b"], [intercept], rtol=1e-5)


def test_changes_around_the_step_print_what_numpy_finds(run):
    """Between gradient and update: printed numbers against formulas, and against a clipped loop."""
    x, y = (np.array(run.state["data"][name])[:, None] for name in ("X_train", "y_train"))
    W, b = np.mean((x - x.mean()) / x.std() * y), y.mean()
    losses, *line = numpy_descent(x, y, 121, 0.1, longest=1)
    last, intercept = losses[60:-1], b - W * x.mean() / x.std()
    for cell_id, *expected in [
        ("accumulate", 0, 0, 0, 0, W / 5, W / 5, W / 5),
        ("clip", 0.1, min(last), max(last), line[0][-1], line[1][-1], intercept),
        ("penalize", 140, W, W, 0.5, W / 1.5, b, 1.5, W / 1.5),
        ("layer-penalty", W, b, W / 1.5, b),
        ("watched", 2 * np.hypot(W, b), 1.6 * np.hypot(W, b), 0.36 * W, 0.36 * W),
    ]:
        printed = re.findall(r"\d+\.?\d+", text_of(run.first[cell_id]))
        for text, number in zip(printed, expected, strict=True):  # to the last digit that is printed
            unit = 0.1 ** len(text.partition(".")[2])
            assert float(text) == pytest.approx(number, rel=5e-6, abs=0.6 * unit)


def frames(picture):
    """Every frame of a PNG or GIF file, as arrays."""
    with Image.open(picture) as image:
        return [np.asarray(f.convert("RGB")).astype(int) for f in ImageSequence.Iterator(image)]


def test_run_leaves_nothing_but_the_committed_plots(run):
    plots = {p.relative_to(ROOT) for p in (ROOT / "plots").iterdir()}
    files = {p.relative_to(run.folder) for p in run.folder.rglob("*") if p.is_file()}
    assert files == plots | {pathlib.Path(NOTEBOOK.name)}
    for plot in plots:
        for now, then in zip(frames(run.folder / plot), frames(ROOT / plot), strict=True):
            # A GIF's palette spreads small differences; a line that moves is 0.004 or more.
            assert_same_picture(now, then, plot, 1e-4 if plot.suffix == ".png" else 3e-3)


def test_every_figure_is_sharp_and_white_and_has_words():
    drawn = {cell_id: cell for cell_id, cell in CELLS.items() if pictures_of(cell)}
    assert set(drawn) == {*FIGURES, "race-figure"}
    outputs = [output for cell in drawn.values() for output in cell.outputs if "data" in output]
    pictures = [picture for cell in drawn.values() for picture in pictures_of(cell)]
    assert len(outputs) == len(pictures)
    saved = [path.read_bytes() for path in (ROOT / "plots").iterdir()]
    for output, picture in zip(outputs, pictures, strict=True):
        assert pixels(picture).shape[1] == 2 * output.metadata["image/png"]["width"]
    for picture in pictures + saved:
        image = np.asarray(Image.open(io.BytesIO(picture)).convert("RGBA"))
        assert image[..., 3].min() == 255
        assert (image[[0, 0, -1, -1], [0, -1, 0, -1], :3] == 255).all()
    alts = [output.metadata["image/png"]["alt"] for output in outputs]
    (page,) = [o.data["text/html"] for o in CELLS["explorer-show"].outputs]
    alts += re.findall(r'<img[^>]+alt="([^"]+)"', page)
    assert len(alts) == len(set(alts)) == len(drawn) + 1
    assert all(6 <= len(alt.split()) <= 40 for alt in alts)


def test_lines_and_points_stand_out_from_white():
    """The contrast of WCAG 2.1, from its relative luminance, is 3 or more."""
    for color in re.findall(r"#[0-9a-f]{6}", str([cell.source for cell in CELLS.values()])):
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


def test_cells_are_small_and_the_core_loop_smaller():
    sizes = {cell_id: len(re.findall(r"^.*\S", cell.source, re.MULTILINE)) for cell_id, cell in CELLS.items()}
    assert sizes.pop("explorer-page") <= 45 and max(sizes.values()) <= 22
    assert sum(sizes.values()) + 45 <= 1100 and np.median(list(sizes.values())) <= 10
    part_1 = list(sizes)[: list(sizes).index("gradient-compare")]
    before = {name: sum(list(sizes.values())[: part_1.index(name)]) for name in ("data-make", "train-step")}
    assert sum(sizes[name] for name in part_1) <= 200
    assert before["data-make"] <= 22 and before["train-step"] <= 80
    for name in ("train-step", "train-loop"):
        function = ast.parse(CELLS[name].source).body[0]
        function.body = function.body[1:]  # without the docstring
        assert len(ast.unparse(function).splitlines()) <= 12, name
