"""Changes to copies of the notebook: planted bugs must be noticed, parts and other numbers must work.

A bug in a function is shown to a test of that function. One in the flow of the notebook is run, up
to a cell whose assertion or committed output must object.
"""

import pytest

import test_loop
import test_own_data
from notebook_runner import code_cells, execute, printed, python_of, read, text_of
from notebook_runner import functions as functions_of

CELLS = {cell.id: cell for cell in code_cells(read())}


def mse(nb):
    test_loop.test_mse_is_numpys(nb, (3, 1))


def shapes(nb):
    test_loop.test_mse_refuses_shapes_that_broadcast(nb, test_loop.COLUMN[:1])


def history(nb):
    test_loop.test_train_history_is_numpys(nb, "float64", 1e-6, 1)


def line(nb):
    test_own_data.test_fit_line_is_least_squares(nb, "Anscombe")


STEP = test_loop.test_train_step_follows_finite_differences
STOPS = test_loop.test_train_stops_before_a_thousandfold_loss_or_at_the_first_that_is_not_finite
LIMIT = test_loop.test_stable_limit

# what goes wrong: the cell, the right code, the bug, the test that must fail
IN_FUNCTIONS = {
    "loss: comma for minus": ("loss", "(y_pred - y_true)", "(y_pred, y_true)", mse),
    "loss: sum for mean": ("loss", "tf.reduce_mean(", "tf.reduce_sum(", mse),
    "loss: shapes not compared": ("loss", "if y_true.shape != y_pred.shape:", "if False:", shapes),
    "predict: no intercept": ("predict", "return X @ W + b", "return X @ W", STEP),
    "step: uphill": ("train-step", "apply(gradients,", "apply([-g for g in gradients],", STEP),
    "step: loss of other rows": ("train-step", "mse(y, predict", "mse(y[::-1], predict", STEP),
    "loop: momentum": ("train-loop", "(learning_rate))", "(learning_rate), 0.9)", history),
    "loop: an update too few": ("train-loop", "if t < epochs:", "if t < epochs - 1:", history),
    "loop: not from zero": ("train-loop", "tf.zeros(1,", "tf.ones(1,", history),
    "history: one too short": ("train-loop", "range(epochs + 1)", "range(epochs)", history),
    "history: squares of W": ("train-loop", "W.numpy().squeeze()", "W.numpy() ** 2", history),
    "stop: divergence not seen": ("train-loop", "loss > 1000 *", "loss > 1e30 *", STOPS),
    "stop: nan not seen": ("train-loop", "not np.isfinite(loss) or", "np.isinf(loss) or", STOPS),
    "units: mean forgotten": ("to-original", "np.sum(slopes * mean)", "np.sum(slopes)", line),
    "units: slope multiplied": ("to-original", "np.ravel(W) / std", "np.ravel(W) * std", line),
    "limit: the other eigenvalue": ("stable-limit", "(hessian)[-1]", "(hessian)[0]", LIMIT),
    "limit: no intercept": ("stable-limit", "[X, np.ones(len(X))]", "[X]", LIMIT),
}

# what goes wrong: the cell, the right code, the bug, the cell by which it must have been noticed
IN_THE_RUN = {
    "data: less noise than it says": ("data-make", "normal(0, NOISE_SD", "normal(0, 1", "recover"),
    "split: test rows in training": (
        "data-split",
        "order[:-40]",
        "order[-160:]",
        "fit-figure",
    ),
    "split: y not with its x": ("data-split", "y_all[train_rows]", "y_all[:160]", "recover"),
    "split: not shuffled": ("data-split", "permutation(N)", "choice(N, N)", "normalize"),
    "x: sample deviation": ("normalize", "std(axis=0)", "std(0, ddof=1)", "recover"),
    "x: test rows by their own": (
        "normalize",
        "(X_test - x_mean)",
        "(X_test - 50)",
        "fit-figure",
    ),
    "step: b by the new W": (
        "train-step",
        "optimizer.apply(gradients, variables)",
        (
            "W.assign_sub(tf.cast(optimizer.learning_rate, W.dtype) * gradients[0]); "
            "b.assign_sub(2 * tf.cast(optimizer.learning_rate, b.dtype)"
            " * tf.reduce_mean(predict(X, W, b) - y, axis=0))"
        ),
        "gradient-formula",
    ),
    "x: not normalized": ("train-run", "train(X_train_norm", "train(X_train", "train-run"),
}


def planted(cell_id, right, bug):
    """A copy of the notebook in which `right` is `bug`, at its first place in the cell."""
    notebook = read()
    cell = next(c for c in notebook.cells if c.id == cell_id)
    assert right in cell.source, f"{cell_id} has changed: plant the bug anew"
    cell.source = cell.source.replace(right, bug, 1)
    return notebook


@pytest.mark.parametrize("name", IN_FUNCTIONS)
@pytest.mark.filterwarnings("ignore")
def test_bug_in_a_function_is_noticed(name):
    """Of Part 1 and 2: the functions that Part 4 writes once more are tested for themselves."""
    cell_id, right, bug, test = IN_FUNCTIONS[name]
    before = "part2" if test in (STEP, STOPS, history) else None
    with pytest.raises(BaseException):  # noqa: B017 (any failure will do)
        test(functions_of(planted(cell_id, right, bug), before))


@pytest.mark.parametrize("name", IN_THE_RUN)
def test_bug_in_the_run_is_noticed(name, tmp_path, monkeypatch, capsys):
    """By an error or an assertion in a cell, or because a cell prints something else."""
    cell_id, right, bug, until = IN_THE_RUN[name]
    cells = code_cells(planted(cell_id, right, bug))
    last = [cell.id for cell in cells].index(until)
    names = {"__name__": "planted", "display": lambda *_, **__: None}
    monkeypatch.chdir(tmp_path)
    with pytest.raises((AssertionError, FloatingPointError)):
        for cell in cells[: last + 1]:
            exec(python_of(cell), names)  # noqa: S102
            assert capsys.readouterr().out == printed(CELLS[cell.id])


PLANTED = "N, TRUE_SLOPE, TRUE_INTERCEPT, NOISE_SD = 200, 2.5, 10.0, 10.0"
MINE = "N, TRUE_SLOPE, TRUE_INTERCEPT, NOISE_SD = 400, -3.0, 40.0, 5.0"


@pytest.mark.parametrize("part", ["part1", "part2"])
def test_the_planted_numbers_are_yours(part, tmp_path):
    """Parts 1 and 2 run with other numbers in place of the four planted ones."""
    notebook = planted("data-make", PLANTED, MINE)
    at = [cell.id for cell in notebook.cells].index
    notebook.cells = notebook.cells[: at({"part1": "part2", "part2": "part3"}[part])]
    execute(notebook, tmp_path)
    assert not [cell.id for cell in code_cells(notebook) if "stderr" in text_of(cell)]
    saved = set() if part == "part1" else {"plots"}
    assert {path.name for path in tmp_path.iterdir()} == saved
