"""Prompts from templates of every shape: the starter's own, and short ones in the shape of well-known families."""

from __future__ import annotations

from pathlib import Path

import pytest

from playground.chat.template.message import Message
from playground.chat.template.render import ChatTemplate, chat_template
from playground.chat.template.thinking import ThinkingChoice
from playground.errors import TemplateRefused
from playground.gguf.header import read_header
from playground.gguf.reader import FileSource

SYSTEM = Message("system", "Be brief.")
HI = Message("user", "Hi")
HELLO = Message("assistant", "Hello!")
BYE = Message("user", "Bye")

LLAMA_3 = """{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Today: " + strftime_now("%Y") + "\\n\\n" + system_message + "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
        {{- message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

GEMMA_2 = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for message in messages -%}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
{{ raise_exception('Conversation roles must alternate user/assistant') }}
{%- endif -%}
{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif -%}
"""

QWEN_3 = """{%- if tools %}{{- 'TOOLS ' + (tools | tojson) }}{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string
        and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- set reasoning_content = '' %}
    {%- if message.reasoning_content is string %}
        {%- set reasoning_content = message.reasoning_content %}
    {%- elif '</think>' in content %}
        {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if loop.index0 > ns.last_query_index and (loop.last or reasoning_content) %}
        {{- '<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' }}
    {%- endif %}
    {{- content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""

MISTRAL = """{{ bos_token }}{% for m in messages %}
{%- if m.role == 'system' %}[SYSTEM_PROMPT]{{ m.content }}[/SYSTEM_PROMPT]
{%- elif m.role == 'user' %}[INST]{{ m['content'] }}[/INST]{% elif m.role == 'assistant' %}
{%- generation %}{{ ' ' ~ m.content ~ eos_token }}{% endgeneration %}{% endif %}{% endfor %}"""

PICTURES = """{% for m in messages %}<{{ m.role }}>{% for part in m.content %}
{%- if part.type == 'text' %}{{ part.text }}
{%- elif part.type == 'image' %}<image>{% endif %}{% endfor %}
{% endfor %}<assistant>"""


def render(source: str | None, *messages: Message, thinking: bool | None = None) -> str:
    return ChatTemplate(source, "<s>", "</s>").render(messages, thinking=ThinkingChoice(thinking))


def test_the_starters_own_template_gives_the_prompt_it_was_trained_on(starter: Path) -> None:
    template = ChatTemplate(read_header(FileSource(starter)).chat_template, "<|im_start|>", "<|im_end|>")
    assert template.render([HI, HELLO, BYE]) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert template.takes_system and not template.is_fallback and template.note_for(has_system=True) == ""


def test_a_model_without_a_template_gets_chatml_and_the_page_can_say_so() -> None:
    template = ChatTemplate(None, "", "")
    assert template.render([SYSTEM, HI]) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    note = template.note_for(has_system=False)
    assert template.is_fallback and "no chat template" in note and "ChatML" in note
    assert template.stop_strings == ("<|im_end|>",)


@pytest.mark.parametrize("empty", ["", " \n"])
def test_an_empty_template_is_no_template(empty: str) -> None:
    assert ChatTemplate(empty, "", "").is_fallback


def test_a_template_in_llamas_shape_renders_header_marks_and_the_date() -> None:
    prompt = render(LLAMA_3, SYSTEM, Message("user", "  Hi  "))
    assert prompt.startswith("<s><|start_header_id|>system<|end_header_id|>\n\nToday: 20")
    assert prompt.endswith(
        "Be brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_without_a_system_role_its_text_goes_in_front_of_the_first_message() -> None:
    template = ChatTemplate(GEMMA_2, "<s>", "</s>")
    assert template.render([SYSTEM, HI, HELLO, BYE]) == (
        "<s><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello!<end_of_turn>\n"
        "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n"
    )
    assert not template.takes_system and "no place for instructions" in template.note_for(has_system=True)
    assert template.note_for(has_system=False) == ""


def test_a_system_text_that_is_dropped_in_silence_goes_in_the_first_message() -> None:
    silent = "{% for m in messages if m.role != 'system' %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    assert render(silent, SYSTEM, HI) == "user: Be brief.\n\nHi\n"


def test_two_questions_in_a_row_become_one_where_roles_must_alternate() -> None:
    assert "user\nHi\n\nBye<end_of_turn>" in render(GEMMA_2, HI, BYE)


def test_two_questions_in_a_row_stay_two_where_they_may() -> None:
    assert render(None, HI, BYE).count("<|im_start|>user") == 2


def test_a_template_that_objects_is_quoted_in_its_own_words() -> None:
    with pytest.raises(TemplateRefused, match="does not take this conversation: Conversation roles must alternate"):
        render(GEMMA_2, HELLO, HI)


def test_thinking_can_be_switched_off_where_the_template_knows_the_switch() -> None:
    assert render(QWEN_3, HI).endswith("<|im_start|>assistant\n")
    assert render(QWEN_3, HI, thinking=True).endswith("<|im_start|>assistant\n")
    assert render(QWEN_3, HI, thinking=False).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_earlier_thoughts_are_not_sent_back_unless_the_template_asks_for_them() -> None:
    thought = Message("assistant", "Hello!", thinking="A greeting.")
    assert "A greeting." not in render(QWEN_3, HI, thought, BYE)
    assert "A greeting." not in render(None, HI, thought, BYE)
    keeping = "{% for m in messages %}{{ m.reasoning_content or '' }}{{ m.content }}{% endfor %}"
    assert render(keeping, HI, thought, BYE) == "HiA greeting.Hello!Bye"


def test_the_tag_that_marks_training_text_is_its_body() -> None:
    assert render(MISTRAL, SYSTEM, HI, HELLO, BYE) == (
        "<s>[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT][INST]Hi[/INST] Hello!</s>[INST]Bye[/INST]"
    )


def test_a_template_that_wants_contents_in_parts_gets_them() -> None:
    assert render(PICTURES, SYSTEM, HI) == "<system>Be brief.<user>Hi<assistant>"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ messages[0].content | tojson }}", '"<é> & \\"x\\""'),
        ("{{ {'b': 1, 'a': [2]} | tojson(indent=2) }}", '{\n  "b": 1,\n  "a": [\n    2\n  ]\n}'),
        ("{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i }}"
         "{% endfor %}", "02"),
        ("{% if true %}\n    x\n{% endif %}\n", "    x\n"),
        ("{% macro twice(t) %}{{ t ~ t }}{% endmacro %}{{ twice('ab') }}", "abab"),
        ("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}", "1"),
        ("{{ messages | map(attribute='role') | join(', ') }}", "user"),
        ("{{ messages | selectattr('role', 'equalto', 'user') | list | length }}", "1"),
        ("{{ messages | rejectattr('role', 'in', ['user', 'tool']) | list | length }}", "0"),
        ("{{ 'a-b'.split('-')[-1] }}{{ 'x' * 3 }}{{ '%s!' % 'y' }}{{ '{}?'.format('z') }}", "bxxxy!z?"),
        ("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}{{ {'a': 1}.get('b', 2) }}", "a12"),
        ("{{ tools is none }}{{ missing is defined }}{{ missing }}", "TrueFalse"),
        ("{{ 'line\nline' | indent(2) }}", "line\n  line"),
        ("{{ loops | default('none') | upper }}{{ [3, 1, 2] | sort | join }}", "NONE123"),
        ("{% for m in messages %}{{ loop.last }}{{ loop.length }}{% endfor %}", "True1"),
    ],
)  # fmt: skip
def test_what_hugging_faces_renderer_offers_is_there(source: str, expected: str) -> None:
    assert render(source, Message("user", '<é> & "x"')) == expected


def test_a_long_conversation_is_well_within_the_limits() -> None:
    turns = [Message("user" if n % 2 == 0 else "assistant", "word " * 1000) for n in range(199)]
    for source in (LLAMA_3, GEMMA_2, QWEN_3, None):
        assert render(source, *turns).count("word") == 199_000


@pytest.mark.parametrize(
    "source",
    ["{% if %}", "{{ messages", "{% for m in messages %}{{ m }}", "{{ a | nofilter }}", "x" * 200_001],
)
def test_chatml_takes_the_place_of_a_template_that_cannot_be_read(source: str) -> None:
    template = chat_template(source, "", "")
    assert template.render([HI]) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    note = template.note_for(has_system=False)
    assert note.startswith("The chat template") and "uses ChatML instead" in note and "None" not in note


def test_a_syntax_error_names_its_line() -> None:
    with pytest.raises(TemplateRefused, match=r"has an error in line 2: .*endif"):
        ChatTemplate("one\n{% if two %}", "", "")


def test_a_failure_names_its_line_and_what_failed() -> None:
    with pytest.raises(TemplateRefused, match="fails in line 2: 'weather' is undefined"):
        render("one\n{{ weather.today }}", HI)
