"""`examine`: no alarm on right steps, a NO for every bug, and what it does with hostile steps."""

import contextlib
import io
import itertools
import os
import re
import subprocess
import sys
import types

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
import tensorflow as tf

from notebook_runner import read
from test_loop import B_BEST, W_BEST, X_NORM, X_RAW, Y_TRAIN

NOTEBOOK_CELLS = read().cells
IDS = [cell.id for cell in NOTEBOOK_CELLS]
SECTION = NOTEBOOK_CELLS[IDS.index("examine-section") : IDS.index("night")]
TEXTS = {cell.id: cell.source for cell in SECTION}
CELLS = {cell.id: cell.source for cell in SECTION if cell.cell_type == "code"}
TOOL = {cell_id: source for cell_id, source in CELLS.items() if source.startswith("# examine\n")}
BUG_CELLS = [cell_id for cell_id in CELLS if cell_id.startswith("bugs-")]
GALLERY = "\n".join(c.source for c in NOTEBOOK_CELLS[IDS.index("part3") : IDS.index("part4")])

USABLE = "Are the variables, X and y fit for use?"
RUNS = "Does it run, and return one finite number?"
MOVES = "Does every variable move?"
REPEATS = "Does the same place give the same loss?"
ORDER = "Is the order of the rows of no matter?"
ALIKE = "Do twice the rows give the same loss, or twice?"
DOWNHILL = "Is the step downhill?"
SLOPE = "Is it minus the rate times the slope?"
LENGTH = "Is the step neither too long nor too short?"
FALLS = "Has the loss fallen after a hundred updates?"
PAIRS = "Does it now matter which y belongs to which x?"
ALL = [USABLE, RUNS, MOVES, REPEATS, ORDER, ALIKE, DOWNHILL, SLOPE, LENGTH, FALLS, PAIRS]


@pytest.fixture(scope="session")
def rows(nb):
    """The normalized training rows."""
    return X_NORM.astype("float32"), Y_TRAIN.astype("float32")


def asked(nb, step, variables, X, y, rate=None):
    """Every question with its answer and its words, in order."""
    given = nb.interview(step, variables, X, y, rate)
    return {question.__doc__: (yes, words) for question, yes, words in given}


def noes(nb, step, variables, X, y, rate=None):
    """The questions that are answered NO, with the words."""
    given = asked(nb, step, variables, X, y, rate)
    return {text: words for text, (yes, words) in given.items() if not yes}


# Right steps: no alarm.

KERAS = tf.keras
OPTIMIZERS = KERAS.optimizers
THREE = np.array([[-1.0], [0.0], [1.0]], "float32"), np.array([[2.0], [1.0], [6.0]], "float32")


def squared(y_true, y_pred):
    return tf.reduce_mean(tf.square(y_pred - y_true))


def absolute(y_true, y_pred):
    return tf.reduce_mean(tf.abs(y_pred - y_true))


def summed(y_true, y_pred):
    return tf.reduce_sum(tf.square(y_pred - y_true))


def line(optimizer=None, loss_fn=squared, start=(0.0, 0.0), rate=0.1, types=("float32",) * 2):
    """A right step for a line, and its variables: by hand, or by an optimizer."""
    W = tf.Variable([[start[0]]], dtype=types[0])
    b = tf.Variable([start[1]], dtype=types[1])

    def step(X, y):
        with tf.GradientTape() as tape:
            loss = loss_fn(y, X @ tf.cast(W, X.dtype) + tf.cast(b, X.dtype))
        gradients = tape.gradient(loss, [W, b])
        if optimizer:
            optimizer.apply(gradients, [W, b])
        else:
            W.assign_sub(rate * gradients[0])
            b.assign_sub(rate * gradients[1])
        return loss

    return step, [W, b]


# name: optimizer or None, further arguments of `line`, the rate that is told, "three" points?
LINES = {
    "SGD": (lambda: OPTIMIZERS.SGD(0.1), {}, 0.1, False),
    "SGD, no rate told": (lambda: OPTIMIZERS.SGD(0.1), {}, None, False),
    "by hand": (None, {}, 0.1, False),
    "momentum": (lambda: OPTIMIZERS.SGD(0.1, momentum=0.9), {}, None, False),
    "Nesterov": (lambda: OPTIMIZERS.SGD(0.05, momentum=0.9, nesterov=True), {}, None, False),
    "Adam": (lambda: OPTIMIZERS.Adam(0.1), {}, None, False),
    "RMSprop": (lambda: OPTIMIZERS.RMSprop(0.01), {}, None, True),
    "Adagrad": (lambda: OPTIMIZERS.Adagrad(0.01), {}, None, True),
    "Huber": (None, {"loss_fn": KERAS.losses.Huber()}, 0.1, False),
    "Huber, three points": (None, {"loss_fn": KERAS.losses.Huber()}, 0.1, True),
    "absolute": (None, {"loss_fn": absolute}, 0.1, False),
    "absolute, three points": (None, {"loss_fn": absolute}, 0.1, True),
    "absolute, at its best": (None, {"loss_fn": absolute, "start": (2.0, 4.0)}, 0.1, True),
    "absolute, near its best": (None, {"loss_fn": absolute, "start": (74.1, 141.6)}, 0.1, False),
    "a sum": (None, {"loss_fn": summed, "rate": 0.1 / 160}, 0.1 / 160, False),
    "a sum, three points": (None, {"loss_fn": summed, "rate": 0.01}, 0.01, True),
    "rate 0.5": (None, {"rate": 0.5}, 0.5, False),
    "rate 0.9": (None, {"rate": 0.9}, 0.9, False),
    "rate 0.001": (None, {"rate": 0.001}, 0.001, False),
    "three points": (None, {}, 0.1, True),
    "three points, at their best": (None, {"start": (2.0, 3.0)}, 0.1, True),
    "three points, nearly": (None, {"start": (1.999, 3.001)}, 0.1, True),
    "momentum, at its best": (
        lambda: OPTIMIZERS.SGD(0.1, momentum=0.9),
        {"start": (2.0, 3.0)},
        None,
        True,
    ),
    "Adam, at its best": (lambda: OPTIMIZERS.Adam(0.1), {"start": (2.0, 3.0)}, None, True),
    "Adam 0.001": (lambda: OPTIMIZERS.Adam(0.001), {}, None, True),
    "W in 64 bits, b in 32": (None, {"types": ("float64", "float32")}, 0.1, False),
}


@pytest.mark.parametrize("name", LINES)
def test_no_alarm_on_a_right_line(nb, rows, name):
    optimizer, more, rate, three = LINES[name]
    step, variables = line(optimizer and optimizer(), **more)
    X, y = THREE if three else rows
    assert not noes(nb, step, variables, X, y, rate)


def test_the_right_step_of_part_1_is_asked_everything_and_answers_yes(nb, rows, capsys):
    W, b, optimizer = tf.Variable([[0.0]]), tf.Variable([0.0]), OPTIMIZERS.SGD(0.1)

    def step(X, y):
        return nb.train_step(X, y, [W, b], optimizer)

    given = asked(nb, step, [W, b], *rows, 0.1)
    assert list(given) == ALL
    assert nb.examine(step, [W, b], *rows, learning_rate=0.1) == []
    assert capsys.readouterr().out.count("\nyes") == 10


# name: how X and y of the training rows are changed
DATA = {
    "float64": lambda X, y: (X.astype("float64"), y.astype("float64")),
    "tensors": lambda X, y: (tf.constant(X), tf.constant(y)),
    "one batch": lambda X, y: (X[:32], y[:32]),
    "one row": lambda X, y: (X[:1], y[:1]),
    "two rows": lambda X, y: (X[:2], y[:2]),
    "y in millions": lambda X, y: (X, 1e6 * y),
    "y in millionths": lambda X, y: (X, 1e-6 * y),
    "y that X explains to a fifth": lambda X, y: (
        X,
        (X / 2 + np.random.default_rng(0).normal(size=X.shape)).astype("float32"),
    ),
    "b at its best for every W": lambda X, y: (THREE[0], 2 * THREE[0]),
    "sorted rows": lambda X, y: (X[np.argsort(X[:, 0])], y[np.argsort(X[:, 0])]),
    "y that are all the same": lambda X, y: (X, np.full_like(y, 5)),
}


@pytest.mark.parametrize("name", DATA)
def test_no_alarm_on_other_rows(nb, rows, name):
    X, y = DATA[name](*rows)
    step, variables = line(types=("float64",) * 2 if name == "float64" else ("float32",) * 2)
    assert not noes(nb, step, variables, X, y, 0.1)


@pytest.mark.parametrize("kind", ["arrays", "tensors"])
def test_no_alarm_on_a_compiled_step(nb, rows, kind):
    step, variables = line(OPTIMIZERS.SGD(0.1))
    compiled = tf.function(step, autograph=False)
    X, y = rows if kind == "arrays" else map(tf.constant, rows)
    assert not noes(nb, compiled, variables, X, y, 0.1)


def test_no_alarm_on_raw_x_at_a_rate_that_suits_it(nb):
    step, variables = line(rate=1e-4)
    assert not noes(nb, step, variables, X_RAW, Y_TRAIN, 1e-4)


def dense(*sizes, last=None):
    """Dense layers with ReLU between them."""
    hidden = [KERAS.layers.Dense(size, "relu") for size in sizes[:-1]]
    return [*hidden, KERAS.layers.Dense(sizes[-1], last)]


def classes(rng):
    """400 rows of two features, and whether 2 x1 - x2 > 0, with noise."""
    X = rng.normal(size=(400, 2)).astype("float32")
    return X, (X @ [[2.0], [-1.0]] + rng.normal(size=(400, 1)) > 0).astype("float32")


# name: layers, loss, optimizer, the rate that is told
MODELS = {
    "line": (lambda: dense(1), "mse", lambda: OPTIMIZERS.SGD(0.1), 0.1),
    "network": (lambda: dense(16, 16, 1), "mse", lambda: OPTIMIZERS.SGD(0.05), 0.05),
    "network, Adam": (lambda: dense(16, 16, 1), "mse", lambda: OPTIMIZERS.Adam(0.001), None),
    "tanh": (
        lambda: [KERAS.layers.Dense(8, "tanh"), *dense(1)],
        "mse",
        lambda: OPTIMIZERS.SGD(0.05),
        0.05,
    ),
    "batch normalization": (
        lambda: [KERAS.layers.BatchNormalization(), *dense(8, 1)],
        "mse",
        lambda: OPTIMIZERS.SGD(0.05),
        0.05,
    ),
    "90,000 numbers": (lambda: dense(300, 300, 1), "mse", lambda: OPTIMIZERS.SGD(0.01), 0.01),
    "yes or no": (
        lambda: dense(1, last="sigmoid"),
        "binary_crossentropy",
        lambda: OPTIMIZERS.SGD(0.5),
        0.5,
    ),
    "logits": (
        lambda: dense(1),
        KERAS.losses.BinaryCrossentropy(from_logits=True),
        lambda: OPTIMIZERS.SGD(0.5),
        0.5,
    ),
}


def built(name, rows):
    """A compiled model of MODELS, and rows for it."""
    layers, loss, optimizer, rate = MODELS[name]
    KERAS.utils.set_random_seed(0)
    X, y = rows[0], (rows[1] - rows[1].mean()) / rows[1].std()
    if name in ("yes or no", "logits"):
        X, y = classes(np.random.default_rng(0))
    model = KERAS.Sequential([KERAS.Input((X.shape[1],)), *layers()])
    model.compile(optimizer(), loss)
    return model, X, y, rate


def on_batch(model):
    """`train_on_batch`, which in older versions of Keras 3 averages over calls unless it is reset."""

    def step(X, y):
        model.reset_metrics()
        return model.train_on_batch(X, y)

    return step


@pytest.mark.parametrize("name", MODELS)
def test_no_alarm_on_a_keras_model(nb, rows, name):
    model, X, y, rate = built(name, rows)
    assert not noes(nb, on_batch(model), model.trainable_variables, X, y, rate)


def test_no_alarm_on_fit_with_one_batch(nb, rows):
    model, X, y, rate = built("line", rows)

    def step(X, y):
        return model.fit(X, y, batch_size=len(X), verbose=0).history["loss"][0]

    assert not noes(nb, step, model.trainable_variables, X, y, rate)


def test_a_large_model_is_asked_in_few_directions_and_one_wrong_layer_is_found(nb, rows):
    model, X, y, rate = built("90,000 numbers", rows)
    calls = []

    def right(X, y):
        calls.append(0)
        return on_batch(model)(X, y)

    def one_layer_too_fast(X, y):
        kernel = model.layers[1].kernel
        before = kernel.numpy()
        loss = on_batch(model)(X, y)
        kernel.assign(before + 1.2 * (kernel.numpy() - before))
        return loss

    assert not noes(nb, right, model.trainable_variables, X, y, rate)
    assert len(calls) < 400
    found = noes(nb, one_layer_too_fast, model.trainable_variables, X, y, rate)
    assert list(found) == [SLOPE] and "variables[2]" in found[SLOPE]


# The table of bugs.

CAUGHT = {  # the questions that must be answered NO, of those that are asked
    "flat_y": [PAIRS],
    "comma": [PAIRS],
    "summed": [LENGTH, FALLS],
    "half_cut": [SLOPE],
    "other_loss": [MOVES],
    "averaged": [REPEATS],
    "shuffled_once": [ORDER, ALIKE, PAIRS],
    "ten_rows": [ORDER, PAIRS],
    "own_y": [ORDER, ALIKE, FALLS],
    "shuffled_anew": [REPEATS],
    "dropped": [REPEATS],
    "uphill": [DOWNHILL, SLOPE, LENGTH, FALLS],
    "set_to_step": [SLOPE],
    "swapped_gradients": [SLOPE, FALLS],
    "b_only": [MOVES],
    "rebound": [MOVES],
    "divided_twice": [SLOPE],
    "clipped": [SLOPE, LENGTH],
    "measured_after": [SLOPE],
    "creeping": [LENGTH],
    "leaping": [LENGTH, FALLS],
}
RISES = {"summed", "uphill", "swapped_gradients", "rebound", "leaping"}  # or stays, in 40 updates


@pytest.fixture(scope="module")
def bugs(nb):
    """The bugs of the notebook, asked and counted by its own cells."""
    rows = {"X_train_norm": X_NORM.astype("float32"), "y_train": Y_TRAIN.astype("float32")}
    names = dict(vars(nb), plt=types.SimpleNamespace(), **rows)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        for cell_id in BUG_CELLS:
            if cell_id != "bugs-figure":
                exec(CELLS[cell_id], names)  # noqa: S102
    return types.SimpleNamespace(**names, said=said.getvalue())


@pytest.mark.parametrize("name", CAUGHT)
def test_the_bug_is_caught_by_these_questions(bugs, name):
    assert bugs.noes_of[getattr(bugs, name).__doc__] == CAUGHT[name]


@pytest.mark.parametrize("name", CAUGHT)
def test_whether_the_loss_falls_is_what_a_loop_says(bugs, name):
    bug = getattr(bugs, name)
    assert bugs.bug_answers[bug.__doc__][bugs.BY_EYE] == (name not in RISES)


def test_every_bug_is_in_the_table_and_the_numbers_of_the_text_are_those_printed(bugs):
    names = {getattr(bugs, name).__doc__ for name in CAUGHT}
    assert set(bugs.bug_answers) == names and len(names) == 21
    assert f"the loss falls in {21 - len(RISES)} of 21" in bugs.said
    assert "the questions catch 21 of 21" in bugs.said
    counts = {text: int(count) for count, text in re.findall(r"(\d+) by: (.+)", bugs.said)}
    caught = [text for texts in CAUGHT.values() for text in texts]
    assert counts == {text: caught.count(text) for text in caught}
    alone = [getattr(bugs, name).__doc__ for name in CAUGHT if CAUGHT[name] == [SLOPE]]
    said = " ".join(bugs.said.split())
    assert said.endswith("by the slope alone: " + ", ".join(alone))
    assert "in sixteen of the twenty-one" in TEXTS["bugs-reading"] and len(alone) == 4
    assert "Four bugs are caught by the slope alone" in TEXTS["bugs-reading"]


def test_without_a_rate_only_those_that_the_slope_alone_catches_are_missed(nb, bugs, rows):
    for name in [name for name in CAUGHT if {SLOPE, LENGTH} & set(CAUGHT[name])]:
        nb.go_to(np.ones(2), [bugs.W_bug, bugs.b_bug])
        found = noes(nb, getattr(bugs, name), [bugs.W_bug, bugs.b_bug], *rows)
        assert bool(found) == (CAUGHT[name] != [SLOPE]), (name, found)


# Faults met in public threads, each with the body of its loop as a step.


def adam_or_sgd(loss_fn, variables, optimizer):
    """A step that minimizes loss_fn(X, y)."""

    def step(X, y):
        with tf.GradientTape() as tape:
            loss = loss_fn(X, y)
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    return step


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def ordinal():
    """01: integer variables."""
    W, b = tf.Variable(0), tf.Variable(0)

    def loss(X, y):
        return tf.reduce_mean((tf.cast(W, "float32") * X + tf.cast(b, "float32") - y) ** 2)

    X = np.array([[1.0], [2.0], [3.0]], "float32")
    return adam_or_sgd(loss, [W, b], OPTIMIZERS.SGD(0.05)), [W, b], X, 2 * X + 1, 0.05


def ranks():
    """03: an operation without a gradient."""
    X = normal((32, 3))
    W = tf.Variable(normal((3, 1), 1))

    def rank(v):
        return tf.argsort(tf.argsort(tf.squeeze(v, -1)))

    def loss(X, y):
        return tf.reduce_mean(tf.abs(tf.cast(rank(X @ W) - rank(y), "float32")))

    y = (X @ [[1.0], [2.0], [-1.0]]).astype("float32")
    return adam_or_sgd(loss, [W], OPTIMIZERS.SGD(0.1)), [W], X, y, 0.1


def root():
    """04: a root at zero."""
    W, b = tf.Variable([[0.0]]), tf.Variable([0.0])

    def loss(X, y):
        return tf.reduce_mean(tf.sqrt(tf.reduce_sum((X @ W + b - y) ** 2, axis=1)))

    X = np.array([[0.0], [1.0], [2.0]], "float32")
    return adam_or_sgd(loss, [W, b], OPTIMIZERS.SGD(0.1)), [W, b], X, 2 * X, 0.1


def both_branches():
    """05: tf.where differentiates both branches."""
    W, b = tf.Variable([[1.0]]), tf.Variable([0.5])

    def loss(X, y):
        y_pred = X @ W + b
        log_error = (tf.math.log(y_pred) - tf.math.log(y)) ** 2
        return tf.reduce_mean(tf.where(y_pred > 0, log_error, (y_pred - y) ** 2))

    X = np.array([[-1.0], [0.5], [1.0], [2.0]], "float32")
    y = np.array([[1.0], [1.5], [2.0], [4.0]], "float32")
    return adam_or_sgd(loss, [W, b], OPTIMIZERS.SGD(0.05)), [W, b], X, y, 0.05


def not_training():
    """06: a BatchNormalization that is not told to train."""
    KERAS.utils.set_random_seed(0)
    norm = KERAS.layers.BatchNormalization(center=False, scale=False)
    model = KERAS.Sequential([KERAS.Input((1,)), norm, KERAS.layers.Dense(1)])
    variables = model.trainable_variables

    def loss(X, y):
        return tf.reduce_mean((model(X) - y) ** 2)

    X = np.random.default_rng(0).uniform(0, 100, (200, 1)).astype("float32")
    return adam_or_sgd(loss, variables, OPTIMIZERS.SGD(0.05)), variables, X, 2.5 * X + 10, 0.05


def zipped_apart():
    """07: two datasets shuffled one by one. The loop over them is the step."""
    W, b, optimizer = tf.Variable([[0.0]]), tf.Variable([0.0]), OPTIMIZERS.SGD(0.05)
    of_batch = adam_or_sgd(lambda X, y: tf.reduce_mean((X @ W + b - y) ** 2), [W, b], optimizer)

    def step(X, y):
        xs = tf.data.Dataset.from_tensor_slices(X).shuffle(256)
        ys = tf.data.Dataset.from_tensor_slices(y).shuffle(256)
        pairs = tf.data.Dataset.zip((xs, ys)).batch(64)
        return np.mean([of_batch(*batch) for batch in pairs])

    X = normal((128, 1))
    return step, [W, b], X, 2.5 * X + 10, 0.05


def raw_scores():
    """09: logits given to a loss for probabilities."""
    W, b = tf.Variable(tf.zeros((2, 1))), tf.Variable([0.0])
    loss_fn = KERAS.losses.BinaryCrossentropy()
    X = normal((400, 2))
    y = (X @ [[2.0], [-1.0]] > 0).astype("float32")
    step = adam_or_sgd(lambda X, y: loss_fn(y, X @ W + b), [W, b], OPTIMIZERS.SGD(0.5))
    return step, [W, b], X, y, 0.5


def dead():
    """10: a ReLU at the end, from an unlucky start."""
    W, b = tf.Variable([[0.0]]), tf.Variable([-1.0])

    def loss(X, y):
        return tf.reduce_mean((tf.nn.relu(X @ W + b) - y) ** 2)

    X = normal((200, 1))
    return adam_or_sgd(loss, [W, b], OPTIMIZERS.SGD(0.05)), [W, b], X, 2.5 * X + 10, 0.05


def twice():
    """13: divided by the size of the batch once more."""
    W, b = tf.Variable(tf.zeros((2, 1))), tf.Variable([0.0])

    def step(X, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((X @ W + b - y) ** 2 / 2)
        for variable, gradient in zip([W, b], tape.gradient(loss, [W, b])):
            variable.assign_sub(0.03 * gradient / 10)
        return loss

    X = normal((1000, 2))
    return step, [W, b], X, (X @ [[2.0], [-3.4]] + 4.2).astype("float32"), 0.03


def decayed():
    """15: a schedule that counts updates and was meant to count epochs."""
    W, b = tf.Variable([[0.0]]), tf.Variable([0.0])
    schedule = OPTIMIZERS.schedules.ExponentialDecay(0.005, 10, 0.9, staircase=True)

    def loss(X, y):
        return tf.reduce_mean((X @ W + b - y) ** 2)

    X = normal((64, 1))
    return adam_or_sgd(loss, [W, b], OPTIMIZERS.SGD(schedule)), [W, b], X, 2.5 * X + 10, 0.005


def running_average():
    """20: the loss that is reported is a metric without reset_state."""
    W, b, metric = tf.Variable([[0.0]]), tf.Variable([0.0]), KERAS.metrics.MeanSquaredError()
    of_batch = adam_or_sgd(squared_of(W, b), [W, b], OPTIMIZERS.SGD(0.05))

    def step(X, y):
        metric.update_state(y, X @ W + b)
        of_batch(X, y)
        return metric.result()

    X = normal((32, 1))
    return step, [W, b], X, 2.5 * X + 10, 0.05


def squared_of(W, b):
    return lambda X, y: tf.reduce_mean((X @ W + b - y) ** 2)


BROKEN = {  # program: the first NO, and a number that its causes must hold
    ordinal: (USABLE, "4 an integer"),
    ranks: (RUNS, "7 an operation"),
    root: (MOVES, "16 a root"),
    both_branches: (MOVES, "17 both branches"),
    not_training: (LENGTH, "12 raw features"),
    zipped_apart: (REPEATS, "several updates"),
    raw_scores: (MOVES, "9 raw scores"),
    dead: (MOVES, "10 a ReLU"),
    twice: (SLOPE, "27 divided twice"),
    decayed: (SLOPE, "a schedule"),
    running_average: (REPEATS, "a metric"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("program", BROKEN, ids=lambda program: program.__doc__[:2])
def test_a_broken_step_is_caught_and_led_to_its_cause(nb, program, capsys):
    found = nb.examine(*program())
    printed = " ".join(capsys.readouterr().out.split())
    assert found and found[0] == BROKEN[program][0]
    assert BROKEN[program][1] in printed[printed.index("NO ") :]


def other_line():
    """17, 22: the optimizer is saved wrongly, or the loop unrolled. The step is right."""
    W, b = tf.Variable([[0.0]]), tf.Variable([0.0])
    step = adam_or_sgd(squared_of(W, b), [W, b], OPTIMIZERS.Adam(0.1))
    X = np.array([[0.0], [1.0], [2.0]], "float32")
    return step, [W, b], X, 2.5 * X + 10, None


def dropped_weights():
    """23: a train_step that drops the sample weights. Without weights it is right."""

    class Line(KERAS.Sequential):
        def train_step(self, data):
            x, y = data[:2]
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((self(x, training=True) - y) ** 2)
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            return {"loss": loss}

    model = Line([KERAS.Input((1,)), KERAS.layers.Dense(1)])
    model.compile(OPTIMIZERS.SGD(0.1))
    X = normal((200, 1))

    def step(X, y):
        return model.train_on_batch(X, y, return_dict=True)["loss"]

    return step, model.trainable_variables, X, 2.5 * X + 10, 0.1


def other_start():
    """24: two models from two random starts. Each step is right."""
    KERAS.utils.set_random_seed(0)
    layers = [KERAS.layers.Dense(2, "tanh"), KERAS.layers.Dense(1)]
    model = KERAS.Sequential([KERAS.Input((3,)), *layers])
    X = normal((200, 3))
    y = np.tanh(X @ [[1.0], [-2.0], [0.5]]).astype("float32")
    variables = model.trainable_variables
    step = adam_or_sgd(lambda X, y: squared(y, model(X)), variables, OPTIMIZERS.SGD(0.1))
    return step, variables, X, y, 0.1


@pytest.mark.parametrize("program", [other_line, dropped_weights, other_start])
def test_no_alarm_where_the_fault_lies_outside_the_step(nb, program):
    assert not noes(nb, *program())


# What stays hidden from a closed box, as the text says.


def by_hand(variables, loss_fn, rate):
    """A compiled step of plain gradient descent on loss_fn(X, y)."""

    @tf.function(reduce_retracing=True)
    def step(X, y):
        with tf.GradientTape() as tape:
            loss = loss_fn(X, y)
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            variable.assign_sub(rate * gradient)
        return loss

    return step


def small_network(outputs, last=None, **options):
    KERAS.utils.set_random_seed(0)
    layers = [KERAS.layers.Dense(16, "tanh", **options), KERAS.layers.Dense(outputs, last)]
    return KERAS.Sequential([KERAS.Input((5,)), *layers])


def regression():
    X = normal((200, 5))
    y = X @ normal((5, 1), seed=1) + 0.3 * normal((200, 1), seed=2)
    return X, (y / y.std()).astype("float32")


def weights_of_another_shape():
    """Weights (n, 1) times losses (n,) are a table, whose mean knows no weights."""
    model = small_network(1, "sigmoid")
    X, y = regression()

    def loss(X, y):
        each = KERAS.losses.binary_crossentropy(y, model(X))
        return tf.reduce_mean(tf.where(y == 1, 5.0, 1.0) * each)

    return by_hand(model.trainable_variables, loss, 0.1), model, X, (y > 0.8).astype("float32"), 0.1


def penalty_forgotten():
    model = small_network(1, kernel_regularizer="l2")
    X, y = regression()
    step = by_hand(model.trainable_variables, lambda X, y: squared(y, model(X)), 0.1)
    assert model.losses
    return step, model, X, y, 0.1


def softmax_twice():
    model = small_network(3, "softmax")
    X, _ = regression()
    y = np.argmax(X @ normal((5, 3), seed=1), axis=1)
    loss_fn = KERAS.losses.SparseCategoricalCrossentropy(from_logits=True)
    step = by_hand(model.trainable_variables, lambda X, y: loss_fn(y, model(X)), 0.5)
    return step, model, X, y, 0.5


def cast_to_integers():
    model = small_network(1)
    X, y = regression()

    def loss(X, y):
        return squared(y, model(tf.cast(tf.cast(X, "int32"), "float32")))

    return by_hand(model.trainable_variables, loss, 0.1), model, X, y, 0.1


def relu_on_the_output():
    """10: half of the y are negative, and no prediction ever is."""
    model = small_network(1, "relu")
    X, y = regression()
    step = by_hand(model.trainable_variables, lambda X, y: squared(y, model(X)), 0.05)
    return step, model, X, y, 0.05


def scores_for_probabilities():
    """9: the loss cuts some scores off, and those between 0 and 1 still move."""
    W, b = tf.Variable([[0.2]]), tf.Variable([0.5])
    X = normal((200, 1))
    y = (X > 0).astype("float32")
    step = by_hand(
        [W, b], lambda X, y: tf.reduce_mean(KERAS.losses.binary_crossentropy(y, X @ W + b)), 0.01
    )
    return step, types.SimpleNamespace(trainable_variables=[W, b]), X, y, 0.01


@pytest.mark.parametrize(
    "program",
    [
        weights_of_another_shape,
        penalty_forgotten,
        softmax_twice,
        cast_to_integers,
        relu_on_the_output,
        scores_for_probabilities,
    ],
)
def test_a_loss_that_nobody_wanted_may_pass(nb, program):
    step, model, X, y, rate = program()
    assert noes(nb, step, model.trainable_variables, X, y, rate) == {}


def test_few_rows_that_were_shuffled_apart_may_pass_by_chance(nb):
    """Of thirty shuffles of 20 rows some pass, and fewer of 160."""
    passed = {}
    W, b = tf.Variable([[0.0]]), tf.Variable([0.0])
    step = by_hand([W, b], lambda X, y: squared(y, X @ W + b), 0.1)
    for n in (20, 160):
        passed[n] = 0
        for seed in range(30):
            X = normal((n, 1), seed)
            y = (X @ [[2.0]] + 0.3 * normal((n, 1), seed + 100)).astype("float32")
            y = np.random.default_rng(seed).permutation(y)
            passed[n] += PAIRS not in noes(nb, step, [W, b], X, y, 0.1)
    assert passed[20] > passed[160]


def test_a_right_step_may_get_a_no_where_x_tells_little(nb):
    """A tenth of the variance of y comes from x."""
    W, b = tf.Variable([[0.0]]), tf.Variable([0.0])
    step = by_hand([W, b], lambda X, y: squared(y, X @ W + b), 0.1)
    found = []
    for seed in range(15):
        X = normal((100, 1), seed)
        y = (X / 3 + normal((100, 1), seed + 100)).astype("float32")
        found += noes(nb, step, [W, b], X, y, 0.1)
    assert PAIRS in found and set(found) == {PAIRS}


def test_moving_averages_do_not_follow_a_slope(nb):
    KERAS.utils.set_random_seed(0)
    layers = [KERAS.layers.Dense(8), KERAS.layers.BatchNormalization(), KERAS.layers.Dense(1)]
    model = KERAS.Sequential([KERAS.Input((5,)), *layers])
    X, y = regression()
    variables = model.trainable_variables
    step = by_hand(variables, lambda X, y: squared(y, model(X, training=True)), 0.05)
    assert noes(nb, step, variables, X, y, 0.05) == {}
    assert noes(nb, step, model.weights, X, y, 0.05)


@pytest.mark.parametrize(("off", "passes"), [(0.01, True), (0.02, False)])
def test_a_number_may_be_off_by_one_per_cent_of_its_variables_move(nb, off, passes):
    """Of two weights the second moves a tenth as far as the first."""
    X = normal((200, 2))
    X[:, 1:] -= X[:, :1] * np.mean(X[:, :1] * X[:, 1:]) / np.mean(X[:, :1] ** 2)
    y = 3 * X[:, :1] + 0.3 * X[:, 1:]
    W = tf.Variable([[0.0], [0.0]])

    def step(X, y):
        with tf.GradientTape() as tape:
            loss = squared(y, X @ W)
        move = -0.1 * tape.gradient(loss, W)
        W.assign_add(move + off * tf.norm(move) * [[0.0], [1.0]])
        return loss

    assert (SLOPE not in noes(nb, step, [W], X, y, 0.1)) == passes


# Hostile steps, and what is printed.


class Plain:
    """A variable without TensorFlow: a NumPy array with assign and numpy."""

    def __init__(self, value, dtype="float64"):
        self.value = np.array(value, dtype)

    def numpy(self):
        return self.value.copy()

    def assign(self, value):
        assert np.shape(value) == self.value.shape
        self.value = np.array(value, self.value.dtype)


X_SMALL = np.random.default_rng(5).normal(size=(60, 1))
Y_SMALL = 2 * X_SMALL + 3 + np.random.default_rng(6).normal(size=(60, 1))


def plain_step(change=lambda gW, gb: (0.1 * gW, 0.1 * gb), report=lambda loss: loss, y_of=None):
    """A step in NumPy, of which the update, the report or the y can be spoiled."""
    W, b = Plain([[0.0]]), Plain([0.0])

    def step(X, y):
        y = y_of(y) if y_of else y
        error = X * W.value[0, 0] + b.value[0] - y
        gW, gb = np.mean(2 * error * X), np.mean(2 * error)
        minus_W, minus_b = change(gW, gb)
        loss = np.mean(error**2)
        W.assign(W.value - minus_W)
        b.assign(b.value - minus_b)
        return report(loss)

    return step, [W, b]


def raising(error):
    def report(loss):
        raise error

    return report


HOSTILE = {  # what the step returns or raises: the question, the words, the advice
    "None": (lambda loss: None, RUNS, "NoneType, not one number", "return loss"),
    "list": (lambda loss: [loss, 0.5], RUNS, "a list, not one number", "step(X, y)[0]"),
    "tuple": (lambda loss: (loss, 0.5), RUNS, "a tuple, not one", "step(X, y)[0]"),
    "dict": (lambda loss: {"loss": loss}, RUNS, "not 'dict'", 'step(X, y)["loss"]'),
    "row losses": (lambda loss: tf.fill(60, loss), RUNS, "Tensor, not", "tf.reduce_mean"),
    "nan": (lambda loss: np.nan, RUNS, "the loss is nan", "15 a missing value"),
    "words": (lambda loss: "low", RUNS, "ValueError", "what the error itself"),
    "KeyError": (raising(KeyError("loss")), RUNS, "KeyError: 'loss'", "what the error itself"),
    "two lines": (raising(ValueError("one\ntwo")), RUNS, "ValueError: one", "what the error"),
    "no words": (raising(ValueError()), RUNS, "ValueError: ", "what the error itself"),
    "no gradients": (
        raising(ValueError("No gradients provided for any variable.")),
        RUNS,
        "No gradients",
        "1 the prediction outside the tape",
    ),
    "float64": (
        raising(tf.errors.InvalidArgumentError(None, None, "a double tensor but is a float")),
        RUNS,
        "double tensor",
        "18 float64 against float32",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_step_gets_its_line_and_the_variables_are_put_back(nb, name, capsys):
    report, question, words, advice = HOSTILE[name]
    step, variables = plain_step(report=report)
    nb.go_to(np.array([1.25, -2.5]), variables)
    assert nb.examine(step, variables, X_SMALL, Y_SMALL) == [question]
    printed = " ".join(capsys.readouterr().out.split())
    assert words in printed and advice in printed and "two" not in printed
    assert variables[0].value == 1.25 and variables[1].value == -2.5


def test_the_history_of_fit_gets_its_line(nb, rows, capsys):
    model, X, y, rate = built("line", rows)

    def step(X, y):
        return model.fit(X, y, verbose=0)

    assert nb.examine(step, model.trainable_variables, X, y, rate) == [RUNS]
    assert '.history["loss"][0]' in capsys.readouterr().out


def test_metrics_of_train_on_batch_get_their_line(nb, rows, capsys):
    model, X, y, rate = built("line", rows)
    model.compile(OPTIMIZERS.SGD(0.1), "mse", metrics=["mae"])
    variables = model.trainable_variables
    assert nb.examine(on_batch(model), variables, X, y, rate) == [RUNS]
    assert "step(X, y)[0]" in capsys.readouterr().out
    assert not noes(nb, lambda X, y: on_batch(model)(X, y)[0], variables, X, y, rate)


def spoiled(values, row, value):
    values = values.copy()
    values[row] = value
    return values


UNUSABLE = {  # what is handed over: the words, the advice
    "no variables": (lambda v: ([], X_SMALL, Y_SMALL), "0 variables", "34 a Keras model"),
    "a tensor": (
        lambda v: ([tf.zeros(1)], X_SMALL, Y_SMALL),
        "variables[0] is a EagerTensor",
        "2 a tensor instead of a variable",
    ),
    "an integer": (
        lambda v: ([v[0], Plain(0, "int32")], X_SMALL, Y_SMALL),
        "variables[1] holds int32",
        "4 an integer variable",
    ),
    "diverged": (
        lambda v: ([Plain([np.nan])], X_SMALL, Y_SMALL),
        "was nan or inf already",
        "start from new variables",
    ),
    "nan in X": (
        lambda v: (v, spoiled(X_SMALL, 7, np.nan), Y_SMALL),
        "X holds nan",
        "15 a missing",
    ),
    "inf in y": (
        lambda v: (v, X_SMALL, spoiled(Y_SMALL, 7, np.inf)),
        "y holds nan",
        "15 a missing",
    ),
    "a row too few": (
        lambda v: (v, X_SMALL, Y_SMALL[:-1]),
        "60 rows of X, but 59 of y",
        "a slice, a filter",
    ),
    "no rows": (lambda v: (v, X_SMALL[:0], Y_SMALL[:0]), "0 rows of X, 0 of y", ""),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_cannot_be_used_gets_its_line_and_the_step_is_not_called(nb, name, capsys):
    hand_over, words, advice = UNUSABLE[name]
    step, variables = plain_step(report=raising(AssertionError("the step was called")))
    assert nb.examine(step, *hand_over(variables)) == [USABLE]
    printed = " ".join(capsys.readouterr().out.split())
    assert words in printed and advice in printed and "was called" not in printed


def test_an_error_in_the_second_update_is_caught(nb):
    """A variable that becomes a tensor: the cell `fail-rebind` of the gallery."""
    state = {"W": tf.Variable([[0.0]]), "b": tf.Variable([0.0])}
    variables = list(state.values())

    def step(X, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(X @ state["W"] + state["b"] - y))
        dW, db = tape.gradient(loss, [state["W"], state["b"]])
        state["W"] = state["W"] - 0.1 * dW
        state["b"] = state["b"] - 0.1 * db
        return loss

    found = noes(nb, step, variables, *THREE)
    assert list(found) == [RUNS] and "NoneType'" in found[RUNS]
    assert "6 a new tensor" in nb.look_up(nb.runs, found[RUNS])


def seeded_classifier(seed, sizes):
    """A compiled step of a ReLU classifier in 3 classes, with its variables and its rows."""
    tf.keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(200, 5)).astype("float32")
    y = np.argmax(X @ rng.normal(size=(5, 3)) + 0.5 * rng.normal(size=(200, 3)), axis=1)
    layers = [tf.keras.layers.Dense(size, "relu") for size in sizes]
    model = tf.keras.Sequential([tf.keras.Input((5,)), *layers, tf.keras.layers.Dense(3)])
    loss_fn = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(tf.keras.optimizers.SGD(0.1), loss_fn)

    def step(X, y):
        model.reset_metrics()
        return model.train_on_batch(X, y)

    return step, model.trainable_variables, X, y


@pytest.mark.parametrize("seed", range(6, 12))
def test_kinks_on_a_long_way_raise_no_alarm(nb, seed):
    """Where a slope is slight the way is long. With seed 7 the slope of one number was off."""
    step, variables, X, y = seeded_classifier(seed, (32, 32))
    assert noes(nb, step, variables, X, y, 0.1) == {}


def handwritten(kind):
    """A step whose gradient is None, for W or for both, and which subtracts it by hand."""
    W, b = tf.Variable([[0.0]]), tf.Variable([0.0])

    def step(X, y):
        y_pred = X @ W + b
        with tf.GradientTape() as tape:
            if kind == "rounded":
                y_pred = tf.round(X @ W + b)
            if kind == "b alone":
                y_pred = b + 0 * X
            loss = tf.reduce_mean(tf.square(y_pred - y))
        dW, db = tape.gradient(loss, [W, b])
        W.assign_sub(0.1 * dW)
        b.assign_sub(0.1 * db)
        return loss

    return step, [W, b]


@pytest.mark.parametrize(("kind", "number"), [("outside", "1"), ("rounded", "7"), ("b alone", "8")])
def test_a_gradient_of_none_times_a_rate_leads_to_its_cause(nb, kind, number):
    step, variables = handwritten(kind)
    found = noes(nb, step, variables, *THREE)
    assert list(found) == [RUNS]
    causes = re.findall(r"(?:^|; )(\d+) ", nb.look_up(nb.runs, found[RUNS]))
    assert number in causes


@pytest.mark.parametrize(
    ("returned", "advice"),
    [
        (lambda loss, rows: (loss, rows), "step(X, y)[0]"),
        (lambda loss, rows: rows.numpy(), "the loss of each row"),
        (lambda loss, rows: rows, "the loss of each row"),
    ],
    ids=["pair", "array", "tensor"],
)
def test_what_is_no_single_number_is_told_how_to_become_one(nb, returned, advice):
    W, b = tf.Variable([[0.0]]), tf.Variable([0.0])

    def step(X, y):
        with tf.GradientTape() as tape:
            each = tf.square(X @ W + b - y)
            loss = tf.reduce_mean(each)
        dW, db = tape.gradient(loss, [W, b])
        W.assign_sub(0.1 * dW)
        b.assign_sub(0.1 * db)
        return returned(loss, each)

    found = noes(nb, step, [W, b], *THREE)
    assert list(found) == [RUNS] and advice in nb.look_up(nb.runs, found[RUNS])


def test_diverging_names_the_rate_and_staying_names_the_update(nb):
    words = "from 0.87 to inf after 23"
    causes = nb.look_up(nb.loss_falls, words)
    assert "too large a rate" in causes and "13 a sum" in causes
    causes = nb.look_up(nb.every_variable_moves, "variables[0] stays where it is")
    assert "it was left out" in causes
    assert "two updates in one call" in nb.look_up(nb.follows_the_slope, "moves by -2, not -1")


def test_an_error_in_a_later_question_does_not_end_the_others(nb):
    step, variables = plain_step(y_of=lambda y: y + np.zeros((60, 1)))
    found = noes(nb, step, variables, X_SMALL, Y_SMALL, 0.1)
    assert list(found) == [ALIKE, FALLS] and found[ALIKE].startswith(
        "ValueError: operands could not"
    )


@pytest.mark.parametrize("call", [1, 3, 40, 120])
def test_variables_are_put_back_when_it_is_interrupted(nb, call):
    calls = []

    def report(loss):
        calls.append(loss)
        if len(calls) == call:
            raise KeyboardInterrupt
        return loss

    step, variables = plain_step(report=report)
    nb.go_to(np.array([1.25, -2.5]), variables)
    with pytest.raises(KeyboardInterrupt):
        nb.examine(step, variables, X_SMALL, Y_SMALL, 0.1)
    assert variables[0].value == 1.25 and variables[1].value == -2.5


def test_variables_are_put_back_to_the_bit_even_after_it_has_diverged(nb, rows):
    start = np.float32(0.1), np.float32(-1e-7)
    for rate in (0.1, 30.0):
        step, variables = line(rate=rate, start=start)
        noes(nb, step, variables, *rows, rate)
        assert variables[0].numpy() == start[0] and variables[1].numpy() == start[1]


def test_diverging_makes_no_noise(nb, rows, recwarn, capfd):
    step, variables = line(rate=30.0)
    assert LENGTH in noes(nb, step, variables, *rows, 30.0)
    step, variables = plain_step(lambda gW, gb: (1e200 * gW, 1e200 * gb))
    assert LENGTH in noes(nb, step, variables, X_SMALL, Y_SMALL, 1e200)
    assert not recwarn.list and capfd.readouterr().err == ""


def test_gradients_that_are_kept_and_added_up_are_caught(nb):
    kept = np.zeros(2)

    def change(gW, gb):
        kept[:] += gW, gb
        return 0.1 * kept

    step, variables = plain_step(change)
    assert SLOPE in noes(nb, step, variables, X_SMALL, Y_SMALL, 0.1)


def test_a_step_that_moves_nothing_gets_its_line(nb):
    step, variables = plain_step(lambda gW, gb: (0.0, 0.0))
    found = noes(nb, step, variables, X_SMALL, Y_SMALL)
    assert found == {MOVES: "variables[0] stays where it is"}


def test_a_variable_that_the_loss_does_not_use_gets_its_line(nb):
    step, variables = plain_step()
    found = noes(nb, step, [*variables, Plain([1.0, 2.0])], X_SMALL, Y_SMALL)
    assert found == {MOVES: "variables[2] stays where it is"}


def test_hidden_layers_that_start_at_zero_get_their_line(nb):
    model = KERAS.Sequential(
        [
            KERAS.Input((1,)),
            KERAS.layers.Dense(4, "tanh", kernel_initializer="zeros"),
            KERAS.layers.Dense(1, kernel_initializer="zeros"),
        ]
    )
    model.compile(OPTIMIZERS.SGD(0.1), "mse")
    found = noes(nb, on_batch(model), model.trainable_variables, X_SMALL, Y_SMALL, 0.1)
    assert list(found) == [MOVES]


SPOILED = {  # the update or the report: the NOs, of those that are asked, for the rate 0.1
    "half the rate": ({"change": lambda gW, gb: (0.05 * gW, 0.05 * gb)}, [SLOPE]),
    "b eight per cent too far": ({"change": lambda gW, gb: (0.1 * gW, 0.108 * gb)}, [SLOPE]),
    "momentum, and a rate told": ({"change": lambda gW, gb: (0.3 * gW, 0.3 * gb)}, [SLOPE]),
    "a constant step": ({"change": lambda gW, gb: (-0.1, -0.1)}, [SLOPE, FALLS]),
    "sign of b": (
        {"change": lambda gW, gb: (0.1 * gW, -0.1 * gb)},
        [DOWNHILL, SLOPE, LENGTH, FALLS],
    ),
    "half reported": ({"report": lambda loss: loss / 2}, [SLOPE]),
    "the root reported": ({"report": np.sqrt}, [SLOPE]),
    "a constant loss": (
        {"report": lambda loss: 1.0},
        [DOWNHILL, SLOPE, LENGTH, FALLS],
    ),
    "y that is all its mean": ({"y_of": lambda y: np.full_like(y, y.mean())}, [PAIRS]),
    "y from elsewhere, the right size": (
        {"y_of": lambda y: np.resize(Y_SMALL, y.shape)},
        [ORDER, PAIRS],
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_step_is_caught_by_these_questions(nb, name):
    spoil, wanted = SPOILED[name]
    step, variables = plain_step(**spoil)
    assert list(noes(nb, step, variables, X_SMALL, Y_SMALL, 0.1)) == wanted


def test_without_a_rate_the_slope_is_not_asked(nb):
    step, variables = plain_step()
    given = asked(nb, step, variables, X_SMALL, Y_SMALL)
    assert list(given) == [text for text in ALL if text != SLOPE]
    assert all(yes for yes, words in given.values())


def test_a_rate_that_is_a_tensor_or_the_optimizers_own_is_taken(nb, rows):
    optimizer = OPTIMIZERS.SGD(0.1)
    step, variables = line(optimizer)
    for rate in (optimizer.learning_rate, tf.constant(0.1), np.float32(0.1)):
        assert not noes(nb, step, variables, *rows, rate)


def test_the_lowest_point_on_a_bowl_is_where_theory_says(nb):
    """Along the move the MSE is a parabola, whose lowest point is g·g / (rate g·H·g) ahead."""
    A = np.column_stack([X_SMALL, np.ones(60)])
    H, g = 2 / 60 * A.T @ A, -2 / 60 * A.T @ Y_SMALL[:, 0]
    for rate in (1e-9, 0.001, 0.1, 0.7, 20.0, 1e5):
        step, variables = plain_step(lambda gW, gb, rate=rate: (rate * gW, rate * gb))
        run = nb.watched(step, variables)
        steps, move = nb.steps_to_the_lowest(run, np.zeros(2), X_SMALL, Y_SMALL)
        assert np.allclose(move, -rate * g)
        theory = g @ g / (rate * g @ H @ g)
        assert np.isclose(steps, theory, rtol=1e-3) if theory < 3000 else steps > 3000


def test_the_slopes_are_those_of_the_formula(nb):
    step, variables = plain_step()
    run, place = nb.watched(step, variables), np.array([-3.0, 7.0])
    error = X_SMALL * place[0] + place[1] - Y_SMALL
    behind, ahead = nb.slopes_beside(run, place, np.array([1.0, 0.0]), X_SMALL, Y_SMALL)
    assert np.isclose((behind + ahead) / 2, np.mean(2 * error * X_SMALL), rtol=1e-6)
    assert behind < ahead


@pytest.mark.parametrize("kind", [np.asarray, tf.constant])
def test_rows_come_as_the_kind_of_thing_that_was_handed_over(nb, kind):
    """And in the same type; each x with its own y, except where pairs are asked about."""
    seen = []
    step, variables = plain_step()

    def watching(X, y):
        seen.append((X, y))
        return step(np.asarray(X), np.asarray(y))

    X = X_SMALL.astype("float32")
    noes(nb, watching, variables, kind(X), kind(5 * X), 0.1)
    paired = [np.allclose(np.asarray(y), 5 * np.asarray(X)) for X, y in seen]
    assert 10 <= paired.count(False) <= 20
    for X, y in seen:
        assert type(X) is type(y) is type(kind(X_SMALL)) and len(X) == len(y) in (30, 60, 120)
        assert np.asarray(X).dtype == np.asarray(y).dtype == "float32"


def test_what_is_printed(nb, rows, capsys):
    step, variables = line(rate=0.05)
    found = nb.examine(step, variables, *rows, learning_rate=0.1)
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert found == [SLOPE]
    assert [text for text in ALL if any(text in line for line in lines)] == ALL
    assert all(line.startswith("yes ") for line in lines[:7]) and lines[7].startswith("NO ")
    assert "moves by 7.411, not 14.81" in lines[7]
    assert lines[8].startswith("      look for 27 ")
    assert "cannot see a lopsided loss" in printed and "test rows" in printed
    assert max(map(len, lines)) <= 96


def test_long_words_are_wrapped(nb, capsys):
    step, variables = plain_step(report=raising(ValueError("word " * 60)))
    nb.examine(step, variables, X_SMALL, Y_SMALL)
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 96


def test_failures_in_the_tables_bear_the_numbers_and_names_of_the_gallery(nb):
    titles = dict(re.findall(r"^#### (\d+)\. (.+)$", GALLERY, flags=re.MULTILINE))
    tables = [nb.CAUSES, nb.ERRORS, nb.WORDS]
    causes = [part for table in tables for text in table.values() for part in text.split("; ")]
    numbered = [re.fullmatch(r"(\d+) (.+)", part) for part in causes]
    numbered = [match.groups() for match in numbered if match]
    assert len(numbered) > 25
    for number, words in numbered:
        assert words.lower().startswith(titles[number].lower()), (number, words)


def test_every_question_has_its_causes(nb):
    questions = [f for f in vars(nb).values() if getattr(f, "__doc__", None) in ALL]
    assert len(questions) == len(ALL)
    names = {question.__name__ for question in questions}
    assert set(nb.CAUSES) == names - {"length_is_right"}
    assert "13 a sum" in nb.look_up(nb.length_is_right, "too long, it is lowest")
    assert "too small a rate" in nb.look_up(nb.length_is_right, "too short, it is lowest")


@pytest.mark.parametrize(
    "key", ["or inf already", "too long", "too short", "becomes nan", "holds nan"]
)
def test_words_that_are_looked_up_are_words_that_are_said(nb, key):
    """A key of WORDS that no question says any more would never be found."""
    said = [source for cell_id, source in TOOL.items() if cell_id != "examine-words"]
    assert key in nb.WORDS and key in "\n".join(said).replace("{name} holds", "X holds")


# Alone, and mutated.

ALONE = """
import os
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
{cells}

assert "tensorflow" not in __import__("sys").modules
import tensorflow as tf

X = tf.constant([[-1.0], [0.0], [1.0]])
y = tf.constant([[2.0], [1.0], [6.0]])
W = tf.Variable([[0.0]])
b = tf.Variable([0.0])


def my_step(X, y):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(X @ W + b - y))
    dW, db = tape.gradient(loss, [W, b])
    W.assign_sub(0.1 * dW)
    b.assign_sub(0.1 * db)
    return loss


print(examine(my_step, [W, b], X, y, learning_rate=0.1))
print(examine(my_step, [W, b], X, y, learning_rate=0.2))
"""


def test_the_cells_alone_are_enough_in_an_empty_script(tmp_path):
    script = tmp_path / "mine.py"
    script.write_text(ALONE.format(cells="\n\n".join(TOOL.values())))
    run = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    answers = [words for words in run.stdout.splitlines() if words.startswith("[")]
    assert answers == ["[]", f"['{SLOPE}']"]


def test_the_cells_import_numpy_and_textwrap_only():
    imports = re.findall(r"^ *(?:import|from) .+", "\n".join(TOOL.values()), flags=re.MULTILINE)
    assert sorted(imports) == ["import numpy as np", "import textwrap"]


def kinked():
    """The absolute error, whose W stands still at first, at W = b = 0."""
    W, b = Plain(0.0), Plain(0.0)

    def step(X, y):
        error = X * W.value + b.value - y
        sign = np.sign(error)
        W.assign(W.value - 0.1 * np.mean(sign * X))
        b.assign(b.value - 0.1 * np.mean(sign))
        return np.mean(np.abs(error))

    return step, [W, b]


def long_line(rate=0.1, error_in=None):
    """A line of 60 features, as two variables, of which one can move too far."""
    variables = [Plain(np.zeros((60, 1))), Plain([0.0])]

    def step(X, y):
        error = X @ variables[0].value + variables[1].value - y
        gradients = [2 * X.T @ error / len(y), np.mean(2 * error, axis=0)]
        for k, (variable, gradient) in enumerate(zip(variables, gradients)):
            variable.assign(variable.value - rate * (1.3 if k == error_in else 1) * gradient)
        return np.mean(error**2)

    return step, variables


def steep_at_first():
    """The loss e^-W + W² / 100: a long step from the steep side to the flat one."""
    W = Plain(-1.0)

    def step(X, y):
        w = W.value
        W.assign(w - 8.0 * (-np.exp(-w) + 0.02 * w))
        return np.exp(-w) + 0.01 * w**2

    return step, [W]


def unequal_halves():
    """Exercise 9: two halves of unequal size weigh the same."""
    W, b = Plain(0.0), Plain(0.0)

    def step(X, y):
        error = X * W.value + b.value - y
        half = (len(X) + 1) // 2
        weights = np.full((len(X), 1), 0.5 / half)
        weights[half:] = 0.5 / (len(X) - half)
        W.assign(W.value - 0.1 * np.sum(2 * weights * error * X))
        b.assign(b.value - 0.1 * np.sum(2 * weights * error))
        return np.sum(weights * error**2)

    return step, [W, b]


def summing():
    """A sum over the rows, as loss and in the slopes."""
    W, b = Plain(0.0), Plain(0.0)

    def step(X, y):
        error = X * W.value + b.value - y
        W.assign(W.value - 0.001 * np.sum(2 * error * X))
        b.assign(b.value - 0.001 * np.sum(2 * error))
        return np.sum(error**2)

    return step, [W, b]


def in_32_bits(rate):
    """A right step whose numbers are all float32."""
    W, b = Plain(0.0, "float32"), Plain(0.0, "float32")

    def step(X, y):
        error = X * W.value + b.value - y
        W.assign(W.value - np.float32(2 * rate) * np.mean(error * X))
        b.assign(b.value - np.float32(2 * rate) * np.mean(error))
        return np.mean(error**2)

    return step, [W, b]


def random_step():
    rng = np.random.default_rng(0)
    return plain_step(report=lambda loss: loss * rng.uniform(0.99, 1.01))


def stays_on_one_side():
    """A ReLU on the output: from zero nothing moves, though the loss is lower on one side."""
    W, b = Plain(0.0), Plain(0.0)

    def step(X, y):
        y_pred = X * W.value + b.value
        error = np.maximum(y_pred, 0) - y
        alive = y_pred > 0
        W.assign(W.value - 0.05 * np.mean(2 * error * X * alive))
        b.assign(b.value - 0.05 * np.mean(2 * error * alive))
        return np.mean(error**2)

    return step, [W, b]


WIDE = np.random.default_rng(1).normal(size=(300, 60))
WIDE_Y = WIDE @ np.random.default_rng(2).normal(size=(60, 1)) / 8 + 1


def set_to_step():
    W, b = Plain([[0.0]]), Plain([0.0])

    def step(X, y):
        error = X * W.value + b.value - y
        W.assign([[-0.1 * np.mean(2 * error * X)]])
        b.assign([-0.1 * np.mean(2 * error)])
        return np.mean(error**2)

    return step, [W, b]


THREE64 = THREE[0].astype("float64"), THREE[1].astype("float64")
SMALL_ROWS = X_SMALL, Y_SMALL
THRICE_AS_WIDE = np.array([[-3.0], [3.0]] * 10), np.full((20, 1), 3.0)
BEST = np.polyfit(X_SMALL[:, 0], Y_SMALL[:, 0], 1)
HUGE = X_SMALL.astype("float32"), (1e9 * Y_SMALL).astype("float32")


def moved_by(rate):
    return lambda: plain_step(lambda gW, gb: (rate * gW, rate * gb))


def one_step_only():
    """Runs once, and never again."""
    done = []

    def report(loss):
        done.append(loss)
        if len(done) > 1:
            raise RuntimeError("a second time")
        return loss

    return plain_step(report=report)


CASES = {  # step, rows, rate: the NOs. Together they notice every mutation below.
    "right": (plain_step, SMALL_ROWS, 0.1, []),
    "at its best": (lambda: at(plain_step(), (2, 3)), THREE64, 0.1, []),
    "b stays, at its best": (
        lambda: at(plain_step(lambda gW, gb: (0.1 * gW, 0.0)), BEST),
        SMALL_ROWS,
        0.1,
        [MOVES],
    ),
    "32 bits, y huge": (lambda: in_32_bits(0.1), HUGE, 0.1, []),
    "32 bits, creeps": (
        lambda: in_32_bits(1e-7),
        (HUGE[0], HUGE[1] / 1e9),
        None,
        [LENGTH],
    ),
    "three points": (plain_step, THREE64, 0.1, []),
    "kinked": (kinked, THREE64, 0.1, []),
    "wide": (long_line, (WIDE, WIDE_Y), 0.1, []),
    "wide, W too far": (lambda: long_line(error_in=0), (WIDE, WIDE_Y), 0.1, [SLOPE]),
    "wide, b too far": (lambda: long_line(error_in=1), (WIDE, WIDE_Y), 0.1, [SLOPE]),
    "rate 0.5": (moved_by(0.5), SMALL_ROWS, 0.5, []),
    "rate 1.3": (moved_by(1.3), SMALL_ROWS, 1.3, [LENGTH, FALLS]),
    "steep at first": (steep_at_first, SMALL_ROWS, 8.0, [PAIRS]),
    "W diverges later": (moved_by(0.45), THRICE_AS_WIDE, 0.45, [FALLS]),
    "rate 1.3, untold": (moved_by(1.3), SMALL_ROWS, None, [FALLS]),
    "rate 0.7, untold": (moved_by(0.7), SMALL_ROWS, None, []),
    "rate 0.001": (moved_by(0.001), SMALL_ROWS, 0.001, []),
    "rate 0.0001": (moved_by(0.0001), SMALL_ROWS, 0.0001, [LENGTH]),
    "rate told wrongly": (moved_by(0.1), SMALL_ROWS, 0.108, [SLOPE]),
    "a sum": (summing, SMALL_ROWS, 0.001, []),
    "random": (random_step, SMALL_ROWS, 0.1, [REPEATS]),
    "halves": (unequal_halves, THREE64, 0.1, [ORDER, ALIKE]),
    "set to the step": (set_to_step, SMALL_ROWS, 0.1, [SLOPE]),
    "set to the step, far": (set_to_step, (X_SMALL, 100 * Y_SMALL), 0.1, [SLOPE]),
    "stays below": (stays_on_one_side, (THREE64[0], -THREE64[1]), 0.05, [MOVES]),
    "stays on one side": (stays_on_one_side, THREE64, 0.05, [MOVES]),
    "W stays": (lambda: plain_step(lambda gW, gb: (0.0, 0.1 * gb)), SMALL_ROWS, 0.1, [MOVES]),
    "b stays": (lambda: plain_step(lambda gW, gb: (0.1 * gW, 0.0)), SMALL_ROWS, 0.1, [MOVES]),
    "nan moves": (lambda: plain_step(lambda gW, gb: (0.1 * gW, np.nan)), SMALL_ROWS, 0.1, [MOVES]),
    "once": (one_step_only, SMALL_ROWS, 0.1, [RUNS]),
    **{name: (lambda s=s: plain_step(**s), SMALL_ROWS, 0.1, w) for name, (s, w) in SPOILED.items()},
}


def at(made, place):
    """Put the variables of a step at a place."""
    step, variables = made
    for variable, value in zip(variables, place):
        variable.assign(np.full(variable.value.shape, value))
    return step, variables


def judged(names):
    """The names of the cases in which `examine` says something else than it should."""
    tool = types.SimpleNamespace(**names)
    wrong = []
    for name, (make, (X, y), rate, wanted) in CASES.items():
        step, variables = make()
        before = [variable.numpy() for variable in variables]
        try:
            found = list(noes(tool, step, variables, X, y, rate))
        except Exception as error:  # noqa: BLE001
            found = [repr(error)]
        after = [variable.numpy() for variable in variables]
        if found != wanted or any(np.any(a != b) for a, b in zip(after, before)):
            wrong.append((name, found))
    return wrong


def tool_with(cell_id=None, right="", mutation=""):
    """The cells of `examine`, one of them changed in one place."""
    names = {"__name__": "mutated"}
    for name, source in TOOL.items():
        if name == cell_id:
            assert source.count(right) >= 1, f"{cell_id} has changed: {right}"
            source = source.replace(right, mutation, 1)
        exec(source, names)  # noqa: S102
    return names


def test_the_cases_are_judged_rightly():
    assert judged(tool_with()) == []


MUTATIONS = [
    ("examine-place", "ravel()", "ravel()[::-1]"),
    ("examine-go-to", "[old.size]", "[1]"),
    ("examine-watched", "place_of(variables) - before", "before - place_of(variables)"),
    ("examine-watched", "        go_to(place, variables)\n", ""),
    ("examine-runs", "    run(place, X, y)\n", ""),
    ("examine-moves", "not np.all(np.isfinite(move[mine]))", "False"),
    ("examine-moves", "if not moves and", "if moves and"),
    ("examine-moves", "not stands_at_its_best(run, place, X, y, mine)", "True"),
    ("examine-moves", "not stands_at_its_best(run, place, X, y, mine)", "False"),
    ("examine-moves", "range(owner[-1] + 1)", "range(owner[-1])"),
    ("examine-best", "there > loss", "there < loss"),
    ("examine-best", "(0.01, -0.01)", "(0.01,)"),
    ("examine-best", " or not np.any(move[mine])", ""),
    ("examine-best", "(1, 10, 100, 1000, 10000, 100000)", "(1,)"),
    ("examine-repeats", "spread <= SMALL", "spread >= SMALL"),
    ("examine-repeats", "range(10)", "range(1)"),
    ("examine-rows", "abs(other - loss) <= SMALL * abs(loss)", "True"),
    ("examine-rows", "rows_of(X, rows), rows_of(y, rows))", "rows_of(X, rows), y)"),
    ("examine-rows", "np.tile(np.arange(len(y)), 2)", "np.arange(len(y))"),
    ("examine-rows", "abs(double - loss) <=", "abs(double - loss) >"),
    ("examine-rows", "double - 2 * loss) <= SMALL", "double - 2 * loss) > SMALL"),
    ("examine-slopes", "return (loss - behind) / way", "return (behind - loss) / way"),
    ("examine-slopes", "way *= 4", "way = 4"),
    ("examine-downhill", "slope < 0", "slope > 0"),
    ("examine-downhill", "slope < 0", "True"),
    ("examine-directions", "np.eye(move.size)", "np.eye(move.size)[:1]"),
    ("examine-directions", "np.unique(owner)", "np.unique(owner)[:-1]"),
    ("examine-directions", "np.unique(owner)", "np.unique(owner)[1:]"),
    ("examine-follows", "range(2)", "range(1)"),
    ("examine-follows", "place = place + move", "pass"),
    ("examine-follows", "-learning_rate * np.mean", "learning_rate * np.mean"),
    ("examine-follows", "0.05 *", "0.2 *"),
    ("examine-follows", "not abs(went", "abs(went"),
    ("examine-follows", "learning_rate * np.ptp(slopes) / 2", "10 * abs(should)"),
    ("examine-lowest", "far > 1.01 * near", "far < 1.01 * near"),
    ("examine-lowest", "abs(far) <= SMALL * abs(loss) or ", ""),
    ("examine-lowest", "bend = 2 * near - far", "bend = near - far"),
    ("examine-length", "steps > 3000", "steps > 30000"),
    ("examine-length", "steps > 3000", "steps > 300"),
    ("examine-length", "not steps >= 0.5", "steps >= 0.5"),
    ("examine-length", "not steps >= 0.5", "not steps >= 0.05"),
    ("examine-length", "not steps >= 0.5", "not steps >= 1.5"),
    ("examine-length", "learning_rate is not None and ", ""),
    ("examine-length", "not fallen and ", ""),
    ("examine-falls", "last < first", "last > first"),
    ("examine-falls", "range(1, 101)", "range(1, 1)"),
    ("examine-pairs", "mean - loss > enough", "mean - loss < enough"),
    ("examine-pairs", "mean - loss > enough", "True"),
    ("examine-pairs", "rng.permutation(n)", "np.arange(n)"),
    ("examine-questions", "if learning_rate is not None:", "if learning_rate is None:"),
    ("examine-questions", "float(learning_rate), owner)", "2 * float(learning_rate), owner)"),
    ("examine-questions", "aside = start + signs *", "aside = start + 0 * signs *"),
    ("examine-questions", "trained = place_of(variables)", "trained = start"),
    ("examine-interview", "go_to(start, variables)", "pass"),
    ("examine-interview", "(runs, every_variable_moves, repeats)", "()"),
    ("examine-ask", "bool(yes)", "not yes"),
    ("examine-ask", "yes, words = False", "yes, words = True"),
]


@pytest.mark.parametrize(("cell_id", "right", "mutation"), MUTATIONS)
@pytest.mark.filterwarnings("ignore")
def test_a_mutation_in_examine_is_noticed(cell_id, right, mutation):
    assert judged(tool_with(cell_id, right, mutation))


# The cells that show it.


@pytest.fixture(scope="module")
def shown(nb):
    """What each cell of the section prints, in order, in one namespace."""
    rows = {"X_train_norm": X_NORM.astype("float32"), "y_train": Y_TRAIN.astype("float32")}
    names, said = dict(vars(nb), W_best=W_BEST, b_best=B_BEST, **rows), {}
    for cell_id, source in CELLS.items():
        if cell_id.startswith(("examine", "try-")) and cell_id != "examined-wraps":
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(source, names)  # noqa: S102
            said[cell_id] = out.getvalue()
    return said


def test_examined_right_says_yes_to_everything(shown):
    said = shown["examined-right"]
    assert said.count("\nyes") == 10 and "NO " not in said and said.endswith("answered NO: []\n")


def test_the_reading_of_the_broken_step_is_what_it_prints(shown):
    said, text = shown["examined-assign"], TEXTS["examined-assign-reading"]
    assert re.findall(r"^NO  (.+\?)", said, flags=re.MULTILINE) == [SLOPE]
    moves, should = re.search(r"variables\[0\] moves by (\S+), not (\S+)", said).groups()
    assert f"moved by −{abs(float(moves)):.2f}" in text and f"moved by {should}" in text
    assert "26 set to the step instead of moved by it" in " ".join(said.split())


def test_the_steps_of_the_demonstrations(shown):
    assert "5.000 steps ahead" in shown["try-length"]
    assert re.search(r"rate 0.1: True.*\nrate 0.2: False", shown["try-slope"])
    assert shown["try-rows"].count("True") == 3
    assert "does every variable move? True" in shown["try-moves"]


# What random mutations (mutate.py) could change unnoticed.


def test_the_absolute_error_of_the_controls(nb):
    y_true, y_pred = tf.constant([[1.0], [5.0]]), tf.constant([[2.0], [1.0]])
    assert float(nb.absolute(y_true, y_pred)) == 2.5


def test_the_eye_looks_at_the_loss_after_forty_updates(bugs):
    calls = itertools.count()
    given = bugs.train_and_ask(lambda X, y: float(next(calls) != 40), rate=0.1)
    assert given[bugs.BY_EYE]


@pytest.mark.parametrize("name", ["uphill", "comma"])
def test_these_bugs_are_wrong_in_one_thing_only(bugs, name):
    X, y = X_SMALL.astype("float32") + 1, Y_SMALL.astype("float32")
    bugs.go_to(np.ones(2), [bugs.W_bug, bugs.b_bug])
    loss = float(getattr(bugs, name)(X, y))
    error = X + 1 if name == "comma" else X + 1 - y
    step = (0.1 if name == "uphill" else -0.1) * 2 * np.array([np.mean(error * X), np.mean(error)])
    np.testing.assert_allclose(loss, np.mean(error**2), rtol=1e-5)
    np.testing.assert_allclose(bugs.place_of([bugs.W_bug, bugs.b_bug]), 1 + step, rtol=1e-4)


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("features", [1, 5, 10, 20])
def test_many_features_do_not_pass_for_pairs(nb, features, shuffled):
    """A model of twenty features fits 160 shuffled y by heart, and is asked on other rows."""
    rng = np.random.default_rng(features)
    X = rng.normal(size=(160, features)).astype("float32")
    y = X @ rng.normal(size=(features, 1)) + 0.1 * rng.normal(size=(160, 1))
    y = (rng.permutation(y) if shuffled else y).astype("float32")
    W, b = tf.Variable(tf.zeros((features, 1))), tf.Variable(tf.zeros(1))
    step = adam_or_sgd(
        lambda X, y: tf.reduce_mean(tf.square(X @ W + b - y)), [W, b], OPTIMIZERS.SGD(0.05)
    )
    assert list(noes(nb, step, [W, b], X, y, 0.05)) == ([PAIRS] if shuffled else [])


@pytest.mark.parametrize(
    ("error", "number"),
    [
        ("AttributeError: 'EagerTensor' object has no attribute '_unique_id'", "20 "),
        ("TypeError: BaseOptimizer.apply_gradients() takes 2 positional arguments", "20 "),
        ("AttributeError: 'EagerTensor' object has no attribute 'assign_sub'", "6 "),
        ("AttributeError: module 'tensorflow' has no attribute 'placeholder'", "21 "),
        ("TypeError: step() missing 1 required positional argument: 'optimizer'", "write"),
    ],
)
def test_the_words_of_an_error_lead_to_its_failure(nb, error, number):
    assert nb.look_up(nb.runs, error).startswith(number)


def test_the_kind_of_y_is_kept_or_is_an_array(nb):
    """A tensor of yes and no cannot be multiplied, so its rows come as an array."""
    answers = tf.constant([[True], [False], [True]])
    assert nb.rows_of(answers, [2, 1]).tolist() == [[True], [False]]


# Found by readers who tried to mislead it.


def tape_outside(X, y, W):
    y_pred = X @ W
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(y_pred - y))
    OPTIMIZERS.SGD(0.1).apply(tape.gradient(loss, [W]), [W])
    return loss


def asked_twice(X, y, W):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(X @ W - y))
    for _ in range(2):
        W.assign_sub(0.1 * tape.gradient(loss, W))
    return loss


def numpy_inside(X, y, W):
    with tf.GradientTape() as tape:
        loss = np.mean((X @ W.numpy() - y) ** 2)
    W.assign_sub(0.1 * tape.gradient(loss, W))
    return loss


def other_precision(X, y, W):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(X @ W - tf.cast(y, "float64")))
    W.assign_sub(0.1 * tape.gradient(loss, W))
    return loss


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "tf.function"])
@pytest.mark.parametrize(
    ("bug", "number"),
    [(tape_outside, "1 "), (asked_twice, "11 "), (numpy_inside, "5 "), (other_precision, "18 ")],
)
def test_an_error_leads_to_its_cause_in_a_graph_too(nb, rows, bug, number, compiled):
    """In a graph the text begins with "in user code:", and what is wrong stands lower down."""
    W = tf.Variable([[1.0]])
    step = tf.function(bug, autograph=False) if compiled else bug
    given = list(nb.interview(lambda X, y: step(X, y, W), [W], *rows, 0.1))
    question, yes, words = given[-1]
    assert question is nb.runs and not yes and "in user code" not in words
    assert number in nb.look_up(question, words)


@pytest.mark.parametrize("text", ["module 'tensorflow' has no attribute 'lrate'", "1 and 0 differ"])
def test_of_an_error_in_a_keras_layer_no_letter_is_lost(nb, rows, text):
    """Neither in the first call, where Keras looks for a shape, nor later."""

    class Fails(KERAS.layers.Layer):
        healthy = False

        def call(self, X):
            if self.healthy:
                return X
            raise AttributeError(text)

    layer, X = Fails(), tf.constant(rows[0])
    assert nb.ask(lambda: layer(X))[2] == f"AttributeError: {text}"
    layer.healthy = True
    layer(X)
    layer.healthy = False
    assert nb.ask(lambda: layer(X))[2] == f"AttributeError: {text}"
    model = KERAS.Sequential([Fails()])
    assert nb.ask(lambda: model(X))[2] == f"AttributeError: {text}"


def test_an_error_in_a_keras_layer_is_said(nb, rows):
    model = KERAS.Sequential([KERAS.Input((3,)), KERAS.layers.Dense(1)])
    words = nb.ask(lambda: model(rows[0]))[2]
    assert "Exception encountered" not in words and "\x1b" not in words
    assert "expected axis -1" in words or "ncompatible" in words


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("one\ntwo", "one"),
        ("", ""),
        (
            "{{function_node f}} Incompatible shapes: [1] vs. [2]",
            "Incompatible shapes: [1] vs. [2]",
        ),
        ("node {{node sub}} = Sub", "node {{node sub}} = Sub"),
        ("in user code:\n\n    File x, line 1\n\n    KeyError: 'a'\n", "'a'"),
        ("in user code:\n\n    File x, line 1\n", ""),
        ("in user code:\n\n File x\n\n ValueError: Exception encountered in M.\n\n bad\n", "bad"),
        (
            "Graph execution error:\n\nDetected at node f\nbad labels\n\t [[{{node f}}]]",
            "bad labels",
        ),
        ("Graph execution error:\n\nDetected at node f", "Detected at node f"),
    ],
)
def test_what_an_error_says(nb, text, said):
    assert nb.said_by(ValueError(text)) == said


@pytest.mark.parametrize("seed", range(5))
def test_no_alarm_on_a_bias_before_batch_normalization(nb, rows, seed):
    """Its true slope is 0, so two roundings are compared."""
    KERAS.utils.set_random_seed(seed)
    layers = KERAS.layers
    model = KERAS.Sequential([layers.Dense(8), layers.BatchNormalization()])
    model.add(layers.Activation("tanh"))
    model.add(layers.Dense(1))
    model.compile(OPTIMIZERS.SGD(0.05), "mse")
    X, y = rows[0], (rows[1] - rows[1].mean()) / rows[1].std()
    model(X)
    assert not noes(nb, on_batch(model), model.trainable_variables, X, y, 0.05)


def test_no_alarm_where_no_direction_can_be_asked(nb, rows):
    """At a kink in every direction there is nothing to compare, and this is said."""

    def run(place, X, y):
        return 1 + abs(place[0]), np.array([0.0])

    answer = nb.follows_the_slope(run, np.zeros(1), *rows, 0.1, np.zeros(1, int))
    assert answer[0] and "cannot be asked" in answer[1]


def test_a_schedule_for_a_rate_is_refused_before_any_question(nb, rows):
    schedule = OPTIMIZERS.schedules.ExponentialDecay(0.1, 10, 0.5)
    step, variables = line(rate=0.1)
    with pytest.raises(TypeError, match="schedule.*leave it out"):
        nb.examine(step, variables, *rows, learning_rate=schedule)


def test_a_layer_that_was_not_handed_over_is_not_missed(nb, rows):
    """What the text says that it cannot see: W1 is never trained, and every answer is yes."""
    rng = np.random.default_rng(0)
    W1 = tf.constant(rng.normal(size=(1, 8)).astype("float32"))
    W2 = tf.Variable(rng.normal(size=(8, 1)).astype("float32"))
    y = (rows[1] - rows[1].mean()) / rows[1].std()
    step = adam_or_sgd(
        lambda X, y: tf.reduce_mean(tf.square(tf.tanh(X @ W1) @ W2 - y)),
        [W2],
        OPTIMIZERS.SGD(0.05),
    )
    assert not noes(nb, step, [W2], rows[0], y, 0.05)


def test_without_a_rate_swapped_gradients_may_pass(nb, rows):
    W, b = tf.Variable(1.0), tf.Variable(1.0)
    adam = OPTIMIZERS.Adam(0.1)
    adam.build([W, b])

    def step(X, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(W * X + b - y))
        adam.apply(tape.gradient(loss, [W, b])[::-1], [W, b])
        return loss

    assert not noes(nb, step, [W, b], *rows, None)


@pytest.mark.parametrize("kind", ["in a layer", "while it runs"])
def test_an_error_of_a_compiled_model_is_said(nb, rows, kind):
    model = KERAS.Sequential([KERAS.Input((1,)), KERAS.layers.Dense(3)])
    if kind == "while it runs":
        model.compile("sgd", KERAS.losses.SparseCategoricalCrossentropy(), jit_compile=False)
        step, y = model.train_on_batch, np.full(len(rows[1]), 7)  # there are classes 0, 1, 2
    else:
        step, y = tf.function(lambda X, y: model(tf.concat([X, X], 1)), autograph=False), rows[1]
    words = nb.ask(lambda: step(rows[0], y))[2]
    assert not any(part in words for part in ("in user code", "Exception enc", "Graph exec"))
    assert len(words.partition(": ")[2]) > 20


@pytest.mark.parametrize(("features", "compared"), [(1, "4 of 4"), (60, "8 of 122")])
def test_the_answer_says_how_many_moves_were_compared(nb, features, compared):
    """Each of few numbers, twice; for more than fifty two directions for each variable, twice."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(160, features)).astype("float32")
    y = (X.sum(axis=1, keepdims=True) + 1).astype("float32")
    W, b = tf.Variable(tf.zeros((features, 1))), tf.Variable(tf.zeros(1))
    step = adam_or_sgd(
        lambda X, y: tf.reduce_mean(tf.square(X @ W + b - y)), [W, b], OPTIMIZERS.SGD(0.05)
    )
    given = {question: words for question, _, words in nb.interview(step, [W, b], X, y, 0.05)}
    assert given[nb.follows_the_slope].startswith(f"{compared} compared, the last ")


# What an examination must not do to an optimizer, and rates that are high and do well.


def test_a_search_far_ahead_is_not_remembered_by_adam_when_it_trains(nb):
    """A decay whose loss is huge where the search for the lowest point ends."""
    times = np.random.default_rng(0).uniform(1, 500, (200, 1)).astype("float32")
    y = np.exp(-0.004 * times).astype("float32")
    k = tf.Variable(0.01)
    adam = tf.keras.optimizers.Adam(1e-4)
    adam.build([k])

    def step(X, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(tf.exp(-k * X) - y))
        adam.apply([tape.gradient(loss, k)], [k])
        return loss

    assert FALLS not in nb.examine(step, [k], times, y)


@pytest.mark.parametrize("seed", [0, 2, 4, 5])
def test_a_network_that_learns_well_is_not_called_too_fast(nb, seed):
    """Two layers of 64 ReLU units on a sine, at a rate that jumps at first."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-3, 3, (200, 1)).astype("float32")
    variables = []
    for inputs, outputs in ((1, 64), (64, 64), (64, 1)):
        scale = np.sqrt(1 / inputs)
        variables.append(tf.Variable(rng.normal(0, scale, (inputs, outputs)), dtype="float32"))
        variables.append(tf.Variable(rng.normal(0, 0.5, outputs), dtype="float32"))

    @tf.function
    def step(X, y):
        with tf.GradientTape() as tape:
            hidden = X
            for W, b in zip(variables[:-2:2], variables[1:-2:2]):
                hidden = tf.nn.relu(hidden @ W + b)
            loss = tf.reduce_mean(tf.square(hidden @ variables[-2] + variables[-1] - y))
        for variable, gradient in zip(variables, tape.gradient(loss, variables)):
            variable.assign_sub(0.02 * gradient)
        return loss

    assert (
        nb.steps_to_the_lowest(nb.watched(step, variables), nb.place_of(variables), X, np.sin(X))[0]
        < 0.5
    )
    assert not nb.examine(step, variables, X, np.sin(X), 0.02)


def test_shapes_that_spread_out_pass(nb):
    """`X * W` for `X @ W`, and a network whose last layer is missing: every answer is yes."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(160, 3)).astype("float32")
    y = (X @ [[1.0], [-2.0], [0.5]] + 3).astype("float32")
    W, b = tf.Variable([0.5, 0.5, 0.5]), tf.Variable([0.0])
    W1 = tf.Variable(rng.normal(size=(3, 16)), dtype="float32")
    b1 = tf.Variable(tf.zeros(16))
    models = [(lambda X: X * W + b, [W, b]), (lambda X: tf.nn.tanh(X @ W1) + b1, [W1, b1])]
    for model, variables in models:

        @tf.function
        def step(X, y, model=model, variables=variables):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(model(X) - y))
            for variable, gradient in zip(variables, tape.gradient(loss, variables)):
                variable.assign_sub(0.1 * gradient)
            return loss

        assert not nb.examine(step, variables, X, y, 0.1)


@pytest.mark.parametrize(("rate", "caught"), [(0.001, False), (0.1, True)])
def test_a_loss_measured_after_the_update_passes_at_a_small_rate(nb, rate, caught):
    W, b = Plain([[0.0]]), Plain([0.0])

    def step(X, y):
        error = X * W.value[0, 0] + b.value[0] - y
        W.assign(W.value - rate * np.mean(2 * error * X))
        b.assign(b.value - rate * np.mean(2 * error))
        return np.mean((X * W.value[0, 0] + b.value[0] - y) ** 2)

    assert (nb.examine(step, [W, b], X_SMALL, Y_SMALL, rate) == [SLOPE]) == caught


def test_a_part_of_a_large_variable_that_stays_may_pass(nb):
    W, b = Plain(np.zeros((60, 1))), Plain([0.0])

    def step(X, y):
        error = X @ W.value + b.value - y
        gradient = 2 * X.T @ error / len(y)
        gradient[0] = 0
        loss = np.mean(error**2)
        W.assign(W.value - 0.1 * gradient)
        b.assign(b.value - 0.1 * np.mean(2 * error, axis=0))
        return loss

    y = WIDE_Y - WIDE[:, :1] * (np.linalg.lstsq(WIDE, WIDE_Y, rcond=None)[0][0] - 0.02)
    assert not nb.examine(step, [W, b], WIDE, y, 0.1)


@pytest.mark.parametrize(
    "report",
    [lambda loss, n: np.sqrt(loss * n), lambda loss, n: round(loss, 2)],
    ids=["norm", "round"],
)
def test_a_norm_and_a_rounded_loss_get_a_no(nb, report):
    W, b = Plain([[0.0]]), Plain([0.0])

    def step(X, y):
        error = X * W.value[0, 0] + b.value[0] - y
        loss = np.mean(error**2)
        W.assign(W.value - 0.1 * np.mean(2 * error * X))
        b.assign(b.value - 0.1 * np.mean(2 * error))
        return report(loss, len(y))

    assert nb.examine(step, [W, b], X_SMALL, Y_SMALL, 0.1)


@pytest.mark.parametrize(
    ("hand_over", "words", "advice"),
    [
        (lambda W, b: (W, X_SMALL, Y_SMALL), "one variable", "examine(step, [W], X, y)"),
        (lambda W, b: ([W, b, W], X_SMALL, Y_SMALL), "variables[2] is in the list twice", "shared"),
        (lambda W, b: ([W, b], [X_SMALL, X_SMALL], Y_SMALL), "X is a list", "side by side"),
        (
            lambda W, b: ([W, tf.Variable(0)], X_SMALL, Y_SMALL),
            "holds int32",
            "trainable_variables",
        ),
    ],
    ids=["one", "twice", "list", "integer"],
)
def test_what_is_handed_over_wrongly_gets_its_own_advice(nb, hand_over, words, advice, capsys):
    W, b = tf.Variable([[0.0]]), tf.Variable([0.0])
    assert nb.examine(raising(AssertionError), *hand_over(W, b)) == [USABLE]
    printed = " ".join(capsys.readouterr().out.split())
    assert words in printed and advice in printed


def test_errors_of_old_and_of_graph_code_lead_to_their_failures(nb, capsys):
    W = tf.Variable([[0.0]])

    def old(X, y):
        return tf.gradients(tf.reduce_mean(tf.square(X * W - y)), [W])

    def minimized(X, y):
        return OPTIMIZERS.SGD(0.1).minimize(lambda: tf.reduce_mean(tf.square(X * W - y)), [W])

    @tf.function
    def graph(X, y):
        return tf.reduce_mean(tf.square(X * W - y)).numpy()

    for step, failure in ((old, "21"), (minimized, "21"), (graph, "5 NumPy")):
        nb.examine(step, [W], X_SMALL.astype("float32"), Y_SMALL.astype("float32"))
        printed = " ".join(capsys.readouterr().out.split())
        assert f"look for {failure}" in printed, printed
