"""Errors for people.

Every error whose message is meant for the user derives from :class:`SsnError`. Pages and the command line catch that
class alone; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations


class SsnError(Exception):
    """An error shown to the user: what went wrong, which value, what was expected, what to do.

    Args:
        what: one sentence, without a full stop at its end, that says what went wrong.
        value: the offending value (a setting, a file name, a count), shown as it is.
        expected: what would have been accepted.
        action: what the user can do now.
    """

    def __init__(
        self, what: str, *, value: object | None = None, expected: str | None = None, action: str | None = None
    ) -> None:
        self.what = what
        self.value = value
        self.expected = expected
        self.action = action
        super().__init__(str(self))

    def __str__(self) -> str:
        parts = [self.what if self.value is None else f"{self.what}: {self.value!r}"]
        if self.expected:
            parts.append(f"Expected {self.expected}")
        if self.action:
            parts.append(self.action)
        return ". ".join(part.rstrip(".") for part in parts) + "."

    def __reduce__(self) -> tuple[object, ...]:  # keyword-only arguments survive a trip between processes
        return (_rebuild, (type(self), self.what, self.value, self.expected, self.action))


def _rebuild(
    kind: type[SsnError], what: str, value: object | None, expected: str | None, action: str | None
) -> SsnError:
    return kind(what, value=value, expected=expected, action=action)


class SettingError(SsnError):
    """A setting that does not exist, or a value outside its range."""


class ImageError(SsnError):
    """One file that cannot be taken as an image; the others are not affected."""


class LayoutError(SsnError):
    """A folder, archive or CSV that cannot be read as a data set."""


class WeightsError(SsnError):
    """Backbone weights that are missing, incomplete or not the expected network."""


class TooFewLabelsError(SsnError):
    """Not enough good or bad images to train on."""


class ModelFolderError(SsnError):
    """A model folder that is damaged, incomplete or from another version."""
