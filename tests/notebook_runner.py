"""Read and execute the notebook: used by the tests and by refresh.py."""

import ast
import base64
import copy
import io
import os
import pathlib

import nbformat
import numpy as np
from nbclient import NotebookClient
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parent.parent
# The planted-bug tests point this at a mutated copy; everything else leaves it alone.
NOTEBOOK = pathlib.Path(
    os.environ.get("NOTEBOOK_UNDER_TEST", ROOT / "linear_regression_training_loops.ipynb")
)
LANGUAGE_INFO = ("name", "pygments_lexer", "file_extension", "mimetype")


def read(path=NOTEBOOK):
    """Return the notebook at `path` as a version-4 node."""
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    """Return the code cells of `notebook`, in order."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def copies(cells, name):
    """Return copies of `cells` whose ids begin with `name`, to run them once more."""
    again = [copy.deepcopy(cell) for cell in cells]
    for cell in again:
        cell.id = f"{name}-{cell.id}"
    return again


def execute(notebook, folder, allow_errors=False):
    """Run `notebook` in a fresh kernel with `folder` as its working directory.

    Outputs are replaced in place, metadata stays minimal. Raises nbclient's
    CellExecutionError at the first failing cell, unless `allow_errors`.
    """
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    NotebookClient(
        notebook,
        timeout=900,
        kernel_name="python3",
        allow_errors=allow_errors,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    ).execute()
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


def definitions(notebook):
    """Return the source of the notebook's imports, functions, classes and CONSTANTS.

    And what it asks of the environment. With these a test can call the notebook's own
    functions without running its cells.
    """
    kept = []
    for cell in code_cells(notebook):
        for node in ast.parse(cell.source).body:
            parts = list(ast.walk(node))
            assigned = [
                part.id for part in parts if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
            ]
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                wanted = True
            elif isinstance(node, ast.Assign):  # CONSTANTS, but not X or A
                wanted = all(n.isupper() and n not in ("X", "A") for n in assigned)
            else:
                wanted = any(
                    isinstance(part, ast.Import | ast.ImportFrom)
                    or (isinstance(part, ast.Attribute) and part.attr == "environ")
                    for part in parts
                )
            if wanted:
                kept.append(ast.unparse(node))
    return "\n\n".join(kept)


def text_of(cell):
    """Return what `cell` printed, and the text form of its other outputs."""
    parts = []
    for output in cell.outputs:
        if output.output_type == "stream":
            parts.append(f"{output.name}: {output.text}")
        elif output.output_type == "error":
            parts.append(f"error: {output.ename}: {output.evalue}\n")
        else:
            parts.append(f"{output.output_type}: {output.data.get('text/plain')}\n")
    return "".join(parts)


def pictures_of(cell):
    """Return the PNG images of `cell` as bytes, in order."""
    return [
        base64.b64decode(output.data["image/png"])
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]


def pixels(png):
    """Return (pixels as an int array, the Matplotlib version that drew them)."""
    image = Image.open(io.BytesIO(png))
    software = image.info.get("Software", "")
    version = software.partition("version")[2].split(",")[0]
    return np.asarray(image.convert("RGB")).astype(int), version
