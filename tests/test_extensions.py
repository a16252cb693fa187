"""Part 4: every claim that is not a timing."""

import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import benchmark
from notebook_runner import code_cells, execute, read, text_of
from test_functions import normalized


@pytest.mark.parametrize("q", [0.1, 0.25, 0.9])
def test_pinball_is_smallest_at_the_quantile(nb, q):
    y = np.random.default_rng(1).normal(size=(999, 1))
    constants = np.linspace(-3, 3, 601)
    losses = [nb.pinball(y, np.full_like(y, c), q) for c in constants]
    assert abs(constants[np.argmin(losses)] - np.quantile(y, q)) < 0.02
    expected = np.mean(np.where(y > 2, q * (y - 2), (1 - q) * (2 - y)))
    np.testing.assert_allclose(nb.pinball(y, np.full_like(y, 2), q), expected, rtol=1e-12)


def test_huber_is_twice_keras(nb):
    y_true, y_pred = np.random.default_rng(0).normal(0, 30, (2, 50, 1))
    keras = tf.keras.losses.Huber(delta=15.0)(y_true, y_pred)
    np.testing.assert_allclose(nb.huber(y_true, y_pred), 2 * keras, rtol=1e-6)
    np.testing.assert_allclose(nb.huber(y_true, y_pred, 1e9), nb.mse(y_true, y_pred))


def test_two_lists_and_two_optimizers_are_two_rates(nb):
    (X, y), (W, b) = normalized(), nb.init_variables(1, "float64")
    nb.train_step(X, y, [W], tf.keras.optimizers.SGD(0.5), model=lambda X, W: nb.predict(X, W, b))
    nb.train_step(X, y, [b], tf.keras.optimizers.SGD(0.1), model=lambda X, b: nb.predict(X, W, b))
    np.testing.assert_allclose([W.numpy().item(), b.numpy().item()], [np.mean(X * y), 0.2 * np.mean(y)])


def test_watched_step_is_train_step_but_for_what_is_not_finite(nb, capsys):
    X, y = normalized()
    ours, theirs = (nb.init_variables(1, "float64") for _ in range(2))
    for factor in (1, np.nan, np.inf, 1):
        nb.watched_step(X, factor * y, ours, tf.keras.optimizers.SGD(0.1))
    for _ in range(2):
        nb.train_step(X, y, theirs, tf.keras.optimizers.SGD(0.1))
    np.testing.assert_array_equal(ours[0], theirs[0])
    slopes = np.hypot(2 * np.mean(X * y), 2 * np.mean(y))
    assert f"norm {slopes:.2f}, norm nan, norm" in capsys.readouterr().out


def assert_same_histories(ours, theirs, rtol):
    """W, b and every entry of two histories, and that variables are variables."""
    for mine, right in zip(ours[:2], theirs[:2], strict=True):
        assert isinstance(mine, tf.Variable) and mine.shape == right.shape and mine.dtype == right.dtype
        np.testing.assert_allclose(mine, right, rtol=rtol)
    for key, values in theirs[2].items():
        assert len(ours[2][key]) == len(values)
        np.testing.assert_allclose(ours[2][key], values, rtol=rtol, atol=1e-6)
    assert all(type(loss) is float for loss in ours[2]["loss"])


@pytest.fixture(params=[True, False], ids=["XLA", "plain graph"])
def compiler(nb, request, monkeypatch):
    """The notebook's functions with XLA, and as they are where there is none."""
    nb.loop_graph.cache_clear()
    monkeypatch.setitem(nb.train_compiled.__globals__, "XLA", request.param)
    yield nb
    nb.loop_graph.cache_clear()


SHAPES = [("float32", 1, 1e-5), ("float64", 1, 1e-12), ("float64", 3, 1e-12)]


@pytest.mark.parametrize("loss", ["mse", "huber", "pinball"])
@pytest.mark.parametrize(("dtype", "k", "rtol"), SHAPES)
def test_train_compiled_is_train(compiler, dtype, k, rtol, loss):
    arguments = *normalized(dtype=dtype, k=k), 25, 0.07, getattr(compiler, loss)
    ours, theirs = compiler.train_compiled(*arguments), compiler.train(*arguments)
    assert_same_histories(ours, theirs, rtol)


def eager_epochs(nb, X, y, epochs, rate, size):
    """`train_compiled` with batches as an eager loop: W, b, history after each epoch."""
    W, b = nb.init_variables(X.shape[1], X.dtype)
    optimizer, rng, path = tf.keras.optimizers.SGD(rate), np.random.default_rng(0), []
    for epoch in range(epochs + 1):
        path.append((float(nb.mse(y, nb.predict(X, W, b))), W.numpy().squeeze(), b.numpy().squeeze()))
        order = rng.permutation(len(X))
        for start in range(0, len(X) if epoch < epochs else 0, size):
            rows = order[start : start + size]
            nb.train_step(X[rows], y[rows], [W, b], optimizer)
    return W, b, dict(zip(["loss", "W", "b"], zip(*path, strict=True), strict=True))


@pytest.mark.parametrize(("dtype", "k", "rtol"), SHAPES)
@pytest.mark.parametrize(("size", "epochs"), [(32, 4), (25, 4), (1, 3), (50, 4), (999, 4), (16, 0)])
def test_compiled_batches_are_an_eager_loop_over_them(compiler, dtype, k, rtol, size, epochs):
    """50 rows: a remainder, none, single rows, all rows, and no epoch."""
    arguments = *normalized(dtype=dtype, k=k), epochs, 0.03
    ours = compiler.train_compiled(*arguments, batch_size=size)
    assert_same_histories(ours, eager_epochs(compiler, *arguments, size), max(rtol, 1e-10))


def test_a_new_rate_traces_nothing_new_and_changes_no_earlier_result(nb):
    X, y = normalized(n=31)
    first = nb.train_compiled(X, y, epochs=11, loss_fn=nb.huber)[0]
    kept = first.numpy().copy()
    nb.train_compiled(X, -y, epochs=11, learning_rate=0.3, loss_fn=nb.huber)
    np.testing.assert_array_equal(first.numpy(), kept)
    graph, _ = nb.loop_graph(nb.train_step, nb.huber, 1, "float64", 31)
    assert graph.experimental_get_tracing_count() == 1


def test_a_step_that_was_written_anew_is_compiled_anew(nb, monkeypatch):
    X, y = normalized()
    before, step = nb.train_compiled(X, y)[2]["W"][-1], nb.train_step
    monkeypatch.setitem(nb.train_compiled.__globals__, "train_step", lambda X, y, *a: step(X, 3 * y, *a))
    assert nb.train_compiled(X, y)[2]["W"][-1] == pytest.approx(3 * before)


def test_without_xla_a_line_says_so(tmp_path):
    notebook = read()
    notebook.cells = [c for c in code_cells(notebook) if c.id in ("setup", "xla")]
    none = '    raise tf.errors.UnimplementedError(None, None, "none")\n    tf.function('
    notebook.cells[1].source = notebook.cells[1].source.replace("    tf.function(", none)
    execute(notebook, tmp_path)
    assert "the plain graph: there is no XLA here" in text_of(notebook.cells[1])


@pytest.mark.parametrize("scale", [0, 1])
def test_the_mlp(nb, scale):
    """Its gradient agrees with central differences; from zeros only the last bias ever moves."""
    X, y = normalized()
    rng = np.random.default_rng(0)
    weights = [tf.Variable(scale * rng.normal(size=s)) for s in [(1, 4), (4,), (4, 1), (1,)]]
    for tape, differences in zip(*nb.gradient_routes(X, y, weights, nb.mse, nb.mlp), strict=True):
        np.testing.assert_allclose(tape, differences, rtol=1e-4, atol=1e-9)
    for _ in range(10):
        nb.train_step(X, y, weights, tf.keras.optimizers.SGD(0.1), nb.mse, nb.mlp)
    assert [bool(w.numpy().any()) for w in weights] == 3 * [bool(scale)] + [True]


def test_tensorflow_warns_of_retracing_in_the_words_quoted(caplog, monkeypatch):
    double, logger = tf.function(lambda x: 2 * x, autograph=False), tf.get_logger()
    monkeypatch.setattr(logger, "level", 30)
    monkeypatch.setattr(logger, "handlers", [caplog.handler])
    for number in range(9):
        double(number)
    first, last = "5 out of the last 5 calls to", "triggered tf.function retracing"
    assert re.match(f"{first} .* {last}", caplog.messages[0])
    (prose,) = [cell.source for cell in read().cells if cell.id == "fast"]
    assert f'"{first} … {last}"' in prose


@pytest.mark.parametrize("form", range(6))
def test_every_form_makes_the_updates_it_is_timed_for(nb, form):
    """Two batches of 16 rows, six updates: W of an eager loop over the same batches."""
    X, noise = np.random.default_rng(0).standard_normal((2, 2, 16, 1), dtype="float32")
    W, b = nb.init_variables()
    for half in [0, 1] * 3:
        nb.train_step(X[half], 2 * X[half] + 1 + noise[half], [W, b], tf.keras.optimizers.SGD(0.1))
    run = list(nb.forms(32, 16, [6] * 6).values())[form]
    # The compiled form and `fit` draw orders of their own: near is all that they can be.
    np.testing.assert_allclose(np.squeeze(run()), W.numpy().squeeze(), rtol=0.05 if form in (0, 5) else 1e-5)


def test_the_benchmark_prints_every_form(nb, capsys):
    """Its times are nobody's promise, but its tables must be there."""
    benchmark.main(sizes=(50,), rows=64, calls=1, whole=False)
    printed = capsys.readouterr().out
    for name in nb.forms(64, 32, [2] * 6):
        assert len(re.findall(rf"^  {re.escape(name)} +[\d,.]+ +[\d,]+$", printed, re.MULTILINE)) == 2, name
    for options in ("the notebook's", "none"):
        assert re.search(rf"^  train_compiled +{options}( +[\d.]+)+$", printed, re.MULTILINE)
    assert "JAX scan" in printed or "JAX is not installed" in printed


NEEDED = "setup data-make data-split normalize variables loss slow-gradient train-step finite"
NEEDED += " train-loop train-run machines-worker machines-run machines-say"
KILL, LATER = "import os; os.kill(os.getpid(), 9)", "range(50):\\n            if place: "
ONE = "import os, time\\nif '1}}' in os.environ['TF_CONFIG']: raise ValueError('no rows')\\ntime.sleep(99)"
NO = "def no(*_):\n    raise PermissionError('sockets are forbidden')\nsocket.create_server = no\n"
FAILING = {  # what goes wrong first, the text of the workers, a time limit, what the line says
    "one raises, one waits": ("", f'"{ONE}"', 3, "ValueError: no rows"),
    "have no end": ("", "'import time; time.sleep(1000)'", 3, "timed out after 3 seconds"),
    "are killed at once": ("", f"'{KILL}'", 60, "died with <Signals.SIGKILL: 9>"),
    "one is killed half-way": ("", f"source.replace('range(50):', '{LATER}{KILL}')", 60, "<Signals.SIGKILL: 9>"),
    "have no sockets": (NO, "''", 60, "sockets are forbidden"),
}  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="signals and ps")
@pytest.mark.parametrize("name", FAILING)
def test_workers_that_fail_get_a_line_and_no_process_is_left(name, tmp_path):
    before, source, seconds, words = FAILING[name]
    notebook, mark = read(), f"STARTED_BY={tmp_path}"  # found in the environment of running processes
    notebook.cells = [cell for cell in notebook.cells if cell.id in NEEDED.split()]
    run, say = notebook.cells[-2:]
    run.source = run.source.replace("seconds=60", f"seconds={seconds}")
    say.source = say.source.replace("try:", f"source = {source}\n{before}try:")
    say.source = f"os.environ['STARTED_BY'] = '{tmp_path}'\n" + say.source
    execute(notebook, tmp_path)
    _, said = text_of(say).strip().split("\n")  # the first line is that of one device
    assert said.startswith("no answer from the workers: ") and words in said
    running = subprocess.run(["ps", "axeww"], capture_output=True, text=True, check=True)
    assert mark not in running.stdout and "PATH=" in running.stdout
