"""Part 3: what its sentences claim and no cell shows, each claim tried for itself.

Nothing here reads what the notebook prints. The numbers come from its functions, from formulas
in NumPy, or from TensorFlow and Keras directly.
"""

import random

import numpy as np
import pytest
import tensorflow as tf

from test_examine import (
    DOWNHILL,
    PAIRS,
    X_SMALL,
    Y_SMALL,
    line,
    noes,
    on_batch,
    plain_step,
)
from test_gallery import X3, Y3, loss_of, slopes_of
from test_loop import B_BEST, LIMIT, SLOPE, W_BEST, X_NORM, X_RAW, X_TEST, Y_TEST, Y_TRAIN

KERAS, SGD, ADAM = tf.keras, tf.keras.optimizers.SGD, tf.keras.optimizers.Adam
X, y = X3[:, None].astype("float32"), Y3[:, None].astype("float32")
X_TRAIN, X_32, Y_32 = (rows.astype("float32") for rows in (X_RAW, X_NORM, Y_TRAIN))
HALF, ONES = tf.Variable([[0.5]]), tf.ones((1, 1))


def zeros(start=0.0):
    """W (1, 1) and b (1,), as most of the cells begin."""
    return tf.Variable([[start]]), tf.Variable([start])


def squared(y_true, y_pred):
    """The mean squared error, without a look at the shapes."""
    return tf.reduce_mean(tf.square(y_pred - y_true))


def descent(loss_of_line, updates, rate=0.1, start=0.0):
    """Gradient descent by a tape on loss_of_line(W, b). Returns the losses, W and b."""
    W, b = zeros(start)
    losses = []
    for _ in range(updates):
        with tf.GradientTape() as tape:
            loss = loss_of_line(W, b)
        dW, db = tape.gradient(loss, [W, b])
        W.assign_sub(rate * dW)
        b.assign_sub(rate * db)
        losses.append(float(loss))
    return losses, W, b


def gradient(function, value):
    """d function / d value at a variable of this value."""
    x = tf.Variable(value)
    with tf.GradientTape() as tape:
        result = function(x)
    return tape.gradient(result, x)


def keras_line(optimizer, *layers):
    """A compiled Keras line from zero, with other layers before it."""
    dense = KERAS.layers.Dense(1, kernel_initializer="zeros")
    model = KERAS.Sequential([KERAS.Input((1,)), *layers, dense])
    model.compile(optimizer, "mse")
    return model


# The gradient is None


def test_a_tape_watches_trainable_variables_without_being_asked_and_no_others():
    for trainable in (True, False):
        x = tf.Variable(3.0, trainable=trainable)
        with tf.GradientTape() as tape:
            loss = x * x
        found = tape.gradient(loss, x)
        assert found == 6 if trainable else found is None


# a loss of one's own: does the loop train with it?
OWN_LOSSES = {
    "MSE": (squared, True),
    "absolute error": (lambda y, y_pred: tf.reduce_mean(tf.abs(y_pred - y)), True),
    "comparison": (
        lambda y, y_pred: tf.reduce_mean(tf.cast(tf.abs(y_pred - y) > 1, "float32")),
        False,
    ),
    "rounding": (lambda y, y_pred: squared(y, tf.round(y_pred)), False),
    "rank": (
        lambda y, y_pred: squared(y, tf.cast(tf.argsort(y_pred, axis=0), "float32")),
        False,
    ),
    "NumPy": (lambda y, y_pred: squared(y, y_pred.numpy()), False),
}


@pytest.mark.parametrize("name", OWN_LOSSES)
def test_with_the_mse_it_trains_and_with_a_loss_of_your_own_no_gradients_are_provided(nb, name):
    """Failure 7 and the table: the same loop, with another loss."""
    loss_fn, trains = OWN_LOSSES[name]
    (W, b), optimizer, losses = zeros(), SGD(0.1), []

    def update():
        with tf.GradientTape() as tape:
            loss = loss_fn(y, nb.predict(X, W, b))
        optimizer.apply(tape.gradient(loss, [W, b]), [W, b])
        losses.append(float(loss))

    if not trains:
        with pytest.raises(ValueError, match="No gradients provided for any variable"):
            update()
        return
    for _ in range(30):
        update()
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_the_loss_falls_and_the_variable_that_it_does_not_use_never_moves():
    (W, b), optimizer, losses = zeros(), SGD(0.1), []
    for _ in range(5):
        with tf.GradientTape() as tape:
            loss = squared(y, X @ W)
        optimizer.apply(tape.gradient(loss, [W, b]), [W, b])
        losses.append(float(loss))
    assert np.all(np.diff(losses) < 0) and b[0] == 0


# The gradient is exactly 0


def test_a_model_that_ends_in_a_sigmoid_trains_on_yes_and_no(nb):
    answers, loss_fn = (y > 5).astype("float32"), KERAS.losses.BinaryCrossentropy()
    losses, *_ = descent(lambda W, b: loss_fn(answers, tf.sigmoid(nb.predict(X, W, b))), 50)
    assert losses[0] == pytest.approx(np.log(2), rel=1e-5)
    assert np.all(np.diff(losses) < 0) and losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize(
    ("score", "cut_off"), [(-9.0, True), (0.0, True), (0.2, False), (0.8, False), (1.5, True)]
)
def test_a_loss_for_probabilities_cuts_off_whatever_lies_outside(score, cut_off):
    """There a small change of the score changes nothing, and the slope is 0, not None."""
    loss_fn = KERAS.losses.BinaryCrossentropy()
    for answer in (0 * ONES, ONES):
        slope = gradient(lambda s, answer=answer: loss_fn(answer, s), [[score]])
        assert (slope.numpy().item() == 0) == cut_off


@pytest.mark.parametrize("start", [0.0, -3.0])
def test_once_no_row_lies_above_0_a_relu_on_the_output_predicts_0_for_ever(nb, start):
    x = X + 2  # 1, 2 and 3: at the start no row lies above 0
    losses, W, b = descent(
        lambda W, b: squared(y, tf.nn.relu(nb.predict(x, W, b))), 100, start=start
    )
    assert set(losses) == {float(np.float32(np.mean(y**2)))}
    assert W[0, 0] == b[0] == start


# Loud and cryptic


def test_raw_features_give_inf_and_then_nan_because_inf_minus_inf_is_no_number(nb_part_1):
    (W, b), optimizer = zeros(), SGD(0.1)
    losses, slopes = [], []
    for _ in range(25):
        losses.append(float(nb_part_1.train_step(X_TRAIN, Y_32, [W, b], optimizer)))
        slopes.append(float(W[0, 0]))
    assert np.all(np.diff(losses[:6]) > 0)  # "from the first update on"
    for numbers in (losses, slopes):
        first_inf = [np.isinf(number) for number in numbers].index(True)
        first_nan = [np.isnan(number) for number in numbers].index(True)
        assert 0 < first_inf < first_nan and np.all(np.isnan(numbers[first_nan:]))
    assert np.isnan(tf.constant(np.inf) - tf.constant(np.inf))


def test_for_these_rows_the_rate_is_hundreds_of_times_too_large(nb):
    """And the larger the numbers in X, the smaller the largest rate that does not diverge."""
    assert 200 < 0.1 / nb.stable_limit(X_TRAIN) < 1000
    limits = [nb.stable_limit(times * X_RAW) for times in (0.1, 1, 10, 100)]
    assert np.all(np.diff(limits) < 0)


@pytest.mark.parametrize("n", [5, 40, 160])
def test_the_gradient_of_a_sum_grows_with_the_rows_and_the_largest_rate_shrinks_with_it(nb, n):
    x = X_NORM[:n]
    x, target = ((x - x.mean()) / x.std()).astype("float32"), Y_32[:n]

    def summed(W, b):
        return tf.reduce_sum(tf.square(nb.predict(x, W, b) - target))

    W, b = zeros(1.0)
    with tf.GradientTape(persistent=True) as tape:
        total, mean = summed(W, b), squared(target, nb.predict(x, W, b))
    for variable in (W, b):
        ratio = tape.gradient(total, variable) / tape.gradient(mean, variable)
        assert ratio.numpy().item() == pytest.approx(n, rel=1e-3)
    for share, falls in [(0.9, True), (1.1, False)]:  # of 1, the limit of the mean
        losses, *_ = descent(summed, 20, share / n)
        assert (losses[-1] < losses[0]) == falls


@pytest.mark.parametrize("rate", [1e-30, 0.001, 1.0])
def test_a_constant_column_gives_nan_however_small_the_rate_is(nb_part_1, rate):
    sevens = np.full_like(X_TRAIN, 7.0)
    with pytest.warns(RuntimeWarning, match="invalid value"):
        sevens = (sevens - sevens.mean(axis=0)) / sevens.std(axis=0)
    W, b = zeros()
    assert np.isnan(nb_part_1.train_step(sevens, Y_32, [W, b], SGD(rate)))


@pytest.mark.parametrize("value", [7.0, 0.1, 98.6])
def test_a_constant_column_tells_the_model_nothing(nb, value):
    """b already adds the same number. np.ptp is 0, and fit_line refuses such an x."""
    column = np.full_like(X_RAW, value)
    assert np.ptp(column, axis=0) == 0
    with pytest.raises(ValueError, match="give values that differ"):
        nb.fit_line(column.astype("float32"), Y_TRAIN)
    best = []
    for columns in ([X_RAW], [X_RAW, column]):
        A = np.hstack([*columns, np.ones_like(X_RAW)])
        assert np.linalg.matrix_rank(A) == 2
        best.append(A @ np.linalg.lstsq(A, Y_TRAIN, rcond=None)[0])
    np.testing.assert_allclose(*best, rtol=1e-9)


@pytest.mark.parametrize("spoiled", ["X", "y"])
def test_one_missing_value_spoils_loss_w_and_b_and_batches_from_the_one_that_holds_it(
    nb_part_1, spoiled
):
    x, target = X_32.copy(), Y_32.copy()
    (x if spoiled == "X" else target)[35] = np.nan
    (W, b), optimizer = zeros(), SGD(0.1)
    assert np.isnan(nb_part_1.train_step(x, target, [W, b], optimizer))
    assert np.isnan(W[0, 0]) and np.isnan(b[0])

    (W, b), optimizer, losses = zeros(), SGD(0.1), []
    for start in range(0, 80, 10):
        rows = slice(start, start + 10)
        losses.append(nb_part_1.train_step(x[rows], target[rows], [W, b], optimizer))
    assert np.isnan(losses).tolist() == [False] * 3 + [True] * 5

    whole = np.isfinite(x[:, 0]) & np.isfinite(target[:, 0])
    (W, b), optimizer = zeros(), SGD(0.1)
    assert np.isfinite(nb_part_1.train_step(x[whole], target[whole], [W, b], optimizer))
    assert np.isfinite(W[0, 0]) and np.isfinite(b[0])


def test_at_0_a_root_is_infinitely_steep_and_one_update_later_everything_is_nan(nb):
    assert np.isinf(gradient(tf.sqrt, 0.0)) and gradient(tf.square, 0.0) == 0
    assert np.isnan(tf.constant(np.inf) * 0.0)  # the chain rule at that place
    x = X + 1

    def distance(W, b):
        return tf.reduce_mean(tf.sqrt(tf.square(nb.predict(x, W, b) - 2 * x)))

    losses, W, b = descent(distance, 1)
    assert losses == [2.0]
    assert np.all(np.isnan(nb.predict(x, W, b))) and np.isnan(W[0, 0]) and np.isnan(b[0])


@pytest.mark.parametrize(
    ("branch", "slope_is_nan"),
    [
        (lambda x: tf.square(tf.math.log(x)), True),
        (lambda x: tf.square(tf.sqrt(tf.math.log(x))), True),
        (tf.math.log, False),  # its slope 1/x is a number, although log(-0.5) is none
        (tf.square, False),
    ],
    ids=["log squared", "of a root", "log", "square"],
)
def test_what_comes_back_from_the_unused_branch_is_multiplied_by_0(branch, slope_is_nan):
    """And 0 times nan is nan, although tf.where masks the row and the loss is finite."""
    x = tf.Variable(-0.5)
    with tf.GradientTape(persistent=True) as tape:
        alone = branch(x)
        masked = tf.where(x > 0, branch(x), 3 * x)
    assert masked == -1.5
    assert bool(np.isnan(tape.gradient(alone, x))) == slope_is_nan
    slope = tape.gradient(masked, x)
    assert np.isnan(slope) if slope_is_nan else slope == 3


DOUBLE = np.array([[1.0], [2.0]])
MIXED = {  # an operation on 64 and 32 bits: is it refused?
    "array @ W": (lambda: DOUBLE @ HALF, False),
    "array * W": (lambda: DOUBLE * HALF, False),
    "tf.matmul(array, W)": (lambda: tf.matmul(DOUBLE, HALF), True),
    "tensor @ W": (lambda: tf.constant(DOUBLE) @ HALF, True),
    "tensor * W": (lambda: tf.constant(DOUBLE) * HALF, True),
    "tensor - W": (lambda: tf.constant(DOUBLE) - HALF, True),
    "W + variable": (lambda: HALF + tf.Variable(DOUBLE), True),
    "integers * W": (lambda: tf.constant([[1], [2]]) * HALF, True),
    "converted": (lambda: tf.constant(DOUBLE.astype("float32")) @ HALF, False),
}


@pytest.mark.parametrize("name", MIXED)
def test_tensorflow_converts_an_array_but_never_a_tensor_or_a_variable(name):
    """Its operations refuse them. The words are those of eager TensorFlow 2.19 to 2.22."""
    operation, refused = MIXED[name]
    if refused:
        with pytest.raises(tf.errors.InvalidArgumentError, match="was expected to be a"):
            operation()
    else:
        assert operation().dtype == tf.float32


def test_a_variable_made_of_python_numbers_has_32_bits():
    for numbers in (0.0, [0.0], [[1.0, 2.0]]):
        assert tf.Variable(numbers).dtype == tf.float32
    assert tf.Variable(np.zeros(1)).dtype == tf.float64  # one of an array has the array's


@pytest.mark.parametrize(
    "make", [lambda: SGD(0.1), lambda: SGD(0.1, momentum=0.9), lambda: ADAM(0.1)]
)
def test_an_optimizer_belongs_to_the_first_variables_that_it_meets(nb_part_1, make):
    """Others are refused, even if they look the same. A new optimizer takes them."""
    optimizer, first, others = make(), zeros(), zeros()
    for _ in range(2):
        nb_part_1.train_step(X, y, list(first), optimizer)
    with pytest.raises(ValueError, match="Unknown variable"):
        nb_part_1.train_step(X, y, list(others), optimizer)
    nb_part_1.train_step(X, y, list(others), make())
    nb_part_1.train_step(X, y, list(first), optimizer)  # and the first ones still do
    assert others[1][0] != 0


def test_train_makes_variables_and_optimizer_together(nb_part_1):
    """So it can be called again, and starts anew."""
    first, second = (nb_part_1.train(X, y, 3)[2]["loss"] for _ in range(2))
    assert first == second and first[0] == pytest.approx(np.mean(Y3**2))


def test_the_names_that_take_the_place_of_the_old_ones(tmp_path):
    for name in ("placeholder", "Session"):
        assert hasattr(tf.compat.v1, name) and not hasattr(tf, name)
    KERAS.metrics.Mean().reset_state()
    variable = tf.Variable(1.0)
    SGD(learning_rate=0.1).apply([tf.constant(2.0)], [variable])
    assert variable.numpy() == pytest.approx(0.8)
    keras_line(SGD(0.1)).save_weights(tmp_path / "line.weights.h5")
    assert (tmp_path / "line.weights.h5").exists()


# Silent and wrong


@pytest.mark.parametrize("loss", ["mse", KERAS.losses.MeanSquaredError()], ids=["name", "class"])
def test_fit_does_not_have_the_problem_of_a_flat_y(loss):
    """Keras' loss makes a column of it, and the losses are those of a column."""
    runs = []
    for target in (Y_32, Y_32.ravel()):
        model = keras_line(SGD(0.4))
        model.compile(SGD(0.4), loss)
        runs.append(model.fit(X_32, target, batch_size=160, epochs=8, verbose=0).history["loss"])
    np.testing.assert_allclose(runs[1], runs[0], rtol=1e-5)
    assert runs[1][-1] < 0.03 * Y_TRAIN.var()


def test_the_best_answer_to_all_targets_at_once_is_their_mean_for_every_row():
    """No line has a lower loss of a column against a flat array than the flat one at the mean."""
    x, target = X_NORM[:20], Y_TRAIN[:20, 0]

    def table(W, b):
        return np.mean((x * W + b - target) ** 2)

    assert (x - target).shape == (20, 20)
    mean = target.mean()
    assert table(0, mean) == pytest.approx(target.var())
    for W, b in [(1, 0), (-1, 0), (0, 1), (0, -1), (W_BEST, 0)]:
        assert table(W, mean + b) > table(0, mean)


def test_pairs_that_are_made_first_and_then_shuffled_stay_pairs():
    pairs = tf.data.Dataset.from_tensor_slices((X_32, 5 * X_32)).shuffle(160, seed=0)
    x, target = next(iter(pairs.batch(160)))
    assert np.any(x != X_32) and np.array_equal(target, 5 * x.numpy())


def test_a_comma_for_a_minus_shows_nothing_from_zero_and_falls_steadily_to_0(nb):
    def comma(W, b):
        return tf.reduce_mean(tf.square(nb.predict(X_32, W, b), Y_32))

    losses, W, b = descent(comma, 3)
    assert losses == [0, 0, 0] and W[0, 0] == b[0] == 0
    losses, W, b = descent(comma, 60, start=20.0)
    assert np.all(np.diff(losses) < 0) and losses[-1] < 1e-6
    assert abs(W[0, 0]) < 1e-3 and abs(b[0]) < 1e-3


def test_in_an_eager_loop_tf_square_does_not_look_at_its_second_argument():
    """In a graph it does, and raises an error, of one type or another with the version."""
    for second in (Y_32, "a name", 7, None):
        assert tf.square(3.0, second) == 9
    with pytest.raises((TypeError, ValueError)):
        tf.function(lambda x, y: tf.square(x, y), autograph=False)(X, y)


WRONG_WAY = {  # the update, from dW and db: is the loss at a tenth of 1.1 below at the end?
    "rate too large": (lambda dW, db: (-dW, -db), True),
    "sign": (lambda dW, db: (dW, db), False),
    "swapped": (lambda dW, db: (-db, -dW), False),
}


@pytest.mark.parametrize("name", WRONG_WAY)
def test_if_it_falls_to_the_end_at_a_tenth_of_the_rate_the_sign_is_right(name):
    update, right = WRONG_WAY[name]
    rising = []
    for rate in (1.1, 0.11):
        W = b = 0.0
        losses = []
        for _ in range(200):
            losses.append(loss_of(X3, Y3, W, b))
            dW, db = update(*slopes_of(X3, Y3, W, b))
            W, b = W + rate * dW, b + rate * db
        rising.append(losses[-1] > losses[0])
    assert rising == [True, not right]


def test_numpy_with_the_minus_behind_the_equals_sign_rests_at_one_sixth():
    line_of_code = compile("W =- 0.1 * dW; b =- 0.1 * db", "claim", "exec")
    names = {"W": 0.0, "b": 0.0}
    for _ in range(60):
        names["dW"], names["db"] = slopes_of(X_NORM, Y_TRAIN, names["W"], names["b"])
        exec(line_of_code, names)  # noqa: S102
    np.testing.assert_allclose([names["W"] / W_BEST, names["b"] / B_BEST], 1 / 6, rtol=1e-6)


def test_divided_twice_more_epochs_bring_the_line_nearer_and_a_tenth_of_the_rate_is_the_same(nb):
    ends = {}
    for epochs in (1, 3, 9):
        for share, rate in [(1 / 10, 0.1), (1, 0.01)]:
            W = b = 0.0
            for rows in np.split(np.arange(160), 16) * epochs:
                dW, db = slopes_of(X_NORM[rows], Y_TRAIN[rows], W, b)
                W, b = W - rate * share * dW, b - rate * share * db
            ends[epochs, rate] = np.array([W, b])
        np.testing.assert_allclose(ends[epochs, 0.1], ends[epochs, 0.01], rtol=1e-12)
    left = [np.abs(ends[epochs, 0.1] - [W_BEST, B_BEST]).max() for epochs in (1, 3, 9)]
    assert left[0] > 1.5 * left[1] > 3 * left[2]


def test_gradients_of_different_shapes_cannot_be_swapped():
    W, b = zeros()
    gradients = [tf.ones_like(W), tf.ones_like(b)]
    refusals = (ValueError, tf.errors.InvalidArgumentError)
    with pytest.raises(refusals, match="shape"):
        SGD(0.1).apply(gradients, [b, W])
    with pytest.raises(refusals, match="shape"):
        W.assign_sub(gradients[1])
    assert W[0, 0] == b[0] == 0


@pytest.mark.parametrize("x", [0.0, 50.0])
def test_to_a_line_for_normalized_x_a_raw_x_is_so_many_deviations_above_the_mean(nb, x):
    W, b = tf.Variable([[W_BEST]]), tf.Variable([B_BEST])
    raw = nb.predict(np.array([[x]]), W, b).numpy().item()
    there = X_RAW.mean() + x * X_RAW.std()
    intercept = Y_TRAIN.mean() - SLOPE * X_RAW.mean()
    assert raw == pytest.approx(SLOPE * there + intercept, rel=1e-5)
    inside = Y_TRAIN.min() <= raw <= Y_TRAIN.max()
    assert inside == (x == 0)  # "that can lie far outside everything in the data"


def test_a_training_cell_gives_other_numbers_until_the_loop_has_arrived(nb_part_1):
    (W, b), optimizer, ends = zeros(), SGD(0.1), []
    for _ in range(30):
        for _ in range(5):
            loss = nb_part_1.train_step(X, y, [W, b], optimizer)
        ends.append(float(loss))
    assert np.all(np.diff(ends[:5]) < 0) and ends[-1] == pytest.approx(ends[-2], rel=1e-6)
    (W, b), optimizer = zeros(), SGD(0.1)  # the cell that makes them runs again
    loss = float(nb_part_1.train_step(X, y, [W, b], optimizer))
    assert loss == pytest.approx(np.mean(Y3**2))


DRAWS = {  # a generator: do tf.random.set_seed and set_random_seed make it repeat?
    "TensorFlow": (lambda: float(tf.random.normal(())), True, True),
    "Python": (random.random, False, True),
    "NumPy, older": (np.random.normal, False, True),
    "default_rng()": (lambda: np.random.default_rng().normal(), False, False),
}


@pytest.mark.parametrize("name", DRAWS)
def test_a_seed_serves_only_its_own_generator(name):
    draw, *repeats = DRAWS[name]
    for set_seed, same in zip(
        (tf.random.set_seed, KERAS.utils.set_random_seed), repeats, strict=True
    ):
        first, second = ((set_seed(0), draw())[1] for _ in range(2))
        assert (first == second) == same
        assert draw() != second  # each draw takes the next number of the sequence


def test_in_a_loop_of_your_own_you_can_list_the_variable_that_keras_does_not_know():
    """Keras 3, as of 3.9 to 3.15, does not notice a plain tf.Variable of a model."""

    class Untracked(KERAS.Model):
        def __init__(self):
            super().__init__()
            self.slope = tf.Variable(0.0)

        def call(self, x):
            return self.slope * x

    model, optimizer = Untracked(), SGD(0.1)
    for _ in range(50):
        with tf.GradientTape() as tape:
            loss = squared(y, model(X))
        optimizer.apply(tape.gradient(loss, [model.slope]), [model.slope])
    assert not model.trainable_variables and float(model.slope) == pytest.approx(2, rel=0.01)


def test_a_loop_without_training_true_is_far_worse_than_fit_and_explodes():
    """fit calls the model with training=True. The averages stay at their start without it."""
    runs, layers, target = {}, {}, Y_32 / 100
    for training in (True, False):
        layers[training] = KERAS.layers.BatchNormalization()
        model, losses = keras_line(SGD(0.1), layers[training]), []
        for _ in range(12):
            with tf.GradientTape() as tape:
                loss = squared(target, model(X_TRAIN, training=training))
            variables = model.trainable_variables
            model.optimizer.apply(tape.gradient(loss, variables), variables)
            losses.append(float(loss))
        runs[training] = losses
    model = keras_line(SGD(0.1), KERAS.layers.BatchNormalization())
    fit = model.fit(X_TRAIN, target, batch_size=160, epochs=12, verbose=0).history["loss"]
    np.testing.assert_allclose(runs[True], fit, rtol=1e-4)
    assert np.all(np.diff(fit) < 0) and not runs[False][-1] < 1000 * fit[-1]
    assert layers[False].moving_mean[0] == 0 and layers[False].moving_variance[0] == 1
    assert layers[True].moving_mean[0] > 1 and layers[True].moving_variance[0] > 1


@pytest.mark.parametrize(
    ("momentum", "updates", "share"),
    [(None, 1, 0.01), (None, 100, 1 - 0.99**100), (None, 300, 0.951), (0.5, 5, 1 - 0.5**5)],
)
def test_the_averages_need_several_hundred_updates_unless_the_momentum_is_smaller(
    momentum, updates, share
):
    options = {} if momentum is None else {"momentum": momentum}
    layer, rows = KERAS.layers.BatchNormalization(**options), tf.constant([[4.0], [6.0]])
    for _ in range(updates):
        layer(rows, training=True)
    assert layer.moving_mean.numpy().item() == pytest.approx(5 * share, rel=1e-3)


PARTS = np.random.default_rng(0).normal(size=(40, 2))
COLUMNS = {  # the columns of X: has the MSE of its line one minimum?
    "two features": (PARTS, True),
    "a constant": (np.column_stack([PARTS, np.full(40, 3.0)]), False),
    "a total and its parts": (np.column_stack([PARTS, PARTS.sum(axis=1)]), False),
    "a total and one part": (np.column_stack([PARTS[:, 0], PARTS.sum(axis=1)]), True),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_the_mse_has_one_minimum_unless_a_column_is_constant_or_a_combination(name):
    """With one, descent from two starts arrives at one place; without, at two."""
    columns, one = COLUMNS[name]
    A, target = np.column_stack([columns, np.ones(40)]), PARTS @ [1, 2] + 1
    H = 2 / 40 * A.T @ A
    rate, ends = 1 / np.linalg.eigvalsh(H)[-1], []
    for start in (0.0, 1.0):
        w = np.full(A.shape[1], start)
        for _ in range(2000):
            w = w - rate * 2 / 40 * A.T @ (A @ w - target)
        assert np.mean((A @ w - target) ** 2) < 1e-12
        ends.append(w)
    assert np.allclose(*ends, atol=1e-4) == one


def other_programs():
    """Other answers to the same rows: of least squares, and of four ways to differ."""
    x, target = X_NORM[:, 0], Y_TRAIN[:, 0]
    return {
        "the same": (x @ target / 160, True),
        "other rows": (np.polyfit(x[:100], target[:100], 1)[0], False),
        "other units": (SLOPE, False),
        "a penalty": (x @ target / (160 + 50), False),
        "no intercept": (X_RAW[:, 0] @ target / (X_RAW[:, 0] @ X_RAW[:, 0]) * X_RAW.std(), False),
    }


@pytest.mark.parametrize("name", other_programs())
def test_if_yours_has_arrived_the_other_one_used_something_else(nb_part_1, name):
    *_, history = nb_part_1.train(X_32, Y_32)
    W, b = float(history["W"][-1]), float(history["b"][-1])
    arrived = np.hypot(*slopes_of(X_NORM, Y_TRAIN, W, b))
    assert arrived < 1e-4 * np.hypot(*slopes_of(X_NORM, Y_TRAIN, 0, 0))
    other, same = other_programs()[name]
    assert (abs(other / W - 1) < 1e-4) == same


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.3, 0.8])
def test_on_normalized_rows_the_loop_has_arrived_when_the_ratio_is_below_1e_4(rate):
    """From W = b = 0."""
    W, b, updates, first = 0.0, 0.0, 0, np.hypot(*slopes_of(X_NORM, Y_TRAIN, 0, 0))
    while np.hypot(*slopes_of(X_NORM, Y_TRAIN, W, b)) >= 1e-4 * first:
        assert updates < 1000
        dW, db = slopes_of(X_NORM, Y_TRAIN, W, b)
        W, b, updates = W - rate * dW, b - rate * db, updates + 1
    np.testing.assert_allclose([W, b], [W_BEST, B_BEST], rtol=3e-4)


def test_with_features_that_move_together_a_small_gradient_proves_nothing():
    """Two that are correlated by 0.9995, at rate 0.1: the ratio is small, and W is far off."""
    rng = np.random.default_rng(0)
    X = np.hstack([X_NORM, X_NORM + np.sqrt(1e-3) * rng.normal(size=(160, 1))])
    X = (X - X.mean(0)) / X.std(0)
    y = X @ [[60.0], [10.0]] + rng.normal(size=(160, 1))
    W, first = np.zeros((2, 1)), np.linalg.norm(2 / 160 * X.T @ y)
    slopes = first
    while np.linalg.norm(slopes) >= 1e-4 * first:
        slopes = 2 / 160 * X.T @ (X @ W - y)
        W = W - 0.1 * slopes
    assert np.abs(W - np.linalg.lstsq(X, y, rcond=None)[0]).max() > 10


def test_fit_without_a_batch_size_makes_more_updates_in_as_many_epochs():
    """At 0.01 and 60 epochs a right loop over all rows is far behind it."""
    model = keras_line(SGD(0.01))
    model.fit(X_NORM, Y_TRAIN, epochs=60, verbose=0)
    ours = (1 - 2 * 0.01) ** 120 * (W_BEST**2 + B_BEST**2)
    theirs = model.evaluate(X_NORM, Y_TRAIN, verbose=0)
    assert int(model.optimizer.iterations) == 300 and ours > 10 * theirs


def test_rows_far_apart_allow_less():
    """At 0.5, which takes one update on all rows, a right loop diverges on the two extremes."""
    rows = [np.argmin(X_NORM), np.argmax(X_NORM)]
    X, y, losses = X_NORM[rows], Y_TRAIN[rows], {}
    for rate in (0.5, 0.05):
        W = b = 0.0
        for _ in range(400):
            dW, db = slopes_of(X, y, W, b)
            W, b = W - rate * dW, b - rate * db
        losses[rate] = np.mean((X * W + b - y) ** 2)
    assert losses[0.05] < 1e-9 and not losses[0.5] < 1e9


def test_a_batch_normalization_can_diverge_in_training_too():
    """On y of up to 260 at 0.1; a hundredth of the rate or a normalized y mends it."""
    normalized = (Y_32 - Y_32.mean()) / Y_32.std()
    ends = {}
    for name, rate, target in [
        ("as it is", 0.1, Y_32),
        ("lower", 0.001, Y_32),
        ("normalized", 0.1, normalized),
    ]:
        model = keras_line(SGD(rate), KERAS.layers.BatchNormalization())
        fit = model.fit(X_TRAIN, target, epochs=20, shuffle=False, verbose=0)
        ends[name] = fit.history["loss"][-1] / np.mean(target**2)
    assert not ends["as it is"] < 1000 and ends["lower"] < 0.1 and ends["normalized"] < 0.1


def test_on_raw_rows_a_small_gradient_proves_nothing():
    """After 10,000 updates at 0.0002 its ratio is below 1e-4, and b is a third of the way off."""
    A = np.column_stack([X_RAW, np.ones(160)])
    values, vectors = np.linalg.eigh(2 / 160 * A.T @ A)
    best = np.linalg.lstsq(A, Y_TRAIN, rcond=None)[0][:, 0]
    left = vectors @ ((1 - 0.0002 * values) ** 10_000 * (vectors.T @ -best))
    ratio = np.hypot(*slopes_of(X_RAW, Y_TRAIN, *(best + left)))
    ratio /= np.hypot(*slopes_of(X_RAW, Y_TRAIN, 0, 0))
    assert ratio < 1e-4 and abs(left[1] / best[1]) > 0.3


# Examine your own loop


def test_a_step_without_a_memory_is_a_function_of_the_place(nb):
    """The same place gives the same loss and the same move. With momentum the move differs."""
    for momentum, same in [(0.0, True), (0.9, False)]:
        step, variables = line(SGD(0.1, momentum=momentum))
        run = nb.watched(step, variables)
        (loss_1, move_1), (loss_2, move_2) = (run(np.zeros(2), X_32, Y_32) for _ in range(2))
        assert loss_1 == loss_2 and np.array_equal(move_1, move_2) == same


ONE_NUMBER = {  # what a step returns: the number, or the error
    "float": (1.5, 1.5),
    "float32": (np.float32(1.5), 1.5),
    "tensor": (tf.constant(1.5), 1.5),
    "array (1, 1)": ([[1.5]], 1.5),
    "nan": (float("nan"), float("nan")),
    "None": (None, TypeError),
    "two": ([1.0, 2.0], TypeError),
    "nothing": ([], TypeError),
    "dict": ({"loss": 1.0}, TypeError),
    "words": ("low", ValueError),
    "ragged": ([1, [2, 3]], ValueError),
}


@pytest.mark.parametrize("name", ONE_NUMBER)
def test_the_loss_must_be_a_single_number(nb, name):
    returned, wanted = ONE_NUMBER[name]
    if isinstance(wanted, float):
        assert nb.one_number(returned) == pytest.approx(wanted, nan_ok=True)
    else:
        with pytest.raises(wanted):
            nb.one_number(returned)


def two_layers(last, joined=True):
    """A right step of a small tanh network whose last kernel starts at `last`."""
    rng = np.random.default_rng(0)
    shapes = [(1, 4), (4,), (4, 1), (1,)]
    starts = [rng.normal(size=shape) for shape in shapes]
    starts[2] = last * starts[2]
    variables = [tf.Variable(start.astype("float32")) for start in starts]
    W1, b1, W2, b2 = variables

    def step(X, y):
        with tf.GradientTape() as tape:
            loss = squared(y, tf.tanh(X @ W1 + b1) @ (W2 if joined else 0 * W2) + b2)
        SGD(0.05).apply(tape.gradient(loss, variables), variables)
        return loss

    return step, variables


@pytest.mark.parametrize(("last", "joined"), [(1.0, True), (0.0, True), (1.0, False)])
def test_a_variable_that_waits_for_the_last_layer_is_no_fault(nb, last, joined):
    """If that starts at zero, those before it have no gradient until it has moved."""
    step, variables = two_layers(last, joined)
    rows = X_SMALL.astype("float32"), Y_SMALL.astype("float32")
    _, move = nb.watched(step, variables)(nb.place_of(variables), *rows)
    assert bool(np.any(move[:8])) is (last != 0 and joined)
    step, variables = two_layers(last, joined)
    owner = np.repeat(range(4), [4, 4, 4, 1])
    run = nb.watched(step, variables)
    yes, words = nb.every_variable_moves(run, nb.place_of(variables), *rows, owner)
    assert yes is joined, words


def test_float32_keeps_seven_digits_and_a_sum_loses_some(nb):
    numbers = np.random.default_rng(0).uniform(1, 10, 1000)
    assert 1e-8 < np.abs(numbers.astype("float32") / numbers - 1).max() < 1e-7
    tenths = np.full(1000, 0.1, "float32")
    one_by_one = np.cumsum(tenths)[-1]  # in order, each sum rounded to 32 bits
    assert 1e-6 < abs(one_by_one / 100 - 1) < nb.SMALL


@pytest.mark.parametrize("used", [False, True])
def test_for_momentum_hand_over_a_new_optimizer(nb, used):
    """A used one remembers where it went before, and the right step may be answered NO."""
    step, variables = line(SGD(0.1, momentum=0.9))
    for _ in range(3):
        step(X_32, Y_32)
    if not used:
        place = nb.place_of(variables)
        step, variables = line(SGD(0.1, momentum=0.9))
        nb.go_to(place, variables)
    assert list(noes(nb, step, variables, X_32, Y_32)) == ([DOWNHILL] if used else [])


def test_a_sum_beside_a_penalty_is_a_right_step_that_gets_a_no_and_its_cause(nb):
    """Twice the rows give neither the same nor twice. With a mean in its place all is well."""
    for reduce, scale in [(tf.reduce_sum, 160), (tf.reduce_mean, 1)]:
        W, b = zeros(50.0)

        def step(X, y, reduce=reduce, scale=scale, W=W, b=b):
            with tf.GradientTape() as tape:
                loss = reduce(tf.square(X @ W + b - y)) + scale * tf.reduce_sum(W**2)
            dW, db = tape.gradient(loss, [W, b])
            W.assign_sub(0.01 * dW / scale)
            b.assign_sub(0.01 * db / scale)
            return loss

        place = nb.place_of([W, b])
        yes, words = nb.rows_count_alike(nb.watched(step, [W, b]), place, X_32, Y_32)
        if reduce is tf.reduce_sum:
            assert not yes and "a sum beside a penalty" in nb.look_up(nb.rows_count_alike, words)
        else:
            # The penalty stays and the mean stays, so twice the rows give the same loss.
            assert yes


@pytest.mark.parametrize(("kink", "same"), [(True, False), (False, True)])
def test_at_a_kink_the_slopes_behind_and_ahead_differ(nb, kink, same):
    """The absolute error of one row, at its answer and beside it."""
    place = np.array([2.0])
    row = np.ones((1, 1)), np.array([[2.0 if kink else 7.0]])

    def run(there, X, y):
        return 1 + abs(there[0] - y[0, 0]), np.zeros(1)

    behind, ahead = nb.slopes_beside(run, place, np.ones(1), *row)
    assert ahead == pytest.approx(1 if kink else -1, rel=1e-6)
    assert behind == pytest.approx(-1, rel=1e-6)
    assert np.isclose(behind, ahead) == same


@pytest.mark.parametrize(
    ("sizes", "count"), [((49, 1), 50), ((50, 1), 4), ((30, 30, 30), 6), ((200,), 2)]
)
def test_with_more_than_fifty_numbers_two_directions_for_each_variable_are_asked(nb, sizes, count):
    """One is the way that it moved. Each has the length 1 and lies in one variable."""
    owner = np.repeat(range(len(sizes)), sizes)
    move = np.random.default_rng(1).normal(size=owner.size)
    rows = nb.directions(move, owner)
    assert len(rows) == count
    for k, row in rows:
        assert np.linalg.norm(row) == pytest.approx(1)
        assert set(owner[np.flatnonzero(row)]) == {k}
    if count != 50:
        for k in range(len(sizes)):
            mine = move * (owner == k)
            assert any(np.allclose(row, mine / np.linalg.norm(mine)) for _, row in rows)


@pytest.fixture
def bug(nb, monkeypatch):
    """Call a bug of the notebook, by name, from a place; returns its loss and its move."""
    W, b = tf.Variable(1.0), tf.Variable(1.0)
    for name, value in {"W_bug": W, "b_bug": b, "y_train": Y_32}.items():
        monkeypatch.setitem(nb.update_by.__globals__, name, value)

    def right(X, y):
        loss, dW, db = nb.loss_and_slopes(X, y)
        W.assign_sub(0.1 * dW)
        b.assign_sub(0.1 * db)
        return loss

    def run(name, place, X, y):
        step = right if name == "right" else getattr(nb, name)
        return nb.watched(step, [W, b])(np.full(2, float(place)), X, y)

    return run


@pytest.mark.parametrize(
    ("name", "from_zero", "from_one"),
    [
        ("set_to_step", True, False),
        ("uphill", False, False),
        ("swapped_gradients", False, False),
    ],
)
def test_from_zero_assign_leads_to_the_same_place_as_assign_sub(bug, name, from_zero, from_one):
    """Which is why the bugs start at 1: at 0 some look right."""
    for place, same in [(0, from_zero), (1, from_one)]:
        _, right_move = bug("right", place, X_32, Y_32)
        _, move = bug(name, place, X_32, Y_32)
        assert np.allclose(move, right_move, rtol=1e-5) == same


def test_zero_hides_a_dropout_on_the_input(nb, bug):
    """At W = 0 the input does not matter, so the same place gives the same loss."""
    for place, same in [(0, True), (1, False)]:
        run = lambda where, X, y: bug("dropped", where[0], X, y)
        assert bool(nb.repeats(run, np.full(2, float(place)), X_32, Y_32)[0]) == same


@pytest.mark.parametrize(
    ("rate", "nearer"), [(0.3, True), (0.9, True), (1.05, False), (3.0, False)]
)
def test_less_than_half_a_step_to_the_lowest_point_lands_higher_and_the_loop_diverges(
    nb, rate, nearer
):
    step, variables = line(rate=rate, types=("float64",) * 2)
    run = nb.watched(step, variables)
    steps, _ = nb.steps_to_the_lowest(run, np.zeros(2), X_NORM, Y_TRAIN)
    assert steps == pytest.approx(0.5 / rate, rel=1e-4) and (steps >= 0.5) == nearer
    nb.go_to(np.zeros(2), variables)
    losses = [float(step(X_NORM, Y_TRAIN)) for _ in range(50)]
    assert (losses[1] < losses[0]) == nearer and (losses[-1] < losses[1]) == nearer


def test_in_between_nothing_is_proved_since_another_direction_may_be_steeper(nb):
    """Raw x at 1.05 of the limit: on the floor of the valley the length is right, for a while."""
    rate = 1.05 * LIMIT
    step, variables = line(rate=rate, types=("float64",) * 2)
    A = np.column_stack([X_RAW, np.ones(160)])
    _, vectors = np.linalg.eigh(A.T @ A)
    best = np.linalg.lstsq(A, Y_TRAIN, rcond=None)[0][:, 0]
    place = best + 8 * vectors[:, 0] + 1e-4 * vectors[:, 1]
    run = nb.watched(step, variables)
    steps, _ = nb.steps_to_the_lowest(run, place, X_RAW, Y_TRAIN)
    assert 0.5 < steps < 3000 and nb.length_is_right(run, place, X_RAW, Y_TRAIN, rate, False)[0]
    nb.go_to(place, variables)
    losses = [float(step(X_RAW, Y_TRAIN)) for _ in range(300)]
    assert losses[1] < losses[0] < losses[-1] / 100


def test_the_first_moves_of_adam_are_as_long_as_its_rate_even_near_the_bottom():
    for away in (0.5, 5.0, 500.0):
        step, variables = line(ADAM(0.1), start=(W_BEST + away, B_BEST + away))
        step(X_32, Y_32)
        moved = [W_BEST + away, B_BEST + away] - np.ravel([v.numpy().item() for v in variables])
        np.testing.assert_allclose(moved, 0.1, rtol=1e-2)


@pytest.mark.parametrize("n", [2, 19, 20, 41])
def test_with_fewer_than_twenty_rows_there_are_no_halves(nb, n):
    x = np.arange(float(n))[:, None]
    some, some_y, others, others_y = nb.halves(x, 5 * x)
    assert np.array_equal(some_y, 5 * some) and np.array_equal(others_y, 5 * others)
    assert abs(len(some) - len(others)) <= n % 2
    both = sorted([*some.ravel(), *others.ravel()])
    assert both == (sorted([*range(n), *range(n)]) if n < 20 else list(range(n)))


def test_questions_holds_all_but_the_first_and_where_each_of_them_is_asked(nb, monkeypatch):
    """Two where the variables are, the last where training has led, the rest a little aside.

    Before the length is asked, ten calls at one place give an optimizer its memory back.
    """
    asked, ask = [], nb.ask

    def note(question, run, *arguments):
        place = arguments[1] if question is nb.loss_falls else arguments[0]
        asked.append((question, place))
        return ask(question, run, *arguments)

    monkeypatch.setitem(nb.questions.__globals__, "ask", note)
    step, variables = plain_step()
    nb.go_to(np.array([0.0, 4.0]), variables)
    start = nb.place_of(variables)
    list(nb.questions(step, variables, start, X_SMALL, Y_SMALL, 0.1))
    order = [question for question, _ in asked]
    assert order[:2] == [nb.runs, nb.every_variable_moves] and order[-1] is nb.pairs_matter
    assert len(set(order)) == 10 and nb.usable not in order
    assert order[-4:] == [nb.loss_falls, nb.repeats, nb.length_is_right, nb.pairs_matter]
    assert len(order) == 11 and order.index(nb.repeats) == 2
    for _, place in asked[:2]:
        assert np.array_equal(place, start)
    for _, place in asked[2:-1]:
        np.testing.assert_allclose(np.abs(place - start), [0.01, 0.4])
    np.testing.assert_allclose(asked[-1][1], np.polyfit(X_SMALL[:, 0], Y_SMALL[:, 0], 1), atol=1)
    assert np.all(np.abs(asked[-1][1] - start) > 0.4)


def test_what_an_optimizer_or_a_layer_remembers_cannot_be_put_back(nb):
    """The variables of the list are put back to the bit."""
    model = keras_line(SGD(0.02, momentum=0.9), KERAS.layers.BatchNormalization())
    variables = model.trainable_variables
    before = nb.place_of(variables)
    assert all(yes for _, yes, _ in nb.interview(on_batch(model), variables, X_32, Y_32 / 100))
    assert np.array_equal(nb.place_of(variables), before)
    assert int(model.optimizer.iterations) > 100
    assert np.any(model.optimizer.variables[2].numpy()) or np.any(
        model.optimizer.variables[-1].numpy()
    )
    assert not np.all(model.layers[0].moving_variance.numpy() == 1)


def pinball(q, y_true, y_pred):
    """A lopsided loss: of too low a prediction it takes q, of too high a one 1 - q."""
    error = y_true - y_pred
    return tf.reduce_mean(tf.maximum(q * error, (q - 1) * error))


def swapped_arguments():
    """A lopsided loss with its arguments swapped is a good loss for another purpose."""
    step, variables = line(loss_fn=lambda y, y_pred: pinball(0.1, y_pred, y), rate=40.0)
    return step, variables, X_32, Y_32, 40.0


def rows_twice():
    """Test rows that are among the training rows."""
    step, variables = line()
    return step, variables, np.r_[X_32, X_32[:20]], np.r_[Y_32, Y_32[:20]], 0.1


def as_if_it_did_not_train():
    """A layer that is called as if it did not train, on rows that are normalized already."""
    model = keras_line(SGD(0.1), KERAS.layers.BatchNormalization())
    variables = model.trainable_variables

    def step(X, y):
        with tf.GradientTape() as tape:
            loss = squared(y, model(X))
        model.optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    return step, variables, X_32, Y_32 / 100, None


def made_anew():
    """An optimizer that is made anew in every update forgets its momentum."""
    W, b = zeros()

    def step(X, y):
        with tf.GradientTape() as tape:
            loss = squared(y, X @ W + b)
        SGD(0.02, momentum=0.9).apply(tape.gradient(loss, [W, b]), [W, b])
        return loss

    return step, [W, b], X_32, Y_32, None


UNSEEN = [swapped_arguments, rows_twice, as_if_it_did_not_train, made_anew]


@pytest.mark.parametrize("fault", UNSEEN, ids=lambda fault: fault.__name__)
def test_some_faults_stay_hidden_from_a_closed_box(nb, fault):
    """So a list without a NO does not prove that a loop is right."""
    assert not noes(nb, *fault())


@pytest.mark.parametrize("swapped", [False, True])
def test_a_lopsided_loss_with_swapped_arguments_ends_on_the_wrong_side(swapped):
    """For q = 0.9 nine of ten rows lie below the line, and if swapped one of ten does."""

    def loss(y_true, y_pred):
        return pinball(0.9, *((y_pred, y_true) if swapped else (y_true, y_pred)))

    step, (W, b) = line(loss_fn=loss, start=(W_BEST, B_BEST), rate=4.0)
    for _ in range(100):
        step(X_32, Y_32)
    share = np.mean(Y_32 < X_32 @ W.numpy() + b.numpy())
    assert share == pytest.approx(0.1 if swapped else 0.9, abs=0.05)


def test_the_step_needs_losses_in_32_or_64_bits(nb):
    """In 16 bits the same right step is answered NO."""
    found = {}
    for kind in ("float16", "float32", "float64"):
        W, b = zeros()

        def step(X, y, kind=kind, W=W, b=b):
            with tf.GradientTape() as tape:
                loss = squared(
                    tf.cast(y, kind), tf.cast(X, kind) @ tf.cast(W, kind) + tf.cast(b, kind)
                )
            dW, db = tape.gradient(loss, [W, b])
            W.assign_sub(0.1 * dW)
            b.assign_sub(0.1 * db)
            return loss

        found[kind] = noes(nb, step, [W, b], X_32, Y_32 / 100, 0.1)
    assert found["float16"] and not found["float32"] and not found["float64"]


@pytest.mark.parametrize("size", [32, 160])
def test_what_was_mixed_up_on_the_way_is_seen_in_rows_of_the_pipeline(nb, size):
    """X, y = next(iter(dataset)): of pairs, and of two datasets shuffled apart."""
    kept = tf.data.Dataset.from_tensor_slices((X_32, Y_32)).shuffle(160, seed=1)
    apart = [tf.data.Dataset.from_tensor_slices(rows) for rows in (X_32, Y_32)]
    mixed = [dataset.shuffle(160, seed=seed) for seed, dataset in enumerate(apart, start=1)]
    for dataset, wanted in [(kept, []), (tf.data.Dataset.zip(tuple(mixed)), [PAIRS])]:
        step, variables = line()
        rows = next(iter(dataset.batch(size)))
        assert list(noes(nb, step, variables, *rows, 0.1)) == wanted


def test_the_comma_for_a_minus_brings_the_loss_of_the_bug_down_to_0(bug):
    place = 1.0
    for _ in range(40):
        loss, move = bug("comma", place, X_32, Y_32)
        place = place + move[0]
    assert loss < 1e-6


def test_stop_gradient_makes_the_tape_take_what_is_inside_for_a_constant():
    def half(x):
        return tf.stop_gradient(x) * x

    assert half(tf.constant(3.0)) == 9 and gradient(half, 3.0) == 3
    assert gradient(tf.stop_gradient, 3.0) is None


# Start here: what to do at night

TWO = [X_RAW.argmin(), X_RAW.argmax()]
REST = {  # the loss on two rows, their x: does the loop come to rest above 0?
    "MSE": (squared, X_32[TWO], 0.1, "at 0"),
    "MSE and a penalty": (
        lambda y, y_pred: squared(y, y_pred) + 0.01 * tf.reduce_sum(y_pred**2),
        X_32[TWO],
        0.1,
        "above 0",
    ),
    "a flat y": (lambda y, y_pred: squared(y[:, 0], y_pred), X_32[TWO], 0.1, "above 0"),
    "divided twice": (squared, X_32[TWO], 0.001, "still falling"),
}


@pytest.mark.parametrize("name", REST)
def test_two_rows_are_enough_for_a_line_and_what_rests_above_0_is_broken(nb, name):
    """If the loss is still falling, the steps are too short."""
    loss_fn, x, rate, wanted = REST[name]
    losses, *_ = descent(lambda W, b: loss_fn(Y_32[TWO], nb.predict(x, W, b)), 150, rate)
    if wanted == "still falling":
        assert np.all(np.diff(losses) < 0) and losses[-1] < 0.99 * losses[-11]
        return
    assert losses[-1] == pytest.approx(losses[-11], rel=1e-4, abs=1e-6)
    assert (losses[-1] < 1e-6 * losses[0]) is (wanted == "at 0")


def relu_network(width):
    """A network of one hidden ReLU layer, with the same random start each time."""
    rng = np.random.default_rng(0)
    starts = [rng.normal(size=(1, width)), rng.normal(size=width)]
    starts += [rng.normal(size=(width, 1)) / width**0.5, np.zeros(1)]
    return [tf.Variable(start.astype("float32")) for start in starts]


def train_network(variables, optimizer, x, target, updates):
    """The last loss of so many updates in one compiled function."""
    W1, b1, W2, b2 = variables
    optimizer.build(variables)

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            loss = squared(target, tf.nn.relu(x @ W1 + b1) @ W2 + b2)
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    for _ in range(updates):
        loss = step()
    return float(loss)


def test_ten_rows_are_enough_for_a_network_to_fit_them_exactly():
    x = np.linspace(-3, 3, 10, dtype="float32")[:, None]
    noise = np.random.default_rng(3).normal(size=(10, 1)).astype("float32")
    assert train_network(relu_network(128), ADAM(0.02), x, noise, 1500) < 0.01 * noise.var()


def test_fit_tells_a_fault_in_the_pipeline_from_one_in_the_model():
    """With the plain arrays fit does well; with what a bad pipeline yields it does not."""
    kept = tf.data.Dataset.from_tensor_slices((X_32, Y_32)).batch(160)
    apart = tf.data.Dataset.from_tensor_slices((X_32, np.random.default_rng(0).permutation(Y_32)))
    relu = KERAS.layers.Activation("relu")
    for rows, last, wanted in [
        ((kept,), [], True),
        ((X_32, Y_32), [], True),
        ((apart.batch(160),), [], False),
        ((X_32, -Y_32), [relu], False),
    ]:
        dense = KERAS.layers.Dense(1, kernel_initializer="zeros")
        model = KERAS.Sequential([KERAS.Input((1,)), dense, *last])
        model.compile(SGD(0.4), "mse")
        size = {"batch_size": 160} if len(rows) == 2 else {}
        losses = model.fit(*rows, epochs=8, shuffle=False, verbose=0, **size).history["loss"]
        assert (losses[-1] < 0.05 * Y_TRAIN.var()) == wanted


CHECKED = {  # an operation that gives nan or inf: its name, or None if it is not checked
    "logarithm": (lambda: tf.math.log(tf.constant(-1.0)), "Log"),
    "root": (lambda: tf.sqrt(tf.constant(-1.0)), "Sqrt"),
    "root, going back": (lambda: gradient(tf.sqrt, 0.0), "Sqrt"),
    "division": (lambda: tf.constant(1.0) / tf.constant(0.0), "Div"),
    "overflow": (lambda: tf.square(tf.constant(1e30)), "Square"),
    "in a graph": (lambda: tf.function(tf.math.log, autograph=False)(tf.constant(-1.0)), "Log"),
    "reshape": (lambda: tf.reshape(tf.constant(np.nan), (1,)), None),  # as of 2.19 to 2.21
    "in order": (lambda: tf.math.log(tf.constant(1.0)), None),
}


def test_a_tf_function_keeps_the_checks_that_it_was_traced_with():
    log = tf.function(lambda x: tf.math.log(x), autograph=False)
    assert np.isinf(log(tf.constant(0.0)))
    try:
        tf.debugging.enable_check_numerics()
        with pytest.raises(tf.errors.InvalidArgumentError) as error:
            log(tf.constant(0.0))
        assert "Log" not in str(error.value)
        anew = tf.function(lambda x: tf.math.log(x), autograph=False)
        with pytest.raises(tf.errors.InvalidArgumentError, match="Log"):
            anew(tf.constant(0.0))
    finally:
        tf.debugging.disable_check_numerics()
    with pytest.raises(tf.errors.InvalidArgumentError, match="Log"):
        anew(tf.constant(0.0))


def test_the_patience_of_keras_is_0_by_default():
    assert KERAS.callbacks.EarlyStopping().patience == 0


@pytest.mark.parametrize("name", CHECKED)
def test_check_numerics_stops_at_nearly_every_operation_and_names_it(name):
    operation, named = CHECKED[name]
    tf.debugging.enable_check_numerics()
    try:
        if named is None:
            operation()
        else:
            with pytest.raises(tf.errors.InvalidArgumentError, match=f"Infinity or NaN.*{named}"):
                operation()
    finally:
        tf.debugging.disable_check_numerics()
    assert np.isnan(tf.math.log(tf.constant(-1.0)))  # and it is off again


@pytest.mark.parametrize(
    ("operation", "is_nan"),
    [
        (lambda x: x + 1, True),
        (lambda x: 0 * x, True),
        (lambda x: tf.reduce_mean([x, 1.0]), True),
        (lambda x: tf.maximum(x, 1.0), True),
        (lambda x: tf.where(tf.math.is_nan(x), 1.0, x), False),
    ],
)
def test_nan_spreads_to_nearly_everything_that_it_touches(operation, is_nan):
    assert bool(np.isnan(operation(tf.constant(np.nan)))) == is_nan


def test_python_runs_once_for_each_kind_of_input():
    """And a tf.function that is made anew runs it again, each time."""
    runs = []

    def double(x):
        runs.append(x)
        return 2 * x

    graph, counts = tf.function(double, autograph=False), []
    for x in (X, y, tf.zeros((5, 1)), tf.ones((5, 1)), 1.0, 2.0, 2.0):
        graph(tf.constant(x) if np.ndim(x) else x)
        counts.append(len(runs))
    assert counts == [1, 1, 2, 2, 3, 4, 4]  # a shape, another shape, two Python numbers
    for _ in range(3):
        tf.function(double, autograph=False)(tf.constant(X))
    assert len(runs) == 4 + 3


@pytest.mark.parametrize("compiled", [False, True])
def test_tf_print_writes_to_standard_error_unless_you_say_otherwise(capfd, compiled):
    def say():
        tf.print("these words")

    (tf.function(say, autograph=False) if compiled else say)()
    said = capfd.readouterr()
    assert "these words" in said.err and "these words" not in said.out


# What you see, and where to look


class TwoThings(KERAS.Sequential):
    """A step under fit that unpacks x and y and no weights."""

    def train_step(self, data):
        """One update by the MSE."""
        x, target = data
        return self.update(x, target)

    def update(self, x, target):
        """Tape, gradient, optimizer."""
        with tf.GradientTape() as tape:
            loss = squared(target, self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": loss}


class Dropping(TwoThings):
    """A step under fit that drops the weights."""

    def train_step(self, data):
        """One update by the MSE, weights or not."""
        return self.update(*data[:2])


WEIGHTS = {"sample_weight": np.linspace(0, 1, 160)}


@pytest.mark.parametrize(
    "weights", [WEIGHTS, {"class_weight": {0: 1.0, 1: 2.0}}], ids=["rows", "classes"]
)
def test_with_weights_fit_hands_over_three_things(weights):
    model = TwoThings([KERAS.Input((1,)), KERAS.layers.Dense(1)])
    model.compile(SGD(0.1), run_eagerly=True)
    answers = (Y_TRAIN > 100).astype("int32")
    model.fit(X_32, answers.astype("float32"), batch_size=160, verbose=0)
    with pytest.raises(ValueError, match=r"too many values to unpack \(expected 2"):
        model.fit(X_32, answers, batch_size=160, verbose=0, **weights)


@pytest.mark.parametrize(("kind", "same"), [(Dropping, True), (KERAS.Sequential, False)])
def test_sample_weights_change_nothing_if_a_train_step_drops_them(kind, same):
    ends = []
    for weights in ({}, WEIGHTS):
        dense = KERAS.layers.Dense(1, kernel_initializer="zeros")
        model = kind([KERAS.Input((1,)), dense])
        model.compile(SGD(0.1), "mse")
        model.fit(X_32, Y_32, batch_size=160, epochs=3, shuffle=False, verbose=0, **weights)
        ends.append(dense.kernel.numpy().item())
    assert (ends[0] == ends[1]) == same


def test_a_saved_model_keeps_only_what_is_a_tf_function(tmp_path):
    class Plain(tf.Module):
        def __call__(self, x):
            return 2 * x

        @tf.function(input_signature=[tf.TensorSpec(())])
        def double(self, x):
            return 2 * x

    tf.saved_model.save(Plain(), str(tmp_path / "line"))
    loaded = tf.saved_model.load(str(tmp_path / "line"))
    assert loaded.double(tf.constant(2.0)) == 4
    with pytest.raises(TypeError, match="'_UserObject' object is not callable"):
        loaded(2.0)


@pytest.mark.parametrize("scaled", [False, True])
def test_a_large_y_makes_a_network_nan_and_divided_by_its_deviation_it_trains(scaled):
    """For a line it is not to blame: see test_a_large_y_does_not_make_a_line_nan."""
    target = Y_32 / Y_32.std() if scaled else 1000 * Y_32
    loss = train_network(relu_network(32), SGD(0.05), X_32, target, 60)
    assert loss < 0.1 * target.var() if scaled else np.isnan(loss)


@pytest.mark.parametrize("times", [1.0, 1e6, 1e12])
def test_a_large_y_does_not_make_a_line_nan(nb_part_1, times):
    W, b, _ = nb_part_1.train(X_32, (times * Y_TRAIN).astype("float32"))
    np.testing.assert_allclose([W[0, 0], b[0]], [times * W_BEST, times * B_BEST], rtol=1e-3)


@pytest.mark.parametrize(("rate", "changes"), [(1e-12, False), (1.0, False), (0.1, True)])
def test_the_loss_never_changes_if_the_rate_is_far_too_small_or_lies_at_the_limit(
    nb_part_1, rate, changes
):
    losses = nb_part_1.train(X_32, Y_32, 20, rate)[2]["loss"]
    assert (np.ptp(losses) > 1e-5 * losses[0]) == changes


def test_a_rate_slightly_above_the_limit_lets_the_loss_fall_at_first_and_then_rise(nb):
    """With several features: all but the steepest direction still shrink."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 3)) @ [[1, 0.9, 0.2], [0, 0.44, 0.1], [0, 0, 0.97]]
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    target = x @ [[1.0], [-1.0], [2.0]] + 5
    losses, w = [], np.zeros((4, 1))
    A = np.column_stack([x, np.ones(200)])
    for _ in range(600):
        error = A @ w - target
        losses.append(np.mean(error**2))
        w -= 1.02 * nb.stable_limit(x) * 2 / 200 * A.T @ error
    lowest = int(np.argmin(losses))
    assert 0 < lowest < 100 and losses[lowest] < 0.5 * losses[0] < losses[0] < losses[-1]
    assert np.all(np.diff(losses[lowest + 50 :]) > 0)


def test_r_squared_is_negative_if_the_predictions_are_worse_than_the_mean(nb):
    """Not trained yet, other statistics, or rows in another order."""
    W, b = tf.Variable([[W_BEST]]), tf.Variable([B_BEST])
    x = (X_TEST - X_RAW.mean()) / X_RAW.std()
    assert nb.r_squared(Y_TEST, nb.predict(x, W, b)) > 0.9
    large = X_TEST[:, 0] > 80
    own = (X_TEST[large] - X_TEST[large].mean()) / X_TEST[large].std()
    order = np.random.default_rng(0).permutation(len(Y_TEST))
    for y_true, y_pred in [
        (Y_TEST, 0 * Y_TEST),
        (Y_TEST[large], nb.predict(own, W, b)),
        (Y_TEST[order], nb.predict(x, W, b)),
    ]:
        assert nb.r_squared(y_true, y_pred) < 0


def test_keras_3_does_not_read_optimizer_lr():
    """Setting it makes a new attribute. `learning_rate` is the name that counts."""
    for name, move in [("lr", 0.1), ("learning_rate", 5.0)]:
        optimizer, variable = SGD(0.1), tf.Variable(0.0)
        setattr(optimizer, name, 5.0)
        optimizer.apply([tf.constant(1.0)], [variable])
        assert -variable.numpy() == pytest.approx(move)
