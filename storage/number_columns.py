"""One column of whole numbers, for lists of all images of a project: 100,000 of them in some 20 ms.

A row of its own for each number costs five times as much: the driver makes a tuple of each, which Python's garbage
collection then looks through beside all that the server holds. So the database joins them to one text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Select, SQLColumnExpression, String, cast, func, select

from storage.db import Database

Numbers = NDArray[np.int64]


def read(db: Database, statement: Select[int], *, order_by: Sequence[SQLColumnExpression[Any]]) -> Numbers:
    """The numbers that a statement of one column gives, (N,), in this order.

    Args:
        statement: selects one column of whole numbers, none of them NULL; without an order.
        order_by: as for `Select.order_by`.
    """
    # The order of a subquery is the order in which it is joined to text: PostgreSQL's manual promises it where nothing
    # else is done at the outer level, and SQLite drops such an order only where the outer query merely counts or takes
    # an extreme. (An order inside the aggregate itself is younger than the SQLite of Debian 12.)
    rows = statement.order_by(*order_by).subquery()
    (column,) = rows.c
    with db.read() as session:
        joined = session.scalar(select(func.aggregate_strings(cast(column, String), ",")))
    return np.fromstring(joined or "", dtype=np.int64, sep=",")
