"""A JSON schema as a grammar in GBNF, by the converter of the bindings.

The converter writes a repetition out as often as a schema asks for it, and stops at what it does not know. So counts
that no reply would reach are left out, and so are patterns that are not about the whole text.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from llama_cpp.llama_grammar import json_schema_to_gbnf

from playground.errors import PlaygroundError

MOST_REPEATS: Final = 1000
_LONGEST_SCHEMA: Final = 200_000  # characters
_COUNTS: Final = ("minLength", "maxLength", "minItems", "maxItems")
_SAYS_WHAT: Final = frozenset((
    *("type", "enum", "const", "$ref", "anyOf", "oneOf", "allOf", "properties", "additionalProperties", "items"),
    *("prefixItems", "pattern", "format"),
))  # fmt: skip
_ANYTHING: Final = {"type": ["object", "array", "string", "number", "boolean", "null"]}
_QUANTIFIER: Final = re.compile(r"\{(\d*),?(\d*)\}")


def grammar_of_schema(text: str) -> str:
    """The grammar of the schema, whose text is JSON. Nothing is fetched. Raises PlaygroundError."""
    try:
        if len(text) > _LONGEST_SCHEMA:
            raise ValueError(f"it has more than {_LONGEST_SCHEMA:,} characters")
        schema = json.loads(text)
        if not isinstance(schema, dict):
            raise ValueError("it is not a JSON object")
        return str(json_schema_to_gbnf(json.dumps(_usable(schema))))
    except (ValueError, AssertionError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise PlaygroundError(
            f"This JSON schema cannot be made into a grammar: {_words_of(error)}.", "Use a simpler schema."
        ) from None


def _words_of(error: Exception) -> str:
    """What is wrong with the schema. Python's own words for a fault inside the converter say nothing of it."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply, or has too many parts"
    if isinstance(error, KeyError):
        return f"it refers to {str(error)[:100]}, which is not in it"
    if isinstance(error, TypeError | AttributeError | IndexError):
        return "a part of it has the wrong type"
    return " ".join(str(error).split())[:200].rstrip(".") or "it is not understood"


def _usable(schema: Any) -> Any:
    """The schema without what the converter would not survive."""
    if not isinstance(schema, dict):
        return schema
    kept = {name: part for name, part in schema.items() if not _is_too_much(name, part)}
    for name in ("properties", "$defs", "definitions"):
        if isinstance(kept.get(name), dict):
            kept[name] = {key: _usable(part) for key, part in kept[name].items()}
    for name in ("anyOf", "oneOf", "allOf", "prefixItems", "items"):
        if isinstance(kept.get(name), list):
            kept[name] = [_usable(part) for part in kept[name]]
    for name in ("items", "additionalProperties"):
        if isinstance(kept.get(name), dict):
            kept[name] = _usable(kept[name])
    return kept if _SAYS_WHAT & set(kept) else {**kept, **_ANYTHING}


def _is_too_much(name: str, part: Any) -> bool:
    if name in _COUNTS:
        return not isinstance(part, int) or not 0 <= part <= MOST_REPEATS
    if name == "pattern":
        counts = [int(number) for pair in _QUANTIFIER.findall(str(part)) for number in pair if number]
        return not (str(part).startswith("^") and str(part).endswith("$")) or max(counts, default=0) > MOST_REPEATS
    return False
