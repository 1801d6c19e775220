"""The pages as a browser shows them: both themes, a phone and a desktop; by mouse, finger and keyboard."""

import re
import shutil

import pytest
from stories import story

from surefoot.report import Story, compare, page

CHROMIUM = shutil.which("chromium")
SWITCHES = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no browser: install Debian's chromium")

LONG = "a_setting_with_a_name_that_has_no_end_" * 4

PAGES = {
    "run": lambda: page(story(settings={LONG: LONG, "lr": 0.002}, resume=f"surefoot train --resume {LONG}")),
    "layers": lambda: page(story(LONG, layers=30, groups=[f"encoder.layer.{i}.*" for i in range(14)])),
    "runs": lambda: compare([story(f"digits-{i}", steps=120 + 60 * i, lr=i * 1e-3) for i in range(1, 9)]),
    "little": lambda: page(Story("run", step=[1], epoch=[1], loss=[2.0])),
}

# What every text and stroke is drawn in, and the opaque colour that is behind it.
COLORS = """() => {
  const behind = node => {
    for (; node; node = node.parentElement) {
      const color = getComputedStyle(node).backgroundColor.match(/[\\d.]+/g).map(Number);
      if (color.length < 4 || color[3] > 0) return color;
    }
  };
  const out = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement;
    if (walk.currentNode.data.trim() && node.checkVisibility() && node.localName !== "script")
      out.push([walk.currentNode.data, 4.5, getComputedStyle(node).color.match(/[\\d.]+/g).map(Number), behind(node)]);
  }
  for (const path of document.querySelectorAll("path:not(.grid,.interval,.bad,[class^=q])"))
    out.push([path.getAttribute("class"), 3, getComputedStyle(path).stroke.match(/[\\d.]+/g).map(Number), behind(path)]);
  return out;
}"""

# For every chart how many of its marks are drawn, and whether all are inside its frame.
MARKS = """() => [...document.querySelectorAll("figure")].map(figure => {
  const svg = figure.querySelector(".plot > svg"), frame = svg.viewBox.baseVal;
  const boxes = [...svg.querySelectorAll("path:not(.grid,.mark,.interval,.bad)")].map(path => path.getBBox());
  const inside = boxes.every(box => box.x >= -0.1 && box.y >= -0.1 && box.x + box.width <= frame.width + 0.1
    && box.y + box.height <= frame.height + 0.1);
  return [figure.id, boxes.length, inside,
    svg.getBoundingClientRect().width, svg.getBoundingClientRect().height];
})"""


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        yield started.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)


@pytest.fixture(scope="module")
def opened(browser, tmp_path_factory):
    """Opens pages, each once, and notes what the browser complains about."""
    folder, shown, complaints = tmp_path_factory.mktemp("pages"), {}, []

    def look(name, width=1280, theme="light", **kwargs):
        key = name, *kwargs
        if key not in shown:
            file = folder / f"{name}.html"
            if not file.exists():
                file.write_text(PAGES[name](), encoding="utf-8")
            shown[key] = browser.new_context(**kwargs).new_page()
            shown[key].on("console", lambda message: complaints.append(message.text))
            shown[key].on("pageerror", lambda error: complaints.append(str(error)))
            shown[key].on("request", lambda request: complaints.append(request.url))
            shown[key].goto(file.as_uri())
            assert complaints.pop(0) == file.as_uri()
        shown[key].set_viewport_size({"width": width, "height": 900})
        shown[key].emulate_media(color_scheme=theme)
        return shown[key]

    return look, complaints


@pytest.fixture
def show(opened):
    look, complaints = opened
    yield look
    assert complaints == []


def contrast(one, other):
    def luminance(color):
        r, g, b = (c / 255 / 12.92 if c <= 10.3 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in color[:3])
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


both = pytest.mark.parametrize(("width", "theme"), [(380, "dark"), (1280, "light")])


@both
@pytest.mark.parametrize("name", PAGES)
def test_text_and_marks_stand_out(show, name, width, theme):
    colors = show(name, width, theme).evaluate(COLORS)
    assert len(colors) > 5
    faint = [text for text, least, color, behind in colors if contrast(color, behind) < least]
    assert faint == []
    paper = colors[0][3]
    assert (sum(paper) < 200) == (theme == "dark")


@both
@pytest.mark.parametrize("name", PAGES)
def test_every_chart_has_marks_and_the_page_fits(show, name, width, theme):
    shown = show(name, width, theme)
    charts = shown.evaluate(MARKS)
    assert charts
    for key, marks, inside, wide, high in charts:
        assert marks > 0, key
        assert inside, key
        assert wide > 150, key
        assert high > 150, key
    assert shown.evaluate("document.documentElement.scrollWidth") <= width


@both
def test_no_text_of_a_chart_is_on_another(show, width, theme):
    overlaps = show("run", width, theme).evaluate("""() => {
      const found = [];
      for (const figure of document.querySelectorAll("figure")) {
        const texts = [...figure.querySelectorAll("h2, figcaption, .legend li, .plot b, .unit")];
        const boxes = texts.filter(t => t.textContent.trim()).map(t => [t.textContent, t.getBoundingClientRect()]);
        boxes.forEach(([a, p], i) => boxes.slice(i + 1).forEach(([b, q]) => {
          if (p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 1 && q.top < p.bottom - 1) found.push([a, b]);
        }));
      }
      return found;
    }""")
    assert overlaps == []


def values(figure):
    return figure.locator("output").all_text_contents()


def test_pointing_at_a_chart_reads_it_and_leaving_it_puts_it_back(show):
    shown = show("run")
    figure = shown.locator("#loss")
    before = values(figure)
    figure.locator(".plot").hover(position={"x": 300, "y": 40})
    assert re.fullmatch(r"step \d+, epoch \d+", figure.locator(".at").text_content())
    assert values(figure) != before
    assert all(float(value) > 0 for value in values(figure))
    assert figure.locator(".spot").count() == 3
    shown.mouse.move(5, 5)
    assert values(figure) == before
    assert figure.locator(".spot, .cursor").count() == 0


@pytest.mark.parametrize("name", ["run", "layers", "runs"])
def test_every_chart_can_be_pointed_at(show, name):
    read = show(name).evaluate("""() => [...document.querySelectorAll("figure")].map(figure => {
      const plot = figure.querySelector(".plot"), box = plot.getBoundingClientRect();
      const at = { clientX: box.left + 0.3 * box.width, clientY: box.top + 60, pointerType: "mouse" };
      plot.dispatchEvent(new PointerEvent("pointermove", at));
      const said = [figure.querySelector(".at").textContent, [...figure.querySelectorAll("output")].map(o => o.textContent)];
      plot.dispatchEvent(new PointerEvent("pointerleave", at));
      return said;
    })""")
    assert len(read) > 5
    for at, numbers in read:
        assert re.match(r"(step|rate) \d", at)
        assert any(numbers)


def test_a_finger_reads_a_chart(show):
    figure = show("run", 380, has_touch=True, is_mobile=True).locator("#rates")
    figure.locator(".plot").tap(position={"x": 100, "y": 60})
    assert figure.locator(".at").text_content().startswith("step ")
    assert float(values(figure)[0]) > 0


def test_the_keyboard_walks_along_a_line(show):
    figure = show("run").locator("#loss")
    plot, at = figure.locator(".plot"), figure.locator(".at")
    plot.focus()
    read = []
    for key in ("Home", "ArrowRight", "Shift+ArrowRight", "End", "ArrowRight", "ArrowLeft", "Escape"):
        plot.press(key)
        read.append(at.text_content())
    steps = ("1, epoch 1", "2, epoch 1", "14, epoch 1", "240, epoch 12", "240, epoch 12", "239, epoch 12")
    assert read == [*(f"step {step}" for step in steps), ""]


def test_the_keyboard_walks_through_a_heat_map(show):
    figure = show("layers").locator("#ratios")
    read = []
    for key in ("Home", "End", "ArrowDown", "ArrowUp"):
        figure.locator(".plot").press(key)
        read.append(values(figure)[0])
    start, end, below, above = (text.rsplit(" ", 1) for text in read)
    assert start[0] == end[0] == above[0] != below[0]
    assert start[1] == "none"
    assert end == above
    assert float(below[1]) > 0


def test_beyond_its_end_a_line_has_no_value(show):
    figure = show("run").locator("#rates")
    figure.locator(".plot").press("End")
    assert figure.locator(".at").text_content().startswith("step 300")
    assert values(figure)[::2] == ["none", "none"]


def test_without_scripts_the_charts_and_the_last_values_are_there(show):
    shown = show("run", java_script_enabled=False)
    assert shown.locator("#loss .plot path.line").get_attribute("d").count(" ") > 100
    assert all(values(shown.locator("#loss")))
