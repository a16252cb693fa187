"""Parts 4 and 5: what the prose says and no cell prints, tried on TensorFlow, Keras and NumPy."""

import gc
import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
import tensorflow as tf

from notebook_runner import code_cells, python_of, read
from test_extensions import normalized
from test_loop import X_NORM, X_RAW, Y_TRAIN

CELLS = {cell.id: cell for cell in code_cells(read())}
SGD = tf.keras.optimizers.SGD
X, Y = X_NORM.astype("float32"), Y_TRAIN.astype("float32")


def dense_line(**options):
    """A Keras line that starts at zero."""
    layer = tf.keras.layers.Dense(1, kernel_initializer="zeros", **options)
    return tf.keras.Sequential([tf.keras.Input((1,)), layer])


def slopes(loss_fn, X, y, W=0.0, b=0.0):
    """The gradient of a loss for W and b, by the tape."""
    W, b = tf.Variable([[W]], dtype="float32"), tf.Variable([b], dtype="float32")
    with tf.GradientTape() as tape:
        loss = loss_fn(y, X @ W + b)
    return np.concatenate([np.ravel(slope) for slope in tape.gradient(loss, [W, b])])


def pulls_of(nb, X, y, W, b):
    """What `row_pulls` says of the line W x + b, in 32 bits."""
    W, b = tf.Variable([[W]], dtype="float32"), tf.Variable([b], dtype="float32")
    return nb.row_pulls(X.astype("float32"), y.astype("float32"), W, b)


# What `fit` takes as an argument, and your own loss.


@pytest.mark.parametrize("whole", [True, False], ids=["a layer", "one variable"])
def test_what_is_frozen_stays(whole):
    model = dense_line()
    frozen = model.layers[0] if whole else model.layers[0].bias
    frozen.trainable = False
    assert len(model.trainable_variables) == (0 if whole else 1)
    if not whole:
        model.compile(SGD(0.1), "mse")
        model.fit(X, Y, batch_size=len(X), verbose=0)
        W, b = model.get_weights()
        assert b[0] == 0 and W[0, 0] > 1


def test_a_variable_of_a_layer_is_there_once_the_layer_is_built():
    layer = tf.keras.layers.Dense(1)
    assert not hasattr(layer, "bias") or layer.bias is None
    layer.build((None, 1))
    assert layer.bias.shape == (1,)


def test_hubers_loss_is_a_bowl(nb):
    """Between two lines it is nowhere above the straight way from one loss to the other."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        (W1, b1), (W2, b2) = rng.normal(scale=200, size=(2, 2))
        middle, one, two = (
            float(nb.huber(Y, X * W + b))
            for W, b in [((W1 + W2) / 2, (b1 + b2) / 2), (W1, b1), (W2, b2)]
        )
        assert middle <= (one + two) / 2 * (1 + 1e-5)


def test_a_point_pulls_on_the_pinball_line_however_far_it_is(nb):
    x = np.ones((1, 1), "float32")
    near, far = (slopes(lambda t, p: nb.pinball(t, p, q=0.9), x, x * d) for d in (1, 100))
    np.testing.assert_allclose(near, far)
    np.testing.assert_allclose(near, [-0.9, -0.9], rtol=1e-6)


@pytest.mark.parametrize("q", [0.1, 0.5, 0.9])
def test_the_pinball_gradient_is_never_much_longer_than_1(nb, q):
    rng = np.random.default_rng(0)
    for W, b in rng.normal(scale=300, size=(50, 2)):
        length = np.linalg.norm(slopes(lambda t, p: nb.pinball(t, p, q=q), X, Y, W, b))
        assert length < 1.3


def test_a_partial_trains_and_a_named_function_can_be_saved(nb, tmp_path):
    from functools import partial

    def pinball_90(y_true, y_pred):
        return nb.pinball(y_true, y_pred, q=0.9)

    for loss, saves in [(partial(nb.pinball, q=0.9), False), (pinball_90, True)]:
        model = dense_line()
        model.compile(SGD(0.1), loss)
        model.fit(X, Y, verbose=0)
        try:
            model.save(tmp_path / "line.keras")
            assert saves
        except TypeError:
            assert not saves


# Between gradient and update.


def test_means_of_unequal_batches_are_another_mean():
    cuts = np.split(np.arange(len(X)), [50, 100, 150])
    mean = slopes(lambda t, p: tf.reduce_mean((p - t) ** 2), X, Y)
    parts = [slopes(lambda t, p: tf.reduce_mean((p - t) ** 2), X[rows], Y[rows]) for rows in cuts]
    assert np.max(np.abs(np.mean(parts, axis=0) / mean - 1)) > 0.01
    weighted = np.average(parts, axis=0, weights=[len(rows) for rows in cuts])
    np.testing.assert_allclose(weighted, mean, rtol=1e-4)


def test_fit_weights_its_batches_by_their_rows():
    """At a rate of 0 the loss that `fit` reports is that of all rows, with an uneven last batch."""
    model = dense_line()
    model.compile(SGD(0.0), "mse")
    log = model.fit(X, Y, batch_size=50, verbose=0).history["loss"][0]
    assert log == pytest.approx(np.mean(Y**2), rel=1e-5)


def test_a_skip_can_stand_in_a_graph():
    """`tf.cond` leaves out the update of the batch that has nan in it."""
    W, sgd = tf.Variable([[0.0]]), SGD(0.1)
    sgd.build([W])

    @tf.function
    def step(X, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(X @ W - y))
        (dW,) = tape.gradient(loss, [W])

        def update():
            sgd.apply([dW], [W])
            return True

        return tf.cond(tf.math.is_finite(tf.norm(dW)), update, lambda: False)

    assert [bool(step(X, factor * Y)) for factor in (1.0, np.nan, 1.0)] == [True, False, True]
    assert W.numpy().item() == pytest.approx((1 - 0.8**2) * np.mean(X * Y), rel=1e-4)


def test_a_row_in_the_middle_hardly_pulls_on_W(nb):
    y = Y.copy()
    middle = np.argmin(np.abs(X))
    y[middle] += 200
    W, b = np.polyfit(X[:, 0], Y[:, 0], 1)
    pulls_W, pulls_b = (np.ravel(pull) for pull in pulls_of(nb, X, y, W, b))
    assert abs(pulls_W[middle]) < 0.1 * abs(pulls_b[middle])
    assert abs(pulls_b[middle]) == np.max(np.abs(pulls_b))


@pytest.mark.parametrize(("x", "near"), [(0.0, True), (30.0, False)])
def test_half_a_pull_is_the_way_without_a_row_unless_it_is_far_out(nb, x, near):
    """The exact factor is 1 / (1 - h), where h is the row's leverage."""
    rows_x, rows_y = np.vstack([X, [[x]]]), np.vstack([Y, [[500.0]]])
    mean, std = rows_x.mean(), rows_x.std()
    rows_x = (rows_x - mean) / std
    W, b = np.polyfit(rows_x[:, 0], rows_y[:, 0], 1)
    without = np.polyfit(rows_x[:-1, 0], rows_y[:-1, 0], 1)
    _, pulls_b = pulls_of(nb, rows_x, rows_y, W, b)
    ratio = (without[1] - b) / (-np.ravel(pulls_b)[-1] / 2)
    assert (abs(ratio - 1) < 0.05) == near


def test_newton_may_go_the_wrong_way_where_the_loss_is_no_bowl():
    x = 0.5
    newton = x - (-math.sin(x)) / (-math.cos(x))
    assert math.cos(newton) > math.cos(x)


# Mini-batches.


def test_a_few_dozen_rows_show_nearly_the_same_way():
    rng, whole = np.random.default_rng(0), np.array([np.mean(X * Y), np.mean(Y)])
    for size in rng.integers(24, 49, size=200):
        rows = rng.choice(len(X), size, replace=False)
        part = np.array([np.mean(X[rows] * Y[rows]), np.mean(Y[rows])])
        assert part @ whole / np.linalg.norm(part) / np.linalg.norm(whole) > 0.75


def test_a_buffer_is_filled_from_the_front_and_drawn_anew():
    rows = tf.data.Dataset.range(1000).shuffle(10, seed=0)
    drawn = np.array(list(rows.as_numpy_iterator()))
    assert np.max(drawn - np.arange(1000)) <= 9
    whole = tf.data.Dataset.range(100).shuffle(100)
    first, second = (list(whole.as_numpy_iterator()) for _ in range(2))
    assert first != second and sorted(first) == sorted(second) == list(range(100))


def test_drop_remainder_leaves_the_short_batch_out():
    batches = tf.data.Dataset.range(160).batch(50, drop_remainder=True)
    assert [len(batch) for batch in batches] == [50, 50, 50]


# Stop, save and resume.


@pytest.mark.parametrize(("options", "kept"), [({}, 6), ({"restore_best_weights": True}, 1)])
def test_early_stopping_on_the_wrong_side_keeps_the_first_or_the_last(options, kept):
    """mode="max" takes the first epoch of a falling loss for the best."""
    stop = tf.keras.callbacks.EarlyStopping("loss", mode="max", patience=5, **options)
    model = dense_line()
    model.compile(SGD(0.1), "mse")
    log = model.fit(X, Y, batch_size=len(X), epochs=20, verbose=0, callbacks=[stop])
    assert len(log.history["loss"]) == 6
    W = (1 - 0.8**kept) * np.mean(X * Y)
    assert model.get_weights()[0][0, 0] == pytest.approx(W, rel=1e-4)


@pytest.mark.parametrize("restored", [False, True])
def test_a_schedule_needs_the_count_of_updates(nb, restored):
    schedule = tf.keras.optimizers.schedules.InverseTimeDecay(0.1, 2, 1.0)
    runs = []
    for broken in (False, True):
        W, sgd = tf.Variable([[0.0]]), SGD(schedule)
        sgd.build([W])
        for t in range(6):
            if broken and t == 3:
                before, sgd = sgd, SGD(schedule)
                sgd.build([W])
                if restored:
                    sgd.iterations.assign(before.iterations)
            sgd.apply([2 * (X.T @ (X @ W - Y)) / len(X)], [W])
        runs.append(W.numpy().item())
    assert (runs[0] == runs[1]) == restored


def test_an_optimizer_makes_its_memory_when_it_sees_the_variables():
    momentum = SGD(0.1, momentum=0.9)
    before = len(momentum.variables)
    momentum.build([tf.Variable(0.0), tf.Variable(0.0)])
    assert len(momentum.variables) == before + 2


def test_a_saved_module_keeps_no_other_python(tmp_path):
    module = tf.Module()
    module.predict = tf.function(lambda X: 2 * X, input_signature=[tf.TensorSpec((None, 1))])
    module.word, module.double = "told", lambda x: 2 * x
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    for rows in (1, 3, 7):
        assert np.all(loaded.predict(tf.ones((rows, 1))).numpy() == 2)
    assert not hasattr(loaded, "double") and getattr(loaded, "word", None) != "told"


# Make it fast.


def test_a_graph_is_traced_for_each_shape_and_type():
    traced = []

    @tf.function(autograph=False)
    def double(x):
        traced.append(x)
        return x + x

    for n in (1, 2, 3, 2, 1):
        double(tf.zeros(n))
    assert len(traced) == 3
    double(tf.zeros(3, "float64"))
    assert len(traced) == 4


def test_a_graph_reads_the_rate_anew_and_numbers_from_outside_once():
    W, sgd, outside = tf.Variable([[0.0]]), SGD(0.0), {"factor": 1.0}
    sgd.build([W])

    @tf.function(autograph=False)
    def step():
        sgd.apply([tf.ones((1, 1))], [W])
        return tf.constant(2.0) * outside["factor"]

    assert step() == 2 and W.numpy() == 0
    sgd.learning_rate, outside["factor"] = 0.5, 7.0
    assert step() == 2 and W.numpy() == -0.5
    assert step.experimental_get_tracing_count() == 1


def test_a_python_list_is_filled_only_while_tracing():
    kept = []

    @tf.function
    def loop():
        for t in tf.range(4):
            kept.append(t + 0)
        return tf.constant(0)

    loop()
    loop()
    assert len(kept) == 1 and not hasattr(kept[0], "numpy")


def test_another_number_of_rows_epochs_or_a_batch_size_is_compiled_anew(nb):
    loop, _ = nb.compiled_loop(nb.train_step, nb.mse, nb.predict, 1, "float32")
    begun = loop.experimental_get_tracing_count()
    asked = [(50, 4, None), (50, 4, None), (50, 5, None), (40, 5, None), (40, 5, 8), (40, 5, 10)]
    counts = []
    for n, epochs, size in asked:
        rows, y = normalized(n=n, dtype="float32")
        nb.train_compiled(rows, y, epochs, batch_size=size)
        counts.append(loop.experimental_get_tracing_count() - begun)
    assert counts == [1, 1, 2, 3, 4, 5]
    nb.train_compiled(rows, y, epochs, 0.05, batch_size=size)
    assert loop.experimental_get_tracing_count() - begun == 5


def test_a_lambda_made_anew_is_compiled_anew(nb):
    rows, y = normalized(dtype="float32")
    begun = nb.compiled_loop.cache_info().misses

    def named(y_true, y_pred):
        return tf.reduce_mean(tf.abs(y_pred - y_true))

    for _ in range(2):
        nb.train_compiled(rows, y, 1, 0.1, named)
        nb.train_compiled(rows, y, 1, 0.1, lambda t, p: tf.reduce_mean(tf.abs(p - t)))
    assert nb.compiled_loop.cache_info().misses - begun == 3


def test_a_tf_function_keeps_every_graph_of_a_python_number():
    @tf.function(autograph=False)
    def scale(x, factor):
        return x * factor

    for factor in range(10):
        scale(tf.zeros(1), factor + 0.5)
    gc.collect()
    assert scale.experimental_get_tracing_count() == 10


# A bigger model, several machines, and the summary.


def test_the_keras_network_is_the_same_model(nb):
    rng = np.random.default_rng(0)
    shapes = [(1, 16), (16,), (16, 1), (1,)]
    weights = [rng.normal(size=shape).astype("float32") for shape in shapes]
    layers = tf.keras.layers
    model = tf.keras.Sequential([tf.keras.Input((1,)), layers.Dense(16, "tanh"), layers.Dense(1)])
    model.set_weights(weights)
    np.testing.assert_allclose(model(X), nb.mlp(X, *weights), rtol=1e-4, atol=1e-5)


def test_the_standard_error_of_a_weight():
    rng = np.random.default_rng(0)
    many = rng.normal(size=(2000, 20))
    many = (many - many.mean(axis=0)) / many.std(axis=0)
    errors = np.sqrt(np.diag(np.linalg.inv(many.T @ many)))
    np.testing.assert_allclose(errors, 1 / np.sqrt(2000), rtol=0.02)


@pytest.mark.parametrize(("rate", "factor"), [(0.25, 0.5), (0.5, 0.0), (1.0, -1.0)])
def test_the_rates_of_the_summary(nb, rate, factor):
    _, _, history = nb.train(X, Y, 1, rate)
    best = np.mean(X * Y)
    assert history["W"][1] - best == pytest.approx(-factor * best, abs=1e-4 * float(best))


def test_descent_on_raw_x_would_need_tens_of_thousands_of_updates():
    """From the eigenvalues of the MSE's second derivatives, at the largest stable rate."""
    columns = np.hstack([X_RAW, np.ones_like(X_RAW)])
    small, large = np.linalg.eigvalsh(2 * columns.T @ columns / len(columns))
    assert math.log(1e-4) / math.log(1 - small / large) > 10_000


# Several devices: two that TensorFlow makes of one processor, in a process of their own.

TWO_DEVICES = """
import sys
import warnings
import numpy as np
import tensorflow as tf
processor = tf.config.list_physical_devices("CPU")[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(processor, two)
X = np.array([[-1.0], [1.0], [-1.0], [1.0]], "float32")
y = 3 * X
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

def fit(**options):
    with strategy.scope():
        layers = [tf.keras.Input((1,)), tf.keras.layers.Dense(1, kernel_initializer="zeros")]
        model = tf.keras.Sequential(layers)
        model.compile(tf.keras.optimizers.SGD(0.1, **options), "mse")
    model.fit(X, y, batch_size=4, shuffle=False, verbose=0)
    return model.get_weights()[0].item()

def by_hand(update):
    with strategy.scope():
        W = tf.Variable([[0.0]])
        optimizer = tf.keras.optimizers.SGD(0.1)
        optimizer.build([W])

    @tf.function
    def step():
        def part():
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            gradient = tf.reshape(tf.cast(number, "float32") + 1, (1, 1))
            if update == "apply":
                optimizer.apply([gradient], [W])
            else:
                W.assign_sub(0.1 * gradient)
        strategy.run(part)
    step()
    return [copy.numpy().item() for copy in strategy.experimental_local_results(W)]
"""


def on_two_devices(source):
    """What a script prints that goes on from TWO_DEVICES."""
    said = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES + source],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert said.returncode == 0, said.stderr[-2000:]
    return said.stdout.split()


def test_each_device_clips_its_own_gradient_and_none_accumulates():
    """The gradient for W is -6 on each, for b 0: clipped once W moves by 0.1, twice by 0.2."""
    one_clip, two_clips, error = on_two_devices(
        "print(0.1)\n"
        "print(fit(global_clipnorm=1.0))\n"
        "try:\n"
        "    fit(gradient_accumulation_steps=2)\n"
        "except RuntimeError:\n"
        "    print('RuntimeError')\n"
    )
    assert float(two_clips) == pytest.approx(2 * float(one_clip)) and error == "RuntimeError"


def test_apply_adds_up_over_devices_and_assign_sub_lets_copies_drift():
    said = on_two_devices("print(*by_hand('apply'), *by_hand('assign_sub'))\n")
    np.testing.assert_allclose([float(word) for word in said], [-0.3, -0.3, -0.1, -0.2], rtol=1e-5)


def test_on_two_devices_a_single_number_doubles_the_update_and_one_for_each_row_does_not():
    """And OwnStep's log is then half the loss."""
    source = python_of(CELLS["own-step"])
    said = on_two_devices(
        source
        + """

def squares(y_true, y_pred):
    return tf.square(y_pred - y_true)

def mean(y_true, y_pred):
    return tf.reduce_mean(squares(y_true, y_pred))

for kind in (tf.keras.Sequential, OwnStep):
    for loss_fn in (mean, squares):
        with strategy.scope():
            layers = [tf.keras.Input((1,)), tf.keras.layers.Dense(1, kernel_initializer="zeros")]
            model = kind(layers)
            model.compile(tf.keras.optimizers.SGD(0.1), loss_fn)
        log = model.fit(X, y, batch_size=4, shuffle=False, verbose=0).history
        print(model.get_weights()[0].item(), log["loss"][0])
"""
    )
    W, loss = np.array([float(word) for word in said]).reshape(2, 2, 2).transpose(2, 0, 1)
    np.testing.assert_allclose(W, [[1.2, 0.6], [1.2, 0.6]], rtol=1e-5)
    assert loss[0, 1] == pytest.approx(9) and loss[1, 1] == pytest.approx(4.5)


def test_a_single_number_applies_the_weights_wrongly():
    """Rows of weight 0 go on counting."""

    def squares(y_true, y_pred):
        return tf.square(y_pred - y_true)

    def mean(y_true, y_pred):
        return tf.reduce_mean(squares(y_true, y_pred))

    y = np.where(np.arange(160)[:, None] % 20, Y, Y + 200).astype("float32")
    weights = np.where(np.arange(160) % 20, 1.0, 0.0).astype("float32")
    good = weights == 1
    wanted = np.polyfit(X[good, 0], y[good, 0], 1)
    found = {}
    for loss_fn in (mean, squares):
        model = dense_line()
        model.compile(SGD(0.2), loss_fn)
        model.fit(X, y, sample_weight=weights, batch_size=160, epochs=60, verbose=0)
        found[loss_fn] = [values.item() for values in model.get_weights()]
    assert found[squares] == pytest.approx(wanted, rel=1e-3)
    assert found[mean] != pytest.approx(wanted, rel=1e-2)


# One graph for many sizes, functions that are frozen, and optimizers that count batches.


def step_arguments(optimizer=None):
    """W and b at zero, and an optimizer, as `train_step` takes them."""
    return [tf.Variable([[0.0]]), tf.Variable([0.0])], optimizer or SGD(0.0)


def test_a_short_last_batch_is_traced_once_and_many_sizes_twice_at_most(nb):
    variables, stays = step_arguments()
    for options, sizes, traces in (
        ({}, [50, 50, 50, 10] * 5, 2),
        ({}, [10, 20, 30, 40, 7], 5),
        ({"reduce_retracing": True}, [10, 20, 30, 40, 7], 2),
    ):
        graph = tf.function(nb.train_step, **options)
        for size in sizes:
            graph(X[:size], Y[:size], variables, stays)
        assert graph.experimental_get_tracing_count() == traces


def test_a_function_read_from_outside_is_frozen_until_the_next_trace(nb):
    """So a shorter batch trains with the new loss, and the others with the old one."""
    variables, stays = step_arguments()
    names = nb.train_step.__globals__
    eager, graph = nb.train_step, tf.function(nb.train_step)
    first = float(graph(X, Y, variables, stays))
    old = names["mse"]
    names["mse"] = lambda y_true, y_pred: old(y_true, y_pred) + 1000
    try:
        assert float(graph(X, Y, variables, stays)) == pytest.approx(first)
        assert float(eager(X, Y, variables, stays)) == pytest.approx(first + 1000)
        shorter = float(old(Y[:10], 0 * Y[:10])) + 1000
        assert float(graph(X[:10], Y[:10], variables, stays)) == pytest.approx(shorter)
    finally:
        names["mse"] = old


def test_an_array_read_from_outside_is_frozen_too():
    outside = {"rows": np.ones(3, "float32")}
    graph = tf.function(lambda: tf.reduce_sum(outside["rows"]))
    assert float(graph()) == 3
    outside["rows"] = np.zeros(3, "float32")
    assert float(graph()) == 3


def test_a_print_speaks_once_for_each_trace(capsys):
    def speaks(x):
        print("traced")
        return 2 * x

    graph = tf.function(speaks, autograph=False)
    for x in (tf.zeros(1), tf.zeros(1), tf.zeros(2), tf.zeros(2)):
        graph(x)
    assert capsys.readouterr().out.split() == ["traced", "traced"]


def test_another_optimizer_is_another_trace_and_adam_is_bound_to_the_first(nb):
    variables, sgd = step_arguments(SGD(0.1))
    graph = tf.function(nb.train_step)
    graph(X, Y, variables, sgd)
    graph(X, Y, variables, SGD(0.2))
    assert graph.experimental_get_tracing_count() == 2

    adam = tf.keras.optimizers.Adam
    graph = tf.function(nb.train_step)
    graph(X, Y, variables, adam(0.1))
    with pytest.raises(ValueError):
        graph(X, Y, variables, adam(0.2))

    graph = tf.function(nb.train_step)
    for optimizer in (adam(0.1), adam(0.2)):
        optimizer.build(variables)
        graph(X, Y, variables, optimizer)


def test_a_schedule_cannot_be_set():
    optimizer = SGD(tf.keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5))
    with pytest.raises(TypeError, match="not settable"):
        optimizer.learning_rate = 0.01


def test_an_if_on_a_tensor_is_converted_in_a_tf_function_and_not_under_fit():
    def smaller(x):
        if x > 1:
            x = x / 2
        return x

    assert float(tf.function(smaller)(tf.constant(4.0))) == 2

    class Asks(tf.keras.Sequential):
        def train_step(self, data):
            return {"loss": smaller(tf.reduce_mean(data[1]))}

    model = Asks([tf.keras.layers.Dense(1)])
    model.compile("sgd")
    with pytest.raises(Exception, match="as a Python `bool`"):
        model.fit(X, Y, verbose=0)


def test_early_stopping_begins_anew_when_training_begins_again(tmp_path):
    """And the backup holds nothing of it: its files are the model's and a counter's."""
    stop = tf.keras.callbacks.EarlyStopping("loss", patience=5)
    stop.wait, stop.best_weights = 3, [1]
    stop.on_train_begin()
    assert stop.wait == 0 and stop.best_weights is None
    backup = tf.keras.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)
    model = dense_line()
    model.compile("sgd", "mse")
    model.fit(X, Y, epochs=1, verbose=0, callbacks=[backup, stop])
    files = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert files and all("weights" in name or "metadata" in name for name in files)
    (metadata,) = [path for path in tmp_path.rglob("*metadata*") if path.is_file()]
    assert "epoch" in metadata.read_text() and "wait" not in metadata.read_text()


def test_a_generator_needs_to_go_on_for_ever():
    batches = list(zip(np.split(X, 5), np.split(Y, 5), strict=True))

    def updates_by(rows):
        model, seen = dense_line(), [0]
        model.compile(SGD(0.1), "mse")
        count = tf.keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: seen.append(int(model.optimizer.iterations))
        )
        model.fit(rows, steps_per_epoch=5, epochs=3, callbacks=[count], verbose=0)
        return np.diff(seen).tolist()

    with pytest.warns(UserWarning, match="ran out of data"):
        assert updates_by(batch for batch in batches) != [5, 5, 5]
    assert updates_by(batch for _ in range(99) for batch in batches) == [5, 5, 5]


def test_a_schedule_counts_the_batches_that_are_gathered():
    halving = tf.keras.optimizers.schedules.ExponentialDecay(1.0, 10, 0.5)
    W = tf.Variable(0.0)
    optimizer = SGD(halving, gradient_accumulation_steps=5)
    for _ in range(10):
        optimizer.apply([tf.constant(0.0)], [W])
    assert float(optimizer.learning_rate) == pytest.approx(0.5)


def test_a_saved_own_step_is_loaded_if_its_class_is_handed_over(nb, tmp_path):
    model = nb.OwnStep([tf.keras.Input((1,)), tf.keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "own.keras")
    with pytest.raises(TypeError, match="OwnStep"):
        tf.keras.models.load_model(tmp_path / "own.keras")
    again = tf.keras.models.load_model(
        tmp_path / "own.keras", custom_objects={"OwnStep": nb.OwnStep}
    )
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))


def test_a_saved_loss_of_your_own_is_handed_over_too(nb, tmp_path):
    """Otherwise it is not found, or it is Keras' own of the same name."""

    def my_loss(y_true, y_pred):
        return tf.reduce_mean(tf.abs(y_pred - y_true))

    step = {"OwnStep": nb.OwnStep}
    losses = {}
    for loss_fn in (my_loss, nb.huber):
        model = nb.OwnStep([tf.keras.Input((1,)), tf.keras.layers.Dense(1)])
        model.compile("sgd", loss_fn)
        model.fit(X, Y, verbose=0)
        path = tmp_path / "own.keras"
        model.save(path)
        again = tf.keras.models.load_model(path, custom_objects=step | {loss_fn.__name__: loss_fn})
        losses["mine"] = again.evaluate(X, Y, batch_size=160, verbose=0)
        if loss_fn is nb.huber:
            again = tf.keras.models.load_model(path, custom_objects=step)
            losses["theirs"] = again.evaluate(X, Y, batch_size=160, verbose=0)
            y_pred = again.predict(X, verbose=0)
        else:
            with pytest.raises(TypeError, match="Could not locate"):
                tf.keras.models.load_model(path, custom_objects=step)
    assert losses["mine"] == pytest.approx(float(nb.huber(Y, y_pred)), rel=1e-4)
    keras_huber = np.mean(tf.keras.losses.huber(Y, y_pred))
    assert losses["theirs"] == pytest.approx(keras_huber, rel=1e-4) != losses["mine"]


def test_the_factor_of_a_loss_scale_optimizer_is_halved_and_doubled():
    W, bad, good = tf.Variable(0.0), tf.constant(np.nan), tf.constant(1.0)
    optimizer = tf.keras.optimizers.LossScaleOptimizer(SGD(0.0))
    assert optimizer.dynamic_growth_steps == 2000
    optimizer = tf.keras.optimizers.LossScaleOptimizer(SGD(0.0), dynamic_growth_steps=3)
    factors = []
    for gradient in (good, bad, good, good, good, good):
        optimizer.apply([gradient], [W])
        factors.append(float(optimizer.dynamic_scale))
    assert factors == [32768, 16384, 16384, 16384, 32768, 32768]


def test_a_loss_scale_optimizer_divides_what_nobody_has_multiplied():
    moved = {}
    for scaled in (False, True):
        W = tf.Variable([[0.0]])
        optimizer = tf.keras.optimizers.LossScaleOptimizer(SGD(0.1))
        optimizer.build([W])
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(X @ W - Y))
            loss = optimizer.scale_loss(loss) if scaled else loss
        optimizer.apply(tape.gradient(loss, [W]), [W])
        moved[scaled] = W.numpy().item()
    assert moved[True] == pytest.approx(0.2 * np.mean(X * Y), rel=1e-4)
    assert moved[False] == pytest.approx(moved[True] / 32768, rel=1e-4)


def test_an_epoch_of_steps_goes_on_where_the_last_one_stopped():
    """Five batches, three to an epoch: with the message 3, 2, 3 and 2, and after repeat 3 each."""
    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).batch(32)
    for data, updates in ((dataset, [3, 5, 8, 10]), (dataset.repeat(), [3, 6, 9, 12])):
        model = dense_line()
        model.compile(SGD(0.1), "mse")
        seen = []
        count = tf.keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: seen.append(int(model.optimizer.iterations))  # noqa: B023
        )
        with warnings.catch_warnings(record=True) as messages:
            warnings.simplefilter("always")
            model.fit(data, steps_per_epoch=3, epochs=4, callbacks=[count], verbose=0)
        ran_out = ["ran out of data" in str(message.message) for message in messages]
        assert seen == updates and any(ran_out) == (data is dataset)


def test_a_tf_function_that_is_not_traced_yet_takes_the_loss_of_its_first_call(nb):
    W, b, stays = tf.Variable([[0.0]]), tf.Variable([0.0]), SGD(0.0)
    names, graph = nb.train_step.__globals__, tf.function(nb.train_step)
    old = names["mse"]
    names["mse"] = lambda y_true, y_pred: old(y_true, y_pred) + 1000
    try:
        first = float(graph(X, Y, [W, b], stays))
    finally:
        names["mse"] = old
    assert first == pytest.approx(np.mean(Y**2) + 1000, rel=1e-5)


def test_fit_counts_patience_in_epochs():
    model = dense_line()
    model.compile(SGD(0.0), "mse")
    stop = tf.keras.callbacks.EarlyStopping("loss", patience=5)
    log = model.fit(X, Y, batch_size=10, epochs=30, shuffle=False, callbacks=[stop], verbose=0)
    assert len(log.history["loss"]) == 6 and int(model.optimizer.iterations) == 96


def test_a_dataset_that_repeats_never_ends_its_first_epoch_without_steps():
    model = dense_line()
    model.compile(SGD(0.1), "mse")

    def after(batch, logs):
        if batch == 50:  # ten times as many as there are
            raise InterruptedError

    watch = tf.keras.callbacks.LambdaCallback(on_train_batch_end=after)
    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).batch(32).repeat()
    with pytest.raises(InterruptedError):
        model.fit(dataset, epochs=1, callbacks=[watch], verbose=0)
