"""The sections on how good the model is: figures with intervals, thresholds, curves."""

from __future__ import annotations

from ssn_core.rates import Interval, most_compatible_rate, needed_without_event
from ssn_core.report import drawing
from ssn_core.report.drawing import Mark
from ssn_core.report.facts import Facts
from ssn_core.report.html import Content, Html, join, table, tag
from ssn_core.report.measured import Measured
from ssn_core.report.words import count, figure, missing, number, percent, range_of_figure, rate, threshold

MAX_VERSIONS = 20
_CLAIMS = (0.05, 0.01, 0.001)
HELD_OUT = {"test": "the fixed test split", "out_of_fold": "out-of-fold scores"}
NO_GOOD = "none of the images it never saw is labelled good"
NO_BAD = "none of the images it never saw is labelled bad"


def basis(facts: Facts, measured: Measured) -> str:
    """On how many images the figures rest."""
    return (
        f"{count(measured.n_good, 'good image')} and {count(measured.n_bad, 'bad image')} that the model never saw "
        f"({HELD_OUT.get(facts.held_out, facts.held_out)})"
    )


def figures(facts: Facts, measured: Measured) -> Html:
    """Rates at the thresholds in force, areas under the curves, the table of verdicts, and what zero proves."""
    crosswise = facts.counted.basis == "crosswise"
    return join(
        tag("p", "All figures rest on ", tag("strong", basis(facts, measured)), ", with their labels of today. "
            "Bad is the positive class. Each interval holds the true value with 95\N{NO-BREAK SPACE}% confidence."),
        tag("p", "Escapes and overkill: ", tag("strong", facts.counted.note)) if measured.n else None,
        table(["Figure", "value", "95\N{NO-BREAK SPACE}% interval", "method"], _figure_rows(measured, facts),
              class_="figures"),
        tag("h3", "Verdicts, each part at a threshold chosen without it" if crosswise else
            "Verdicts at the thresholds in force"),
        _confusion(facts, measured),
        _proves(measured),
    )  # fmt: skip


def _figure_rows(measured: Measured, facts: Facts) -> list[list[Content]]:
    done = measured.outcome
    escapes = rate(done.escapes, done.n_bad, nothing=NO_BAD)
    overkill = rate(done.overkill, done.n_good, nothing=NO_GOOD)
    rows: list[list[Content]] = [
        ["Escape rate: bad parts that pass (miss rate, FNR)", *escapes, "Wilson"],
        ["Overkill rate: good parts that are rejected (FPR)", *overkill, "Wilson"],
    ]
    if facts.threshold_low is not None or measured.has_to_person:
        to_person = rate(done.to_person, measured.n, nothing=measured.lacking)
        rows.append(["Share of all parts that goes to a person", *to_person, "Wilson"])
    rows += [
        _area("I-AUROC: chance that a bad part scores above a good one", measured, measured.auroc,
              measured.auroc_interval),
        _area("AP-det: average precision, at the mix of good and bad of these images", measured, measured.ap,
              measured.ap_interval),
    ]  # fmt: skip
    return rows


def _area(name: str, measured: Measured, value: float | None, interval: Interval | None) -> list[Content]:
    if value is None:
        return [name, missing(measured.lacking), "–", "–"]
    if interval is None:
        return [name, figure(value), missing("not defined"), "–"]
    return [name, figure(value), range_of_figure(interval), interval.method]


def _confusion(facts: Facts, measured: Measured) -> Html:
    done = measured.outcome
    two = facts.threshold_low is not None or measured.has_to_person
    caught = done.n_bad - done.escapes - done.to_person_bad
    passed = done.n_good - done.overkill - done.to_person_good

    def row(name: str, n: int, cells: list[tuple[int, str]], nothing: str) -> list[Content]:
        return [name, *(_cell(events, n, words, nothing) for events, words in cells), number(n)]

    bad = [(done.escapes, "escapes"), (done.to_person_bad, "to a person"), (caught, "caught")]
    good = [(passed, "right"), (done.to_person_good, "to a person"), (done.overkill, "overkill")]
    if not two:
        del bad[1], good[1]
    head = ["", "passed as good", *(["to a person"] if two else []), "rejected as bad", "parts"]
    return table(
        head,
        [row("Bad parts", done.n_bad, bad, NO_BAD), row("Good parts", done.n_good, good, NO_GOOD)],
        class_="verdicts",
    )


def _cell(events: int, n: int, words: str, nothing: str) -> Content:
    if n == 0:
        return missing(nothing)
    shown, interval = rate(events, n, nothing=nothing)
    wrong = words in ("escapes", "overkill") and events > 0
    if words == "escapes" and events == 1:
        words = "escape"
    return [
        tag("strong", number(events), " ", words, class_="wrong" if wrong else None),
        tag("br"),
        tag("small", f"{shown.split(' (')[0]}; {interval}"),
    ]


def _proves(measured: Measured) -> Html:
    done = measured.outcome
    heading = tag("h3", "What the escapes prove")
    if not done.n_bad:
        return join(heading, tag("p", missing(NO_BAD), class_="none"))
    most = most_compatible_rate(done.n_bad)
    needed = ", ".join(f"{number(needed_without_event(claim))} for at most {percent(claim, 1)}" for claim in _CLAIMS)
    if done.escapes or most is None:
        shown, interval = rate(done.escapes, done.n_bad, nothing=NO_BAD)
        sentence = (
            f"{count(done.escapes, 'bad part')} of {number(done.n_bad)} escaped: {shown.split(' (')[0]}, and with "
            f"95\N{NO-BREAK SPACE}% confidence the rate in general lies between {interval.replace(' to ', ' and ')}."
        )
    else:
        sentence = (
            f"No escape in {count(done.n_bad, 'bad image')} does not prove that there are none: with "
            f"95\N{NO-BREAK SPACE}% confidence the escape rate is at most {percent(most)} (about 3 divided by the "
            "number of bad images)."
        )
    return join(
        heading,
        tag("p", sentence),
        tag("p", f"Bad images without a single escape that a claim would need: {needed}."),
    )


def thresholds(facts: Facts, measured: Measured) -> Html:
    """The thresholds in force, and how they came to be."""
    if facts.threshold_low is None:
        words = [
            tag("p", "In force: ", tag("strong", threshold(facts.threshold)), " (logit). A score at or above it means "
                "bad; a lower one means good. There is no second threshold, so no part goes to a person.")
        ]  # fmt: skip
    else:
        words = [
            tag("p", "In force, two thresholds: ", tag("strong", threshold(facts.threshold_low)), " and ",
                tag("strong", threshold(facts.threshold)), " (logit). A score below the first means good, one at or "
                "above the second means bad; what lies between them goes to a person.")
        ]  # fmt: skip
    shown = facts.versions[:MAX_VERSIONS]
    history = table(
        ["Version", "threshold", "lower threshold", "how", "by"],
        (
            [
                f"{one.number or '–'}{' (in force)' if place == 0 else ''}",
                threshold(one.threshold),
                "–" if one.threshold_low is None else threshold(one.threshold_low),
                one.how,
                one.inspector or "the training",
            ]
            for place, one in enumerate(shown)
        ),
        class_="history",
    )
    hidden = len(facts.versions) - len(shown)
    return join(
        words,
        _where_chosen(facts, measured),
        tag("h3", "History, newest first"),
        history,
        tag("p", f"{count(hidden, 'earlier version')} left out.") if hidden else None,
        tag("p", "When each version was saved is in the block of dates.", class_="note"),
    )


def _where_chosen(facts: Facts, measured: Measured) -> Html | None:
    """What the threshold rests on, and how parts that it rests on are counted nevertheless."""
    if not measured.n:
        return None
    counted = facts.counted
    if counted.basis != "crosswise" or counted.rule is None:
        return tag("p", counted.note)
    then = counted.as_they_are
    return join(
        tag("p", f"Chosen by a rule on the out-of-fold scores: {counted.rule.title}. The rates are counted on the same "
            "parts, but crosswise: the parts are dealt into up to five blocks, and each block is counted at the "
            "threshold that the same rule chooses on all others. So no part has a say in the threshold that it is "
            "counted at, and the rates say how the rule does."),
        tag("p", f"At what is in force itself, {number(then.escapes)} of {count(then.n_bad, 'bad part')} pass and "
            f"{number(then.overkill)} of {count(then.n_good, 'good part')} are rejected. These parts chose it, so no "
            "figure rests on that; the curves, the histogram and the maps below show it."),
    )  # fmt: skip


def curves(facts: Facts, measured: Measured) -> Html:
    """ROC, precision-recall and the histogram; without both classes what is left of them."""
    if not measured.n_good + measured.n_bad:
        return tag("p", missing(measured.lacking), class_="none")
    drawn: list[Content] = []
    if measured.both:
        roc_marks, pr_marks = _marks(facts, measured)
        drawn.append(
            tag(
                "div",
                tag("figure", drawing.roc(facts.labels, facts.scores, roc_marks),
                    tag("figcaption", f"ROC curve. Area (I-AUROC) {figure(measured.auroc or 0.0)}. Dashed: chance.")),
                tag("figure", drawing.precision_recall(facts.labels, facts.scores, pr_marks),
                    tag("figcaption", f"Precision-recall curve. AP-det {figure(measured.ap or 0.0)}. Precision "
                        "depends on the share of bad parts: here "
                        f"{percent(measured.n_bad / (measured.n_bad + measured.n_good))}.")),
                class_="two",
            )
        )  # fmt: skip
    else:
        drawn.append(tag("p", f"ROC and precision-recall curve {missing(measured.lacking)}.", class_="none"))
    lines = "line is the threshold" if facts.threshold_low is None else "lines are the two thresholds"
    drawn.append(
        tag(
            "figure",
            drawing.histogram(
                facts.labels, facts.scores, threshold=facts.threshold, threshold_low=facts.threshold_low
            ),
            tag("figcaption", f"Scores of the held-out images. The dashed {lines}; the height of a bar is the square "
                "root of its number of images, so that single ones can be seen."),
        )
    )  # fmt: skip
    return join(drawn)


def _marks(facts: Facts, measured: Measured) -> tuple[list[Mark], list[Mark]]:
    """Where the thresholds lie on both curves."""
    roc: list[Mark] = []
    pr: list[Mark] = []
    names = {facts.threshold: "threshold" if facts.threshold_low is None else "upper threshold"}
    if facts.threshold_low is not None and facts.threshold_low != facts.threshold:
        names[facts.threshold_low] = "lower threshold"
    for cut, words in names.items():
        rejected = facts.scores >= cut
        caught = int((rejected & (facts.labels == 1)).sum())
        overkill = int((rejected & (facts.labels == 0)).sum())
        recall = caught / measured.n_bad
        roc.append(Mark(overkill / measured.n_good, recall, words))
        if caught + overkill:
            pr.append(Mark(recall, caught / (caught + overkill), words))
    return roc, pr
