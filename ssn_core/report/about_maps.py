"""The sections on where the model looks: localisation figures, and maps to look at."""

from __future__ import annotations

import base64

from ssn_core.calibration import ScaleCheck
from ssn_core.rendering import colour_table
from ssn_core.report import drawing
from ssn_core.report.facts import Facts, Gallery, Localisation, Shown
from ssn_core.report.html import Content, Html, join, shortened, table, tag
from ssn_core.report.words import count, figure, missing, number, plain_number, rate

_VERDICTS = {
    ("bad", "good"): ("escape: passed", "wrong"),
    ("bad", "bad"): ("caught", "right"),
    ("good", "bad"): ("overkill: rejected", "wrong"),
    ("good", "good"): ("passed", "right"),
}
_TO_A_PERSON = ("to a person", "person")
_WIDE = 0.75  # width of a photo, against its height, from which two pictures fill a line instead of four


def localisation(facts: Facts) -> Html:
    """Pixel figures where there are masks, and what people said of the maps."""
    found = facts.localisation
    return join(
        tag("h3", "Against masks"),
        _pixel_figures(found),
        tag("h3", "By the eyes of people"),
        _hit_rate(found),
    )


def _pixel_figures(found: Localisation) -> Html:
    if not found.n_masks:
        return tag("p", missing("none of the held-out images had a defect mask at the training"), class_="none")
    values = (
        ("P-AUROC: chance that a defect pixel lies above a good pixel", found.p_auroc),
        ("AP-loc: average precision over all pixels (strict where maps are larger than the defect)", found.ap_loc),
        ("AUPRO: mean overlap with each defect, up to 30\N{NO-BREAK SPACE}% false pixels", found.aupro),
    )
    return join(
        tag(
            "p",
            f"Measured at the end of the training on the maps of {count(found.n_images, 'held-out image')}, "
            f"{number(found.n_masks)} of them with a mask. Pixels of one image are not independent, so there is no "
            "interval.",
        ),
        table(
            ["Figure", "value"],
            ([name, missing("not defined") if value is None else figure(value)] for name, value in values),
            class_="figures",
        ),
    )


def _hit_rate(found: Localisation) -> Html:
    judged = found.hits + found.elsewhere + found.unsure
    if not judged:
        return tag("p", missing("nobody has judged yet whether a map points at the defect"), class_="none")
    shown, interval = rate(found.hits, found.hits + found.elsewhere, nothing="every verdict is unsure")
    return join(
        table(
            ["Figure", "value", "95\N{NO-BREAK SPACE}% interval", "method"],
            [["Localisation hit rate: the map points at the defect", shown, interval, "Wilson"]],
            class_="figures",
        ),
        tag(
            "p",
            f"Judged by people on {number(judged)} of {number(found.to_judge)} held-out bad images: "
            f"{number(found.hits)} on the defect, {number(found.elsewhere)} elsewhere, {number(found.unsure)} unsure. "
            "Unsure ones are not in the rate.",
        ),
    )


def galleries(facts: Facts) -> Html:
    """Images with their maps, the worst first."""
    low, high = facts.scale
    legend = tag(
        "p",
        "All maps have the model's one fixed colour scale: ",
        tag(
            "span",
            plain_number(low) + " ",
            drawing.scale(colour_table()),
            " " + plain_number(high),
            class_="scale",
        ),
        f" (units of the map; at or below the lower end nothing is coloured). {_dark(facts.scale_check)} Left the "
        "photo, with a white line around the defect where there is a mask; right the photo with the map.",
        class_="legend",
    )
    return join(legend, (_gallery(one) for one in facts.galleries))


def _dark(check: ScaleCheck | None) -> str:
    """How many good parts show no colour, counted on parts that had no say in the scale."""
    if check is None or not check.n_good:
        return f"Good parts that stay dark {missing('not counted at the training')}."
    whose = "each at a scale set without it" if check.checked == "crosswise" else "test images, which did not set it"
    return f"{number(check.dark)} of {count(check.n_good, 'good part')} stayed dark at the training ({whose})."


def _gallery(gallery: Gallery) -> Html:
    heading = tag("h3", gallery.title)
    if not gallery.shown:
        return join(heading, tag("p", gallery.sentence, class_="none"))
    wide = any(one.picture is not None and one.picture.width / 2 > _WIDE * one.picture.height for one in gallery.shown)
    return tag(
        "div",
        heading,
        tag("p", gallery.sentence),
        tag("div", (_picture(one) for one in gallery.shown), class_="maps wide" if wide else "maps"),
        class_="gallery",
    )


def _picture(one: Shown) -> Html:
    words, class_ = _VERDICTS.get((one.label, one.verdict), _TO_A_PERSON)
    picture: Content
    if one.picture is None:
        picture = tag("p", missing(one.reason), class_="none")
    else:
        picture = tag(
            "img",
            src="data:image/jpeg;base64," + base64.b64encode(one.picture.jpeg).decode("ascii"),
            width=one.picture.width,
            height=one.picture.height,
            alt=f"{shortened(one.name)}: photo and map",
        )
    return tag(
        "figure",
        picture,
        tag(
            "figcaption",
            tag("strong", words, class_=class_),
            tag("br"),
            f"score {plain_number(one.score)}",
            tag("br"),
            tag("span", shortened(one.name), class_="file"),
            tag("span", f" ({one.reason})") if one.reason and one.picture is not None else None,
        ),
    )
