"""The comparison table and the learning curve: what is measured, what says why it is not, and going on after a stop."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path

import pytest

from benchmarks import learning_curve
from ssn_core import cli_table, table
from ssn_core.cli import main
from ssn_core.published import PUBLISHED
from ssn_core.recipes import RECIPES

QUICK = (
    *("--weights", "random", "--image-size", "64", "64", "--epochs", "1", "--fold-column", "fold"),
    *("--set", "batch_size=16", "--set", "map_width=16", "--set", "feature_scale=1"),
)


def run(surfaces: Path, out: Path, *more: str, cache: Path) -> list[dict[str, str]]:
    command = ["table", str(surfaces / "labels.csv"), *QUICK, "--cache", str(cache), *more, "--out", str(out)]
    assert main(command) == 0
    with out.open(newline="") as file:
        return list(csv.DictReader(file))


def test_all_recipes_become_rows_beside_the_published_figures(surfaces: Path, tmp_path: Path) -> None:
    rows = run(surfaces, tmp_path / "t.csv", "--backbones", "resnet18", cache=tmp_path / "cache")
    assert [row["recipe"] for row in rows] == list(RECIPES)
    for row in rows:
        assert not row["not_measured"]
        assert all(0 <= float(row[name]) <= 1 for name in ("ap_det", "i_auroc", "ap_loc", "p_auroc", "aupro"))
        assert (row["n_good"], row["n_bad"], row["n_masks"], row["folds"]) == ("18", "9", "9", "3")
        assert row["device"].startswith("CPU")
        assert row["seed"] == "0"
    text = (tmp_path / "t.md").read_text()
    assert "python -m ssn_core" in text
    assert all(f"| {row['recipe']} |" in text for row in rows)
    assert all(published.method in text and published.source in text for published in PUBLISHED)


def test_a_row_that_is_done_is_kept_and_other_rows_are_added(
    surfaces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, cache = tmp_path / "t.csv", tmp_path / "cache"
    one = ("--recipes", "cam", "--backbones", "resnet18")
    first = run(surfaces, out, *one, cache=cache)
    measured: list[str] = []
    cross_validate = table.cross_validate

    def watch(recipe: object, *args: object, **more: object) -> object:
        measured.append(f"{recipe.name} {recipe.noise_kind}")  # type: ignore[attr-defined]
        return cross_validate(recipe, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(table, "cross_validate", watch)
    again = run(surfaces, out, *one, "--noises", "none", "learned", cache=cache)
    assert measured == ["cam learned"]  # "none" is what cam has
    assert again[0] == first[0]
    assert len(again) == 2
    assert run(surfaces, out, *one, "--set", "head_width=8", cache=cache)[0]["noise"] == "learned"
    assert measured == ["cam learned", "cam none"]  # other settings: the row is measured again, in its old one's place


def test_what_cannot_be_measured_says_why(surfaces: Path, tmp_path: Path) -> None:
    lines = (surfaces / "labels.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines]
    folder = tmp_path / "data"
    folder.mkdir()
    for row in rows[1:]:
        (folder / row[0]).write_bytes((surfaces / row[0]).read_bytes())
    (folder / "labels.csv").write_text("\n".join(",".join((r[0], r[1], r[3], r[4])) for r in rows) + "\n")
    found = run(
        folder, tmp_path / "t.csv", "--recipes", "mixed", "simplenet", "--backbones", "resnet18", cache=tmp_path / "c"
    )
    assert "no bad image has one" in found[0]["not_measured"]
    assert found[0]["ap_det"] == ""
    assert not found[1]["not_measured"]
    assert found[1]["ap_loc"] == ""  # no masks: n/a, and never 0
    text = (tmp_path / "t.md").read_text()
    assert "no bad image has one" in text
    assert "| n/a |" in text


def test_missing_weights_are_a_reason_and_not_the_end(surfaces: Path, tmp_path: Path) -> None:
    command = ["table", str(surfaces / "labels.csv"), *QUICK, "--recipes", "cam", "--weights", "bundled"]
    assert main([*command, "--cache", str(tmp_path / "c"), "--out", str(tmp_path / "t.csv")]) == 0
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = {row["backbone"]: row for row in csv.DictReader(file)}
    assert rows["resnet18"]["ap_det"]
    assert "no bundled weights for wide_resnet50_2" in rows["wide_resnet50_2"]["not_measured"]


def test_several_scales_are_for_the_recipes_that_take_them() -> None:
    parser = argparse.ArgumentParser()
    cli_table.add_parser(parser.add_subparsers())
    options = parser.parse_args(["table", "data", "--out", "t.csv", "--scales", "3", "--recipes", "cam", "gap-cam"])
    assert {recipe.name: recipe.scales for recipe in cli_table.recipes_of(options)} == {"cam": 3, "gap-cam": 1}


def test_a_learning_curve_tells_several_scales_from_one() -> None:
    lines = [
        {
            "recipe": "cam",
            "bad": "8",
            "seed": 0,
            "ap_det": 0.9,
            "weights": "random",
            "settings": RECIPES["cam"].with_settings({"scales": scales}).settings(),
        }
        for scales in (1, 3)
    ]
    sizes = [row.split("|")[2].strip() for row in learning_curve.table(lines).splitlines()[2:]]
    assert sizes == ["256 x 256", "256 x 256, 3 scales"]


def test_wrong_names_are_refused_before_any_work(surfaces: Path, tmp_path: Path) -> None:
    for more in (("--recipes", "padim"), ("--noises", "pink"), ("--adaptors", "cubic"), ("--backbones", "vgg")):
        command = ["table", str(surfaces / "labels.csv"), *QUICK, *more, "--out", str(tmp_path / "t.csv")]
        assert main(command) == 1
    assert not (tmp_path / "t.csv").exists()
    assert main(["table", str(surfaces), *QUICK, "--out", str(tmp_path / "t.txt")]) == 1


def test_another_file_is_never_written_over(surfaces: Path, tmp_path: Path) -> None:
    other = tmp_path / "scores.csv"
    other.write_text("image,score\na.png,1\n")
    command = ["table", str(surfaces / "labels.csv"), *QUICK, "--recipes", "cam", "--out", str(other)]
    assert main(command) == 1
    assert other.read_text().startswith("image,score")


def test_the_table_of_another_data_set_is_not_added_to(surfaces: Path, tmp_path: Path) -> None:
    out, one = tmp_path / "t.csv", ("--recipes", "cam", "--backbones", "resnet18")
    run(surfaces, out, *one, cache=tmp_path / "c")
    before = out.read_bytes()
    lines = (surfaces / "labels.csv").read_text().splitlines()
    (surfaces / "fewer.csv").write_text("\n".join(lines[:-1]) + "\n")
    assert main(["table", str(surfaces / "fewer.csv"), *QUICK, *one, "--out", str(out)]) == 1
    assert out.read_bytes() == before


def test_the_learning_curve_goes_on_and_prints_mean_and_range(
    surfaces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "curve.jsonl"
    command = [
        "learning_curve",
        str(surfaces / "labels.csv"),
        "--recipes",
        "cam",
        "--weights",
        "random",
        "--epochs",
        "1",
    ]
    command += ["--image-size", "64", "64", "--cache", str(tmp_path / "c"), "--out", str(out)]
    for bad in (["2"], ["2", "all"], ["2", "all"]):
        monkeypatch.setattr(sys, "argv", [*command, "--bad", *bad, "--seeds", "0", "1"])
        learning_curve.main()
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(line["bad"], line["seed"]) for line in lines] == [("2", 0), ("2", 1), ("all", 0), ("all", 1)]
    assert all(line["n_good"] == 18 and line["n_bad"] == 9 and 0 <= line["ap_det"] <= 1 for line in lines)
    last = capsys.readouterr().out.splitlines()[-3:]
    assert last[0] == "| Recipe | Size | Epochs | 2 bad | all bad | Seeds |"
    assert last[2].startswith("| cam | 64 x 64 | 1 | ")
    assert last[2].endswith("| 0, 1 |")


def test_the_learning_curve_does_not_mix_settings() -> None:
    def line(seed: int, ap: float, **changed: object) -> dict[str, object]:
        settings = {"image_size": [64, 32], "epochs": 0, "seed": seed, **changed}
        return {"recipe": "cam", "weights": "random", "bad": "2", "seed": seed, "ap_det": ap, "settings": settings}

    lines = [line(0, 0.5), line(1, 0.7), line(0, 0.9, image_size=[128, 64]), line(0, 0.1, epochs=3)]
    assert learning_curve.table(lines).splitlines()[2:] == [
        "| cam | 64 x 32 | automatic | 0.6000 (0.5000 to 0.7000) | 0, 1 |",
        "| cam | 128 x 64 | automatic | 0.9000 (0.9000 to 0.9000) | 0 |",
        "| cam | 64 x 32 | 3 | 0.1000 (0.1000 to 0.1000) | 0 |",
    ]


def test_fewer_bad_images_are_part_of_more() -> None:
    from tests.ssn_core.test_pipeline import image

    training = [image(n, bad=n < 9) for n in range(20)]
    for seed in (0, 1):
        chosen = [
            [i.key for i in learning_curve.choose(training, bad, seed=seed) if i.bad] for bad in ("2", "5", "all")
        ]
        assert [len(keys) for keys in chosen] == [2, 5, 9]
        assert set(chosen[0]) < set(chosen[1]) < set(chosen[2])
    few = [{i.key for i in learning_curve.choose(training, "2", seed=seed) if i.bad} for seed in range(6)]
    assert len({frozenset(keys) for keys in few}) > 1
    with pytest.raises(SystemExit, match="10 bad images"):
        learning_curve.choose(training, "10", seed=0)
