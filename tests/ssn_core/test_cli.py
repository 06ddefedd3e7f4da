"""The command line, from a folder of images to a table of scores."""

from __future__ import annotations

import csv
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssn_core.cli import main
from ssn_core.operating_point import FILE_NAME, OperatingPoint, to_json

QUICK = ("--weights", "random", "--image-size", "64", "64", "--epochs", "2", "--set", "batch_size=16")


@pytest.fixture(scope="session")
def model(surfaces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "model"
    assert main(["train", str(surfaces), "--recipe", "cam", "--backbone", "resnet18", *QUICK, "--out", str(out)]) == 0
    return out


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_predict_writes_a_row_an_image_and_an_overlay_of_its_size(model: Path, surfaces: Path, tmp_path: Path) -> None:
    out, overlays = tmp_path / "scores.csv", tmp_path / "overlays"
    assert main(["predict", str(model), str(surfaces), "--out", str(out), "--overlays", str(overlays)]) == 0
    table = rows(out)
    assert [row["image"] for row in table] == [f"{number:02}.png" for number in range(27)]
    threshold = float(table[0]["threshold"])
    for row in table:
        assert row["verdict"] == ("bad" if float(row["score"]) >= threshold else "good")
        assert row["threshold_low"] == ""
        with Image.open(overlays / f"{row['image']}.png") as picture:
            assert picture.size == (64, 64)


def test_predict_goes_on_past_an_unreadable_file_and_takes_a_threshold(
    model: Path, surfaces: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "new"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "=cmd.png").write_bytes((surfaces / "01.png").read_bytes())
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    out = tmp_path / "scores.csv"
    assert main(["predict", str(model), str(folder), "--out", str(out), "--threshold", "1e9"]) == 0
    table = {row["image"]: row for row in rows(out)}
    assert table["sub/=cmd.png"]["verdict"] == "good"
    assert table["broken.png"]["score"] == ""
    assert "broken.png" in table["broken.png"]["error"]


def test_info_says_what_the_model_is(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(model)]) == 0
    said = capsys.readouterr().out
    for words in ("cam", "resnet18", "random weights", "18 good, 9 bad", "64 x 64", "AUPRO", "out_of_fold"):
        assert words in said
    assert "of 9 (" in said
    assert "Each part is counted at a threshold chosen without it." in said
    assert "of 18 good images stay dark (each at a scale set without it)" in said


def test_info_of_a_model_of_before_rates_were_counted_says_that_they_were_not(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "old"
    shutil.copytree(model, folder)
    card = json.loads((folder / "model.json").read_text())
    del card["figures"]["at_threshold"], card["calibration"]["scale_check"]
    (folder / "model.json").write_text(json.dumps(card))
    assert main(["info", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "n/a: the model is from before this was counted" in said
    assert "n/a: whether good images stay dark was not checked" in said


@pytest.fixture
def settled(model: Path, surfaces: Path, tmp_path: Path) -> tuple[Path, list[float]]:
    """A copy of the model with two thresholds, and its scores, rising: a third each lies below, between and above."""
    assert main(["predict", str(model), str(surfaces), "--out", str(tmp_path / "all.csv")]) == 0
    scores = sorted(float(row["score"]) for row in rows(tmp_path / "all.csv"))
    point = OperatingPoint(
        scores[18], scores[9], "Escape rate at most 2 %", "Ada", datetime(2026, 11, 24, 9, 30, tzinfo=UTC), 4
    )
    folder = tmp_path / "settled"
    shutil.copytree(model, folder)
    (folder / FILE_NAME).write_bytes(to_json(point))
    return folder, scores


@pytest.mark.parametrize(
    ("asked", "good", "check", "bad"),
    [
        ({}, 9, 9, 9),
        ({"--threshold": 18}, 18, 0, 9),
        ({"--threshold-low": 12}, 12, 6, 9),
        ({"--threshold": 20, "--threshold-low": 5}, 5, 15, 7),
    ],
)
def test_predict_judges_by_the_saved_thresholds_or_by_those_typed_in(
    settled: tuple[Path, list[float]],
    surfaces: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    asked: dict[str, int],
    good: int,
    check: int,
    bad: int,
) -> None:
    folder, scores = settled
    typed = [f"{name}={scores[place]!r}" for name, place in asked.items()]
    capsys.readouterr()
    assert main(["predict", str(folder), str(surfaces), "--out", str(tmp_path / "s.csv"), *typed]) == 0
    table = rows(tmp_path / "s.csv")
    said = [row["verdict"] for row in table]
    assert (said.count("good"), said.count("check"), said.count("bad")) == (good, check, bad)
    high, low = table[0]["threshold"], table[0]["threshold_low"]
    for row in table:
        above = float(row["score"]) >= float(high)
        between = bool(low) and float(row["score"]) >= float(low)
        assert row["verdict"] == ("bad" if above else "check" if between else "good")
    summary = " ".join(capsys.readouterr().err.split())
    assert (f"{check} to a person" in summary) == bool(low)
    assert f"{bad} bad" in summary


def test_a_lower_threshold_above_the_upper_one_is_refused(
    model: Path, surfaces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "s.csv"
    command = ["predict", str(model), str(surfaces), "--out", str(out), "--threshold=1", "--threshold-low=2"]
    assert main(command) == 1
    assert "lies above the upper one" in capsys.readouterr().err
    assert not out.exists()


def test_info_says_which_thresholds_are_in_force_and_who_set_them(
    settled: tuple[Path, list[float]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, scores = settled
    capsys.readouterr()
    assert main(["info", str(folder)]) == 0
    said = capsys.readouterr().out
    assert f"{scores[18]:.4g}: a score at or above it means bad" in said
    assert f"{scores[9]:.4g} up to the threshold" in said
    assert "Escape rate at most 2 %, Ada, 2026-11-24 09:30+00:00 (version 4)" in said


def test_a_damaged_operating_point_is_explained(
    settled: tuple[Path, list[float]], surfaces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (settled[0] / FILE_NAME).write_text('{"schema_version": 1, "threshold": NaN}')
    for command in (
        ["info", str(settled[0])],
        ["predict", str(settled[0]), str(surfaces), "--out", str(tmp_path / "s")],
    ):
        assert main(command) == 1
        assert f"{FILE_NAME} cannot be used" in capsys.readouterr().err


def test_crossval_writes_the_report(surfaces: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    arguments = ["crossval", str(surfaces / "labels.csv"), "--fold-column", "fold", "--seed", "1"]
    assert main([*arguments, *QUICK, "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    for part in (report["pooled"], *report["folds"]):
        assert {"i_auroc", "ap_det", "p_auroc", "ap_loc", "aupro", "seconds", "device", "settings"} <= set(part)
    assert report["settings"]["seed"] == 1
    assert report["settings"]["weights"] == "random"
    assert report["device"]
    assert len(report["folds"]) == 3


def test_a_fold_column_of_another_name_is_read(surfaces: Path, tmp_path: Path) -> None:
    for path in surfaces.glob("*.png"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    text = (surfaces / "labels.csv").read_text().replace("group,fold", "group,batch")
    (tmp_path / "labels.csv").write_text(text)
    out = tmp_path / "report.json"
    assert main(["crossval", str(tmp_path), "--fold-column", "batch", *QUICK, "--out", str(out)]) == 0
    assert len(json.loads(out.read_text())["folds"]) == 3
    assert main(["crossval", str(tmp_path), "--fold-column", "shift", *QUICK, "--out", str(out)]) == 1


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--set", "poolingfraction=1"], "poolingfraction"),
        (["--set", "pooling_fraction"], "no value"),
        (["--set", "pooling_fraction=lots"], "lots"),
        (["--recipe", "padim"], "padim"),
        (["--backbone", "vgg"], "vgg"),
        (["--epochs", "-3"], "epochs"),
        (["--weights", "lucky"], "lucky"),
        (["--image-size", "8", "8"], "image_size"),
    ],
)
def test_settings_that_do_not_exist_are_refused_by_name(
    surfaces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str], words: str
) -> None:
    assert main(["train", str(surfaces), *extra, "--out", str(tmp_path / "m")]) == 1
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
    assert not (tmp_path / "m").exists()


def test_what_the_disk_refuses_is_explained_before_the_work(
    surfaces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    for command, out in (("train", "m"), ("crossval", "r.json")):
        assert main([command, str(surfaces), *QUICK, "--out", str(tmp_path / "file" / "sub" / out)]) == 1
        said = capsys.readouterr().err
        assert str(tmp_path / "file") in said.replace("\n", "")
        assert "Training" not in said


def test_a_damaged_model_card_is_explained(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = json.loads((model / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(card | {"data": ["x"]}))
    assert main(["info", str(tmp_path)]) == 1
    assert "data.0 is no object" in capsys.readouterr().err


def test_a_threshold_that_is_no_number_is_refused(model: Path, surfaces: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    assert main(["predict", str(model), str(surfaces), "--out", str(out), "--threshold", "nan"]) == 1
    assert not out.exists()


def test_an_unknown_option_is_a_usage_error(surfaces: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["train", str(surfaces), "--out", str(tmp_path / "m"), "--fast"])
    assert stopped.value.code == 2


def test_too_few_labels_say_how_many_are_missing(
    surfaces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("good", "bad"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for number in (1, 2, 4, 5, 7):
        source = surfaces / f"{number:02}.png"
        (tmp_path / "data" / "good" / source.name).write_bytes(source.read_bytes())
    assert main(["train", str(tmp_path / "data"), *QUICK, "--out", str(tmp_path / "m")]) == 1
    assert "Label 3 more bad images" in " ".join(capsys.readouterr().err.split())


def test_nothing_is_written_over_an_existing_model(model: Path, surfaces: Path) -> None:
    before = (model / "model.json").read_bytes()
    assert main(["train", str(surfaces), *QUICK, "--out", str(model)]) == 1
    assert (model / "model.json").read_bytes() == before


def test_a_missing_folder_and_a_folder_without_images_are_explained(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(model), str(tmp_path / "nowhere"), "--out", str(tmp_path / "s.csv")]) == 1
    assert "nowhere" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["predict", str(model), str(tmp_path / "empty"), "--out", str(tmp_path / "s.csv")]) == 1
    assert not (tmp_path / "s.csv").exists()


def test_the_overlay_of_a_good_part_is_mostly_the_photo(model: Path, surfaces: Path, tmp_path: Path) -> None:
    overlays = tmp_path / "overlays"
    assert (
        main(
            [
                "predict",
                str(model),
                str(surfaces / "01.png"),
                "--out",
                str(tmp_path / "s.csv"),
                "--overlays",
                str(overlays),
            ]
        )
        == 0
    )
    with Image.open(overlays / "01.png.png") as picture, Image.open(surfaces / "01.png") as photo:
        same = (np.asarray(picture) == np.asarray(photo)).all(axis=2)
    assert same.mean() > 0.5
