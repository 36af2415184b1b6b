"""Where two answers part, to HTML: the sentence up to the first different token, and how probable each held it.

Pure functions; a token's text comes from a model file and is escaped.
"""

from __future__ import annotations

from html import escape
from typing import Final

from playground.chat.comparison import PaneResult
from playground.chat.first_difference import FirstDifference, comparable, first_difference
from playground.text_format import UNKNOWN, count, percent

_BY_TEXT: Final = "A server does not tell the numbers of its tokens: they are compared by their text."
_SEEN_BEFORE: Final = 220  # characters of the common text: enough to read the sentence
_VISIBLE: Final = {"\n": "⏎", "\t": "⇥", "\r": "⏎"}


def parting_card(titles: tuple[str, str], a: PaneResult, b: PaneResult) -> str:
    """The first token in which two answers differ, or that none does."""
    difference = first_difference(a, b)
    by_text = a.is_remote or b.is_remote
    body = _same(a, b) if difference is None else _parted(titles, difference, by_text)
    dice = (
        '<p class="gp-hint">With a temperature above 0 the dice have a say in this, too: '
        "0 takes the likeliest token.</p>"
        if a.sampling.temperature > 0
        else ""
    )
    return f'<section class="gp-parting"><h2 class="gp-section">Where they part</h2>{body}{dice}</section>'


def token_words(text: str, *, ends: bool = False) -> str:
    """A token for people, not escaped: spaces and line ends can be seen, and an end has a word."""
    if ends:
        return "(ends here)"
    if not text:
        return "(part of a character)"
    shown = "".join(_VISIBLE.get(character, character) for character in text)
    return f"␣{shown[1:]}" if shown.startswith(" ") and not shown.strip() else shown.strip(" ")


def bar(share: float | None, place: int) -> str:
    """A probability as a small bar and a figure; None: not among the five that were kept."""
    if share is None:
        return '<span class="gp-share gp-share-none">not in its top five</span>'
    width = 100 * min(max(share, 0.0), 1.0)
    return (
        f'<span class="gp-share"><span class="gp-share-track" aria-hidden="true">'
        f'<span class="gp-share-{"ab"[place]}" style="width:{width:.1f}%"></span></span> {percent(share)}</span>'
    )


def _told(share: float | None, place: int) -> str:
    """The probability of an end, which servers seldom tell."""
    return UNKNOWN if share is None else bar(share, place)


def _same_beside_a_server(a: PaneResult, b: PaneResult) -> str:
    if not comparable(a, b):
        return (
            "<p>The server tells neither the probabilities of its tokens nor where one ends and the next begins: so "
            "this page cannot say at which of them the two part.</p>"
        )
    if [token.text for token in a.tokens] == [token.text for token in b.tokens]:
        return f"<p>Nowhere: the two answers are the same, all {count(len(a.tokens))} tokens of them.</p>"
    return "<p>Nowhere yet: the tokens are the same up to where one of the two was cut off.</p>"


def _same(a: PaneResult, b: PaneResult) -> str:
    if a.is_remote or b.is_remote:
        return _same_beside_a_server(a, b)
    if a.vocabulary_size != b.vocabulary_size:
        return "<p>The two models have different vocabularies: their tokens cannot be told from each other.</p>"
    if len(a.tokens) == len(b.tokens):
        return f"<p>Nowhere: the two answers are the same, all {count(len(a.tokens))} tokens of them.</p>"
    return (
        f"<p>Nowhere yet: the first {count(min(len(a.tokens), len(b.tokens)))} tokens are the same, and there one "
        "of the two was cut off.</p>"
    )


def _parted(titles: tuple[str, str], difference: FirstDifference, by_text: bool) -> str:
    mine, theirs = difference.mine, difference.theirs
    before = difference.before[-_SEEN_BEFORE:]
    dots = "… " if len(before) < len(difference.before) else ""
    words = [token_words(choice.text, ends=choice.ends) for choice in (mine, theirs)]
    lines = "".join(
        f'<p class="gp-part-line"><span class="gp-letter">{letter}</span><span>{dots}{escape(before)}'
        f'<mark class="gp-part-{letter.lower()}">{escape(word)}</mark></span></p>'
        for letter, word in zip("AB", words, strict=True)
    )
    shares = ((mine.own, theirs.other), (mine.other, theirs.own))
    cells = [_told if by_text and choice.ends else bar for choice in (mine, theirs)]
    hint = f'<p class="gp-hint">{_BY_TEXT}</p>' if by_text else ""
    rows = "".join(
        f'<tr><th scope="row"><mark class="gp-part-{letter.lower()}">{escape(word)}</mark></th>'
        f"<td>{cell(pair[0], 0)}</td><td>{cell(pair[1], 1)}</td></tr>"
        for letter, word, pair, cell in zip("AB", words, shares, cells, strict=True)
    )
    heads = "".join(f'<th scope="col">{escape(title)} gave it</th>' for title in titles)
    at = "at the very first token" if difference.place == 0 else f"after {count(difference.place)} tokens in common"
    return (
        f'<p class="gp-hint">They part {at}:</p>{lines}<table class="gp-table"><thead><tr>'
        f'<th scope="col">Next token</th>{heads}</tr></thead><tbody>{rows}</tbody></table>{hint}'
    )
