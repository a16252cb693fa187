"""Run the notebook from top to bottom; save it, and plots/, in place with fresh outputs."""

import time

import matplotlib
import nbformat

from notebook_runner import DRAWN_BY, NOTEBOOK, ROOT, code_cells, execute, read

if __name__ == "__main__":
    if matplotlib.__version__ != DRAWN_BY:
        raise SystemExit(
            f"draw with Matplotlib {DRAWN_BY}, or change DRAWN_BY in notebook_runner.py"
        )
    notebook, start = read(), time.perf_counter()
    execute(notebook, ROOT)
    nbformat.write(notebook, NOTEBOOK)
    print(f"ran {len(code_cells(notebook))} code cells in {time.perf_counter() - start:.0f} s")
