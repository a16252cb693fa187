"""What the prose of Parts 1 and 2 claims, and how Part 5 reads a file: claims of no other test."""

import ast
import inspect
import itertools
import logging
import math
import socket
from decimal import Decimal
from fractions import Fraction
from io import BytesIO, StringIO
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from notebook_runner import code_cells, python_of, read
from test_loop import (
    B_BEST,
    COLUMN,
    FLAT,
    INTERCEPT,
    LIMIT,
    LOSS_BEST,
    MEAN,
    SLOPE,
    STEEP,
    TRUE_LOSS,
    W_BEST,
    X_NORM,
    X_RAW,
    Y_TRAIN,
    numpy_descent,
)
from test_own_data import DATA, NO_TEXT, REFUSED

CELLS = {cell.id: cell for cell in code_cells(read())}
Y3 = np.array([[2.0], [1.0], [6.0]])  # the three points are COLUMN and these
THREE, RAW, NORMALIZED = (COLUMN, Y3), (X_RAW, Y_TRAIN), (X_NORM, Y_TRAIN)
SGD = tf.keras.optimizers.SGD
WITH_ONES = np.column_stack([X_RAW, np.ones(len(X_RAW))])
H = 2 / len(X_RAW) * WITH_ONES.T @ WITH_ONES  # the second derivatives of the loss on raw x


def slopes_at(nb, X, y, W, b):
    """The derivatives of the notebook's loss at the numbers W and b, by the tape, in float64."""
    variables = [tf.Variable([[float(W)]], dtype="float64"), tf.Variable([b], dtype="float64")]
    with tf.GradientTape() as tape:
        loss = nb.mse(y, nb.predict(X, *variables))
    return np.array([slope.numpy().item() for slope in tape.gradient(loss, variables)])


def second_derivatives(nb, X, y, W, b):
    """The 2 by 2 matrix of second derivatives of the notebook's loss at W and b, by two tapes."""
    theta = tf.Variable([[float(W)], [float(b)]], dtype="float64")
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            loss = nb.mse(y, nb.predict(X, theta[:1], theta[1]))
        slopes = inner.gradient(loss, theta)
    return outer.jacobian(slopes, theta).numpy().reshape(2, 2)


def distances(history, W, b):
    """How far a history's W and b are from these, with their signs, after each update."""
    return np.array(history["W"]) - W, np.array(history["b"]) - b


# ------------------------------------------------------------------ Part 1, the first cell


def test_the_first_loop_runs_by_itself_and_leaves_nearly_2_and_3(monkeypatch):
    """It needs no name of another cell; the last bits of W and b may be others elsewhere."""
    for name in ("TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS"):
        monkeypatch.setenv(name, "3")
    names = {"__name__": "__main__"}
    exec(CELLS["whole-loop"].source, names)  # noqa: S102
    assert names["W"].numpy().item() == pytest.approx(2, abs=1e-4)
    assert names["b"].numpy().item() == pytest.approx(3, abs=1e-4)
    assert float(names["loss"]) == pytest.approx(2, abs=1e-4)


def test_fit_makes_the_updates_of_our_loop_on_the_three_points(nb):
    """The same losses in all twenty epochs, each before its update, and the same line."""
    X, y = np.array([[-1.0], [0.0], [1.0]]), np.array([[2.0], [1.0], [6.0]])
    W = b = 0.0
    ours = []
    for _ in range(20):
        error = X * W + b - y
        ours.append(np.mean(error**2))
        W, b = W - 0.2 * np.mean(error * X), b - 0.2 * np.mean(error)
    names = {"tf": nb.tf, "X": X, "y": y}
    exec(CELLS["fit-points"].source, names)  # noqa: S102
    assert names["fit"].history["loss"] == pytest.approx(ours, rel=1e-5)
    assert names["dense"].get_weights()[0].item() == pytest.approx(W, rel=1e-5)
    assert names["dense"].get_weights()[1].item() == pytest.approx(b, rel=1e-5)
    # No loss is so near the edge of its fourth decimal that another rounding would show.
    edges = [abs(loss * 10_000 % 1 - 0.5) / 10_000 for loss in ours[:5]]
    assert min(edges) > 2e-6  # four units in the last place of a float32


def test_on_raw_x_both_the_scale_and_the_mean_hold_b_back():
    """Both alone are slow. W soon makes up for the wrong b, and b's derivative is a quarter then."""
    best_W, best_b = np.polyfit(X_RAW.ravel(), Y_TRAIN.ravel(), 1)
    factor = 1 - 2 * 0.0002
    b = 0.0
    for _ in range(100):
        b -= 0.0002 * 2 * np.mean(best_W * X_RAW + b - Y_TRAIN)
    assert (best_b - b) / best_b == pytest.approx(factor**100, rel=1e-6)
    assert factor**10_000 == pytest.approx(0.02, abs=0.005)
    W = b = 0.0
    for t in range(10_000):
        error = W * X_RAW + b - Y_TRAIN
        if t in (20, 1000, 5000):
            best_for_b = np.mean(X_RAW * (Y_TRAIN - b)) / np.mean(X_RAW**2)
            assert W == pytest.approx(best_for_b, rel=1e-3)
            assert 0.2 < 2 * np.mean(error) / (2 * (b - best_b)) < 0.27
        W, b = W - 0.0004 * np.mean(error * X_RAW), b - 0.0004 * np.mean(error)
    assert (best_b - b) / best_b == pytest.approx(0.4, abs=0.03)


def test_nothing_is_downloaded(monkeypatch, tmp_path):
    """Part 1 runs without any connection, and no cell of any part names what fetches."""

    def refuse(*args, **kwargs):
        raise AssertionError(f"a connection was wanted: {args}")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    for name in ("TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS"):
        monkeypatch.setenv(name, "3")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "notebook"}
    for cell_id, cell in itertools.takewhile(
        lambda pair: pair[0] != "gradient-step", CELLS.items()
    ):
        if "plt.subplots" not in cell.source and cell_id != "raw-creeps":
            exec(python_of(cell), names)  # noqa: S102
    assert names["slope"] == pytest.approx(SLOPE, rel=1e-4)  # Part 1 has trained

    fetches = {"get_file", "load_data", "urlopen", "urlretrieve", "datasets", "applications"}
    for cell_id, cell in CELLS.items():
        for node in ast.walk(ast.parse(python_of(cell))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = [alias.name for alias in node.names] + [getattr(node, "module", "")]
                assert not {"urllib", "requests", "http"} & {str(m).split(".")[0] for m in modules}
            elif isinstance(node, ast.Attribute):
                assert node.attr not in fetches, cell_id
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert "://" not in node.value, cell_id


# ------------------------------------------------------------------- Part 1, Three points


@pytest.mark.parametrize(("n", "k"), [(3, 1), (200, 1), (200, 20)])
def test_the_same_code_serves_more_rows_and_more_features(nb_part_1, n, k):
    """With y on a line through the features, the loop finds every planted weight."""
    rng = np.random.default_rng(0)
    X = COLUMN if n == 3 else rng.normal(size=(n, k))
    weights = np.arange(1.0, 1 + k).reshape(k, 1)
    W, b, history = nb_part_1.train(X, X @ weights + 3, epochs=200)
    np.testing.assert_allclose(W.numpy(), weights, atol=1e-3)
    np.testing.assert_allclose(b.numpy(), [3], atol=1e-3)
    assert W.shape == (k, 1) and history["loss"][-1] < 1e-6 < history["loss"][0]


def test_a_tensor_cannot_change():
    tensor = tf.constant([[1.0], [2.0]])
    before = tensor
    with pytest.raises(TypeError, match="assignment"):
        tensor[0, 0] = 5.0
    assert not hasattr(tensor, "assign") and not hasattr(tensor, "assign_sub")
    tensor += 1  # makes another tensor, and gives it the name
    assert before.numpy().tolist() == [[1], [2]] and tensor.numpy().tolist() == [[2], [3]]


def test_a_variable_is_a_place_for_new_values_and_a_sum_with_it_is_none():
    W = place = tf.Variable([[0.0]])
    higher = W + 0.5
    assert not isinstance(higher, tf.Variable) and W.numpy().item() == 0
    W.assign([[5.0]])
    W.assign_sub([[2.0]])
    assert W is place and W.numpy().item() == 3 and higher.numpy().item() == 0.5


def test_the_true_values_come_first_as_in_keras(nb):
    """The MSE is the same either way round, so the order shows in other losses."""
    for loss in (nb.mse, nb.huber, nb.pinball, nb.r_squared):
        assert list(inspect.signature(loss).parameters)[:2] == ["y_true", "y_pred"]
    low, high = np.array([[1.0]]), np.array([[2.0]])
    assert float(nb.mse(low, high)) == float(nb.mse(high, low)) == 1
    per_cent = tf.keras.losses.MeanAbsolutePercentageError()  # of the true value
    assert float(per_cent(low, high)) == pytest.approx(100)
    assert float(per_cent(high, low)) == pytest.approx(50)
    assert float(nb.pinball(high, low, q=0.9)) == pytest.approx(0.9)


@pytest.mark.parametrize("kind_of_y", [np.asarray, tf.constant, tf.Variable])
@pytest.mark.parametrize("kind_of_pred", [np.asarray, tf.constant])
def test_a_flat_y_makes_a_table_of_nine_and_another_loss(nb, kind_of_y, kind_of_pred):
    """No error without the comparison of shapes, whatever kind of array the two are.

    For three equal predictions, as at the start, the loss would happen to be right.
    """
    y_true, y_pred = kind_of_y(Y3.ravel()), kind_of_pred(COLUMN + 2)
    table = np.asarray(y_pred - y_true)
    assert table.tolist() == [[p - t for t in (2, 1, 6)] for p in (1, 2, 3)]
    assert np.mean(table**2) == pytest.approx(19 / 3)
    right = nb.mse(kind_of_y(Y3), y_pred)
    assert right.shape == () and float(right) == pytest.approx(11 / 3)
    with pytest.raises(ValueError, match=r"y_true \(3,\), y_pred \(3, 1\): reshape one"):
        nb.mse(y_true, y_pred)


# -------------------------------------------------------- Part 1, One update in slow motion


@pytest.mark.parametrize(("W", "h"), [(0, 0.5), (3, 7), (-2, 1), (40, 1000)])
def test_between_two_trials_of_a_parabola_the_slope_is_exactly_that_in_the_middle(nb, W, h):
    higher, lower = (nb.mse(Y3, nb.predict(COLUMN, [[W + d]], [1.3])) for d in (h, -h))
    middle, _ = slopes_at(nb, COLUMN, Y3, W, 1.3)
    assert float(higher - lower) / (2 * h) == pytest.approx(middle, rel=1e-9)
    assert float(higher) + float(lower) != pytest.approx(2 * float(nb.mse(Y3, COLUMN * W + 1.3)))


def test_two_trials_for_every_number():
    """So many times more does TensorFlow's own central difference call a loss of k numbers."""
    calls = {}
    for k in (1, 4):
        calls[k] = 0

        def loss(x, k=k):
            calls[k] += 1
            return tf.reduce_sum(x**2)

        tf.test.compute_gradient(loss, [tf.ones(k, "float64")])
    assert calls[4] - calls[1] == 2 * 3


def test_the_tape_finds_all_derivatives_at_once_by_the_chain_rule():
    u, v, w = (tf.Variable(value, dtype="float64") for value in (0.3, -0.7, 1.1))
    with tf.GradientTape() as tape:
        inner = tf.sin(u * v)
        outer = tf.exp(inner) * w
    found = [float(slope) for slope in tape.gradient(outer, [u, v, w])]
    e, c = math.exp(math.sin(-0.21)), math.cos(-0.21)
    assert found == pytest.approx([1.1 * e * c * -0.7, 1.1 * e * c * 0.3, e], rel=1e-12)
    with tf.GradientTape() as late:
        pass
    assert late.gradient(outer, u) is None  # what is computed while it is closed is not noted


@pytest.mark.parametrize("way", [(1, 0), (0, 1), (1, 1)])
def test_where_both_derivatives_are_negative_the_loss_falls_while_both_grow_a_little(nb, way):
    """And only a little: beyond the best line it rises again."""
    assert np.all(slopes_at(nb, COLUMN, Y3, 0, 0.0) < 0)
    at = [float(nb.mse(Y3, COLUMN * s * way[0] + s * way[1])) for s in (0, 0.01, 0.1, 1, 10)]
    assert at[0] > at[1] > at[2] > at[3] and at[4] > at[0]


# ------------------------------------------------------------------------ Part 1, The loop


def test_2_and_3_are_the_answer(nb):
    """The line predicts 1, 3, 5; mean error and mean of error times x are 0; so are the slopes."""
    predicted = nb.predict(COLUMN, tf.constant([[2.0]], "float64"), tf.constant([3.0], "float64"))
    error = predicted.numpy() - Y3
    assert predicted.numpy().ravel().tolist() == [1, 3, 5] and error.ravel().tolist() == [-1, 2, -1]
    assert error.mean() == 0 and np.mean(error * COLUMN) == 0
    assert slopes_at(nb, COLUMN, Y3, 2, 3.0).tolist() == [0, 0]
    assert float(nb.mse(Y3, predicted)) == 2


@pytest.mark.parametrize(("X", "y"), [THREE, RAW, NORMALIZED], ids=["three", "raw", "normalized"])
def test_the_loss_is_a_bowl_flat_at_one_place_only(nb, X, y):
    """The second derivatives are the same everywhere, 2/n AᵀA, and rise in every direction."""
    A = np.column_stack([X, np.ones(len(X))])
    for W, b in [(0, 0), (3, -7), (1000, 50)]:
        np.testing.assert_allclose(
            second_derivatives(nb, X, y, W, b), 2 / len(A) * A.T @ A, rtol=1e-9, atol=1e-9
        )
    assert np.linalg.eigvalsh(second_derivatives(nb, X, y, 0, 0)).min() > 0.1


@pytest.mark.parametrize(("W", "b"), [(0, 0.0), (5, -2.0), (100, 7.0), (2, 1.0)])
def test_on_three_points_each_derivative_depends_on_one_variable(nb, W, b):
    """It is 2 (W - 2) times the mean of x², which is two thirds, and 2 (b - 3)."""
    assert np.mean(COLUMN**2) == pytest.approx(2 / 3)
    expected = [2 * (W - 2) * 2 / 3, 2 * (b - 3)]
    assert slopes_at(nb, COLUMN, Y3, W, b) == pytest.approx(expected, abs=1e-12)


def test_after_five_updates_most_of_the_way_is_covered_and_after_twenty_the_line_is_close(nb):
    """Close is a twentieth of the largest gap at the start, between the edges of the figure."""
    *_, history = nb.train(COLUMN, Y3, epochs=20)
    to_go = np.abs(distances(history, 2, 3))
    assert np.all(to_go[:, 5] < to_go[:, 0] / 2)
    edges = np.array([[-1.2], [1.2]])
    gaps = [np.abs(edges * (history["W"][t] - 2) + history["b"][t] - 3).max() for t in (0, 20)]
    assert 0 < gaps[1] < gaps[0] / 20


# ------------------------------------- Part 1, A rate that is too large; Part 2, The path

FOR_EVER = 300


@pytest.mark.parametrize(
    ("rate", "updates"), [(0.02, 50), (0.1, 50), (0.6, 12), (0.8, 20), (1.0, FOR_EVER), (1.1, 12)]
)
@pytest.mark.parametrize(
    ("X", "y", "W", "b"),
    [(*THREE, 2, 3), (*NORMALIZED, W_BEST, B_BEST)],
    ids=["three points", "normalized"],
)
def test_an_update_multiplies_the_distance_by_1_minus_2_eta(nb_part_1, rate, updates, X, y, W, b):
    """Of b, and on normalized x of W too. It changes sides beyond 1/2 and grows beyond 1."""
    *_, history = nb_part_1.train(X, y, epochs=updates, learning_rate=rate)
    far_W, far_b = distances(history, W, b)
    shares = (1 - 2 * rate) ** np.arange(updates + 1)
    np.testing.assert_allclose(far_b, -b * shares, rtol=1e-6, atol=1e-9 * b)
    if X is X_NORM:
        np.testing.assert_allclose(far_W, -W * shares, rtol=1e-6, atol=1e-9 * W)
        excess = np.array(history["loss"]) - LOSS_BEST
        np.testing.assert_allclose(excess, shares**2 * excess[0], rtol=1e-6, atol=1e-6)
    else:  # where the mean of x² is two thirds
        shares = (1 - 2 * rate * 2 / 3) ** np.arange(updates + 1)
        np.testing.assert_allclose(far_W, -W * shares, rtol=1e-6, atol=1e-9)


# --------------------------------------------------------------------------- Part 1, Data


def test_numpy_computes_in_64_bits_and_a_variable_of_plain_numbers_has_32(nb):
    rng = np.random.default_rng(0)
    for array in (np.array([1.0]), rng.uniform(size=2), rng.normal(size=2), 2.5 * np.ones(2) + 1):
        assert array.dtype == "float64"
    W, b = tf.Variable([[0.0]]), tf.Variable([0.0])
    assert W.dtype == b.dtype == tf.float32
    assert tf.Variable(np.zeros(1)).dtype == tf.float64
    X, y = (array.astype("float32") for array in THREE)
    predicted = nb.predict(X, W, b)  # TensorFlow takes the arrays as they are
    assert tf.is_tensor(predicted) and predicted.dtype == tf.float32
    assert float(nb.mse(y, predicted)) == pytest.approx(41 / 3)


# ------------------------------------------------------------------- Part 1, Why normalize


@pytest.mark.parametrize(
    ("X", "y", "mixed"),
    [(*THREE, 0), (*RAW, 2 * MEAN), (*NORMALIZED, 0)],
    ids=["three points", "raw", "normalized"],
)
def test_w_and_b_disturb_each_other_where_the_mean_of_x_is_not_0(nb, X, y, mixed):
    """By as much does the derivative for b change with one unit of W, and that for W with b."""
    here, there = slopes_at(nb, X, y, 1, 1.0), slopes_at(nb, X, y, 2, 1.0)
    above = slopes_at(nb, X, y, 1, 2.0)
    assert [there[1] - here[1], above[0] - here[0]] == pytest.approx([mixed] * 2, abs=1e-7)
    assert mixed == 0 or mixed > 100


def test_with_b_near_0_a_steeper_line_fits_best_and_w_comes_down_only_as_b_comes_up():
    """After ten updates W is the best one for the b of the moment, and no better."""

    def best_slope(b):
        return np.linalg.lstsq(X_RAW, (Y_TRAIN - b).ravel(), rcond=None)[0].item()

    slopes = [best_slope(b) for b in (0, 1, 3, 6, INTERCEPT)]
    assert np.all(np.diff(slopes) < 0)
    assert slopes[0] > SLOPE + 0.1 and slopes[-1] == pytest.approx(SLOPE)
    _, W, b = numpy_descent(X_RAW, Y_TRAIN, 3000, 0.0002)
    for t in (30, 100, 1000, 3000):
        assert W[t] == pytest.approx(best_slope(b[t]), rel=1e-4)
    assert W[30] > W[100] > W[1000] > W[3000] and b[30] < b[100] < b[1000] < b[3000]


def test_the_mean_error_that_is_left_is_small_and_so_is_the_derivative_for_b(nb):
    """Against those of the start, where W and b are 0."""
    _, W, b = numpy_descent(X_RAW, Y_TRAIN, 100, 0.0002)
    errors = [abs(np.mean(W[t] * X_RAW + b[t] - Y_TRAIN)) for t in (0, 100)]
    slopes = [abs(slopes_at(nb, *RAW, W[t], b[t])[1]) for t in (0, 100)]
    assert errors[1] < 0.02 * errors[0] and slopes[1] < 0.02 * slopes[0]
    assert slopes[1] == pytest.approx(2 * errors[1])


def test_adding_0_turns_minus_0_into_0():
    mean = np.float32(-0.0004).round(2)
    assert [f"{mean:.2f}", f"{mean + 0.0:.2f}"] == ["-0.00", "0.00"]


# ----------------------------------------------------------------------- Part 1, Training


@pytest.mark.parametrize(("last", "stops"), [(1000.0, False), (1000.001, True), (999.0, False)])
def test_train_stops_beyond_a_thousand_times_the_first_loss_and_not_at_it(
    nb_part_1, monkeypatch, last, stops
):
    losses = iter([1.0, last])
    names = nb_part_1.train.__globals__
    monkeypatch.setitem(names, "train_step", lambda *args: next(losses))
    if stops:
        with pytest.raises(FloatingPointError, match="after 1 updates"):
            nb_part_1.train(COLUMN, 0 * Y3, epochs=2)
    else:
        assert nb_part_1.train(COLUMN, 0 * Y3, epochs=2)[2]["loss"] == [1.0, last, 0.0]


@pytest.fixture(scope="module")
def history(nb_part_1):
    """The history of Part 1's hundred updates on the notebook's rows, in float32."""
    x = X_RAW.astype("float32")
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    return nb_part_1.train(x, Y_TRAIN.astype("float32"))[2]


def test_the_first_loss_is_the_mean_of_the_squares_of_y(history):
    assert history["loss"][0] == pytest.approx(np.mean(Y_TRAIN**2), rel=1e-6)


def test_after_about_fifty_updates_the_printed_digits_no_longer_change(history):
    digits = [f"{W:.2f} {b:.2f} {loss:.2f}" for loss, W, b in zip(*history.values(), strict=True)]
    assert len(set(digits[50:])) == 1 and digits[40] != digits[50]


def test_the_true_lines_loss_is_the_mean_of_the_squared_noise_on_the_training_rows(nb):
    """The noise is drawn once more, by the recipe."""
    rng = np.random.default_rng(0)
    rng.uniform(0, 100, size=(200, 1))
    noise = rng.normal(0, 10, size=(200, 1))[np.random.default_rng(1).permutation(200)[:-40]]
    assert float(nb.mse(Y_TRAIN, 2.5 * X_RAW + 10)) == pytest.approx(np.mean(noise**2), rel=1e-5)


def test_the_loss_falls_for_20_updates_and_then_follows_the_true_lines(history):
    losses = np.array(history["loss"])
    assert np.all(losses[1:21] < 0.99 * losses[:20])
    np.testing.assert_allclose(losses[20:], TRUE_LOSS, rtol=0.03)


def test_of_all_lines_the_learned_one_has_the_smallest_loss_on_these_rows(nb):
    """The planted line is one of the others."""
    rng = np.random.default_rng(3)
    moves = rng.normal(size=(50, 2)) * [0.02, 1]
    others = [(2.5, 10), *((SLOPE, INTERCEPT) + moves)]
    assert min(float(nb.mse(Y_TRAIN, a * X_RAW + c)) for a, c in others) > LOSS_BEST


# ------------------------------------------------------------------------ Part 1, Results


def test_no_line_does_better_than_about_10_on_new_rows():
    """Not the planted one either, and the learned one does a little worse."""
    rng = np.random.default_rng(5)
    x = rng.uniform(0, 100, 200_000)
    y = 2.5 * x + 10 + rng.normal(0, 10, len(x))
    planted, learned = (
        np.mean((a * x + c - y) ** 2) ** 0.5 for a, c in [(2.5, 10), (SLOPE, INTERCEPT)]
    )
    best = np.polyfit(x, y, 1)
    assert planted == pytest.approx(10, rel=0.01)
    assert planted < learned < 10.2
    assert np.mean((np.polyval(best, x) - y) ** 2) ** 0.5 > 0.999 * planted


def test_with_forty_rows_an_rmse_of_9_or_of_11_is_no_surprise():
    noise = np.random.default_rng(5).normal(0, 10, (20_000, 40))
    rmse = np.sqrt(np.mean(noise**2, axis=1))
    assert np.mean(rmse < 9) > 0.1 and np.mean(rmse > 11) > 0.1
    assert np.mean(rmse < 6) < 0.001 and np.mean(rmse > 14) < 0.001


# ---------------------------------------------------------------- Part 1, A real data set


def test_a_few_nebulae_come_towards_us_and_on_the_whole_the_farther_ones_are_faster(capsys):
    names = {"np": np}
    exec(CELLS["hubble-table"].source, names)  # noqa: S102
    capsys.readouterr()
    distance, velocity = names["distance"].ravel(), names["velocity"].ravel()
    assert len(distance) == 24 and np.sum(velocity < 0) == 5
    assert np.corrcoef(distance, velocity)[0, 1] > 0.7
    near = distance < np.median(distance)
    assert velocity[~near].mean() > 2 * velocity[near].mean()


def test_one_megaparsec_is_3_26_million_light_years():
    """A parsec is the distance at which one astronomical unit spans one second of arc."""
    astronomical_unit, light_year = 149_597_870_700, 299_792_458 * 86_400 * 365.25  # metres
    parsec = astronomical_unit / math.radians(1 / 3600)
    assert round(parsec / light_year, 2) == 3.26


def test_what_is_linear_in_its_weights_is_solved_directly():
    """A curve by polyfit and many features by lstsq, as well as a line."""
    rng = np.random.default_rng(0)
    x, X = rng.normal(size=1000), rng.normal(size=(1000, 20))
    for weights in ([2.0, -3.0], [1.0, 0.0, -1.0, 0.5]):
        found = np.polyfit(x, np.polyval(weights, x), len(weights) - 1)
        np.testing.assert_allclose(found, weights, atol=1e-9)
    weights = np.arange(20.0)
    np.testing.assert_allclose(np.linalg.lstsq(X, X @ weights, rcond=None)[0], weights, atol=1e-9)


# ---------------------------------------------------------------- Part 1, Write it yourself

BLANK = "    # 1. record, 2. predict and measure, 3. differentiate, 4. update\n"
TAPED = """    with tf.GradientTape() as tape:
        loss = mse(y, predict(X, *variables))
    gradients = tape.gradient(loss, variables)
"""
BODIES = {  # what somebody writes in the blank, and what the cell then says
    "right": (TAPED + "    optimizer.apply(gradients, variables)\n    return loss\n", "right"),
    "the older spelling": (
        TAPED + "    optimizer.apply_gradients(zip(gradients, variables))\n    return loss\n",
        "right",
    ),
    "no update": (TAPED + "    return loss\n", "not yet: "),
    "the loss after the update": (
        TAPED + "    optimizer.apply(gradients, variables)\n"
        "    return mse(y, predict(X, *variables))\n",
        "not yet: ",
    ),
    "W alone": (
        TAPED + "    optimizer.apply(gradients[:1], variables[:1])\n    return loss\n",
        "not yet: ",
    ),
    "uphill": (
        TAPED + "    optimizer.apply([-g for g in gradients], variables)\n    return loss\n",
        "not yet: ",
    ),
    "nothing is returned": (TAPED, "not yet: my_step returns None"),
}


@pytest.mark.parametrize("body", BODIES)
def test_the_cell_compares_five_losses_with_those_of_train_step(nb_part_1, body, capsys):
    lines, verdict = BODIES[body]
    source = CELLS["write-it-run"].source
    assert BLANK in source
    X, y = (tf.constant(array, "float32") for array in THREE)
    exec(source.replace(BLANK, lines), {**vars(nb_part_1), "X": X, "y": y})  # noqa: S102
    assert capsys.readouterr().out.startswith(verdict)


# ------------------------------------------------------------------- Part 5, Your own data

NUMBERS = [3, -2.5, True, 9.9e37, -9.9e37, np.int8(3), np.float32(1e30), Fraction(1, 2)]
NO_NUMBERS = [1e38, -1e38, 1e100, 10**400, np.nan, np.inf, -np.inf, None, pd.NA, "3.5", "1", b"1"]
NO_NUMBERS += [1j, Decimal(1), [1], pd.Timestamp("2001-01-01")]


@pytest.mark.parametrize("cell", NUMBERS, ids=repr)
def test_it_is_a_number(nb, cell):
    assert nb.is_number(cell)


@pytest.mark.parametrize("cell", NO_NUMBERS, ids=lambda cell: str(cell)[:12])
def test_it_is_no_number(nb, cell):
    """A text is none, even if it looks like one."""
    assert not nb.is_number(cell)


@pytest.mark.parametrize(
    ("values", "kind", "cells", "labels"),
    [
        ([1, "a", None], list, [1, "a", None], None),
        (pd.Series([1, "a", "3"], [4, 5, 6]), pd.Series, [1, "a", "3"], [4, 5, 6]),
        (pd.DataFrame({"a": [1, 2]}, [7, 8]), pd.Series, [1, 2], [7, 8]),
        (pd.DataFrame({"a": [5]}, [7]), pd.Series, [5], [7]),
        (np.array([[1.0], [2.0]]), np.ndarray, [1, 2], None),
        (np.array([[5.0]]), np.ndarray, [5], None),
        ((1, 2), np.ndarray, [1, 2], None),
    ],
)
def test_cells_come_out_as_they_are_with_the_row_labels_they_have(nb, values, kind, cells, labels):
    found = nb.cells_of(values)
    assert isinstance(found, kind) and list(found) == cells
    if labels:
        assert list(found.index) == labels


@pytest.mark.parametrize("name", REFUSED)
def test_the_check_refuses_with_a_value_error(nb, name):
    """As its docstring says; test_own_data looks at the words."""
    x, y, _ = REFUSED[name]
    with pytest.raises(ValueError):
        nb.check_line(x, y, 100, 0.1)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([1, 2, 4], [2, 4, 5]),
        (pd.Series([1, 2, 4], [9, 8, 7]), [2, 4, 5]),
        (np.int8([1, 2, 4]), pd.Series([2, 4, 5], [9, 8, 7])),
        (pd.DataFrame({"a": [1, 2, 4]}, [2, 1, 0]), np.float32([[2], [4], [5]])),
        (pd.Series([4, 2, 1], [2, 1, 0]), pd.Series([2, 4, 5])),  # two columns: by the labels
    ],
)
def test_the_check_returns_float64_columns_paired_by_position_or_by_labels(nb, x, y):
    X, Y = nb.check_line(x, y, 100, 0.1)
    assert X.shape == Y.shape == (3, 1) and X.dtype == Y.dtype == "float64"
    pairs = sorted(zip(X.ravel().tolist(), Y.ravel().tolist(), strict=True))
    assert pairs == [(1, 2), (2, 4), (4, 5)]


# ----------------------------------------------------------- Part 2, The gradient, three ways


@pytest.fixture
def loss_at(nb, monkeypatch):
    """The notebook's function of two numbers, on the notebook's raw rows."""
    monkeypatch.setitem(nb.loss_at.__globals__, "X_raw", X_RAW)
    monkeypatch.setitem(nb.loss_at.__globals__, "y64", Y_TRAIN)
    return nb.loss_at


def central(f, x, h):
    """The central difference of a function of one number."""
    return (f(x + h) - f(x - h)) / (2 * h)


@pytest.mark.parametrize("h", [0.01, 1.0, 100.0])
def test_a_central_difference_of_a_quadratic_loss_is_off_by_rounding_only(nb, loss_at, h):
    right = slopes_at(nb, X_RAW, Y_TRAIN, 4.0, -7.0)
    found = [central(lambda W: loss_at(W, -7), 4, h), central(lambda b: loss_at(4, b), -7, h)]
    assert found == pytest.approx(right, rel=1e-8)


def test_in_general_it_is_off_by_a_multiple_of_h_squared():
    """Half of h leaves a quarter of what it is off by, here on the log-cosh loss."""

    def loss(W):
        return np.mean(np.log(np.cosh((X_NORM * W - 7 - Y_TRAIN) / 50)))

    right = np.mean(np.tanh((X_NORM * 40 - 7 - Y_TRAIN) / 50) * X_NORM / 50)
    off = np.array([central(loss, 40, h) - right for h in (8, 4, 2, 1)])
    np.testing.assert_allclose(off[:-1] / off[1:], 4, rtol=0.05)


def test_small_differences_lose_digits_in_float32():
    """Why it is computed in float64. How many digits depends on how NumPy adds up."""
    off = {}
    for dtype in ("float32", "float64"):
        x, y, number = X_NORM.astype(dtype), Y_TRAIN.astype(dtype), np.dtype(dtype).type

        def loss(W, x=x, y=y, number=number):
            return np.mean((x * number(W) - number(7) - y) ** 2)

        right = [2 * np.mean((X_NORM * W - 7 - Y_TRAIN) * X_NORM) for W in (10, 20, 40)]
        found = [float(central(loss, W, 0.001)) for W in (10, 20, 40)]
        off[dtype] = np.abs(np.divide(found, right) - 1).max()
    assert off["float64"] < 1e-7 and off["float32"] > 1e-4


def test_tensorflow_is_asked_to_report_errors_and_nothing_else():
    logger = tf.get_logger()
    before = logger.level
    first = CELLS["fail-outside"].source.splitlines()[0]
    try:
        logger.setLevel("DEBUG")
        exec(first, {"tf": tf})  # noqa: S102
        assert logger.isEnabledFor(logging.ERROR) and not logger.isEnabledFor(logging.WARNING)
    finally:
        logger.setLevel(before)


def right_slopes():
    """The names that the two assertions of the cells compare, with the right values."""
    error = 4 * X_RAW - 7 - Y_TRAIN
    names = {"np": np}
    for way in ("step", "formula", "difference"):
        names[f"{way}_W"], names[f"{way}_b"] = 2 * np.mean(error * X_RAW), 2 * np.mean(error)
    return names


@pytest.mark.parametrize(
    ("cell_id", "way", "off", "passes"),
    [
        ("gradient-formula", "step", 1e-10, True),
        ("gradient-formula", "step", 1e-8, False),
        ("gradient-compare", "difference", 1e-8, True),
        ("gradient-compare", "difference", 1e-6, False),
    ],
)
@pytest.mark.parametrize("variable", ["W", "b"])
def test_the_two_assertions_compare_nine_digits_and_seven(cell_id, way, off, passes, variable):
    statements = [s for s in ast.parse(CELLS[cell_id].source).body if isinstance(s, ast.Assert)]
    (statement,) = statements
    names = right_slopes()
    names[f"{way}_{variable}"] *= 1 + off
    if passes:
        exec(ast.unparse(statement), names)  # noqa: S102
    else:
        with pytest.raises(AssertionError):
            exec(ast.unparse(statement), names)  # noqa: S102


def test_compute_gradient_has_the_tapes_and_the_central_differences_side_by_side():
    """Of a cube at x the slope is 3 x², and a central difference gives 3 x² + h²."""
    x = tf.constant([1.0, 2.0, -3.0], "float64")
    (tape,), (differences,) = tf.test.compute_gradient(
        lambda x: tf.reduce_sum(x**3), [x], delta=0.1
    )
    np.testing.assert_allclose(tape, [[3, 12, 27]], rtol=1e-12)
    np.testing.assert_allclose(differences, [[3.01, 12.01, 27.01]], rtol=1e-9)


# ---------------------------------------------------------------- Part 2, The answer, two ways


def test_float32_carries_about_seven_digits_and_six_agree_with_least_squares(history):
    assert 1e-8 < np.finfo("float32").eps < 1e-6
    ours = [float(history[name][-1]) for name in ("W", "b", "loss")]
    assert ours == pytest.approx([W_BEST, B_BEST, LOSS_BEST], rel=1e-6)


def test_a_dense_layer_of_one_unit_computes_our_line(nb):
    X = np.random.default_rng(0).normal(size=(7, 3)).astype("float32")
    dense = tf.keras.layers.Dense(1, bias_initializer="ones")
    predicted = np.asarray(dense(X))
    W, b = dense.get_weights()
    assert W.shape == (3, 1) and b.shape == (1,) and np.any(W) and np.all(b == 1)
    np.testing.assert_allclose(predicted, nb.predict(X, W, b), rtol=1e-5, atol=1e-6)


def test_a_layer_begins_with_a_random_kernel_unless_it_is_told_to_begin_at_zero():
    """Its bias begins at 0 in any case, so the kernels are what differs."""
    first, second = tf.keras.layers.Dense(1), tf.keras.layers.Dense(1)
    told = tf.keras.layers.Dense(1, kernel_initializer="zeros")
    for layer in (first, second, told):
        layer.build((None, 3))
    assert not np.any(np.isclose(first.get_weights()[0], second.get_weights()[0]))
    assert not np.any(told.get_weights()[0])
    assert not any(np.any(layer.get_weights()[1]) for layer in (first, second, told))


def test_fit_updates_on_every_32_rows_and_reports_their_losses_weighted_by_rows():
    """80 rows make batches of 32, 32 and 16, of which the plain average is another number."""
    X, y = X_NORM[:80].astype("float32"), Y_TRAIN[:80].astype("float32")
    model = tf.keras.Sequential([tf.keras.layers.Dense(1, kernel_initializer="zeros")])
    model.compile(SGD(0.1), loss="mse")
    reported = model.fit(X, y, shuffle=False, verbose=0).history["loss"][0]
    assert int(model.optimizer.iterations) == 3
    W, b, losses = 0.0, 0.0, []
    for x_rows, y_rows in zip(np.split(X, [32, 64]), np.split(y, [32, 64]), strict=True):
        error = W * x_rows + b - y_rows
        losses.append(np.mean(error**2))
        W, b = W - 0.2 * np.mean(error * x_rows), b - 0.2 * np.mean(error)
    assert reported == pytest.approx(np.average(losses, weights=[32, 32, 16]), rel=1e-4)
    assert reported != pytest.approx(np.mean(losses), rel=0.01)


@pytest.mark.parametrize(
    ("y", "y_pred", "hits"),
    [
        ([1.0, 0.0, 1.0, 0.0], [0.9, 0.2, 0.4, 0.6], 0.5),
        ([1.0, 0.0, 1.0, 0.0], [7.0, -3.0, 0.6, 0.4], 1.0),
        ([5.0, 7.0], [5.0, 7.0], 0.0),
    ],
)
def test_accuracy_turns_each_prediction_into_0_or_1_and_counts_what_is_equal_to_y(y, y_pred, hits):
    """So it finds no hit where y is neither, though every prediction be perfect."""
    model = tf.keras.Sequential([tf.keras.Input((1,)), tf.keras.layers.Dense(1)])
    model.set_weights([np.ones((1, 1)), np.zeros(1)])
    model.compile(loss="mse", metrics=["accuracy"])
    X, y = np.float32(y_pred).reshape(-1, 1), np.float32(y).reshape(-1, 1)
    assert model.evaluate(X, y, verbose=0)[1] == pytest.approx(hits)


# -------------------------------------------------------------- Part 2, The learning rate


@pytest.mark.parametrize("which", [0, 1], ids=["flat", "steep"])
@pytest.mark.parametrize("share", [0.5, 0.9, 1.05])
def test_along_an_eigenvector_an_update_multiplies_the_distance_by_1_minus_eta_lambda(
    nb_part_1, which, share
):
    """The answer is planted where the way from 0 runs along it."""
    values, vectors = np.linalg.eigh(H)
    answer, rate = vectors[:, which], share * LIMIT
    y = WITH_ONES @ answer[:, None]
    *_, run = nb_part_1.train(X_RAW, y, epochs=8, learning_rate=rate)
    left = (1 - rate * values[which]) ** np.arange(9)
    np.testing.assert_allclose(
        np.transpose(distances(run, *answer)), -np.outer(left, answer), rtol=1e-5, atol=1e-6
    )


def test_an_update_multiplies_the_distance_to_the_answer_by_i_minus_eta_h(nb_part_1):
    rate = 0.7 * LIMIT
    *_, run = nb_part_1.train(*RAW, epochs=20, learning_rate=rate)
    far = np.array(distances(run, SLOPE, INTERCEPT))
    expected = (np.eye(2) - rate * H) @ far[:, :-1]
    np.testing.assert_allclose(far[:, 1:], expected, rtol=1e-6, atol=1e-6)  # SGD's rate is float32


def test_a_larger_y_makes_w_and_b_larger_after_every_update_until_its_loss_does_not_fit(nb_part_1):
    """A scale that float32 cannot square stops `train` at once, and float64 still can."""
    *_, run = nb_part_1.train(*NORMALIZED, epochs=20)
    for scale in (1e6, 1e18):
        *_, larger = nb_part_1.train(X_NORM, scale * Y_TRAIN, epochs=20)
        for name in ("W", "b"):
            np.testing.assert_allclose(larger[name], scale * np.array(run[name]), rtol=1e-9)
    X, y = X_NORM.astype("float32"), (1e18 * Y_TRAIN).astype("float32")
    assert np.all(np.isfinite(y))
    with pytest.raises(FloatingPointError, match="the loss is inf after 0 updates"):
        nb_part_1.train(X, y)


@pytest.mark.parametrize("signs", [[1, 1, 1], [1, -1, 1]])
def test_with_several_features_the_limit_is_lower_when_they_move_together(nb, signs):
    """Or exactly against each other; and when they have nothing to do with each other, it is 1."""
    rng = np.random.default_rng(0)
    apart, _ = np.linalg.qr(np.column_stack([np.ones(500), rng.normal(size=(500, 3))]))
    assert nb.stable_limit(apart[:, 1:] * 500**0.5) == pytest.approx(1)
    limits = []
    for own in (3.0, 1.0, 0.3):  # the smaller, the more they move together
        X = (rng.normal(size=(500, 1)) + own * rng.normal(size=(500, 3))) * signs
        limits.append(nb.stable_limit((X - X.mean(axis=0)) / X.std(axis=0)))
    assert 1 > limits[0] > limits[1] > limits[2] > 1 / 3


# -------------------------------------------------------------- Part 2, Valley and bowl


def test_b_comes_within_about_1_per_cent_when_the_flat_eigenvalue_says_so():
    """The loop is run in the four means it needs. It arrives a little earlier, by 0.1%."""
    rate = 0.9 * LIMIT
    predicted = math.log(0.01) / math.log(1 - rate * FLAT)
    means = [float(np.mean(z)) for z in (X_RAW, X_RAW**2, Y_TRAIN, X_RAW * Y_TRAIN)]
    x, xx, y, xy = means
    W = b = 0.0
    for t in range(60_000):
        if abs(b / INTERCEPT - 1) < 0.01:
            break
        W, b = W - rate * 2 * (xx * W + x * b - xy), b - rate * 2 * (x * W + b - y)
    assert t == pytest.approx(predicted, rel=0.005)


@pytest.mark.parametrize("shrink", [0.1, 0.02])
def test_at_small_rates_the_condition_number_says_how_much_longer_the_slowest_needs(shrink):
    """The eigenvalues are 2 for b and `shrink` times 2 for W: updates until 1% is left of each."""
    X = X_NORM * shrink**0.5
    _, W, b = numpy_descent(X, Y_TRAIN, round(2.6 / (0.02 * shrink)), 0.02)
    best_W = W_BEST / shrink**0.5
    slow, fast = np.argmax(np.abs(W / best_W - 1) < 0.01), np.argmax(np.abs(b / B_BEST - 1) < 0.01)
    assert slow / fast == pytest.approx(1 / shrink, rel=0.05)


def test_for_normalized_x_both_eigenvalues_are_2_and_for_raw_x_they_are_far_apart(nb):
    values = np.linalg.eigvalsh(second_derivatives(nb, *NORMALIZED, 0, 0))
    assert values == pytest.approx([2, 2], rel=1e-9)
    assert 15_000 < STEEP / FLAT < 16_000


PLACES = [(0, 0.0), (200, 10.0), (-50, 300.0), (75, 100.0)]


@pytest.mark.parametrize(("W", "b"), PLACES)
def test_the_steepest_way_down_points_at_the_answer_in_the_bowl(nb, W, b):
    down, way = -slopes_at(nb, *NORMALIZED, W, b), np.array([W_BEST - W, B_BEST - b])
    assert down @ way == pytest.approx(np.linalg.norm(down) * np.linalg.norm(way), rel=1e-9)


@pytest.mark.parametrize(("W", "b"), [(0, 0.0), (4, 0.1), (2, 5.0), (2.6, 20.0)])
def test_and_across_the_valley_on_raw_x(nb, W, b):
    """The valley runs along the flat eigenvector, nearly parallel to b."""
    along = np.linalg.eigh(H)[1][:, 0]
    assert abs(along[1]) > 0.999
    down = -slopes_at(nb, *RAW, W, b)
    assert abs(down @ along) < 0.02 * np.linalg.norm(down)


def test_w_jumps_from_wall_to_wall_while_b_hardly_moves():
    """The bottom of the valley is where W is the best one for the b of the moment."""
    _, W, b = numpy_descent(*RAW, 100, 0.9 * LIMIT)
    bottom = np.mean(X_RAW * Y_TRAIN) - b * MEAN
    side = np.sign(W - bottom / np.mean(X_RAW**2))
    assert np.all(side[1:20] == -side[:19])
    assert np.abs(b).max() < 0.02 * INTERCEPT < np.ptp(W)


# ------------------------------------------------------------------------ Part 2, The noise


@pytest.fixture(scope="module")
def redrawn():
    """Ends of the loop, W and b, on the training rows with 4000 other draws of the noise."""
    noise = np.random.default_rng(7).normal(0, 10, (len(X_RAW), 4000))
    y = 2.5 * X_RAW + 10 + noise
    return y, np.mean(X_NORM * y, axis=0), np.mean(y, axis=0)


def test_for_normalized_x_the_errors_of_w_and_b_have_nothing_to_do_with_each_other(redrawn):
    """Those of slope and intercept on raw x have much to do with each other."""
    _, W, b = redrawn
    slopes = W / X_RAW.std()
    assert abs(np.corrcoef(W, b)[0, 1]) < 4 / 4000**0.5
    assert np.corrcoef(slopes, b - slopes * MEAN)[0, 1] < -0.8


def test_the_true_line_lies_above_the_minimum_by_the_squares_of_two_distances(redrawn):
    """For each draw exactly; and on average each square is the variance divided by n."""
    y, W, b = redrawn
    n = len(X_RAW)
    true_W, true_b = 2.5 * X_RAW.std(), 10 + 2.5 * MEAN
    excess = np.mean((X_NORM * true_W + true_b - y) ** 2, axis=0)
    excess -= np.mean((X_NORM * W + b - y) ** 2, axis=0)
    squares = (true_W - W) ** 2, (true_b - b) ** 2
    assert excess == pytest.approx(sum(squares), rel=1e-9, abs=1e-9)
    for square in squares:
        assert square.mean() == pytest.approx(100 / n, rel=0.08)


def test_on_raw_x_the_steep_direction_is_nearly_that_of_w_and_the_flat_one_that_of_b():
    A = np.column_stack([X_RAW, np.ones(len(X_RAW))])
    values, vectors = np.linalg.eigh(2 / len(A) * A.T @ A)
    assert values == pytest.approx([FLAT, STEEP])
    assert abs(vectors[1, 0]) > 0.999 and abs(vectors[0, 1]) > 0.999


@pytest.mark.parametrize("draw", [0, 1, 2])
def test_the_loop_need_not_be_run_because_it_ends_at_two_means(nb_part_1, redrawn, draw):
    y, W, b = redrawn
    W_loop, b_loop, _ = nb_part_1.train(X_NORM, y[:, draw : draw + 1])
    assert W_loop.numpy().item() == pytest.approx(W[draw], rel=1e-7)
    assert b_loop.numpy().item() == pytest.approx(b[draw], rel=1e-7)


def test_about_one_line_in_ten_thousand_is_four_standard_errors_away():
    """The chance that slope or intercept is, given how they go together, by integration."""
    together = -MEAN / np.mean(X_RAW**2) ** 0.5
    assert together < -0.8

    def chance_beyond(low, high):
        return 1 - (math.erf(high / 2**0.5) - math.erf(low / 2**0.5)) / 2

    one, width = math.erfc(4 / 2**0.5), (1 - together**2) ** 0.5
    middle = np.linspace(-4, 4, 4001)
    density = np.exp(-(middle**2) / 2) / (2 * np.pi) ** 0.5
    other = [chance_beyond((-4 - together * z) / width, (4 - together * z) / width) for z in middle]
    either = one + np.sum(density * other) * (middle[1] - middle[0])
    assert one < either < 2 * one
    assert 0.5e-4 < either < 1.5e-4


def test_a_standard_deviation_from_400_draws_is_uncertain_by_three_and_a_half_per_cent():
    found = np.random.default_rng(0).normal(0, 10, (4000, 400)).std(axis=1)
    assert found.std() / 10 == pytest.approx(0.035, abs=0.002)


def test_a_slope_that_is_too_small_mostly_comes_with_an_intercept_that_is_too_large():
    noise = np.random.default_rng(6).normal(0, 10, size=(160, 4000))
    slopes = np.mean(X_NORM * noise, 0) / X_RAW.std()
    intercepts = np.mean(noise, 0) - slopes * X_RAW.mean()
    assert np.corrcoef(slopes, intercepts)[0, 1] == pytest.approx(-0.87, abs=0.01)


def test_near_the_limit_the_flat_direction_waits_for_fewer_times_as_long():
    """At nine tenths of it the steep direction bounces for 21 updates; its factor is -0.8."""
    wait = {}
    for share in (0.001, 0.9):
        steps = [np.log(0.01) / np.log(abs(1 - share * LIMIT * curve)) for curve in (FLAT, STEEP)]
        wait[share] = steps[0] / steps[1]
    assert wait[0.001] == pytest.approx(STEEP / FLAT, rel=2e-3)
    assert wait[0.9] < STEEP / FLAT / 5


def test_the_loss_of_the_learned_line_says_what_the_noise_was():
    """n / (n - 2) times the loss is the variance of the noise, on average."""
    noise = np.random.default_rng(5).normal(0, 10, size=(160, 20_000))
    loss = np.mean(noise**2, 0) - np.mean(X_NORM * noise, 0) ** 2 - np.mean(noise, 0) ** 2
    assert np.mean(loss) * 160 / 158 == pytest.approx(100, rel=3e-3)


# ----------------------------------------------- Part 2, The learning rate you can drag


@pytest.mark.parametrize("radius", [2, 40, 160])
def test_the_rings_of_the_film_join_points_of_equal_loss(radius):
    angles = np.linspace(0, 6, 7)
    lines = [(W_BEST + radius * np.cos(a), B_BEST + radius * np.sin(a)) for a in angles]
    ring = [np.mean((X_NORM * W + b - Y_TRAIN) ** 2) for W, b in lines]
    np.testing.assert_allclose(np.array(ring) - LOSS_BEST, radius**2, rtol=1e-6)


@pytest.fixture(scope="module")
def explorer(tmp_path_factory):
    """A tab with the explorer, whose script counts its runs and shows its function `ring`."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    import test_browser

    if test_browser.CHROMIUM is None:
        pytest.skip("no Chromium here")
    film, page = (
        CELLS[name].outputs[0].data["text/html"] for name in ("explorer-data", "explorer-page")
    )
    for words, more in [
        ("const path = [[0, 0]];", "window.runs = (window.runs || 0) + 1; "),
        ("function ring(", "window.ring = ring; "),
    ]:
        assert page.count(words) == 1
        page = page.replace(words, more + words)
    with playwright.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=test_browser.CHROMIUM, args=test_browser.FLAGS)
        tab, errors = test_browser.open_html(chromium, film + page, tmp_path_factory.mktemp("page"))
        yield tab
        assert not errors
        chromium.close()


def test_the_loop_runs_once_for_every_move_of_a_slider(explorer):
    runs = explorer.evaluate("window.runs")
    assert runs == 1  # at the start
    for slider in ("#explorer-rate", "#explorer-updates"):
        explorer.locator(slider).focus()
        for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
            explorer.keyboard.press(key)
            runs += 1
            assert explorer.evaluate("window.runs") == runs


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("size", [10, 40, 100])
def test_the_rings_of_the_explorer_join_points_of_equal_loss(explorer, raw, size):
    """The loss above its minimum is the square of the size, as its script says."""
    X, best = (X_RAW, [SLOPE, INTERCEPT]) if raw else (X_NORM, [W_BEST, B_BEST])
    arguments = [X.ravel().tolist(), [float(value) for value in best], size]
    ring = explorer.evaluate("([X, best, size]) => ring(X, best, size)", arguments)
    assert len(ring) > 100 and np.allclose(ring[0], ring[-1])
    above = [np.mean((X * W + b - Y_TRAIN) ** 2) - LOSS_BEST for W, b in ring]
    np.testing.assert_allclose(above, size**2, rtol=1e-6)


# ---------------------------------------------------------- Part 5, A file of your own


@pytest.mark.parametrize(
    ("cells", "kinds"),
    [
        ("1\n2", {"int64"}),
        ("1.5\n2", {"float64"}),
        ("1\n\n3", {"int64"}),  # pandas leaves out a blank line
        ("1\nNA\n3", {"float64"}),
        ("1\nfour", {"object", "str"}),
        ("1\n-\n3", {"object", "str"}),
        ('1\n"1,000"', {"object", "str"}),
        ("$1\n$2", {"object", "str"}),
    ],
)
def test_a_column_of_numbers_has_a_type_of_numbers_and_one_with_a_text_has_none(cells, kinds):
    """`object` before pandas 3 and `str` from there on.

    Not all: whole numbers beyond 64 bits also come as `object`, and True and False as `bool`.
    """
    assert str(pd.read_csv(StringIO("x\n" + cells))["x"].dtype) in kinds


def test_to_numeric_stops_at_the_first_cell_of_a_column_that_is_no_number():
    """And shows it. The next one is not named."""
    with pytest.raises(ValueError, match="string .x7. at position 1") as caught:
        pd.DataFrame({"x": ["1", "x7", "y8"]}).apply(pd.to_numeric)
    assert "y8" not in str(caught.value)


def test_utf_16_read_as_latin_1_begins_with_the_two_letters_of_the_table():
    """Such a file first gives the UnicodeDecodeError, and then no error and no numbers."""
    text = b"\xff\xfe" + "a,b\n1,2\n3,5\n".encode("utf-16-le")
    with pytest.raises(UnicodeDecodeError):
        pd.read_csv(BytesIO(text))
    garbage = pd.read_csv(BytesIO(text), encoding="latin-1")
    assert str(garbage.columns[0]).startswith("ÿþ")
    assert pd.read_csv(BytesIO(text), encoding="utf-16")["b"].tolist() == [2, 5]


def renamed_workbook(kind):
    """The bytes of a small Excel workbook, of the older kind or of the newer, which is a zip."""
    if kind == "xls":
        return (DATA / NO_TEXT).read_bytes()
    cells = "".join(f"<c r='A{i}'><v>{i * 1.37}</v></c>" for i in range(200))
    file = BytesIO()
    with ZipFile(file, "w") as archive:
        for name in ("[Content_Types].xml", "xl/workbook.xml", "xl/worksheets/sheet1.xml"):
            archive.writestr(name, f"<?xml version='1.0'?><x>{cells}</x>\0\xff".encode("latin-1"))
    return file.getvalue()


@pytest.mark.parametrize("kind", ["xls", "xlsx"])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"encoding": "latin-1"},
        {"encoding_errors": "replace"},
        {"sep": None, "engine": "python"},
        {"encoding": "latin-1", "engine": "python"},
        {"encoding": "latin-1", "on_bad_lines": "skip"},
        {"header": None, "skiprows": 1},
        {"compression": "zip"},
    ],
    ids=str,
)
def test_no_argument_helps_with_a_workbook_that_was_renamed(kind, arguments, tmp_path):
    """An error that says nothing of Excel or, with some, a table without a column of numbers."""
    path = tmp_path / "book.csv"
    path.write_bytes(renamed_workbook(kind))
    try:
        table = pd.read_csv(path, **arguments)
    except Exception as error:  # noqa: BLE001 (of any kind)
        assert "excel" not in str(error).lower()
    else:
        assert arguments and table.dropna().select_dtypes("number").size == 0


@pytest.mark.parametrize(
    ("content", "refused"),
    [
        (b"a" * 299 + b"\0", True),
        (b"a" * 300 + b"\0", False),  # it looks at the first 300 bytes
        (b"\0", True),
        (bytes(range(1, 256)), False),  # no text, but nothing in it tells
        (b"x,y\n1,2\n", False),
        (b"", False),
    ],
)
def test_first_lines_refuses_a_file_with_a_zero_byte_at_its_beginning(
    nb, tmp_path, content, refused
):
    path = tmp_path / "some.csv"
    path.write_bytes(content)
    if refused:
        with pytest.raises(ValueError, match="may be no text"):
            nb.first_lines(path)
    else:
        assert nb.first_lines(path) == content[:300].decode(errors="replace")
