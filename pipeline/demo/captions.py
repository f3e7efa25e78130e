"""One sentence per event, in one of many ways of saying it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from pipeline.demo.scenes import Claim
from pipeline.demo.vocabulary import COLOURS, MOTIONS, PLACES, SHAPES

T = TypeVar("T")


def pick(rng: random.Random, options: Sequence[T]) -> T:
    """One of the options, from `rng.random()` alone: the only draw whose stream Python guarantees across versions."""
    return options[int(rng.random() * len(options))]


def article(noun: str) -> str:
    """The noun phrase with its indefinite article."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def thing(rng: random.Random, colour: str, shape: str, size: str = "") -> str:
    """A subject in words: `a crimson ball`."""
    return article(" ".join(filter(None, (size, pick(rng, COLOURS[colour][1]), pick(rng, SHAPES[shape])))))


def sentence(
    rng: random.Random,
    colour: str,
    shape: str,
    motion: str | None = None,
    place: str | None = None,
    companion: tuple[str, str] | None = None,
) -> str:
    """A sentence that tells what is given (subject, motion, place, companion) and nothing else; ends without a full stop."""
    subject = thing(rng, colour, shape)
    finite, participle = pick(rng, MOTIONS[motion].phrases) if motion else ("", "")
    where = pick(rng, PLACES[place]) if place else ""
    beside = (
        f"{pick(rng, ('next to', 'beside', 'near'))} {thing(rng, *companion, size=pick(rng, ('small', 'little', 'tiny')))}"
        if companion
        else ""
    )
    tail = " ".join(filter(None, (beside, where)))
    if motion:
        forms = [
            f"{subject} {finite} {tail}",
            f"{subject} {participle} {tail}",
            f"we see {subject} that {finite} {tail}",
            f"{subject} keeps {participle} {tail}",
        ]
    else:
        forms = [f"there is {subject} {tail}", f"{subject} can be seen {tail}", f"we see {subject} {tail}"]
    if where:
        forms.append(f"{where}, {subject} {finite or 'appears'} {beside}")
    text = " ".join(pick(rng, forms).split()).replace(" ,", ",")
    return text[0].upper() + text[1:]


def say(rng: random.Random, claim: Claim) -> str:
    """A sentence of what is claimed."""
    return sentence(rng, *claim.subject, motion=claim.motion, place=claim.place, companion=claim.companion)


def label(
    rng: random.Random,
    subject: tuple[str, str] | None,
    motion: str | None = None,
    place: str | None = None,
    companion: tuple[str, str] | None = None,
) -> str:
    """A terse line such as the web puts below a picture, parts left out at random: what the demo's CLIPs learn from."""
    if subject is None:
        return f"{pick(rng, ('nothing', 'nobody', 'an empty view'))} {pick(rng, PLACES[place])}" if place else "nothing"
    parts = [thing(rng, *subject).split(" ", 1)[1]]
    if motion and rng.random() < 0.5:
        parts.append(pick(rng, MOTIONS[motion].phrases)[1])
    if companion and rng.random() < 0.5:
        parts.append(f"{pick(rng, ('and', 'with', 'near'))} {thing(rng, *companion)}")
    if place and rng.random() < 0.7:
        parts.append(pick(rng, PLACES[place]))
    text = " ".join(parts)
    return pick(rng, (text, f"a picture of {article(text)}", f"{text}, seen today", article(text)))
