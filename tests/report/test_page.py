"""The page in a real browser: what it shows is what the policy says, and it asks for nothing but itself."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edge_embed.report import write_report
from edge_embed.report.content import describe
from edge_embed_runtimes.choose.options import list_options, with_costs
from edge_embed_runtimes.choose.policy import Budget, choose
from edge_embed_runtimes.device.probe import PowerState
from edge_embed_runtimes.errors import NoTierFits

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium")
SWITCHES = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
WIDTHS = [(1280, 900), (390, 844)]
CONTRAST = """cell => {
    const context = new OffscreenCanvas(1, 1).getContext("2d");
    const light = (colour) => {
        context.fillStyle = colour;
        context.fillRect(0, 0, 1, 1);
        const parts = [...context.getImageData(0, 0, 1, 1).data].slice(0, 3).map((one) => one / 255);
        const linear = parts.map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05;
    };
    const style = getComputedStyle(cell);
    const pair = [light(style.backgroundColor), light(style.color)].sort((a, b) => a - b);
    return pair[1] / pair[0];
}"""


@dataclass
class Opened:
    """A page, and what it said and asked for."""

    page: "sync_api.Page"
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()

    def reasons(self) -> list[tuple[str, str]]:
        lines = self.page.locator("#why-not li")
        return [(line.locator("b").inner_text(), line.locator("span").inner_text()) for line in lines.all()]

    def press(self, selector: str, *keys: str) -> None:
        self.page.focus(selector)
        for key in keys:
            self.page.keyboard.press(key)


@pytest.fixture(scope="module")
def browser() -> Iterator["sync_api.Browser"]:
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES.split())
        yield found
        found.close()


@pytest.fixture
def open_page(browser):
    contexts = []

    def open_(path: Path, *, size: tuple[int, int] = WIDTHS[0], scheme: str = "light") -> Opened:
        width, height = size
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        opened = Opened(context.new_page())
        opened.page.on("console", lambda message: opened.messages.append(message.text))
        opened.page.on("pageerror", lambda error: opened.messages.append(str(error)))
        opened.page.on("request", lambda request: opened.requests.append(request.url))
        opened.page.goto(path.as_uri())
        return opened

    yield open_
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def bundle(make_bundle, tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("page") / "bundle")


@pytest.fixture(scope="module")
def plain(bundle, make_profile, tmp_path_factory):
    """A report without energy, and the profile behind it."""
    profile, path = make_profile(bundle), tmp_path_factory.mktemp("plain") / "report.html"
    write_report(bundle, profile, path)
    return profile, path


@pytest.fixture(scope="module")
def metered(bundle, make_profile, tmp_path_factory):
    """A report with energy, of a device that was not stable."""
    profile = make_profile(bundle, energy=True, drift=0.3, quick=True)
    path = tmp_path_factory.mktemp("metered") / "report.html"
    write_report(bundle, profile, path)
    return profile, path


def check(opened: Opened, bundle, profile, budget: Budget, *, threads: int, power: str = "mains") -> None:
    """Hold what the page shows against what the policy says now."""
    options = with_costs(list_options(bundle), profile.with_threads(threads), budget.tokens)
    try:
        choice = choose(options, budget, PowerState(power))
    except NoTierFits as error:
        assert opened.text("#picked") == "No tier"
        first, *lines = str(error).splitlines()
        assert opened.page.locator("#because").text_content() == first.removesuffix(":")
        assert [(line.split()[0], line.partition(": ")[2]) for line in lines] == opened.reasons()
        return
    assert opened.text("#picked") == choice.tier.name
    assert opened.text("#picked-kind").endswith(f"{choice.engine} {choice.precision}")
    assert opened.page.locator("#because").text_content() == choice.because
    assert opened.reasons() == [(tier.name, reason) for tier, reason in choice.passed_over]
    ringed = opened.page.locator("#latency-plot [data-picked]").get_attribute("data-picked")
    assert ringed.startswith(f"{choice.tier.name}, {choice.engine} {choice.precision}:")
    assert opened.page.locator("#costs tr.picked th").inner_text() == choice.tier.name


def test_the_latency_slider_by_keyboard(open_page, bundle, plain):
    profile, path = plain
    opened = open_page(path)
    choices = describe(bundle, profile).views[1].choices
    check(opened, bundle, profile, Budget(tokens=16), threads=2)
    opened.press("#latency", "Home")
    for limit in choices.latency_ms:
        shown = "no limit" if limit is None else f"{limit:g} ms"
        assert opened.text("#latency-value") == shown
        assert opened.page.locator("#latency").get_attribute("aria-valuetext") == shown
        assert opened.page.locator("#latency-plot [data-limit]").count() == (limit is not None)
        check(opened, bundle, profile, Budget(latency_ms=limit, tokens=16), threads=2)
        opened.page.keyboard.press("ArrowRight")
    assert opened.messages == []


def test_the_least_score_and_the_power_by_keyboard(open_page, bundle, plain):
    profile, path = plain
    opened = open_page(path)
    choices = describe(bundle, profile).views[1].choices
    opened.press("#latency", "End", *["ArrowLeft"] * 3)
    latency = choices.latency_ms[-4]
    for floor in choices.min_quality:
        assert opened.text("#quality-value") == ("none" if floor is None else f"at least {floor:g}")
        for power, key in (("mains", "ArrowLeft"), ("battery", "ArrowRight")):
            opened.press("input[name=power]:checked", *[key] * (power != opened_power(opened)))
            budget = Budget(latency_ms=latency, min_quality=floor, tokens=16)
            check(opened, bundle, profile, budget, threads=2, power=power)
        opened.press("#quality", "ArrowRight")


def opened_power(opened: Opened) -> str:
    return opened.page.locator("input[name=power]:checked").get_attribute("value")


def test_another_length_and_other_threads_keep_the_limits(open_page, bundle, plain):
    profile, path = plain
    opened = open_page(path)
    opened.press("#latency", "Home", *["ArrowRight"] * 4)
    opened.page.select_option("#tokens", "32")
    opened.page.select_option("#threads", "1")
    limit = float(opened.text("#latency-value").removesuffix(" ms"))
    assert limit in describe(bundle, profile).views[2].choices.latency_ms
    check(opened, bundle, profile, Budget(latency_ms=limit, tokens=32), threads=1)
    assert "32 tokens a text, 1 thread" in opened.text("#costs-hint")


def test_the_energy_slider_is_there_only_where_energy_was_measured(open_page, bundle, plain, metered):
    opened = open_page(plain[1])
    assert not opened.page.locator("#energy").is_visible()
    assert not opened.page.locator("#energy-figure").is_visible()
    assert "Energy: not measured" in opened.text("#notices")
    profile, path = metered
    opened = open_page(path)
    choices = describe(bundle, profile).views[1].choices
    opened.press("#latency", "End", "ArrowLeft", "ArrowLeft")
    opened.press("#energy", "Home")
    for limit in choices.energy_mj:
        budget = Budget(latency_ms=choices.latency_ms[-3], energy_mj=limit, tokens=16)
        check(opened, bundle, profile, budget, threads=2)
        opened.page.keyboard.press("ArrowRight")
    assert opened.page.locator("#energy-plot [data-picked]").count() == 1


def test_a_device_that_was_not_stable_is_warned_of(open_page, plain, metered):
    assert "not stable" not in open_page(plain[1]).text("#notices")
    told = open_page(metered[1]).text("#notices")
    assert "not stable: the same calls took 30 % longer" in told
    assert "quick profile" in told
    assert "Energy" not in told


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", WIDTHS, ids=["wide", "narrow"])
def test_the_page_fits_and_asks_for_nothing(open_page, metered, size, scheme):
    opened = open_page(metered[1], size=size, scheme=scheme)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= size[0]
    for box in opened.page.locator(".scroll").all():
        assert box.get_attribute("tabindex") == "0"
        assert box.bounding_box()["width"] <= size[0]
    assert opened.messages == []
    assert opened.requests == [metered[1].as_uri()]
    cells = opened.page.locator("#cross tbody td")
    assert cells.count() == 9
    assert min(cell.evaluate(CONTRAST) for cell in cells.all()) >= 4.5
    assert min(note.evaluate(CONTRAST) for note in opened.page.locator(".notice").all()) >= 4.5


def test_every_control_has_a_name(open_page, metered):
    page = open_page(metered[1]).page
    for name in ("Length of a text", "Threads a call", "Engine and precision"):
        assert page.get_by_role("combobox", name=name).count() == 1
    for name in ("Most time for one text", "Most energy for one text", "Least score"):
        assert page.get_by_role("slider", name=name).count() == 1
    assert page.get_by_role("radio").count() == 2


def test_words_from_the_data_are_never_markup(open_page, make_bundle, make_profile, tmp_path):
    hostile = '</script><img src="x" onerror="alert(1)"><b>bold</b>'
    bundle = make_bundle(tmp_path / "bundle", name=hostile, missed=(hostile,), scored=False)
    write_report(bundle, make_profile(bundle), tmp_path / "report.html")
    opened = open_page(tmp_path / "report.html")
    assert opened.text("h1") == hostile
    assert opened.text("#missed li") == hostile
    assert opened.page.locator("main img").count() == 0
    assert opened.page.title() == f"{hostile}: device profile"
    assert "no scores" in opened.text("#latency-plot")
    assert "missed 1 gate " in opened.text("#notices")
    assert (opened.messages, opened.requests) == ([], [(tmp_path / "report.html").as_uri()])
