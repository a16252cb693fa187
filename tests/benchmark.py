"""Time the forms of the loop on this machine: .venv/bin/python tests/benchmark.py

Runs the whole notebook in a fresh kernel and prints its time and peak memory. Then prints the
race of Part 4 (an update on all rows; an epoch of shuffled batches of 32), and what the notebook's
options for XLA buy: `train_compiled` with and without them, each in a process of its own, because
XLA reads them once, beside JAX's `scan`, if JAX is installed. Nothing is asserted of a time.
"""

import importlib.util
import multiprocessing
import os
import pathlib
import platform
import sys
import tempfile
import time
import timeit
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from notebook_runner import code_cells, execute, functions, read


def notebook():
    """The notebook's functions, after what it asks of the environment."""
    nb = functions(read())
    nb.tf.get_logger().setLevel("ERROR")  # it traces anew for every number of rows
    return nb


def updates_for(n):
    """Updates in one call on n rows: enough to time, few enough to wait for."""
    return max(10, min(10_000, 8_000_000 // n))


def time_all(full, batched, sizes, rows, calls):
    """µs an update of full(X, y, updates) for each size; ms an epoch of batched(X, y)."""

    def best(call, count):  # of the calls after one that compiles
        return min(timeit.repeat(call, number=1, repeat=calls + 1)[1:]) / count * 1e6

    def data(n):  # the rows of the notebook's race
        X, noise = np.random.default_rng(0).standard_normal((2, n, 1), dtype="float32")
        return X, 2 * X + 1 + noise

    inputs = [(*data(n), updates_for(n)) for n in sizes]
    times = [best(lambda i=i: full(*i), i[2]) for i in inputs]
    X, y = data(rows)
    return [*times, best(lambda: batched(X, y), 100) / 1000]


def time_compiled(*arguments):
    """`train_compiled`: an update on all rows, and 100 epochs of batches of 32."""
    train = notebook().train_compiled
    return "train_compiled", time_all(train, lambda X, y: train(X, y, 100, batch_size=32), *arguments)


def time_jax(*arguments):
    """The same for JAX's `scan`, on the same data, with the histories of `train`."""
    import jax
    import jax.numpy as jnp

    def loss(line, X, y):
        return jnp.mean((X @ line[0] + line[1] - y) ** 2)

    def update(line, X, y):
        value, gradients = jax.value_and_grad(loss)(line, X, y)
        return [p - 0.1 * g for p, g in zip(line, gradients, strict=True)], value

    @jax.jit
    def graph(X, y, orders):
        def step(line, rows):
            return update(line, X[rows], y[rows])[0], None

        def epoch(line, order):
            if not order.size:  # all rows at once
                moved, value = update(line, X, y)
                return moved, (value, moved)
            moved, _ = jax.lax.scan(step, line, order.reshape(-1, 32))
            return moved, (loss(line, X, y), line)

        return jax.lax.scan(epoch, [jnp.zeros((1, 1)), jnp.zeros(1)], orders)[1]

    def train(X, y, epochs, batched=False):
        rng, orders = np.random.default_rng(0), np.zeros((epochs, len(X) if batched else 0), "int32")
        for order in orders if batched else []:
            order[:] = rng.permutation(len(X))
        losses, path = graph(X, y, orders)
        return np.asarray(losses).tolist(), [list(np.asarray(p).squeeze()) for p in path]

    times = time_all(train, lambda X, y: train(X, y, 100, batched=True), *arguments)
    return f"JAX scan {jax.__version__}", times


def compare_compilers(sizes, rows, calls):
    """Print `train_compiled` and JAX's `scan`, with the notebook's options and without."""
    print(f"\nµs an update, and ms an epoch of {rows:,} rows; best of {calls} calls:")
    print(f"  {'':20}{'options':16}", *[f"{f'n = {n:,}':>13}" for n in sizes], f"{'epoch':>13}")
    forms = [time_compiled, time_jax][: 2 if importlib.util.find_spec("jax") else 1]
    if len(forms) == 1:
        print("  JAX is not installed here: pip install jax, to see it beside")
    fresh = multiprocessing.get_context("spawn")
    for name, flags in (("the notebook's", notebook().os.environ["XLA_FLAGS"]), ("none", "")):
        for form in forms:
            with mock.patch.dict(os.environ, XLA_FLAGS=flags), fresh.Pool(1) as alone:
                words, times = alone.apply(form, (sizes, rows, calls))
            print(f"  {words:20}{name:16}", *[f"{number:13,.2f}" for number in times], flush=True)


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


def main(sizes=(100, 1000, 10_000, 100_000, 1_000_000), rows=20_000, calls=10, whole=True):
    """Print time and memory of Run All if `whole`, then all tables."""
    if whole:  # first: the peak is that of the largest child so far
        run_all()
    nb, steps = notebook(), rows // 32
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors")
    races = []  # title, unit, and what `race` takes: rows, rows of a batch, updates of each form
    for n in sizes:
        counts = [min(u, updates_for(n)) for u in (10, 100, 20, 100, 1000, 10_000)]
        races.append((f"n = {n:,}: µs an update", 1, n, n, counts))
    counts = [steps, steps, min(60, steps), min(200, steps), 10 * steps, 100 * steps]
    races.append((f"{steps} batches of 32: ms an epoch", steps / 1000, steps * 32, 32, counts))
    for title, unit, *race in races:
        print(f"\n{title}, first call in ms")
        for name, (first, micros) in nb.race(*race).items():
            print(f"  {name:20}{micros * unit:12,.2f}{first:12,.0f}")
    compare_compilers(sizes, rows, calls)


if __name__ == "__main__":
    main()
