"""Part 3: what each failure shows, and where its table of symptoms leads."""

import random
import re
import warnings

import numpy as np
import pytest
import tensorflow as tf

from notebook_runner import code_cells, printed, read
from test_loop import X_NORM, X_RAW, X_TEST, Y_TEST, Y_TRAIN

X3 = np.array([-1.0, 0.0, 1.0])
Y3 = np.array([2.0, 1.0, 6.0])
FLOAT32_MAX = 3.4e38
NUMBER = r"-?\d[\d,]*\.?\d*(?:e[+-]?\d+)?|\bnan\b|\binf\b"


def value(said, words):
    """The first number that stands behind `words` in what a cell said."""
    _, found, rest = said.partition(words)
    assert found, f"{words!r} is not in {said!r}"
    return float(re.search(NUMBER, rest)[0].replace(",", ""))


def values(said, words):
    """The numbers behind each `words`, in order."""
    return [value(words + part, words) for part in said.split(words)[1:]]


def loss_of(x, y, W, b):
    """The mean squared error of the line W x + b."""
    return np.mean((x * W + b - y) ** 2)


def slopes_of(x, y, W, b):
    """The derivatives of the mean squared error, by formula."""
    error = x * W + b - y
    return 2 * np.mean(error * x), 2 * np.mean(error)


def descend(x, y, updates, rate=0.1, W=0.0, b=0.0):
    """Gradient descent in NumPy: the losses after 0, 1, … updates, and the last W and b."""
    losses = [loss_of(x, y, W, b)]
    for _ in range(updates):
        dW, db = slopes_of(x, y, W, b)
        W, b = W - rate * dW, b - rate * db
        losses.append(loss_of(x, y, W, b))
    return losses, W, b


@pytest.fixture(scope="module")
def said():
    """What each code cell has printed, by its id: test_execution compares it with a fresh run."""
    return {cell.id: printed(cell) for cell in code_cells(read())}


@pytest.fixture(scope="module")
def data():
    """x, normalized x and y of the training rows, flat and in float64."""
    return X_RAW.ravel(), X_NORM.ravel(), Y_TRAIN.ravel()


# The cells in which errors are caught, and which errors, in order.
ERRORS = {
    "fail-outside": ["ValueError"],
    "caught": ["ValueError"],
    "fail-integer": ["InvalidArgumentError", "ValueError"],
    "fail-numpy": ["AttributeError"],
    "fail-rebind": ["TypeError"],
    "fail-minus": ["RuntimeError"],
    "fail-twice": ["RuntimeError"],
    "fail-float": ["InvalidArgumentError", "InvalidArgumentError"],
    "fail-optimizer": ["ValueError"],
    "fail-pairs": ["TypeError", "AttributeError"],
    "fail-names": ["AttributeError"] * 4 + ["ValueError"] + ["AttributeError"] * 2 + ["ValueError"],
    "fail-shapes": ["ValueError"],
}

# The words by which a victim finds the failure. They hold for TensorFlow 2.19 to 2.21.
WORDS = {
    "fail-outside": ["gradients: [None, None]", "No gradients provided for any variable"],
    "fail-integer": ["type of W: int32", "gradients: [None, None]", "No gradients provided"],
    "fail-numpy": ["gradient None", "_id"],
    "fail-rebind": [
        "update 1: type of W ResourceVariable",
        "update 2: type of W EagerTensor, gradient None",
        "NoneType",
    ],
    "fail-minus": ["`variable -= value`", "assign_sub"],
    "fail-no-derivative": [
        "gradients: [None, None]",
        "round: None",
        "floor: None",
        "argsort: None",
    ],
    "fail-some-none": ["UserWarning: Gradients do not exist for variables", "gradient for b: None"],
    "fail-twice": ["non-persistent GradientTape"],
    "fail-constant": ["RuntimeWarning: invalid value encountered in"],
    "fail-float": ["types: float64 and float32", "double", "converted: float32"],
    "fail-optimizer": ["Unknown variable"],
    "fail-names": ["'placeholder'", "'Session'", "'lr'", "'minimize'", ".weights.h5"],
    "fail-shapes": ["shape of the difference: (160, 160)"],
    "fail-cast": ["types: float64 and then float32"],
    "fail-keras-run": ["warning: The model does not have any trainable weights"],
    "night-look": ["y          : (160,) float32", "predictions: (160, 1) float32"],
    "night-nan": ["Infinity or NaN", '"Log"'],
}


@pytest.mark.parametrize("cell_id", ERRORS)
def test_errors_that_are_caught(said, cell_id):
    assert re.findall(r"^(\w+Error): ", said[cell_id], re.MULTILINE) == ERRORS[cell_id]


@pytest.mark.parametrize("cell_id", WORDS)
def test_words_that_a_victim_sees(said, cell_id):
    on_one_line = " ".join(said[cell_id].split("\n"))
    for words in WORDS[cell_id]:
        assert words in on_one_line


def test_gradient_is_none(said):
    dW, db = slopes_of(X3, Y3, 0, 0)
    assert value(said["fail-outside"], "loss:") == pytest.approx(np.mean(Y3**2))
    assert "for a tensor:   None" in said["fail-tensor"]
    assert value(said["fail-tensor"], "for a variable:") == pytest.approx(dW)
    assert "not watched: None" in said["fail-input"]
    assert value(said["fail-input"], "\nwatched:") == value(said["fail-input"], "\nW:")
    assert values(said["fail-numpy"], "loss") == pytest.approx([13.67, 13.67])
    assert value(said["fail-rebind"], "gradient") == pytest.approx(dW)
    share = np.mean(abs(0 - Y3) > 1)
    assert float(said["fail-no-derivative"].split()[0]) == pytest.approx(share, abs=0.005)
    assert value(said["fail-some-none"], "W =") == pytest.approx(-0.1 * dW, abs=5e-4)
    assert value(said["fail-some-none"], "b =") == 0 != db


def test_gradient_is_zero(said):
    wrong, right = said["fail-logits"].split("from_logits: ")[1:]
    answers = (Y3 > 5).astype(float)
    assert values(wrong, "loss") == pytest.approx([-np.log(1e-7) / 3] * 3, abs=5e-4)
    assert values(wrong, "dW") == values(wrong, "db") == [0, 0, 0]
    W = b = 0.0
    for t, loss in enumerate(values(right, "loss")):
        p = 1 / (1 + np.exp(-(X3 * W + b)))
        cross_entropy = -np.mean(answers * np.log(p) + (1 - answers) * np.log(1 - p))
        dW, db = np.mean((p - answers) * X3), np.mean(p - answers)
        assert loss == pytest.approx(cross_entropy, abs=5e-4)
        assert values(right, "dW")[t] == pytest.approx(dW, abs=5e-4)
        assert values(right, "db")[t] == pytest.approx(db, abs=5e-4)
        W, b = W - 0.1 * dW, b - 0.1 * db
    relu = said["fail-relu"]
    assert values(relu, "loss") == pytest.approx([np.mean(Y3**2)] * 3, abs=5e-3)
    assert values(relu, "dW") == values(relu, "db") == values(relu, "largest") == [0, 0, 0]


def test_raw_features_explode(said, data):
    x, _, y = data
    losses, _, _ = descend(x, y, 6)
    for t in (0, 1, 2, 5):
        assert value(said["fail-raw"], f"{t} updates: loss =") == pytest.approx(losses[t], rel=0.05)
    assert losses[5] < FLOAT32_MAX < losses[6]
    assert value(said["fail-raw"], " 6 updates: loss =") == np.inf
    assert np.isnan(value(said["fail-raw"], "15 updates: loss ="))


def test_sum_instead_of_mean(said, data):
    _, x, y = data
    few, _, _ = descend(x[:5], y[:5], 39, rate=0.5)  # the sum of five is five times the mean
    many, _, _ = descend(x, y, 39)
    assert value(said["fail-sum"], "5 rows:") == pytest.approx(few[-1], rel=1e-4)
    assert not np.isfinite(value(said["fail-sum"], "\nall rows:"))
    assert value(said["fail-sum"], "rate 0.1 / n:") == pytest.approx(many[-1], rel=1e-5)
    assert value(said["fail-sum"], "the mean, rate 0.1:") == pytest.approx(many[-1], rel=1e-5)


def test_nan_from_the_data(said):
    for cell_id in ("fail-constant", "fail-missing"):
        assert np.isnan(value(said[cell_id], "first loss:"))
    assert np.isnan(value(said["fail-missing"], "W after one update: [["))
    assert value(said["fail-missing"], "not finite:") == 3


def test_root_at_zero(said):
    bad, good = said["fail-root"].split("add ")[1:]
    assert value(bad, "loss") == value(good, "loss") == 2  # distances 0, 2 and 4
    assert np.isnan([value(bad, "dW"), value(bad, "db")]).all()
    assert value(good, "dW") == pytest.approx(-(0 + 1 + 2) / 3, abs=5e-4)
    assert value(good, "db") == pytest.approx(-(0 + 1 + 1) / 3, abs=5e-4)


def test_both_branches_of_where(said):
    def loss(W, b):
        y_pred = X3 * W + b
        logs = np.log(np.where(y_pred > 0, y_pred, 1.0)) - np.log(Y3)
        return np.mean(np.where(y_pred > 0, logs**2, (y_pred - Y3) ** 2))

    bad, good, h = said["fail-where"], said["fail-where-cure"], 1e-6
    assert value(bad, "loss") == value(good, "loss") == pytest.approx(loss(1, 0.5), abs=5e-5)
    assert np.isnan([value(bad, "dW"), value(bad, "db")]).all()
    dW = (loss(1 + h, 0.5) - loss(1 - h, 0.5)) / (2 * h)
    db = (loss(1, 0.5 + h) - loss(1, 0.5 - h)) / (2 * h)
    assert value(good, "dW") == pytest.approx(dW, abs=1e-4)
    assert value(good, "db") == pytest.approx(db, abs=1e-4)


def test_flat_line_from_shapes_and_from_shuffling(said, data):
    _, x, y = data
    shapes, shuffled = said["fail-shapes"], said["fail-shuffled"]
    for words, expected in [("loss", y.var()), ("variance of y", y.var())]:
        assert value(shapes, words) == pytest.approx(expected, abs=0.06)
    assert value(shapes, "slope") == 0
    assert value(shapes, "\nb") == value(shapes, "mean of y") == pytest.approx(y.mean(), abs=0.006)

    rng = np.random.default_rng(0)
    x_mixed, y_mixed = rng.permutation(x), rng.permutation(y)
    W = np.mean(x_mixed * y_mixed)  # least squares for normalized x
    assert value(shuffled, "\nW") == pytest.approx(W, abs=0.006)
    assert value(shuffled, "loss") == pytest.approx(y.var() - W**2, abs=0.06)
    best = loss_of(x, y, np.mean(x * y), y.mean())
    assert value(shuffled, "shuffled together") == pytest.approx(best, abs=0.06)


def test_wrong_losses_and_updates_that_fall_or_rise(said, data):
    _, x, y = data
    comma, uphill, assign = said["fail-comma"], said["fail-uphill"], said["fail-assign"]
    for t in (0, 1, 5, 20, 100):
        loss = 2 * 20**2 * 0.8 ** (2 * t)  # W and b both shrink to 0.8 with an update
        assert value(comma, f"{t} updates: loss =") == pytest.approx(loss, abs=6e-4)
    assert value(comma, "\nW =") == value(comma, "b =") == 0

    losses, _, _ = descend(X3, Y3, 20, rate=-0.1)
    for t in (0, 1, 2, 20):
        assert value(uphill, f"{t} updates: loss =") == pytest.approx(losses[t], rel=1e-3)
    for rate in (1e-4, 0.01, 1.0):  # "at every rate"
        losses, _, _ = descend(X3, Y3, 5, rate=-rate)
        assert (np.diff(losses) > 0).all()

    share = 0.2 / 1.2
    assert values(assign, "which is") == pytest.approx([share, share], abs=1e-4)
    at_rest = loss_of(x, y, share * np.mean(x * y), share * y.mean())
    assert value(assign, "40 updates: loss =") == pytest.approx(at_rest, abs=1)
    assert at_rest < value(assign, "0 updates: loss =") == pytest.approx(np.mean(y**2), abs=1)


def test_divided_twice(said, data):
    _, x, y = data
    divided = said["fail-divided"]
    W = b = 0.0
    for epoch in (1, 2, 3):
        for rows in np.split(np.arange(len(x)), len(x) // 10):
            dW, db = slopes_of(x[rows], y[rows], W, b)
            W, b = W - 0.01 * dW, b - 0.01 * db
        loss = loss_of(x, y, W, b)
        assert value(divided, f"epoch {epoch}: loss =") == pytest.approx(loss, abs=1)
    assert value(divided, "here:    W =") == pytest.approx(W, abs=0.06)
    assert value(divided, "b =") == pytest.approx(b, abs=0.06)
    assert value(divided, "Part 1:  W =") == pytest.approx(np.mean(x * y), abs=0.06)


def test_gradients_of_the_wrong_variables(said):
    W = b = 0.0
    losses = []
    for _ in range(31):
        losses.append(loss_of(X3, Y3, W, b))
        dW, db = slopes_of(X3, Y3, W, b)
        W, b = W - 0.1 * db, b - 0.1 * dW
    swapped = said["fail-swapped"]
    assert value(swapped, "should have moved by") == pytest.approx(0.1 * 8 / 3)
    assert value(swapped, "W moved by") == pytest.approx(0.1 * 6)
    for t in (0, 1, 2, 3, 10, 30):
        assert value(swapped, f"{t} updates: loss =") == pytest.approx(losses[t], rel=1e-3)
    assert losses[3] < losses[0] < losses[10]


def test_other_statistics_for_new_rows(said, data):
    x, x_norm, y = data
    W, b = np.mean(x_norm * y), y.mean()
    x_test, y_test = X_TEST.ravel(), Y_TEST.ravel()
    x_large, y_large = x_test[x_test > 80], y_test[x_test > 80]
    with_own = (x_large - x_large.mean()) / x_large.std()
    with_training = (x_large - x.mean()) / x.std()
    said_stats, said_raw = said["fail-test-stats"], said["fail-raw-x"]
    own, training = loss_of(with_own, y_large, W, b), loss_of(with_training, y_large, W, b)
    assert value(said_stats, "their own statistics: RMSE") == pytest.approx(own**0.5, abs=0.06)
    assert value(said_stats, "training rows':   RMSE") == pytest.approx(training**0.5, abs=0.06)

    at_50 = (50 - x.mean()) / x.std() * W + b
    assert value(said_raw, "raw x = 50:      y =") == pytest.approx(50 * W + b, abs=0.2)
    assert value(said_raw, "normalized:      y =") == pytest.approx(at_50, abs=0.06)
    assert value(said_raw, "by the raw line: y =") == pytest.approx(at_50, abs=0.06)


def test_a_cast_without_a_word(said):
    seconds = 1.7e9 + np.arange(100)
    cast = said["fail-cast"]
    assert value(cast, "values before:") == value(cast, "from the first:") == 100
    assert value(cast, "values after:") == len(set(seconds.astype("float32"))) == 2
    assert value(cast, "next float32:") == np.spacing(np.float32(1.7e9)) == 128


def test_cells_run_again_and_seeds(said):
    losses, _, _ = descend(X3, Y3, 5)
    again, seed = said["fail-again"], said["fail-seed"]
    assert value(again, "first run starts at a loss of") == pytest.approx(losses[0])
    assert value(again, "second run starts at a loss of") == pytest.approx(losses[5])
    assert value(seed, "first run of the cell:") != value(seed, "second run of the cell:")
    assert "after set_random_seed: False" in seed and "default_rng(0) repeats: True" in seed


def test_keras_models_that_train_nothing_or_do_not_know_that_they_train(said, data):
    untracked, tracked = said["fail-keras-run"].split("variables to train:")[1:]
    at_zero = np.mean(Y3**2)
    assert untracked.startswith(" 0") and tracked.startswith(" 1")
    assert re.findall(r"\d+\.\d+", untracked) == [f"{at_zero:.3f}"] * 5
    slope, losses = 0.0, []
    for _ in range(5):
        losses.append(loss_of(X3, Y3, slope, 0))
        slope -= 0.1 * slopes_of(X3, Y3, slope, 0)[0]
    reported = [float(n) for n in re.findall(r"\d+\.\d+", tracked)]
    assert reported == pytest.approx(losses, abs=1e-3)

    x, _, _ = data
    loop, fit = said["fail-training"].split("with training=True")
    assert value(loop, "mean of the output:") == pytest.approx(x.mean(), rel=1e-3)  # not normalized
    assert value(loop, "running average:") == value(fit, "mean of the output:") == 0
    assert value(fit, "running average:") == pytest.approx(0.01 * x.mean(), rel=1e-5)


def test_stopped_too_early(said, data):
    _, x, y = data
    left = (1 - 2 * 0.02) ** 100  # of the distance, and so of the gradient
    early = said["fail-early"]
    assert value(early, "last gradient / first gradient =") == pytest.approx(left, abs=1e-5)
    assert value(early, "here: W =") == pytest.approx((1 - left) * np.mean(x * y), abs=1e-3)
    assert value(early.partition("Part 1")[2], "first gradient =") < 1e-4 < left
    losses, _, _ = descend(x, y, 100, rate=0.02)
    change = 100 * (losses[-1] / losses[-2] - 1)
    assert value(early, "changed the loss by") == pytest.approx(change, abs=0.06)


def test_the_night(said, data):
    _, x, y = data
    flat = 2 * (1 - y.mean())  # d loss/db at W = b = 1; for W it is 2 W, since mean(x) = 0
    assert value(said["night-step"], "to ") == pytest.approx(y.var(), abs=0.06)
    two = y[[x.argmin(), x.argmax()]]
    assert value(said["night-two-rows"], "100 updates:") == pytest.approx(two.var(), rel=1e-3)
    assert value(said["night-gradients"], "(1, 1): gradient") == pytest.approx(2, rel=1e-3)
    assert value(said["night-gradients"], "(1,): gradient") == pytest.approx(abs(flat), rel=3e-3)
    assert value(said["night-rate"], "ends at") == pytest.approx(y.var(), abs=0.06)
    losses, _, _ = descend(x, y, 29, W=1.0, b=1.0)
    assert value(said["night-fit"], "ends at") == pytest.approx(losses[-1], abs=0.06)


def test_prints_in_a_graph(said):
    errors = [X3 * W + 3 - Y3 for W in (2, 0)]
    lines = [f"tf.print: error: [{' '.join(f'{e:.0f}' for e in error)}]" for error in errors]
    graph, eager = said["night-graph"], said["night-eager"]
    assert [line for line in graph.splitlines() if line.startswith("tf.print")] == lines
    assert [line for line in eager.splitlines() if line.startswith("tf.print")] == lines
    assert graph.count("type of error: SymbolicTensor") == 1 and "EagerTensor" not in graph
    assert eager.count("type of error: EagerTensor") == 2 and "Symbolic" not in eager
    assert not tf.config.functions_run_eagerly()


def test_caught_prints_the_error_and_refuses_success(nb, capsys):
    def action(words):
        raise KeyError(words)

    nb.caught(action, "word " * 60)
    out = capsys.readouterr().out
    assert out.startswith("KeyError: ") and max(map(len, out.splitlines())) <= 88
    with pytest.raises(AssertionError):
        nb.caught(int, "7")


def test_helpers_of_the_night_show_none_zero_nan_and_norm(nb, capsys):
    names = ["none", "zero", "nan", "five"]
    variables = [tf.Variable([0.0, 0.0], name=name) for name in names]
    gradients = [None, tf.zeros(2), tf.constant([np.nan, 1.0]), tf.constant([3.0, 4.0])]
    nb.print_gradients(variables, gradients)
    ends = [line.split()[-1] for line in capsys.readouterr().out.splitlines()]
    assert ends == ["None", "0", "nan", "5"]
    nb.look_at("y", [1.0, np.nan])
    assert "(2,) float64, from nan to nan" in capsys.readouterr().out


# What the bullets say and no cell shows.


def test_gradients_that_the_bullets_speak_of():
    x, column = tf.Variable([0.5]), tf.constant(Y3[:, None], "float32")
    with tf.GradientTape(persistent=True) as tape:  # may be asked more than once
        comma = tf.reduce_mean(tf.square(column, x))  # y_train first
        root = tf.norm(x - 0.5)
        saturated = tf.tanh(50 * x) + tf.sigmoid(50 * x)
        likely = tf.keras.losses.BinaryCrossentropy()(tf.ones((1, 1)), tf.sigmoid(x)[None])
        whole = tf.cast(tf.cast(x, "int32"), "float32")
    assert tape.gradient(comma, x) is None is tape.gradient(whole, x)
    before = tuple(map(int, tf.__version__.split(".")[:2])) < (2, 22)
    assert (
        np.isnan(tape.gradient(root, x)) == before and "Before TensorFlow 2.22 `tf.norm`" in PART_3
    )
    assert abs(tape.gradient(saturated, x)) < 1e-6
    assert abs(tape.gradient(likely, x)) > 0.1


def test_a_root_at_zero_can_come_late():
    x = tf.Variable(0.0)
    for update in range(3):
        with tf.GradientTape() as tape:
            distance = tf.sqrt(tf.square(x - 0.2))
        gradient = tape.gradient(distance, x)
        assert bool(np.isnan(gradient)) == (update == 2)  # 0.1 + 0.1 hits 0.2
        x.assign_sub(0.1 * gradient)


def test_weights_of_a_layer_that_are_not_trained_have_no_gradient():
    layer = tf.keras.layers.BatchNormalization()
    layer.build((None, 1))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(layer(tf.ones((3, 1)), training=True))
    names = [weight.name for weight in layer.weights]
    gradients = dict(zip(names, tape.gradient(loss, layer.weights), strict=True))
    assert {name for name in names if gradients[name] is None} == {"moving_mean", "moving_variance"}
    assert [weight.name for weight in layer.trainable_weights] == ["gamma", "beta"]


def test_keras_drops_nothing_unasked_and_reshapes_a_flat_y():
    dropout, ones = tf.keras.layers.Dropout(0.5, seed=0), tf.ones(100)
    assert np.all(dropout(ones) == 1)
    assert np.any(dropout(ones, training=True) == 0)
    keras_mse = float(tf.keras.losses.MeanSquaredError()(Y3, X3[:, None]))
    assert keras_mse == pytest.approx(np.mean((X3 - Y3) ** 2))


def test_seeds_serve_their_own_generators():
    draws = []
    for _ in range(2):
        tf.keras.utils.set_random_seed(0)
        draws.append((random.random(), np.random.normal(), float(tf.random.normal(()))))
    assert draws[0] == draws[1]


def test_datasets_that_are_shuffled_and_then_zipped_are_mixed():
    first = tf.data.Dataset.range(64).shuffle(64, seed=1)
    second = tf.data.Dataset.range(64).shuffle(64, seed=2)
    pairs = list(tf.data.Dataset.zip((first, second)).as_numpy_iterator())
    assert sum(one == other for one, other in pairs) < 10


def test_python_reads_a_minus_behind_the_equals_sign_as_a_sign():
    names = {"W": 1.0, "dW": 2.0}
    exec("W =- 0.1 * dW", names)  # noqa: S102
    assert names["W"] == -0.2


PART_3 = "\n".join(c.source for c in read().cells if c.cell_type == "markdown")
PART_3 = PART_3.partition("## Part 3: ")[2].partition("\n## Part 4: ")[0]
TABLE = PART_3.partition("### What you see, and where to look")[2]
ROWS = [
    row for row in re.findall(r"^\|.+\|$", TABLE, re.MULTILINE)[2:] if not row.startswith("|**")
]
IN_THE_ROW = "delete `metadata.widgets`"  # a fault of the file: its cure stands in its row


def sections_with_a_run_cell():
    """The anchors of all headings below which, or below whose own headings, a cell has run."""
    open_headings, found = [], set()
    for cell in read().cells:
        if cell.cell_type == "markdown":
            text = re.sub(r"```.*?```", "", cell.source, flags=re.DOTALL)
            for marks, title in re.findall(r"^(#+) (.+)$", text, re.MULTILINE):
                open_headings = [h for h in open_headings if len(h[0]) < len(marks)]
                open_headings.append((marks, title.strip().replace("`", "").replace(" ", "-")))
        elif cell.outputs:
            found |= {anchor for _, anchor in open_headings}
    return found


def test_every_failure_is_numbered_explained_and_run():
    titles = re.findall(r"^#### (\d+)\. (.+)$", PART_3, re.MULTILINE)
    assert [int(number) for number, _ in titles] == list(range(1, len(titles) + 1))
    assert len(titles) >= 27
    run_cells, current = dict.fromkeys(titles, 0), None
    for cell in read().cells:
        if cell.cell_type == "markdown":
            found = re.findall(r"^#+ .*$", cell.source, re.MULTILINE)
            if found:
                current = next(iter(re.findall(r"^#### (\d+)\. (.+)$", found[-1])), None)
        elif cell.id.startswith("fail-"):
            assert current in run_cells, f"{cell.id} belongs to no failure"
            run_cells[current] += bool(cell.outputs)
    assert all(run_cells.values())
    for section in re.split(r"^#### \d+\. .+$", PART_3, flags=re.MULTILINE)[1:]:
        own = re.split(r"^#+ ", section, flags=re.MULTILINE)[0]
        bullets = re.findall(r"^- \*\*(\w+):\*\* .+\.$", own, re.MULTILINE)
        assert bullets == ["See", "Cause", "Cure"], own


def test_table_leads_to_sections_with_a_run_cell_and_to_every_failure():
    assert PART_3.count("### What you see, and where to look") == 1
    sections = sections_with_a_run_cell()
    for row in ROWS:
        assert row.count("|") == 4 and "$" not in row, row
        targets = re.findall(r"\]\(#([^)]+)\)", row)
        assert set(targets) <= sections, set(targets) - sections
        assert targets or IN_THE_ROW in row, row
    numbers = {int(n) for n in re.findall(r"\[(\d+)\]\(#\1\.-", "".join(ROWS))}
    assert numbers == set(range(1, len(numbers) + 1)) and len(numbers) >= 27


# A question of readers: words that must stand in one row of the table.
QUESTIONS = {
    1: ["`inf` after a few updates", "raw features"],
    2: ["line is flat", "flat y"],
    3: ["in the second update", "no longer a variable"],
    4: ["`fit` prints another loss", "before the update"],
    5: ["slower than `fit`", "eager"],
    6: ["No gradients provided", "outside the tape"],
    7: ["`None` from the start", "W is a tensor"],
    8: ["explodes on many", "sum"],
    9: ["has no attribute", "TensorFlow 1"],
    10: ["Unknown variable", "old optimizer"],
    11: ["double tensor", "float64"],
    12: ["units of your data", "training mean"],
    13: ["absurd predictions for new rows", "own statistics"],
    14: ["differ from those of scikit-learn", "not arrived"],
    15: ["which rate to take"],
    16: ["`None` from the start", "NumPy is in the loss"],
    17: ["retracing", "Python numbers"],
    18: ["rises with every update", "sign"],
    19: ["100 epochs", "each batch"],
    20: ["order of the rows", "shuffle buffer"],
    21: ["`TypeError` in `apply_gradients`", "list of pairs"],
    22: ["`keras.Model`", "does not track"],
    23: ["stops above 0", "noise"],
    24: ["resumed run", "optimizer's memory"],
    25: ["first loss, before any update, is `nan`", "constant feature"],
    26: ["outliers", "range"],
    27: ["notices at the import", "harmless"],
    28: ["Invalid Notebook", IN_THE_ROW],
    29: ["intercept hardly moves", "valley"],
    30: ["No gradients provided", "an integer"],
    31: ["singleton", "inside the function"],
    32: ["accuracy is 0.0", "R²"],
    33: ["in spite of a seed"],
    34: ["goes on where the first ended", "kernel"],
    35: ["non-persistent GradientTape", "twice"],
    36: ["no effect under `tf.function`", "`optimizer.lr`"],
    37: ["Early stopping stops", "wrong direction"],
    38: ["mean of the batch losses", "weight"],
    39: ["lopsided loss", "`(y_true, y_pred)`"],
    40: ["predict for a new raw x"],
    41: ["No gradients provided", "an integer"],
    42: ["loss of your own", "without a derivative"],
    43: ["falls for a while and is `nan`", "root at 0"],
    44: ["gradients are `nan`", "`tf.where`"],
    45: ["loop with the same model is far worse", "`training=True`"],
    46: ["line is flat", "shuffled apart"],
    47: ["stays at a large number", "probabilities"],
    48: ["predicts 0 for every row", "ReLU"],
    49: ["far off after a smooth fall", "divided twice"],
    50: ["schedule", "`decay_steps`"],
    51: ["Skipping variable loading", "not built"],
    52: ["reported loss stays high", "`reset_state`"],
    53: ["minutes to start", "`tf.range`"],
    54: ["too many values to unpack", "weights"],
    55: ["same architecture", "random starts"],
    56: ["Memory grows", "`float(loss)`"],
    57: ["ran out of data", "End of sequence"],
    58: ["with respect to an input"],
    59: ["y holds very large numbers"],
    60: ["R² is negative"],
    61: ["Gradients do not exist"],
    62: ["do not know where to begin", "six steps"],
}


def test_all_questions_are_listed():
    assert list(QUESTIONS) == list(range(1, 63))


@pytest.mark.parametrize("number", QUESTIONS)
def test_question_has_a_row(number):
    assert [row for row in ROWS if all(words in row for words in QUESTIONS[number])]


# What the prose says beside the cells.


def test_apply_gradients_does_what_apply_does():
    optimizers = [tf.keras.optimizers.SGD(0.1, momentum=0.9) for _ in range(2)]
    new, old = [[tf.Variable([[0.0]]), tf.Variable([0.0])] for _ in range(2)]
    for t in range(20):
        gradients = [tf.constant([[1.0 + t]]), tf.constant([-2.0 * t])]
        optimizers[0].apply(gradients, new)
        optimizers[1].apply_gradients(zip(gradients, old, strict=True))
    assert [v.numpy().item() for v in new] == [v.numpy().item() for v in old]


def test_a_root_for_each_row_and_one_for_all():
    """An RMSE has an infinite slope where all rows are hit; a distance, where one is."""
    X = tf.constant([[0.0], [1.0]])
    for y, by_row, rmse in [([[0.0], [2.0]], True, False), ([[0.0], [0.0]], True, True)]:
        W = tf.Variable([[0.0]])
        for reduce, is_nan in [
            (lambda s: tf.reduce_mean(tf.sqrt(s)), by_row),
            (lambda s: tf.sqrt(tf.reduce_mean(s)), rmse),
        ]:
            with tf.GradientTape() as tape:
                loss = reduce(tf.square(X @ W - tf.constant(y)))
            assert np.isnan(tape.gradient(loss, W).numpy()).item() == is_nan


def test_a_mean_distance_bounces_at_a_fixed_rate_and_a_lower_one_calms_it():
    X, last = tf.constant([[0.0], [1.0], [2.0]]), {}
    for rate in (0.1, 0.001):
        W, b, losses = tf.Variable([[0.3]]), tf.Variable([0.2]), []
        for _ in range(3000):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.sqrt(tf.square(X @ W + b - 2 * X) + 1e-12))
            dW, db = tape.gradient(loss, [W, b])
            W.assign_sub(rate * dW)
            b.assign_sub(rate * db)
            losses.append(float(loss))
        last[rate] = losses[-20:]
    assert max(last[0.1]) - min(last[0.1]) > 0.01 > 5 * max(last[0.001])


def test_a_constant_column_of_a_tenth_becomes_a_second_intercept():
    column = np.full((160, 1), 0.1, "float32")
    assert np.ptp(column) == 0 and 0 < column.std() < 1e-6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        normal = (column - column.mean()) / column.std()
    assert np.all(np.isfinite(normal)) and np.ptp(normal) == 0 and abs(normal[0, 0]) > 0.5


def test_the_averages_of_batch_normalization_come_closer_by_one_per_cent():
    layer = tf.keras.layers.BatchNormalization()
    layer(tf.constant([[4.0], [6.0]]), training=True)
    np.testing.assert_allclose(layer.moving_mean.numpy(), [0.05], rtol=1e-5)
