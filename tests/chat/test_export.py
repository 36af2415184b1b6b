"""A chat on paper: Markdown that reads as it was shown, JSON that holds every figure."""

from __future__ import annotations

import json
from dataclasses import replace

from playground.chat.conversation import Conversation
from playground.chat.export import Transcript, as_json, as_markdown
from playground.chat.prompts import load_example_prompts
from playground.chat.template.message import Message
from playground.engine.protocol import Finished
from playground.llama.sampling_extras import Sampling
from tests.support.scripted_engine import TIMINGS

CODE = "Here:\n\n```python\nprint('#1')\n```\nDone."


def transcript(*messages: Message, system: str = "") -> Transcript:
    finished = {place: Finished(1, "end of text", TIMINGS) for place, m in enumerate(messages) if m.role == "assistant"}
    chat = Conversation(system, messages)
    return Transcript("A talk\nabout code", "Tiny-Q4_1.gguf", "Q4_1", 2048, Sampling(seed=7), 512, chat, finished)


def test_markdown_says_which_model_answered_how_and_how_fast() -> None:
    page = as_markdown(transcript(Message("user", "Hi"), Message("assistant", "Hello!"), system="Be brief."))
    assert page.startswith("# A talk about code\n\n- Model: `Tiny-Q4_1.gguf`\n- Level: Q4_1\n- Context: 2048 tokens\n")
    assert "temperature 0.7, top-k 40" in page and "seed 7" in page and "longest reply 512 tokens" in page
    assert "## System prompt\n\nBe brief.\n\n## You\n\nHi\n\n## Model\n\nHello!\n\n" in page
    assert page.endswith("*12.3 tok/s · 512 tokens · 0.34 s to first token · finished*\n")


def test_a_code_block_in_a_message_survives() -> None:
    assert f"\n\n{CODE}\n\n*12.3" in as_markdown(transcript(Message("user", "Hi"), Message("assistant", CODE)))


def test_a_code_block_that_a_cut_reply_left_open_does_not_swallow_what_follows() -> None:
    page = as_markdown(transcript(Message("assistant", "````md\n```py\nx = 1\n```"), Message("user", "Thanks")))
    assert "````md\n```py\nx = 1\n```\n````\n\n*12.3" in page
    assert "~~~\ntext\n~~~\n\n## You" in as_markdown(transcript(Message("user", "~~~\ntext"), Message("user", "More")))


def test_thoughts_are_quoted_with_their_code() -> None:
    page = as_markdown(transcript(Message("assistant", "4", thinking="Let me:\n```\n2+2\n```")))
    assert "> *Thinking*\n>\n> Let me:\n> ```\n> 2+2\n> ```\n\n4\n" in page


def test_json_reads_back_with_every_message_and_figure() -> None:
    chat = transcript(Message("user", "Grüße"), Message("assistant", CODE, "Hm."), system="Be brief.")
    text = as_json(chat)
    data = json.loads(text)
    assert "Grüße" in text
    assert data["settings"] | {"temperature": 0.7, "seed": 7, "max_tokens": 512} == data["settings"]
    assert data["messages"][1]["timings"]["generation_speed"] == 12.3
    assert data["messages"][1]["finish_reason"] == "end of text" and "timings" not in data["messages"][0]
    assert Conversation.from_untrusted(data) == chat.conversation


def test_the_example_prompts_are_short_enough_for_buttons() -> None:
    prompts = load_example_prompts()
    assert 4 <= len(prompts) <= 6 and len(set(prompts)) == len(prompts)
    assert all(prompt.strip() == prompt and 0 < len(prompt) <= 60 for prompt in prompts)


def test_a_disturbed_speed_is_marked_in_both_exports() -> None:
    conversation = Conversation().with_question("Hi").with_reply(Message("assistant", "Hello"))
    end = Finished(1, "end of text", replace(TIMINGS, core_share=0.5))
    saved = Transcript("t", "m.gguf", "Q8_0", 512, Sampling(), None, conversation, {1: end})
    assert "12.3 tok/s (disturbed) ·" in as_markdown(saved)
    assert json.loads(as_json(saved))["messages"][1]["timings"]["disturbed"] is True
