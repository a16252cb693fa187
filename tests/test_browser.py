"""The notebook in a real browser: run in JupyterLab, and rendered as on nbviewer."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time

import nbformat
import numpy as np
import pytest
from nbconvert import HTMLExporter

from notebook_runner import NOTEBOOK, code_cells, pictures_of, read

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
NAMES = ["chromium", "chromium-browser", "google-chrome", "chrome"]
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: the browser tests are skipped")
# Share of the limit, updates, raw x: settings of the explorer.
SETTINGS = [(0.1, 100, False), (0.1, 1, False), (0.9, 100, True), (1.0, 51, False), (1.05, 20, True)]


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """The address of the committed notebook as nbviewer's exporter writes it."""
    path = tmp_path_factory.mktemp("page") / "notebook.html"
    path.write_text(HTMLExporter().from_notebook_node(read())[0], encoding="utf-8")
    return path.as_uri()


def open_page(browser, address, **options):
    """A tab at `address` that reaches no other machine."""
    tab = browser.new_context(**options).new_page()
    tab.route(re.compile("^https?://"), lambda route: route.abort())
    tab.goto(address)
    return tab


def said(root):
    """The rate, W, b and loss of the explorer's sentence, as numbers."""
    words = root.locator("#explorer-said").text_content().replace(",", "")
    found = re.match(r"Rate (\S+) .+ updates W = (\S+) b = (\S+) loss (\S+): the loop ", words)
    return [float(number) for number in found.groups()]


def move(root, share, updates, raw):
    """Set the three inputs and let the page know, as a mouse does."""
    for name, value in [("rate", share), ("updates", updates)]:
        root.locator(f"#explorer-{name}").fill(str(value))
    root.locator("#explorer-raw").set_checked(raw)


@pytest.fixture(scope="module")
def assert_says(nb):
    """Compare the explorer's rate, W, b and loss with those of the notebook's own `train`, in float64."""
    cells, names = {cell.id: cell.source for cell in code_cells(read())}, dict(vars(nb))
    exec(cells["data-make"] + "\n" + cells["data-split"], names)  # noqa: S102
    X_raw, y = names["X_train"].astype("float64"), names["y_train"].astype("float64")

    def check(root, share, updates, raw):
        X = X_raw if raw else (X_raw - X_raw.mean()) / X_raw.std()
        rate = share * nb.stable_limit(X)
        *_, history = nb.train(X, y, updates, rate)
        expected = [rate] + [float(history[name][-1]) for name in ("W", "b", "loss")]
        np.testing.assert_allclose(said(root), expected, rtol=5e-3, atol=0.0051)

    return check


def test_explorer_is_the_loop(browser, rendered, assert_says):
    """By mouse and by keyboard the sentence says what `train` gives; nothing is fetched."""
    tab = open_page(browser, rendered)
    fetched = []
    tab.on("request", lambda request: fetched.append(request.url))
    root = tab.locator("#explorer")
    for setting in SETTINGS:
        move(root, *setting)
        assert_says(root, *setting)
    move(root, 0.1, 1, raw=False)
    assert "loss 16,459.81" in root.inner_text()
    root.locator("#explorer-rate").focus()
    for key in ("Home", *4 * ["ArrowRight"], "Tab", "End", "Tab", "Space"):
        tab.keyboard.press(key)
        assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert_says(root, 0.05, 100, True)
    assert not fetched
    for share, verdict in [(1, "bounces for ever"), (1.01, "diverges")]:
        move(root, share, 60, raw=False)
        assert verdict in root.inner_text()
    for label in ("learning rate", "updates", "raw x"):
        assert root.get_by_label(label).count() == 1


@pytest.mark.parametrize("width", [360, 700, 1100])
def test_page_and_explorer_fit_and_stay_white(browser, rendered, width):
    tab = open_page(browser, rendered, viewport={"width": width, "height": 900}, color_scheme="dark")
    root = tab.locator("#explorer")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width  # the whole notebook
    figures = [part.bounding_box() for part in tab.locator(".jp-RenderedImage img").all()]
    for box in figures + [part.bounding_box() for part in root.locator("input, svg, output").all()]:
        assert box["x"] >= 0 and box["x"] + box["width"] <= width
    assert min(box["width"] for box in figures) > min(0.85 * width, 600)
    for table in tab.locator(".jp-RenderedMarkdown:has(table)").all():
        assert table.evaluate("e => getComputedStyle(e).overflowX") == "auto"
    assert root.evaluate("e => getComputedStyle(e).backgroundColor") == "rgb(255, 255, 255)"
    assert root.locator("svg").count() == 2


def test_without_scripts_there_is_a_film_and_no_dead_control(browser, rendered):
    tab = open_page(browser, rendered, java_script_enabled=False)
    assert tab.locator("#explorer img").is_visible() and not tab.locator("#explorer input").count()
    assert len(tab.locator("#explorer img").get_attribute("alt").split()) > 6


def test_two_copies_in_a_page_do_not_disturb_each_other(browser, tmp_path):
    (cell,) = [cell for cell in code_cells(read()) if cell.id == "explorer-show"]
    page = '<!doctype html><meta charset="utf-8">' + 2 * cell.outputs[0].data["text/html"]
    (tmp_path / "two.html").write_text(page, encoding="utf-8")
    first, second = open_page(browser, (tmp_path / "two.html").as_uri()).locator("#explorer").all()
    before = said(second)
    move(first, 0.5, 1, raw=False)
    assert said(second) == before != said(first)
    assert first.locator("input").count() == second.locator("input").count() == 3


@contextlib.contextmanager
def jupyter_lab(folder):
    """Serve `folder` by JupyterLab on a free port of this machine; gives the address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        here = free.getsockname()
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={here[1]}"]
    command += [f"--ServerApp.ip={here[0]}", f"--ServerApp.root_dir={folder}", "--IdentityProvider.token="]
    # Keep every cell in the page, also those out of view, so that figures can be counted.
    settings = folder / "settings/@jupyterlab/notebook-extension/tracker.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"windowingMode": "none"}')
    environment = os.environ | {"JUPYTERLAB_SETTINGS_DIR": str(folder / "settings")}
    environment["JUPYTER_DATA_DIR"] = str(folder / "data")  # nothing is trusted yet
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(command, env=environment, **quiet)
    try:
        for _ in range(120):
            with contextlib.suppress(OSError):
                socket.create_connection(here).close()
                break
            time.sleep(0.5)
        yield "http://{}:{}".format(*here)
    finally:
        server.terminate()
        server.wait(30)


def run_all(tab):
    """Choose Run, Run All Cells; again if JupyterLab was not ready for the first click."""
    for _ in range(5):
        tab.wait_for_timeout(4000)
        tab.click('.lm-MenuBar-itemLabel:text-is("Run")')
        tab.click('.lm-Menu-itemLabel:text-is("Run All Cells")')
        with contextlib.suppress(playwright.TimeoutError):
            started = '.jp-InputPrompt:text-matches("^\\\\[[*0-9]")'
            return tab.wait_for_selector(started, state="attached", timeout=15_000)
        tab.keyboard.press("Escape")
    raise AssertionError("no cell started to run")


def test_jupyterlab_untrusted_then_run_all(browser, tmp_path, assert_says):
    """As it was downloaded: a film. With its outputs cleared and after Run All: all of it."""
    blank, path = read(), tmp_path / NOTEBOOK.name
    for cell in code_cells(blank):
        cell.outputs, cell.execution_count = [], None
    nbformat.write(blank, path)
    (tmp_path / "untrusted.ipynb").write_bytes(NOTEBOOK.read_bytes())

    with jupyter_lab(tmp_path) as address:
        tab = browser.new_page(viewport={"width": 1300, "height": 1000})
        tab.goto(f"{address}/lab/tree/untrusted.ipynb")
        film = "() => [...document.images].some(i => /^The line rises/.test(i.alt) && i.naturalWidth > 300)"
        tab.wait_for_function(film, timeout=120_000)  # JupyterLab may take it out again, out of view
        assert not tab.locator(".jp-Notebook input[type=range]").count()
        tab.close()

        tab = browser.new_page(viewport={"width": 1300, "height": 1000})
        tab.goto(f"{address}/lab/workspaces/fresh/tree/{path.name}")
        tab.wait_for_selector(".jp-Notebook .jp-Cell", timeout=120_000)
        tab.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', timeout=120_000)
        run_all(tab)
        finish, cells = time.monotonic() + 360, code_cells(blank)
        while None in [cell.execution_count for cell in cells] and time.monotonic() < finish:
            time.sleep(4)
            tab.keyboard.press("Control+s")
            time.sleep(1)
            cells = code_cells(nbformat.read(path, as_version=4))
            assert not [o.evalue for c in cells for o in c.outputs if o.output_type == "error"]
        figures = sum(len(pictures_of(cell)) for cell in cells)
        playwright.expect(tab.locator(".jp-RenderedImage img")).to_have_count(figures, timeout=60_000)
        move(tab.locator("#explorer"), 0.1, 100, raw=False)
        assert_says(tab.locator("#explorer"), 0.1, 100, False)
        tab.close()

    assert not [o.text for c in cells for o in c.outputs if o.get("name") == "stderr"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    drawn = [[len(pictures_of(cell)) for cell in version] for version in (cells, code_cells(read()))]
    assert drawn[0] == drawn[1]
