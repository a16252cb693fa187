"""Time the ways to train a line on this machine: .venv/bin/python tests/benchmark.py

Runs the whole notebook in a fresh kernel and prints its time and its peak memory. Then it widens
the race of Part 4: an epoch of shuffled batches of 32, and updates on all of more and more rows.
To the notebook's five ways it adds `fit` at its best, from a `Dataset` with many steps a call, and
JAX's `scan` where JAX is installed. Nobody's compiler options are set, and nothing is asserted of
a time. To see options at work, set XLA_FLAGS before you start it.
"""

import importlib.util
import os
import pathlib
import platform
import sys
import tempfile
import time
import timeit

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # as the notebook does

import numpy as np

from notebook_runner import code_cells, execute, functions, read


def best_fit_form(tf):
    """A form of `fit` at its best: rows from a `Dataset`, all updates in one call and one epoch."""

    def form(X, y, size, updates):
        order = np.random.default_rng(0).permutation(len(X))  # shuffled once
        parts = X[order].reshape(-1, size, 1), y[order].reshape(-1, size, 1)
        data = tf.data.Dataset.from_tensor_slices(parts).repeat()
        line = tf.keras.Sequential([tf.keras.layers.Dense(1, kernel_initializer="zeros")])
        line.compile(tf.keras.optimizers.SGD(0.1), "mse", steps_per_execution=updates)

        def run():
            line.fit(data, steps_per_epoch=updates, shuffle=False, verbose=0)
            return line.get_weights()[0]

        return run

    return form


def jax_form():
    """A form of JAX's `scan`, which gathers its batches once an epoch and keeps a history."""
    import jax
    import jax.numpy as jnp

    def loss(line, X, y):
        return jnp.mean((X @ line[0] + line[1] - y) ** 2)

    def step(line, batch):
        value, gradients = jax.value_and_grad(loss)(line, *batch)
        moved = [
            variable - 0.1 * gradient for variable, gradient in zip(line, gradients, strict=True)
        ]
        return moved, (value, moved)

    @jax.jit
    def all_rows(X, y, count):
        return jax.lax.scan(lambda line, _: step(line, (X, y)), start(), count)[1]

    @jax.jit
    def batches(X, y, orders):
        def epoch(line, order):
            parts = X[order].reshape(-1, 32, 1), y[order].reshape(-1, 32, 1)
            moved, _ = jax.lax.scan(lambda line, part: (step(line, part)[0], None), line, parts)
            return moved, (loss(line, X, y), moved)

        return jax.lax.scan(epoch, start(), orders)[1]

    def start():
        return [jnp.zeros((1, 1)), jnp.zeros(1)]

    def form(X, y, size, updates):
        def run():
            if size == len(X):
                losses, path = all_rows(X, y, jnp.arange(updates))
            else:
                rng, epochs = np.random.default_rng(0), updates * size // len(X)
                losses, path = batches(
                    X, y, np.array([rng.permutation(len(X)) for _ in range(epochs)], "int32")
                )
            np.asarray(losses).tolist()
            return np.asarray(path[0])[-1]

        return run

    return form


def race(nb, name, form, n, size, updates, calls):
    """Print the time of an epoch and of an update, and what the first call takes on top."""
    run = form(*nb.race_rows(n), size, updates)
    milliseconds = 1000 * np.array(timeit.repeat(run, number=1, repeat=calls + 1))
    later = np.median(milliseconds[1:])
    an_update = 1000 * later / updates
    an_epoch = later / updates * (n // size)
    print(
        f"  {name:18}{an_epoch:14,.2f}{an_update:18,.2f}{max(0, milliseconds[0] - later):16.0f}",
        flush=True,
    )


def updates_of(name, n, size):
    """How many updates one call makes: enough to time, few enough to wait for."""
    an_epoch = n // size
    if an_epoch > 1 and name.startswith(("train_compiled", "JAX")):
        return 20 * an_epoch
    if an_epoch > 1:
        return an_epoch
    most = 20 if name in ("fit", "eager loop", "tf.function") else 10_000
    return max(4, min(most, 16_000_000 // n))


def run_all():
    """Print the time and the peak memory of the whole notebook in a fresh kernel."""
    begin, committed = time.perf_counter(), read()
    with tempfile.TemporaryDirectory() as folder:
        execute(committed, pathlib.Path(folder))
    words = f"Run All: {len(code_cells(committed))} cells, {time.perf_counter() - begin:.0f} s"
    if importlib.util.find_spec("resource"):  # not on Windows
        import resource

        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        words += f", peak {peak / (2**20 if sys.platform == 'darwin' else 2**10):,.0f} MB"
    print(words)


def main(sizes=(100, 1000, 10_000, 100_000, 1_000_000), batches=625, calls=5, whole=True):
    """Print time and memory of Run All if `whole`, then a table for batches and for each size."""
    if whole:  # first: the peak is that of the largest child so far
        run_all()
    nb = functions(read())
    nb.tf.get_logger().setLevel("ERROR")  # it traces anew for every number of rows
    forms = {name: form for name, form, _ in nb.FORMS} | {"fit at its best": best_fit_form(nb.tf)}
    if importlib.util.find_spec("jax"):
        import jax

        forms[f"JAX {jax.__version__}"] = jax_form()
    else:
        print("JAX is not installed here: pip install jax, to see it beside")
    machine = platform.processor() or platform.machine()
    print(f"{machine}, {os.cpu_count()} processors; median of {calls} calls")
    for n, size in [(32 * batches, 32), *((n, n) for n in sizes)]:
        print(f"\n{n:,} rows, {size:,} to an update")
        print(f"  {'':18}{'ms an epoch':>14}{'µs an update':>18}{'first adds, ms':>16}")
        for name, form in forms.items():
            race(nb, name, form, n, size, updates_of(name, n, size), calls)


if __name__ == "__main__":
    main()
