"""Time the forms of the loop on this machine: .venv/bin/python tests/benchmark.py

Prints microseconds per full-batch update of each form in Part 4, for 100 to 1,000,000
rows, and the ratios that Part 4 speaks of; JAX's `scan` beside them if JAX is installed.
Then runs the whole notebook in a fresh kernel and prints its time and peak memory.
Nothing here is asserted: times are for people, not for tests.
"""

import os
import pathlib
import platform
import resource
import tempfile
import time
import types

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import numpy as np
from notebook_runner import code_cells, definitions, execute, read


def jax_microseconds(X, y, updates):
    """Time of one update of the same loop as a JAX scan, with the history of `train`."""
    import jax
    import jax.numpy as jnp

    def loss(parameters, X, y):
        return jnp.mean((X @ parameters[0] + parameters[1] - y) ** 2)

    @jax.jit
    def loop(X, y):
        def update(parameters, _):
            value, gradients = jax.value_and_grad(loss)(parameters, X, y)
            moved = [p - 0.1 * g for p, g in zip(parameters, gradients, strict=True)]
            return moved, (value, moved)

        start = [jnp.zeros((1, 1)), jnp.zeros(1)]
        return jax.lax.scan(update, start, None, length=updates)

    X, y = jnp.asarray(X), jnp.asarray(y)
    jax.block_until_ready(loop(X, y))
    seconds = []
    for _ in range(2):
        begin = time.perf_counter()
        _, (losses, path) = loop(X, y)
        np.asarray(losses).tolist()
        for variable in path:
            list(np.asarray(variable).squeeze())
        seconds.append(time.perf_counter() - begin)
    return min(seconds) / updates * 1e6


SIZES = (100, 1000, 10_000, 100_000, 1_000_000)


def main(sizes=SIZES, run_all=True):
    """Print the tables for `sizes` rows, and the time and memory of Run All."""
    namespace = {"__name__": "benchmark"}
    exec(definitions(read()), namespace)  # noqa: S102
    nb = types.SimpleNamespace(**namespace)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors")
    for n in sizes:
        times, first = nb.race(n)
        try:
            updates = max(4, min(10_000, 10_000_000 // n))
            times["JAX scan"] = jax_microseconds(*nb.race_data(n), updates)
        except ImportError:
            pass
        xla = times["the same, XLA"]
        print(
            f"\nn = {n:,}: µs an update, that over train_compiled's, first call in ms"
        )
        for name, micros in times.items():
            compiling = f"{first[name]:12,.0f}" if name in first else ""
            print(f"  {name:20}{micros:12,.1f}{micros / xla:12,.2f}{compiling}")

    if not run_all:
        return
    notebook = read()
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        execute(notebook, pathlib.Path(folder))
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(
        f"\nRun All: {len(code_cells(notebook))} cells, {seconds:.0f} s, peak {peak:,.0f} MB"
    )


if __name__ == "__main__":
    main()
