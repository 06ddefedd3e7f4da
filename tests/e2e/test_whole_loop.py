"""The whole job in a real browser: import, label with keys, train, review a CAM overlay, read a ROC curve, inspect."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from playwright.sync_api import Page, expect

from tests.e2e.two_models import wait_until_idle
from tests.surfaces import surface

if TYPE_CHECKING:
    from conftest import AppServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SIZE = 96  # px
IMAGES = 24
SCRATCHED = frozenset(range(0, IMAGES, 3))
SLOW = 240_000  # ms; a shared machine may be busy with other work


@pytest.fixture(scope="session")
def weights_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights folder as a user would bring it, with a ResNet18 of random numbers: CI has no ImageNet weights."""
    folder = tmp_path_factory.mktemp("weights")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(torchvision.models.resnet18(weights=None).state_dict(), folder / "resnet18.pth")
    return folder


@pytest.fixture
def server(weights_dir: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> AppServer:
    """The running app, which finds the weights where SSN_WEIGHTS_DIR points."""
    monkeypatch.setenv("SSN_WEIGHTS_DIR", str(weights_dir))
    return request.getfixturevalue("app_server")


def archive() -> bytes:
    """A zip of unlabelled surfaces with masks, and one broken file."""
    rng = np.random.default_rng(11)
    rows = ["image,mask"]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        for number in range(IMAGES):
            pixels, mask = surface(rng, scratched=number in SCRATCHED, size=SIZE)
            packed.writestr(f"p{number:02}.png", png(pixels))
            if number in SCRATCHED:
                packed.writestr(f"p{number:02}_mask.png", png(mask.astype(np.uint8) * 255))
            rows.append(f"p{number:02}.png,{f'p{number:02}_mask.png' if number in SCRATCHED else ''}")
        packed.writestr("broken.png", b"\x89PNG\r\n\x1a\n")
        rows.append("broken.png,")
        packed.writestr("labels.csv", "\n".join(rows))
    return stream.getvalue()


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def test_from_images_to_verdicts(server: AppServer, page: Page, screenshots: Path) -> None:
    def shot(name: str) -> None:
        page.screenshot(path=screenshots / f"loop-{name}.png")

    def go(name: str) -> None:
        page.get_by_test_id("stSidebarNav").get_by_role("link", name=name, exact=True).click()

    # A project
    page.goto(server.base_url)
    page.get_by_label("Name", exact=True).fill("Plates")
    page.get_by_text("Other", exact=True).click()
    for side in ("Height", "Width"):
        page.get_by_label(side, exact=True).fill(str(SIZE))
        page.get_by_label(side, exact=True).press("Enter")
        wait_until_idle(page)
    page.get_by_role("button", name="Create project").click()
    expect(page.get_by_text("Next in Plates")).to_be_visible()
    page.get_by_label("Inspector", exact=True).fill("Ada")
    page.get_by_label("Inspector", exact=True).press("Enter")
    expect.set_options(timeout=30_000)
    shot("1-home")

    # Images
    go("Data")
    page.locator("input[type=file]").set_input_files(
        {"name": "plates.zip", "mimeType": "application/zip", "buffer": archive()}
    )
    page.get_by_role("button", name="Check files").click()
    expect(page.get_by_text("Found: CSV file, 25 images")).to_be_visible()
    wait_until_idle(page)
    shot("2-preview")
    page.get_by_role("button", name="Import 25 images").click()
    expect(page.get_by_text("Import done")).to_be_visible(timeout=SLOW)
    assert server.query("SELECT outcome, count(*) FROM import_entries GROUP BY 1 ORDER BY 1") == [
        ("added", IMAGES),
        ("rejected", 1),
    ]
    shot("3-report")

    # Too few labels say how many are missing
    go("Train")
    expect(page.get_by_text("Training cannot start yet")).to_be_visible()
    expect(page.get_by_role("button", name="Train", exact=True)).to_be_disabled()

    # Labels, by keys, one image after the other
    go("Label")
    expect(page.locator(".ssn-board")).to_have_attribute("data-ready", "true")
    expect(page.locator(".tile").first).to_be_visible()
    board = page.locator(".ssn-board")
    first = board.get_attribute("data-current")
    page.keyboard.press("ArrowRight")  # straight after the navigation, without a click into the board
    expect(board).not_to_have_attribute("data-current", first or "")
    page.keyboard.press("Home")
    expect(board).to_have_attribute("data-current", first or "")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="One image")).to_have_attribute("aria-pressed", "true")
    for number in range(IMAGES):
        page.keyboard.press("b" if number in SCRATCHED else "g")
    page.wait_for_function("() => globalThis[Symbol.for('ssn.label-queue.1')]?.unsaved === 0")
    assert server.query("SELECT name FROM images WHERE label = 'bad' ORDER BY name") == [
        (f"p{number:02}.png",) for number in sorted(SCRATCHED)
    ]
    shot("4-label")

    # Training, in the background: it survives a reload and a restart of the app
    go("Train")
    page.get_by_text("Advanced", exact=False).click()
    page.get_by_role("spinbutton", name="Epochs").fill("4")
    page.get_by_role("spinbutton", name="Epochs").press("Enter")
    wait_until_idle(page)  # Streamlit may drop a click that comes while another rerun is on its way
    page.get_by_role("button", name="Train", exact=True).click()
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    shot("5-training")
    server.restart()
    page.reload()
    expect(page.get_by_text("Training done")).to_be_visible(timeout=SLOW)
    assert server.query("SELECT status, attempt FROM jobs WHERE kind = 'train'") == [("succeeded", 0)]
    shot("6-trained")

    # A CAM overlay on a bad part, with its mask outlined; the verdict corrected in place
    go("Review")
    coloured = page.locator(".ssn-viewer canvas").first
    expect(page.locator("[data-shown]")).to_be_visible()
    assert coloured.evaluate(ALPHA) > 0
    shot("7-review")
    page.keyboard.press("u")
    page.wait_for_function("() => globalThis[Symbol.for('ssn.label-queue.1')]?.unsaved === 0")
    assert server.query("SELECT count(*) FROM label_events WHERE origin = 'review' AND verdict = 'unsure'") == [(1,)]
    page.keyboard.press("z")
    page.wait_for_function("() => globalThis[Symbol.for('ssn.label-queue.1')]?.unsaved === 0")
    assert server.query("SELECT count(*) FROM images WHERE label = 'unsure'") == [(0,)]

    # Curves of held-out images
    go("Evaluate")
    expect(page.get_by_text("On 16 good and 8 bad images that the model never saw")).to_be_visible()
    expect(page.locator(".ssn-threshold .chart")).to_have_count(3)
    expect(page.locator(".tile.auroc")).to_contain_text("95 %")
    shot("8-evaluate")

    # New images on the active model
    go("Inspect")
    rng = np.random.default_rng(12)
    new = [png(surface(rng, scratched=number == 0, size=SIZE)[0]) for number in range(3)]
    page.locator("input[type=file]").set_input_files(
        [{"name": f"new{n}.png", "mimeType": "image/png", "buffer": data} for n, data in enumerate(new)]
    )
    expect(page.get_by_role("button", name="Inspect 3 files")).to_be_enabled()
    wait_until_idle(page)
    page.get_by_role("button", name="Inspect 3 files").click()
    expect(page.get_by_text("Inspection done")).to_be_visible(timeout=SLOW)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    table = Path(download.value.path()).read_text().splitlines()
    assert len(table) == 4
    assert {line.split(",")[0] for line in table[1:]} == {"new0.png", "new1.png", "new2.png"}
    shot("9-inspect")


ALPHA = """canvas => {
  const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  return pixels.filter((value, index) => index % 4 === 3 && value > 0).length;
}"""
