"""Bad input gets an exception of Python's own that names the fault and the cure."""

import numpy as np
import pytest

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


@pytest.mark.parametrize("name", REFUSED)
def test_fit_line_refuses(nb, name):
    x, y, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        nb.fit_line(x, y)


@pytest.mark.parametrize("epochs", [0, -3, 2.5, "100", None, np.nan])
def test_epochs_that_make_no_sense(nb, epochs):
    with pytest.raises(ValueError, match="epochs is .*whole number"):
        nb.fit_line(*GOOD, epochs=epochs)


@pytest.mark.parametrize("rate", [0, -0.1, np.nan, np.inf, "0.1", None, 1e-46, 1, 1 - 1e-10, 1.5, 1e30, 1e-3])
def test_learning_rates_that_cannot_arrive(nb, rate):
    with pytest.raises(ValueError, match="100 epochs at learning_rate .* do not arr.*try"):
        nb.fit_line(*GOOD, learning_rate=rate)


@pytest.mark.parametrize(("epochs", "rate"), [(1, 0.5), (31, 0.1), (100, 0.05)])
def test_fit_line_takes_what_arrives(nb, epochs, rate):
    slope, *_ = nb.fit_line(*GOOD, epochs=epochs, learning_rate=rate)
    assert slope == pytest.approx(1.5, rel=1e-3)


def test_epochs_too_few_to_arrive(nb):
    with pytest.raises(ValueError, match="30 epochs at learning_rate 0.1 do not arrive"):
        nb.fit_line(*GOOD, epochs=30)


@pytest.mark.parametrize("name", ["train", "train_compiled"])
def test_divergence_names_rate_update_and_the_two_cures(nb, name):
    train = getattr(nb, name)
    X = np.random.default_rng(0).uniform(0, 100, (50, 1)).astype("float32")
    with pytest.raises(FloatingPointError) as caught:
        train(X, 2 * X, learning_rate=0.1)
    words = str(caught.value)
    assert "learning_rate 0.1: lower the rate, or normalize X" in words
    assert "loss is inf" in words
    # The update it names is the first whose loss is not finite.
    named = int(words.split("after ")[1].split(" updates")[0])
    with pytest.raises(FloatingPointError):
        train(X, 2 * X, epochs=named, learning_rate=0.1)
    *_, history = train(X, 2 * X, epochs=named - 1, learning_rate=0.1)
    assert np.isfinite(history["loss"]).all()


def test_divergence_in_batches_counts_updates(nb):
    X = np.random.default_rng(0).uniform(0, 100, (70, 1)).astype("float32")
    with pytest.raises(FloatingPointError, match=r"after \d*[369] updates"):
        nb.train_compiled(X, 2 * X, 30, 0.1, batch_size=32)


def test_mse_refuses_shapes_that_broadcast(nb):
    for y_true in (COLUMN.ravel(), COLUMN[:1]):
        words = rf"y_true \({y_true.shape[0]},.*y_pred \(3, 1\): reshape"
        with pytest.raises(ValueError, match=words):
            nb.mse(y_true, COLUMN)


@pytest.mark.parametrize("rate", [np.float32(0.25), np.float64(0.25), 1, 2])
@pytest.mark.parametrize("name", ["train", "train_compiled"])
def test_any_kind_of_number_is_a_rate(nb, rate, name):
    *_, history = getattr(nb, name)(COLUMN, COLUMN, epochs=2, learning_rate=rate)
    # d loss/dW = -4/3 at the start: mean(x * x) is 2/3.
    assert history["W"][1] == pytest.approx(rate * 4 / 3)
