"""The page: whole without anything else, readable by everyone, and the same as the other forms."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_results import pairs, result, trial

from testbed.report.contents import contents
from testbed.report.html import render_html
from testbed.results import Check, Result
from testbed.results.store import load_result

CSS = Path(__file__).parents[2] / "testbed" / "report" / "templates" / "report.css"
VOID = {"meta", "link", "rect", "line", "path", "use", "br"}


class Page(HTMLParser):
    """What a page consists of; fails at an element that is closed and was not opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert tag in VOID or self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def run() -> Result:
    """Several loads, counted calls, lost packets, and a variant that does not do what it must."""
    trials = []
    for load, count in (("low", 1_000), ("medium", 10_000), ("max", 400_000)):
        trials += pairs(
            load=load, first=len(trials),
            baseline={"offered": count, "delivered": count // 2, "dropped": {"full": count // 2}},
            candidate={"offered": count, "cpu_us": 9.0},
        )  # fmt: skip
    for name, calls in (("per-packet", 1000), ("batched", 40), ("batched-of-8", 125)):
        made = {"recvmmsg": calls, "sendmmsg": calls}
        for pair in range(5):
            trials.append(
                trial(name, number=len(trials), load="max", phase="counting", calls=made, pair=pair)
            )
    broken = Check.model_validate(
        {
            "variant": "batched", "kind": "reachability", "topology": "cell", "passed": False,
            "why": "2 of 6 pairs had no answer",
            "pairs": [
                {"source": a, "destination": b, "family": "ipv4", "expected": True, "sent": 3,
                 "received": 0 if "obu2" in (a, b) and "rsu1" in (a, b) else 3}
                for a in ("rsu1", "obu1", "obu2") for b in ("rsu1", "obu1", "obu2") if a != b
            ],
        }
    )  # fmt: skip
    return result(trials, checks=[broken])


@pytest.fixture(scope="module")
def text(run: Result) -> str:
    return render_html(run)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_the_first_screen_has_claims_findings_and_verdicts(page: Page) -> None:
    words = page.text
    start = words[: words.index("What this quick run falls short of")]
    for part in (
        "batched against per-packet",
        "of 25 claims checked",
        "throughput, low load",
        "No figure counts as a success of batched, which failed reachability.",
    ):
        assert part in start  # fmt: skip


def test_it_needs_nothing_but_itself(text: str) -> None:
    links = set(re.findall(r"https?://[^\s\"'<>)]+", text))
    assert links <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    page = Page(text)
    assert not page.all("script")
    assert not page.all("img")
    assert [link["href"] for link in page.all("link")] == ["data:,"]
    assert not re.search(r"@import|@font-face|url\((?!#)", text)
    for tag, attributes in page.elements:
        for key in ("src", "srcset", "href", "xlink:href", "action"):
            assert attributes.get(key, "#").startswith(("#", "data:,")), (tag, attributes)


def test_names_are_used_once_and_every_reference_leads_somewhere(page: Page) -> None:
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(names) == len(set(names))
    for _, attributes in page.elements:
        for key in ("href", "xlink:href"):
            if attributes.get(key, "").startswith("#"):
                assert attributes[key][1:] in names
        for name in attributes.get("aria-labelledby", "").split():
            assert name in names
        assert not set(re.findall(r"url\(#([^)]+)\)", str(attributes))) - set(names)


def test_every_plot_says_in_words_what_it_shows(page: Page, text: str) -> None:
    plots = [a for a in page.all("svg") if a.get("class") == "chart"]
    assert len(plots) >= 4
    assert all(a["role"] == "img" and a["aria-labelledby"] for a in plots)
    assert all(a["aria-hidden"] == "true" for a in page.all("svg") if a not in plots)
    for words in re.findall(r"<desc[^>]*>([^<]*)</desc>", text):
        assert re.search(r"\d", words)
    # Text of a plot is text, in the page's font.
    assert len(page.all("text")) > 20
    assert "font-family" not in "".join(a.get("style", "") for a in page.all("text"))


def test_tables_are_tables(page: Page) -> None:
    tables = page.all("table")
    assert len(tables) >= 8
    scopes = [attributes.get("scope") for attributes in page.all("th")]
    assert set(scopes) == {"col", "row"}
    assert len(page.all("h1")) == 1
    assert page.text.count("Why ") == 1
    assert page.all("html") == [{"lang": "en"}]


def test_it_has_every_figure_of_the_other_forms(run: Result, page: Page) -> None:
    words = page.text
    for section in contents(run):
        for block in section.blocks:
            for row in getattr(block, "rows", ()):
                for cell in row:
                    assert " ".join(cell.text.split()) in words


def test_names_of_users_cannot_break_the_page() -> None:
    evil = "<script>alert(1)</script>&\"'"
    run = result([trial()], notes=[evil], name=evil)
    page = Page(render_html(run))
    assert not page.all("script")
    assert evil in page.text


def test_the_same_result_gives_the_same_page(run: Result, text: str) -> None:
    assert render_html(run) == text
    assert text.startswith("<!DOCTYPE html>\n")
    assert text.endswith("</html>\n")


def test_an_empty_result_has_a_page_too() -> None:
    assert "not measured" in Page(render_html(result([]))).text


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_read_has_contrast(scheme: str) -> None:
    """WCAG 2.2, 1.4.3 (text: 4.5) and 1.4.11 (curves and bars: 3)."""
    blocks = re.findall(r":root \{([^}]*)\}", CSS.read_text(encoding="utf-8"))
    colours = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", blocks[scheme == "dark"]))
    for paper in ("paper", "panel"):
        for name in ("ink", "faint", "link", "good", "bad", "doubt"):
            assert contrast(colours[name], colours[paper]) >= 4.5, (name, paper)
        for tone in range(8):
            assert contrast(colours[f"tone-{tone}"], colours[paper]) >= 3, tone
    for name in ("good", "bad", "doubt", "faint"):
        assert contrast(colours[name], colours[f"{name}-paper"]) >= 4.5, name


CHROMIUM = shutil.which("chromium")
MEASURE = """<!DOCTYPE html><body>
<iframe id="phone" style="width:390px;height:844px" srcdoc="PAGE"></iframe>
<iframe id="desk" style="width:1280px;height:800px" srcdoc="PAGE"></iframe>
<pre id="found"></pre>
<script>
addEventListener("load", () => {
  const found = {};
  for (const frame of document.querySelectorAll("iframe")) {
    const inside = frame.contentDocument, root = inside.documentElement;
    found[frame.id] = {
      over: root.scrollWidth - root.clientWidth,
      fetched: frame.contentWindow.performance.getEntriesByType("resource").length,
      smallest: Math.min(...[...inside.querySelectorAll(".chart text")].map(
        text => text.getBoundingClientRect().height)),
      rows: inside.querySelectorAll(".claims tbody tr").length,
    };
  }
  document.getElementById("found").textContent = JSON.stringify(found);
});
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_shows_it_on_a_phone_and_on_a_desk(tmp_path: Path) -> None:
    stored = load_result(Path(__file__).with_name("small_result.json"))
    place = tmp_path / "page.html"
    place.write_text(MEASURE.replace("PAGE", html.escape(render_html(stored))), encoding="utf-8")
    done = subprocess.run(
        [
            CHROMIUM or "", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom",
            place.as_uri(),
        ],
        capture_output=True, text=True, check=True, timeout=90,
    )  # fmt: skip
    told = re.search(r'<pre id="found">(.*?)</pre>', done.stdout)
    assert told is not None
    found = json.loads(html.unescape(told[1]))
    assert set(found) == {"phone", "desk"}
    for name, frame in found.items():
        assert frame["over"] == 0, name
        assert frame["fetched"] == 0, name
        assert frame["smallest"] >= 9, name
        assert frame["rows"] > 20, name
