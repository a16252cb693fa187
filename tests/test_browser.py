"""The notebook in JupyterLab, in a real browser: open it, run all cells, look."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest
from notebook_runner import NOTEBOOK, code_cells, pictures_of, read

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed"
)
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]
MINUTES = 6


@contextlib.contextmanager
def jupyter_lab(folder):
    """Serve `folder` by JupyterLab on a free port of this machine; gives the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [
        f"--port={port}",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.root_dir={folder}",
    ]
    command += ["--IdentityProvider.token="]
    # Keep every cell in the page, also those out of view, so that figures can be counted.
    settings = (
        folder / "settings/@jupyterlab/notebook-extension/tracker.jupyterlab-settings"
    )
    settings.parent.mkdir(parents=True)
    settings.write_text('{"windowingMode": "none"}')
    environment = os.environ | {"JUPYTERLAB_SETTINGS_DIR": str(folder / "settings")}
    with open(folder / "server.log", "w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{address}/api", timeout=2).close()
                break
            time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait(30)


def run_all(tab):
    """Choose Run, Run All Cells; again if JupyterLab was not ready for the first click."""
    started = '.jp-InputPrompt:text-matches("^\\\\[[*0-9]")'
    for _ in range(5):
        tab.wait_for_timeout(4000)
        tab.click('.lm-MenuBar-itemLabel:text-is("Run")')
        tab.click('.lm-Menu-itemLabel:text-is("Run All Cells")')
        with contextlib.suppress(playwright.TimeoutError):
            tab.wait_for_selector(started, state="attached", timeout=15_000)
            return
        tab.keyboard.press("Escape")
    raise AssertionError("no cell started to run")


@pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here: the browser test is skipped"
)
def test_run_all_in_jupyterlab(tmp_path):
    path = tmp_path / NOTEBOOK.name
    blank = read()
    for cell in code_cells(blank):
        cell.outputs, cell.execution_count = [], None
    nbformat.write(blank, path)

    with jupyter_lab(tmp_path) as address, playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        tab = browser.new_page(viewport={"width": 1300, "height": 1000})
        tab.goto(f"{address}/lab/tree/{path.name}")
        tab.wait_for_selector(".jp-Notebook .jp-Cell", timeout=120_000)
        idle = '.jp-Notebook-ExecutionIndicator[data-status="idle"]'
        tab.wait_for_selector(idle, timeout=120_000)
        run_all(tab)
        finish = time.monotonic() + 60 * MINUTES
        counts = [None]
        while None in counts and time.monotonic() < finish:
            time.sleep(4)
            tab.keyboard.press("Control+s")
            time.sleep(1)
            cells = code_cells(read(path))
            counts = [cell.execution_count for cell in cells]
            if any(o.output_type == "error" for cell in cells for o in cell.outputs):
                break
        figures = sum(len(pictures_of(cell)) for cell in cells)
        for _ in range(60):
            drawn = tab.locator(".jp-RenderedImage img").count()
            if drawn == figures:
                break
            tab.wait_for_timeout(1000)
        browser.close()

    errors = [o.evalue for c in cells for o in c.outputs if o.output_type == "error"]
    noise = [o.text for c in cells for o in c.outputs if o.get("name") == "stderr"]
    assert not errors and not noise
    assert counts == list(range(1, len(counts) + 1))
    assert drawn == figures > 10
    for ran, committed in zip(cells, code_cells(read()), strict=True):
        assert len(pictures_of(ran)) == len(pictures_of(committed)), ran.id
