"""The report as a browser shows it: nothing sticks out, nothing is asked for, light and dark both show something."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reuse_compiler.reports.calibration_page import write_html
from tests.reports.browser import Browser, find_browser
from tests.reports.calibration_sample import AWKWARD, deep, dense, sample, single

WIDTHS = [360, 768, 1280]
SIZE = (900, 1300)


@pytest.fixture
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    return find_browser(tmp_path_factory.mktemp("profiles"))


def test_fits_phones_and_screens_and_asks_for_nothing(browser: Browser, tmp_path: Path) -> None:
    reports = {"dense.html": dense(), "single.html": single(), "deep.html": deep(8)}
    pages = [tmp_path / name for name in reports]
    for page in pages:
        write_html(reports[page.name], page)
    measured, console = browser.measure(pages, WIDTHS)
    assert console == ""
    assert len(measured) == len(WIDTHS) * len(pages)
    for seen in measured:
        report, where = reports[seen["page"]], f"{seen['page']} at {seen['width']} pixels"
        assert seen["scroll"] <= seen["client"], f"{where} is {seen['scroll']} wide: {seen['beyond']}"
        assert not seen["beyond"], f"{where}: {seen['beyond']} stick out"
        assert seen["images"], f"{where}: a picture is not shown"
        assert seen["drawings"] >= sum(bool(layer.measurements) for layer in report.layers), where
        assert report.model in seen["text"]
        assert AWKWARD in seen["text"] or seen["page"] != "deep.html"


def test_light_and_dark_show_the_same_page_in_other_colours(browser: Browser, tmp_path: Path) -> None:
    page, image = tmp_path / "report.html", tmp_path / "both.png"
    write_html(sample(layers=sample().layers[:4]), page)
    browser.screenshot(page, image, *SIZE)
    both = np.asarray(Image.open(image).convert("RGB"), np.int64)
    assert both.shape == (SIZE[1], 2 * SIZE[0], 3)
    light, dark = both[:, : SIZE[0]], both[:, SIZE[0] :]
    for picture in (light, dark):
        inked = (np.abs(picture - picture[0, 0]).max(axis=2) > 24).any(axis=1)
        assert inked.mean() > 0.4, "most of the page is blank"
        assert len(np.unique((picture // 16).reshape(-1, 3), axis=0)) > 40, "no coloured drawing is to be seen"
    assert light[0, 0].mean() > 200 and dark[0, 0].mean() < 60
