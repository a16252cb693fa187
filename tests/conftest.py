"""Fixtures shared by the tests: one run of the notebook, and its functions."""

import json
import os
import types

import nbformat
import pytest

from notebook_runner import NOTEBOOK, code_cells, copies, execute, functions, read

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.pop("MPLBACKEND", None)  # kernels must draw inline, as a reader's does

# Run first: a figure that is closed leaves its title, the words of its last axes, and its points.
LOOK = """
import matplotlib.pyplot as plt
looks, close = {}, plt.close
def look(figure):
    last, points = figure.axes[-1], []
    for axes in figure.axes:
        points += [y for line in axes.lines for y in line.get_ydata()]
        points += [y for dots in axes.collections for _, y in dots.get_offsets()]
    points = [y for y in map(float, points) if abs(y) < 1e99]
    words = last.get_xlabel(), last.get_ylabel()
    looks[last.get_title()] = [*words, len(points), sum(points) / max(1, len(points))]
    close(figure)
plt.close = look
"""
PROBE = """
import json
both = ["X_train", "y_train", "X_test", "y_test"]
print(json.dumps({
    "looks": looks,
    "shapes": {name: globals()[name].shape for name in both},
    "dtypes": {name: str(globals()[name].dtype) for name in both},
    "data": {name: globals()[name].ravel().tolist() for name in ["X_all", "y_all", *both]},
    "W": np.asarray(W).tolist(), "b": np.asarray(b).tolist(),
    "variables": [type(W).__name__, type(b).__name__],
}, default=list))
"""
SLOW = ("race-ordinary", "race-full", "machines-run")  # not run a third time


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """One kernel in an empty folder: each cell twice in a row, then all but the slowest backwards.

    `first`, `second` and `back` are the code cells of the three passes by id; `state` is
    what names and figures hold at the end of the second pass; `folder` is where it ran.
    """
    folder = tmp_path_factory.mktemp("run")
    (folder / NOTEBOOK.name).write_bytes(NOTEBOOK.read_bytes())
    once, new_cell = code_cells(read()), nbformat.v4.new_code_cell
    again = [cell for cell in once if cell.id not in SLOW]
    passes = [copies(once, "first"), copies(once, "second"), copies(again[::-1], "back")]
    twice = [cell for pair in zip(*passes[:2], strict=True) for cell in pair]
    probe = new_cell(PROBE, id="probe")
    cells = [new_cell(LOOK, id="look"), *twice, probe, *passes[2]]
    execute(nbformat.v4.new_notebook(cells=cells, metadata=read().metadata), folder)
    first, second, back = ({cell.id.partition("-")[2]: cell for cell in cells} for cells in passes)
    state = json.loads(probe.outputs[0].text)
    return types.SimpleNamespace(first=first, second=second, back=back, state=state, folder=folder)


@pytest.fixture(scope="session")
def nb():
    """The notebook's own functions, classes and constants, without a run of its cells."""
    return functions(read())


@pytest.fixture(scope="session")
def nb_part_1():
    """The same of Part 1 alone, whose train_step and train Part 4 writes once more."""
    return functions(read(), before="part2")


def pytest_unconfigure(config):
    """After everything else, say that browser tests were skipped, if they were."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    count = sum("test_browser" in report.nodeid for report in skipped)
    if count:
        reporter.write_line(f"{count} browser tests were skipped: there is no Chromium here")
