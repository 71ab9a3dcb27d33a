"""Each feature of the page, in Chromium. Skipped where there is no Chromium or no playwright."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.view.conftest import scored_rows, write_parquet
from tests.view.test_sources import SAMPLE, lines, make_run

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
NAMELESS = """() => {
  const all = document.querySelectorAll("button, a[href], input, select, svg, [role=region], dialog, nav, aside");
  const named = (e) => e.getAttribute("aria-label") || e.getAttribute("aria-labelledby") || e.textContent.trim() || e.labels?.length;
  return [...all].filter((e) => !named(e)).map((e) => e.outerHTML);
}"""
CONTRASTS = """() => {
  const style = getComputedStyle(document.documentElement);
  const hex = (name) => style.getPropertyValue(name).trim().replace(/^#(.)(.)(.)$/, "#$1$1$2$2$3$3");
  const part = (text, at) => {
    const c = parseInt(text.slice(at, at + 2), 16) / 255;
    return c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
  };
  const light = (text) => .2126 * part(text, 1) + .7152 * part(text, 3) + .0722 * part(text, 5);
  const ratio = (a, b) => {
    const [high, low] = [light(hex(a)), light(hex(b))].sort((p, q) => q - p);
    return (high + .05) / (low + .05);
  };
  const pairs = ["--fore", "--soft", "--accent", "--differs", "--bad"].flatMap((t) => [[t, "--back"], [t, "--raised"]]);
  return Object.fromEntries([...pairs, ["--fore", "--mark"]].map(([a, b]) => [a + b, ratio(a, b)]));
}"""
CORRECT = "component:cor'rect\""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two scored files and a run."""
    folder = tmp_path_factory.mktemp("view")
    write_parquet(folder / "a.parquet", scored_rows(120))
    write_parquet(folder / "b.parquet", scored_rows(120, better=0.5))
    samples = [
        SAMPLE | {"step": step, "prompt": "<b>1+1</b>?", "completion": "x <script>document.title='hacked'</script>"}
        for step in (1, 2)
    ]
    run = make_run(folder / "run", *samples)
    (run / "metrics.jsonl").write_text(
        lines(
            *({"step": step, "kind": kind, "reward": step / 10} for step in range(1, 5) for kind in ("train", "eval"))
        )
    )
    (run / "alarms.jsonl").write_text(
        lines({"step": 3, "name": "truncated", "message": "many completions are cut off"})
    )
    return folder


@pytest.fixture(scope="module")
def address(folder):
    """The address of a viewer that runs as users run it."""
    names = [str(folder / name) for name in ("a.parquet", "b.parquet", "run")]
    command = [sys.executable, "-m", "rewardkit", "view", *names, "--port", "0", "--no-browser"]
    viewer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        viewer.stdout.readline()
        yield viewer.stdout.readline().split()[0]
    finally:
        viewer.terminate()
        viewer.wait()
        viewer.stdout.close()


@pytest.fixture(scope="module")
def browser():
    """A running Chromium."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, address):
    """A function that opens the page. At the end, the page has reported no error and asked nobody else for anything."""
    problems, pages = [], []

    def open_page(query="", *, width=1400, height=900, scheme="light"):
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on(
            "request",
            lambda request: None if request.url.startswith((address, "data:")) else problems.append(request.url),
        )
        page.goto(address + query)
        page.wait_for_selector("table, figure, main .note", state="attached")
        pages.append(page)
        if folder := os.environ.get("REWARDKIT_SCREENSHOTS"):
            page.screenshot(path=f"{folder}/{len(list(Path(folder).iterdir())):03}.png")
        return page

    with contextlib.ExitStack() as stack:
        stack.callback(lambda: [page.close() for page in pages])
        yield open_page
    assert problems == []


def filtered(*conditions):
    """Return the part of an address that holds filters."""
    return "&".join(f"f={quote(json.dumps(list(condition)))}" for condition in conditions)


def shown(page):
    """Return the numbers of the rows in the table."""
    return [int(text.replace(",", "")) for text in page.locator("table.rows tbody th a").all_inner_texts()]


def wait_for(page, text):
    """Wait for a text in the count of rows."""
    page.locator(".pages span", has_text=text).wait_for()


def test_rows_are_listed_in_pages(visit):
    """The next page and the last are reached by buttons, and the address says which page it is."""
    page = visit()
    assert shown(page) == list(range(1, 51))
    page.get_by_role("button", name="Next", exact=True).click()
    wait_for(page, "51–100 of 120 rows")
    assert "at=50" in page.url
    page.get_by_role("button", name="Last").click()
    wait_for(page, "101–120 of 120 rows")


def test_a_heading_sorts(visit):
    """The first click sorts in descending order, the second in ascending, the third not at all; screen readers are told."""
    page = visit()
    heading = page.get_by_role("columnheader", name="length")
    heading.get_by_role("button").click()
    page.locator("tbody th a", has_text="120").wait_for()
    assert (shown(page)[:2], heading.get_attribute("aria-sort")) == ([120, 119], "descending")
    heading.get_by_role("button").click()
    page.locator("tbody tr:first-child th a", has_text=re.compile("^1$")).wait_for()
    assert heading.get_attribute("aria-sort") == "ascending"


def test_filters_are_added_and_removed(visit):
    """A filter of a column shows as a chip, which removes it again."""
    page = visit()
    page.get_by_label("Column").select_option(CORRECT)
    page.get_by_label("Condition").select_option(">=")
    page.get_by_label("Value").fill("1")
    page.get_by_role("button", name="Add filter").click()
    wait_for(page, "of 15 rows")
    page.get_by_role("button", name="Remove the filter").click()
    wait_for(page, "of 120 rows")


def test_the_search_finds_while_typing(visit):
    """What is typed is searched, and stands in the address."""
    page = visit()
    page.get_by_label("Search prompts").type("what is 7 +")
    wait_for(page, "of 4 rows")
    assert "q=what+is+7" in page.url


def test_a_row_opens_with_its_components_and_what_was_extracted(visit):
    """The panel shows components with reasons, and marks the extracted answer, for screen readers in words."""
    page = visit()
    page.get_by_role("link", name="1", exact=True).click()
    panel = page.get_by_role("complementary", name="Row 1")
    panel.locator("mark").wait_for()
    assert "extracted by cor'rect\"" in panel.locator("mark").inner_text()
    assert "prediction '0' (bare)" in panel.inner_text()
    page.keyboard.press("Escape")
    panel.wait_for(state="detached")


def test_rows_are_sorted_on_a_narrow_screen(visit):
    """Where rows are cards without headings, a field holds the order."""
    page = visit(width=400)
    page.get_by_label("Order").select_option("length, highest first")
    page.locator("tbody tr:first-child th a", has_text=re.compile("^120$")).wait_for()


def test_the_focus_follows_a_row_on_a_narrow_screen(visit):
    """Where the row replaces the table, the focus goes to its heading, and back to its link when it is closed."""
    page = visit(width=400)
    page.get_by_role("link", name="2", exact=True).click()
    page.get_by_role("complementary", name="Row 2").wait_for()
    assert page.evaluate("document.activeElement.id") == "panel-title"
    assert not page.locator("table.rows").is_visible()
    page.keyboard.press("Escape")
    page.locator("a[data-row='1']:focus").wait_for()


def test_a_link_restores_everything(visit):
    """Filters, order, page and open row come from the address alone; going back goes back."""
    page = visit(f"?{filtered(['component:length', '<', 60])}&sort=-component:length&row=59")
    wait_for(page, "of 60 rows")
    assert shown(page)[0] == 60
    page.get_by_role("complementary", name="Row 60").wait_for()
    page.get_by_role("button", name="Close").click()
    page.go_back()
    page.get_by_role("complementary", name="Row 60").wait_for()


def test_the_keyboard_reaches_rows_search_views_and_comparison(visit):
    """Keys: j and k move, / searches, h holds, c compares, g shows groups, and ? lists the keys."""
    page = visit()
    for _ in range(3):
        page.keyboard.press("j")
    page.keyboard.press("k")
    page.get_by_role("complementary", name="Row 2").wait_for()
    page.keyboard.press("h")
    page.get_by_role("button", name="Held for comparison").wait_for()
    page.keyboard.press("j")
    page.get_by_role("complementary", name="Row 3").wait_for()
    page.keyboard.press("c")
    page.get_by_role("heading", name="Two completions").wait_for()
    page.keyboard.press("g")
    wait_for(page, "of 30 groups")
    page.keyboard.press("?")
    assert "next row" in page.get_by_role("dialog").inner_text()
    page.keyboard.press("Escape")
    page.keyboard.press("r")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"


def test_two_completions_are_side_by_side_with_their_differences(visit):
    """Words that differ are marked in both; the prompt is said to be the same."""
    page = visit("?view=compare&row=1&with=0.0")
    page.get_by_role("article").nth(1).wait_for()
    assert [article.locator("ins").all_inner_texts() for article in page.get_by_role("article").all()] == [
        ["0", "0"],
        ["1", "1"],
    ]
    assert "The prompt is the same" in page.inner_text("main")


def test_groups_lead_to_their_rows(visit):
    """A group tells its rewards' spread, and its link shows its rows."""
    page = visit("?view=groups&sort=-mean")
    page.get_by_role("link", name="g0", exact=True).click()
    wait_for(page, "of 4 rows")


def test_distributions_have_words_and_numbers(visit):
    """Each chart has a description and its numbers as a table, and follows the filters."""
    page = visit(f"?view=charts&{filtered(['group', '=', 'g0'])}")
    chart = page.get_by_role("img", name="Histogram of reward: 3 values from 0 to 1, mean 0.3333")
    chart.wait_for()
    assert "rows" in chart.text_content()
    page.locator("figure", has=chart).get_by_text("Numbers of this chart").click()
    assert page.locator("figure", has=chart).locator("tbody tr").all_inner_texts() == ["0\t2", "1\t1"]
    assert "unscored (infra)" in page.inner_text("main")


def test_two_files_are_compared(visit):
    """Means and shared prompts of both; a prompt leads to its completions in both, and to two of them side by side."""
    page = visit("?view=compare")
    page.get_by_role("link", name="What is 1 + 1?").wait_for()
    assert "+0.5" in page.get_by_role("region", name="Means").inner_text()
    page.get_by_role("link", name="What is 1 + 1?").click()
    page.get_by_role("article", name="b.parquet").get_by_role("link").first.click()
    page.get_by_role("heading", name="Two completions").wait_for()
    assert page.get_by_role("article").all_inner_texts()[1].startswith("b.parquet, row 5")


def test_a_run_shows_curves_and_alarms(visit):
    """Curves say in words where they begin and end; alarms are listed and drawn."""
    page = visit("?s=2&view=curves")
    name = "reward by step. training: from 0.1 at step 1 to 0.4 at step 4; held-out data: from 0.1 at step 1 to 0.4 at step 4"
    page.get_by_role("img", name=name).wait_for()
    assert "step 3, truncated: many completions are cut off" in page.inner_text("main")


def test_what_a_run_writes_appears_while_it_goes_on(visit, folder):
    """New rollouts are shown without a reload, and announced."""
    page = visit("?s=2")
    before = len(shown(page))
    with (folder / "run" / "samples.jsonl").open("a") as stream:
        stream.write(lines(SAMPLE | {"step": 9}))
    wait_for(page, f"of {before + 1} rows")
    assert f"1 more, {before + 1} rows in all" in page.locator(".news").inner_text()


def test_markup_of_completions_is_shown_and_not_run(visit):
    """A completion is text."""
    page = visit("?s=2&row=0")
    page.get_by_role("complementary").get_by_text("<script>document.title='hacked'</script>").wait_for()
    assert page.title() == "run – rewardkit view"


@pytest.mark.parametrize(
    "query",
    ["", "?row=0", "?view=groups", "?view=charts", "?view=compare", "?s=2&view=curves", "?view=compare&row=1&with=0.0"],
)
def test_every_view_fits_the_screen_and_names_its_controls(visit, query):
    """From 400 pixels to 4K only tables scroll sideways, in their own frame. Screen readers get a name for all that can be reached."""
    page = visit(query, width=400)
    for width in (400, 1100, 3840):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(NAMELESS) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_both_schemes(visit, scheme):
    """Text and background differ by a ratio of 4.5 and more, as WCAG 2.2 AA asks, in all colours of the page."""
    page = visit("?row=0", scheme=scheme)
    page.locator("mark").first.wait_for()
    ratios = page.evaluate(CONTRASTS)
    assert min(ratios.values()) >= 4.5, ratios
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")


def test_a_viewer_that_has_ended_says_so(browser, tmp_path):
    """The page tells that the command has ended, instead of standing still."""
    write_parquet(tmp_path / "a.parquet", scored_rows(4))
    command = [sys.executable, "-m", "rewardkit", "view", str(tmp_path / "a.parquet"), "--port", "0", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as viewer:
        viewer.stdout.readline()
        page = browser.new_page()
        page.goto(viewer.stdout.readline().split()[0])
        page.wait_for_selector("table")
        viewer.terminate()
        assert viewer.wait() == 0
        page.get_by_role("alert").get_by_text("`rewardkit view` has ended").wait_for()
        page.close()
