"""Read and execute the notebook: used by the tests, the benchmark and refresh.py."""

import ast
import base64
import copy
import io
import linecache
import math
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
# TensorFlow's C++ libraries print notices straight to the process's standard error, where a kernel
# listens. What is left on it then is Python's own, and any word of that fails the tests.
KERNEL = ["--IPKernelApp.capture_fd_output=False"]
NUMBER = r"-?(?:\d+(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[+-]?\d+)?|\binf\b|\bnan\b"


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
    """Run `notebook` in a fresh kernel in `folder`; replace its outputs, keep its metadata minimal.

    Raises nbclient's CellExecutionError at the first failing cell.
    """
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    NotebookClient(
        notebook,
        timeout=900,
        kernel_name="python3",
        record_timing=False,
        extra_arguments=KERNEL,
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


def python_of(cell):
    """The source of a code cell without IPython's magic; nothing for a cell that is all magic."""
    if cell.source.startswith("%%"):
        return ""
    return re.sub(r"^%.*$", "", cell.source, flags=re.MULTILINE)


def wanted(node):
    """Is this statement an import, a definition, a CONSTANT, or about the environment?"""
    if isinstance(node, ast.Assign):
        stored = [
            p for p in ast.walk(node) if isinstance(p, ast.Name) and isinstance(p.ctx, ast.Store)
        ]
        names = {name.id for name in stored}
        return names and all(re.fullmatch("[A-Z][A-Z_]+", name) for name in names)
    kinds = ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom
    return isinstance(node, kinds) or "os.environ" in ast.unparse(node)


def functions(notebook, before=None):
    """The notebook's functions, classes and constants, without a run of its cells.

    `before` is the id of a cell: only what stands above it counts. A name that is defined twice
    has its last meaning.
    """
    cells = notebook.cells
    if before:
        cells = cells[: [cell.id for cell in cells].index(before)]
    code = [cell for cell in cells if cell.cell_type == "code"]
    nodes = [node for cell in code for node in ast.parse(python_of(cell)).body]
    source = "\n\n".join(ast.unparse(node) for node in nodes if wanted(node))
    name = f"<functions {hash(source)}>"
    names = {"__name__": "notebook", "display": lambda *_, **__: None}
    # TensorFlow reads the source of a tf.function: here it finds it.
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


def printed(cell):
    """Return what `cell` printed, and nothing else."""
    return "".join(o.text for o in cell.outputs if o.output_type == "stream")


def assert_prints(text, expected):
    """The numbers in `text` are `expected`, each to the last digit that is printed."""
    found = re.findall(NUMBER, text.replace("[", " ").replace("]", " "))
    assert len(found) == len(expected), f"{len(found)} numbers for {len(expected)}: {found}"
    for said, number in zip(found, expected, strict=True):
        if said in ("inf", "nan"):
            assert str(float(number)) == said
            continue
        mantissa, _, exponent = said.partition("e")
        unit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
        value = float(said.replace(",", ""))
        close = math.isclose(value, number, rel_tol=5e-6, abs_tol=0.6 * unit)
        assert close, f"{said} is printed, {number} expected, in {text!r}"


def pictures_of(cell):
    """Return the PNG images of `cell` as bytes, in order."""
    pictures = [output.get("data", {}).get("image/png") for output in cell.outputs]
    return [base64.b64decode(picture) for picture in pictures if picture]


def pixels(picture):
    """The pixels of a picture, given as bytes, as an int array."""
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)
