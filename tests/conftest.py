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

# Run after the last cell: what the names that DESIGN promises hold by then.
PROBE = """
import json
print(json.dumps({
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
