"""Time the forms of the loop on this machine: .venv/bin/python tests/benchmark.py

Runs the whole notebook in a fresh kernel and prints its time and peak memory. Then
prints microseconds per full-batch update of each form in Part 4, for 100 to 1,000,000
rows, and the ratios that Part 4 speaks of. Then `train_compiled` with and without the
options that Setup gives to XLA, each in a process of its own, because XLA reads them
once; JAX's `scan` beside it, also with and without, if JAX is installed.
Nothing here is asserted: times are for people, not for tests.
"""

import importlib.util
import multiprocessing
import os
import pathlib
import platform
import sys
import tempfile
import time
import types
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import numpy as np
from notebook_runner import code_cells, definitions, execute, read

CALLS = 10  # of which the fastest counts


def notebook():
    """The notebook's functions, after what it asks of the environment."""
    namespace = {"__name__": "benchmark"}
    exec(definitions(read()), namespace)  # noqa: S102
    nb = types.SimpleNamespace(**namespace)
    nb.tf.get_logger().setLevel("ERROR")  # it traces anew for every number of rows
    return nb


def updates_for(n):
    """Updates in one call on n rows: enough to time, few enough to wait for."""
    return max(10, min(10_000, 8_000_000 // n))


def best(call, updates):
    """Microseconds an update of the fastest of CALLS calls, after one that compiles."""
    call()
    seconds = []
    for _ in range(CALLS):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return min(seconds) / updates * 1e6


def time_compiled(sizes):
    """Microseconds an update of `train_compiled` for each number of rows, and a name."""
    nb, times = notebook(), []
    for n in sizes:
        X, y = nb.race_data(n)
        call = lambda X=X, y=y, n=n: nb.train_compiled(X, y, updates_for(n))
        times.append(best(call, updates_for(n)))
    return "train_compiled", times


def time_jax(sizes):
    """The same for JAX's `scan`, on the same data and with the history of `train`."""
    import jax
    import jax.numpy as jnp

    def loss(parameters, X, y):
        return jnp.mean((X @ parameters[0] + parameters[1] - y) ** 2)

    @jax.jit(static_argnums=2)
    def loop(X, y, updates):
        def update(parameters, _):
            value, gradients = jax.value_and_grad(loss)(parameters, X, y)
            moved = [p - 0.1 * g for p, g in zip(parameters, gradients, strict=True)]
            return moved, (value, moved)

        start = [jnp.zeros((1, 1)), jnp.zeros(1)]
        return jax.lax.scan(update, start, None, length=updates)

    def call(X, y, updates):
        _, (losses, path) = loop(X, y, updates)
        np.asarray(losses).tolist()
        for variable in path:
            list(np.asarray(variable).squeeze())

    nb, times = notebook(), []
    for n in sizes:
        X, y = map(jnp.asarray, nb.race_data(n))
        run = lambda X=X, y=y, n=n: call(X, y, updates_for(n))
        times.append(best(run, updates_for(n)))
    return f"JAX scan {jax.__version__}", times


def alone(function, sizes, **environment):
    """The result of `function(sizes)` in a new process with these variables set."""
    fresh = multiprocessing.get_context("spawn")
    with mock.patch.dict(os.environ, environment), fresh.Pool(1) as pool:
        return pool.apply(function, (sizes,))


def compare_compilers(sizes):
    """Print `train_compiled` and JAX's `scan`, with Setup's options for XLA and without."""
    options = notebook().os.environ["XLA_FLAGS"]
    print(f"\nµs an update, best of {CALLS} calls in a new process; options for XLA:")
    print(f"  {'':20}{'':8}" + "".join(f"{f'n = {n:,}':>14}" for n in sizes))
    functions = [time_compiled]
    if importlib.util.find_spec("jax"):
        functions.append(time_jax)
    else:
        print("  JAX is not installed here: pip install jax, to see it beside")
    for name, flags in (("Setup's", options), ("none", "")):
        for function in functions:
            form, times = alone(function, sizes, XLA_FLAGS=flags)
            columns = "".join(f"{micros:14,.2f}" for micros in times)
            print(f"  {form:20}{name:8}{columns}", flush=True)


SIZES = (100, 1000, 10_000, 100_000, 1_000_000)


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


def main(sizes=SIZES, whole=True):
    """Print time and memory of Run All if `whole`, then the tables for `sizes` rows."""
    if whole:  # first: the peak is that of the largest child so far
        run_all()
    nb = notebook()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors")
    for n in sizes:
        times, first = nb.race(n)
        xla = list(times.values())[-1]
        print(
            f"\nn = {n:,}: µs an update, that over train_compiled's, first call in ms"
        )
        for name, micros in times.items():
            print(
                f"  {name:20}{micros:12,.1f}{micros / xla:12,.2f}{first[name]:12,.0f}"
            )
    compare_compilers(sizes)


if __name__ == "__main__":
    main()
