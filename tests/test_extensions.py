"""Part 4: every claim that is not a timing."""

import re
import warnings

import benchmark
import numpy as np
import pytest
import tensorflow as tf
from notebook_runner import execute, read, text_of
from test_functions import normalized

PRINTED = {
    "huber": [
        "MSE +y = 2.4. x [+] 2",
        "Huber +y = 2.4. x [+] 10",
        "Keras' Huber: True",
    ],
    "pinball": [
        "q = 0.1: .* 10% of tr",
        "0.5: .* 50%",
        "0.9: .* 90%",
        "swapped: below 90%",
    ],
    "batches-count": [
        r"\n +1 +160 +1 +480\n +32 +5 +32 +15\n +50 +4 +10 +12\n +160 +1 +160 +3",
        r"all rows (105\.690), mean of batches 1(?!05).*size \1",
    ],
    "early-stopping": [r"after \d\d updates 99\.\d+, after all 100 99\."],
    "resume-run": [r"10 \+ 10 .*True", "weights only .*False"],
    "retracing": [
        "1 to 5: +5 traces",
        r"tensors.* 1\n",
        r"10: +2\n",
        r"remainder: +1",
    ],
    "train-compiled": ["traces for two rates: 1"],
    "batches-run": [
        r"decaying rate +[01]\.\d% above",
        r"all rows 1\.00, the outermost 0\.24",
    ],
    "many-features": [r"shape \(20, 1\), b = (3\.9|4\.0)", "6 digits: True"],
    "mlp-run": [r"line: RMSE 0\.[67]", r"MLP: RMSE 0\.2"],
    "devices-run": [
        r"(W = \S+), one device\n +global_mse +\1, two devices\n +mse +(W = 29\.648)",
        r"50 .* (W = \S+), one device\n +global_mse +\1, two",
        r"at 0\.4: W = 74\.12\n.*at 0\.6: W = -1\.5\d+e\+09",
    ],
}


@pytest.mark.parametrize("cell_id", PRINTED)
def test_cell_prints_what_part_4_claims(fresh, cell_id):
    cell = next(c for c in fresh.notebook.cells if c.id == cell_id)
    for pattern in PRINTED[cell_id]:
        assert re.search(pattern, text_of(cell)), pattern


@pytest.mark.parametrize("cell_id", ["train-compiled", "keras-train-step"])
def test_gap_is_rounding(fresh, cell_id):
    cell = next(c for c in fresh.notebook.cells if c.id == cell_id)
    assert float(text_of(cell).split("gap ")[1].split()[0]) < 1e-5


def test_all_forms_give_one_answer(fresh):
    cell = next(c for c in fresh.notebook.cells if c.id == "same-answer")
    answers = re.findall(r"= (\S+)$", text_of(cell), re.MULTILINE)
    assert len(answers) == 8 and len(set(answers)) == 1


def test_the_benchmark_prints_every_form(nb, capsys):
    """Its times are nobody's promise, but its table must be there."""
    benchmark.main(sizes=(50,), whole=False)
    printed = capsys.readouterr().out
    for name in nb.forms(*nb.race_data(50)):
        assert re.search(
            rf"^  {re.escape(name)} +[\d,.]+ +[\d,.]+ +[\d,]+$", printed, re.MULTILINE
        )
    for options in ("Setup's", "none"):
        assert re.search(
            rf"^  train_compiled +{options} +[\d.]+$", printed, re.MULTILINE
        )
    assert "JAX scan" in printed or "JAX is not installed" in printed


def test_from_zeros_only_the_last_bias_of_the_mlp_moves(nb):
    X, y = normalized()
    weights = [
        tf.Variable(tf.zeros(s, "float64")) for s in [(1, 4), (4,), (4, 1), (1,)]
    ]
    for _ in range(10):
        nb.train_step(X, y, weights, tf.keras.optimizers.SGD(0.1), nb.mse, nb.mlp)
    assert [bool((w.numpy() == 0).all()) for w in weights] == [True, True, True, False]


def test_first_step_of_the_mlp_agrees_with_central_differences_in_float64(nb):
    """Part 3 says that a larger model can still be checked in this way."""
    X, y = normalized()
    rng = np.random.default_rng(0)
    shapes = [(1, 4), (4,), (4, 1), (1,)]
    weights = [tf.Variable(rng.normal(size=shape)) for shape in shapes]
    routes = (nb.tape_gradient, nb.central_differences)
    for tape, differences in zip(*(f(X, y, weights, nb.mse, nb.mlp) for f in routes)):
        np.testing.assert_allclose(tape, differences, rtol=1e-4)


def test_huber_is_twice_keras(nb):
    rng = np.random.default_rng(0)
    y_true, y_pred = rng.normal(0, 30, (2, 50, 1))
    keras = tf.keras.losses.Huber(delta=15.0)(y_true, y_pred)
    np.testing.assert_allclose(nb.huber(y_true, y_pred), 2 * keras, rtol=1e-6)
    np.testing.assert_allclose(nb.huber(y_true, y_pred, 1e9), nb.mse(y_true, y_pred))


@pytest.mark.parametrize("q", [0.1, 0.25, 0.9])
def test_pinball_is_smallest_at_the_quantile(nb, q):
    y = np.random.default_rng(1).normal(size=(999, 1))
    constants = np.linspace(-3, 3, 6001)
    losses = [np.mean(np.maximum(q * (y - c), (q - 1) * (y - c))) for c in constants]
    best = constants[np.argmin(losses)]
    assert abs(best - np.quantile(y, q)) < 0.02
    ours = nb.pinball(q)(y, np.full_like(y, best))
    np.testing.assert_allclose(ours, min(losses), rtol=1e-12)


@pytest.mark.parametrize("jit", [True, False, None])
@pytest.mark.parametrize(
    ("dtype", "k"), [("float32", 1), ("float64", 1), ("float64", 3)]
)
def test_train_compiled_is_train(nb, dtype, k, jit):
    X, y = normalized(dtype=dtype, k=k)
    ours = nb.train_compiled(X, y, epochs=25, learning_rate=0.07, jit_compile=jit)
    W, b, history = nb.train(X, y, epochs=25, learning_rate=0.07)
    rtol = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(ours[0], W, rtol=rtol)
    np.testing.assert_allclose(ours[1], b, rtol=rtol)
    assert ours[0].shape == W.shape and ours[1].shape == b.shape
    assert isinstance(ours[0], tf.Variable) and ours[0].dtype == W.dtype
    for key, values in history.items():
        assert len(ours[2][key]) == 26
        np.testing.assert_allclose(ours[2][key], values, rtol=rtol, atol=1e-6)
    assert all(type(loss) is float for loss in ours[2]["loss"])


@pytest.mark.parametrize("name", ["train", "train_compiled"])
def test_a_loss_that_rose_is_worth_a_warning(nb, name):
    """Features that move together push the limit down to 1/k, here 1/12."""
    train = getattr(nb, name)
    X, y = normalized(k=1)
    X = np.repeat(X, 12, axis=1)
    np.testing.assert_allclose(nb.stable_limit(X), 1 / 12)
    with pytest.warns(UserWarning, match="above the first: lower the rate"):
        train(X, y, 50, 0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(X, y, 50, 0.08)


def test_train_compiled_takes_other_losses(nb):
    X, y = normalized()
    ours = nb.train_compiled(X, y, 40, 0.5, nb.pinball(0.3))[2]["loss"]
    np.testing.assert_allclose(
        ours, nb.train(X, y, 40, 0.5, nb.pinball(0.3))[2]["loss"]
    )


def test_train_compiled_keeps_its_results_apart(nb):
    X, y = normalized()
    first = nb.train_compiled(X, y, epochs=7)[0]
    kept = first.numpy().copy()
    nb.train_compiled(X, -y, epochs=7)
    np.testing.assert_array_equal(first.numpy(), kept)


def test_tensorflow_warns_of_retracing_in_the_words_quoted(fresh, committed):
    first, last = "5 out of the last 5 calls to", "triggered tf.function retracing"
    assert re.match(f"{first} .* {last}", fresh.state["said"][0])
    (prose,) = [cell.source for cell in committed.cells if cell.id == "fast"]
    assert f'"{first} … {last}"' in prose


def test_xla_makes_one_function_of_the_loop(fresh, nb):
    """That the options of Setup arrive; TensorFlow 2.19 has no such option yet."""
    if not nb.xla_works():
        pytest.skip("no XLA on this platform")
    knows_it = tuple(map(int, tf.__version__.split(".")[:2])) >= (2, 20)
    assert fresh.state["one_function"] is knows_it


def test_a_new_rate_traces_nothing_new(nb):
    X, y = normalized(n=31)
    for rate in (0.1, 0.2, 0.3):
        nb.train_compiled(X, y, epochs=11, learning_rate=rate)
    loop, *_ = nb.loop_graph(
        1, "float64", 11, nb.mse, nb.xla_works(), nb.train_step, nb.predict
    )
    assert loop.experimental_get_tracing_count() == 1
    nb.train_compiled(*normalized(n=32), epochs=11)
    assert loop.experimental_get_tracing_count() == 2


def test_train_compiled_raises_what_train_raises(nb):
    X, y = normalized(dtype="float32")
    for arguments in [
        (X.ravel(), y),
        (X, y[:-1]),
        (X * np.nan, y),
        (X.astype(int), y),
        (X, y, 0),
        (X, y, 10, -1),
        (100 * X, y),
        (X, y, 5, 0.1, lambda t, p: tf.square(t - p)),
    ]:
        messages = []
        for function in (nb.train, nb.train_compiled):
            with pytest.raises((TypeError, ValueError, FloatingPointError)) as caught:
                function(*arguments)
            messages.append((caught.type, str(caught.value)))
        assert messages[0] == messages[1]


def test_without_xla_it_says_so(nb, monkeypatch, capsys):
    def no_compiler(*_, **__):
        raise tf.errors.UnimplementedError(None, None, "no compiler for this platform")

    nb.xla_works.cache_clear()
    monkeypatch.setattr(tf, "function", no_compiler)
    assert nb.xla_works() is False
    assert "No XLA here (UnimplementedError)" in capsys.readouterr().out
    monkeypatch.undo()
    X, y = normalized()
    compiled, eager = (f(X, y, epochs=5)[2] for f in (nb.train_compiled, nb.train))
    np.testing.assert_allclose(compiled["loss"], eager["loss"])
    nb.xla_works.cache_clear()


def test_mlp_shapes(nb):
    X = np.zeros((5, 1), "float32")
    weights = [np.ones(shape, "float32") for shape in [(1, 4), (4,), (4, 1), (1,)]]
    expected = 4 * np.tanh(1) + 1
    np.testing.assert_allclose(
        nb.mlp(X, *weights), np.full((5, 1), expected), rtol=1e-6
    )


def test_part_4_needs_part_1_only(tmp_path):
    notebook = read()
    ids = [cell.id for cell in notebook.cells]
    end = ids.index("part5") if "part5" in ids else len(ids)
    cells = (
        notebook.cells[: ids.index("part2")] + notebook.cells[ids.index("part4") : end]
    )
    notebook.cells = [cell for cell in cells if not cell.id.startswith("race")]
    execute(notebook, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"plots"}
