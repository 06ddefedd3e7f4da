"""A project with two models of it, for browser tests: generated surfaces, scores that differ, maps and folders."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from playwright.sync_api import BrowserContext, Page, expect

from ssn_core.rules import BY_HAND
from storage import files, images, labels, projects
from storage.db import connect
from storage.settings import Settings
from storage.tables import ImageRow
from tests.model_seed import add_model
from tests.surfaces import surface

if TYPE_CHECKING:
    from conftest import AppServer

SIZE, CELLS = 64, 8  # px, cells of a map on a side
BAD = np.array([0] * 12 + [1] * 8, dtype=np.int8)
#       the last two good parts are rejected and the first two bad ones pass (threshold 0)
FIRST = np.array([
    -3.0, -2.6, -2.2, -1.8, -1.6, -1.4, -1.2, -1.0, -0.8, -0.5, 0.6, 0.9, -0.7, -0.3, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0,
])  # fmt: skip
#       all of these are right; instead the tenth good part is rejected and the third bad one passes
SECOND = np.array([
    -2.9, -2.7, -2.1, -1.9, -1.5, -1.3, -1.1, -0.9, -0.7, 0.4, -0.6, -0.4, 0.8, 1.2, -0.2, 1.1, 1.6, 2.1, 2.6, 3.1,
])  # fmt: skip


@dataclass(frozen=True)
class Seeded:
    """Numbers in the database."""

    project: int
    images: tuple[int, ...]  # in the order of BAD; image i is called part-00<i>.png
    first: int
    second: int  # trained after the first, and active


def seed(server: AppServer) -> Seeded:
    """Twelve good and eight bad (scratched) surfaces with labels, and two models with held-out scores of them."""
    db = connect(Settings(data_dir=server.data_dir, database_url="", weights_dir=None))
    project = projects.create(db, name="Brackets", image_height=SIZE, image_width=SIZE).id
    rng, cams, rows = np.random.default_rng(5), {}, []
    for index, bad in enumerate(BAD):
        pixels, mask = surface(rng, scratched=bool(bad), size=SIZE)
        stored = files.put_image(db.data_dir, data=_png(pixels), extension=".png")
        side = SIZE // CELLS
        cams[stored.sha256] = 6 * mask.reshape(CELLS, side, CELLS, side).mean((1, 3)).astype(np.float32) - 1
        rows.append(
            ImageRow(
                project_id=project, sha256=stored.sha256, name=name_of(index), extension=".png", width=SIZE,
                height=SIZE, n_bytes=stored.n_bytes, group_key=stored.sha256, part="train",
            )
        )  # fmt: skip
    with db.write() as session:
        session.add_all(rows)
    ids = images.ids(db, project_id=project)
    events = [
        labels.LabelEvent("seed", seq, image, "bad" if bad else "good", "Ada", "board")
        for seq, (image, bad) in enumerate(zip(ids, BAD, strict=True), start=1)
    ]
    labels.record(db, project_id=project, events=events)
    known = {image.sha256: str(image.label) for image in images.get_many(db, image_ids=ids)}
    more: dict[str, Any] = {"cams": cams, "scale_high": 5.0, "how": BY_HAND}
    first, second = (
        [(image, float(score), "out_of_fold") for image, score in zip(ids, scores, strict=True)]
        for scores in (FIRST, SECOND)
    )
    older = add_model(db, project, first, name="First", learned=dict(list(known.items())[:-2]), **more)
    newer = add_model(
        db, project, second, name="Second", learned=known, parent_id=older.id, settings={"epochs": 40}, **more
    )
    db.engine.dispose()
    return Seeded(project, tuple(ids), older.id, newer.id)


def name_of(index: int) -> str:
    return f"part-{index:04d}.png"


def open_models(server: AppServer, context: BrowserContext, page: Page) -> None:
    """The Models page, with everything on it drawn."""
    context.add_cookies([{"name": "ssn_inspector", "value": "Ada", "url": server.base_url}])
    page.goto(f"{server.base_url}/models")
    expect(page.get_by_role("button", name="Report", exact=True)).to_have_count(2, timeout=30_000)
    wait_until_idle(page)


def card(page: Page, model: int) -> Any:
    return page.locator(f".st-key-model-card-{model}")


def choose(page: Page, model: int, action: str) -> None:
    """An entry of a model's menu."""
    card(page, model).get_by_role("button", name="More").click()
    page.get_by_role("menuitem", name=action).or_(page.get_by_role("option", name=action)).click()


def wait_until_idle(page: Page) -> None:
    """Wait until the page script has run: nobody clicks within milliseconds of the last key."""
    page.wait_for_timeout(300)
    expect(page.locator("[data-testid=stApp]")).to_have_attribute(
        "data-test-script-state", "notRunning", timeout=15_000
    )


def _png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
