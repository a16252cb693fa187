"""`examine`: no alarm on right steps, an alarm on every broken one, and nothing left changed."""

import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf

from notebook_runner import code_cells, functions, python_of, read

CELLS = {cell.id: cell for cell in code_cells(read())}
# The cells of `examine` itself, which stand between its heading and its first use.
IDS = [cell.id for cell in read().cells]
OWN = [i for i in IDS[IDS.index("examine") : IDS.index("examine-right-note")] if i in CELLS]

RUNS, MOVES = "Does it run, and stay finite?", "Does every variable move?"
SAME, ORDER = "The same start, the same loss?", "Is the order of the rows of no matter?"
TWICE, DOWN = "Twice the rows, the same loss?", "Is the step downhill?"
SLOPE = "Is it minus the rate times the slope?"
AGAIN = "Is it minus the rate times the slope, where it led?"
LENGTH, FALLS = "Is the step of a good length?", "Has the loss fallen after 100 updates?"
PAIRS = "Does it matter which y belongs to which x?"
ERROR, DATA = "Does it run without an error?", "Are X and y finite, row by row?"

rng = np.random.default_rng(5)
X = rng.normal(size=(40, 2)).astype("float32")
Y = (X @ [[2.0], [-1.0]] + 3 + 0.1 * rng.normal(size=(40, 1))).astype("float32")


def variables_for(dtype="float32"):
    """W (2, 1) and b (1,), not at zero."""
    return [tf.Variable([[0.3], [0.1]], dtype=dtype), tf.Variable([0.2], dtype=dtype)]


def line(X, variables):
    return X @ variables[0] + variables[1]


def square(y, y_pred):
    return tf.reduce_mean(tf.square(y_pred - y))


def absolute(y, y_pred):
    return tf.reduce_mean(tf.abs(y_pred - y))


def step_with(optimizer, loss_fn=square, dtype="float32"):
    """A right step, and its variables."""
    variables = variables_for(dtype)

    def step(X, y):
        X, y = tf.cast(X, dtype), tf.cast(y, dtype)
        with tf.GradientTape() as tape:
            loss = loss_fn(y, line(X, variables))
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    return step, variables


def by_hand():
    variables = variables_for()

    def step(X, y):
        error = X @ variables[0].numpy() + variables[1].numpy() - y
        variables[0].assign_sub(0.1 * 2 * X.T @ error / len(X))
        variables[1].assign_sub(0.1 * 2 * error.mean(axis=0))
        return np.mean(error**2)

    return step, variables


def traced():
    step, variables = step_with(tf.keras.optimizers.SGD(0.1))
    return tf.function(step), variables


def network():
    tf.keras.utils.set_random_seed(1)
    layers = [tf.keras.Input((2,)), tf.keras.layers.Dense(6, "tanh"), tf.keras.layers.Dense(1)]
    model = tf.keras.Sequential(layers)
    optimizer = tf.keras.optimizers.SGD(0.05)

    def step(X, y):
        with tf.GradientTape() as tape:
            loss = square(y, model(X, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    return step, model.trainable_variables


def keras_batch():
    model = tf.keras.Sequential([tf.keras.Input((2,)), tf.keras.layers.Dense(1)])
    model.compile(tf.keras.optimizers.SGD(0.1), "mse")
    return model.train_on_batch, model.trainable_variables


def keras_fit():
    model = tf.keras.Sequential([tf.keras.Input((2,)), tf.keras.layers.Dense(1)])
    model.compile(tf.keras.optimizers.SGD(0.1), "mse")

    def step(X, y):
        return model.fit(X, y, batch_size=len(X), verbose=0).history["loss"][0]

    return step, model.trainable_variables


def huber(y, y_pred):
    return tf.reduce_mean(tf.keras.losses.huber(y, y_pred, delta=1.0))


SGD, ADAM = tf.keras.optimizers.SGD, tf.keras.optimizers.Adam
# name: the step and its variables, the rate if it is plain descent
RIGHT = {
    "SGD": (lambda: step_with(SGD(0.1)), 0.1),
    "a larger rate": (lambda: step_with(SGD(0.5)), 0.5),
    "by hand, in NumPy": (by_hand, 0.1),
    "float64": (lambda: step_with(SGD(0.1), dtype="float64"), 0.1),
    "tf.function": (traced, 0.1),
    "momentum": (lambda: step_with(SGD(0.05, momentum=0.9)), None),
    "Adam": (lambda: step_with(ADAM(0.05)), None),
    "Huber": (lambda: step_with(SGD(0.2), huber), 0.2),
    "absolute error": (lambda: step_with(SGD(0.05), absolute), None),
    "a network": (network, 0.05),
    "train_on_batch": (keras_batch, 0.1),
    "fit": (keras_fit, 0.1),
}


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("kind", ["arrays", "tensors"])
def test_a_right_step_raises_no_alarm_and_finds_its_variables_again(nb, name, kind, capsys):
    make, rate = RIGHT[name]
    step, variables = make()
    before = [variable.numpy().copy() for variable in variables]
    rows = (X, Y) if kind == "arrays" or "NumPy" in name else (tf.constant(X), tf.constant(Y))
    assert nb.examine(step, variables, *rows, learning_rate=rate) == []
    for variable, value in zip(variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    said = capsys.readouterr().out
    assert said.count("yes  ") == (10 if rate is None else 12) and "NO " not in said
    assert "cannot see" in said


def test_three_points_and_one_feature_are_enough(nb):
    W, b = tf.Variable([[0.0]]), tf.Variable([0.0])
    optimizer = SGD(0.1)

    def step(X, y):
        return nb.train_step(X, y, [W, b], optimizer)

    x_few, y_few = np.float32([[-1], [0], [1]]), np.float32([[2], [1], [6]])
    assert nb.examine(step, [W, b], x_few, y_few, 0.1) == []


@pytest.mark.parametrize("shape", [(30, 10), (1000, 100)])
def test_many_numbers_are_asked_along_some_directions(nb, shape):
    """A hundred thousand numbers: not two calls for each of them."""
    calls, wide = [], tf.Variable(np.zeros(shape, "float32"))
    rows = rng.normal(size=(30, shape[0])).astype("float32") / shape[0] ** 0.5
    targets = rows @ rng.normal(size=shape).astype("float32")

    def step(X, y, factor=2.0):
        calls.append(len(X))
        error = X @ wide.numpy() - y
        wide.assign_sub(1.0 * factor * X.T @ error / error.size)
        return np.mean(error**2)

    nos = nb.examine(step, [wide], rows, targets, 1.0)
    assert SLOPE not in nos and AGAIN not in nos
    assert len(calls) < 300
    nos = nb.examine(lambda X, y: step(X, y, 1.5), [wide], rows, targets, 1.0)
    assert SLOPE in nos and AGAIN in nos


# bug of the notebook's table: questions of which at least one must be answered NO
CAUGHT_BY = {
    "uphill": [DOWN],
    "assign_for_assign_sub": [AGAIN],
    "gradients_swapped": [SLOPE],
    "w_never_moves": [MOVES],
    "divided_twice": [SLOPE],
    "measured_after": [SLOPE],
    "flat_y": [PAIRS],
    "comma_for_minus": [PAIRS],
    "sum_for_mean": [TWICE],
    "half_of_the_slope": [SLOPE],
    "other_loss_reported": [SLOPE],
    "first_ten_rows": [ORDER],
    "x_shuffled_alone": [ORDER],
    "dropout_on_x": [SAME],
    "raw_x": [LENGTH],
    "tiny_rate": [LENGTH],
    "gradients_kept": [AGAIN],
}


@pytest.fixture(scope="module")
def bugs(nb):
    """The names of the notebook's bug cells, after they have run on rows like Part 1's."""
    names, rng = dict(vars(nb)), np.random.default_rng(8)
    x = rng.uniform(0, 100, (160, 1)).astype("float32")
    names["x_mean"], names["x_std"] = x.mean(axis=0), x.std(axis=0)
    names["X_train_norm"] = (x - names["x_mean"]) / names["x_std"]
    names["y_train"] = 2.5 * x + 10 + rng.normal(0, 10, x.shape).astype("float32")
    for cell_id, cell in CELLS.items():
        if cell_id.startswith("bugs-") and cell_id not in ("bugs-figure", "bugs-examined"):
            exec(python_of(cell), names)  # noqa: S102
    return names


@pytest.mark.parametrize("name", CAUGHT_BY)
def test_every_bug_of_the_table_is_caught_on_other_rows_too(bugs, name):
    rate = {bug.__name__: rate for bug, rate in bugs["BUGS"]}[name]
    variables = [bugs["W_bug"], bugs["b_bug"]]
    variables[0].assign([[1.0]])
    variables[1].assign([1.0])
    bugs["kept"].clear()
    nos = bugs["examine"](bugs[name], variables, bugs["X_train_norm"], bugs["y_train"], rate)
    assert set(CAUGHT_BY[name]) <= set(nos)


def test_the_table_holds_these_bugs(bugs):
    assert [bug.__name__ for bug, _ in bugs["BUGS"]] == list(CAUGHT_BY)


def test_assign_from_zero_shows_only_where_it_led(bugs):
    """From zero, to be set to the step and to be moved by it are the same."""
    variables = [bugs["W_bug"], bugs["b_bug"]]
    variables[0].assign([[0.0]])
    variables[1].assign([0.0])
    rows = bugs["X_train_norm"], bugs["y_train"]
    assert bugs["examine"](bugs["assign_for_assign_sub"], variables, *rows, 0.1) == [AGAIN]


def integers():
    """An integer W and b, cast on the way."""
    variables = [tf.Variable(0), tf.Variable(0)]

    def step(X, y):
        with tf.GradientTape() as tape:
            W, b = (tf.cast(v, "float32") for v in variables)
            loss = square(y, W * X[:, :1] + b)
        SGD(0.05).apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    return step, variables


def tape_step(loss_of, optimizer=None, start=None):
    """A step of SGD at 0.1 on a loss of (y, W X + b), as victims write it."""
    variables = start or variables_for()
    optimizer = optimizer or SGD(0.1)

    def step(X, y):
        with tf.GradientTape() as tape:
            loss = loss_of(y, line(X, variables))
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    return step, variables


def ranks(y, y_pred):
    """A loss of ranks, which have no derivative."""
    order = tf.argsort(tf.argsort(y_pred[:, 0])) - tf.argsort(tf.argsort(y[:, 0]))
    return tf.reduce_mean(tf.abs(tf.cast(order, "float32")))


def root(y, y_pred):
    """A mean distance: infinitely steep where a row is hit exactly."""
    return tf.reduce_mean(tf.sqrt(tf.square(y_pred - y)))


def masked(y, y_pred):
    """Logarithms behind tf.where."""
    logs = tf.square(tf.math.log(y_pred) - tf.math.log(tf.abs(y) + 1))
    return tf.reduce_mean(tf.where(y_pred > 0, logs, tf.square(y_pred - y)))


def logits(y, y_pred):
    """Raw scores to a loss for probabilities."""
    loss_fn = tf.keras.losses.BinaryCrossentropy()
    return loss_fn(tf.cast(y > 3, "float32"), y_pred - 9)


def shuffled_apart():
    """Two datasets, each shuffled, then zipped."""
    step, variables = step_with(SGD(0.05))
    mixer = np.random.default_rng(0)

    def mixed(X, y):
        return step(mixer.permutation(X), mixer.permutation(y))

    return mixed, variables


def batch_norm_called_for_inference():
    """Raw x, and a layer that should normalize it but is called without training=True."""
    layers = [tf.keras.Input((2,)), tf.keras.layers.BatchNormalization(), tf.keras.layers.Dense(1)]
    model = tf.keras.Sequential(layers)
    optimizer = SGD(0.05)

    def step(X, y):
        with tf.GradientTape() as tape:
            loss = square(y, model(100 * X))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    return step, model.trainable_variables


def divided_again():
    """The mean is divided by the batch size once more."""
    variables = variables_for()

    def step(X, y):
        with tf.GradientTape() as tape:
            loss = square(y, line(X, variables))
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            variable.assign_sub(0.1 * gradient / 10)
        return loss

    return step, variables


def running_metric():
    """The loss that is reported is a metric which is never reset."""
    step, variables = step_with(SGD(0.1))
    metric = tf.keras.metrics.Mean()

    def reported(X, y):
        metric.update_state(step(X, y))
        return float(metric.result())

    return reported, variables


EXACT = [tf.Variable([[0.0], [0.0]]), tf.Variable([Y[0, 0]])]
DEAD = [tf.Variable([[0.0], [0.0]]), tf.Variable([-1.0])]
# the programs of a collection of broken loops whose fault lies in the step: what must be said
BROKEN = {
    "an integer variable": (integers, ERROR),
    "a loss of ranks": (lambda: tape_step(ranks), ERROR),
    "a root at zero": (lambda: tape_step(root, start=EXACT), RUNS),
    "both branches of where": (lambda: tape_step(masked), RUNS),
    "not in training": (batch_norm_called_for_inference, LENGTH),
    "shuffled apart": (shuffled_apart, SAME),
    "logits": (lambda: tape_step(logits), MOVES),
    "a dead ReLU": (lambda: tape_step(lambda y, p: square(y, tf.nn.relu(p)), start=DEAD), MOVES),
    "divided twice": (divided_again, SLOPE),
    "a metric": (running_metric, SLOPE),
}


@pytest.mark.parametrize("name", BROKEN)
def test_every_broken_step_is_flagged(nb, name):
    make, question = BROKEN[name]
    step, variables = make()
    assert question in nb.examine(step, variables, X, Y, learning_rate=0.1)


def raises(X, y):
    raise RuntimeError("A non-persistent GradientTape can only be used once\nmore words")


def nan_in(rows):
    rows = rows.copy()
    rows[3] = np.nan
    return rows


# what is handed over instead of a right step or right rows: the answer, words that are printed
HOSTILE = {
    "raises": (raises, X, Y, ERROR, "RuntimeError: A non-persistent .* once\n +look at: 11 "),
    "returns None": (lambda X, y: None, X, Y, ERROR, "returns None: end it with `return loss`"),
    "returns a list": (lambda X, y: [1.0, 2.0], X, Y, ERROR, "returns 2 numbers: return the loss"),
    "returns text": (lambda X, y: "low", X, Y, ERROR, "could not convert"),
    "returns nan": (lambda X, y: np.nan, X, Y, RUNS, "loss nan"),
    "moves nothing": (lambda X, y: 1.0, X, Y, MOVES, "0 of 2 variables move"),
    "nan in X": (lambda X, y: 1.0, nan_in(X), Y, DATA, "not all finite\n +look at: 14"),
    "nan in y": (lambda X, y: 1.0, X, nan_in(Y), DATA, "40 and 40 rows, not all"),
    "unequal rows": (lambda X, y: 1.0, X, Y[:30], DATA, "40 and 30 rows, all"),
    "one row": (lambda X, y: 1.0, X[:1], Y[:1], DATA, "1 and 1 rows"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_step_gets_a_line_and_leaves_the_variables(nb, name, capsys):
    step, x_rows, y_rows, question, words = HOSTILE[name]
    variables = variables_for()
    assert nb.examine(step, variables, x_rows, y_rows) == [question]
    assert re.search(words, capsys.readouterr().out)
    np.testing.assert_allclose(variables[0], [[0.3], [0.1]])


def test_a_step_that_fails_later_is_put_back_too(nb):
    """The first call works, and what it moved is put back when the second one fails."""
    variables, calls = variables_for(), []

    def step(X, y):
        calls.append(1)
        variables[0].assign_add([[1.0], [1.0]])
        return 3.0 if len(calls) == 1 else raises(X, y)

    assert ERROR in nb.examine(step, variables, X, Y)
    np.testing.assert_allclose(variables[0], [[0.3], [0.1]])


def test_variables_of_two_types_and_none_at_all(nb):
    variables = [tf.Variable([[0.3], [0.1]], dtype="float64"), tf.Variable([0.2])]

    def step(X, y):
        error = X @ variables[0].numpy() + variables[1].numpy() - y
        variables[0].assign_sub(0.2 * X.T @ error / len(X))
        variables[1].assign_sub(0.2 * error.mean(axis=0))
        return np.mean(error**2)

    assert nb.examine(step, variables, X, Y, 0.1) == []
    with pytest.raises(ValueError, match="variables is empty: pass the list"):
        nb.examine(step, [], X, Y)


def test_its_cells_stand_on_their_own_in_an_empty_script(tmp_path):
    """They need NumPy, and nothing of the notebook or of TensorFlow."""
    own = "\n\n".join(CELLS[cell_id].source for cell_id in OWN)
    use = """
    class Box:
        def __init__(self, value):
            self.value = np.array(value)
        def numpy(self):
            return self.value
        def assign(self, value):
            self.value = np.array(value)

    W, b = Box([[0.5]]), Box([0.1])
    X = np.linspace(-1, 1, 20).reshape(-1, 1)
    y = 2 * X + 1 + 0.1 * np.cos(9 * X)
    def step(X, y, sign=-1):
        error = X @ W.numpy() + b.numpy() - y
        W.assign(W.numpy() + sign * 0.2 * 2 * X.T @ error / len(X))
        b.assign(b.numpy() + sign * 0.2 * 2 * error.mean(axis=0))
        return np.mean(error**2)
    print("right:", examine(step, [W, b], X, y, 0.2))
    print("wrong:", len(examine(lambda X, y: step(X, y, 1), [W, b], X, y, 0.2)) > 2)
    """
    script = tmp_path / "script.py"
    script.write_text(own + textwrap.dedent(use), encoding="utf-8")
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert "right: []" in ran.stdout and "wrong: True" in ran.stdout
    assert "tensorflow" not in own


# a mutation of examine: the cell, what is changed, what it becomes
MUTATIONS = [
    ("examine-numbers", "start += old.size", "start += 0"),
    ("examine-try", "write_numbers(variables, numbers)", "pass"),
    ("examine-probe", "if returned is None:", "if returned is not None:"),
    ("ask-first", "!= 0)", "== 0)"),
    ("ask-first", "np.isclose(again, loss, rtol=1e-5)", "True"),
    ("ask-rows", "np.isclose(reversed_loss, loss, rtol=1e-5)", "True"),
    ("ask-rows", "np.isclose(twice, loss, rtol=1e-5)", "True"),
    ("slopes", "/ (2 * h)", "/ h"),
    ("slopes", "count <= 50", "count <= 500"),
    ("ask-slope", "slope < doubt", "slope > doubt"),
    ("ask-slope", "start = start + move", "start = start + 0 * move"),
    ("compare-with-slopes", "-learning_rate * slopes", "learning_rate * slopes"),
    ("compare-with-slopes", "0.02 *", "2.0 *"),
    ("ask-length", "0.5 <= best", "0.0 <= best"),
    ("ask-length", "best <= 4096", "best <= 1e9"),
    ("ask-later", "losses[-1] < losses[0]", "losses[-1] > losses[0]"),
    ("ask-later", "mixed > 1.001 * loss", "mixed < 1.001 * loss"),
    ("ask-all", "len(X) == len(y) > 1", "len(X) > 1"),
    ("ask-safely", "        write_numbers(variables, start)", "        pass"),
    ("ask-safely", "            if not yes:\n", "            if yes:\n"),
    ("examine-function", "if not yes:", "if yes:"),
]


def passes(nb, bugs):
    """Do the tests above hold for these functions?"""
    for name, question in [("returns a list", ERROR), ("unequal rows", DATA), ("nan in X", DATA)]:
        step, x_rows, y_rows, *_ = HOSTILE[name]
        assert nb.examine(step, variables_for(), x_rows, y_rows) == [question]
    step, variables = step_with(SGD(0.1))
    assert nb.examine(step, variables, X, Y, 0.1) == []
    np.testing.assert_array_equal(variables[0].numpy(), variables_for()[0].numpy())
    test_assign_from_zero_shows_only_where_it_led(bugs | vars(nb))
    test_many_numbers_are_asked_along_some_directions(nb, (30, 10))
    for name in CAUGHT_BY:
        test_every_bug_of_the_table_is_caught_on_other_rows_too(bugs | vars(nb), name)


@pytest.mark.parametrize("number", range(len(MUTATIONS)))
def test_a_mutation_of_examine_is_noticed(number, bugs, capsys):
    cell_id, right, wrong = MUTATIONS[number]
    notebook = read()
    (cell,) = [cell for cell in notebook.cells if cell.id == cell_id]
    assert right in cell.source
    cell.source = cell.source.replace(right, wrong, 1)
    notebook.cells = [c for c in notebook.cells if c.id in OWN]
    with np.errstate(all="ignore"), pytest.raises(Exception):  # noqa: B017 (any failure will do)
        passes(functions(notebook), bugs)
