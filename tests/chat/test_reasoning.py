"""Thoughts and answer of streamed replies; however a reply is cut into pieces, the split is the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground.chat.reasoning import ReplyParser, SplitReply
from playground.chat.thought_marks import ANSWER_PAIRS, PAIRS, mark_at_end, pair_around, template_pairs

REPLIES = {
    "no thoughts at all": ("The answer is 4.", SplitReply("", "The answer is 4.")),
    "Qwen, DeepSeek": ("<think>\nTwo and two.\n</think>\n\nIt is 4.", SplitReply("Two and two.", "It is 4.")),
    "empty thoughts": ("<think>\n\n</think>\n\nIt is 4.", SplitReply("", "It is 4.")),
    "white space first": ("\n\n<think>Hm.</think>4", SplitReply("Hm.", "4")),
    "Mistral": ("[THINK]Hm.[/THINK]It is 4.", SplitReply("Hm.", "It is 4.")),
    "Kimi": ("◁think▷Hm.◁/think▷It is 4.", SplitReply("Hm.", "It is 4.")),
    "gpt-oss": (
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>It is 4.<|return|>",
        SplitReply("Hm.", "It is 4."),
    ),
    "gpt-oss with a remark and a call": (
        "<|channel|>commentary<|message|>I look it up.<|end|><|start|>assistant<|channel|>commentary to=functions.find "
        '<|constrain|>json<|message|>{"q": 1}<|call|>',
        SplitReply('{"q": 1}', "I look it up."),
    ),
    "gpt-oss that thinks twice": (
        "<|channel|>analysis<|message|>One.<|end|><|start|>assistant<|channel|>analysis<|message|>Two.<|end|>"
        "<|start|>assistant<|channel|>final<|message|>It is 4.",
        SplitReply("One.\n\nTwo.", "It is 4."),
    ),
    "Gemma 4": ("<|channel>thought\nHm.\n<channel|>It is 4.", SplitReply("Hm.", "It is 4.")),
    "Gemma 4, empty": ("<|channel>thought\n<channel|>It is 4.", SplitReply("", "It is 4.")),
    "cut short in the thoughts": ("<think>Hm. Let me", SplitReply("Hm. Let me", "")),
    "cut short in a mark": ("<think>Hm.</thi", SplitReply("Hm.</thi", "")),
    "an answer about thinking": ("Write <think> and </think>.", SplitReply("", "Write <think> and </think>.")),
    "an answer with angles": ("a < b <|> c", SplitReply("", "a < b <|> c")),
    "an indented answer": ("    code", SplitReply("", "    code")),
    "nothing": ("", SplitReply()),
    "the opening mark twice": ("<think>\n<think>Hm.</think>4", SplitReply("Hm.", "4")),
    "the closing mark twice": ("<think>Hm.</think>\n</think>4", SplitReply("Hm.", "4")),
    "a closing mark alone": ("Two and two.\n</think>\n\nIt is 4.", SplitReply("Two and two.", "It is 4.")),
    "a closing mark alone behind a sentence": ("Two and two.</think>4", SplitReply("Two and two.", "4")),
    "a closing mark alone at a line's end": ("so 4 </think>\n\nIt is 4.", SplitReply("so 4", "It is 4.")),
    "a closing mark first": ("</think>\n\nIt is 4.", SplitReply("", "It is 4.")),
    "a closing mark of another kind": ("Hm.\n[/THINK]4", SplitReply("Hm.", "4")),
    "a sentence about the closing mark": ("The mark is </think> here.", SplitReply("", "The mark is </think> here.")),
    "the closing mark as code": ("Write `</think>`\nhere.", SplitReply("", "Write `</think>`\nhere.")),
    "the closing mark in a fence": ("```\n</think>\n```", SplitReply("", "```\n</think>\n```")),
    "both marks in an answer": ("Do.\n<think>\nx\n</think>\n", SplitReply("", "Do.\n<think>\nx\n</think>\n")),
    "an opening mark in the thoughts": ("<think>a <think> b</think>4", SplitReply("a <think> b", "4")),
    "Granite 3": ("<think>Hm.</think><response>4</response>", SplitReply("Hm.", "4")),
    "Hunyuan": ("<think>\nHm.\n</think>\n<answer>\n4\n</answer>", SplitReply("Hm.", "4\n")),
    "an answer in tags without thoughts": ("<answer>4</answer>", SplitReply("", "<answer>4</answer>")),
    "Command R7B": ("<|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>4<|END_RESPONSE|>", SplitReply("Hm.", "4")),
    "OpenThinker": (
        "<|begin_of_thought|>\nHm.\n<|end_of_thought|>\n<|begin_of_solution|>\n4<|end_of_solution|>",
        SplitReply("Hm.", "4"),
    ),
    "Apriel 1.5": ("Hm.\n[BEGIN FINAL RESPONSE]\n4\n[END FINAL RESPONSE]", SplitReply("Hm.", "4\n")),
    "Solar": ("<|think|>Hm.<|end|><|begin|>assistant<|content|>4<|end|>", SplitReply("Hm.", "4")),
    "MedGemma": ("<unused94>thought\nHm.<unused95>4", SplitReply("Hm.", "4")),
    "MiniMax M3": ("<mm:think>Hm.</mm:think>4", SplitReply("Hm.", "4")),
    "MiniMax M3 without thoughts": ("</mm:think>4", SplitReply("", "4")),
    "Hunyuan 3": ("<think:opensource>Hm.</think:opensource>4", SplitReply("Hm.", "4")),
    "Kimi K3": (
        "<|open|>think<|sep|>Hm.<|close|>think<|sep|><|open|>response<|sep|>4<|close|>response<|sep|>"
        "<|close|>message<|sep|><|end_of_msg|>",
        SplitReply("Hm.", "4"),
    ),
    "Kimi K3 that leaves out the closing mark": (
        "<|open|>think<|sep|>Hm.<|open|>response<|sep|>4<|close|>response<|sep|>",
        SplitReply("Hm.", "4"),
    ),
    "North": ("<|START_THINKING|>Hm.<|END_THINKING|><|START_TEXT|>4<|END_TEXT|>", SplitReply("Hm.", "4")),
    "North that leaves out the closing mark": ("<|START_THINKING|>Hm.<|START_TEXT|>4", SplitReply("Hm.", "4")),
    "North without thoughts": ("<|START_TEXT|>4<|END_TEXT|>", SplitReply("", "4")),
    "Command R7B without thoughts": ("<|START_RESPONSE|>4<|END_RESPONSE|>", SplitReply("", "4")),
    "Muse Glimmer": (
        " to=self<|message|>Hm.<|eom|><|start|>assistant to=user<|message|>4<|eot|>",
        SplitReply("Hm.", "4"),
    ),
    "Muse Glimmer that thinks twice": (
        " to=self<|message|>One.<|eom|><|start|>assistant to=self<|message|>Two.<|eom|><|start|>assistant to=user"
        "<|message|>4",
        SplitReply("One.\n\nTwo.", "4"),
    ),
    "Muse Glimmer without thoughts": (" to=user<|message|>4<|eot|>", SplitReply("", "4")),
    "Apertus": ("<|inner_prefix|>Hm.<|inner_suffix|>4", SplitReply("Hm.", "4")),
    "gpt-oss with a stray channel": (
        "<|channel|>commentary to=assistant<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"
        "<|channel|>commentary to=assistant<|channel|>final<|message|>4",
        SplitReply("Hm.", "4"),
    ),
    "gpt-oss that calls a tool in the role": (
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant to=functions.f<|channel|>commentary json"
        "<|message|>{}",
        SplitReply("Hm.\n\n{}", ""),
    ),
    "an answer about channels": (
        "Write <|start|>assistant<|channel|>final<|message|>Hi<|end|>, not <|START_TEXT|>.",
        SplitReply("", "Write <|start|>assistant<|channel|>final<|message|>Hi<|end|>, not <|START_TEXT|>."),
    ),
    "thoughts about channels": (
        "<think>Is <|end|> an end?</think><|end|> is.",
        SplitReply("Is <|end|> an end?", "is."),
    ),
}


def whole(text: str, opener: str | None = None, prompt: str = "") -> SplitReply:
    parser = ReplyParser(opener, prompt=prompt)
    return parser.feed(text) + parser.finish()


@pytest.mark.parametrize(("text", "expected"), REPLIES.values(), ids=REPLIES)
def test_a_reply_is_split_as_its_family_marks_it(text: str, expected: SplitReply) -> None:
    assert whole(text) == expected


@pytest.mark.parametrize(("opener", "closer"), PAIRS)
def test_each_family_marks_may_open_be_open_already_or_close_alone(opener: str, closer: str) -> None:
    expected = SplitReply("Hm.", "4")
    assert whole(f"{opener}\nHm.\n{closer}\n4") == expected
    assert whole(f"Hm.\n{closer}\n4", mark_at_end(f"…assistant\n{opener}\n")) == expected
    assert whole(f"Hm.\n{closer}\n4") == expected


@pytest.mark.parametrize(
    ("closer", "opener"),
    [("</deep_think>", "<deep_think>"), ("[/REASONING]", "[REASONING]"), ("<|/thought|>", "<|thought|>"),
     ("◁/reasoning▷", "◁reasoning▷"), ("</scratchpad>", "<scratchpad>")],
)  # fmt: skip
def test_the_marks_that_a_template_names_are_found(closer: str, opener: str) -> None:
    pairs = template_pairs("{{ message.content.split('" + closer + "')[-1] }}")
    assert pairs == ((opener, closer),)
    parser = ReplyParser(pairs=pairs)
    assert parser.feed(f"{opener}Hm.{closer}4") + parser.finish() == SplitReply("Hm.", "4")
    assert mark_at_end(f"…{opener}\n", pairs) == opener


def test_the_marks_that_a_template_writes_around_thoughts_are_found() -> None:
    assert pair_around("T.", "<|user|>Q<|bot|>\n<ponder>\nT.\n</ponder>\nA") == ("<ponder>", "</ponder>")
    assert pair_around("T.", "[INST]Q[/INST][P]T.[/P]A") == ("[P]", "[/P]")
    assert pair_around("T.", "<|channel|>analysis<|message|>T.<|end|>A") is None
    assert pair_around("T.", "Q\nT.\n\nA") is None


def test_a_template_that_names_no_marks_has_none() -> None:
    assert template_pairs("{{ '</s>' }}[/INST]{{ '</tool_call>' }}") == () == template_pairs(None)


@pytest.mark.parametrize(
    ("prompt", "rest", "expected"),
    [
        ("…assistant\n<think>\n", "Hm.\n</think>\n\n4", SplitReply("Hm.", "4")),
        ("…assistant\n<think>", "Hm.", SplitReply("Hm.", "")),
        ("…[/INST][THINK]", "Hm.[/THINK]4", SplitReply("Hm.", "4")),
        ("…<|turn>model\n<|channel>thought\n", "Hm.<channel|>4", SplitReply("Hm.", "4")),
        ("…<|start|>assistant<|channel|>analysis<|message|>",
         "Hm.<|end|><|start|>assistant<|channel|>final<|message|>4", SplitReply("Hm.", "4")),
        ("…\nHere are my reasoning steps:\n", "Hm.\n[BEGIN FINAL RESPONSE]\n4", SplitReply("Hm.", "4")),
        ("…assistant\n<think>\n", "<think>\nHm.\n</think>\n4", SplitReply("Hm.", "4")),
        ("…<|open|>think<|sep|>", "Hm.<|close|>think<|sep|><|open|>response<|sep|>4", SplitReply("Hm.", "4")),
        ("…<|open|>response<|sep|>", "4<|close|>response<|sep|><|close|>message<|sep|>", SplitReply("", "4")),
        ("…<|CHATBOT_TOKEN|><|START_THINKING|>", "Hm.<|START_TEXT|>4<|END_TEXT|>", SplitReply("Hm.", "4")),
        ("…<|start|>assistant", "<|end|>4", SplitReply("", "4")),
        ("…<|end_header_id|>\n\n>>>", "all\nIt is 4, not >>>all\n.", SplitReply("", "It is 4, not >>>all\n.")),
        ("…assistant\n", "4", SplitReply("", "4")),
        ("…assistant\n<think>\n\n</think>\n\n", "4", SplitReply("", "4")),
    ],
)  # fmt: skip
def test_a_reply_begins_inside_the_thoughts_where_the_prompt_opened_them(
    prompt: str, rest: str, expected: SplitReply
) -> None:
    assert whole(rest, mark_at_end(prompt), prompt) == expected


def test_text_is_given_out_as_soon_as_it_cannot_become_a_mark() -> None:
    parser = ReplyParser()
    assert parser.feed("The answer <") == SplitReply("", "The answer ")
    assert parser.feed("b> is") == SplitReply("", "<b> is")
    assert parser.finish() == SplitReply()


MARKS = sorted({text for text, _ in REPLIES.values()} | {mark for pair in (*PAIRS, *ANSWER_PAIRS) for mark in pair})
PIECES = [
    *MARKS,
    "<|channel|>",
    "<|message|>",
    "<|end|>",
    "<|channel>",
    "<channel|>",
    "final",
    "\n",
    " ",
    "x",
    "<",
    "é",
    "<response>",
    "</response>",
    "`",
    "a.",
]


@given(
    st.lists(st.sampled_from(PIECES), max_size=8).map("".join),
    st.lists(st.integers(1, 7), min_size=1, max_size=20),
    st.sampled_from([None, "<think>", "[THINK]", "<|channel>thought", "<|open|>response<|sep|>", ">>>"]),
)
def test_any_cutting_of_a_reply_gives_the_same_split(text: str, sizes: list[int], opener: str | None) -> None:
    parser = ReplyParser(opener)
    split, rest, turn = SplitReply(), text, 0
    while rest:
        size = sizes[turn % len(sizes)]
        split += parser.feed(rest[:size])
        rest, turn = rest[size:], turn + 1
    assert split + parser.finish() == whole(text, opener)


@given(st.text(alphabet="ab <>|/\n", max_size=40))
def test_a_reply_without_marks_is_the_answer_letter_by_letter(text: str) -> None:
    assert whole(text) == SplitReply("", text)
