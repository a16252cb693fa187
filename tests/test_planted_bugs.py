"""Bugs planted into copies of the notebook's own cells: each must make something fail.

A bug in a function is shown to a test of that function; a bug in the flow of the notebook
is run, up to a cell whose assertion or committed output must object.
"""

import types

import pytest
import test_bad_input as bad
import test_functions as functions
from notebook_runner import code_cells, definitions, execute, read
from test_execution import assert_same_outputs

NAN = ([1, float("nan"), 3], [2, 4, 5], ValueError, "repair row 1 ")
CONSTANT = ([7, 7, 7], [2, 4, 5], ValueError, "constant")
ANSCOMBE = ("Anscombe",)
PATH = ("float64", 1e-6, 1)

# name: (cell, the right code, the bug, the test that must fail, its arguments)
IN_FUNCTIONS = {
    "loss: comma for minus": (
        "loss", "tf.square(y_pred - y_true)", "tf.square(y_pred, y_true)",
        functions.test_mse_is_numpys, ((3, 1),),
    ),
    "loss: sum for mean": (
        "loss", "tf.reduce_mean(", "tf.reduce_sum(",
        functions.test_mse_is_numpys, ((3, 1),),
    ),
    "loss: shapes not compared": (
        "loss", "if y_true.shape != y_pred.shape:", "if False:",
        bad.test_mse_refuses_shapes_that_broadcast, (),
    ),
    "loss: integers let in": (
        "loss", "if y_true.dtype != y_pred.dtype or not y_true.dtype.is_floating:",
        "if False:", bad.test_mse_refuses_integers, (),
    ),
    "step: uphill": (
        "train-step", "gradients = tape.gradient(loss, variables)",
        "gradients = [-g for g in tape.gradient(loss, variables)]",
        functions.test_train_step_follows_finite_differences, (),
    ),
    "step: another model ignored": (
        "train-step", "model(X, *variables)  #", "predict(X, *variables)  #",
        functions.test_train_step_takes_other_losses_models_and_optimizers, (),
    ),
    "step: another loss ignored": (
        "train-step", "loss = loss_fn(y, y_pred)", "loss = mse(y, y_pred)",
        functions.test_train_step_takes_other_losses_models_and_optimizers, (),
    ),
    "step: momentum switched on": (
        "train-loop", "SGD(float(learning_rate))", "SGD(float(learning_rate), 0.9)",
        functions.test_train_history_is_numpys, PATH,
    ),
    "loop: one update too few": (
        "train-loop", "in range(epochs)", "in range(epochs - 1)",
        functions.test_train_history_is_numpys, PATH,
    ),
    "loop: variables not new": (
        "variables", "W = tf.Variable(tf.zeros((n_features, 1), dtype))",
        "W = tf.Variable(tf.ones((n_features, 1), dtype))",
        functions.test_init_variables_and_predict, (),
    ),
    "history: last loss stale": (
        "train-loop", "finite(loss_fn(y, predict(X, W, b)), epochs, X, optimizer)",
        "finite(loss, epochs, X, optimizer)",
        functions.test_train_history_is_numpys, PATH,
    ),
    "history: W shifted by one": (
        "train-loop", '"W": [W.numpy().squeeze()], "b"', '"W": [], "b"',
        functions.test_train_history_is_numpys, PATH,
    ),
    "normalization: sample deviation": (
        "normalize", 'X.std(axis=0, dtype="float64")',
        'X.std(axis=0, ddof=1, dtype="float64")', functions.test_column_stats, (),
    ),
    "normalization: constant let in": (
        "normalize", "if constant.size:", "if False:", bad.test_fit_line_refuses, CONSTANT,
    ),
    "conversion: intercept forgets the mean": (
        "recover", "b - slope * mean", "b - slope",
        functions.test_fit_line_is_least_squares, ANSCOMBE,
    ),
    "conversion: slope multiplied": (
        "recover", "slope = W / std", "slope = W * std",
        functions.test_fit_line_is_least_squares, ANSCOMBE,
    ),
    "conversion: half the slope": (
        "fit-line",
        'history["W"], history["b"] = to_original_units(W_path, b_path, mean, std)',
        'history["W"], history["b"] = to_original_units(W_path, b_path, mean, 2 * std)',
        functions.test_fit_line_is_least_squares, ANSCOMBE,
    ),
    "check: nan let in": (
        "check-input", "if not np.isfinite(a).all():", "if False:",
        bad.test_fit_line_refuses, NAN,
    ),
    "check: divergence not seen": (
        "check-finite", "if np.isfinite(one_number(loss)):", "if True:",
        bad.test_divergence_names_rate_update_and_limit, (),
    ),
    "check: limit of one eigenvalue too low": (
        "check-finite", "len(A))[-1]", "len(A))[0]",
        functions.test_stable_limit, (),
    ),
    "check: rate above the limit let in": (
        "fit-line", "if learning_rate > 1 - 1e-7:", "if False:",
        bad.test_fit_line_never_returns_a_diverged_line, (100, 1.001),
    ),
    "data: less noise than it says": (
        "data-make", "rng.normal(0, NOISE_SD,", "rng.normal(0, 1,",
        functions.test_make_data_follows_its_recipe, (),
    ),
}  # fmt: skip

# name: (cell, the right code, the bug, the cell by which it must have been noticed)
IN_THE_RUN = {
    "split: test rows among the training rows": (
        "data-split", "order[:-40], order[-40:]", "order[:-40], order[-80:-40]", "normalize",
    ),
    "split: y not taken with its x": (
        "data-split", "X[train_rows], y[train_rows]", "X[train_rows], y[:160]", "recover",
    ),
    "split: not shuffled": (
        "data-split", "default_rng(SEED + 1).permutation(N)", "default_rng(1).choice(N, N)",
        "normalize",
    ),
    "normalization: test rows by their own mean": (
        "normalize", "(X_test - x_mean) / x_std", "(X_test - X_test.mean()) / x_std",
        "test-rows",
    ),
    "normalization: forgotten": (
        "train-loop", "train(X_train_norm, y_train,", "train(X_train, y_train,", "train-loop",
    ),
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
    cell_id, right, bug, test, arguments = IN_FUNCTIONS[name]
    namespace = {"__name__": "planted"}
    exec(definitions(planted(cell_id, right, bug)), namespace)  # noqa: S102
    with pytest.raises(BaseException):  # noqa: B017 (any failure will do)
        test(types.SimpleNamespace(**namespace), *arguments)


@pytest.mark.parametrize("name", IN_THE_RUN)
def test_bug_in_the_run_is_noticed(name, tmp_path, committed):
    cell_id, right, bug, until = IN_THE_RUN[name]
    notebook = planted(cell_id, right, bug)
    last = next(i for i, cell in enumerate(notebook.cells) if cell.id == until)
    notebook.cells = notebook.cells[: last + 1]
    execute(notebook, tmp_path, allow_errors=True)
    expected = {cell.id: cell for cell in code_cells(committed)}
    noticed = []
    for cell in code_cells(notebook):
        try:
            assert_same_outputs(cell, expected[cell.id])
        except AssertionError:
            noticed.append(cell.id)
    assert noticed
