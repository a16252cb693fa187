"""The notebook's functions against independent references, and with bad input."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf

# NIST StRD, Norris: certified values.
NORRIS_SLOPE, NORRIS_INTERCEPT = 1.00211681802045, -0.262323073774029
ANSCOMBE_X = [10, 8, 13, 9, 11, 14, 6, 4, 12, 7, 5]
ANSCOMBE_Y = [8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68]


def norris():
    """x and y of NIST's Norris data set, 36 rows, float64."""
    y, x = np.loadtxt(pathlib.Path(__file__).with_name("norris.csv"), delimiter=",", skiprows=2).T
    assert len(x) == 36
    return x, y


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


def test_init_variables_and_predict(nb):
    W, b = nb.init_variables(3, "float64")
    assert W.shape == (3, 1) and b.shape == (1,) and W.dtype == b.dtype == tf.float64
    assert not W.numpy().any() and not b.numpy().any()
    W.assign([[1], [10], [100]])
    b.assign([0.5])
    assert nb.predict(np.array([[1.0, 2, 3]]), W, b).numpy().tolist() == [[321.5]]


@pytest.mark.parametrize("shape", [(3,), (3, 1), (4, 5)])
def test_mse_is_numpys(nb, shape):
    y_true, y_pred = np.random.default_rng(1).normal(size=(2, *shape))
    expected = np.mean((y_pred - y_true) ** 2)
    np.testing.assert_allclose(nb.mse(y_true, y_pred), expected, rtol=1e-13)
    np.testing.assert_allclose(tf.keras.losses.MeanSquaredError()(y_true, y_pred), expected, rtol=1e-6)


def test_train_step_follows_finite_differences(nb):
    (X, y), h, start = normalized(k=2), 1e-6, np.array([0.3, -0.7, 0.2])

    def loss_at(p):
        return np.mean((X @ p[:2, None] + p[2] - y) ** 2)

    W, b = tf.Variable(start[:2, None]), tf.Variable(start[2:])
    slopes = [(loss_at(start + h * e) - loss_at(start - h * e)) / (2 * h) for e in np.eye(3)]
    loss = nb.train_step(X, y, [W, b], tf.keras.optimizers.SGD(0.25))
    after = np.concatenate([W.numpy().ravel(), b.numpy()])
    np.testing.assert_allclose(loss, loss_at(start), rtol=1e-12)
    np.testing.assert_allclose((start - after) / 0.25, slopes, rtol=1e-6)


def test_train_step_takes_other_losses_models_and_optimizers(nb):
    (X, y), a, sgd = normalized(), tf.Variable(0.5, dtype="float64"), tf.keras.optimizers.SGD(0.1)
    slope = np.mean(np.sign(np.sin(0.5 * X) - y) * X * np.cos(0.5 * X))
    nb.train_step(X, y, [a], sgd, lambda y, p: tf.reduce_mean(tf.abs(y - p)), lambda X, a: tf.sin(a * X))
    np.testing.assert_allclose(a.numpy(), 0.5 - 0.1 * slope, rtol=1e-6)


def numpy_descent(X, y, epochs, learning_rate, longest=np.inf):
    """Losses, W, b of descent by derived formulas, epochs + 1 each; no gradient longer than `longest`."""
    W, b, path = np.zeros((X.shape[1], 1)), np.zeros(1), []
    for _ in range(epochs + 1):
        error = X @ W + b - y
        path.append((np.mean(error**2), W.copy().squeeze(), b.item()))
        dW, db = 2 / len(X) * X.T @ error, 2 * error.mean()
        step = learning_rate * min(1, longest / np.hypot(np.linalg.norm(dW), db))
        W, b = W - step * dW, b - step * db
    return [np.array(column) for column in zip(*path, strict=True)]


@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 2e-5), ("float64", 1e-6)])
@pytest.mark.parametrize("k", [1, 3])
def test_train_history_is_numpys(nb, dtype, rtol, k):
    X, y = normalized(dtype=dtype, k=k)
    W, b, history = nb.train(X, y, epochs=17, learning_rate=0.07)
    theory = numpy_descent(X.astype("float64"), y.astype("float64"), 17, 0.07)
    assert [(key, len(values)) for key, values in history.items()] == [("loss", 18), ("W", 18), ("b", 18)]
    for values, expected in zip(history.values(), theory, strict=True):
        np.testing.assert_allclose(values, expected, rtol=rtol, atol=1e-6)
    for variable, name in [(W, "W"), (b, "b")]:
        assert variable.dtype.name == dtype and np.all(variable.numpy().squeeze() == history[name][-1])
    assert all(type(value) is float for value in history["loss"])


def test_stable_limit(nb):
    X, _ = normalized()
    assert nb.stable_limit(X) == pytest.approx(1, rel=1e-12)
    raw = 50 + 29 * X
    largest = np.linalg.svd(np.column_stack([raw, np.ones(len(raw))]), compute_uv=False)[0]
    assert nb.stable_limit(raw) == pytest.approx(len(raw) / largest**2, rel=1e-10)


CASES = {
    "Anscombe": (ANSCOMBE_X, ANSCOMBE_Y),
    "Norris": norris(),
    "two points": ([1, 2], [5, 3]),
    "integers": (range(10), [3 * i - 7 for i in range(10)]),
    "large": (np.linspace(1e9, 3e9, 20), np.cos(range(20)) * 1e9 + np.linspace(0, 9e9, 20)),
    "small": (np.linspace(1e-6, 5e-6, 20), 1e-6 * np.sin(range(20))),
    "large x, small y": (np.linspace(1e9, 3e9, 20), 1e-6 * np.sin(range(20))),
    "years": (np.arange(1880, 2020), 0.01 * np.arange(140) + np.sin(np.arange(140))),
    "falling": ([3.5, 1.0, 2.25, 8.0], [-1.0, 4.0, 2.0, -9.5]),
    "float32": (np.float32([1, 2, 4, 8]), np.float32([1, 1, 2, 2])),
    "column": (np.array([[1.0], [2], [4]]), np.array([[3.0], [1], [2]])),
    "unsigned bytes": (np.uint8([250, 255, 10]), np.uint8([1, 255, 128])),
    "big-endian": (np.array([1, 2, 4], ">f8"), np.array([3, 1, 2], ">i4")),
    "flat": ([1, 2, 3, 4], [5, 5, 5, 5]),
    "uncorrelated": ([-1, 0, 1], [1, -2, 1]),
    "all zero": ([1, 2, 3], [0, 0, 0]),
}


@pytest.mark.parametrize("name", CASES)
def test_fit_line_is_least_squares(nb, name):
    x, y = CASES[name]
    slope, intercept, history = nb.fit_line(x, y)
    x, y = np.ravel(x).astype("float64"), np.ravel(y).astype("float64")
    # lstsq on a centred x: the same line, computed without loss of digits.
    exact, level = least_squares(x - x.mean(), y)
    assert slope == pytest.approx(exact, rel=1e-4, abs=1e-9 * np.abs(y).max() / np.ptp(x))
    assert intercept == pytest.approx(level - exact * x.mean(), rel=1e-4, abs=1e-8 * np.abs(y).max())
    assert isinstance(slope, float) and isinstance(intercept, float)
    assert history["W"][-1] == slope and history["b"][-1] == intercept  # in the same units
    assert len(history["W"]) == len(history["b"]) == len(history["loss"]) == 101
    assert history["loss"][0] == pytest.approx(np.var(y))
    last = np.mean((slope * x + intercept - y) ** 2)
    assert history["loss"][-1] == pytest.approx(last, rel=1e-6, abs=1e-12 * np.mean(y**2))


def test_fit_line_agrees_with_certified_norris_and_changes_nothing_it_was_given(nb):
    x, y = norris()
    slope, intercept, _ = nb.fit_line(x, y)
    assert slope == pytest.approx(NORRIS_SLOPE, rel=1e-7)
    assert intercept == pytest.approx(NORRIS_INTERCEPT, rel=1e-6)
    np.testing.assert_array_equal([x, y], norris())


@pytest.mark.parametrize("offset", [2e4, 1.7e9, 1.7e12])
def test_fit_line_is_exact_for_a_large_y(nb, offset):
    """Unix times in milliseconds, for instance: b starts at their mean, not at 0."""
    x, y = np.arange(50.0), np.cos(range(50))
    slope, intercept, history = nb.fit_line(x, offset + y)
    assert [slope, intercept - offset] == pytest.approx(np.polyfit(x, y, 1), rel=1e-4, abs=1e-3)
    assert history["b"][0] == pytest.approx(offset + np.mean(y))


def test_an_old_failure_that_is_cured_is_noticed(nb):
    with pytest.raises(AssertionError, match="no longer does"):
        nb.caught(lambda: None)


def test_gradient_routes(nb):
    X, y = normalized(k=3)
    W, b = nb.init_variables(3, "float64")
    W.assign([[1.0], [-2.0], [0.5]])
    b.assign([4.0])
    error = X @ W.numpy() + 4 - y
    expected = [2 / len(X) * X.T @ error, [2 * error.mean()]]
    by_tape, by_differences = nb.gradient_routes(X, y, [W, b])
    for ours, differences, theory in zip(by_tape, by_differences, map(np.ravel, expected), strict=True):
        np.testing.assert_allclose(ours[0], theory, rtol=1e-12)
        np.testing.assert_allclose(differences[0], theory, rtol=1e-7)
    assert W.numpy().tolist() == [[1.0], [-2.0], [0.5]]


@pytest.mark.parametrize("k", [1, 3])
def test_the_stable_limit_separates(nb, k):
    X, y = normalized(k=k)
    X = 5 * X + np.arange(k)
    for share, falls in [(0.99, True), (1.02, False)]:
        *_, history = nb.train(X, y, epochs=400, learning_rate=share * nb.stable_limit(X))
        assert (history["loss"][-1] < history["loss"][0]) is falls


def test_some_constants_normalize_to_one_instead_of_nan():
    """What failure 7 says of rounding: a constant column that is not caught by nan."""
    with np.errstate(invalid="ignore"):
        columns = [np.full((160, 1), c, "float32") for c in (7, 0.1, 0.3, 1.1, 3.3, 100.7)]
        ratios = [((c - c.mean()) / c.std())[0, 0] for c in columns]
    assert np.isnan(ratios[0]) and np.any(np.isclose(np.abs(ratios), 1, atol=0.01))


def test_swapped_gradients_make_the_loss_fall_first_and_then_rise_without_end():
    """As the table of symptoms says: the sum of the distances shrinks, their difference grows."""
    W_off, b_off, excess = -74.12, -141.63, []
    for _ in range(60):
        excess.append(W_off**2 + b_off**2)
        W_off, b_off = W_off - 0.2 * b_off, b_off - 0.2 * W_off
    assert 0 < np.argmin(excess) < 10 and excess[-1] > 1e6 * excess[0]


COLUMN = np.array([[-1.0], [0.0], [1.0]])
GOOD = [1, 2, 3], [2, 4, 5]

REFUSED = {  # x, y, the error, words of its message
    "lengths": ([1, 2, 3], [2, 4], ValueError, "x has 3 rows, y has 2: give"),
    "one point": ([1], [2], ValueError, "1 rows.*two or more"),
    "no point": ([], [], ValueError, "0 rows.*two or more"),
    "nan": ([1, np.nan, 3], [2, 4, 5], ValueError, "x, row 1: nan: repair"),
    "None": ([1, 2, 3], [2, 4, None], TypeError, "y, row 2: None is no number"),
    "infinity": ([1, 2, np.inf], [2, 4, 5], ValueError, "x, row 2: inf: repair"),
    "mask": (np.ma.array([1, 2, 3], mask=[1, 0, 0]), [2, 4, 5], TypeError, "x, row 0"),
    "bytes": (np.array([b"1", 2, 3], object), [2, 4, 5], TypeError, "x, row 0: b'1'"),
    "huge": ([1e160, 2e160, 3e160], [2, 4, 5], ValueError, r"x, row 0: 1e\+160"),
    "tiny": ([1e-170, 2e-170, 3e-170], [2, 4, 5], ValueError, "x is constant"),
    "constant": ([7, 7, 7], [2, 4, 5], ValueError, r"x is constant \(7\)"),
    "one bit apart": ([0.3, 0.1 + 0.2, 0.3], [1, 2, 3], ValueError, "constant"),
    "constant 0.1": ([0.1, 0.1, 0.1], [2, 4, 5], ValueError, "constant"),
    "text": (["1", "2", "3"], [2, 4, 5], TypeError, "x, row 0: '1' is no number"),
    "a word": ([1, 2, 3], [2, "four", 5], TypeError, "y, row 1: 'four'"),
    "None, then text": ([1, 2, 3], [2, None, "5"], TypeError, "y, row 1: None"),
    "a string": ("123", [2, 4, 5], ValueError, r"x has shape \(\)"),
    "complex": ([1, 2, 3j], [2, 4, 5], TypeError, "x, row 2: 3j"),
    "dates": (np.array(["2001-01-01"] * 3, "M8[D]"), [2, 4, 5], TypeError, "x, row 0"),
    "a dict": ({1: 2}, [2, 4, 5], ValueError, r"x has shape \(\)"),
    "ragged": ([[1, 2], [3]], [2, 4], TypeError, r"x, row 0: \[1, 2\]"),
    "too long": ([1, 10**400, 3], [2, 4, 5], ValueError, "x, row 1"),
    "features": ([[1, 2], [3, 4], [5, 6]], [2, 4, 5], ValueError, r"\(3, 2\): give a list, one feat"),
    "a row": ([[1, 2, 3]], [2, 4, 5], ValueError, r"x has shape \(1, 3\)"),
    "numbers": (5, 6, ValueError, "x has shape"),
}  # fmt: skip
RATES = [0, -0.1, np.nan, np.inf, "0.1", None, 1e-46, 1, 1 - 1e-10, 1.5, 1e30, 1e-3]


@pytest.mark.parametrize("name", REFUSED)
def test_fit_line_refuses(nb, name):
    x, y, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        nb.fit_line(x, y)


@pytest.mark.parametrize("epochs", [0, -3, 2.5, "100", None, np.nan, 10**400])
def test_epochs_that_make_no_sense(nb, epochs):
    with pytest.raises(ValueError, match="epochs is .*whole number"):
        nb.fit_line(*GOOD, epochs=epochs)


@pytest.mark.parametrize(
    ("epochs", "rate"), [(100, rate) for rate in RATES] + [(30, 0.1), (np.int32(9), 0.2)]
)
def test_rates_and_epochs_that_cannot_arrive(nb, epochs, rate):
    with pytest.raises(ValueError, match=f"{epochs} epochs at learning_rate .* do not arr.*try"):
        nb.fit_line(*GOOD, epochs=epochs, learning_rate=rate)


@pytest.mark.parametrize(("epochs", "rate"), [(1, 0.5), (31, 0.1), (np.int64(100), np.float32(0.05))])
def test_fit_line_takes_what_arrives(nb, epochs, rate):
    slope, *_ = nb.fit_line(*GOOD, epochs=epochs, learning_rate=rate)
    assert slope == pytest.approx(1.5, rel=1e-3)


@pytest.mark.parametrize("name", ["train", "train_compiled"])
def test_divergence_names_rate_update_and_the_two_cures(nb, name):
    train = getattr(nb, name)
    X = np.random.default_rng(0).uniform(0, 100, (50, 1)).astype("float32")
    words = r"loss is inf after (\d+) updates at learning_rate 0.1: lower the rate, or normalize X"
    with pytest.raises(FloatingPointError, match=words) as caught:
        train(X, 2 * X, learning_rate=0.1)
    # The update it names is the first whose loss is not finite.
    named = int(str(caught.value).split("after ")[1].split(" updates")[0])
    with pytest.raises(FloatingPointError):
        train(X, 2 * X, epochs=named, learning_rate=0.1)
    *_, history = train(X, 2 * X, epochs=named - 1, learning_rate=0.1)
    assert np.isfinite(history["loss"]).all()


def test_divergence_in_batches_counts_updates(nb):
    X = np.random.default_rng(0).uniform(0, 100, (70, 1)).astype("float32")
    with pytest.raises(FloatingPointError, match=r"after \d*[369] updates"):
        nb.train_compiled(X, 2 * X, 30, 0.1, batch_size=32)


@pytest.mark.parametrize("y_true", [COLUMN.ravel(), COLUMN[:1]])
def test_mse_refuses_shapes_that_broadcast(nb, y_true):
    with pytest.raises(ValueError, match=rf"y_true \({len(y_true)},.*y_pred \(3, 1\): reshape"):
        nb.mse(y_true, COLUMN)


@pytest.mark.parametrize("rate", [np.float32(0.25), np.float64(0.25), 1, 2])
@pytest.mark.parametrize("name", ["train", "train_compiled"])
def test_any_kind_of_number_is_a_rate(nb, rate, name):
    *_, history = getattr(nb, name)(COLUMN, COLUMN, epochs=2, learning_rate=rate)
    # d loss/dW = -4/3 at the start: mean(x * x) is 2/3.
    assert history["W"][1] == pytest.approx(rate * 4 / 3)
