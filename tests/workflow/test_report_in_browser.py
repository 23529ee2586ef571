"""The report in a real browser: Chromium over WebDriver, every request and console line recorded."""

import json
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pandas as pd
import pytest

from percept.report import figures, gallery_page, page, spec
from percept.report.summary import summarise

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from report import test_gallery as known
from report.tables import DECODERS, evaluation, reconstruction

pytestmark = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")), reason="needs chromium and chromedriver"
)
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the driver is on this machine
QUIET = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--window-size=1280,1000",
]  # fmt: skip


class Browser:
    """A session of the WebDriver protocol, as little of it as is needed."""

    def __init__(self, url, profile):
        self.url = url
        options = {"args": [*QUIET, f"--user-data-dir={profile}"]}
        wanted = {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        self.session = ""
        created = self.post(
            "/session", {"capabilities": {"alwaysMatch": {"browserName": "chrome", **wanted}}}
        )
        self.session = f"/session/{created['sessionId']}"

    def post(self, path, body, method="POST"):
        data = json.dumps(body).encode() if method == "POST" else None
        headers = {"Content-Type": "application/json"}
        asked = urllib.request.Request(f"{self.url}{self.session}{path}", data, headers, method=method)
        with DIRECT.open(asked, timeout=60) as answer:
            return json.load(answer)["value"]

    def open(self, path):
        self.post("/url", {"url": path.as_uri()})

    def run(self, script):
        return self.post("/execute/sync", {"script": script, "args": []})

    def log(self, kind):
        return self.post("/se/log", {"type": kind})

    def requests(self):
        """URLs that the page asked for since the last call."""
        events = [json.loads(entry["message"])["message"] for entry in self.log("performance")]
        sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        # the browser's own empty tab loads its parts late on a busy machine; no page can ask for them
        asked = [params["request"]["url"] for params in sent]
        return [url for url in asked if not url.startswith("chrome://new-tab-page")]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        port = next(
            found[1] for line in driver.stdout if (found := re.search(r"successfully on port ([0-9]+)", line))
        )
        session = Browser(f"http://127.0.0.1:{port}", tmp_path_factory.mktemp("profile"))
        yield session
        session.post("", None, "DELETE")
    finally:
        driver.terminate()
        driver.wait(timeout=20)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The report and the table alone, with names that try to become markup."""
    tables = [evaluation(subject, name) for subject in ("subj01", "subj02") for name in DECODERS]
    evil = evaluation("subj01", "ridge").assign(name="<img src=x onerror=alert(1)>")
    long = pd.concat([*tables, evil, reconstruction("subj01")])
    manifest = {"config": {"dataset": {"kind": "twin"}}}
    rows = summarise(long)
    shown = [figures.retrieval_curve(rows, spec.Words()), figures.decoder_comparison(rows, spec.Words())]
    folder = tmp_path_factory.mktemp("report")
    audit = pd.DataFrame({"check": ["leak"], "level": ["pass"]})
    (folder / "index.html").write_text(page.render(long, audit, manifest, shown), encoding="utf-8")
    (folder / "results.html").write_text(page.render_table(long, manifest), encoding="utf-8")
    seen = [
        known.subject("subj01", captions={31: "<img src=x onerror=alert(1)>"}), known.subject("subj02"),
    ]  # fmt: skip
    (folder / "gallery.html").write_text(
        gallery_page.render(seen, manifest, known.OBJECTS, "Gallery"), encoding="utf-8"
    )
    return folder


@pytest.mark.parametrize("name", ["index.html", "results.html", "gallery.html"])
def test_a_page_opens_without_a_console_line_or_a_request_to_a_network(browser, pages, name):
    browser.requests()
    browser.log("browser")
    browser.open(pages / name)
    browser.run(  # pictures further down are decoded when they come into view
        "document.querySelectorAll('img').forEach((one) => { one.loading = 'eager'; });"
        "return Promise.all([...document.images].map((one) => one.decode().catch(() => null)))"
        ".then(() => true)"
    )
    asked = browser.requests()
    assert asked and all(url.startswith(("file:", "data:")) for url in asked), asked
    assert browser.log("browser") == []
    assert browser.run("return document.images.length") == browser.run(
        "return [...document.images].filter((one) => one.complete && one.naturalWidth > 0).length"
    )


def shown(browser, column):
    """Texts of a column of the results, visible rows only."""
    return browser.run(
        "const headings = [...document.querySelectorAll('.results th')];"
        f"const at = headings.findIndex((th) => th.textContent === '{column}');"
        "return [...document.querySelectorAll('.results tbody tr')].filter((row) => !row.hidden)"
        ".map((row) => row.cells[at].firstChild.textContent.trim())"
    )


def choose(browser, label, option):
    browser.run(
        f"const select = [...document.querySelectorAll('.filters label')].find((one) =>"
        f" one.textContent.trim().startsWith('{label}')).querySelector('select'); select.value = '{option}';"
        "select.dispatchEvent(new Event('change'))"
    )


@pytest.mark.parametrize("name", ["index.html", "results.html"])
def test_rows_are_filtered_by_subject_and_direction(browser, pages, name):
    browser.open(pages / name)
    assert set(shown(browser, "Subject")) == {"mean"}
    choose(browser, "Subject", "subj02")
    choose(browser, "Direction", "brain from image")
    assert set(shown(browser, "Subject")) == {"subj02"}
    assert set(shown(browser, "Direction")) == {"brain from image"}
    assert str(len(shown(browser, "Pool"))) in browser.run(
        "return document.querySelector('output').textContent"
    )


@pytest.mark.parametrize(
    ("column", "clicks", "descending"), [("Pool", 1, True), ("Pool", 2, False), ("Metric", 1, False)]
)
def test_a_click_on_a_heading_sorts_and_missing_numbers_stay_last(browser, pages, column, clicks, descending):
    browser.open(pages / "index.html")
    buttons = "[...document.querySelectorAll('.results th button')]"
    click = f"{buttons}.find((button) => button.textContent === '{column}').click()"
    for _ in range(clicks):
        browser.run(click)
    values = [text for text in shown(browser, column) if text != "–"]
    keys = [int(text) for text in values] if column == "Pool" else values
    assert len(set(keys)) > 1 and keys == sorted(keys, reverse=descending)
    assert shown(browser, column)[: len(values)] == values


def cards(browser):
    """What each visible card of the gallery shows: subject, objects, methods and their ranks."""
    return browser.run(
        "return [...document.querySelectorAll('.wall > li')].filter((item) => !item.hidden).map((item) => {"
        " const tiles = [...item.querySelectorAll('figure[data-method]')].filter((one) => !one.hidden);"
        " return {subject: item.dataset.subject, kinds: JSON.parse(item.dataset.kinds),"
        "  seen: item.querySelectorAll('.seen img').length,"
        "  methods: tiles.map((one) => one.dataset.method),"
        "  ranks: tiles.map((one) => Number(one.dataset.rank))}; })"
    )


def field(browser, name, value):
    """Set a field of the gallery's filters as a user does."""
    browser.run(
        f"const field = document.querySelector('.filters [name={name}]'); field.value = '{value}';"
        "field.dispatchEvent(new Event('input', {bubbles: true}));"
        "field.dispatchEvent(new Event('change', {bubbles: true}))"
    )


def test_the_gallery_is_filtered_by_subject_object_and_method(browser, pages):
    browser.open(pages / "gallery.html")
    everything = cards(browser)
    assert {card["subject"] for card in everything} == {"subj01", "subj02"}
    assert all(card["seen"] == 1 and len(card["methods"]) == 2 for card in everything)
    field(browser, "subject", "subj02")
    field(browser, "kind", "dog")
    field(browser, "method", "unclip")
    kept = cards(browser)
    expected = [card for card in everything if card["subject"] == "subj02" and "dog" in card["kinds"]]
    assert 0 < len(kept) == len(expected) < len(everything)
    assert all(card["methods"] == ["unclip"] and card["seen"] == 1 for card in kept)
    said = browser.run("return document.querySelector('.filters output').textContent")
    assert said == f"{len(kept)} of {len(everything)} images"
    browser.run("document.querySelector('.filters button[type=reset]').click()")
    browser.run("return new Promise((done) => setTimeout(() => done(true), 50))")
    assert len(cards(browser)) == len(everything)


@pytest.mark.parametrize("order", [1, -1])
def test_the_gallery_is_sorted_by_rank(browser, pages, order):
    browser.open(pages / "gallery.html")
    field(browser, "method", "unclip")
    field(browser, "order", order)
    ranks = [card["ranks"][0] for card in cards(browser)]
    assert len(set(ranks)) > 1 and ranks == sorted(ranks, reverse=order < 0)


def test_a_range_of_ranks_keeps_the_images_within_it(browser, pages):
    browser.open(pages / "gallery.html")
    before = sorted(rank for card in cards(browser) for rank in card["ranks"])
    limit = int(before[len(before) // 2])
    field(browser, "high", limit)
    ranks = sorted(rank for card in cards(browser) for rank in card["ranks"])
    assert 0 < len(ranks) < len(before) and ranks == [rank for rank in before if rank <= limit]


@pytest.mark.parametrize("name", ["index.html", "gallery.html"])
def test_a_name_that_is_markup_stays_text(browser, pages, name):
    browser.open(pages / name)
    assert "<img src=x onerror=alert(1)>" in browser.run("return document.body.textContent")
    assert browser.run("return document.querySelectorAll('img[src=x]').length") == 0


@pytest.mark.parametrize("name", ["index.html", "gallery.html"])
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_the_page_is_never_wider_than_the_window(browser, pages, width, name):
    browser.post("/goog/cdp/execute", {
        "cmd": "Emulation.setDeviceMetricsOverride",
        "params": {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    })  # fmt: skip
    browser.open(pages / name)
    assert browser.run("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("name", ["index.html", "gallery.html"])
def test_the_content_policy_stops_a_request_that_markup_would_make(browser, pages, name):
    browser.open(pages / name)
    browser.requests()
    browser.run(
        "const i = document.createElement('img'); i.src = 'http://127.0.0.1:9/x.png'; document.body.append(i)"
    )
    assert any("Content Security Policy" in line["message"] for line in browser.log("browser"))
