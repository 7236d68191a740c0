#!/usr/bin/env python3
"""Writes golden.json: what Python's jinja2, set up as transformers sets it up, makes of templates.

    python3 lora/chat/testdata/make.py ASSETS

ASSETS holds SmolLM2-135M-Instruct.Q4_1.gguf, whose own template is rendered too (the test
reads it from the file). Needs jinja2 3.1.6, transformers 5.23.0 and gguf 0.19.0.
The other templates are written for this test, in the constructs that the families use.
"""
import datetime
import json
import pathlib
import sys

import gguf
import jinja2.ext
from jinja2.exceptions import TemplateError
from transformers.utils import chat_template_utils

HERE = pathlib.Path(__file__).parent
NOW = datetime.datetime(2026, 3, 9, 7, 5, 2)

TEMPLATES = {
    "chatml": """{%- for m in messages -%}
{{- '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
""",
    "qwen2": """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'Be helpful.' }}
    {%- endif %}
    {{- "\\n\\n# Tools\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools>\\nAnswer {\\"name\\": <name>}<|im_end|>\\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\\n<call>{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}</call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<response>\\n' + message.content + '\\n</response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
""",
    "llama3": """{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = strftime_now("%d %b %Y") %}
{%- endif %}
{#- The first system message is taken out -#}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}

{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{%- if tools is not none %}
    {{- "Functions:\\n\\n" }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("One tool call at a time!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
        {{- '{"name": "' + tool_call.name + '", ' }}
        {%- for arg_name, arg_val in tool_call.arguments | items %}
            {{- arg_name + '="' ~ arg_val ~ '"' }}
            {%- if not loop.last %}{{- ", " }}{%- endif %}
        {%- endfor %}
        {{- "}<|eot_id|>" }}
    {%- else %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable and message.content is not string %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
    "gemma": """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set first_user_prefix = messages[0]['content'] + '

' -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '
' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- endif -%}
    {{ '<end_of_turn>
' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model
'}}
{%- endif -%}
""",
    "blocks": """
# Chat {# a note #}
  {% for m in messages %}
    {{ loop.index }}. [{{ m.role|upper }}]
      {% if m.content %}
  text: {{ m.content }} {% else %}
  (empty)
      {% endif %}
  {% endfor %}

{#- gone -#}
   x {{ 'y' }} {%- if true %} z {% endif %}{{ 1 }} {%- if true -%}  a  {%- endif +%}
 {%+ if true %}kept{% endif %}  
end
""",
    "macros": """{% macro turn(role, text='-', end='\\n') -%}
  <{{ role }}>{{ text }}</{{ role }}>{{ end }}
{%- endmacro %}
{% set ns = namespace(last='', n=0, seen=[]) %}
{% for m in messages if m.role != 'system' %}
{% set ns.n = ns.n + 1 %}
{% set ns.last = m.role %}
{% set ns.seen = ns.seen + [m.role] %}
{{ turn(m.role, m.content|replace('a', 'b')) }}{% if ns.n == 4 %}{% break %}{% endif %}
{% else %}nobody{% endfor %}
{{ ns.n }} {{ ns.last }} {{ ns.seen|join('/') }} {{ turn('x') }}{{ turn(role='y', end='') }}
{% set block %}
  in a block: {{ messages|length }}
{% endset %}
[{{ block|trim }}]
""",
    "expressions": """{{ messages[-1].content[::-1] }}|{{ messages[-1].content[1:-1] }}|{{ messages[-1].content[:2] }}|{{ messages[-1].content[100:] }}
{{ 7 // 2 }} {{ 7 % 4 }} {{ 7 / 2 }} {{ 2 * 3 }} {{ -3 }} {{ 1.5 + 1 }} {{ 'ab' * 3 }} {{ 1 if false else 2 }} {{ none }} {{ true }} {{ 3.0 }}
{{ 'a,b,,c'.split(',') | join('+') }} {{ '  x '.strip() }}. {{ 'xxyx'.lstrip('x') }} {{ 'Hello'.startswith('He') }} {{ 'a-b'.replace('-', '\\t') }} {{ 'THINK'.lower() }}
{{ range(3)|list|length }} {{ range(10, 0, -4)|join(' ') }} {{ [1, 2, 3][1:] | join(',') }} {{ {'a': 1, "b": [2]}.get('a') }} {{ {'k': 'v'}['k'] }}
{{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ messages | map(attribute='role') | join(' ') }} {{ messages|rejectattr('content')|list|length }}
{{ 'x' in 'xyz' }} {{ 'q' not in ['a'] }} {{ undefined_name is defined }} {{ messages is iterable }} {{ 1 is odd }} {{ undefined_name|default('d') }} {{ ''|default('e', true) }}
{{ 'a\\nb'|indent(2) }} {{ 'caf\\u00e9 \\x41' }} {{ "it's" ~ ' "q"' ~ 1 ~ 2 }} {{ (1, 2)|length }} {{ 'word word'|capitalize }} {{ 'word two'|title }}
{{ {'b': 1, 'a': [true, none, 1.0, 2.5], 'c': {}, 'd': [], 'e': '<é"\\n/>'}|tojson }} {{ [{'x': 1}, []]|tojson(indent=2) }} {{ {'z': 1, 'y': 2}|tojson(sort_keys=true, separators=(',', ':')) }}
{%- for k, v in {'p': 1, 'q': 2}.items() %} {{ k }}={{ v }}{{ ';' if not loop.last }}{% endfor %}
{%- for i in range(6) %}{% if i == 1 %}{% continue %}{% endif %}{% if loop.revindex == 2 %}{% break %}{% endif %} {{ i }}/{{ loop.length }}{{ loop.cycle('a', 'b') }}{% endfor %}
{% generation %}{{ messages[0].content }}{% endgeneration %} {{ strftime_now('%Y-%m-%d %H:%M:%S %B %A %% %j') }}
""",
}

CHATS = {
    "one": [{"role": "user", "content": "Hi there"}],
    "system": [{"role": "system", "content": " Be brief. "}, {"role": "user", "content": "  What is 2+2?\n"}, {"role": "assistant", "content": "4 {{ '{%' }} <b>"}, {"role": "user", "content": "na\u00efve \u4f60\u597d \U0001f600"}],
    "refused": [{"role": "user", "content": "a"}, {"role": "user", "content": ""}],
    "tools": [{"role": "user", "content": "Weather?"},
              {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {"where": "K\u00f6ln & <Bonn>", "days": 3, "deep": [1.5, None, True]}}}]},
              {"role": "tool", "content": "12 \u00b0C"}, {"role": "tool", "content": "rain"}, {"role": "assistant", "content": "Rain."}],
}
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "Says \"the\" weather", "parameters": {"type": "object", "properties": {"where": {"type": "string"}, "days": {"type": "integer", "minimum": 1}}, "required": ["where"]}}}]


def environment():
    """transformers' environment, with a clock that stands still."""
    env = chat_template_utils._compile_jinja_template("").environment
    env.globals["strftime_now"] = NOW.strftime
    return env


def main():
    fields = gguf.GGUFReader(pathlib.Path(sys.argv[1]) / "SmolLM2-135M-Instruct.Q4_1.gguf").fields
    env = environment()
    assert env.trim_blocks and env.lstrip_blocks
    cases = []
    for name, source in [("smollm2", fields["tokenizer.chat_template"].contents())] + list(TEMPLATES.items()):
        template = env.from_string(source)
        for chat, messages in CHATS.items():
            for prompt in (False, True):
                for tools in (None, TOOLS) if chat == "tools" else (None,):
                    case = {"template": name, "chat": chat, "prompt": prompt, "tools": tools is not None}
                    try:
                        case["want"] = template.render(messages=messages, tools=tools, documents=None, add_generation_prompt=prompt, bos_token="<s>", eos_token="</s>")
                    except TemplateError as e:
                        case["error"] = str(e)
                    cases.append(case)
    (HERE / "golden.json").write_text(json.dumps(
        {"templates": TEMPLATES, "chats": CHATS, "tools": TOOLS, "cases": cases}, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(len(cases), "cases,", sum("error" in c for c in cases), "refused:", sorted({c["error"] for c in cases if "error" in c}))


main()
