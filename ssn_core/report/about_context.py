"""The sections around the figures: agreement of people, the parent model, limits of validity, versions and hashes."""

from __future__ import annotations

from ssn_core.agreement import Kappa, Share
from ssn_core.honest import counted_how
from ssn_core.intervals import Difference
from ssn_core.rates import most_compatible_rate
from ssn_core.report.facts import Agreement, Facts, Parent, Rater, Trained
from ssn_core.report.html import Content, Html, join, pairs, table, tag
from ssn_core.report.measured import Measured
from ssn_core.report.words import (
    count,
    figure,
    missing,
    number,
    percent,
    plain_number,
    range_of_rate,
    rate,
    signed,
)
from ssn_core.thresholds import Outcome

_FEW_BAD = 30
_MODEL_AS_RATER = (
    "The model's own line is slightly optimistic: its verdicts are those at the thresholds of then, and out-of-fold "
    "thresholds are placed on the scores of these same parts."
)
_STANDINGS = {"meets": ("limit met", "right"), "fails": ("limit not met", "wrong"), "open": ("open", None)}


def agreement(facts: Facts) -> Html:
    """Closed studies of agreement, newest first."""
    if not facts.studies:
        return tag("p", "There is no closed study of agreement in this project, so how well inspectors agree with each "
                   "other, and with themselves, was not measured.", class_="none")  # fmt: skip
    return join(
        tag("p", "Parts were judged blind, in random order and several times (attribute agreement analysis). The "
            "reference is the label that a part had when the study began. Below each figure its 95\N{NO-BREAK SPACE}% "
            "interval, in which several looks at a part count as one, and whether the limit set before the study is "
            "met: \"open\" means that there are too few parts to tell."),
        (_study(one, saw_its_parts=facts.held_out == "out_of_fold") for one in facts.studies),
    )  # fmt: skip


def _study(one: Agreement, *, saw_its_parts: bool) -> Html:
    effectiveness, miss, false_alarm = (percent(limit) for limit in one.limits)
    heading = tag("h3", "Study: ", one.name)
    facts = (
        f"{count(one.n_parts, 'part')}, {number(one.n_borderline)} of them borderline by score; "
        f"{count(one.trials, 'trial')}. Only complete trials count."
    )
    if one.left_out:
        facts += f" {count(one.left_out, 'inspector')} completed none."
    if not one.raters:
        return join(heading, tag("p", facts), tag("p", missing("nobody completed a trial"), class_="none"))
    return join(
        heading,
        tag("p", facts),
        table(
            [
                "Rater",
                ["Effectiveness", tag("br"), tag("small", f"right in every trial, at least {effectiveness}")],
                ["Miss rate", tag("br"), tag("small", f"bad called good, at most {miss}")],
                ["False-alarm rate", tag("br"), tag("small", f"good called bad, at most {false_alarm}")],
                ["Agrees with oneself", tag("br"), tag("small", "same in every trial")],
                ["Kappa", tag("br"), tag("small", "with the reference")],
            ],
            (_rater(rater) for rater in one.raters),
        ),
        tag("p", _between(one)),
        tag("p", _MODEL_AS_RATER, class_="note") if saw_its_parts and any(r.is_model for r in one.raters) else None,
    )


def _rater(one: Rater) -> list[Content]:
    figures = one.figures
    effective, missed, false_alarm = one.standings
    return [
        [figures.name, tag("br"), tag("small", "the model" if one.is_model else count(figures.n_trials, "trial"))],
        _share(figures.versus_reference, effective, "no part"),
        _share(figures.miss, missed, "no bad part"),
        _share(figures.false_alarm, false_alarm, "no good part"),
        _share(figures.within, None, "the model has one verdict" if one.is_model else "one trial"),
        _kappa(figures.reference_kappa),
    ]


def _share(share: Share | None, standing: str | None, nothing: str) -> Content:
    if share is None or share.rate is None or share.interval is None:
        return missing(nothing)
    words, class_ = _STANDINGS.get(standing or "", ("", None))
    return [
        f"{percent(share.rate)} ({number(share.count)} of {number(share.of)})",
        tag("br"),
        tag("small", range_of_rate(share.interval)),
        [tag("br"), tag("small", words, class_=class_)] if words else None,
    ]


def _kappa(kappa: Kappa | None) -> Content:
    if kappa is None or kappa.value is None:
        return missing("no reference" if kappa is None or kappa.reason is None else _lower(kappa.reason))
    interval = missing(_lower(kappa.reason or "no interval"))
    if kappa.interval is not None:
        interval = f"{plain_number(kappa.interval.low)} to {plain_number(kappa.interval.high)}"
    return [plain_number(kappa.value), tag("br"), tag("small", interval)]


def _between(one: Agreement) -> Html:
    share = one.between
    if share is None or share.rate is None or share.interval is None:
        return join("Between inspectors: ", missing("it takes two inspectors with a complete trial each"), ".")
    words = join(
        f"Between inspectors: all say the same in all trials on {number(share.count)} of {count(share.of, 'part')} "
        f"({percent(share.rate)}, interval {range_of_rate(share.interval)})"
    )
    kappa = one.between_kappa
    if kappa is None or kappa.value is None:
        return join(words, ".")
    if kappa.interval is None:
        return join(words, f"; Fleiss\N{RIGHT SINGLE QUOTATION MARK} kappa {plain_number(kappa.value)}.")
    ends = f"{plain_number(kappa.interval.low)} to {plain_number(kappa.interval.high)}"
    return join(words, f"; Fleiss\N{RIGHT SINGLE QUOTATION MARK} kappa {plain_number(kappa.value)} ({ends}).")


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def parent(facts: Facts) -> Html:
    """The comparison with the parent, on the images that neither had seen."""
    found = facts.parent
    if found is None:
        return tag("p", "No model was active when this one was trained (or that model has been deleted since), so "
                   "there is none to compare it with.", class_="none")  # fmt: skip
    changes = join(
        tag("h3", "What changed against it"),
        tag("ul", (tag("li", change) for change in found.changes))
        if found.changes
        else tag("p", "The same labels and the same settings.", class_="none"),
    )
    intro = tag("p", "The model that was active when this one was trained: ", tag("strong", found.name), ".")
    if found.reason is not None:
        return join(intro, tag("p", missing(found.reason), class_="none"), changes)
    return join(
        intro,
        tag(
            "p",
            f"Compared on {count(found.n_good, 'good image')} and {count(found.n_bad, 'bad image')} that were held out "
            f"for both. {counted_how(found.before, found.after, ('The parent', 'This model'))} A difference whose "
            "interval does not hold 0 is one that chance alone hardly makes.",
        ),
        table(
            ["Figure", "parent", "this model", "difference (95\N{NO-BREAK SPACE}% interval)"],
            _parent_rows(found),
        ),
        tag(
            "p",
            "At the thresholds in force, another verdict on "
            f"{count(found.now_right + found.now_wrong + found.other_flips, 'image')}: "
            f"{number(found.now_right)} wrong before and right now, {number(found.now_wrong)} right before and wrong "
            f"now, {number(found.other_flips)} with one of the two leaving it to a person.",
        ),
        changes,
    )


def _parent_rows(found: Parent) -> list[list[Content]]:
    rows: list[list[Content]] = []
    for name, compared in (("I-AUROC", found.auroc), ("AP-det", found.ap)):
        if compared is None:
            rows.append([name, *[missing("a class is missing")] * 3])
        else:
            before, after, difference = compared
            rows.append([name, figure(before), figure(after), _difference(difference)])
    return rows + [_rates(name, found.before.outcome, found.after.outcome) for name in ("escape rate", "overkill rate")]


def _difference(difference: Difference) -> str:
    value = signed(difference.value)
    interval = difference.interval
    return value if interval is None else f"{value} ({signed(interval.low)} to {signed(interval.high)})"


def _rates(name: str, before: Outcome, after: Outcome) -> list[Content]:
    escapes = name == "escape rate"
    counted = [(one.escapes, one.n_bad) if escapes else (one.overkill, one.n_good) for one in (before, after)]
    shown = [rate(*pair, nothing=f"no {'bad' if escapes else 'good'} image")[0] for pair in counted]
    n = counted[0][1]
    less = (
        missing("nothing to count")
        if not n
        else signed(100 * (counted[1][0] - counted[0][0]) / n, digits=1) + " points"
    )
    return [name.capitalize(), *shown, less]


def limits(facts: Facts, measured: Measured) -> Html:
    """What the figures do not say."""
    return join(
        tag("p", "The figures of this report say how the model did on the images described above, and no more:"),
        tag("ul", (tag("li", tag("strong", what), " ", why) for what, why in _limits(facts, measured))),
    )


def _limits(facts: Facts, measured: Measured) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    n_good, n_bad = measured.n_good, measured.n_bad
    if not n_good + n_bad:
        found.append(("Nothing was measured.", f"{measured.lacking.capitalize()}."))
    if facts.held_out == "out_of_fold":
        found.append(
            (
                "The scores are out-of-fold.",
                "They come from networks trained like this model, each on a part of the labels; the model itself was "
                "trained on all of them and has been measured on none. With more to learn from it is usually no worse.",
            )
        )
    if measured.n and facts.counted.basis == "crosswise":
        found.append(
            (
                "The rates are those of the rule, not of one number.",
                "Each part was counted at a threshold chosen without it. The thresholds in force, chosen on all these "
                "parts, have not been checked on parts of their own: do that with a new batch.",
            )
        )
    elif measured.n and facts.counted.basis != "separate":
        found.append(("The rates are rather too good.", facts.counted.note))
    most = most_compatible_rate(n_bad)
    if most is not None:
        few = "There are few bad images." if n_bad < _FEW_BAD else "The number of bad images sets a limit."
        found.append(
            (
                few,
                f"With {number(n_bad)}, even without a single escape no rate below {percent(most)} could be shown "
                "(95\N{NO-BREAK SPACE}% confidence). Kinds of defects that none of them shows were not measured.",
            )
        )
    role = next((one for one in facts.data.roles if one.name == facts.held_out), None)
    if role is not None and 0 < role.groups < role.good + role.bad + role.other:
        n = role.good + role.bad + role.other
        found.append(
            (
                "Images of one item are alike.",
                f"The {number(n)} held-out images show {count(role.groups, 'part or item', 'parts or items')}. The "
                "intervals take images as independent, so they are rather too narrow.",
            )
        )
    found.append(
        (
            "One kind of part.",
            f"All images are of the project “{facts.project}”. Other parts, cameras, lighting, surfaces or suppliers "
            "were not measured, nor how the figures change over time.",
        )
    )
    if n_bad and n_good:
        found.append(
            (
                "The mix is that of the images.",
                f"{percent(n_bad / (n_bad + n_good))} of them are bad. AP-det, precision and the share that goes to a "
                "person depend on that mix; the escape rate, the overkill rate and I-AUROC do not.",
            )
        )
    found.append(
        (
            "Labels are the measure.",
            "A wrong label counts as a mistake of the model, or hides one."
            + ("" if facts.studies else " How well inspectors agree was not measured."),
        )
    )
    place = facts.localisation
    if not place.n_masks and not place.hits + place.elsewhere:
        found.append(
            ("Where the model looks was not measured.", "There are no masks, and no verdicts of people on its maps.")
        )
    trained = facts.trained
    if isinstance(trained, Trained) and trained.relabelled + trained.labelled_since:
        found.append(
            (
                "Labels have changed since the training.",
                f"{count(trained.relabelled, 'label')} differ{'s' if trained.relabelled == 1 else ''} and "
                f"{number(trained.labelled_since)} came later. The figures use today's labels, the model learned from "
                "those of then.",
            )
        )
    if facts.weights in ("bundled", "random"):
        found.append(
            (
                f"The backbone has {facts.weights} weights.",
                "With ImageNet weights the figures would be others, usually better."
                if facts.weights == "bundled"
                else "Nothing was learned with them before: such a model is for tests.",
            )
        )
    found.append(("Not measured:", "speed on the machine at the line, and parts that were never photographed."))
    return found


def provenance(facts: Facts) -> Html:
    """Versions and hashes: whether another file, model or data set is the same as this one."""
    trained = facts.trained
    parts: list[Content] = [
        tag("h3", "Data"),
        pairs(
            [
                ("All images of the project with their labels of today", _code(facts.data.sha256)),
                ("Held-out images with their labels of today", _code(facts.held_out_sha256)),
                (
                    "Images and labels that the training knew",
                    missing(trained) if isinstance(trained, str) else _code(trained.sha256),
                ),
            ]
        ),
        tag(
            "p",
            "SHA-256 of one line for each image, its own SHA-256, a space and its label (good, bad, unsure or none), "
            "sorted, in UTF-8, each with a line feed.",
            class_="note",
        ),
        tag("h3", "Files of the model"),
    ]
    if isinstance(facts.files, str):
        parts.append(tag("p", missing(facts.files), class_="none"))
    else:
        parts.append(
            table(
                ["File", "bytes", "SHA-256"],
                ([name, number(n_bytes), _code(sha256)] for name, n_bytes, sha256 in facts.files),
            )
        )
        parts.append(
            tag("p", "operating_point.json, a copy of the thresholds in force, is told in section 6.", class_="note")
        )
    parts.append(tag("h3", "Software"))
    then = {} if isinstance(trained, str) else dict(trained.versions)
    now = dict(facts.software)
    names = [*now, *(name for name in then if name not in now)]
    parts.append(
        table(
            ["", "at the training", "when this report was written"],
            ([name, then.get(name, "–"), now.get(name, "–")] for name in names),
        )
    )
    return join(parts)


def _code(value: str) -> Html:
    return tag("code", value)
