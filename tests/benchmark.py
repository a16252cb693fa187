"""Time the forms of the loop on this machine: .venv/bin/python tests/benchmark.py

Runs the whole notebook in a fresh kernel and prints its time and peak memory. Then prints
the two tables of Part 4 (an update on all rows, for 100 to 1,000,000 rows; an epoch of
shuffled batches of 32), and what the notebook's options for XLA buy: `train_compiled` with
and without them, each in a process of its own, because XLA reads them once. JAX's `scan`
runs beside it, also with and without, if JAX is installed. Nothing here is asserted: times
are for people, not for tests.
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
import types
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from notebook_runner import code_cells, definitions, execute, read


def notebook():
    """The notebook's functions, after what it asks of the environment."""
    namespace = {"__name__": "benchmark"}
    exec(definitions(read()), namespace)  # noqa: S102
    nb = types.SimpleNamespace(**namespace)
    nb.tf.get_logger().setLevel("ERROR")  # it traces anew for every number of rows
    return nb


def data(n):
    """The rows of the notebook's race."""
    X, noise = np.random.default_rng(0).standard_normal((2, n, 1), dtype="float32")
    return X, 2 * X + 1 + noise


def updates_for(n):
    """Updates in one call on n rows: enough to time, few enough to wait for."""
    return max(10, min(10_000, 8_000_000 // n))


def best(call, count, calls):
    """Microseconds for each of `count` of the fastest call, after one that compiles."""
    return min(timeit.repeat(call, number=1, repeat=calls + 1)[1:]) / count * 1e6


def time_compiled(sizes, rows, calls):
    """µs an update of `train_compiled` for each size; ms an epoch of batches of 32."""
    nb, times = notebook(), []
    for n in sizes:
        u, arrays = updates_for(n), data(n)
        times.append(best(lambda a=arrays, u=u: nb.train_compiled(*a, u), u, calls))
    arrays = data(rows)
    epochs = lambda: nb.train_compiled(*arrays, 100, batch_size=32)
    return "train_compiled", [*times, best(epochs, 100, calls) / 1000]


def time_jax(sizes, rows, calls):
    """The same for JAX's `scan`, on the same data, with the histories of `train`."""
    import jax
    import jax.numpy as jnp

    def loss(line, X, y):
        return jnp.mean((X @ line[0] + line[1] - y) ** 2)

    def update(line, X, y):
        value, gradients = jax.value_and_grad(loss)(line, X, y)
        return [p - 0.1 * g for p, g in zip(line, gradients, strict=True)], value

    start = [jnp.zeros((1, 1)), jnp.zeros(1)]

    @jax.jit(static_argnums=2)
    def full(X, y, updates):
        def step(line, _):
            moved, value = update(line, X, y)
            return moved, (value, moved)

        return jax.lax.scan(step, start, None, length=updates)[1]

    @jax.jit
    def batched(X, y, orders):
        def epoch(line, order):
            whole = len(order) // 32 * 32
            batches = order[:whole].reshape(-1, 32)
            step = lambda line, i: (update(line, X[i], y[i])[0], None)
            moved, _ = jax.lax.scan(step, line, batches)
            if whole < len(order):
                moved, _ = step(moved, order[whole:])
            return moved, (loss(line, X, y), line)

        return jax.lax.scan(epoch, start, orders)[1]

    def call(function, *arguments):
        losses, path = function(*arguments)
        np.asarray(losses).tolist()
        for variable in path:
            list(np.asarray(variable).squeeze())

    times = []
    for n in sizes:
        u, (X, y) = updates_for(n), map(jnp.asarray, data(n))
        times.append(best(lambda X=X, y=y, u=u: call(full, X, y, u), u, calls))
    X, y = map(jnp.asarray, data(rows))
    rng = np.random.default_rng(0)

    def epochs():
        orders = [rng.permutation(rows) for _ in range(100)]
        call(batched, X, y, np.array(orders, "int32"))

    return f"JAX scan {jax.__version__}", [*times, best(epochs, 100, calls) / 1000]


def alone(function, *arguments, **environment):
    """The result of `function` in a new process with these variables set."""
    fresh = multiprocessing.get_context("spawn")
    with mock.patch.dict(os.environ, environment), fresh.Pool(1) as pool:
        return pool.apply(function, arguments)


def compare_compilers(sizes, rows, calls):
    """Print `train_compiled` and JAX's `scan`, with the notebook's options and without."""
    options = notebook().os.environ["XLA_FLAGS"]
    print(f"\nµs an update, and ms an epoch of {rows:,} rows; best of {calls} calls:")
    heads = [f"n = {n:,}" for n in sizes] + ["epoch"]
    print(f"  {'':20}{'options':16}" + "".join(f"{head:>14}" for head in heads))
    functions = [time_compiled]
    if importlib.util.find_spec("jax"):
        functions.append(time_jax)
    else:
        print("  JAX is not installed here: pip install jax, to see it beside")
    for name, flags in (("the notebook's", options), ("none", "")):
        for function in functions:
            form, times = alone(function, sizes, rows, calls, XLA_FLAGS=flags)
            columns = "".join(f"{number:14,.2f}" for number in times)
            print(f"  {form:20}{name:16}{columns}", flush=True)


def table(title, results, scale):
    """Print the times of the six forms, and their first calls in ms."""
    print(f"\n{title}, first call in ms")
    for name, (first, micros) in results.items():
        print(f"  {name:20}{micros * scale:12,.2f}{first:12,.0f}")


def run_all():
    """Print the time and the peak memory of the whole notebook in a fresh kernel."""
    committed = read()
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        execute(committed, pathlib.Path(folder))
    seconds = time.perf_counter() - begin
    print(f"Run All: {len(code_cells(committed))} cells, {seconds:.0f} s", end="")
    try:
        import resource
    except ImportError:  # Windows
        print()
        return
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(f", peak {peak / (2**20 if sys.platform == 'darwin' else 2**10):,.0f} MB")


def main(sizes=(100, 1000, 10_000, 100_000, 1_000_000), rows=20_000, calls=10, whole=True):
    """Print time and memory of Run All if `whole`, then all tables."""
    if whole:  # first: the peak is that of the largest child so far
        run_all()
    nb = notebook()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors")
    for n in sizes:
        counts = [max(4, min(u, updates_for(n))) for u in (4, 100, 20, 100, 1000, 10_000)]
        table(f"n = {n:,}: µs an update", nb.race(n, n, counts), 1)
    steps = rows // 32
    counts = [steps, steps, min(60, steps), min(200, steps), 10 * steps, 100 * steps]
    results = nb.race(steps * 32, 32, counts)
    table(f"{steps} batches of 32: ms an epoch", results, steps / 1000)
    compare_compilers(sizes, rows, calls)


if __name__ == "__main__":
    main()
