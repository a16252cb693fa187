"""Parts 1 and 2: functions against independent references, and printed numbers against formulas."""

import re

import numpy as np
import pytest
import tensorflow as tf

from notebook_runner import assert_prints, code_cells, printed, read

CELLS = {cell.id: cell for cell in code_cells(read())}
COLUMN = np.array([[-1.0], [0.0], [1.0]])


def least_squares(x, y):
    """Slope and intercept by numpy.linalg.lstsq in float64."""
    A = np.column_stack([np.asarray(x, float), np.ones(len(x))])
    return np.linalg.lstsq(A, np.asarray(y, float), rcond=None)[0]


def normalized(n=50, seed=3, dtype="float64", k=1):
    """A normalized X (n, k) and a noisy y (n, 1)."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, k))
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    y = X @ np.arange(2, 2 + k).reshape(k, 1) - 3 + rng.normal(size=(n, 1))
    return X.astype(dtype), y.astype(dtype)


def numpy_descent(X, y, updates, learning_rate, longest=np.inf):
    """Losses, W, b of descent by formulas, updates + 1 each; no gradient longer than `longest`."""
    W, b, path = np.zeros((X.shape[1], 1)), np.zeros(1), []
    for _ in range(updates + 1):
        error = X @ W + b - y
        path.append((np.mean(error**2), W.copy().squeeze(), b.item()))
        dW, db = 2 / len(X) * X.T @ error, 2 * error.mean()
        step = learning_rate * min(1, longest / np.hypot(np.linalg.norm(dW), db))
        W, b = W - step * dW, b - step * db
    return [np.array(column) for column in zip(*path, strict=True)]


def planted():
    """The data of the notebook by the recipe in its prose: X_train, y_train, X_test, y_test."""
    rng = np.random.default_rng(0)
    X = rng.uniform(0, 100, (200, 1))
    y = 2.5 * X + 10 + rng.normal(0, 10, (200, 1))
    order = np.random.default_rng(1).permutation(200)
    X, y = X.astype("float32").astype(float), y.astype("float32").astype(float)
    return X[order[:160]], y[order[:160]], X[order[160:]], y[order[160:]]


X_RAW, Y_TRAIN, X_TEST, Y_TEST = planted()
MEAN, STD = X_RAW.mean(), X_RAW.std()
X_NORM = (X_RAW - MEAN) / STD
W_BEST, B_BEST = np.mean(X_NORM * Y_TRAIN), np.mean(Y_TRAIN)
SLOPE, INTERCEPT = np.polyfit(X_RAW[:, 0], Y_TRAIN[:, 0], 1)
LOSS_BEST = np.mean((SLOPE * X_RAW + INTERCEPT - Y_TRAIN) ** 2)
TRUE_LOSS = np.mean((2.5 * X_RAW + 10 - Y_TRAIN) ** 2)
FLAT, STEEP = np.linalg.eigvalsh([[2 * np.mean(X_RAW**2), 2 * MEAN], [2 * MEAN, 2]])
LIMIT = 2 / STEEP


def few(t, rate=0.1):
    """W, b and the loss after t updates on the three points, whose answer is 2, 3 and 2."""
    W_left, b_left = 2 * (1 - rate * 4 / 3) ** t, 3 * (1 - 2 * rate) ** t
    return 2 - W_left, 3 - b_left, 2 + 2 / 3 * W_left**2 + b_left**2


def loop_rows():
    rows = []
    for t in (0, 1, 2, 5, 20):
        W, b, _ = few(t)
        rows += [t, W, b, 3 - b]
    return rows


def raw_rows(rate, moments, *columns):
    """t and some of W (1), b (2) and the loss (0) of descent on raw x, for each of `moments`."""
    with np.errstate(all="ignore"):
        path = numpy_descent(X_RAW, Y_TRAIN, max(moments), rate)
    return [value for t in moments for value in (t, *(float(path[c][t]) for c in columns))]


def train_rows():
    path = numpy_descent(X_NORM, Y_TRAIN, 100, 0.1)
    moments = (0, 1, 2, 3, 5, 10, 20, 50, 100)
    return [value for t in moments for value in (t, *(float(column[t]) for column in path))]


def fit_rows():
    loss = numpy_descent(X_NORM, Y_TRAIN, 21, 0.4)[0]
    rows = [value for t in (0, 1, 2, 3, 20) for value in (t + 1, loss[t], loss[t], loss[t + 1])]
    return [*rows, W_BEST, B_BEST]


def batches_of_32():
    """The mean of five losses before their updates, and the loss after them all."""
    W = b = 0.0
    losses = []
    for rows in np.split(np.arange(160), 5):
        x, y = X_NORM[rows], Y_TRAIN[rows]
        error = x * W + b - y
        losses.append(np.mean(error**2))
        W, b = W - 0.8 * np.mean(error * x), b - 0.8 * np.mean(error)
    return np.mean(losses), np.mean((X_NORM * W + b - Y_TRAIN) ** 2)


def test_row_scores():
    """The RMSE and the noise; then R², and R² of predicting 0."""
    y_pred = SLOPE * X_TEST + INTERCEPT
    mse = np.mean((y_pred - Y_TEST) ** 2)
    assert_prints(printed(CELLS["fit-figure"]), [mse**0.5, 10])
    before = np.mean(Y_TEST**2)
    scores = [1 - mse / Y_TEST.var(), 1 - before / Y_TEST.var()]
    assert_prints(printed(CELLS["r-squared"]), scores)


ERROR = 4 * X_RAW - 7 - Y_TRAIN
NEAR = 70 * X_NORM + 140 - Y_TRAIN
SLOPES = [2 * np.mean(ERROR * X_RAW), 2 * np.mean(ERROR)]
SE = 10 / (STD * 160**0.5)
SE_B = 10 * (1 / 160 + MEAN**2 / (160 * STD**2)) ** 0.5
UNDER = numpy_descent(X_RAW, Y_TRAIN, 100, 0.99 * LIMIT)[0]
WAIT = round(np.log(0.01) / np.log(1 - 0.9 * LIMIT * FLAT))
ARRIVAL = raw_rows(0.9 * LIMIT, (WAIT,), 2)
OVER = numpy_descent(X_RAW, Y_TRAIN, 100, 1.01 * LIMIT)[0]

# cell: the numbers that it must print, from the formulas of its prose
NUMBERS = {
    "whole-loop": few(100),
    "loss": [41 / 3],
    "nudge": [0.5, 12.5, -0.5, 91 / 6, -8 / 3],
    "tape": [-8 / 3, -6],
    "formula": [-8 / 3, -6],
    "update": [*few(1)[:2], few(0)[2], few(1)[2]],
    "loop": loop_rows(),
    "train-step-run": [v for t in range(5) for v in (t + 1, few(t)[2])] + [*few(20)[:2]] * 2,
    "large-rate-run": [
        v for rate in (0.1, 0.6, 1.0, 1.1) for v in (rate, *(few(t, rate)[1] for t in range(1, 6)))
    ],
    "raw-creeps": raw_rows(0.0002, (1, 10, 100, 1000, 10_000), 1, 2),
    "normalize": [MEAN, STD, 0, 1, abs((X_TEST.mean() - MEAN) / STD), X_TEST.std() / STD],
    "train-run": train_rows(),
    "loss-figure": [W_BEST, B_BEST, LOSS_BEST, 2.5 * STD, 10 + 2.5 * MEAN, TRUE_LOSS],
    "recover": [SLOPE, 2.5, INTERCEPT, 10],
    "new-x": [50 * SLOPE + INTERCEPT],
    "gradient-step": SLOPES,
    "gradient-formula": SLOPES,
    "gradient-compare": SLOPES,
    "gradient-library": [np.mean(np.sign(NEAR) * X_NORM), np.mean(np.sign(NEAR))] * 2,
    "answer-lstsq": [W_BEST, W_BEST, B_BEST, B_BEST, LOSS_BEST, LOSS_BEST],
    "answer-keras": fit_rows(),
    "answer-evaluate": [32, *batches_of_32()],
    "accuracy": [LOSS_BEST, 0, 1 - LOSS_BEST / Y_TRAIN.var()],
    "rate-half": [0.5, W_BEST, B_BEST, W_BEST, B_BEST],
    "stable-limit": [LIMIT, 1],
    "rate-hessian": [FLAT, STEEP],
    "rate-edges-run": [0.99, UNDER[0], UNDER[-1], 1.01, OVER[0], OVER[-1]],
    "rate-y-run": [1e6 * W_BEST, 1e6 * B_BEST],
    "rate-features-run": [1, 1, 2, 1 / 2, 5, 1 / 5],
    "normalize-raw": [*raw_rows(0.9 * LIMIT, (1, 10, 100), 1, 2), SLOPE, INTERCEPT],
    "valley-arrival": [*ARRIVAL, 100 * (1 - ARRIVAL[1] / INTERCEPT), STEEP / FLAT],
    "convert-back-run": [SLOPE, INTERCEPT, SLOPE, INTERCEPT],
    "noise-part-1": [SLOPE, SE, 2.5, INTERCEPT, SE_B, 10],
}


@pytest.mark.parametrize("cell_id", NUMBERS)
def test_printed_numbers_are_those_of_the_formulas(cell_id):
    """The committed output; test_execution compares it with that of a fresh run."""
    assert_prints(printed(CELLS[cell_id]), NUMBERS[cell_id])


def test_raw_x_explodes_as_predicted():
    """Each update multiplies the distance by 1 - 740, and float32 ends before the seventh loss."""
    with np.errstate(all="ignore"):
        losses, W, _ = numpy_descent(X_RAW, Y_TRAIN, 7, 0.1)
    lines = printed(CELLS["raw-explodes"]).splitlines()
    assert_prints(lines[0], [np.mean(X_RAW**2)])
    for t, line in enumerate(lines[1:]):
        loss = losses[t] if losses[t] < np.finfo("float32").max else np.inf
        assert_prints(line, [t, float(W[t]), loss])
    assert [line.endswith("inf") for line in lines[1:]] == [False] * 6 + [True] * 2


def test_hubble_is_polyfit():
    ours, theirs = printed(CELLS["hubble-data"]).splitlines()
    assert_prints(ours.replace("- ", "-"), [454.158, -40.784])
    assert ours.split(":")[1] == theirs.split(":")[1].replace("  ", " ")


def test_noise_of_other_draws_agrees_with_theory():
    """The printed theory is the formula; 400 draws are worth three and a half per cent."""
    text = printed(CELLS["noise-repeat"])
    theory = [100, 100 * 2 / 160, SE, SE_B]
    for line, number in zip(text.splitlines(), theory, strict=True):
        measured, said = (float(word) for word in line.replace(", theory", "").split()[-2:])
        assert said == pytest.approx(number, abs=0.006 if number > 2 else 6e-5)
        assert measured == pytest.approx(number, rel=3 / 800**0.5)


@pytest.fixture(params=["as in Part 1", "as in Part 4"])
def loop(request, nb, nb_part_1):
    """train_step and train are written twice: both versions must pass the same tests."""
    return nb_part_1 if request.param == "as in Part 1" else nb


def test_predict(nb):
    W, b = tf.Variable([[1.0], [10], [100]]), tf.Variable([0.5])
    assert nb.predict(np.array([[1.0, 2, 3]], "float32"), W, b).numpy().tolist() == [[321.5]]


@pytest.mark.parametrize("shape", [(3,), (3, 1), (4, 5)])
def test_mse_is_numpys(nb, shape):
    y_true, y_pred = np.random.default_rng(1).normal(size=(2, *shape))
    expected = np.mean((y_pred - y_true) ** 2)
    np.testing.assert_allclose(nb.mse(y_true, y_pred), expected, rtol=1e-13)
    keras = tf.keras.losses.MeanSquaredError()(y_true, y_pred)
    np.testing.assert_allclose(keras, expected, rtol=1e-6)


@pytest.mark.parametrize("y_true", [COLUMN.ravel(), COLUMN[:1]])
def test_mse_refuses_shapes_that_broadcast(nb, y_true):
    with pytest.raises(ValueError, match=rf"y_true \({len(y_true)},.*y_pred \(3, 1\): reshape"):
        nb.mse(y_true, COLUMN)


def test_train_step_follows_finite_differences(loop):
    (X, y), h, start = normalized(k=2), 1e-6, np.array([0.3, -0.7, 0.2])

    def loss_at(p):
        return np.mean((X @ p[:2, None] + p[2] - y) ** 2)

    W, b = tf.Variable(start[:2, None]), tf.Variable(start[2:])
    slopes = [(loss_at(start + h * e) - loss_at(start - h * e)) / (2 * h) for e in np.eye(3)]
    loss = loop.train_step(X, y, [W, b], tf.keras.optimizers.SGD(0.25))
    after = np.concatenate([W.numpy().ravel(), b.numpy()])
    np.testing.assert_allclose(loss, loss_at(start), rtol=1e-12)
    np.testing.assert_allclose((start - after) / 0.25, slopes, rtol=1e-6)


def test_whoever_edits_mse_or_predict_trains_with_the_new_one(loop, monkeypatch):
    X, y = normalized()
    before = loop.train(X, y, epochs=1)[2]
    names = loop.train.__globals__
    right = loop.mse
    monkeypatch.setitem(names, "mse", lambda y_true, y_pred: 3 * right(y_true, y_pred))
    after = loop.train(X, y, epochs=1)[2]
    assert after["loss"][0] == pytest.approx(3 * before["loss"][0])
    assert after["W"][1] == pytest.approx(3 * before["W"][1])
    monkeypatch.setitem(names, "mse", right)
    monkeypatch.setitem(names, "predict", lambda X, W, b: 2 * X @ W + b)
    assert loop.train(X, y, epochs=1)[2]["W"][1] == pytest.approx(2 * before["W"][1])


@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 2e-5), ("float64", 1e-6)])
@pytest.mark.parametrize("k", [1, 3])
def test_train_history_is_numpys(loop, dtype, rtol, k):
    X, y = normalized(dtype=dtype, k=k)
    W, b, history = loop.train(X, y, epochs=17, learning_rate=0.07)
    theory = numpy_descent(X.astype("float64"), y.astype("float64"), 17, 0.07)
    assert {key: len(values) for key, values in history.items()} == {"loss": 18, "W": 18, "b": 18}
    for values, expected in zip(history.values(), theory, strict=True):
        np.testing.assert_allclose(values, expected, rtol=rtol, atol=1e-6)
    for variable, name in [(W, "W"), (b, "b")]:
        assert variable.dtype.name == dtype
        assert np.all(variable.numpy().squeeze() == history[name][-1])
    assert all(type(value) is float for value in history["loss"])


def test_train_stops_before_a_thousandfold_loss_or_at_the_first_that_is_not_finite(loop):
    X, y = normalized()
    words = (
        r"the loss is (\S+) after (\d+) updates at learning_rate 1.1: lower the rate, normalize X"
    )
    with pytest.raises(FloatingPointError, match=words):
        loop.train(X, y, learning_rate=1.1)
    losses = numpy_descent(X, y, 100, 1.1)[0]
    first = int(np.argmax(losses > 1000 * losses[0]))
    with pytest.raises(
        FloatingPointError, match=f" {re.escape(f'{losses[first]:.3g}')} after {first} updates"
    ):
        loop.train(X, y, epochs=first, learning_rate=1.1)
    assert len(loop.train(X, y, epochs=first - 1, learning_rate=1.1)[2]["loss"]) == first
    for bad in (np.nan, np.inf):
        spoiled = y.copy()
        spoiled[3] = bad
        with pytest.raises(FloatingPointError, match=f"is {bad} after 0 updates.*look for nan"):
            loop.train(X, spoiled)


@pytest.mark.parametrize("rate", [np.float32(0.25), np.float64(0.25), 1, 2])
def test_any_kind_of_number_is_a_rate(loop, rate):
    *_, history = loop.train(COLUMN, COLUMN, epochs=1, learning_rate=rate)
    assert history["W"][1] == pytest.approx(rate * 4 / 3)  # d loss/dW is -4/3 at the start


@pytest.mark.parametrize("kind", [np.asarray, tf.Variable])
def test_original_units_for_any_number_of_features(nb, kind):
    """Predictions are the same either way; numbers, arrays or variables will do."""
    rng = np.random.default_rng(0)
    X, W, b = rng.normal(5, 3, (9, 4)), rng.normal(size=(4, 1)), rng.normal(size=1)
    mean, std = X.mean(axis=0), X.std(axis=0)
    slopes, intercept = nb.to_original_units(kind(W), kind(b), mean, std)
    assert slopes.shape == (4,) and type(intercept) is float
    np.testing.assert_allclose(X @ slopes + intercept, ((X - mean) / std @ W + b)[:, 0])
    assert nb.to_original_units(6.0, 1.0, 10.0, 2.0) == ([3.0], -29.0)


def test_r_squared_of_perfect_mean_and_worse(nb):
    y = np.array([[1.0], [2], [3], [6]])
    assert nb.r_squared(y, y) == 1
    assert nb.r_squared(y, np.full_like(y, y.mean())) == pytest.approx(0)
    assert nb.r_squared(y, y[::-1]) == pytest.approx(1 - 13 / 3.5)


def test_predicted_loss_is_the_numpy_loops(nb):
    """From any start and at any rate, on the notebook's normalized rows."""
    names = nb.predicted_loss.__globals__
    names.update(W_best=W_BEST, b_best=B_BEST, loss_best=LOSS_BEST)
    for rate in (0.02, 0.8, 1.05):
        losses = numpy_descent(X_NORM, Y_TRAIN, 9, rate)[0]
        np.testing.assert_allclose(nb.predicted_loss(np.arange(10), rate), losses, rtol=1e-12)
    start = np.mean((5 * X_NORM - 7 - Y_TRAIN) ** 2)
    assert nb.predicted_loss(0, 0.1, W=5, b=-7) == pytest.approx(start)


def test_stable_limit(nb):
    X, _ = normalized()
    assert nb.stable_limit(X) == pytest.approx(1, rel=1e-12)
    raw = 50 + 29 * X
    largest = np.linalg.svd(np.column_stack([raw, np.ones(len(raw))]), compute_uv=False)[0]
    assert nb.stable_limit(raw) == pytest.approx(len(raw) / largest**2, rel=1e-10)


@pytest.mark.parametrize("k", [1, 3])
def test_the_stable_limit_separates(nb, k):
    X, y = normalized(k=k)
    X = 5 * X + np.arange(k)
    for share, falls in [(0.99, True), (1.02, False)]:
        rate = share * nb.stable_limit(X)
        *_, history = nb.train(X, y, epochs=60, learning_rate=rate)
        assert (history["loss"][-1] < history["loss"][0]) is falls
