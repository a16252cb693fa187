"""Fixtures shared by the tests: the committed notebook, a fresh run, its functions."""

import json
import os
import types

import nbformat
import pytest
from notebook_runner import NOTEBOOK, definitions, execute, read

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
os.environ.pop("MPLBACKEND", None)  # kernels must draw inline, as a reader's does
os.environ.pop("XLA_FLAGS", None)  # the notebook gives its own

# Run after the last cell: what the names that DESIGN promises hold by then.
PROBE = """
import json
graph, *_ = loop_graph(1, "float32", 100, mse, xla_works(), train_step, predict)
rows = tf.constant(X_train_norm), tf.constant(y_train)
compiled_to = graph.experimental_get_compiler_ir(*rows) if xla_works() else lambda stage: ""
print(json.dumps({
    "said": said,
    "one_function": "xla_cpu_small_call" in compiled_to(stage="optimized_hlo"),
    "shapes": {n: globals()[n].shape for n in ["X_train", "y_train", "X_test", "y_test"]},
    "dtypes": {n: str(globals()[n].dtype) for n in ["X_train", "y_train", "X_test", "y_test"]},
    "rows": np.sort(np.vstack([X_train, X_test]).ravel()).tolist(),
    "X_train": X_train.ravel().tolist(), "y_train": y_train.ravel().tolist(),
    "X_test": X_test.ravel().tolist(), "y_test": y_test.ravel().tolist(),
    "W": np.asarray(W).tolist(), "b": np.asarray(b).tolist(),
    "variables": [type(W).__name__, type(b).__name__],
}, default=list))
"""


@pytest.fixture(scope="session")
def committed():
    """The notebook as it is in the repository, outputs included."""
    return read()


@pytest.fixture(scope="session")
def fresh(tmp_path_factory):
    """A fresh run of the notebook alone in an empty folder: notebook, folder, state."""
    folder = tmp_path_factory.mktemp("fresh")
    (folder / NOTEBOOK.name).write_bytes(NOTEBOOK.read_bytes())
    notebook = read()
    notebook.cells.append(nbformat.v4.new_code_cell(PROBE, id="probe"))
    execute(notebook, folder)
    state = json.loads(notebook.cells.pop().outputs[0].text)
    return types.SimpleNamespace(notebook=notebook, folder=folder, state=state)


@pytest.fixture(scope="session")
def nb():
    """The notebook's own functions, classes and constants, without a run of its cells."""
    namespace = {"__name__": "notebook"}
    exec(compile(definitions(read()), "<notebook>", "exec"), namespace)  # noqa: S102
    return types.SimpleNamespace(**namespace)
