"""The benchmark that leaves groups out: what each network learns from, and that a wrong label there does not hide."""

from __future__ import annotations

import dataclasses
import json
import sys

import pytest
import torch

from benchmarks import left_out
from ssn_core.recipes import get_recipe


def test_a_bad_image_called_good_stands_out_where_its_label_was_not_learned(labelled, caches, capsys) -> None:
    images = [dataclasses.replace(image, bad=False) if image.group == "part0" else image for image in labelled]
    recipe = get_recipe("cam").with_settings({"image_size": (64, 64), "seed": 3})
    others, everything = left_out.measure(recipe, images, ["part0"], caches["replicate"], device=torch.device("cpu"))
    assert (others["n_good"], others["n_bad"]) == (16, 8)
    assert (everything["n_good"], everything["n_bad"]) == (19, 8)
    for row in (others, everything):
        assert row["seed"] == 3
        assert sorted(one["image"].rpartition("/")[2] for one in row["images"]) == ["00", "01", "02"]
        assert [one["label"] for one in row["images"]] == ["good"] * 3
        scores = [one["score"] for one in row["images"]]
        assert scores == sorted(scores, reverse=True)
    first, second = others["images"][:2]
    assert first["image"].endswith("/00")
    assert first["score"] > 0 > second["score"]
    assert max(one["score"] for one in everything["images"]) < 0  # here it has learned that all three are good
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_group_that_is_not_there_is_named(surfaces, monkeypatch, capsys, tmp_path) -> None:
    out = tmp_path / "left-out.json"
    arguments = [str(surfaces / "labels.csv"), "--groups", "part0", "part99", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["left_out", *arguments])
    with pytest.raises(SystemExit):
        left_out.main()
    assert "part99" in capsys.readouterr().err
    assert not out.exists()


def test_groups_that_leave_too_few_labels_are_refused_before_anything_is_computed(
    surfaces, monkeypatch, capsys, tmp_path
) -> None:
    out = tmp_path / "left-out.json"
    groups = [f"part{number}" for number in range(8)]
    monkeypatch.setattr(sys, "argv", ["left_out", str(surfaces / "labels.csv"), "--groups", *groups, "--out", str(out)])
    with pytest.raises(SystemExit):
        left_out.main()
    assert "Without these groups" in capsys.readouterr().err
    assert not out.exists()


def test_the_report_says_what_was_measured(surfaces, monkeypatch, tmp_path) -> None:
    out = tmp_path / "left-out.json"
    arguments = [
        "--weights",
        "random",
        "--image-size",
        "64",
        "64",
        "--epochs",
        "1",
        "--groups",
        "part0",
        "--seeds",
        "4",
    ]
    monkeypatch.setattr(sys, "argv", ["left_out", str(surfaces / "labels.csv"), *arguments, "--out", str(out)])
    left_out.main()
    report = json.loads(out.read_text())
    assert [(row["seed"], row["learned_from"]) for row in report["rows"]] == [
        (4, left_out.OTHERS),
        (4, left_out.EVERYTHING),
    ]
    assert (report["settings"]["image_size"], report["weights"]) == ([64, 64], "random")
    assert "seed" not in report["settings"]
