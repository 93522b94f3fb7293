"""The page of `aligndraw demo` in a headless browser. Gradio, Playwright and Chromium are asked of the machine."""

import io
import re
import shutil
import socket
import subprocess
import sys
import time
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from aligndraw.pipelines.shipped import SHIPPED

pytest.importorskip("gradio", reason='Gradio is not installed: pip install "aligndraw[browser]"')
playwright = pytest.importorskip(
    "playwright.sync_api", reason='Playwright is not installed: pip install "aligndraw[browser]"'
)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("there is no chromium or google-chrome on PATH", allow_module_level=True)

EIGHT, FIVE = (f"the digit 3 is on the left of the digit {n}" for n in (8, 5))
SEVEN = "the digit seven is at the bottom left of the image"
BIRD = "a small yellow bird flies over the sea under a blue sky"
WIDE, NARROW = {"width": 1200, "height": 1000}, {"width": 360, "height": 740}
PATIENCE = 120_000  # milliseconds, of a busy machine

# Serves two models as if they shipped, and writes down each address outside of this machine that the process asks for.
SERVER = """
import ipaddress, sys
from pathlib import Path

asked = open("asked.txt", "a", buffering=1)

def local(host):
    try:
        return host in (None, "localhost", b"localhost") or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

def watch(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple) and not local(arguments[1][0]):
        print(event, arguments[1], file=asked)
    if event == "socket.getaddrinfo" and not local(arguments[0]):
        print(event, arguments[:2], file=asked)

sys.addaudithook(watch)
from aligndraw.cli import main
from aligndraw.pipelines import shipped

shipped.SHIPPED = Path("weights")
sys.exit(main(["demo", "--no-browser", "--port", sys.argv[1]]))
"""


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, scenes):
    """The working directory of the server."""
    place = tmp_path_factory.mktemp("server")
    shutil.copytree(SHIPPED / "mnist", place / "weights" / "mnist")
    shutil.copytree(scenes, place / "weights" / "scenes")
    return place


@pytest.fixture(scope="module")
def address(folder):
    port = free_port()
    with (folder / "out.txt").open("w") as out, (folder / "err.txt").open("w") as err:
        server = subprocess.Popen([sys.executable, "-c", SERVER, str(port)], cwd=folder, stdout=out, stderr=err)
        try:
            end = time.monotonic() + PATIENCE / 1000
            line = f"the page is at http://127.0.0.1:{port}/ until you press Ctrl-C\n"
            while (folder / "out.txt").read_text() != line:
                assert server.poll() is None and time.monotonic() < end, (folder / "err.txt").read_text()
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.terminate()
            server.wait()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=CHROMIUM)


@pytest.fixture
def visit(address, browser):
    """Opens the page as a new visitor; afterwards checks that no page met an error or asked another machine."""
    contexts, asked, faults = [], [], []

    def run(size=WIDE, motion="reduce"):
        context = browser.new_context(viewport=size, reduced_motion=motion)
        context.set_default_timeout(PATIENCE)
        context.on("request", lambda request: asked.append(request.url))
        context.on("weberror", lambda fault: faults.append(str(fault.error)))
        context.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
        contexts.append(context)
        page = context.new_page()
        page.goto(address)
        page.wait_for_selector("#stage .invitation button")
        return page

    yield run
    for context in contexts:
        context.close()
    assert faults == []
    hosts = {urlsplit(url).hostname for url in asked if not url.startswith(("data:", "blob:"))}
    assert hosts == {"127.0.0.1"}


def fill(page, caption, other=""):
    page.fill("#caption :is(textarea, input)", caption)
    page.fill("#other :is(textarea, input)", other)


def drawn(page, *captions):
    """Waits for the drawings of captions; the model of digits reads "seven" as "7"."""
    words = [f"{caption} .".replace(" seven ", " 7 ") for caption in captions]
    page.wait_for_function(
        "words => words.join('|') === [...document.querySelectorAll('.drawing figcaption')]"
        ".map(e => e.innerText.replace(/\\s+/g, ' ').trim()).join('|')",
        arg=words,
    )
    return page.inner_html("#stage")


def pictures(drawing):
    return np.stack([np.asarray(image.convert("RGB")) for image in drawing.pil()])


def check_finished(html, films, expected):
    """A browser shows the pictures of a drawing; another process may have another number of threads."""
    shown = np.stack([film[-1] for film in films(html)])
    assert shown.shape == expected.shape and expected.max() - expected.min() > 50
    assert np.abs(shown.astype(int) - expected).max() <= 1


def test_a_typed_caption_becomes_a_picture(visit, digits, films):
    page = visit()
    fill(page, EIGHT)
    page.press("#caption :is(textarea, input)", "Enter")
    html = drawn(page, EIGHT)
    check_finished(html, films, pictures(digits(EIGHT, num_images_per_prompt=4, seed=0)))
    assert page.inner_text(".player output") == "finished"
    assert page.locator(".picture i:visible").count() == 0


def test_it_is_played_step_by_step_with_windows_and_words(visit, digits):
    page = visit(motion="no-preference")
    fill(page, EIGHT)
    page.click("#draw")
    drawn(page, EIGHT)
    page.wait_for_function("document.querySelector('.player output').innerText.startsWith('step ')")
    page.wait_for_function("document.querySelector('.player output').innerText === 'finished'")
    drawing = digits(EIGHT, num_images_per_prompt=4, seed=0, return_attention=True)
    weights = drawing.attention.numpy()
    for picture, step in ((0, 3), (2, 0)):
        page.locator(".picture").nth(picture).click()
        page.evaluate(
            "step => { const range = document.querySelector('.player input'); range.value = step;"
            " range.dispatchEvent(new Event('input', {bubbles: true})); }",
            step,
        )
        assert page.inner_text(".player output") == f"step {step + 1} of 12"
        lights = page.evaluate(
            "[...document.querySelectorAll('figcaption span')]"
            ".map(word => parseFloat(word.style.getPropertyValue('--light')))"
        )
        expected = 100 * weights[picture, step] / weights[picture, step].max()
        np.testing.assert_allclose(lights, expected, atol=1.1)
        assert (
            page.locator('.picture[aria-pressed="true"]').get_attribute("aria-label") == f"picture {picture + 1} of 4"
        )
        # The film stands at the frame of the step, and the window where its box is.
        place = page.locator(".picture").nth(picture).evaluate(
            "e => { const [film, box] = [...e.children].map(c => c.getBoundingClientRect());"
            " const r = e.getBoundingClientRect(), b = JSON.parse(e.dataset.boxes)[STEP];"
            " return [(r.left - film.left) / r.width, (box.left - r.left) / r.width - b[0] / 100,"
            " (box.top - r.top) / r.height - b[1] / 100]; }".replace("STEP", str(step))
        )  # fmt: skip
        np.testing.assert_allclose(place, [step, 0, 0], atol=0.02)


def test_an_unknown_word_gets_captions_that_work(visit, films):
    page = visit()
    fill(page, "a cat ${7 * 6} {{value}} <img src=x onerror=alert(1)>", "another")
    page.click("#draw")
    page.wait_for_selector(".reason")
    text = page.inner_text("#stage")
    assert "The model mnist does not know the words “a”, “cat”, “$”, “{”, “*” …." in text
    assert "draws one or two handwritten digits at named places" in text
    assert page.locator("#stage img").count() == 0
    page.click(f'.invitation button:has-text("{SEVEN}")')
    assert len(films(drawn(page, SEVEN))) == 4
    assert page.input_value("#caption :is(textarea, input)") == SEVEN
    assert page.input_value("#other :is(textarea, input)") == ""


def test_two_captions_are_compared(visit, digits, films):
    page = visit()
    fill(page, EIGHT, FIVE)
    page.fill("#seed input", "7")
    page.click("#draw")
    html = drawn(page, EIGHT, FIVE)
    expected = [pictures(digits(caption, num_images_per_prompt=4, seed=7)) for caption in (EIGHT, FIVE)]
    check_finished(html, films, np.concatenate(expected))
    assert page.locator(".changed").all_inner_texts() == ["8", "5"]
    page.click("#fresh")
    page.wait_for_function("before => document.querySelector('#stage .picture img').src !== before",
                           arg=re.search(r'src="([^"]*)"', html)[1])  # fmt: skip
    assert page.input_value("#seed input") != "7"


def test_two_visitors_at_once_get_their_own_pictures(visit, digits, films):
    visitors = [(visit(), EIGHT), (visit(), SEVEN)]
    for page, caption in visitors:
        fill(page, caption)
    for page, _ in visitors:
        page.click("#draw")
    for page, caption in visitors:
        html = drawn(page, caption)
        check_finished(html, films, pictures(digits(caption, num_images_per_prompt=4, seed=0)))


def test_files_are_downloaded(visit, digits, tmp_path):
    page = visit()
    fill(page, EIGHT)
    page.click("#draw")
    drawn(page, EIGHT)
    files = []
    for link in page.locator(".links a").all():
        with page.expect_download() as download:
            link.click()
        files.append(tmp_path / download.value.suggested_filename)
        download.value.save_as(files[-1])
    name = "the-digit-3-is-on-the-left-of-the-digit-8"
    assert [file.name for file in files] == [f"{name}.png", f"{name}.gif"]
    sheet, film = (Image.open(io.BytesIO(file.read_bytes())) for file in files)
    assert (sheet.text["Caption"], sheet.text["Seed"]) == (EIGHT, "0")
    assert film.n_frames == 13


def test_a_model_with_a_sharpener_is_chosen(visit, films):
    page = visit()
    assert page.get_by_label("Sharpen").count() == 0
    page.get_by_label("scenes").check()
    page.wait_for_selector(f'.invitation button:has-text("{BIRD}")')
    sharpened = page.get_by_label("Sharpen")
    assert sharpened.is_checked()
    fill(page, BIRD)
    page.click("#draw")
    sharp = films(drawn(page, BIRD))
    sharpened.uncheck()
    before = page.locator("#stage .picture img").first.get_attribute("src")
    page.click("#draw")
    page.wait_for_function("before => document.querySelector('#stage .picture img').src !== before", arg=before)
    plain = films(drawn(page, BIRD))
    assert all((a[:3] == b[:3]).all() and (a[3] != b[3]).any() for a, b in zip(sharp, plain))


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_it_fits_the_window(visit, size, tmp_path):
    """No part is cut or reaches beyond the right edge; two captions are side by side where there is room."""
    page = visit(size)
    fill(page, EIGHT, FIVE)
    page.click("#draw")
    drawn(page, EIGHT, FIVE)
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    first, second = (figure.bounding_box() for figure in page.locator(".drawing").all())
    beside = second["x"] >= first["x"] + first["width"]
    assert beside if size is WIDE else second["y"] >= first["y"] + first["height"]
    for picture in page.locator(".picture").all():
        box = picture.bounding_box()
        assert box["width"] > 60 and abs(box["width"] - box["height"]) < 3


def test_the_server_asks_no_other_machine(visit, folder, films):
    page = visit()
    fill(page, SEVEN)
    page.click("#draw")
    page.wait_for_selector(".drawing")
    assert (folder / "asked.txt").read_text() == ""
    assert (folder / "err.txt").read_text() == ""
    assert {path.name for path in folder.iterdir()} == {"asked.txt", "err.txt", "out.txt", "weights"}
