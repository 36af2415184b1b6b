"""Checks of verifiable instructions, in the types that IFEval published (Zhou et al. 2023, "Instruction-Following
Evaluation for Large Language Models"), with its names and its arguments.

A check looks at the text alone: "fewer than 40 words" holds or does not. Strict takes the answer as it is. Loose also
accepts it without its first line, without its last line, without asterisks, or with several of these, as IFEval does:
many models put a sentence such as "Sure, here it is:" in front.

The types are here without the ones that need a model of language (the language of an answer), and sentences are counted
at `.`, `!` and `?` before a space.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

Check = Callable[[str, Mapping[str, Any]], bool]


def follows_strictly(answer: str, checks: list[dict[str, Any]]) -> bool:
    """Whether the answer keeps every instruction. An empty one keeps none."""
    return bool(answer.strip()) and all(CHECKS[check["type"]](answer, check) for check in checks)


def follows_loosely(answer: str, checks: list[dict[str, Any]]) -> bool:
    """Whether each instruction is kept by at least one of the loose readings of the answer."""
    readings = loose_readings(answer)
    return all(
        any(reading.strip() and CHECKS[check["type"]](reading, check) for reading in readings) for check in checks
    )


def loose_readings(answer: str) -> list[str]:
    """The answer, without its first line, its last line, both; and each of these without asterisks."""
    lines = answer.split("\n")
    cut = [answer, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return cut + [reading.replace("*", "") for reading in cut]


def _compares(count: int, wanted: int, relation: str) -> bool:
    """relation: "at least" or "less than", IFEval's only two."""
    return bool(count >= wanted) if relation == "at least" else count < wanted


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def _sentences(text: str) -> int:
    return len([part for part in re.split(r"(?<=[.!?])[\"”’)]*\s+", text.strip()) if re.search(r"\w", part)])


def _paragraphs_by_stars(text: str) -> int:
    """Paragraphs divided by a line of ***; 0 where an inner one is empty."""
    parts = re.split(r"\s?\*\*\*\s?", text)
    if any(not part.strip() for part in parts[1:-1]):
        return 0
    return sum(bool(part.strip()) for part in parts)


def _first_word(answer: str, wanted: Mapping[str, Any]) -> bool:
    parts = answer.split("\n\n")
    paragraphs = sum(bool(part.strip()) for part in parts)
    place = wanted["nth_paragraph"]
    if paragraphs != wanted["num_paragraphs"] or place > len(parts) or not parts[place - 1].strip():
        return False
    word = parts[place - 1].split()[0].lstrip("'\"")
    return re.split(r"[.,?!'\"]", word)[0].lower() == str(wanted["first_word"]).lower()


def _bullets(text: str) -> int:
    return len(re.findall(r"^\s*\*[^*].*$", text, re.MULTILINE)) + len(re.findall(r"^\s*-.*$", text, re.MULTILINE))


def _highlights(text: str) -> int:
    single = [found for found in re.findall(r"\*[^\n*]*\*", text) if found.strip("*").strip()]
    double = [found for found in re.findall(r"\*\*[^\n*]*\*\*", text) if found.strip("*").strip()]
    return len(single) + len(double)


def _is_json(text: str) -> bool:
    bare = re.sub(r"^```(?:json|JSON|Json)?|```$", "", text.strip()).strip()
    try:
        json.loads(bare)
    except ValueError:
        return False
    return True


def _two_responses(text: str) -> bool:
    parts = text.split("******")
    if any(not part.strip() for part in parts[1:-1]):
        return False
    answers = [part.strip() for part in parts if part.strip()]
    return len(answers) == 2 and answers[0] != answers[1]


def _postscript(answer: str, wanted: Mapping[str, Any]) -> bool:
    marker = str(wanted["postscript_marker"])
    patterns = {"P.P.S": r"\s*p\.\s?p\.\s?s.*$", "P.S.": r"\s*p\.\s?s\..*$"}
    pattern = patterns.get(marker, r"\s*" + re.escape(marker.lower()) + r".*$")
    return re.search(pattern, answer.lower(), re.MULTILINE) is not None


def _sections(answer: str, wanted: Mapping[str, Any]) -> bool:
    return bool(len(re.split(rf"\s?{wanted['section_spliter']}\s?\d+\s?", answer)) - 1 >= wanted["num_sections"])


def _capital_words(answer: str, wanted: Mapping[str, Any]) -> bool:
    words = re.findall(r"[\w'’-]+", answer)
    return _compares(sum(word.isupper() for word in words), wanted["capital_frequency"], wanted["capital_relation"])


def _has_all(answer: str, keywords: list[str]) -> bool:
    return all(re.search(keyword, answer, re.IGNORECASE) for keyword in keywords)


def _has_none(answer: str, words: list[str]) -> bool:
    return not any(re.search(rf"\b{word}\b", answer, re.IGNORECASE) for word in words)


_ALLOWED_ANSWERS: Final = ("My answer is yes.", "My answer is no.", "My answer is maybe.")

CHECKS: Final[dict[str, Check]] = {
    "keywords:existence": lambda answer, wanted: _has_all(answer, wanted["keywords"]),
    "keywords:frequency": lambda answer, wanted: _compares(
        len(re.findall(wanted["keyword"], answer, re.IGNORECASE)), wanted["frequency"], wanted["relation"]
    ),
    "keywords:forbidden_words": lambda answer, wanted: _has_none(answer, wanted["forbidden_words"]),
    "keywords:letter_frequency": lambda answer, wanted: _compares(
        answer.lower().count(wanted["letter"].lower()), wanted["let_frequency"], wanted["let_relation"]
    ),
    "length_constraints:number_sentences": lambda answer, wanted: _compares(
        _sentences(answer), wanted["num_sentences"], wanted["relation"]
    ),
    "length_constraints:number_paragraphs": lambda answer, wanted: (
        _paragraphs_by_stars(answer) == wanted["num_paragraphs"]
    ),
    "length_constraints:number_words": lambda answer, wanted: _compares(
        len(_words(answer)), wanted["num_words"], wanted["relation"]
    ),
    "length_constraints:nth_paragraph_first_word": _first_word,
    "detectable_content:number_placeholders": lambda answer, wanted: (
        len(re.findall(r"\[.*?\]", answer)) >= wanted["num_placeholders"]
    ),
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": lambda answer, wanted: _bullets(answer) == wanted["num_bullets"],
    "detectable_format:constrained_response": lambda answer, wanted: any(one in answer for one in _ALLOWED_ANSWERS),
    "detectable_format:number_highlighted_sections": lambda answer, wanted: (
        _highlights(answer) >= wanted["num_highlights"]
    ),
    "detectable_format:multiple_sections": _sections,
    "detectable_format:json_format": lambda answer, wanted: _is_json(answer),
    "detectable_format:title": lambda answer, wanted: any(
        found.strip("<>").strip() for found in re.findall(r"<<[^\n]+>>", answer)
    ),
    "combination:two_responses": lambda answer, wanted: _two_responses(answer),
    "combination:repeat_prompt": lambda answer, wanted: (
        answer.strip().lower().startswith(wanted["prompt_to_repeat"].strip().lower())
    ),
    "startend:end_checker": lambda answer, wanted: (
        answer.strip().strip('"').lower().endswith(wanted["end_phrase"].strip().lower())
    ),
    "startend:quotation": lambda answer, wanted: (
        len(answer.strip()) > 1 and answer.strip()[0] == answer.strip()[-1] == '"'
    ),
    "change_case:capital_word_frequency": _capital_words,
    "change_case:english_capital": lambda answer, wanted: answer.isupper(),
    "change_case:english_lowercase": lambda answer, wanted: answer.islower(),
    "punctuation:no_comma": lambda answer, wanted: "," not in answer,
}
