"""Bad input gets an exception of Python's own that names the fault and the cure."""

import os

import numpy as np
import pytest
import tensorflow as tf

COLUMN = np.array([[-1.0], [0.0], [1.0]])
GOOD = ([1, 2, 3], [2, 4, 5])


@pytest.mark.parametrize(
    ("x", "y", "error", "words"),
    [
        ([1, 2, 3], [2, 4], ValueError, r"\(3, 1\).*\(2, 1\)"),
        ([1], [2], ValueError, "at least 2"),
        ([], [], ValueError, "at least 2"),
        ([1, np.nan, 3], [2, 4, 5], ValueError, "x: repair row 1 "),
        ([1, 2, 3], [2, 4, None], ValueError, "y: repair row 2 "),
        ([1, 2, np.inf], [2, 4, 5], ValueError, "x: repair row 2 "),
        (np.ma.array([1, 2, 3], mask=[1, 0, 0]), [2, 4, 5], ValueError, "x .*masked"),
        (np.array([b"1", 2, 3], object), [2, 4, 5], TypeError, "x .*not numbers"),
        ([1e160, 2e160, 3e160], [2, 4, 5], ValueError, "too large or small, rescale"),
        (
            [1e-170, 2e-170, 3e-170],
            [2, 4, 5],
            ValueError,
            "too large or small, rescale",
        ),
        ([7, 7, 7], [2, 4, 5], ValueError, "constant.*7"),
        ([0.1, 0.1, 0.1], [2, 4, 5], ValueError, "constant"),
        (["1", "2", "3"], [2, 4, 5], TypeError, "x .*not numbers"),
        ([1, 2, 3], [2, "four", 5], TypeError, "y .*not numbers"),
        ([1, 2, 3], [2, None, "5"], TypeError, "y .*not numbers"),
        ("123", [2, 4, 5], TypeError, "x .*not numbers"),
        ([1, 2, 3j], [2, 4, 5], TypeError, "x .*not numbers"),
        (
            np.array(["2001-01-01"] * 3, "datetime64[D]"),
            [2, 4, 5],
            TypeError,
            "x .*datetime",
        ),
        ({1: 2}, [2, 4, 5], TypeError, "x (is|holds)"),
        ([[1, 2], [3]], [2, 4], TypeError, "x (is|holds)"),
        ([1, 10**400, 3], [2, 4, 5], TypeError, "x (is|holds)"),
        ([[1, 2], [3, 4], [5, 6]], [2, 4, 5], ValueError, r"x .*\(3, 2\).*one feature"),
        ([[1, 2, 3]], [2, 4, 5], ValueError, r"x .*\(1, 3\)"),
        (5, 6, ValueError, "x "),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_fit_line_refuses(nb, x, y, error, words):
    with pytest.raises(error, match=words):
        nb.fit_line(x, y)


@pytest.mark.parametrize("epochs", [0, -3, 2.5, "100", None, np.nan, True])
def test_epochs_that_make_no_sense(nb, epochs):
    with pytest.raises(ValueError, match="epochs is .*whole number"):
        nb.fit_line(*GOOD, epochs=epochs)
    with pytest.raises(ValueError, match="epochs is .*whole number"):
        nb.train(COLUMN, COLUMN, epochs=epochs)


@pytest.mark.parametrize("rate", [0, -0.1, np.nan, np.inf, "0.1", None, True, 1e-46])
def test_learning_rates_that_make_no_sense(nb, rate):
    with pytest.raises(ValueError, match="learning_rate is .*number above 0"):
        nb.fit_line(*GOOD, learning_rate=rate)
    with pytest.raises(ValueError, match="learning_rate is .*number above 0"):
        nb.train(COLUMN, COLUMN, learning_rate=rate)


@pytest.mark.parametrize("rate", [1, 1.0, 1 - 1e-10, 1.001, 1.5, 30])
@pytest.mark.parametrize("epochs", [1, 100])
def test_fit_line_never_returns_a_diverged_line(nb, rate, epochs):
    with pytest.raises(FloatingPointError, match=rf"rate {rate:g} .*below 1\b"):
        nb.fit_line(*GOOD, epochs=epochs, learning_rate=rate)


def test_fit_line_warns_when_it_stops_on_the_way(nb):
    with pytest.warns(UserWarning, match=r"0.82 of the way.*add epochs"):
        nb.fit_line(*GOOD, learning_rate=0.001)


@pytest.mark.parametrize(
    ("X", "y", "error", "words"),
    [
        (COLUMN.ravel(), COLUMN, ValueError, r"X has shape \(3,\).*reshape"),
        (COLUMN, COLUMN.ravel(), ValueError, r"y has shape \(3,\).*reshape"),
        (COLUMN, COLUMN[:2], ValueError, r"\(3, 1\).*\(2, 1\)"),
        (COLUMN, np.hstack([COLUMN, COLUMN]), ValueError, r"\(3, 1\).*\(3, 2\)"),
        (COLUMN[:1], COLUMN[:1], ValueError, "at least 2"),
        (COLUMN.astype(int), COLUMN, TypeError, "X holds int64.*float32"),
        (COLUMN, COLUMN.astype(str), TypeError, "y holds <U"),
        (COLUMN.astype("float32"), COLUMN, TypeError, "float32.*float64.*cast"),
        (COLUMN * np.nan, COLUMN, ValueError, "X: repair row 0 "),
        (
            COLUMN,
            np.full((3, 1), np.inf),
            ValueError,
            "y: repair row [02] ",
        ),
    ],
)
def test_train_refuses(nb, X, y, error, words):
    with pytest.raises(error, match=words):
        nb.train(X, y)


def test_divergence_names_rate_update_and_limit(nb):
    rng = np.random.default_rng(0)
    X = rng.uniform(0, 100, (50, 1)).astype("float32")
    with pytest.raises(FloatingPointError) as caught:
        nb.train(X, 2 * X, learning_rate=0.1)
    limit = f"{nb.stable_limit(X):.3g}"
    words = str(caught.value)
    assert "learning_rate 0.1" in words and f"below {limit}" in words
    # The update it names is the first whose loss is not finite.
    named = int(words.split("after ")[1].split(" updates")[0])
    with pytest.raises(FloatingPointError):
        nb.train(X, 2 * X, epochs=named, learning_rate=0.1)
    *_, history = nb.train(X, 2 * X, epochs=named - 1, learning_rate=0.1)
    assert np.isfinite(history["loss"]).all()


def test_mse_refuses_shapes_that_broadcast(nb):
    with pytest.raises(ValueError, match=r"\(3,\).*\(3, 1\).*reshape"):
        nb.mse(COLUMN.ravel(), COLUMN)
    with pytest.raises(ValueError, match=r"\(1, 1\).*\(3, 1\)"):
        nb.mse(COLUMN[:1], COLUMN)


def test_train_refuses_masked_rows_and_unreduced_losses(nb):
    with pytest.raises(ValueError, match="y: repair row 1 "):
        nb.train(COLUMN, np.ma.array(COLUMN, mask=[[0], [1], [0]]))
    with pytest.raises(ValueError, match=r"shape \(3, 1\): reduce"):
        nb.train(COLUMN, COLUMN, loss_fn=lambda t, p: tf.square(t - p))


def test_overflow_is_not_called_divergence(nb):
    X = COLUMN.astype("float32")
    with pytest.raises(
        FloatingPointError, match="first loss is inf: scale X or y down"
    ):
        nb.train(X, X * 1e25)


@pytest.mark.parametrize("rate", [np.float32(0.25), np.float64(0.25), 1, 2])
def test_any_kind_of_number_is_a_rate(nb, rate):
    *_, history = nb.train(COLUMN, COLUMN, epochs=2, learning_rate=rate)
    # d loss/dW = -4/3 at the start: mean(x * x) is 2/3.
    assert history["W"][1] == pytest.approx(rate * 4 / 3)


def test_mse_refuses_integers(nb):
    with pytest.raises(TypeError, match="float64 and float32: cast"):
        nb.mse(COLUMN, COLUMN.astype("float32"))
    with pytest.raises(TypeError, match="int.*float32"):
        nb.mse(COLUMN.astype(int), COLUMN.astype(int))


def test_column_stats_names_the_constant_feature(nb):
    X = np.column_stack([[1.0, 2, 3], [4.0, 4, 4]])
    with pytest.raises(ValueError, match="feature 1 is constant.*4.0"):
        nb.column_stats(X)


@pytest.mark.parametrize(
    ("tensorflow", "keras"), [("2.18.1", "3.8.0"), ("2.21.0", "2.15.0")]
)
def test_unsupported_versions_fail_early(nb, tensorflow, keras):
    with pytest.raises(ImportError, match="TensorFlow 2.19 or newer.*pip install"):
        nb.check_versions(tensorflow, keras)


@pytest.mark.parametrize("version", ["2.19.0", "2.22.0-rc0", "3.0.0"])
def test_supported_versions_pass(nb, version):
    nb.check_versions(version, "3.12.0")


def test_hold_stderr_passes_on_what_is_not_a_notice(nb, capfd):
    lines = [
        b"WARNING: All log messages before absl::InitializeLog() is called are ...\n",
        b"I0000 00:00:1795378564.99 3955 port.cc:153] oneDNN custom operations are on.\n",
        b"E0000 00:00:1795378568.59 3955 cuda_platform.cc:52] cuInit: ERROR (303)\n",
        b"E0000 00:00:1795378568.59 3955 other.cc:1] the disk is full\n",
    ]
    with pytest.raises(ModuleNotFoundError, match="no_such_module"), nb.hold_stderr():
        for line in lines:
            os.write(2, line)
        __import__("no_such_module")
    out, err = capfd.readouterr()
    assert out.splitlines() == [lines[3].decode().strip()] and not err
    os.write(2, b"afterwards stderr is itself again\n")
    assert "itself again" in capfd.readouterr().err


def test_tensorflow_is_the_one_the_notebook_supports(nb):
    nb.check_versions(tf.__version__, tf.keras.__version__)
