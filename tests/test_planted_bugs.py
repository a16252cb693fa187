"""Changes to copies of the notebook: planted bugs must be noticed, parts and other numbers must work.

A bug in a function is shown to a test of that function; one in the flow of the notebook is run, up
to a cell whose assertion or committed output must object.
"""

import pytest

import test_functions as functions
from notebook_runner import code_cells, execute, read, text_of
from notebook_runner import functions as functions_of
from test_execution import CELLS

MSE = (functions.test_mse_is_numpys, (3, 1))
PATH = (functions.test_train_history_is_numpys, "float64", 1e-6, 1)
LINE, LIMIT = (functions.test_fit_line_is_least_squares, "Anscombe"), (functions.test_stable_limit,)
OTHERS = (functions.test_train_step_takes_other_losses_models_and_optimizers,)
REFUSES = functions.test_fit_line_refuses

# name: the cell, the right code, the bug, the test that must fail with its arguments
IN_FUNCTIONS = {
    "loss: comma for minus": ("loss", "(y_pred - y_true)", "(y_pred, y_true)", *MSE),
    "loss: sum for mean": ("loss", "tf.reduce_mean(", "tf.reduce_sum(", *MSE),
    "loss: shapes not compared": ("loss", "if y_true.shape != y_pred.shape:", "if False:", functions.test_mse_refuses_shapes_that_broadcast, functions.COLUMN[:1]),
    "step: uphill": ("train-step", "tape.gradient(loss, variables)", "[-g for g in tape.gradient(loss, variables)]", functions.test_train_step_follows_finite_differences),
    "step: another model ignored": ("train-step", "model(X, *variables)  #", "predict(X, *variables)  #", *OTHERS),
    "step: another loss ignored": ("train-step", "loss = loss_fn(y, y_pred)", "loss = mse(y, y_pred)", *OTHERS),
    "loop: momentum switched on": ("train-loop", "SGD(float(learning_rate))", "SGD(float(learning_rate), 0.9)", *PATH),
    "loop: one update too few": ("train-loop", "in range(epochs)", "in range(epochs - 1)", *PATH),
    "loop: variables not at zero": ("variables", "tf.zeros((n_features, 1), dtype)", "tf.ones((n_features, 1), dtype)", functions.test_init_variables_and_predict),
    "history: last loss stale": ("train-loop", "last = loss_fn(y, predict(X, W, b))", "last = loss", *PATH),
    "history: W shifted by one": ("train-loop", '"W": [W.numpy().squeeze()], "b"', '"W": [], "b"', *PATH),
    "conversion: intercept forgets the mean": ("recover", "np.sum(slopes * mean)", "np.sum(slopes)", *LINE),
    "conversion: slope multiplied": ("recover", "np.ravel(W) / std", "np.ravel(W) * std", *LINE),
    "conversion: the level of y forgotten": ("fit-line", "b + level, mean", "b, mean", *LINE),
    "check: constant let in": ("check-line", "if np.ptp(X) <= 1e-12 * abs(X).max() or np.ptp(X) < 1e-100:", "if False:", REFUSES, "constant"),
    "check: nan let in": ("column", "if not abs(value) < 1e100:", "if abs(value) >= 1e100:", REFUSES, "nan"),
    "check: text let in": ("column", "if not isinstance(value, Real):", "if False:", REFUSES, "text"),
    "check: two features let in": ("column", "or cells.size != len(cells)", "or False", REFUSES, "features"),
    "check: lengths not compared": ("check-line", "len(X) != len(y) or len(X) < 2", "len(X) < 2", REFUSES, "lengths"),
    "check: half-way let in": ("check-line", "> 1e-3:", "> 1:", functions.test_rates_and_epochs_that_cannot_arrive, 30, 0.1),
    "check: divergence not seen": ("finite", "if not np.isfinite(loss):", "if np.isnan(loss):", functions.test_divergence_names_rate_update_and_the_two_cures, "train"),
    "limit: the other eigenvalue": ("rate-hessian", "@ A)[-1]", "@ A)[0]", *LIMIT),
    "limit: no intercept": ("rate-hessian", "[X, np.ones(len(X))]", "[X]", *LIMIT),
}  # fmt: skip

# name: the cell, the right code, the bug, the cell by which it must have been noticed
IN_THE_RUN = {
    "data: less noise than it says": ("data-make", "normal(0, NOISE_SD", "normal(0, 1", "recover"),
    "split: test rows among the training rows": ("data-split", "y_train, y_test", "X_test = X_train[:40]\ny_train, y_test", "test-rows"),
    "split: y not taken with its x": ("data-split", "y[order]", "y", "recover"),
    "split: not shuffled": ("data-split", "permutation(N)", "choice(N, N)", "normalize"),
    "normalization: sample deviation": ("normalize", "X_train.std(axis=0)", "X_train.std(axis=0, ddof=1)", "recover"),
    "normalization: test rows by their own mean": ("normalize", "(X_test - x_mean)", "(X_test - X_test.mean())", "test-rows"),
    "normalization: forgotten": ("train-run", "train(X_train_norm, y_train,", "train(X_train, y_train,", "train-run"),
}  # fmt: skip


def planted(cell_id, right, bug):
    """A copy of the notebook in which `right`, found once in the cell, is `bug`."""
    notebook = read()
    cell = next(c for c in notebook.cells if c.id == cell_id)
    assert cell.source.count(right) == 1, f"{cell_id} has changed: plant the bug anew"
    cell.source = cell.source.replace(right, bug)
    return notebook


@pytest.mark.parametrize("name", IN_FUNCTIONS)
@pytest.mark.filterwarnings("ignore")
def test_bug_in_a_function_is_noticed(name):
    *where, test = IN_FUNCTIONS[name][:4]
    with pytest.raises(BaseException):  # noqa: B017 (any failure will do)
        test(functions_of(planted(*where)), *IN_FUNCTIONS[name][4:])


@pytest.mark.parametrize("name", IN_THE_RUN)
def test_bug_in_the_run_is_noticed(name, tmp_path, monkeypatch, capsys):
    """By an error or an assertion in a cell, or because a cell prints something else."""
    *where, until = IN_THE_RUN[name]
    cells = code_cells(planted(*where))
    last = [cell.id for cell in cells].index(until)
    names = {"__name__": "planted", "display": lambda *_, **__: None}
    monkeypatch.chdir(tmp_path)
    with pytest.raises((AssertionError, FloatingPointError)):
        for cell in cells[: last + 1]:
            exec(cell.source, names)  # noqa: S102
            said = [o.text for o in CELLS[cell.id].outputs if o.output_type == "stream"]
            assert capsys.readouterr().out == "".join(said)


TIMED = ("same-answer", "race-tables", "race-figure", "machines-say")
PLANTED = "N, TRUE_SLOPE, TRUE_INTERCEPT, NOISE_SD = 200, 2.5, 10.0, 10.0"
MINE = "N, TRUE_SLOPE, TRUE_INTERCEPT, NOISE_SD = 400, -3.0, 40.0, 5.0"


@pytest.mark.parametrize("first", ["part2", "part3", "part4"])
def test_parts_need_part_1_only_and_the_planted_numbers_are_yours(first, tmp_path):
    """But for the table of bugs, which borrows from Part 2; timings and workers left out."""
    end, numbers = {"part2": ("part4", MINE), "part3": ("bug-loop", PLANTED), "part4": ("part5", MINE)}[first]
    notebook = planted("data-make", PLANTED, numbers)
    at = [cell.id for cell in notebook.cells].index
    cells = notebook.cells[: at("part2")] + notebook.cells[at(first) : at(end)]
    notebook.cells = [cell for cell in cells if cell.id not in TIMED]
    execute(notebook, tmp_path)
    assert not [cell.id for cell in code_cells(notebook) if "stderr" in text_of(cell)]
    assert {path.name for path in tmp_path.iterdir()} == {"plots"}
