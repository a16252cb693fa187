"""What the notebook prints, and what its prose and the README say of it: numbers, links, headings, commands."""

import itertools
import re
import shlex

import pytest

from notebook_runner import ROOT, read, text_of

CELLS = {cell.id: cell for cell in read().cells}
PROSE = {cell.id: cell.source for cell in read().cells if cell.cell_type == "markdown"}
TEXT = re.sub(r"```.*?```", "", "\n\n".join(PROSE.values()), flags=re.DOTALL)
HEADINGS = re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^```sh\n(.+?)\n```$", README, re.MULTILINE | re.DOTALL)

# cell: what it must print, as regular expressions, on every supported TensorFlow
PRINTED = {
    "slow-gradient": [r"loss 13\.6667, d loss/dW tried: -3\.33\n", r"dW: tape (-3\.3333), formula \1", r"db: tape (-6\.0000), formula \1"],
    "new-x": [r"x = 50: y = \[\[134\.0"],
    "answer-keras": [r"1 +25659\.0 +25659\.0 +16459\.8\n", r"21 +(\S+) +\1 +107\.9\naccuracy 0\.0, R² 0\.981"],
    "answer-evaluate": [r"5 batches: fit reports 12809, evaluate 2817"],
    "rate-hessian": [r"0\.479, 7,406, limit 2\.701e-04", r"limit 1\.000"],
    "rate-edges-run": [r"0\.99 .*-> 5\d\d\n", r"1\.01 .*-> \d\.\d+e\+06"],
    "normalize-raw": [r"100 updates: W = 2\.624, b = 0\.148\nleast squares: +W = 2\.489, b = 9\.566",
        r"39,555 updates; condition number 15,462"],
    "convert-back-run": [r"y = 2\.4890 x \+ 9\.5660, as in"],
    "fail-outside": [r"gradients: \[None, None\]\nValueError: No gradients provided",
        "RuntimeError: A non-persistent GradientTape can only be used to compute one set"],
    "fail-constant": ["tensor: None, integer variable: None", r"watched tensor: (\[\[-148\.\d+\]\]), variable: \1"],
    "fail-rebind": [r"step 1: ResourceVariable, gradient \[\[-148\.\d+\]\]",
        "step 2: EagerTensor, gradient None\nTypeError: unsupp.*\nRuntimeError:.*variable -="],
    "fail-numpy": ["AttributeError: .*_id", r"loss 25659\.0 is right; .* None"],
    "fail-raw": [r"losses: 3e\+04 1e\+10 8e\+15 4e\+21 2e\+27 1e\+33 inf .*nan"],
    "fail-sum": ["5 rows.* ends at 37", "FloatingPointError: the loss is inf after 11", "mean. True"],
    "fail-constant-feature": [r"first loss: nan\nValueError: x is constant \(7\)", "y, row 1: nan"],
    "fail-float": ["float32 without", r"(InvalidArgumentError: (.|\n)*double\s.*float(.|\n)*){2}"],
    "fail-optimizer": [r"run 1 .* 25659\nrun 2 .* 16460\n(KeyError|ValueError): .*[Uu]nknown variable",
        r"seeded once: (\S+) (?!\1)(\S+)\nseeded again: \1 \2\n"],
    "fail-pairs": ["TypeError:", "AttributeError: .*_unique_id", "moved by 28.33.*have moved by 14.82"],
    "fail-names": [r"(.*(AttributeError|ValueError): .+\n){8}"],
    "fail-shapes": [r"\(160, 160\)",
        r"-> 5599, var\(y\) 5599\nW 0\.000, b (141\.63), mean\(y\) \1\nValueError: y_true"],
    "fail-comma": [r"losses: 800\.000 512\.000 .* 0\.000\nW and b: 0\.00000 0\.00000"],
    "fail-sign": [r"_sub: loss 106", r"_add.*e\+10", r"n: loss 1\.79e.04, W 12\.4, b 23\.6"],
    "fail-test-stats": [r"training.* 8\.\d", r"its own.* 10\d\..*\nno.* 50: y = 3847\.6"],
    "fail-keras-run": [r"0 trainable.*25659\.0 25659\.0 25659\.0 .*not have any trainable weights",
        r"1 trainable.* 23681\.0"],
    "fail-early": [r"loss -0\.5%\nd loss/db -4\.8; W 72\.870, Part 1 74\.120"],
    "bug-figure": [r"13 bugs; missed by: {'loss falls': 11, 'first step': 8, 'answer': 1, 'path': 3, 'shapes': 12}"],
    "huber-figure": [r"MSE +y = 2\.3. x \+ 28", r"Huber +y = 2\.4. x \+ 11"],
    "noise-repeat": [r"99\.\d+, theory 100\.00", r"98\.\d+, theory 98\.75", "slopes 0.026.*0265", "1.5.*1.6153"],
    "pinball-figure": [r"0\.1: .* 10% of tr", r"0\.5: .* 49%", r"0\.9: .* 90%", r"swapped: below it 90%"],
    "batches-count": [r"1: 160 .* 1\n.*32: +5 .*32\n.*50: +4 .*10\n.*160: +1 .*160\n",
        r"mean of batches 1(?!05).*, weighted (105\.690), all rows \1"],
    "batches-sorted": [r"sorted.* [23]\d\d\d%", r"shuffled +\d+% above"],
    "batches-run": [r"1 row +2\d\.\d%", r"0\.03 +5\.\d%", r"32 rows +0\.\d%", r"all rows +0\.0%",
        r"decaying rate +\d\.\d% above"],
    "early-stopping": [r"after 32: 99\.24; best 99\.18 after 27, W = 73\.94", r"wrong.* after 6: .* after 1, W = 14\.82"],
    "resume-run": [r"10 \+ 10: .*True", "W and b only: .*False"],
    "saved-model": [r"callable: False - x = 50: \[\[134\.0"],
    "same-answer": [r"(.* rows: 1\.1677\n){6}"],
    "retracing": ["traced traced traced in 3 calls: Python", "\ntraced in 3 calls: tensors",
        "\ntraced traced in 4 calls: batches", "traced traced traced in 3 calls: a new"],
    "frozen": [r"0 now: 3 times it is 6\.0\n.*\.lr = 0\.0 the rate is 0\.1\n.*rate = 0\.0 it is 0\.0\n",
        "only supports singleton tf.Variables created on the first call"],
    "compiled-run": [r"25659\.00 \d+\.\d\d \d+\.\d\d 10[56]\.\d\d"],
    "many-features": [r"shape \(20, 1\), b = (3\.9|4\.0)", "up to 0.04"],
    "mlp-figure": [r"line: RMSE 0\.[67]", r"MLP: RMSE 0\.(19|2)"],
    "machines-say": [r"one device: (W = 74\.119, b = 141\.63)\n",
        r"(worker [01]: 80 rows, global_mse at 0\.1, W = 74\.119, b = 141\.63\n(.|\n)*){2}",
        r"(80 rows, mse at 0\.6, W = -1\.50\d+e\+09, (.|\n)*){2}"],
    "keras-own-fit": [r"val_loss (\S+), by hand \1"],
}  # fmt: skip


@pytest.mark.parametrize("cell_id", PRINTED)
def test_cell_prints_what_the_text_claims(cell_id):
    """Of the committed outputs; test_execution compares these with those of a fresh run."""
    for pattern in PRINTED[cell_id]:
        assert re.search(pattern, text_of(CELLS[cell_id])), pattern


def test_prose_and_its_links_and_headings():
    """No word that belittles; links lead to headings and say where; one first heading, no level skipped."""
    weak = r"\b(just|simply|simple|obviously|obvious|easily|easy|clearly|of course)\b"
    assert not [cell_id for cell_id, text in PROSE.items() if re.search(weak, text, re.IGNORECASE)]
    anchors = {title.strip().replace(" ", "-") for title in HEADINGS}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors
    words = {words.lower() for words in re.findall(r"(?<!!)\[([^]]+)\]\(", TEXT)}
    assert not words & {"here", "link", "this", "click here"}
    levels = [len(marks) for marks in re.findall(r"^(#+) ", TEXT, re.MULTILINE)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


# Numbers in prose that no cell prints: years of papers; 1 - 1e-3; light years in a parsec; 1 -+ 2 * 0.1;
# 1 / (2 * 6.3e-5), the odds of four standard errors; rows of the ordinary case; rates, updates, rows, draws.
EXPLAINED = "2015|1929|99.9|3.26|0.8|1.2|10,000|2.5|20,000|0.1|0.5|0.25|100|200|400|160"


def test_numbers_in_prose_are_printed_or_explained():
    printed = " ".join(text_of(c) + c.source for c in CELLS.values() if c.cell_type == "code")
    values = {float(n.replace(",", "")) for n in re.findall(r"\d[\d,]*\.?\d*", printed)}
    for cell_id in PROSE.keys() - {"map", "opening"}:
        prose = re.sub(r"\]\([^)]*\)|\$\$.+?\$\$|\$.+?\$|`[^`]*`", " ", PROSE[cell_id], flags=re.DOTALL)
        for number in re.findall(r"(?<![\w.·])\d+[.,]\d+(?:\.\d+)?|(?<![\w.])\d{3,}", prose):
            digits, value = len(number.partition(".")[2]), float(number.replace(",", ""))
            known = number in EXPLAINED.split("|") or any(round(v, digits) == value for v in values)
            assert known, f"{cell_id}: {number} is not printed by any cell"


def test_every_question_of_the_index_leads_to_a_section_with_a_run_cell():
    rows = re.findall(r"^\|.+\|.+\|$", PROSE["index"], re.MULTILINE)[2:]
    assert len(rows) >= 40
    with_code, section = set(), None
    for cell in read().cells:
        titles = re.findall(r"^#+ (.+)$", cell.source, re.MULTILINE)
        if cell.cell_type == "markdown" and titles:
            section = titles[-1].replace(" ", "-")
        elif cell.cell_type == "code" and cell.outputs:
            with_code.add(section)
    for row in rows:
        targets = re.findall(r"\]\(#([^)]+)\)", row)
        assert targets and set(targets) <= with_code, row


def test_every_failure_is_numbered_explained_and_listed():
    prose = "\n".join(PROSE.values()).split("## Part 3: ")[1].split("\n## Part 4")[0]
    numbers = re.findall(r"^#### (\d+)\. ", prose, re.MULTILINE)
    assert numbers == [str(i + 1) for i in range(17)]
    assert sum(cell_id.startswith("fail-") and cell_id not in PROSE for cell_id in CELLS) >= 17
    for word in ("See", "Cause", "Cure"):
        assert prose.count(f"- **{word}:** ") == 17
    table = prose.split("### What you see, and where to look")[1]
    assert set(re.findall(r"\[(\d+)\]\(#", table)) == set(numbers)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_readme_name_files_that_exist(command):
    assert "\n" not in command, "one command, one line"
    words = shlex.split(command)
    files = [w for w in words if re.search(r"\.(txt|ipynb|py)$", w) or w == "tests"]
    assert files and all((ROOT / name).exists() for name in files)


def test_ci_runs_the_test_command():
    pattern = re.search(r"grep -m1 -E '(.+)' README.md", (ROOT / ".ci/run").read_text())[1]
    first = next(line for line in README.splitlines() if re.search(pattern, line))
    assert [first] == [command for command in COMMANDS if "pytest" in command]


def test_links_images_sections_and_licence_of_the_readme_exist():
    licence = (ROOT / "LICENSE").read_text()
    assert licence.startswith("MIT License") and "(c) 2026 Mehran Asgari" in licence
    assert "github.com/imehranasgari" in README
    slugs = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    slugs = {"#" + re.sub(r"[^\w -]", "", slug).lower().replace(" ", "-") for slug in slugs}
    inner = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert inner and all(link in slugs or (ROOT / link).is_file() for link in inner)
    assert all(len(alt.split()) > 5 for alt in re.findall(r"!\[([^]]*)\]", README))
    for name in re.findall(r"\*([A-Z][^*]+)\*", README.split("## Run it")[0]):
        assert name in HEADINGS, name


# row of the README's table: the cell that prints its two numbers, and how
KEY_RESULTS = {
    "slope": ("noise-part-1", r"slope +(\S+) ± (\S+), planted 2\.5"),
    "intercept": ("noise-part-1", r"intercept (\S+) ± (\S+), planted 10\.0"),
    "training loss": ("loss-figure", r"last loss (\S+), noise floor (\S+)"),
    "RMSE on 40 unseen rows": ("test-rows", r"RMSE (\S+) \(noise (10)\)"),
    "R² on 40 unseen rows": ("test-rows", r"R² (\S+)()"),
    "Hubble's line, km/s per Mpc": ("hubble", r"loop (\S+), \S+; polyfit \[(\S+)"),
    "condition number, raw x": ("normalize-raw", r"condition number (\S+)()"),
    "bugs that a falling loss misses": ("bug-figure", r"falls': (\d+)()"),
}


@pytest.mark.parametrize("label", KEY_RESULTS)
def test_numbers_of_the_readme_are_the_notebooks(label):
    (row,) = re.findall(rf"^\| {label} \|(.+)\|$", README, re.MULTILINE)
    result, comparison = (text.strip() for text in row.split("|"))
    cell_id, pattern = KEY_RESULTS[label]
    printed = re.search(pattern, text_of(CELLS[cell_id]))
    assert result == printed[1]
    assert printed[2] in re.findall(r"[\d.,]*\d", comparison) or not printed[2]
