"""A column of whole numbers, read as one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sqlalchemy import select

from storage import number_columns
from storage.db import Database
from storage.tables import ImageRow, PredictionRow
from tests.model_seed import add_model

Add = Callable[..., list[int]]


def test_numbers_come_in_the_order_asked_for(db: Database, project: int, add_images: Add) -> None:
    ids = add_images(2000)
    scores = np.random.default_rng(1).integers(0, 300, len(ids)).astype(float)  # many are equal
    model = add_model(db, project, [(i, s, "unseen") for i, s in zip(ids, scores.tolist(), strict=True)])
    found = number_columns.read(
        db,
        select(PredictionRow.image_id).where(PredictionRow.model_id == model.id),
        order_by=[PredictionRow.score.desc(), PredictionRow.image_id],
    )
    assert found.dtype == np.int64
    assert found.tolist() == [ids[place] for place in np.argsort(-scores, kind="stable")]
    some = select(ImageRow.id).where(ImageRow.id.in_(ids[5:8]))
    assert number_columns.read(db, some, order_by=[ImageRow.id.desc()]).tolist() == ids[5:8][::-1]


def test_of_nothing_there_are_no_numbers(db: Database, project: int) -> None:
    found = number_columns.read(db, select(ImageRow.id).where(ImageRow.project_id == project), order_by=[ImageRow.id])
    assert found.shape == (0,)
    assert found.dtype == np.int64
