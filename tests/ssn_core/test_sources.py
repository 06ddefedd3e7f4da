"""Data sets on disk: which layout they are read as, and what becomes of everything that does not fit."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ssn_core import source_tree
from ssn_core.errors import LayoutError
from ssn_core.sources import LAYOUTS, Scan, scan

KOLEKTOR = Path(__file__).parents[3] / "shared" / "data" / "kolektorsdd"


def draw(path: Path, *, defect: bool = False) -> Path:
    """An 8 x 6 grey image; black, or with one white pixel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("L", (8, 6))
    if defect:
        image.putpixel((3, 3), 255)
    image.save(path)
    return path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def labels(found: Scan) -> dict[str, str | None]:
    return {item.name: item.label for item in found.items}


def masks(found: Scan) -> dict[str, str]:
    return {item.name: item.mask.relative_to(found.root).as_posix() for item in found.items if item.mask}


# MVTec AD


def mvtec(root: Path) -> Path:
    for number in range(3):
        draw(root / f"train/good/{number:03}.png")
    draw(root / "test/good/000.png")
    draw(root / "test/scratch/000.png")
    draw(root / "ground_truth/scratch/000_mask.png", defect=True)
    draw(root / "test/hole/000.png")
    write(root / "readme.txt", "about")
    return root


def test_an_mvtec_category_is_recognised_with_labels_and_masks(tmp_path: Path) -> None:
    found = scan(mvtec(tmp_path))
    assert (found.layout, found.title) == ("mvtec", "MVTec AD")
    assert labels(found) == {
        "train/good/000.png": "good",
        "train/good/001.png": "good",
        "train/good/002.png": "good",
        "test/good/000.png": "good",
        "test/scratch/000.png": "bad",
        "test/hole/000.png": "bad",
    }
    assert masks(found) == {"test/scratch/000.png": "ground_truth/scratch/000_mask.png"}
    assert found.problems == ("Bad images without a mask: 1.",)
    assert found.ignored == (("readme.txt", "not an image file (.txt)"),)


def test_the_mvtec_split_is_not_carried_over(tmp_path: Path) -> None:
    assert {item.split for item in scan(mvtec(tmp_path)).items} == {None}


def test_several_mvtec_categories_are_read_together(tmp_path: Path) -> None:
    mvtec(tmp_path / "bottle")
    mvtec(tmp_path / "screw")
    found = scan(tmp_path)
    assert found.layout == "mvtec"
    assert (len(found.items), found.count("bad"), found.n_masks) == (12, 4, 2)
    assert masks(found)["screw/test/scratch/000.png"] == "screw/ground_truth/scratch/000_mask.png"


def test_one_folder_around_everything_is_seen_through(tmp_path: Path) -> None:
    mvtec(tmp_path / "download" / "bottle")
    found = scan(tmp_path)
    assert (found.layout, len(found.items)) == ("mvtec", 6)
    assert all(item.path == found.root / item.name for item in found.items)


def test_a_mask_without_its_image_is_ignored_with_a_reason(tmp_path: Path) -> None:
    draw(mvtec(tmp_path) / "ground_truth/scratch/777_mask.png", defect=True)
    assert ("ground_truth/scratch/777_mask.png", "a mask without its image") in scan(tmp_path).ignored


def test_train_with_bad_images_is_folders_and_not_mvtec(tmp_path: Path) -> None:
    for place in ("train/good", "train/bad", "test/good", "test/bad", "val/good"):
        draw(tmp_path / place / "a.png")
    found = scan(tmp_path)
    assert found.layout == "folders"
    assert {item.name: (item.label, item.split) for item in found.items} == {
        "train/good/a.png": ("good", "train"),
        "train/bad/a.png": ("bad", "train"),
        "test/good/a.png": ("good", "test"),
        "test/bad/a.png": ("bad", "test"),
        "val/good/a.png": ("good", "calibration"),
    }


# KSDD2


def ksdd2(root: Path) -> Path:
    for split, number, defect in [("train", 10000, False), ("train", 10001, True), ("test", 20000, True)]:
        draw(root / split / f"{number}.png")
        draw(root / split / f"{number}_GT.png", defect=defect)
    return root


def test_ksdd2_is_labelled_by_its_masks_and_keeps_its_split(tmp_path: Path) -> None:
    found = scan(ksdd2(tmp_path))
    assert (found.layout, found.title) == ("ksdd2", "KSDD2")
    assert {item.name: (item.label, item.split) for item in found.items} == {
        "train/10000.png": ("good", "train"),
        "train/10001.png": ("bad", "train"),
        "test/20000.png": ("bad", "test"),
    }
    assert masks(found) == {"train/10001.png": "train/10001_GT.png", "test/20000.png": "test/20000_GT.png"}
    assert found.ignored == found.problems == ()


def test_the_pickled_split_files_are_never_opened(tmp_path: Path) -> None:
    ksdd2(tmp_path)
    (tmp_path / "split_weakly_16.pyb").write_bytes(b"cbuiltins\nexit\n(tR.")  # unpickling it would end the process
    found = scan(tmp_path)
    assert len(found.items) == 3
    assert found.ignored[0][0] == "split_weakly_16.pyb"
    assert "never opened" in found.ignored[0][1]


def test_an_image_whose_mask_is_missing_among_black_ones_stays_unlabelled(tmp_path: Path) -> None:
    draw(ksdd2(tmp_path) / "train/10002.png")
    found = scan(tmp_path)
    assert labels(found)["train/10002.png"] is None
    assert found.problems == ("Images that have no mask file and so come without a label: 1.",)


def test_a_mask_that_cannot_be_read_costs_the_label_alone(tmp_path: Path) -> None:
    (ksdd2(tmp_path) / "train/10000_GT.png").write_bytes(b"no mask")
    found = scan(tmp_path)
    assert labels(found)["train/10000.png"] is None
    assert "train/10000_GT.png" in found.problems[0]
    assert found.count("bad") == 2


def test_a_stray_mask_never_becomes_an_image(tmp_path: Path) -> None:
    draw(ksdd2(tmp_path) / "train/10301_GT (copy).png", defect=True)
    found = scan(tmp_path)
    assert len(found.items) == 3
    assert found.ignored == (("train/10301_GT (copy).png", "a mask without its image"),)


# KolektorSDD


def test_kolektorsdd_is_grouped_by_item_and_labelled_by_masks(tmp_path: Path) -> None:
    for item in ("kos01", "kos02"):
        for part in range(2):
            draw(tmp_path / item / f"Part{part}.jpg")
            draw(tmp_path / item / f"Part{part}_label.bmp", defect=(item, part) == ("kos02", 1))
    found = scan(tmp_path)
    assert (found.layout, found.title) == ("kolektorsdd", "KolektorSDD")
    assert labels(found) == {
        "kos01/Part0.jpg": "good",
        "kos01/Part1.jpg": "good",
        "kos02/Part0.jpg": "good",
        "kos02/Part1.jpg": "bad",
    }
    assert [item.group for item in found.items] == ["kos01", "kos01", "kos02", "kos02"]
    assert masks(found) == {"kos02/Part1.jpg": "kos02/Part1_label.bmp"}
    assert found.n_groups == 2


def test_where_only_bad_parts_have_masks_the_others_are_good_and_it_is_said(tmp_path: Path) -> None:
    draw(tmp_path / "kos01/Part0.jpg")
    draw(tmp_path / "kos01/Part1.jpg")
    draw(tmp_path / "kos01/Part1_label.png", defect=True)
    found = scan(tmp_path)
    assert labels(found) == {"kos01/Part0.jpg": "good", "kos01/Part1.jpg": "bad"}
    assert "taken as good" in found.problems[0]


def test_parts_without_any_mask_come_unlabelled_but_grouped(tmp_path: Path) -> None:
    draw(tmp_path / "kos07/Part0.jpg")
    found = scan(tmp_path)
    assert (found.layout, found.items[0].label, found.items[0].group) == ("kolektorsdd", None, "kos07")


def test_natural_order_puts_part_2_before_part_10(tmp_path: Path) -> None:
    for part in (10, 2, 1):
        draw(tmp_path / f"Part{part}.png")
    assert [item.name for item in scan(tmp_path).items] == ["Part1.png", "Part2.png", "Part10.png"]


@pytest.mark.skipif(not KOLEKTOR.is_dir(), reason="needs ../shared/data/kolektorsdd")
def test_the_real_kolektorsdd_reads_alike_by_its_csv_and_by_its_layout(tmp_path: Path) -> None:
    listed = scan(KOLEKTOR)
    assert (listed.layout, len(listed.items), listed.count("good"), listed.count("bad")) == ("csv", 399, 347, 52)
    assert (listed.n_masks, listed.n_groups, listed.ignored, listed.problems) == (52, 48, (), ())
    assert {item.fold for item in listed.items} == {"0", "1", "2"}
    shutil.copytree(KOLEKTOR, tmp_path / "copy", ignore=shutil.ignore_patterns("labels.csv"))
    recognised = scan(tmp_path / "copy")
    assert (recognised.layout, recognised.n_masks, recognised.n_groups) == ("kolektorsdd", 52, 50)
    assert labels(recognised) == labels(listed)


# Folder per class, and flat


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("good", ["good", "OK", "Pass", "normal"]),
        ("bad", ["bad", "NG", "Not OK", "not_ok", "Defective", "anomaly", "FAIL"]),
    ],
)
def test_class_folders_go_by_many_names(tmp_path: Path, label: str, words: list[str]) -> None:
    for word in words:
        draw(tmp_path / word / "deep" / "a.png")
    draw(tmp_path / "later" / "b.png")
    found = scan(tmp_path)
    assert found.layout == "folders"
    assert labels(found) == {**{f"{word}/deep/a.png": label for word in words}, "later/b.png": None}


def test_a_single_class_folder_keeps_its_meaning(tmp_path: Path) -> None:
    draw(tmp_path / "good" / "a.png")
    assert labels(scan(tmp_path)) == {"good/a.png": "good"}


def test_an_image_in_a_good_and_a_bad_folder_comes_without_a_label(tmp_path: Path) -> None:
    draw(tmp_path / "good" / "rejected" / "a.png")
    found = scan(tmp_path)
    assert labels(found) == {"good/rejected/a.png": None}
    assert "good/rejected/a.png" in found.problems[0]


def test_masks_beside_class_folders_do_not_become_images(tmp_path: Path) -> None:
    draw(tmp_path / "good/a.png")
    draw(tmp_path / "masks/a.png")
    found = scan(tmp_path)
    assert labels(found) == {"good/a.png": "good"}
    assert found.ignored[0][0] == "masks/a.png"


def test_loose_images_are_flat_and_unlabelled(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    draw(tmp_path / "monday" / "b.JPG")
    found = scan(tmp_path)
    assert (found.layout, found.count(None), found.n_masks, found.n_groups) == ("flat", 2, 0, 0)


def test_hidden_files_and_clutter_are_skipped_without_a_word(tmp_path: Path) -> None:
    for name in (".hidden.png", ".git/a.png", "__MACOSX/._a.png", "Thumbs.db", "sub/.DS_Store", "a.png"):
        write(tmp_path / name, "")
    found = scan(tmp_path)
    assert labels(found) == {"a.png": None}
    assert found.ignored == ()


def test_text_renamed_to_jpg_is_listed_and_left_to_the_decoder(tmp_path: Path) -> None:
    write(tmp_path / "notes.jpg", "hello")
    assert len(scan(tmp_path).items) == 1


# Hostile trees


def test_symbolic_links_are_not_followed(tmp_path: Path) -> None:
    outside = draw(tmp_path / "outside" / "secret.png").parent
    root = draw(tmp_path / "root" / "a.png").parent
    (root / "folder").symlink_to(outside)
    (root / "file.png").symlink_to(outside / "secret.png")
    (root / "loop").symlink_to(root)
    found = scan(root)
    assert labels(found) == {"a.png": None}
    assert set(found.ignored) == {(name, "symbolic links are not followed") for name in ("folder", "file.png", "loop")}


def test_a_root_that_is_itself_a_link_is_read(tmp_path: Path) -> None:
    real = draw(tmp_path / "real" / "a.png").parent
    (tmp_path / "link").symlink_to(real)
    assert scan(tmp_path / "link").root == real.resolve()


def test_a_pipe_and_a_name_that_is_no_text_are_ignored(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    with open(os.fsencode(tmp_path) + b"/\xff\xfe.png", "wb"):  # noqa: PTH123 - pathlib takes no bytes
        pass
    found = scan(tmp_path)
    assert labels(found) == {"a.png": None}
    assert dict(found.ignored) == {
        "pipe.png": "not a regular file",
        r"\udcff\udcfe.png": "the file name is not valid text",
    }


def test_folders_too_deep_are_ignored(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    draw(tmp_path.joinpath(*["d"] * 40) / "b.png")
    found = scan(tmp_path)
    assert labels(found) == {"a.png": None}
    assert "deeper than 32" in found.ignored[0][1]


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_tree, "MAX_ENTRIES", 3)
    for number in range(4):
        draw(tmp_path / f"{number}.png")
    with pytest.raises(LayoutError, match="too many files"):
        scan(tmp_path)


def test_an_empty_folder_a_wrong_file_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="No images were found"):
        scan(tmp_path)
    with pytest.raises(LayoutError, match="no data set"):
        scan(write(tmp_path / "a.txt", ""))
    for gone in (tmp_path / "gone", Path("a\0b"), tmp_path / ("x" * 5000)):
        with pytest.raises(LayoutError):
            scan(gone)


# A layout that is asked for


def test_a_layout_can_be_forced(tmp_path: Path) -> None:
    draw(tmp_path / "good" / "a.png")
    assert labels(scan(tmp_path, layout="flat")) == {"good/a.png": None}


@pytest.mark.parametrize("layout", sorted(set(LAYOUTS) - {"flat"}))
def test_another_layout_than_asked_for_is_refused(tmp_path: Path, layout: str) -> None:
    draw(tmp_path / "a.png")
    with pytest.raises(LayoutError, match=r"not laid out as|holds no CSV"):
        scan(tmp_path, layout=layout)


def test_an_unknown_layout_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"Unknown layout: 'coco'\. Expected one of csv, mvtec"):
        scan(tmp_path, layout="coco")


def test_a_csv_cannot_be_forced_into_a_folder_layout(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="cannot be read as KSDD2"):
        scan(write(tmp_path / "labels.csv", "image,label\n"), layout="ksdd2")


# CSV


def listed(root: Path, text: str, *, images: tuple[str, ...] = ("a.png", "b.png", "sub/c.png")) -> Scan:
    for name in images:
        draw(root / name)
    return scan(write(root / "labels.csv", text))


def test_a_csv_gives_every_column(tmp_path: Path) -> None:
    draw(tmp_path / "m.png", defect=True)
    found = listed(tmp_path, "image,label,mask,group,split,fold,camera\na.png,bad,m.png,item 7,test,2,left\n")
    item = found.items[0]
    assert (found.layout, found.root) == ("csv", tmp_path.resolve())
    assert (item.name, item.label, item.group, item.split, item.fold) == ("a.png", "bad", "item 7", "test", "2")
    assert item.path == tmp_path.resolve() / "a.png"
    assert item.mask == tmp_path.resolve() / "m.png"
    assert found.problems == ()


@pytest.mark.parametrize(
    "text",
    [
        "image;label\na.png;bad\nb.png;good\n",
        "image\tlabel\na.png\tbad\nb.png\tgood\n",
        "\ufeffImage,LABEL\r\na.png,bad\r\nb.png,good\r\n",
        "sep=;\nimage;label\na.png;bad\nb.png;good\n",
        '"label","image"\n"NG","a.png"\n" ok ","b.png"',
        "image,label\na.png,1\n\nb.png,0\n",
        "image,label\n.\\a.png,1.0\n./b.png,0.0\n",
        "image,label\ra.png,bad\rb.png,good\r",
    ],
)
def test_csv_dialects_mean_the_same(tmp_path: Path, text: str) -> None:
    for name in ("a.png", "b.png"):
        draw(tmp_path / name)
    (tmp_path / "list.csv").write_bytes(text.encode())
    assert labels(scan(tmp_path)) == {"a.png": "bad", "b.png": "good"}


def test_spreadsheet_encodings_are_read(tmp_path: Path) -> None:
    draw(tmp_path / "Stück.png")
    (tmp_path / "labels.csv").write_bytes("image,label\nStück.png,ok\n".encode("cp1252"))
    found = scan(tmp_path)
    assert labels(found) == {"Stück.png": "good"}
    assert "Windows-1252" in found.problems[0]
    (tmp_path / "labels.csv").write_bytes("image,label\nStück.png,ok\n".encode("utf-16"))
    assert scan(tmp_path).problems == ()


def test_bad_rows_are_left_out_with_their_line_and_the_rest_goes_on(tmp_path: Path) -> None:
    found = listed(
        tmp_path,
        "image,label\na.png,good\ngone.png,good\nb.png,perhaps\n,bad\n./a.png,bad\n../up.png,bad\n"
        "/etc/passwd,bad\nC:\\x.png,bad\nsub,good\nsub/c.png,\n",
    )
    assert labels(found) == {"a.png": "good", "sub/c.png": None}
    assert found.ignored == (
        ("gone.png", "line 3: file not found"),
        ("b.png", "line 4: unknown label 'perhaps'; expected good, bad, 0, 1 or nothing"),
        ("(no image)", "line 5: the image column is empty"),
        ("./a.png", "line 6: the same image as in line 2"),
        ("../up.png", "line 7: the path leads out of the folder ('..' is not accepted)"),
        ("/etc/passwd", "line 8: absolute paths are not accepted"),
        ("C:\\x.png", "line 9: absolute paths are not accepted"),
        ("sub", "line 10: file not found"),
    )


def test_line_numbers_count_lines_within_quotes(tmp_path: Path) -> None:
    found = listed(tmp_path, 'image,label,note\na.png,good,"two\nlines"\ngone.png,good,\n')
    assert found.ignored == (("gone.png", "line 4: file not found"),)


def test_csv_paths_do_not_leave_the_folder_through_links(tmp_path: Path) -> None:
    outside = draw(tmp_path / "outside" / "secret.png").parent
    root = draw(tmp_path / "root" / "real" / "a.png").parents[1]
    (root / "out").symlink_to(outside)
    (root / "secret.png").symlink_to(outside / "secret.png")
    (root / "alias.png").symlink_to(root / "real" / "a.png")
    (root / "loop.png").symlink_to(root / "loop.png")
    found = scan(
        write(root / "labels.csv", "image,label\nout/secret.png,bad\nsecret.png,bad\nalias.png,ok\nloop.png,\n")
    )
    assert labels(found) == {"alias.png": "good"}
    reasons = [reason for _, reason in found.ignored]
    assert [reason.endswith("through a symbolic link") for reason in reasons] == [True, True, False]


def test_a_mask_outside_or_missing_costs_the_mask_alone(tmp_path: Path) -> None:
    found = listed(tmp_path, "image,label,mask\na.png,bad,../m.png\nb.png,bad,none.png\n")
    assert [(item.label, item.mask) for item in found.items] == [("bad", None), ("bad", None)]
    assert ["Line 2" in found.problems[0], "Line 3" in found.problems[1]] == [True, True]


def test_a_good_image_whose_mask_shows_a_defect_is_pointed_out(tmp_path: Path) -> None:
    draw(tmp_path / "m.png", defect=True)
    draw(tmp_path / "black.png")
    found = listed(tmp_path, "image,label,mask\na.png,good,m.png\nb.png,good,black.png\n")
    assert found.problems == ("Line 2: a.png is labelled good, but its mask 'm.png' shows a defect.",)
    assert found.n_masks == 1


def test_an_unknown_split_is_pointed_out_and_the_row_kept(tmp_path: Path) -> None:
    found = listed(tmp_path, "image,label,split\na.png,good,holdout\nb.png,good,val\n")
    assert [item.split for item in found.items] == [None, "calibration"]
    assert "'holdout'" in found.problems[0]


def test_many_problems_are_counted_and_not_all_listed(tmp_path: Path) -> None:
    names = tuple(f"{number}.png" for number in range(30))
    found = listed(tmp_path, "image,split\n" + "".join(f"{name},x\n" for name in names), images=names)
    assert found.problems[0] == "The CSV has no 'label' column; its images come without labels."
    assert found.problems[-1] == "... and 10 more of this kind."
    assert len(found.problems) == 22


def test_a_folder_with_one_table_of_images_is_read_by_it(tmp_path: Path) -> None:
    draw(tmp_path / "set" / "a.png")
    write(tmp_path / "set" / "prices.csv", "part,price\n")
    write(tmp_path / "set" / "truth.csv", "image,label\na.png,ng\n")
    found = scan(tmp_path)
    assert (found.layout, labels(found), found.root) == ("csv", {"a.png": "bad"}, (tmp_path / "set").resolve())


def test_a_long_table_is_recognised_though_only_its_beginning_is_looked_at(tmp_path: Path) -> None:
    """The look ends within a letter, of which the half is valid in no encoding."""
    draw(tmp_path / "a.png")
    head = "image,label,note\na.png,ng,"
    write(tmp_path / "truth.csv", head + "x" * ((len(head) + 1) % 2) + "Ł" * 40_000 + "\n")
    found = scan(tmp_path)
    assert (found.layout, labels(found)) == ("csv", {"a.png": "bad"})


def test_of_two_tables_of_images_none_is_guessed(tmp_path: Path) -> None:
    draw(tmp_path / "good" / "a.png")
    for name in ("one.csv", "two.csv"):
        write(tmp_path / name, "image,label\ngood/a.png,bad\n")
    found = scan(tmp_path)
    assert labels(found) == {"good/a.png": "good"}
    assert found.problems == ("Several CSV files list images (one.csv, two.csv); none was used.",)
    assert ("one.csv", "this CSV was not used") in found.ignored


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no 'image' column"),
        (b"part,price\n1,2\n", "no 'image' column"),
        (b"image,label,label\n", "'label' twice"),
        (b"image,label\n", "No images were found"),
        (b"image,label\ngone.png,good\n", "First reason: gone.png: line 2: file not found"),
        (b"image\n\x81\x8d\n", "not readable text"),
        (b'image,label\n"' + b"x" * 200_000, "cannot be read from line 2"),
    ],
)
def test_a_csv_that_cannot_be_used_says_why(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "labels.csv").write_bytes(data)
    with pytest.raises(LayoutError, match=reason):
        scan(tmp_path)


HOSTILE_CELLS = st.one_of(
    st.sampled_from(["a.png", "../a.png", "/a.png", "good", "1", "", '"', "a\0b", "x" * 300, "~", "CON", "a.png/b"]),
    st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.lists(HOSTILE_CELLS, max_size=7), max_size=6),
    delimiter=st.sampled_from(",;\t"),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_arbitrary_rows_raise_nothing_but_layout_errors(
    tmp_path: Path, rows: list[list[str]], delimiter: str, newline: str
) -> None:
    draw(tmp_path / "a.png")
    header = delimiter.join(["image", "label", "mask", "group", "split", "fold"])
    text = newline.join([header, *(delimiter.join(row) for row in rows)])
    (tmp_path / "labels.csv").write_bytes(text.encode())
    with suppress(LayoutError):
        found = scan(tmp_path)
        assert [item.path for item in found.items] == [tmp_path.resolve() / "a.png"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(lambda tail: b"image,label\n" + tail)))
def test_arbitrary_bytes_as_csv_raise_nothing_but_layout_errors(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(data)
    with pytest.raises(LayoutError):
        scan(path)
