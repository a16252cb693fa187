"""The notebook's functions against independent references."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf

HERE = pathlib.Path(__file__).parent
# NIST StRD, Norris: certified values.
NORRIS_SLOPE, NORRIS_INTERCEPT = 1.00211681802045, -0.262323073774029
ANSCOMBE_X = [10, 8, 13, 9, 11, 14, 6, 4, 12, 7, 5]
ANSCOMBE_Y = [8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68]


def norris():
    """x and y of NIST's Norris data set, 36 rows, float64."""
    y, x = np.loadtxt(HERE / "norris.csv", delimiter=",", skiprows=2).T
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


def test_original_units_for_any_number_of_features(nb):
    """Predictions are the same either way; a number, an array or variables will do."""
    rng = np.random.default_rng(0)
    X, W, b = rng.normal(5, 3, (9, 4)), rng.normal(size=(4, 1)), rng.normal(size=1)
    mean, std = X.mean(axis=0), X.std(axis=0)
    for weights, bias in [(W, b), (tf.Variable(W), tf.Variable(b))]:
        slopes, intercept = nb.to_original_units(weights, bias, mean, std)
        assert slopes.shape == (4,) and type(intercept) is float
        np.testing.assert_allclose(X @ slopes + intercept, ((X - mean) / std @ W + b)[:, 0])
    (slope,), intercept = nb.to_original_units(6.0, 1.0, 10.0, 2.0)
    assert (slope, intercept) == (3.0, -29.0)


def test_init_variables_and_predict(nb):
    W, b = nb.init_variables(3, "float64")
    assert W.shape == (3, 1) and b.shape == (1,)
    assert W.dtype == b.dtype == tf.float64
    assert not W.numpy().any() and not b.numpy().any()
    W.assign([[1], [10], [100]])
    b.assign([0.5])
    assert nb.predict(np.array([[1.0, 2, 3]]), W, b).numpy().tolist() == [[321.5]]


@pytest.mark.parametrize("shape", [(3,), (3, 1), (4, 5)])
def test_mse_is_numpys(nb, shape):
    rng = np.random.default_rng(1)
    y_true, y_pred = rng.normal(size=shape), rng.normal(size=shape)
    expected = np.mean((y_pred - y_true) ** 2)
    np.testing.assert_allclose(nb.mse(y_true, y_pred), expected, rtol=1e-13)
    keras = tf.keras.losses.MeanSquaredError()(y_true, y_pred)
    np.testing.assert_allclose(keras, expected, rtol=1e-6)


def test_train_step_follows_finite_differences(nb):
    X, y = normalized(k=2)
    W, b = nb.init_variables(2, "float64")
    W.assign([[0.3], [-0.7]])
    b.assign([0.2])
    start = np.concatenate([W.numpy().ravel(), b.numpy()])

    def loss_at(p):
        return np.mean((X @ p[:2, None] + p[2] - y) ** 2)

    h = 1e-6
    slopes = [(loss_at(start + h * e) - loss_at(start - h * e)) / (2 * h) for e in np.eye(3)]
    loss = nb.train_step(X, y, [W, b], tf.keras.optimizers.SGD(0.25))
    after = np.concatenate([W.numpy().ravel(), b.numpy()])
    np.testing.assert_allclose(loss, loss_at(start), rtol=1e-12)
    np.testing.assert_allclose((start - after) / 0.25, slopes, rtol=1e-6)


def test_train_step_takes_other_losses_models_and_optimizers(nb):
    X, y = normalized()
    a = tf.Variable(0.5, dtype="float64")

    def model(X, a):
        return tf.sin(a * X)

    def mean_absolute(y_true, y_pred):
        return tf.reduce_mean(tf.abs(y_true - y_pred))

    slope = np.mean(np.sign(np.sin(0.5 * X) - y) * X * np.cos(0.5 * X))
    nb.train_step(X, y, [a], tf.keras.optimizers.SGD(0.1), mean_absolute, model)
    np.testing.assert_allclose(a.numpy(), 0.5 - 0.1 * slope, rtol=1e-6)


def numpy_descent(X, y, epochs, learning_rate):
    """Losses, W and b of full-batch gradient descent by derived formulas, epochs + 1 each."""
    W, b, path = np.zeros((X.shape[1], 1)), np.zeros(1), []
    for _ in range(epochs + 1):
        error = X @ W + b - y
        path.append((np.mean(error**2), W.copy().squeeze(), b.item()))
        W = W - learning_rate * 2 / len(X) * X.T @ error
        b = b - learning_rate * 2 * error.mean()
    return [np.array(column) for column in zip(*path, strict=True)]


@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 2e-5), ("float64", 1e-6)])
@pytest.mark.parametrize("k", [1, 3])
def test_train_history_is_numpys(nb, dtype, rtol, k):
    X, y = normalized(dtype=dtype, k=k)
    W, b, history = nb.train(X, y, epochs=17, learning_rate=0.07)
    loss, W_path, b_path = numpy_descent(X.astype("float64"), y.astype("float64"), 17, 0.07)
    assert [(key, len(values)) for key, values in history.items()] == [("loss", 18), ("W", 18), ("b", 18)]
    np.testing.assert_allclose(history["loss"], loss, rtol=rtol)
    np.testing.assert_allclose(history["W"], W_path, rtol=rtol, atol=1e-6)
    np.testing.assert_allclose(history["b"], b_path, rtol=rtol, atol=1e-6)
    np.testing.assert_array_equal(W.numpy().squeeze(), history["W"][-1])
    np.testing.assert_array_equal(b.numpy().squeeze(), history["b"][-1])
    assert W.dtype.name == b.dtype.name == dtype
    assert all(type(value) is float for value in history["loss"])


def test_stable_limit(nb):
    X, _ = normalized()
    assert nb.stable_limit(X) == pytest.approx(1, rel=1e-12)
    raw = 50 + 29 * X
    A = np.column_stack([raw, np.ones(len(raw))])
    expected = 2 / (2 * np.linalg.svd(A, compute_uv=False)[0] ** 2 / len(A))
    assert nb.stable_limit(raw) == pytest.approx(expected, rel=1e-10)


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
    offset = level - exact * x.mean()
    assert intercept == pytest.approx(offset, rel=1e-4, abs=1e-8 * np.abs(y).max())
    assert isinstance(slope, float) and isinstance(intercept, float)
    # history speaks the same units.
    assert history["W"][-1] == slope and history["b"][-1] == intercept
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
    rng = np.random.default_rng(0)
    x = np.arange(50.0)
    noise = rng.normal(0, 0.5, 50)
    slope, intercept, history = nb.fit_line(x, offset + 2 * x + noise)
    exact = np.polyfit(x, 2 * x + noise, 1)
    assert slope == pytest.approx(exact[0], rel=1e-4)
    assert intercept - offset == pytest.approx(exact[1], abs=1e-3)
    assert history["b"][0] == pytest.approx(offset + np.mean(2 * x + noise))
