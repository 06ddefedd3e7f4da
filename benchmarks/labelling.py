"""Labelling in a real browser: from key to picture, from key to disk, and what the server needs, with N images.

    python -m benchmarks.labelling --images 100000 --seconds 60 --rate 10 --out benchmarks/results/labelling-100000.json

Makes a project of N images in a folder of its own (rows of their own; the files are links to a few pictures, so that
100,000 take seconds), starts the app, opens it in headless Chromium and labels in the one-image view at `--rate` keys a
second. Each time is measured in the browser: `keydown_to_paint_ms` from the key event to the frame in which the next
image stands in full size, `ack_ms` from the key event to the moment when the browser knows that the verdict is stored.
Then it asks the routes and runs each page's script by itself (`routes_ms`, `pages_ms`: server time), and compares
what was sent with what the database holds. At last the same again in a project of as many images that has been in use
for some weeks (benchmarks/used_project.py), as `routes_with_model_ms` and `pages_with_model_ms`; `--pages-only` does
this part alone. The last line printed is all of it as JSON.

Of each page with a model: the time on the clock, the processors' time, which other work on the machine lengthens less,
and the processors' time of a run after somebody gave one more label, or corrected one that all figures rest on, when
what follows the labels is computed anew; medians of three.

Browser and server share the machine: times are those of both together.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import psutil
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from streamlit.testing.v1 import AppTest

from benchmarks import used_project
from storage import files, projects, thumbnails
from storage.db import Database, chunks, connect
from storage.settings import Settings
from storage.tables import ImageRow
from tests.e2e.conftest import CHROMIUM, CHROMIUM_ARGS, ROOT, VIEWPORT, AppServer

PICTURES = 40  # different ones; a file can have some 65,000 links
SIZE = (768, 1024)  # pixels, (height, width)
QUEUE = "globalThis[Symbol.for('ssn.label-queue.1')]"
PAGES = ("home", "data", "label", "train", "review", "evaluate", "models", "tradeoffs", "agreement", "inspect", "audit")
VIEWS: Mapping[str, tuple[str, Mapping[str, object]]] = {  # of pages with more than one; what the session then holds
    **{name: (name, {}) for name in PAGES},
    "review, escapes": ("review", {"ssn_review_filter": "misses"}),
    "review, unlabelled": ("review", {"ssn_review_filter": "suspicious"}),
    "review, closest first": ("review", {"ssn_review_filter": "all", "ssn_review_order": "closest"}),
    "models, compare two": ("models", {"ssn_models_view": "compare"}),
    "audit, second opinions": ("audit", {"ssn_audit_view": "opinions"}),
    "audit, label files": ("audit", {"ssn_audit_view": "files"}),
}

# In the page: the key event's own time, the first frame that shows the next image, and each acknowledgement.
MEASURE = """() => {
  const find = (root) => {
    for (const node of root.querySelectorAll('*')) {
      if (node.matches('.ssn-board')) return node;
      const inner = node.shadowRoot && find(node.shadowRoot);
      if (inner) return inner;
    }
    return null;
  };
  const board = find(document);
  const times = (globalThis.ssnTimes = { paint: [], ack: [], sent: 0 });
  const given = new Map();
  let key = 0;
  addEventListener('keydown', (event) => {
    if (!'gbu'.includes(event.key)) return;
    key = event.timeStamp;
    const [start, before] = [key, board.dataset.current];
    const look = () => {
      const { current, shown } = board.dataset;
      if (current === before || shown !== current) return requestAnimationFrame(look);
      const channel = new MessageChannel();
      channel.port1.onmessage = () => times.paint.push(performance.now() - start);
      channel.port2.postMessage(0); // comes after the frame was painted
    };
    requestAnimationFrame(look);
  }, true);
  const queue = globalThis[Symbol.for('ssn.label-queue.1')];
  const { enqueue, acknowledge } = queue;
  queue.enqueue = function (kind, project, all) {
    const at = key;
    enqueue.call(this, kind, project, all);
    const box = this.own.get(`${kind} ${project}`);
    for (let n = 0; n < all.length; n++) given.set(`${box.client}/${box.seq - n}`, at);
    times.sent += all.length;
  };
  queue.acknowledge = function (box, answer) {
    for (const event of box.events) {
      const id = `${event.client}/${event.seq}`;
      if (event.seq > (answer.acks?.[box.client] ?? 0) || !given.has(id)) continue;
      times.ack.push(performance.now() - given.get(id));
      given.delete(id);
    }
    return acknowledge.call(this, box, answer);
  };
}"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the file if one was named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.labelling", description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to type")
    parser.add_argument("--rate", type=float, default=10.0, help="keys a second")
    parser.add_argument("--pages-only", action="store_true", help="no typing: the routes and pages with a model alone")
    parser.add_argument(
        "--labels", type=int, default=used_project.LABELS, help="of the project in use, at most; three images of five"
    )
    parser.add_argument("--out", type=Path, help="a JSON file for the result")
    options = parser.parse_args(arguments)
    if CHROMIUM is None and not options.pages_only:
        parser.error("no Chromium: install it or name it in SSN_TEST_CHROMIUM")
    with tempfile.TemporaryDirectory(prefix="ssn-labelling-") as folder:
        result: dict[str, Any] = {"images": options.images}
        if not options.pages_only:
            result = measure(Path(folder) / "data", n=options.images, seconds=options.seconds, rate=options.rate)
        result |= measure_used(Path(folder) / "used", n=options.images, n_labels=options.labels)
        result |= {
            "cpu": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
            "load": [round(value, 1) for value in os.getloadavg()],  # of 1, 5 and 15 minutes: other work counts
            "date": datetime.now(UTC).date().isoformat(),
        }
    for name, value in result.items():
        print(f"{name:28} {value}")
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))
    return 0


def measure(data_dir: Path, *, n: int, seconds: float, rate: float) -> dict[str, Any]:
    """All figures of one run; times in milliseconds, memory in MiB."""
    settings = Settings(data_dir=data_dir, database_url="", weights_dir=None)
    db = connect(settings)
    project = projects.create(db, name="Many").id
    fill(db, project, n)
    server = AppServer(data_dir)
    server.start()
    try:
        process = psutil.Process(server.pid)
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS)
            page = chromium.new_context(viewport=VIEWPORT).new_page()
            page.context.add_cookies([{"name": "ssn_inspector", "value": "Ada", "url": server.base_url}])
            opened_ms = open_single_view(page, server)
            page.evaluate(MEASURE)
            # No image is labelled twice: a small project ends before the time does.
            memory = type_keys(page, min(n, round(rate * seconds)), rate=rate, process=process)
            page.wait_for_function(f"() => {QUEUE}.unsaved === 0", timeout=120_000)
            times = page.evaluate("() => globalThis.ssnTimes")
            chromium.close()
        routes = time_routes(server, project, n)
    finally:
        server.stop()
    stored = server.query("SELECT count(*), count(DISTINCT client || '/' || seq) FROM label_events")[0]
    doubled = server.query("SELECT count(*) FROM (SELECT 1 FROM label_events GROUP BY image_id HAVING count(*) > 1)")
    db.close()
    return {
        "images": n,
        "keydown_to_paint_ms_p50": percentile(times["paint"], 50),
        "keydown_to_paint_ms_p95": percentile(times["paint"], 95),
        "keydown_to_paint_ms_p99": percentile(times["paint"], 99),
        "ack_ms_p50": percentile(times["ack"], 50),
        "ack_ms_p99": percentile(times["ack"], 99),
        "sent": times["sent"],
        "stored": stored[1],
        "doubled": stored[0] - stored[1] + doubled[0][0],
        "painted": len(times["paint"]),
        "rate_per_second": rate,
        "first_image_ms": opened_ms,
        "server_rss_mib": memory,  # at the start and after each tenth of the keys
        "routes_ms": routes,
        "pages_ms": time_pages(data_dir),
    }


def measure_used(data_dir: Path, *, n: int, n_labels: int) -> dict[str, Any]:
    """Routes and pages of a project in use with n images, n_labels of them labelled at most; times in milliseconds."""
    db = connect(Settings(data_dir=data_dir, database_url="", weights_dir=None))
    project = projects.create(db, name="Many").id
    fill(db, project, n)
    model = used_project.use(db, project, n_labels=n_labels)[-1]
    counts = projects.label_counts(db, project_id=project)
    server = AppServer(data_dir)
    server.start()
    try:
        routes = time_routes(server, project, n, model_id=model.id)
    finally:
        server.stop()
    pages = time_used_pages(db, project)
    db.close()
    return {
        "labels": {"good": counts.good, "bad": counts.bad, "unsure": counts.unsure},
        "routes_with_model_ms": routes,
        "pages_with_model_ms": pages,
    }


def fill(db: Database, project: int, n: int) -> None:
    """n rows, each with a content of its own; the files are links to PICTURES pictures and their thumbnails."""
    originals = []
    for number in range(PICTURES):
        rng = np.random.default_rng((7, number))
        rough = rng.integers(60, 190, (SIZE[0] // 4, SIZE[1] // 4), dtype=np.uint8)
        picture = Image.fromarray(rough).resize(SIZE[::-1], Image.Resampling.BICUBIC)
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=90)
        stored = files.put_image(db.data_dir, data=stream.getvalue(), extension=".jpg")
        small = thumbnails.save_thumbnail(db.data_dir, sha256=stored.sha256, rgb=picture.convert("RGB"))
        originals.append((stored, small))
    for numbers in chunks(range(n), 2000):
        rows = []
        for number in numbers:
            stored, small = originals[number % PICTURES]
            sha256 = hashlib.sha256(f"image {number}".encode()).hexdigest()
            for original, link in (
                (stored.path, files.image_path(db.data_dir, sha256=sha256, extension=".jpg")),
                (small, thumbnails.thumbnail_path(db.data_dir, sha256=sha256)),
            ):
                link.parent.mkdir(parents=True, exist_ok=True)
                link.hardlink_to(original)
            rows.append(
                ImageRow(
                    project_id=project, sha256=sha256, name=f"part-{number:06d}.jpg", extension=".jpg", width=SIZE[1],
                    height=SIZE[0], n_bytes=stored.n_bytes, group_key=sha256, part="train",
                )
            )  # fmt: skip
        with db.write() as session:
            session.add_all(rows)


def open_single_view(page: Page, server: AppServer) -> float:
    """The first image in full size on the screen; how long that took from the address on."""
    start = time.perf_counter()
    page.goto(f"{server.base_url}/label")
    board = page.locator(".ssn-board")
    page.wait_for_function(f"() => {QUEUE}", timeout=60_000)
    board.and_(page.locator("[data-ready=true]")).wait_for(timeout=60_000)
    page.keyboard.press("Enter")
    page.locator(".ssn-board:not([data-shown=''])[data-shown]").wait_for(timeout=60_000)
    seconds = time.perf_counter() - start
    page.wait_for_timeout(1000)
    return round(1000 * seconds)


def type_keys(page: Page, n: int, *, rate: float, process: psutil.Process) -> list[float]:
    """n verdicts at a steady rate; the server's resident memory in MiB before and after each tenth of them."""
    memory = [rss(process)]
    start = time.monotonic()
    for number in range(n):
        page.keyboard.press("gbu"[number % 3])
        time.sleep(max(0.0, start + (number + 1) / rate - time.monotonic()))
        if (number + 1) * 10 // n > number * 10 // n:
            memory.append(rss(process))
    return memory


def time_routes(server: AppServer, project: int, n: int, *, model_id: int | None = None) -> dict[str, float]:
    """Median time of each route that the board asks, over ten requests; with a model also those that need one."""
    token = token_of(server.data_dir, project)
    some = ",".join(str(image) for image in range(1, min(n, 200) + 1))
    origin = {"Origin": server.base_url}
    watched = {"token": token, "events": [], "watch": list(range(1, 26))}
    with httpx.Client(base_url=server.base_url, timeout=60) as client:

        def listed(labels: str, order: str) -> Callable[[], httpx.Response]:
            return lambda: client.get("/ssn/list", params={"t": token, "filter": labels, "order": order})

        calls: dict[str, Callable[[], httpx.Response]] = {
            "list": listed("none", "oldest"),
            "list, random": listed("all", "random"),
            "details of 200": lambda: client.get("/ssn/details", params={"t": token, "ids": some}),
            "news": lambda: client.post("/ssn/labels", json=watched, headers=origin),
            "thumbnail": lambda: client.get(f"/ssn/thumb/{n}", params={"t": token}),
            "image": lambda: client.get(f"/ssn/image/{n}", params={"t": token}),
        }
        if model_id is not None:
            calls |= {
                "list, most informative": listed("none", "informative"),
                "list, most suspicious": listed("none", "suspicious"),
                "list of all, most suspicious": listed("all", "suspicious"),
                "list, likely errors": listed("all", "disagreement"),
            }
        return {name: timed(lambda call=call: call().raise_for_status()) for name, call in calls.items()}


def token_of(data_dir: Path, project: int) -> str:
    """A permission as the pages give it out, signed with the key of that data folder."""
    from pages.components import resources
    from storage.settings import get_settings

    os.environ.update(SSN_DATA_DIR=str(data_dir), SSN_DATABASE_URL="")
    get_settings.cache_clear()
    return resources.token(project)


def time_pages(data_dir: Path) -> dict[str, float]:
    """Median time of each page's script, run as Streamlit runs it but without a browser."""
    app = open_app(data_dir)
    found: dict[str, float] = {}
    for name in PAGES:
        app.switch_page(f"views/{name}.py").run()
        if app.exception:
            raise RuntimeError(f"{name}: {app.exception[0].message}")
        found[name] = timed(app.run, times=5)
    return found


def time_used_pages(db: Database, project: int) -> dict[str, dict[str, float]]:
    """Of each page's script: medians of three runs, as it is, after each of three labels, and of three corrections."""
    app = open_app(db.data_dir)
    found: dict[str, dict[str, float]] = {}
    another = used_project.one_after_another(db, project, "meanwhile", label="none", verdict="good")
    corrected = used_project.one_after_another(db, project, "corrected", label="good", verdict="bad")
    for name, (page, state) in VIEWS.items():
        app.switch_page(f"views/{page}.py").run()
        for key, value in state.items():
            app.session_state[key] = value
        app.run()
        wall, cpu = median_run(app, name)
        found[name] = {
            "wall": wall,
            "cpu": cpu,
            "cpu_after_a_label": median_run(app, name, another)[1],
            "cpu_after_a_correction": median_run(app, name, corrected)[1],
        }
    return found


def median_run(app: AppTest, name: str, change: Callable[[], None] = lambda: None) -> tuple[float, float]:
    """Milliseconds of a run, on the clock and of all processors: medians of three, each after a `change`."""
    runs = []
    for _ in range(3):
        change()
        runs.append(run_once(app, name))
    wall, cpu = (round(statistics.median(times), 1) for times in zip(*runs, strict=True))
    return wall, cpu


def run_once(app: AppTest, name: str) -> tuple[float, float]:
    """Milliseconds of one run: on the clock, and of all processors."""
    start, used = time.perf_counter(), time.process_time()
    app.run()
    if app.exception:
        raise RuntimeError(f"{name}: {app.exception[0].message}")
    return 1000 * (time.perf_counter() - start), 1000 * (time.process_time() - used)


def open_app(data_dir: Path) -> AppTest:
    """The app with this data folder, run without a browser."""
    from storage.settings import get_settings

    os.environ.update(SSN_DATA_DIR=str(data_dir), SSN_DATABASE_URL="")
    get_settings.cache_clear()
    return AppTest.from_file(ROOT / "pages" / "shell.py", default_timeout=120).run()


def timed(call: Callable[[], object], *, times: int = 10) -> float:
    call()  # what is made once does not count
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - start))
    return round(statistics.median(taken), 1)


def percentile(values: Sequence[float], q: float) -> float | None:
    """None where nothing was measured, never a zero in its place."""
    return round(float(np.percentile(values, q)), 1) if values else None


def rss(process: psutil.Process) -> float:
    return round(process.memory_info().rss / 2**20, 1)


if __name__ == "__main__":
    raise SystemExit(main())
