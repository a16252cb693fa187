"""Part 4: every number that its cells print, by a formula of its own; all claims but the timings."""

import ast
import inspect
import os
import pathlib
import re
import subprocess
import sys
import time
import types
import warnings

import numpy as np
import pytest
import tensorflow as tf

import benchmark
from notebook_runner import assert_prints, code_cells, printed, read
from test_loop import normalized

CELLS = {cell.id: cell for cell in read().cells}
SGD = tf.keras.optimizers.SGD


# What the cells print. Everything here is NumPy in float64, from the recipe of the data.


def line(x, y):
    """Slope and intercept of least squares."""
    return np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), y, rcond=None)[0]


def descend(x, y, batches, rate, slope_of=lambda error: 2 * error, momentum=0.0):
    """W, b after 0, 1, 2, … updates on batches of row numbers; slope_of is d loss/d error."""
    place, step, path = np.zeros(2), np.zeros(2), [np.zeros(2)]
    for t, rows in enumerate(batches):
        pull = slope_of(place[0] * x[rows] + place[1] - y[rows])
        eta = rate(t) if callable(rate) else rate
        step = momentum * step - eta * np.array([np.mean(pull * x[rows]), np.mean(pull)])
        place = place + step
        path.append(place)
    return np.array(path)


@pytest.fixture(scope="module")
def rows():
    """The rows of the notebook, for training and test, raw and normalized, and their best line."""
    names = {"np": np}
    for cell_id in ("data-make", "data-split", "normalize"):
        exec(CELLS[cell_id].source, names)  # noqa: S102
    data = types.SimpleNamespace()
    for name in ("X_train", "y_train", "X_test", "y_test", "x_mean", "x_std"):
        setattr(data, name.lower(), np.asarray(names[name], "float64").ravel())
    data.x = (data.x_train - data.x_mean) / data.x_std
    data.x_new = (data.x_test - data.x_mean) / data.x_std
    data.y, data.n, data.all = data.y_train, len(data.y_train), [slice(None)] * 200
    data.W, data.b = line(data.x, data.y)
    data.loss = np.mean((data.W * data.x + data.b - data.y) ** 2)
    data.losses = data.loss + 0.64 ** np.arange(101) * (data.W**2 + data.b**2)
    data.spoiled = data.y + 200 * (np.arange(data.n) % 20 == 0)
    return data


def huber_cell(d):
    """The MSE's line; Huber's by weights: a row that is off by more than 15 counts 15 / |error|."""
    of_mse = W, b = line(d.x, d.spoiled)
    for _ in range(300):
        error = np.abs(W * d.x + b - d.spoiled)
        root = np.sqrt(15 / np.maximum(error, 15))
        W, b = np.linalg.lstsq(np.column_stack([d.x * root, root]), d.spoiled * root, rcond=None)[0]
    return *original(d, of_mse), rmse(d, of_mse), *original(d, (W, b)), rmse(d, (W, b))


def original(d, line):
    """Slope and intercept for raw x."""
    return line[0] / d.x_std[0], line[1] - line[0] * d.x_mean[0] / d.x_std[0]


def rmse(d, line):
    """The error on the test rows."""
    return np.mean((line[0] * d.x_new + line[1] - d.y_test) ** 2) ** 0.5


def huber_fit(d):
    W, b = descend(d.x, d.spoiled, d.all[:5], 0.2, lambda error: 2 * np.clip(error, -15, 15))[5]
    return W, b, W, b


def clip_cell(d):
    place, losses, first = np.zeros(2), [], None
    for _ in range(121):
        error = place[0] * d.x_train + place[1] - d.y
        losses.append(np.mean(error**2))
        slopes = 2 * np.array([np.mean(error * d.x_train), np.mean(error)])
        place = place - 0.1 * slopes / max(1, np.hypot(*slopes))
        first = place[0] if first is None else first
    best = original(d, (d.W, d.b))
    return (
        0.1,
        min(losses[60:]),
        max(losses[60:]),
        place[0],
        best[0],
        place[1],
        best[1],
        first,
        first,
    )


def pulls_spoiled(d):
    y = d.y + 200 * (np.arange(d.n) == 7)
    W, b = line(d.x, y)
    pulls = 2 * (y - W * d.x - b)[:, None] * np.column_stack([d.x, np.ones(d.n)]) / d.n
    hardest = np.argsort(np.hypot(*pulls.T))[::-1][:5]
    assert hardest[0] == 7
    return [number for i in hardest for number in (i, d.x_train[i], *pulls[i])]


def pulls_without(d):
    y, others = d.y + 200 * (np.arange(d.n) == 7), np.arange(d.n) != 7
    with_7, without = line(d.x, y), line(d.x[others], y[others])
    error = with_7[0] * d.x[7] + with_7[1] - y[7]
    return without[0] - with_7[0], error * d.x[7] / d.n, without[1] - with_7[1], error / d.n


def newton_cell(d):
    A = np.column_stack([d.x_train, np.ones(d.n)])
    low, high = np.linalg.eigvalsh(2 / d.n * A.T @ A)
    best = line(d.x_train, d.y)
    return *best, *best, np.log(0.01) / np.log(1 - 1.8 * low / high)


def batch_means(d):
    squares = np.split((d.W * d.x + d.b - d.y) ** 2, [50, 100, 150])
    return np.mean([np.mean(part) for part in squares]), d.loss, d.loss


def excess(d, batches, rate):
    """How far the loss of all rows is above its minimum, as a share of it, after each batch."""
    W, b = descend(d.x, d.y, batches, rate)[1:].T
    return ((W - d.W) ** 2 + (b - d.b) ** 2) / d.loss


def batches_sorted(d):
    order = np.argsort(d.x)
    shuffled = np.random.default_rng(0).permutation(order)
    return [100 * excess(d, rows.reshape(16, 10), 0.1)[-1] for rows in (order, shuffled)]


def batches_run(d):
    expected = []
    for size, rate in [
        (1, 0.1),
        (1, 0.03),
        (32, 0.1),
        (160, 0.1),
        (1, lambda t: 0.1 / (1 + t / 20)),
    ]:
        rng = np.random.default_rng(0)
        batches = [rng.permutation(160)[:size] for _ in range(120)]
        expected.append(100 * excess(d, batches, rate)[-50:].mean())
    return expected


def early_stopping(d):
    """Twenty features for 30 rows: what the loop prints, and then the losses of the two copies."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(60, 20))
    y = 3 * X[:, :1] + rng.normal(0, 3, size=(60, 1))
    A = np.column_stack([X, np.ones(60)])
    theta, path, training, held_out = np.zeros((21, 1)), [], [], []
    for _ in range(40):
        errors = A @ theta - y
        training.append(np.mean(errors[:30] ** 2))
        held_out.append(np.mean(errors[30:] ** 2))
        path.append(theta)
        theta = theta - 0.05 * 2 / 30 * A[:30].T @ errors[:30]
    best = int(np.argmin(held_out[:30]))
    stop = best + 5
    assert np.all(np.diff(held_out[: best + 1]) < 0) and min(held_out[best + 1 : stop + 1]) > min(
        held_out
    )
    seen = [v for t in (1, 5, 10, 15) for v in (t, training[t - 1], held_out[t])]
    mixed = np.vstack([path[stop][:20], path[best][20:]])  # W moved on, and b is the copy
    by_name = np.mean((A[30:] @ mixed - y[30:]) ** 2)
    return *seen, stop, best, held_out[best], by_name, held_out[best]


def resume_run(d):
    straight = descend(d.x, d.y, d.all[:20], 0.02, momentum=0.9)
    place, step = straight[10], np.zeros(2)
    for _ in range(10):  # the velocities begin again at 0
        step = 0.9 * step - 0.04 * (place - [d.W, d.b])
        place = place + step
    return *straight[20], *place


def compiled_run(d):
    rng = np.random.default_rng(0)
    batches = [part for _ in range(20) for part in np.array_split(rng.permutation(160), 5)]
    W, b = descend(d.x, d.y, batches, 0.1)[[0, 5, 10, 100]].T
    return d.loss + (W - d.W) ** 2 + (b - d.b) ** 2


def race_check(d):
    x, noise = np.random.default_rng(0).standard_normal((2, 320), dtype="float32").astype("float64")
    return [descend(x, 2 * x + 1 + noise, [slice(None)] * 4, 0.1)[4][0]] * 5


def many_features(d):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 20))
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    W = rng.uniform(-3, 3, size=(20, 1))
    y = X @ W + 4 + rng.normal(size=(2000, 1))
    *learned, b = np.linalg.lstsq(np.column_stack([X, np.ones(2000)]), y, rcond=None)[0]
    return b[0], np.abs(np.array(learned) - W).max(), 2000**-0.5


def machines_run(d):
    one = np.array([d.W, d.b]) * (1 - 0.8**50)
    twice = np.array([d.W, d.b]) * (1 - 0.6**50)
    beyond = np.array([d.W, d.b]) * (1 - (-1.4) ** 50)
    return *one, *one, *twice, *beyond, *one, *twice, *beyond


def own_weights(d):
    good = d.spoiled == d.y
    return [*line(d.x[good], d.y[good])] * 2


PRINTED = {  # cell: where its numbers begin in a line, and what they must be
    "huber": (r"(\d+)", lambda d: (8, 160)),
    "huber-figure": (r"(\d+\.\d\d)", huber_cell),
    "huber-check": (r": ([\d.]+)", lambda d: (0, 0)),
    "huber-fit": (r"= (-?[\d.]+)", huber_fit),
    "accumulate": (r"W = ([\d.]+)", lambda d: (0, 0, 0, 0, d.W / 5, d.W / 5, d.W / 5, d.W / 5)),
    "clip": (r"(\d*\.\d+|\d{2,})", clip_cell),
    "freeze": (r"(\d+\.?\d+)", lambda d: (140, d.W, d.W)),
    "penalize": (r"(\d+\.\d+)", lambda d: (d.W / 1.5, d.W / 1.5, d.b, d.b)),
    "layer-penalty": (r"(\d+\.\d+)", lambda d: (d.W, d.W / 1.5)),
    "layer-fit": (r"(\d+\.\d+)", lambda d: (d.W / 1.5,)),
    "watched": (
        r"(\d+\.\d+)",
        lambda d: (2 * np.hypot(d.W, d.b), 1.6 * np.hypot(d.W, d.b), 0.36 * d.W, 0.36 * d.W),
    ),
    "two-rates": (r"(\d+\.\d+)", lambda d: (d.W, d.W, d.b / 5, d.b / 5)),
    "pulls-sum": (r": +(\d+\.\d+)", lambda d: (d.W / 5, d.W / 5, 0, 0)),
    "pulls-spoiled": (r"(-?\d+\.?\d*)", pulls_spoiled),
    "pulls-without": (r"(-?\d+\.\d+)", pulls_without),
    "newton-run": (r"(\d[\d,]*\.?\d+)", newton_cell),
    "batches-count": (r"(\d+)", lambda d: (1, 160, 1, 32, 5, 32, 50, 4, 10, 160, 1, 160)),
    "batch-means": (r"(\d+\.\d+)", batch_means),
    "metric-reset": (
        r": (\d+\.\d+)",
        lambda d: (d.losses[:21].mean(), d.losses[:21].mean(), d.losses[20]),
    ),
    "batches-sorted": (r"(\d+)%", batches_sorted),
    "batches-run": (r"(\d+\.\d+)%", batches_run),
    "schedule": (r"rate of (.+)", lambda d: (0.1 * 0.5**16, 0.1 * 0.5)),
    "early-stopping": (r"(\d+\.?\d*)", lambda d: early_stopping(d)[:-3]),
    "early-kept": (r"loss\D*(\d+\.\d+)", lambda d: early_stopping(d)[-3:]),
    "resume-start": (r"(\d+\.\d+)", lambda d: resume_run(d)[:2]),
    "resume-run": (r"(\d+\.\d+)", resume_run),
    "build-first": (r"knows of: (\d+)", lambda d: (0, 10)),
    "saved-model": (r"\[\[(.+)\]\]", lambda d: (d.W * (50 - d.x_mean[0]) / d.x_std[0] + d.b,)),
    "retracing": (r": (\d) in (\d)", lambda d: (3, 3, 1, 3, 2, 4, 3, 3)),
    "frozen": (r"is (\d\.\d)", lambda d: (6, 6)),
    "set-rate": (r"is (\d\.\d+)", lambda d: (0.1, 0.01)),
    "compiled-run": (r"loss (\d+\.\d+)", compiled_run),
    "race-check": (r"= (\d\.\d+)", race_check),
    "many-features": (r"(\d\.\d+)", many_features),
    "machines-run": (r"[Wb] = (-?\d\.?\d*(?:e\+\d+|\d*\.?\d*))", machines_run),
    "own-step-fit": (
        r": +(\d+\.\d+)",
        lambda d: [np.mean(((1 - 0.8**10) * (d.W * d.x_new + d.b) - d.y_test) ** 2)] * 2,
    ),
    "own-weights": (r"= (\d+\.\d+)", own_weights),
}


@pytest.mark.parametrize("cell_id", PRINTED)
def test_cell_prints_what_a_formula_says(cell_id, rows):
    """Of the committed outputs, to the last digit that is printed or to what float32 can hold."""
    pattern, formula = PRINTED[cell_id]
    found = re.findall(pattern, printed(CELLS[cell_id]))
    texts = [text for group in found for text in ([group] if isinstance(group, str) else group)]
    assert_prints("  ".join(texts), formula(rows))


def test_words_that_cells_print():
    for cell_id, *patterns in [
        ("train-again-run", "Part 1 again: True"),
        ("pinball-swapped", "below: 90%"),
        ("resume-run", r"10 \+ 10: .*True", "W, b only: .*False"),
        (
            "build-first",
            r"built first: False.*\n +Skipping variable loading for optimizer\nbuilt first: True",
        ),
        ("saved-model", "callable: False"),
        (
            "frozen",
            "\ntf.function only supports singleton tf.Variables created on the first call\n",
        ),
        ("compiled-run", "entries: 101\nall losses agree to 1e-5: True"),
        ("own-step-fit", "losses of Part 1: True"),
        ("xla", "compiled with XLA"),
    ]:
        for pattern in patterns:
            assert re.search(pattern, printed(CELLS[cell_id])), (cell_id, pattern)


def test_the_pinball_lines_are_the_best_of_all_lines_through_two_rows(rows):
    """Some best line goes through two rows: try all pairs, and compare the shares below it."""
    i, j = np.triu_indices(rows.n, 1)
    slopes = (rows.y[j] - rows.y[i]) / (rows.x[j] - rows.x[i])
    error = rows.y - slopes[:, None] * rows.x - (rows.y[i] - slopes * rows.x[i])[:, None]
    shares = [int(share) for share in re.findall(r"(\d+)%", printed(CELLS["pinball-figure"]))]
    for q, in_training, in_test in zip((0.9, 0.5, 0.1), shares[::2], shares[1::2], strict=True):
        best = np.argmin(np.maximum(q * error, (q - 1) * error).mean(axis=1))
        below = np.sum(error[best] < -1e-9) / 1.6
        assert (
            below - 0.7 <= in_training <= below + 2 / 1.6 + 0.7 and abs(in_training - 100 * q) <= 1
        )
        line_at = rows.y[i[best]] + slopes[best] * (rows.x_new - rows.x[i[best]])
        assert abs(100 * np.mean(rows.y_test < line_at) - in_test) <= 5.1  # two test rows of 40


def test_the_mlp_reaches_the_noise_and_the_line_does_not(rows):
    rng = np.random.default_rng(0)
    x = rng.uniform(-1.7, 1.7, size=(300, 1))[:, 0]
    y = np.sin(3 * x) + rng.normal(0, 0.2, size=(300, 1))[:, 0]
    W, b = line(x[:200], y[:200])
    of_line, of_mlp = map(float, re.findall(r"RMSE (\d\.\d\d)", printed(CELLS["mlp-figure"])))
    assert of_line == pytest.approx(np.mean((W * x[200:] + b - y[200:]) ** 2) ** 0.5, abs=0.006)
    assert of_mlp < 0.22


# What fit is told.


def test_every_upper_row_of_the_table_is_an_argument_and_runs(tmp_path):
    """The table's own words, evaluated: `compile` and `fit` of a model, and names of Keras."""
    table = re.findall(r"^\| (.+) \| `(.+)` \|$", CELLS["part4"].source, re.MULTILINE)
    assert len(table) == 10
    X, y = normalized(dtype="float32")
    names = dict(vars(tf.keras.layers), L2=tf.keras.regularizers.L2, SGD=SGD, weights=np.ones(50))
    names["held_out"] = X, y
    names |= {
        "huber": tf.keras.losses.Huber(),
        "schedule": tf.keras.optimizers.schedules.CosineDecay(0.1, 9),
    }
    for words, code in table:
        layer = names["layer"] = tf.keras.layers.Dense(1)
        model = tf.keras.Sequential([tf.keras.Input((1,)), layer])
        names["BackupAndRestore"] = lambda name: tf.keras.callbacks.BackupAndRestore(
            tmp_path / name
        )
        names["EarlyStopping"] = lambda **k: tf.keras.callbacks.EarlyStopping(monitor="loss", **k)
        names["fit"] = lambda model=model, **k: (
            model.compile(SGD(), "mse") or model.fit(X, y, verbose=0, **k)
        )
        names["compile"] = lambda model=model, **k: (
            model.compile(SGD(), **{"loss": "mse"} | k) or model.fit(X, y, verbose=0)
        )
        exec(code if "=" in code.split("(")[0] else f"made = {code}", names)  # noqa: S102
        if code.startswith("SGD"):
            names["compile"](loss="mse")
            model.compile(names["made"], "mse")
            model.fit(X, y, verbose=0)
        if "trainable" in code:
            assert [v.name for v in model.trainable_variables] == ["kernel"], words


@pytest.mark.parametrize(("name", "rate"), [("huber", 0.2), ("pinball", 40.0)])
def test_fit_takes_the_notebooks_losses(nb, name, rate):
    from functools import partial

    X, y = normalized(dtype="float32")
    loss_fn = partial(nb.pinball, q=0.3) if name == "pinball" else nb.huber
    W, b = nb.by_fit(X, y, SGD(rate), epochs=3, loss=loss_fn)
    ours = nb.train(X, y, 3, rate, loss_fn)[2]
    np.testing.assert_allclose([W, b], [ours["W"][3], ours["b"][3]], rtol=1e-5)


def test_early_stopping_of_keras_makes_the_slips_that_the_text_names():
    X, y = normalized(dtype="float32")

    def fit(**options):
        model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
        model.compile(SGD(0.1), "mse")
        stop = tf.keras.callbacks.EarlyStopping(monitor="loss", patience=5, **options)
        return len(
            model.fit(X, y, batch_size=50, epochs=30, callbacks=[stop], verbose=0).history["loss"]
        )

    assert fit(mode="max") == 6 and fit(mode="min") == 30
    default = inspect.signature(tf.keras.callbacks.EarlyStopping).parameters["restore_best_weights"]
    assert default.default is False


def test_fit_runs_out_of_data_in_the_words_quoted():
    X, y = normalized(dtype="float32")
    model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
    model.compile(SGD(0.1), "mse")
    dataset = tf.data.Dataset.from_tensor_slices((X, y)).batch(25)
    words = re.search(r'"(Your input ran out.+?)"', CELLS["ran-out"].source)[1]
    with pytest.warns(UserWarning, match=words):
        model.fit(dataset, steps_per_epoch=3, epochs=2, shuffle=False, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(dataset.repeat(), steps_per_epoch=3, epochs=2, shuffle=False, verbose=0)
        model.fit(dataset, epochs=2, shuffle=False, verbose=0)


# Losses and steps.


@pytest.mark.parametrize("q", [0.1, 0.25, 0.9])
def test_pinball_is_smallest_at_the_quantile(nb, q):
    y = np.random.default_rng(1).normal(size=(999, 1))
    constants = np.linspace(-3, 3, 601)
    losses = [nb.pinball(y, np.full_like(y, c), q) for c in constants]
    assert abs(constants[np.argmin(losses)] - np.quantile(y, q)) < 0.02
    expected = np.mean(np.where(y > 2, q * (y - 2), (1 - q) * (2 - y)))
    np.testing.assert_allclose(nb.pinball(y, np.full_like(y, 2), q), expected, rtol=1e-12)
    np.testing.assert_allclose(nb.share_below(y, 0 * y, [[1.0]], np.quantile(y, q)), q, atol=1e-3)


def test_huber_is_twice_keras(nb):
    y_true, y_pred = np.random.default_rng(0).normal(0, 30, (2, 50, 1))
    keras = tf.keras.losses.Huber(delta=15.0)(y_true, y_pred)
    np.testing.assert_allclose(nb.huber(y_true, y_pred), 2 * keras, rtol=1e-6)
    np.testing.assert_allclose(nb.huber(y_true, y_pred, 1e9), nb.mse(y_true, y_pred))


def test_huber_pulls_no_harder_than_a_row_that_is_off_by_delta(nb):
    y_pred = tf.Variable(np.linspace(-100, 100, 41)[:, None])
    with tf.GradientTape() as tape:
        loss = nb.huber(np.zeros((41, 1)), y_pred)
    np.testing.assert_allclose(
        tape.gradient(loss, y_pred), 2 * np.clip(y_pred.numpy(), -15, 15) / 41
    )


def four_lines(source):
    """The lines from `with` to `return loss` of a training step, as code without comments."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.name == "train_step":
            first = next(i for i, part in enumerate(node.body) if isinstance(part, ast.With))
            return [ast.unparse(part) for part in node.body[first:]]


def test_train_step_has_the_four_lines_of_part_1():
    part_1, again = (four_lines(CELLS[cell_id].source) for cell_id in ("train-step", "step-again"))
    machines = four_lines(CELLS["worker"].source.split("\n", 2)[2])
    assert part_1[1:] == again[1:] == machines[1:] and len(part_1) == 4
    assert "# 4. update" in CELLS["own-step"].source


def test_an_edited_mse_or_model_is_used_at_once(nb, monkeypatch):
    X, y = normalized()
    names, whole = nb.train.__globals__, nb.train(X, y, 3)[2]["W"]
    mse, predict = nb.mse, nb.predict
    pair = [tf.Variable([[0.0]], dtype="float64"), tf.Variable([0.0], dtype="float64")]
    loss = nb.train_step(X, y, pair, SGD(0.0))
    monkeypatch.setitem(names, "mse", lambda y_true, y_pred: 2 * mse(y_true, y_pred))
    np.testing.assert_allclose(nb.train_step(X, y, pair, SGD(0.0)), 2 * loss)
    monkeypatch.setitem(names, "mse", mse)
    monkeypatch.setitem(names, "predict", lambda X, W, b: y + 1)
    with pytest.raises(ValueError, match="No gradients"):
        nb.train_step(X, y, pair, SGD(0.0))
    monkeypatch.setitem(names, "predict", predict)
    for run in (nb.train, nb.train_compiled):
        run(X, y, 3)
        monkeypatch.setitem(names, "mse", lambda y_true, y_pred: 2 * mse(y_true, y_pred))
        np.testing.assert_allclose(run(X, y, 3)[2]["W"], nb.train(X, y, 3, 0.2, mse)[2]["W"])
        monkeypatch.setitem(names, "mse", mse)
        monkeypatch.setitem(names, "predict", lambda X, W, b: predict(2 * X, W, b))
        assert abs(run(X, y, 3)[2]["W"][1] / whole[1] - 2) < 1e-6
        monkeypatch.setitem(names, "predict", predict)


def test_clipped_steps_are_longer_than_the_rate_with_momentum_only():
    for momentum, longest in [(0.0, 0.1), (0.9, 0.5)]:
        v, sgd, lengths = (
            tf.Variable([0.0, 0.0]),
            SGD(0.1, momentum=momentum, global_clipnorm=1.0),
            [],
        )
        for _ in range(20):
            before = v.numpy()
            sgd.apply([tf.constant([300.0, 400.0])], [v])
            lengths.append(np.linalg.norm(v.numpy() - before))
        assert (max(lengths) <= 0.1001) == (longest == 0.1)


def test_watched_step_is_train_step_but_for_what_is_not_finite(nb, capsys):
    X, y = normalized()
    ours, theirs = (
        [tf.Variable([[0.0]], dtype="float64"), tf.Variable([0.0], dtype="float64")]
        for _ in range(2)
    )
    for factor in (1, np.nan, np.inf, 1):
        nb.watched_step(X, factor * y, ours, SGD(0.1))
    for _ in range(2):
        nb.train_step(X, y, theirs, SGD(0.1))
    np.testing.assert_array_equal(ours[0], theirs[0])
    slopes = np.hypot(2 * np.mean(X * y), 2 * np.mean(y))
    assert f"gradient: {slopes:.2f}\nlength of the gradient: nan\n" in capsys.readouterr().out
    with pytest.raises(TypeError):  # `float` of a tensor of a graph
        tf.function(nb.watched_step)(X, y, ours, SGD(0.1))


# What only a loop can do.


@pytest.mark.parametrize("k", [1, 3])
def test_pulls_are_the_formula_and_add_up_to_the_gradient(nb, k):
    X, y = normalized(k=k)
    W, b = tf.Variable(np.arange(1.0, k + 1)[:, None]), tf.Variable([0.5], dtype="float64")
    pulls_W, pulls_b = nb.row_pulls(X, y, W, b)
    error = X @ W.numpy() + 0.5 - y
    np.testing.assert_allclose(pulls_W, -2 * error * X / 50)
    np.testing.assert_allclose(pulls_b, -2 * error[:, 0] / 50)
    with tf.GradientTape() as tape:
        loss = nb.mse(y, nb.predict(X, W, b))
    dW, db = tape.gradient(loss, [W, b])
    np.testing.assert_allclose(pulls_W.sum(axis=0), -dW.numpy()[:, 0])
    np.testing.assert_allclose(pulls_b.sum(), -db.numpy()[0])


@pytest.mark.parametrize("k", [1, 2, 6])
def test_newton_lands_on_least_squares_from_anywhere(nb, k):
    rng = np.random.default_rng(k)
    A, y = rng.normal(50, 30, (40, k)), rng.normal(size=(40, 1))
    theta = tf.Variable(rng.normal(0, 1e3, (k, 1)))
    before = theta.numpy()
    loss, hessian = nb.newton_step(A, y, theta)
    np.testing.assert_allclose(loss, np.mean((A @ before - y) ** 2))
    np.testing.assert_allclose(hessian, 2 / 40 * A.T @ A)
    np.testing.assert_allclose(theta, np.linalg.lstsq(A, y, rcond=None)[0], rtol=1e-6, atol=1e-9)


# Batches, stopping, saving.


def test_metrics_weight_rows_only_if_they_are_told_to():
    y, y_pred = np.array([[0.0], [0.0], [9.0]]), np.zeros((3, 1))
    told, plain, rows = (
        tf.keras.metrics.Mean(),
        tf.keras.metrics.Mean(),
        tf.keras.metrics.MeanSquaredError(),
    )
    for part in (slice(0, 2), slice(2, 3)):
        loss = np.mean(y[part] ** 2)
        plain.update_state(loss)
        told.update_state(loss, sample_weight=len(y[part]))
        rows.update_state(y[part], y_pred[part])
    assert [float(metric.result()) for metric in (plain, told, rows)] == [40.5, 27, 27]
    told.reset_state()
    assert float(told.result()) == 0


def test_a_schedule_counts_updates(nb):
    halving = tf.keras.optimizers.schedules.ExponentialDecay(0.1, decay_steps=10, decay_rate=0.5)
    optimizer, v = SGD(halving), tf.Variable([0.0])
    for _ in range(20):
        optimizer.apply([tf.constant([0.0])], [v])
    assert (
        float(optimizer.learning_rate) == pytest.approx(0.1 / 4) and int(optimizer.iterations) == 20
    )


def test_excess_of_batches_of_all_rows_is_the_predicted_path(nb, rows, monkeypatch):
    names = {
        "X_train_norm": rows.x[:, None],
        "y_train": rows.y[:, None],
        "history": {"loss": [rows.loss]},
    }
    for name, value in names.items():
        monkeypatch.setitem(
            nb.excess_of_batches.__globals__,
            name,
            np.float32(value) if name != "history" else value,
        )
    excess_found = nb.excess_of_batches([np.arange(rows.n)] * 5, 0.1)
    np.testing.assert_allclose(excess_found, rows.losses[1:6] / rows.loss - 1, rtol=1e-4)


# Graphs.


def test_unrolled_graphs_grow_by_the_same_for_every_pass_and_rolled_ones_do_not_grow():
    counts = [int(number) for number in re.findall(r": (\d+) op", printed(CELLS["unrolled"]))]
    small, middle, large, *rolled = counts
    assert (
        large - middle == 2 * (middle - small) > 0 and len(set(rolled)) == 1 and rolled[0] < small
    )


def test_tensorflow_warns_of_retracing_in_the_words_quoted(caplog, monkeypatch):
    double, logger = tf.function(lambda x: 2 * x, autograph=False), tf.get_logger()
    caplog.set_level(30, logger.name)  # as setattr would not: it forgets what was asked before
    monkeypatch.setattr(logger, "handlers", [caplog.handler])
    for number in range(9):
        double(number)
    first, last = "5 out of the last 5 calls to", "triggered tf.function retracing"
    assert re.match(f"{first} .* {last}", caplog.messages[0])
    assert f'"{first} … {last}"' in CELLS["retracing-reading"].source


def test_python_runs_while_tracing_only(capsys):
    def say(x):
        print("print")
        tf.print("tf.print", output_stream=sys.stdout)
        return 2 * x

    graph = tf.function(say)
    for number in (1.0, 2.0, 3.0):
        graph(tf.constant(number))
    assert capsys.readouterr().out.split().count("print") == 1


def test_one_tf_function_serves_one_optimizer_with_a_memory(nb):
    X, y = normalized()
    step, v = (
        tf.function(nb.train_step),
        [tf.Variable([[0.0]], dtype="float64"), tf.Variable([0.0], dtype="float64")],
    )
    step(X, y, v, tf.keras.optimizers.Adam(0.1))
    with pytest.raises(ValueError, match="singleton"):
        step(X, y, v, tf.keras.optimizers.Adam(0.1))
    tf.function(nb.train_step)(X, y, v, tf.keras.optimizers.Adam(0.1))


def assert_same_histories(ours, theirs, rtol):
    """W, b and every entry of two histories, and that variables are variables."""
    for mine, right in zip(ours[:2], theirs[:2], strict=True):
        assert (
            isinstance(mine, tf.Variable)
            and mine.shape == right.shape
            and mine.dtype == right.dtype
        )
        np.testing.assert_allclose(mine, right, rtol=rtol)
    assert set(ours[2]) == set(theirs[2])
    for key, values in theirs[2].items():
        assert type(ours[2][key]) is list and len(ours[2][key]) == len(values)
        np.testing.assert_allclose(ours[2][key], values, rtol=rtol, atol=1e-6)
    assert all(type(loss) is float for loss in ours[2]["loss"])


@pytest.fixture(params=[True, False], ids=["XLA", "plain graph"])
def compiler(nb, request, monkeypatch):
    """The notebook's functions with XLA, and as they are where there is none."""
    nb.compiled_loop.cache_clear()
    monkeypatch.setitem(nb.train_compiled.__globals__, "XLA", request.param)
    yield nb
    nb.compiled_loop.cache_clear()


SHAPES = [("float32", 1, 1e-5), ("float64", 1, 1e-12), ("float64", 3, 1e-12)]


@pytest.mark.parametrize("loss", [None, "huber", "pinball"])
@pytest.mark.parametrize(("dtype", "k", "rtol"), SHAPES)
def test_train_compiled_is_train(compiler, dtype, k, rtol, loss):
    arguments = *normalized(dtype=dtype, k=k), 25, 0.07, loss and getattr(compiler, loss)
    ours, theirs = compiler.train_compiled(*arguments), compiler.train(*arguments)
    assert_same_histories(ours, theirs, rtol)


def eager_epochs(nb, X, y, epochs, rate, size):
    """`train_compiled` with batches and seed 0 as an eager loop: W, b, history after each epoch."""
    W, b = tf.Variable(tf.zeros((X.shape[1], 1), X.dtype)), tf.Variable(tf.zeros(1, X.dtype))
    optimizer, rng, path = SGD(rate), np.random.default_rng(0), []
    for epoch in range(epochs + 1):
        path.append(
            (float(nb.mse(y, nb.predict(X, W, b))), W.numpy().squeeze(), b.numpy().squeeze())
        )
        order = rng.permutation(len(X))
        for start in range(0, len(X) if epoch < epochs else 0, size):
            batch = order[start : start + size]
            nb.train_step(X[batch], y[batch], [W, b], optimizer)
    return W, b, dict(zip(["loss", "W", "b"], map(list, zip(*path, strict=True)), strict=True))


@pytest.mark.parametrize(("dtype", "k", "rtol"), SHAPES)
@pytest.mark.parametrize(
    ("size", "epochs"), [(32, 4), (25, 4), (1, 3), (49, 3), (50, 4), (999, 4), (16, 0)]
)
def test_compiled_batches_are_an_eager_loop_over_them(compiler, dtype, k, rtol, size, epochs):
    """50 rows: a remainder, none, single rows, a remainder of one, all rows, and no epoch."""
    arguments = *normalized(dtype=dtype, k=k), epochs, 0.03
    ours = compiler.train_compiled(*arguments, batch_size=size, seed=0)
    assert_same_histories(ours, eager_epochs(compiler, *arguments, size), max(rtol, 1e-10))


def test_orders_are_drawn_anew_on_every_call_unless_there_is_a_seed(nb):
    X, y = normalized()
    losses = [
        nb.train_compiled(X, y, 2, batch_size=8, seed=seed)[2]["loss"]
        for seed in (None, None, 5, 5, 6)
    ]
    assert losses[0] != losses[1] and losses[2] == losses[3] != losses[4]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("rate", "spoil"), [(1.1, 1.0), (1e9, 1.0), (0.1, np.nan), (0.1, np.inf)])
def test_a_divergence_has_the_rule_and_the_words_of_train(compiler, dtype, rate, spoil):
    X, y = normalized(dtype=dtype)
    y[3] *= spoil
    words = []
    for run in (compiler.train, compiler.train_compiled):
        with pytest.raises(FloatingPointError) as error:
            run(X, y, 100, rate)
        words.append(str(error.value))
    assert (
        words[0] == words[1] and f" updates at learning_rate {rate:g}: lower the rate" in words[0]
    )


def test_the_train_of_part_1_has_the_same_rule_and_words():
    rules = []
    for cell_id in ("train-loop", "train-again"):
        nodes = ast.walk(ast.parse(CELLS[cell_id].source))
        rules += [
            ast.unparse(node)
            for node in nodes
            if isinstance(node, ast.If) and "raise" in ast.unparse(node)
        ]
    # Part 4 takes the size of the first loss, since other losses may be negative.
    again = rules[1].replace("abs(history['loss'][0])", "history['loss'][0]")
    assert len(rules) == 2 and rules[0] == again


def test_a_divergence_in_batches_names_the_update(compiler):
    X, y = normalized()
    with pytest.raises(FloatingPointError, match=r"after (\d+) updates") as error:
        compiler.train_compiled(X, y, 30, 1.4, batch_size=8, seed=0)
    eager = []
    with pytest.raises(StopIteration):
        for epochs in range(30):
            eager.append(eager_epochs(compiler, X, y, epochs, 1.4, 8)[2]["loss"][-1])
            if eager[-1] > 1000 * eager[0]:
                raise StopIteration
    assert f"after {7 * (len(eager) - 1)} updates at learning_rate 1.4" in str(error.value)


def test_a_new_rate_traces_nothing_new_and_changes_no_earlier_result(nb):
    X, y = normalized(n=31)
    nb.compiled_loop.cache_clear()
    first, _, history = nb.train_compiled(X, y, epochs=11, loss_fn=nb.huber)
    kept = first.numpy().copy()
    nb.train_compiled(X, -y, epochs=11, learning_rate=0.3, loss_fn=nb.huber)
    np.testing.assert_array_equal(first.numpy(), kept)
    assert nb.train_compiled(X, y, epochs=11, loss_fn=nb.huber)[2] == history
    graph, _ = nb.compiled_loop(nb.train_step, nb.huber, nb.predict, 1, "float64")
    assert graph.experimental_get_tracing_count() == 1
    assert nb.compiled_loop.cache_info().misses == 1


def test_without_xla_a_line_says_so(nb, monkeypatch):
    def none(*_, **options):
        raise tf.errors.UnimplementedError(None, None, "none")

    assert nb.has_xla() is nb.XLA is True
    monkeypatch.setattr(nb.has_xla.__globals__["tf"], "function", none)
    assert nb.has_xla() is False
    assert "there is no XLA here: plain graphs" in CELLS["xla"].source


def test_the_notebook_sets_no_compiler_options_and_moves_no_files():
    whole = "\n".join(cell.source for cell in CELLS.values())
    assert "XLA_FLAGS" not in whole and "dup2" not in whole


@pytest.mark.parametrize("scale", [0, 1])
def test_the_mlp(nb, scale):
    """Its gradient agrees with central differences; from zeros only the last bias ever moves."""
    X, y = normalized()
    rng = np.random.default_rng(0)
    weights = [tf.Variable(scale * rng.normal(size=s)) for s in [(1, 4), (4,), (4, 1), (1,)]]
    tape, differences = tf.test.compute_gradient(
        lambda *values: nb.mse(y, nb.mlp(X, *values)), [tf.constant(w) for w in weights]
    )
    for mine, right in zip(tape, differences, strict=True):
        np.testing.assert_allclose(mine, right, rtol=1e-4, atol=1e-6)
    for _ in range(10):
        nb.train_step(X, y, weights, SGD(0.1), model=nb.mlp)
    assert [bool(w.numpy().any()) for w in weights] == 3 * [bool(scale)] + [True]


# The race.


def test_batch_rows_visits_every_row_once_an_epoch(nb):
    batches = list(nb.batch_rows(12, 4, 6))
    for epoch in (batches[:3], batches[3:]):
        assert sorted(np.concatenate(epoch)) == list(range(12))
    assert not np.array_equal(batches[0], batches[3])
    assert not np.array_equal(batches[0], np.arange(4))
    assert list(nb.batch_rows(12, 12, 2)) == [slice(None), slice(None)]


@pytest.mark.parametrize("form", range(5))
def test_every_form_makes_the_updates_it_is_timed_for(nb, form):
    """Six updates on all of 32 rows, and on batches of 16: W of an eager loop over the same."""
    X, y = nb.race_rows(32)
    for size in (32, 16):
        W, b = tf.Variable([[0.0]]), tf.Variable([0.0])
        for batch in nb.batch_rows(32, size, 6):
            nb.train_step(X[batch], y[batch], [W, b], SGD(0.1))
        run = nb.FORMS[form][1](X, y, size, 6)
        # `fit` and `train_compiled` draw orders of their own: near is all that they can be.
        near = size == 16 and nb.FORMS[form][0] in ("fit", "train_compiled")
        np.testing.assert_allclose(
            np.squeeze(run()), W.numpy().squeeze(), rtol=0.1 if near else 1e-5
        )


def test_the_race_prints_a_line_for_every_form(nb):
    for cell_id in ("race-ordinary", "race-full"):
        assert "varies" in CELLS[cell_id].metadata.tags
        for name, *_ in nb.FORMS:
            assert re.search(
                rf"^{re.escape(name)} +[\d,.]+ +\d+$", printed(CELLS[cell_id]), re.MULTILINE
            )


def test_the_benchmark_prints_every_form(nb, capsys):
    """Its times are nobody's promise, but its tables must be there."""
    benchmark.main(sizes=(50,), batches=2, calls=1, whole=False)
    said = capsys.readouterr().out
    for name in [*(form[0] for form in nb.FORMS), "fit at its best"]:
        assert (
            len(re.findall(rf"^  {re.escape(name)} +[\d,.]+ +[\d,.]+ +\d+$", said, re.MULTILINE))
            == 2
        ), name
    assert (
        re.search(r"^  JAX [\d.]+( +[\d,.]+){2} +\d+$", said, re.MULTILINE)
        or "JAX is not installed" in said
    )


# Several machines.

NOTHING = "import time; time.sleep(1000)"
KILL = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
ONE = "import json, os, time\nif json.loads(os.environ['TF_CONFIG'])['task']['index'] == 1:\n    "
FAILING = {  # what the processes run, a time limit, what the error says
    "one raises, one waits": (
        f"{ONE}raise ValueError('no rows')\n{NOTHING}",
        60,
        r"\[None, 1\].*ValueError: no rows",
    ),
    "have no end": (NOTHING, 1, r"\[None, None\] within 1 s"),
    "are killed at once": (KILL, 60, r"-9"),
    "one is killed half-way": ("worker", 60, r"-9"),
}


@pytest.fixture
def machines(nb, tmp_path, monkeypatch):
    """The worker's script and rows in a folder; what is started has a mark in its environment."""
    X, y = normalized(n=20, dtype="float32")
    np.savez(tmp_path / "rows.npz", X=X, y=y)
    (tmp_path / "worker.py").write_text(CELLS["worker"].source.split("\n", 2)[2])
    monkeypatch.setenv("STARTED_BY", str(tmp_path))
    return nb, tmp_path, [sys.executable, str(tmp_path / "worker.py"), str(tmp_path / "rows.npz")]


def left_running(folder):
    """Whether a process that was started with the mark is still there."""
    env = {name: value for name, value in os.environ.items() if name != "STARTED_BY"}
    running = subprocess.run(["ps", "axeww"], capture_output=True, text=True, check=True, env=env)
    assert "PATH=" in running.stdout
    return f"STARTED_BY={folder}" in running.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="signals and ps")
@pytest.mark.parametrize("name", FAILING)
def test_machines_that_fail_get_a_line_and_no_process_is_left(machines, name):
    nb, folder, command = machines
    source, seconds, words = FAILING[name]
    script = folder / "worker.py"
    if source == "worker":
        half = f"    for t in range(50):\n        if number and t == 25:\n            {KILL}\n"
        source = script.read_text().replace("    for t in range(50):\n", half)
        assert KILL in source
    script.write_text(source)
    begin = time.monotonic()
    with pytest.raises(RuntimeError, match=words):
        nb.run_machines(command, folder, seconds)
    assert not left_running(folder)
    if FAILING[name][0] != "worker":  # nothing imports TensorFlow
        assert time.monotonic() - begin < 20


@pytest.mark.skipif(sys.platform == "win32", reason="ps")
def test_machines_that_are_interrupted_leave_no_process(machines, monkeypatch):
    nb, folder, command = machines

    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(nb.run_machines.__globals__["time"], "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        nb.run_machines(command, folder)
    assert not left_running(folder)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_machine_that_prints_much_is_not_held_up(machines, stream):
    """Into a pipe that nobody reads go some 64 kB, and the machine would wait for ever."""
    nb, folder, command = machines
    (folder / "worker.py").write_text(f"import sys; sys.{stream}.write('x' * 300_000)")
    said = nb.run_machines(command, folder, 30)
    assert len(said) == (600_000 if stream == "stdout" else 0)


def test_machines_are_one_machine_with_all_rows(machines):
    """On other rows: W and b with the right loss, and the doubled rate with the wrong one."""
    nb, folder, command = machines
    said = nb.run_machines(command, folder)
    X, y = normalized(n=20)
    lines = re.findall(r"machine (\d), 10 rows, (\w+), rate (.+):\n    W = (.+), b = (.+)", said)
    assert len(lines) == 6
    for _, loss, rate, W, b in lines:
        left = (1 - 2 * float(rate) * (2 if loss == "mse" else 1)) ** 50
        expected = (1 - left) * np.array([np.mean(X * y), np.mean(y)])
        np.testing.assert_allclose([float(W), float(b)], expected, rtol=2e-4)


def test_addresses_are_on_the_loopback_interface(machines):
    nb, folder, command = machines
    (folder / "worker.py").write_text("import os; print(os.environ['TF_CONFIG'])")
    said = nb.run_machines(command, folder)
    ports = re.findall(r'"127\.0\.0\.1:(\d+)"', said)
    assert len(ports) == 4 and ports[:2] == ports[2:] and ports[0] != ports[1]
    assert "0.0.0.0" not in said and os.environ.get("TF_CONFIG") is None


# When not to write a loop.


def test_own_step_takes_weights_penalties_and_metrics_as_keras_does(nb):
    """The log of a plain Sequential, entry by entry, with an uneven last batch."""
    X, y = normalized(dtype="float32")
    weights = np.random.default_rng(0).uniform(0, 2, 50).astype("float32")
    logs = []
    for kind in (tf.keras.Sequential, nb.OwnStep):
        layer = tf.keras.layers.Dense(1, kernel_initializer="ones", kernel_regularizer="l2")
        model = kind([layer])
        model.compile(SGD(0.05, momentum=0.9), "mse", metrics=["mae"], weighted_metrics=["mse"])
        options = {
            "batch_size": 16,
            "epochs": 3,
            "shuffle": False,
            "verbose": 0,
            "validation_data": (X, y),
        }
        logs.append(model.fit(X, y, sample_weight=weights, **options).history)
    assert set(logs[0]) == set(logs[1]) and len(logs[0]) == 6
    for name, values in logs[0].items():
        np.testing.assert_allclose(logs[1][name], values, rtol=1e-5, err_msg=name)


def test_functions_of_part_4_say_what_they_do():
    """A docstring in every function and class, but for those inside another."""
    begun = False
    for cell in code_cells(read()):
        begun = begun or cell.id == "step-again"
        if begun and not cell.source.startswith("%%"):
            for node in ast.parse(cell.source).body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef):
                    assert ast.get_docstring(node), node.name


# What random mutations (mutate.py) could change unnoticed.


def test_a_row_on_the_line_is_not_below_it(nb):
    y = np.array([[0.0], [1.0], [2.0]])
    assert nb.share_below(y, 0 * y, [[1.0]], 1.0) == pytest.approx(1 / 3)


def test_exactly_a_thousandfold_loss_is_no_divergence_yet(nb):
    path = np.array([[0.0, 0.0, 1.0], [1.0, 1.0, 1000.0]])
    assert nb.unpack(path, 1, 0.1)[2]["loss"] == [1.0, 1000.0]
    losses, y = iter([1.0, 1000.0]), np.zeros((3, 1))
    _, _, history = nb.train(y, y, 1, loss_fn=lambda _, y_pred: 0 * y_pred[0, 0] + next(losses))
    assert history["loss"] == [1.0, 1000.0]


def test_the_race_takes_the_median_of_three_later_calls(nb):
    calls = []
    nb.time_form(lambda *_: lambda: calls.append(0), 4, 4, 1)
    assert len(calls) == 4


# What the prose says beside the cells.


def test_two_rates_in_a_step_under_fit(nb):
    """The same lines in OwnStep: W arrives in one update, and b comes a fifth of the way."""

    class TwoRates(nb.OwnStep):
        def train_step(self, data):
            X, y = data
            with tf.GradientTape() as tape:
                loss = self.compute_loss(X, y, self(X, training=True))
            dW, db = tape.gradient(loss, self.trainable_variables)
            kernel, bias = self.trainable_variables
            self.fast.apply([dW], [kernel])
            self.optimizer.apply([db], [bias])
            return {"loss": loss}

    X, y = normalized(dtype="float32")
    model = TwoRates([tf.keras.Input((1,)), tf.keras.layers.Dense(1, kernel_initializer="zeros")])
    model.compile(SGD(0.1), "mse")
    model.fast = SGD(0.5)
    model.fast.build(model.trainable_variables[:1])
    model.optimizer.build(model.trainable_variables[1:])
    model.fit(X, y, batch_size=len(X), epochs=1, verbose=0)
    kernel, bias = model.get_weights()
    best_W, best_b = np.polyfit(X[:, 0], y[:, 0], 1)
    np.testing.assert_allclose([kernel.item(), bias.item()], [best_W, best_b / 5], rtol=1e-4)


@pytest.mark.skipif(not hasattr(tf.keras.optimizers, "MultiOptimizer"), reason="an older Keras")
def test_multi_optimizer_does_the_same_under_fit():
    X, y = normalized(dtype="float32")
    rates = tf.keras.optimizers.OptimizerMap(SGD(0.5))
    rates[".*/bias"] = SGD(0.1)
    model = tf.keras.Sequential(
        [tf.keras.Input((1,)), tf.keras.layers.Dense(1, kernel_initializer="zeros")]
    )
    model.compile(tf.keras.optimizers.MultiOptimizer(rates), "mse")
    model.fit(X, y, batch_size=len(X), epochs=1, verbose=0)
    kernel, bias = model.get_weights()
    best_W, best_b = np.polyfit(X[:, 0], y[:, 0], 1)
    np.testing.assert_allclose([kernel.item(), bias.item()], [best_W, best_b / 5], rtol=1e-4)


def test_two_optimizers_that_are_made_once_remember(nb):
    """Two updates in which W has momentum: it goes on by its share of the first step."""
    W, b = tf.Variable([[0.0]]), tf.Variable([0.0])
    X, y = normalized(dtype="float32")
    names = {**vars(nb), "sgd_fast": SGD(0.1, momentum=0.5), "sgd_slow": SGD(0.1)}
    step = types.FunctionType(nb.two_rate_step.__code__, names)
    step(X, y, W, b)
    step(X, y, W, b)
    best_W, best_b = np.polyfit(X[:, 0], y[:, 0], 1)
    expected = best_W * (0.2 + 0.2 * 0.8 + 0.5 * 0.2)
    np.testing.assert_allclose(W.numpy().item(), expected, rtol=1e-4)
    np.testing.assert_allclose(b.numpy().item(), best_b * (1 - 0.8**2), rtol=1e-4)


def test_freezing_after_training_needs_compile_again():
    """A bias that is frozen after `fit` still moves, and after a new `compile` it does not."""
    X, y = normalized(dtype="float32")
    layer = tf.keras.layers.Dense(1, kernel_initializer="zeros")
    model = tf.keras.Sequential([tf.keras.Input((1,)), layer])
    model.compile(SGD(0.1), "mse")

    def moved():
        before = layer.bias.numpy()
        model.fit(X, y, batch_size=len(X), epochs=1, verbose=0)
        return float(abs(layer.bias.numpy() - before)[0])

    assert moved() > 0.1
    layer.bias.trainable = False
    assert moved() > 0.1
    model.compile(SGD(0.1), "mse")
    assert moved() == 0


@pytest.mark.parametrize("compiled", [True, False])
def test_tf_print_fails_where_xla_compiles_the_step(nb, compiled, capfd):
    if compiled and not nb.XLA:
        pytest.skip("there is no XLA here")

    class Talking(nb.OwnStep):
        def train_step(self, data):
            tf.print("a step")
            return super().train_step(data)

    X, y = normalized(dtype="float32")
    model = Talking([tf.keras.Input((1,)), tf.keras.layers.Dense(1)])
    model.compile(SGD(0.1), "mse", jit_compile=compiled)
    if compiled:
        with pytest.raises(tf.errors.InvalidArgumentError):
            model.fit(X, y, epochs=1, verbose=0)
    else:
        model.fit(X, y, epochs=1, verbose=0)
    capfd.readouterr()


def test_sample_weights_need_a_loss_for_each_row(nb):
    X, y = normalized(dtype="float32")
    weights = np.zeros(len(X), "float32")
    weights[:20] = 1

    def by_row(y_true, y_pred):
        return tf.square(y_pred - y_true)[:, 0]

    moved = {}
    for loss in (nb.mse, by_row):
        model = tf.keras.Sequential([tf.keras.layers.Dense(1, kernel_initializer="zeros")])
        model.compile(SGD(0.1), loss)
        model.fit(X, y, sample_weight=weights, batch_size=len(X), verbose=0)
        moved[loss] = model.get_weights()[1].item()
    right = 0.2 * np.sum(weights * y[:, 0]) / len(X)
    assert moved[by_row] == pytest.approx(right, rel=1e-4)
    assert moved[nb.mse] != pytest.approx(right, rel=0.01)


def test_a_loss_scale_optimizer_skips_nan_without_a_word():
    X, y = normalized(dtype="float32")
    model = tf.keras.Sequential([tf.keras.layers.Dense(1, kernel_initializer="zeros")])
    model.compile(tf.keras.optimizers.LossScaleOptimizer(SGD(0.1)), "mse")
    model.fit(X, y, batch_size=len(X), verbose=0)
    before = model.get_weights()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X, np.nan * y, batch_size=len(X), verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_a_checkpoint_waits_for_variables_that_are_made_later(nb, tmp_path):
    W, b, momentum = nb.new_line()
    X, y = normalized(dtype="float32")
    for _ in range(3):
        nb.train_step(X, y, [W, b], momentum)
    saved = tf.train.Checkpoint(optimizer=momentum).write(str(tmp_path / "line"))
    late = SGD(0.02, momentum=0.9)
    tf.train.Checkpoint(optimizer=late).read(saved)
    late.build([W, b])
    assert int(late.iterations) == 3
    for ours, theirs in zip(late.variables, momentum.variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_a_compiled_step_and_a_second_optimizer(nb):
    X, y = map(tf.constant, normalized(dtype="float32"))
    W, b = tf.Variable([[0.0]]), tf.Variable([0.0])
    fast, first, second = tf.function(nb.train_step), SGD(0.1, 0.9), SGD(0.1, 0.9)
    fast(X, y, [W, b], first)
    with pytest.raises(ValueError, match="singleton"):
        fast(X, y, [W, b], second)
    built = [SGD(0.1, 0.9), SGD(0.1, 0.9)]
    fast = tf.function(nb.train_step)
    for optimizer in built:
        optimizer.build([W, b])
        fast(X, y, [W, b], optimizer)


def test_fit_under_a_mirrored_strategy():
    X, y = normalized(dtype="float32")
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
        model.compile(SGD(0.5), "mse")
    model.fit(X, y, batch_size=len(X), epochs=3, verbose=0)
    best = np.polyfit(X[:, 0], y[:, 0], 1)
    np.testing.assert_allclose(np.ravel(model.get_weights()[0])[0], best[0], rtol=1e-4)


MEMORY = """
import pathlib
import tensorflow as tf
X, W = tf.ones((2_000_000, 1), "float64"), tf.Variable(2.0, dtype="float64")
def loss():
    return tf.reduce_sum(tf.square(X * W))
def megabytes():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6
for again in range(2):
    start = megabytes()
    for t in range(40):
        with tf.GradientTape():
            loss()
print(megabytes() - start)
start = megabytes()
total = 0.0
with tf.GradientTape():
    for t in range(40):
        total = total + loss()
    print(megabytes() - start)
"""


@pytest.mark.skipif(not pathlib.Path("/proc/self/statm").exists(), reason="only Linux tells")
def test_a_tape_that_stays_open_holds_what_it_has_noted():
    """In a process of its own: forty losses over 16 MB, each in its tape or summed in one."""
    said = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True, timeout=120
    )
    own_tapes, one_tape = map(float, said.stdout.split())
    assert one_tape > own_tapes + 200


@pytest.mark.parametrize("kind", ["Sequential", "OwnStep"])
def test_own_step_scales_the_loss_as_keras_does(nb, kind):
    """An optimizer that scales the loss divides its gradients again: the same line as without."""
    X, y = normalized(dtype="float32")
    made = nb.OwnStep if kind == "OwnStep" else tf.keras.Sequential
    weights = []
    for scale in (None, 1024):
        model = made([tf.keras.layers.Dense(1, kernel_initializer="zeros")])
        model.compile(SGD(0.1, loss_scale_factor=scale), "mse")
        log = model.fit(X, y, batch_size=50, epochs=3, shuffle=False, verbose=0).history["loss"]
        weights.append([*np.ravel(model.get_weights()[0]), *log])
    np.testing.assert_allclose(weights[0], weights[1], rtol=1e-5)


@pytest.mark.parametrize("failing", [0, 1])
def test_the_machine_that_fails_has_the_last_word(machines, failing):
    nb, folder, command = machines
    (folder / "worker.py").write_text(
        "import json, os, time\n"
        "number = json.loads(os.environ['TF_CONFIG'])['task']['index']\n"
        f"if number == {failing}:\n    raise ValueError(f'machine {{number}} has no rows')\n"
        f"{NOTHING}"
    )
    with pytest.raises(RuntimeError, match=f"ValueError: machine {failing} has no rows"):
        nb.run_machines(command, folder, 60)


def test_a_comparison_that_is_turned_round_keeps_nothing(nb, capsys):
    """The cell with > for <: from infinity nothing is greater, and it stops after its patience."""
    source = CELLS["early-stopping"].source
    assert "held_out < best_loss" in source
    names = dict(vars(nb))
    names.pop("kept_W", None)
    exec(CELLS["early-data"].source, names)  # noqa: S102
    exec(source.replace("held_out < best_loss", "held_out > best_loss"), names)  # noqa: S102
    assert "stopped after 5 updates, and the best was after 0" in capsys.readouterr().out
    assert "kept_W" not in names


FIT_ON_MACHINES = """
import numpy as np
import tensorflow as tf
X = np.ones((4, 1), "float32")
with tf.distribute.MultiWorkerMirroredStrategy().scope():
    model = tf.keras.Sequential([tf.keras.Input((1,)), tf.keras.layers.Dense(1)])
    model.compile("sgd", "mse")
model.fit(X, X, batch_size=4, verbose=0)
"""


def test_fit_does_not_run_on_several_machines(machines):
    nb, folder, command = machines
    (folder / "worker.py").write_text(FIT_ON_MACHINES)
    with pytest.raises(RuntimeError, match="PerReplica"):
        nb.run_machines(command, folder)


def test_the_machine_that_was_not_done_in_time_has_the_last_word(machines):
    nb, folder, command = machines
    (folder / "worker.py").write_text(
        "import json, os, sys, time\n"
        "number = json.loads(os.environ['TF_CONFIG'])['task']['index']\n"
        "print('machine', number, file=sys.stderr, flush=True)\n"
        "time.sleep(1000 * number)\n"
    )
    with pytest.raises(RuntimeError, match=r"\[0, None\] within 3 s: machine 1"):
        nb.run_machines(command, folder, 3)
