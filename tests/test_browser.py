"""The notebook in a real browser: run in JupyterLab, and rendered as on nbviewer."""

import contextlib
import html
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
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here: the browser tests are skipped"
)
# Share of the limit, updates, raw x: settings of the explorer.
SETTINGS = [
    (0.1, 100, False),
    (0.1, 1, False),
    (0.9, 100, True),
    (1.0, 51, False),
    (1.05, 20, True),
]
# nbviewer's page is dressed by Bootstrap 3, and these of its rules reach into outputs.
BOOTSTRAP = """label { display: inline-block; max-width: 100%; margin-bottom: 5px; font-weight: 700 }
input[type="range"] { display: block; width: 100% }
summary { display: block }"""
# What TensorFlow prints on standard error where there is no CUDA driver.
NO_CUDA = "cudart_stub|Could not find cuda drivers|All log messages before absl::InitializeLog"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def page():
    """The committed notebook as nbviewer's exporter writes it."""
    return HTMLExporter().from_notebook_node(read())[0]


@pytest.fixture(scope="module")
def rendered(page, tmp_path_factory):
    """Its address."""
    path = tmp_path_factory.mktemp("page") / "notebook.html"
    path.write_text(page, encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def outputs():
    """The HTML of the explorer's two cells: the film and the numbers, and the page."""
    cells = {cell.id: cell for cell in code_cells(read())}
    names = ("explorer-data", "explorer-page")
    return [cells[name].outputs[0].data["text/html"] for name in names]


def open_page(browser, address, **options):
    """A tab at `address` that reaches no other machine."""
    tab = browser.new_context(**options).new_page()
    tab.route(re.compile("^https?://"), lambda route: route.abort())
    tab.goto(address)
    return tab


def open_html(browser, body, folder):
    """A tab with a bare page that holds `body`, and the list of its scripts' errors."""
    path = folder / "bare.html"
    path.write_text('<!doctype html><meta charset="utf-8"><body>' + body, encoding="utf-8")
    tab = browser.new_page()
    errors = []
    tab.on("pageerror", lambda error: errors.append(error))
    tab.goto(path.as_uri())
    return tab, errors


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
    """Compare the explorer's rate, W, b and loss with those of the notebook's own `train`."""
    cells, names = {cell.id: cell.source for cell in code_cells(read())}, dict(vars(nb))
    exec(cells["data-make"] + "\n" + cells["data-split"], names)  # noqa: S102
    X_raw, y = names["X_train"].astype("float64"), names["y_train"].astype("float64")

    def check(root, share, updates, raw):
        X = X_raw if raw else (X_raw - X_raw.mean()) / X_raw.std()
        rate = share * nb.stable_limit(X)
        *_, history = nb.train(X, y, epochs=updates, learning_rate=rate)
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
    for label in ("learning rate", "updates", "raw x"):
        assert root.get_by_label(label).count() == 1


VERDICTS = [
    (0.1, 5, False, "goes on, b off by 33%"),
    (0.1, 100, False, "has arrived"),
    (0.9, 5, False, "bounces, less each time"),
    (1, 60, False, "bounces for ever"),
    (1.01, 60, False, "diverges, each bounce larger"),
    (0.9, 100, True, "creeps in b, b off by 98%"),
    (1.01, 60, True, "diverges, each bounce larger"),
]


def test_explorer_says_what_the_loop_does(browser, rendered):
    root = open_page(browser, rendered).locator("#explorer")
    for *setting, verdict in VERDICTS:
        move(root, *setting)
        assert f"the loop {verdict}" in root.inner_text()


# Where the words and marks of a plot are, in the plot's own units.
DRAWN = """svg => ({
  texts: [...svg.querySelectorAll("text")].map(text => {
    const box = text.getBBox();
    return [text.textContent, box.x + box.width / 2, box.y + box.height / 2, box.x, box.width];
  }),
  dot: [...svg.querySelectorAll("circle")].filter(dot => dot.r.baseVal.value === 5)
    .map(dot => [dot.cx.baseVal.value, dot.cy.baseVal.value]),
  dashed: [...svg.querySelectorAll("polyline")]
    .filter(line => getComputedStyle(line).strokeDasharray !== "none")
    .map(line => [...line.points].map(point => [point.x, point.y])),
  view: [svg.viewBox.baseVal.width, svg.viewBox.baseVal.height],
})"""


def read_axes(drawn):
    """The names of the axes, and a function from a place in the plot to the two numbers there."""
    numbers = [text for text in drawn["texts"] if re.fullmatch(r"-?\d+", text[0])]
    lowest = max(y for _, _, y, *_ in numbers)
    across = [(x, float(n)) for n, x, y, *_ in numbers if abs(y - lowest) < 1]
    up = [(y, float(n)) for n, _, y, *_ in numbers if abs(y - lowest) >= 1]
    assert len(across) >= 3 and len(up) >= 3
    to_u, to_v = (np.polyfit(*zip(*ticks, strict=True), 1) for ticks in (across, up))
    names = {text[0] for text in drawn["texts"] if re.fullmatch("[A-Za-z]", text[0])}
    return names, lambda x, y: (np.polyval(to_u, x), np.polyval(to_v, y))


@pytest.mark.parametrize("raw", [False, True])
def test_plots_have_axes_with_names_and_true_numbers(browser, rendered, raw):
    """The dashed line is the planted one, and the large dot is at the W and b of the sentence."""
    root = open_page(browser, rendered).locator("#explorer")
    move(root, 0.45, 2, raw)
    line, way = (plot.evaluate(DRAWN) for plot in root.locator("svg").all())
    for drawn in (line, way):
        for _, _, y, left, width in drawn["texts"]:
            assert left >= 0 and left + width <= drawn["view"][0]
            assert 5 < y < drawn["view"][1] - 5
    names, numbers_at = read_axes(line)
    assert names == {"x", "y"}
    ((start, end),) = line["dashed"]
    np.testing.assert_allclose(numbers_at(*start), (0, 10), atol=2)
    np.testing.assert_allclose(numbers_at(*end), (100, 260), atol=2)
    names, numbers_at = read_axes(way)
    assert names == {"W", "b"} and not way["dashed"]
    ((x, y),) = way["dot"]
    _, W, b, _ = said(root)
    np.testing.assert_allclose(numbers_at(x, y), (W, b), atol=0.2 if raw else 2)


@pytest.mark.parametrize("width", [360, 700, 1100])
def test_page_and_explorer_fit_and_stay_white(browser, rendered, width):
    tab = open_page(
        browser, rendered, viewport={"width": width, "height": 900}, color_scheme="dark"
    )
    root = tab.locator("#explorer")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width  # the whole notebook
    figures = [part.bounding_box() for part in tab.locator(".jp-RenderedImage img").all()]
    parts = [part.bounding_box() for part in root.locator("input, svg, output").all()]
    for box in figures + parts:
        assert box["x"] >= 0 and box["x"] + box["width"] <= width
    assert min(box["width"] for box in figures) > min(0.85 * width, 340)
    for table in tab.locator(".jp-RenderedMarkdown:has(table)").all():
        assert table.evaluate("e => getComputedStyle(e).overflowX") == "auto"
    assert root.evaluate("e => getComputedStyle(e).backgroundColor") == "rgb(255, 255, 255)"
    assert root.locator("svg").count() == 2
    assert min(plot.bounding_box()["width"] for plot in root.locator("svg").all()) >= 260


def words_beside(slider):
    """The box of the words in a slider's label: left, top, bottom."""
    return slider.evaluate("""input => {
      const words = document.createRange();
      words.selectNodeContents(input.labels[0]);
      words.setStartAfter(input);
      const lines = [...words.getClientRects()].filter(line => line.width > 3);
      return [lines[0].left, lines[0].top, lines.at(-1).bottom];
    }""")


def test_explorer_under_the_rules_of_nbviewer(browser, page, tmp_path):
    """Bootstrap leaves wide sliders, words beside them, and every number of updates in reach."""
    dressed = page.replace("<head>", f"<head><style>{BOOTSTRAP}</style>", 1)
    (tmp_path / "dressed.html").write_text(dressed, encoding="utf-8")
    view = {"width": 1100, "height": 900}
    tab = open_page(browser, (tmp_path / "dressed.html").as_uri(), viewport=view)
    root = tab.locator("#explorer")
    for name in ("rate", "updates"):
        slider = root.locator(f"#explorer-{name}")
        box, (left, top, bottom) = slider.bounding_box(), words_beside(slider)
        assert box["width"] >= 300
        assert left >= box["x"] + box["width"]
        assert top < box["y"] + box["height"] / 2 < bottom < top + 40
        assert slider.evaluate("e => getComputedStyle(e.parentElement).fontWeight") == "400"

    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    seen = "e => { window.seen = new Set(); e.oninput = () => seen.add(e.value); }"
    slider.evaluate(seen)
    middle = box["y"] + box["height"] / 2
    tab.mouse.move(box["x"] + 2, middle)
    tab.mouse.down()
    for along in range(2, int(box["width"]), 2):
        tab.mouse.move(box["x"] + along, middle)
    tab.mouse.up()
    assert tab.evaluate("seen.size") == 101
    assert "After 100 updates" in root.inner_text()
    slider.press("Home")
    slider.evaluate(seen)
    for _ in range(100):
        slider.press("ArrowRight")
    assert tab.evaluate("[...seen]") == [str(value) for value in range(1, 101)]

    shown = [e.evaluate("e => getComputedStyle(e).display") for e in tab.locator("summary").all()]
    assert shown and set(shown) == {"list-item"}
    tab.evaluate("scrollTo(0, 0)")
    tab.locator('a[href="#explorer"]').first.click()
    tab.wait_for_function("scrollY > 0")
    assert abs(root.bounding_box()["y"]) < 20


@pytest.mark.parametrize("width", [360, 1100])
def test_without_scripts_there_is_a_film_and_no_dead_control(browser, rendered, width):
    view = {"width": width, "height": 900}
    tab = open_page(browser, rendered, java_script_enabled=False, viewport=view)
    film = tab.locator("#explorer img")
    assert film.is_visible() and not tab.locator("#explorer input").count()
    assert len(film.get_attribute("alt").split()) > 6
    assert film.bounding_box()["x"] + film.bounding_box()["width"] <= width
    assert not tab.get_by_text("as a share of the limit", exact=True).count()


def test_two_copies_in_a_page_do_not_disturb_each_other(browser, outputs, tmp_path):
    tab, errors = open_html(browser, 2 * "".join(outputs), tmp_path)
    first, second = tab.locator("#explorer").all()
    before = said(second)
    move(first, 0.5, 1, raw=False)
    assert said(second) == before != said(first)
    assert first.locator("input").count() == second.locator("input").count() == 3
    assert not errors


PUT = """html => {
  document.querySelector("#area")?.remove();
  document.body.insertAdjacentHTML("beforeend", `<div id="area">${html}</div>`);
}"""


def test_the_two_outputs_may_come_in_any_order_and_again(browser, outputs, tmp_path, assert_says):
    """As in JupyterLab: the film after the page, and once more; an explorer without numbers."""
    film, page = outputs
    tab, errors = open_html(browser, page + '<div id="explorer"><img alt="bare"></div>', tmp_path)
    for _ in range(2):
        tab.evaluate(PUT, film)
        root = tab.locator("#area #explorer")
        root.locator("input").first.wait_for()
        assert not root.locator("img").count()
        move(root, 0.2, 3, raw=False)
        assert_says(root, 0.2, 3, False)
    assert tab.get_by_alt_text("bare").count() == 1
    assert not errors


def test_in_frames_of_their_own_the_film_stays(browser, outputs, tmp_path):
    """As in Colab, where an output cannot reach into another one."""
    frames = [f'<iframe srcdoc="{html.escape(output)}"></iframe>' for output in outputs]
    tab, errors = open_html(browser, "".join(frames), tmp_path)
    film = tab.frame_locator("iframe").first.locator("#explorer img")
    film.wait_for()
    assert film.evaluate("e => e.naturalWidth") > 300
    assert tab.frame_locator("iframe").last.locator("body").inner_text().strip() == ""
    assert not errors


@contextlib.contextmanager
def jupyter_lab(folder):
    """Serve `folder` by JupyterLab on a free port of this machine; gives the address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        host, port = free.getsockname()
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [f"--ServerApp.ip={host}", f"--port={port}", f"--ServerApp.root_dir={folder}"]
    command += ["--IdentityProvider.token="]
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
                socket.create_connection((host, port)).close()
                break
            time.sleep(0.5)
        yield f"http://{host}:{port}"
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


def run_again(tab, number):
    """Run the cell with this number, and wait until it has made a new explorer."""
    tab.locator("#explorer-rate").evaluate("e => e.dataset.old = true")
    tab.locator(".jp-Notebook .jp-Cell").nth(number).locator(".jp-InputPrompt").first.click()
    tab.keyboard.press("Control+Enter")
    tab.wait_for_selector("#explorer-rate:not([data-old])", timeout=60_000)
    assert tab.locator("#explorer").count() == 1


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
        film = """() => [...document.images].some(
            image => /^The line rises/.test(image.alt) && image.naturalWidth > 300)"""
        tab.wait_for_function(film, timeout=120_000)  # JupyterLab may take it out again
        assert not tab.locator(".jp-Notebook input[type=range]").count()
        tab.close()

        tab = browser.new_page(viewport={"width": 1300, "height": 1000})
        tab.goto(f"{address}/lab/workspaces/fresh/tree/{path.name}")
        tab.wait_for_selector(".jp-Notebook .jp-Cell", timeout=120_000)
        idle = '.jp-Notebook-ExecutionIndicator[data-status="idle"]'
        tab.wait_for_selector(idle, timeout=120_000)
        run_all(tab)
        finish, cells = time.monotonic() + 360, code_cells(blank)
        while None in [cell.execution_count for cell in cells] and time.monotonic() < finish:
            time.sleep(4)
            tab.keyboard.press("Control+s")
            time.sleep(1)
            with contextlib.suppress(nbformat.reader.NotJSONError):  # caught while being saved
                cells = code_cells(nbformat.read(path, as_version=4))
            assert not [o.evalue for c in cells for o in c.outputs if o.output_type == "error"]
        figures = sum(len(pictures_of(cell)) for cell in cells)
        images = tab.locator(".jp-RenderedImage img")
        playwright.expect(images).to_have_count(figures, timeout=60_000)
        move(tab.locator("#explorer"), 0.1, 100, raw=False)
        assert_says(tab.locator("#explorer"), 0.1, 100, False)
        numbers = {cell.id: number for number, cell in enumerate(blank.cells)}
        for name in ("explorer-page", "explorer-data", "explorer-data", "explorer-page"):
            run_again(tab, numbers[name])
            move(tab.locator("#explorer"), 0.2, 3, raw=True)
            assert_says(tab.locator("#explorer"), 0.2, 3, True)
        tab.close()

    errors = [o.text for c in cells for o in c.outputs if o.get("name") == "stderr"]
    lines = [line for text in errors for line in text.splitlines() if line.strip()]
    assert not [line for line in lines if not re.search(NO_CUDA, line)]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    drawn = [
        [len(pictures_of(cell)) for cell in version] for version in (cells, code_cells(read()))
    ]
    assert drawn[0] == drawn[1]
