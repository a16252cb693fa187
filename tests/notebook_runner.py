"""Read and execute the notebook: used by the tests, the benchmark and refresh.py."""

import ast
import base64
import copy
import io
import linecache
import pathlib
import re
import types

import nbformat
import numpy as np
from nbclient import NotebookClient
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "linear_regression_training_loops.ipynb"
LANGUAGE_INFO = ("name", "pygments_lexer", "file_extension", "mimetype")
DRAWN_BY = "3.11.2"  # the Matplotlib that drew the committed figures; refresh.py takes no other


def read():
    """Return the notebook as a version-4 node."""
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells(notebook):
    """Return the code cells of `notebook`, in order."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def copies(cells, name):
    """Return copies of `cells` whose ids begin with `name`, to run them once more."""
    again = copy.deepcopy(cells)
    for cell in again:
        cell.id = f"{name}-{cell.id}"
    return again


def execute(notebook, folder):
    """Run `notebook` in a fresh kernel in `folder`; its outputs are replaced, its metadata stays minimal.

    Raises nbclient's CellExecutionError at the first failing cell.
    """
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    options = {"timeout": 900, "kernel_name": "python3", "record_timing": False}
    NotebookClient(notebook, **options, resources={"metadata": {"path": str(folder)}}).execute()
    for cell in code_cells(notebook):
        cell.outputs = join_streams(cell.outputs)
    info = notebook.metadata.language_info
    notebook.metadata.language_info = {key: info[key] for key in LANGUAGE_INFO}
    return notebook


def join_streams(outputs):
    """Join neighbouring pieces of one stream: where a kernel cuts them is chance."""
    joined = []
    for output in outputs:
        last = joined[-1] if joined else {}
        if output.output_type == "stream" and output.name == last.get("name"):
            last.text += output.text
        else:
            joined.append(output)
    return joined


def wanted(node):
    """Is this statement an import, a definition, a CONSTANT, or about stderr and the environment?"""
    if isinstance(node, ast.Assign):  # CONSTANTS, but not X, A or X64
        stored = [p for p in ast.walk(node) if isinstance(p, ast.Name) and isinstance(p.ctx, ast.Store)]
        names = {name.id for name in stored}
        return names == {"stderr"} or "".join(names).isupper() and not names & {"X", "A", "X64"}
    kinds = ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom
    return isinstance(node, kinds) or re.search(r"os\.environ|^\s+import ", ast.unparse(node), re.MULTILINE)


def functions(notebook):
    """The notebook's functions, classes and constants, without a run of its cells."""
    nodes = [node for cell in code_cells(notebook) for node in ast.parse(cell.source).body]
    source = "\n\n".join(ast.unparse(node) for node in nodes if wanted(node))
    name, names = f"<functions {hash(source)}>", {"__name__": "notebook", "X64": None, "y64": None}
    # TensorFlow reads the source of a tf.function: here it finds it. (X64, y64: defaults of one.)
    linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name
    exec(compile(source, name, "exec"), names)  # noqa: S102
    return types.SimpleNamespace(**names)


def text_of(cell):
    """Return what `cell` printed, and the text form of its other outputs."""
    said = ""
    for output in cell.outputs:
        if output.output_type == "stream":
            said += f"{output.name}: {output.text}"
        else:
            said += f"{output.output_type}: {output.data.get('text/plain')}\n"
    return said


def pictures_of(cell):
    """Return the PNG images of `cell` as bytes, in order."""
    pictures = [output.get("data", {}).get("image/png") for output in cell.outputs]
    return [base64.b64decode(picture) for picture in pictures if picture]


def pixels(picture):
    """The pixels of a picture, given as bytes, as an int array."""
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)
