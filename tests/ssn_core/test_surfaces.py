from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from ssn_core.cli import main
from ssn_core.errors import SettingError
from ssn_core.sources import scan
from ssn_core.surfaces import KINDS, MATERIALS, Plan, plan, render, write_surfaces

SMALL = (96, 128)


def first(material: str, defect: str) -> Plan:
    return next(what for what in map(plan, range(4000)) if (what.material, what.defect) == (material, defect))


def digest(what: Plan) -> str:
    surface = render(what, size=SMALL)
    return hashlib.sha256(surface.pixels.tobytes() + surface.mask.tobytes()).hexdigest()


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


DEFECTS = [(material, kind) for material, kinds in KINDS.items() for kind in kinds]


@pytest.mark.parametrize(("material", "kind"), DEFECTS)
def test_the_mask_is_exactly_where_the_defect_has_changed_the_picture(material: str, kind: str) -> None:
    what = first(material, kind)
    bad = render(what)
    good = render(Plan(what.index, material, what.part, what.serial, None, what.fold))
    assert not good.mask.any()
    changed = (bad.pixels != good.pixels).any(axis=2)
    assert not changed[~bad.mask].any()
    solid = ndimage.binary_fill_holes(changed)
    assert (solid & bad.mask).sum() > 0.85 * bad.mask.sum()  # the rest is rounded away in the darkest places


@pytest.mark.parametrize(("material", "kind"), DEFECTS)
def test_a_defect_is_small_but_can_be_seen(material: str, kind: str) -> None:
    what = first(material, kind)
    bad = render(what)
    good = render(Plan(what.index, material, what.part, what.serial, None, what.fold))
    assert 20 <= bad.mask.sum() <= 0.04 * bad.mask.size
    change = np.abs(bad.pixels.astype(int) - good.pixels)[bad.mask].max(axis=1)
    assert np.percentile(change, 90) > 12  # grey levels; the sensor's noise is 3 at most


def test_a_surface_depends_on_its_seed_and_number_alone() -> None:
    numbers = [0, 4, 7, 100]
    code = (
        "import sys, json; sys.path.insert(0, 'tests/ssn_core'); from test_surfaces import digest, plan; "
        f"print(json.dumps([digest(plan(n)) for n in {numbers[::-1]}]))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [digest(plan(number)) for number in numbers[::-1]]


def test_another_seed_or_number_makes_another_picture() -> None:
    pictures = [render(plan(0, seed=seed), seed=seed, size=SMALL).pixels for seed in (0, 1)]
    pictures += [render(plan(number), size=SMALL).pixels for number in (1, 12)]
    assert len({picture.tobytes() for picture in pictures}) == 4


def test_a_surface_does_not_depend_on_how_many_are_made(tmp_path: Path) -> None:
    few, many = tmp_path / "few", tmp_path / "many"
    write_surfaces(few, 7, seed=3, size=(64, 64))
    write_surfaces(many, 15, seed=3, size=(64, 64))
    shared, rest = files(few), files(many)
    lines = shared.pop("labels.csv")
    assert rest["labels.csv"].startswith(lines)
    assert shared == {name: rest[name] for name in shared}


def test_a_quarter_is_bad_in_every_material_with_every_kind_of_defect() -> None:
    plans = [plan(index, seed=11) for index in range(480)]
    for material in MATERIALS:
        mine = [what for what in plans if what.material == material]
        assert len(mine) == 120
        assert sum(what.defect is not None for what in mine) == 30
        assert {what.defect for what in mine} == {None, *KINDS[material]}


def test_a_part_is_of_one_material_and_in_one_fold() -> None:
    parts: dict[str, set[tuple[str, str]]] = {}
    for what in map(plan, range(360)):
        parts.setdefault(what.part, set()).add((what.material, what.fold))
    assert len(parts) == 120
    assert all(len(seen) == 1 for seen in parts.values())
    assert {fold for seen in parts.values() for _, fold in seen} == {"0", "1", "2"}


def test_the_folder_is_read_as_a_csv_with_masks_groups_and_folds(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    n_bad = write_surfaces(tmp_path / "s", 48, size=(64, 80), progress=lambda *state: told.append(state))
    found = scan(tmp_path / "s")
    assert (found.layout, len(found.items), found.problems, found.ignored) == ("csv", 48, (), ())
    assert found.count("bad") == found.n_masks == n_bad == 12
    assert found.count("good") == 36
    assert found.n_groups == 16
    assert told[-1] == (48, 48)
    for item in found.items:
        assert (item.mask is not None) == (item.label == "bad")
        with Image.open(item.path) as picture:
            assert picture.size == (80, 64)
        assert item.fold in ("0", "1", "2")
    assert not [name for name in files(tmp_path) if name.endswith(".tmp")]


def test_half_of_the_parts_can_be_left_without_a_label_and_keep_their_masks(tmp_path: Path) -> None:
    n_bad = write_surfaces(tmp_path, 48, size=(64, 64), half_labelled=True)
    found = scan(tmp_path)
    assert found.count(None) == 24
    assert found.n_masks == n_bad
    labelled = {item.group for item in found.items if item.label is not None}
    assert not labelled & {item.group for item in found.items if item.label is None}


def test_the_command_writes_the_folder_and_refuses_one_that_holds_something(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["generate", "--out", str(out), "--images", "5", "--seed", "1", "--materials", "wood", "fabric"]
    assert main([*command, "--image-size", "64", "96"]) == 0
    assert len(scan(out).items) == 5
    before = files(out)
    assert {name.rpartition("-")[2] for name in before if name.startswith("images/")} == {"wood.png", "fabric.png"}
    assert main(command) == 1
    assert "not empty" in capsys.readouterr().err
    assert files(out) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--images", "0"], "number of images"),
        (["--seed", "-1"], "seed"),
        (["--materials", "cheese"], "no such material"),
        (["--materials", "wood", "wood"], "each material once"),
        (["--image-size", "32", "256"], "64 to 2048"),
    ],
)
def test_values_out_of_range_are_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(["generate", "--out", str(tmp_path / "out"), *arguments]) == 1
    assert words in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(SettingError, match="not empty"):
        write_surfaces(tmp_path / "file", 1)


def test_a_stopped_run_leaves_no_table_behind(tmp_path: Path) -> None:
    def stop(done: int, _total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_surfaces(tmp_path, 5, size=(64, 64), progress=stop)
    assert not (tmp_path / "labels.csv").exists()


def test_generating_never_loads_torch() -> None:
    code = "import sys, ssn_core.surfaces; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True)
