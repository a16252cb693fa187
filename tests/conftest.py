"""Fixtures shared by the tests: the committed notebook, one run of it, its functions."""

import json
import os
import types

import nbformat
import pytest

from notebook_runner import NOTEBOOK, code_cells, copies, execute, functions, pictures_of, read

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.pop("MPLBACKEND", None)  # kernels must draw inline, as a reader's does
os.environ.pop("XLA_FLAGS", None)  # the notebook gives its own

# Run after each figure: the title and labels of its last axes, its points, their height.
LOOK = """
import json
def look(figure):
    last, points = figure.axes[-1], []
    for axes in figure.axes:
        points += [line.get_ydata() for line in axes.lines]
        points += [np.asarray(dots.get_offsets())[:, 1] for dots in axes.collections]
    points = np.concatenate([np.zeros(0), *points])
    points = points[np.isfinite(points)]
    words = last.get_title("left"), last.get_xlabel(), last.get_ylabel()
    print(json.dumps([*words, len(points), points.sum() / max(1, len(points))]))
"""
# Run after the last cell: what the names that DESIGN promises hold by then.
PROBE = """
import json
probe, _ = loop_graph(train_step, mse, 1, "float32", None)
rows = tf.constant(X_train_norm), tf.constant(y_train), tf.zeros((101, 0), "int32")
program = probe.experimental_get_compiler_ir(*rows)(stage="optimized_hlo")
both = ["X_train", "y_train", "X_test", "y_test"]
print(json.dumps({
    "one_function": XLA and "xla_cpu_small_call" in program,
    "shapes": {name: globals()[name].shape for name in both},
    "dtypes": {name: str(globals()[name].dtype) for name in both},
    "data": {name: globals()[name].ravel().tolist() for name in ["X", "y", *both]},
    "W": np.asarray(W).tolist(), "b": np.asarray(b).tolist(),
    "variables": [type(W).__name__, type(b).__name__],
}, default=list))
"""


@pytest.fixture(scope="session")
def committed():
    """The notebook as it is in the repository, outputs included."""
    return read()


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """One kernel in an empty folder: each cell twice in a row, then all but two from last to first.

    `first`, `second` and `back` are the code cells of the three passes by id; `state` is
    what the names hold at the end of the second pass; `figures` is what the figures hold;
    `folder` is where it ran.
    """
    folder = tmp_path_factory.mktemp("run")
    (folder / NOTEBOOK.name).write_bytes(NOTEBOOK.read_bytes())
    once, new_cell = code_cells(read()), nbformat.v4.new_code_cell
    probe, cells, figures = new_cell(PROBE, id="probe"), [new_cell(LOOK, id="look")], {}
    again = [cell for cell in once if cell.id not in ("race-tables", "machines-say")]  # slow
    passes = [copies(once, "first"), copies(once, "second"), copies(again[::-1], "back")]
    for cell, twin in zip(*passes[:2], strict=True):
        cells += [cell, twin]
        if pictures_of(cell):  # the committed outputs, so far
            figure = "right" if "right" in cell.source else "ax"
            figures[twin.id[7:]] = new_cell(f"look({figure}.figure)", id=f"of-{twin.id}")
            cells.append(figures[twin.id[7:]])
    cells += [probe, *passes[2]]
    execute(nbformat.v4.new_notebook(cells=cells, metadata=read().metadata), folder)
    first, second, back = ({cell.id.partition("-")[2]: cell for cell in cells} for cells in passes)
    state = json.loads(probe.outputs[0].text)
    looks = {name: json.loads(cell.outputs[0].text) for name, cell in figures.items()}
    return types.SimpleNamespace(
        first=first, second=second, back=back, state=state, figures=looks, folder=folder
    )


@pytest.fixture(scope="session")
def nb():
    """The notebook's own functions, classes and constants, without a run of its cells."""
    return functions(read())
