"""The README's commands, files, images and numbers are those of the repository."""

import re
import shlex

import pytest

from notebook_runner import ROOT, code_cells, read, text_of

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^```sh\n(.+?)\n```$", README, re.MULTILINE | re.DOTALL)
LINKS = re.findall(r"\]\(([^)]+)\)", README)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_name_files_that_exist(command):
    assert "\n" not in command, "one command, one line"
    words = shlex.split(command)
    files = [w for w in words if re.search(r"\.(txt|ipynb|py)$", w) or w == "tests"]
    assert files and all((ROOT / name).exists() for name in files)


def test_ci_runs_the_test_command():
    (command,) = [c for c in COMMANDS if "pytest" in c]
    pattern = re.search(r"grep -m1 -E '(.+)' README.md", (ROOT / ".ci/run").read_text())
    first = next(line for line in README.splitlines() if re.search(pattern[1], line))
    assert first == command


def test_links_and_images_exist():
    headings = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    slugs = {"#" + re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}
    inner = [link for link in LINKS if "://" not in link]
    assert inner and all(link in slugs or (ROOT / link).is_file() for link in inner)
    assert all(len(alt.split()) > 5 for alt in re.findall(r"!\[([^]]*)\]", README))


def test_sections_it_names_are_in_the_notebook():
    headings = " ".join(c.source for c in read().cells if c.cell_type == "markdown")
    for name in re.findall(r"\*([A-Z][^*]+)\*", README.split("## Run it")[0]):
        assert f"# {name}" in headings, name


# row of the table: the cell that prints its two numbers, and how
KEY_RESULTS = {
    "slope": ("recover", r"slope +(\S+) ± (\S+), planted 2\.5"),
    "intercept": ("recover", r"intercept (\S+) ± (\S+), planted 10\.0"),
    "training loss": ("loss-figure", r"last loss (\S+), noise floor (\S+)"),
    "RMSE on 40 unseen rows": ("test-rows", r"RMSE (\S+) \(noise (10)\)"),
    "R² on 40 unseen rows": ("test-rows", r"R² (\S+)()"),
    "Hubble's line, km/s per Mpc": ("hubble", r"loop (\S+), \S+; polyfit \[(\S+)"),
    "condition number, raw x": ("normalize-raw", r"condition number (\S+)()"),
    "bugs that a falling loss misses": ("bug-figure", r"falls': (\d+)()"),
}


@pytest.mark.parametrize("label", KEY_RESULTS)
def test_numbers_are_the_notebooks(label):
    (row,) = re.findall(rf"^\| {label} \|(.+)\|$", README, re.MULTILINE)
    result, comparison = (text.strip() for text in row.split("|"))
    cell_id, pattern = KEY_RESULTS[label]
    (cell,) = [cell for cell in code_cells(read()) if cell.id == cell_id]
    printed = re.search(pattern, text_of(cell))
    assert result == printed[1]
    assert printed[2] in re.findall(r"[\d.,]*\d", comparison) or not printed[2]


def test_licence_and_author():
    licence = (ROOT / "LICENSE").read_text()
    assert licence.startswith("MIT License") and "(c) 2026 Mehran Asgari" in licence
    assert "github.com/imehranasgari" in README
