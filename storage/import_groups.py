"""Which group each image of an import belongs to, and with it the part of the data (ssn_core.splits).

Images of one group show the same item and must never lie on both sides of a split. Groups come from the source (its
folders, its CSV), and two of them become one when they share a byte-identical image. What the project knows already
is never decided anew: an image keeps its group, and what joins a known group takes that group's part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute

from ssn_core import splits
from ssn_core.sources import SourceItem
from storage import files
from storage.db import Database, chunks
from storage.tables import ImageRow

Node = tuple[str, str]  # ("group", its name in the source) or ("content", a SHA-256)
Progress = Callable[[str, int, int], None]
_MIXED = "Its group is on both sides of the split that came with it; the whole group is kept for testing"


@dataclass(frozen=True)
class Group:
    """Where an image belongs."""

    key: str
    part: str
    note: str = ""  # for the report, where something is worth saying


class Groups:
    """The groups of one import; made by `plan`."""

    def __init__(self, hashes: dict[Path, str], groups: dict[Node, Group]) -> None:
        self._hashes = hashes
        self._groups = groups

    def known_hash(self, item: SourceItem) -> str | None:
        """The SHA-256 of an image file, if planning needed it."""
        return self._hashes.get(item.path)

    def of(self, item: SourceItem, sha256: str) -> Group:
        """The group of an image with this content."""
        node = ("content", sha256) if item.group is None else ("group", item.group)
        found = self._groups.get(node)
        return found or Group(key=sha256, part=splits.part_for(sha256, item.split))


def plan(
    db: Database, *, project_id: int, items: Sequence[SourceItem], executor: Executor, progress: Progress
) -> Groups:
    """Decide the groups of an import.

    Without groups and splits in the source there is nothing to decide: each image is its own group. Otherwise the
    files that may be byte-identical to another (they have its size) are hashed. Deterministic, so that an import that
    was interrupted decides the same again.

    Args:
        executor: hashes files side by side.
        progress: called with (phase, files hashed, files to hash).
    """
    if all(item.group is None and item.split is None for item in items):
        return Groups({}, {})
    hashes = _hashes(db, project_id, items, executor, progress)
    joined = _Joined()
    said: dict[Node, set[str | None]] = {}
    for item in items:
        nodes: list[Node] = []
        if item.group is not None:
            nodes.append(("group", item.group))
        if item.path in hashes:
            nodes.append(("content", hashes[item.path]))
        for node in nodes:
            joined.join(nodes[0], node)
        if nodes:
            said.setdefault(nodes[0], set()).add(item.split)
    members: dict[Node, list[Node]] = {}
    for node in joined.nodes():
        members.setdefault(joined.find(node), []).append(node)
    known = _known(db, project_id, joined.nodes())
    groups: dict[Node, Group] = {}
    for nodes in members.values():
        split = set().union(*(said.get(node, set()) for node in nodes))
        group = _decide(nodes, split, known)
        groups.update(dict.fromkeys(nodes, group))
    return Groups(hashes, groups)


def _decide(nodes: list[Node], said: set[str | None], known: dict[Node, tuple[int, str, str]]) -> Group:
    """One group for nodes that belong together; `said` are the splits that the source gives its images."""
    # an image that is there already counts more than a group of the same name from another import
    there = min((node[0] != "content", *known[node]) for node in nodes if node in known) if _any(nodes, known) else None
    if there is not None:
        _, _, key, part = there
        return Group(key=key, part=part)
    names = [name for kind, name in nodes if kind == "group"] or [name for _, name in nodes]
    key = min(names)
    mixed = splits.TEST in said and len(said) > 1
    return Group(key=key, part=splits.part_of_group(key, said), note=_MIXED if mixed else "")


def _any(nodes: Iterable[Node], known: dict[Node, tuple[int, str, str]]) -> bool:
    return any(node in known for node in nodes)


def _hashes(
    db: Database, project_id: int, items: Sequence[SourceItem], executor: Executor, progress: Progress
) -> dict[Path, str]:
    """The SHA-256 of each file that has the size of another file here or of an image of the project."""
    with db.read() as session:
        there = set(session.scalars(select(ImageRow.n_bytes).where(ImageRow.project_id == project_id).distinct()))
    sizes = {item.path: size for item in items if (size := _size(item.path)) is not None}
    counts = Counter(sizes.values())
    suspects = [path for path, size in sizes.items() if counts[size] > 1 or size in there]
    found: dict[Path, str] = {}
    for number, (path, sha256) in enumerate(zip(suspects, executor.map(hash_or_none, suspects), strict=True), start=1):
        if sha256 is not None:
            found[path] = sha256
        progress("Comparing files", number, len(suspects))
    return found


def hash_or_none(path: Path) -> str | None:
    """The SHA-256 of a file, or None if it cannot be read: decoding it will say why."""
    try:
        return files.hash_file(path)
    except OSError:
        return None


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _known(db: Database, project_id: int, nodes: Iterable[Node]) -> dict[Node, tuple[int, str, str]]:
    """What the project knows of these nodes: (id of the first such image, group key, part)."""
    found: dict[Node, tuple[int, str, str]] = {}
    columns: dict[str, InstrumentedAttribute[str]] = {"content": ImageRow.sha256, "group": ImageRow.group_key}
    wanted: dict[str, list[str]] = {kind: [] for kind in columns}
    for kind, name in nodes:
        wanted[kind].append(name)
    with db.read() as session:
        for kind, column in columns.items():
            for chunk in chunks(wanted[kind]):
                statement = select(column, ImageRow.id, ImageRow.group_key, ImageRow.part).where(
                    ImageRow.project_id == project_id, column.in_(chunk)
                )
                for name, image_id, key, part in session.execute(statement):
                    node = (kind, name)
                    found[node] = min(found.get(node, (image_id, key, part)), (image_id, key, part))
    return found


class _Joined:
    """Disjoint sets of nodes (union-find, with path halving)."""

    def __init__(self) -> None:
        self._parent: dict[Node, Node] = {}

    def nodes(self) -> list[Node]:
        return list(self._parent)

    def find(self, node: Node) -> Node:
        parent = self._parent
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    def join(self, first: Node, second: Node) -> None:
        a, b = self.find(first), self.find(second)
        if a != b:
            self._parent[max(a, b)] = min(a, b)
