"""What Parts 2 and 3 print is what theory and the installed TensorFlow say."""

import re

import numpy as np
import pytest
from notebook_runner import code_cells, execute, read, text_of
from test_functions import normalized

# cell: what it must print, as regular expressions, on every supported TensorFlow
FAILURES = {
    "fail-outside": [r"gradients: \[None, None\]", "ValueError: No gradients provided"],
    "fail-constant": ["tensor: +None", r"watched tensor: (-148\.24)\nvariable: +\1"],
    "fail-rebind": [
        r"step 1: .*True, gradient -148\.24",
        "step 2: .*False.* None",
        "TypeError",
    ],
    "fail-numpy": ["loss 25659", "AttributeError: .*_id", "again: gradient None"],
    "fail-raw": [r"loss: 2\.6e\+04 4\.2e\+21 inf .*nan"],
    "fail-sum": ["5 rows.* ends at", "160 rows.* diverged", "the path of the mean"],
    "fail-constant-feature": ["first loss nan", "ValueError: feature 1 is constant"],
    "fail-float": [
        "float32 without",
        r"InvalidArgumentError: .*double\s.*float",
        "cast: float32",
    ],
    "fail-optimizer": ["(KeyError|ValueError): .*[Uu]nknown variable"],
    "fail-pairs": [
        "TypeError:",
        "AttributeError:",
        "moved by 28.33.*have moved by 14.82",
    ],
    "fail-names": [r"(.+ (AttributeError|ValueError): .+\n){8}"],
    "fail-shapes": [
        r"\(160, 160\)",
        r"b = (141\.63), the mean of y is \1; W is 0: True",
    ],
    "fail-comma": [
        "0 updates: loss 800",
        "100 updates: loss +0.000",
        "W = 0.00000, b = 0.0",
    ],
    "fail-sign": [
        r"_sub.*-> 106",
        r"_add.*e\+13",
        r"n\(.*1.79e.04, W = 12.4, b = 23.6",
    ],
    "fail-test-stats": [r"training.* 8\.\d", r"its own.* 10\d\."],
    "fail-keras-model": [
        "False: 0 trainable.* 25659, 25659, 25659",
        "not have any trainable weights",
        "True .* 23681",
    ],
    "fail-early": [
        "25659 -> 113, last change -0.5%",
        "still -4.8",
        "slope 2.447, .* 2.489",
    ],
}


@pytest.mark.parametrize("cell_id", FAILURES)
def test_failure_fails_in_the_stated_way(fresh, cell_id):
    cell = next(c for c in fresh.notebook.cells if c.id == cell_id)
    for pattern in FAILURES[cell_id]:
        assert re.search(pattern, text_of(cell)), pattern


def test_every_failure_is_numbered_explained_and_listed(committed):
    gallery = [c.id for c in code_cells(committed) if c.id.startswith("fail-")]
    assert sorted(gallery) == sorted(FAILURES)
    prose = "\n".join(c.source for c in committed.cells if c.cell_type == "markdown")
    prose = prose.split("## Part 3: ")[1].split("\n## Part 4")[0]
    numbers = re.findall(r"^#### (\d+)\. ", prose, re.MULTILINE)
    assert numbers == [str(i + 1) for i in range(len(gallery))]
    for word in ("See", "Cause", "Cure"):
        assert prose.count(f"- **{word}:** ") == len(gallery)
    table = prose.split("### What you see, and where to look")[1]
    assert set(re.findall(r"\[(\d+)\]\(#", table)) == set(numbers)


def test_an_old_failure_that_is_cured_is_noticed(nb):
    with pytest.raises(AssertionError, match="no longer does"):
        nb.caught(lambda: None)


def test_bug_table_counts_are_those_of_the_prose(fresh, committed):
    cell = next(c for c in fresh.notebook.cells if c.id == "bug-figure")
    bugs = int(re.search(r"(\d+) bugs", text_of(cell))[1])
    missed = int(re.search(r"'loss falls': (\d+)", text_of(cell))[1])
    words = {9: "nine", 10: "ten", 11: "eleven", 12: "twelve", 13: "thirteen"}
    reading = next(c for c in committed.cells if c.id == "bug-reading").source
    assert f"{words[missed]} of {words[bugs]}" in reading.lower()
    assert 0 < missed < bugs


def test_gradient_routes(nb):
    X, y = normalized(k=3)
    W, b = nb.init_variables(3, "float64")
    W.assign([[1.0], [-2.0], [0.5]])
    b.assign([4.0])
    error = X @ W.numpy() + 4 - y
    expected = [2 / len(X) * X.T @ error, [2 * error.mean()]]
    for route, rtol in [(nb.tape_gradient, 1e-12), (nb.central_differences, 1e-7)]:
        for ours, theory in zip(route(X, y, [W, b]), expected, strict=True):
            np.testing.assert_allclose(ours, theory, rtol=rtol)
    assert W.numpy().tolist() == [[1.0], [-2.0], [0.5]]


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5, 0.9, 1.0, 1.05])
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-5), ("float32", 1e-4)])
def test_the_predicted_path(nb, rate, dtype, rtol):
    X, y = normalized(dtype=dtype)
    *_, history = nb.train(X, y, epochs=30, learning_rate=rate)
    A = np.column_stack([X, np.ones(len(X))]).astype("float64")
    best = np.linalg.lstsq(A, y.ravel().astype("float64"), rcond=None)[1][0] / len(X)
    start = np.mean(y.astype("float64") ** 2)
    theory = best + (1 - 2 * rate) ** (2 * np.arange(31)) * (start - best)
    np.testing.assert_allclose(history["loss"], theory, rtol=rtol)


@pytest.mark.filterwarnings("ignore:the last loss lies above")
@pytest.mark.parametrize("k", [1, 3])
def test_the_stable_limit_separates(nb, k):
    X, y = normalized(k=k)
    X = 5 * X + np.arange(k)
    limit = nb.stable_limit(X)
    for share, falls in [(0.99, True), (1.02, False)]:
        *_, history = nb.train(X, y, epochs=400, learning_rate=share * limit)
        assert (history["loss"][-1] < history["loss"][0]) is falls


def test_some_constants_normalize_to_one_instead_of_nan():
    """What failure 7 says of rounding: a constant column that is not caught by nan."""
    with np.errstate(invalid="ignore"):
        columns = [
            np.full((160, 1), c, "float32") for c in (7, 0.1, 0.3, 1.1, 3.3, 100.7)
        ]
        ratios = [((c - c.mean()) / c.std())[0, 0] for c in columns]
    assert np.isnan(ratios[0])
    assert any(abs(abs(ratio) - 1) < 0.01 for ratio in ratios[1:])


def test_loss_surface(nb):
    X, y = normalized()
    surface = nb.loss_surface(X, y, [0.0, 2.0, 3.0], [1.0, -4.0])
    assert surface.shape == (2, 3)
    expected = np.mean((3.0 * X - 4.0 - y) ** 2)
    np.testing.assert_allclose(surface[1, 2], expected)


def test_noise_theory_in_prose(committed):
    prose = next(c for c in committed.cells if c.id == "noise").source
    assert f"{100 * (1 - 2 / 160):.2f}" in prose


def test_the_gallery_needs_part_1_only(tmp_path):
    notebook = read()
    ids = [cell.id for cell in notebook.cells]
    one, gallery = (
        ids.index("part2"),
        slice(ids.index("part3"), ids.index("bug-runner")),
    )
    notebook.cells = notebook.cells[:one] + notebook.cells[gallery]
    execute(notebook, tmp_path)


# Numbers in prose that no cell prints, and where each comes from.
EXPLAINED = {
    "2015": "the year of the paper on Adam",
    "1929": "the year of Hubble's paper",
    "3.26": "light years in a parsec",
    "0.8": "1 - 2 * 0.1",
    "1.2": "1 + 2 * 0.1",
    "10,000": "1 / (2 * 6.3e-5), the odds of four standard errors",
    "2.5": "planted",
    "0.1": "a learning rate",
    "0.5": "a learning rate",
    "0.25": "half a step, 1 - 2 * 0.25",
    "100": "updates, or sigma squared",
    "200": "rows",
    "400": "repeated data sets",
    "160": "training rows",
}


def test_numbers_in_prose_are_printed_or_explained(committed):
    printed = " ".join(text_of(c) + c.source for c in code_cells(committed))
    values = {float(n.replace(",", "")) for n in re.findall(r"\d[\d,]*\.?\d*", printed)}
    for cell in committed.cells:
        if cell.cell_type != "markdown" or cell.id in ("map", "opening"):
            continue
        prose = re.sub(
            r"\]\([^)]*\)|\$\$.+?\$\$|\$.+?\$|`[^`]*`",
            " ",
            cell.source,
            flags=re.DOTALL,
        )
        for number in re.findall(
            r"(?<![\w.·])\d+[.,]\d+(?:\.\d+)?|(?<![\w.])\d{3,}", prose
        ):
            digits = len(number.partition(".")[2])
            value = float(number.replace(",", ""))
            assert number in EXPLAINED or any(
                round(v, digits) == value for v in values
            ), f"{cell.id}: {number} is not printed by any cell"
