"""The API page: the OpenAPI document drawn as one HTML page on the server. No script, no style sheet and no address from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment

from palate.serving.problems import KINDS

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1b1b1f;background:#fff}
h1{margin-bottom:0}h2{margin:2.5rem 0 .3rem;border-top:1px solid #ddd;padding-top:1.2rem;font-size:1.1rem}
code,pre{font:14px/1.45 ui-monospace,monospace;background:#f4f4f6;border-radius:4px}code{padding:.1rem .3rem}pre{padding:.8rem;overflow:auto}
.m{display:inline-block;min-width:4.2rem;font-weight:700}.s{float:right;font-weight:400;color:#666}
table{border-collapse:collapse;width:100%;margin:.5rem 0}
td,th{text-align:left;vertical-align:top;padding:.25rem .6rem .25rem 0;border-bottom:1px solid #eee}
@media(prefers-color-scheme:dark){body{color:#e8e8ea;background:#16161a}
code,pre{background:#25252b}h2{border-color:#333}td,th{border-color:#2a2a30}.s{color:#999}}
"""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{{ d.info.title }} API</title>
<style>{{ style }}</style></head><body>
<h1>{{ d.info.title }} {{ d.info.version }}</h1><p>{{ d.info.description }} As a program reads it: <a href="/openapi.json">/openapi.json</a>.</p>
{% for path, methods in d.paths.items() %}{% for method, o in methods.items() %}
<h2 id="{{ o.operationId }}"><span class="m">{{ method | upper }}</span> <code>{{ path }}</code>
<span class="s">{{ "no key needed" if o["x-scope"] == "open" else "key with scope " ~ o["x-scope"] }}
{{ "(none from this machine)" if o["x-scope"] == "read" }}</span></h2>
<p>{{ o.summary }}. {{ o.description }}</p>
{% if o.parameters %}<table><tr><th>parameter</th><th>in</th><th>is</th><th></th></tr>
{% for p in o.parameters %}<tr><td><code>{{ p.name }}</code></td><td>{{ p.in }}</td><td>{{ p.schema | shape }}</td>
<td>{{ p.description }}{{ " Required." if p.required }}</td></tr>{% endfor %}</table>{% endif %}
{% if o.requestBody %}{% set body = o.requestBody.content["application/json"].schema %}
{% if body.properties %}<table><tr><th>member</th><th>is</th><th></th></tr>
{% for name, p in body.properties.items() %}<tr><td><code>{{ name }}</code></td><td>{{ p | shape }}</td><td>{{ p.description }}</td></tr>{% endfor %}
</table>{% else %}<p>Body:</p><pre>{{ body | tojson(2) }}</pre>{% endif %}{% endif %}
<table>{% for status, r in o.responses.items() %}<tr><td><code>{{ status }}</code></td><td>{{ r.description }}</td></tr>{% endfor %}</table>
{% endfor %}{% endfor %}
<h2 id="event">An event</h2><table>{% for name, p in d.components.schemas.Event.properties.items() %}
<tr><td><code>{{ name }}</code></td><td>{{ p | shape }}</td><td>{{ p.description }}</td></tr>{% endfor %}</table>
<h2 id="problems">Problems</h2><p>Every error is <code>application/problem+json</code>.</p><table>
{% for slug, kind in kinds.items() %}<tr id="problem-{{ slug }}"><td><code>{{ slug }}</code></td><td>{{ kind[0] }}</td>
<td>{{ kind[1] }}</td></tr>{% endfor %}
</table></body></html>
"""


def _shape(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type", "")
    text = " or ".join(kind) if isinstance(kind, list) else str(kind)
    if "minimum" in schema:
        text += f", {schema['minimum']} to {schema['maximum']}"
    if "maxLength" in schema:
        text += f", at most {schema['maxLength']} characters"
    if "maxItems" in schema:
        text += f" of at most {schema['maxItems']}"
    if "default" in schema:
        text += f"; {json.dumps(schema['default'])} where left out"
    return text


def api_page(document: Mapping[str, Any]) -> tuple[bytes, str]:
    """The page, and the Content-Security-Policy that lets its one style in and nothing else."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["shape"] = _shape
    page = environment.from_string(_PAGE).render(d=document, kinds=KINDS, style=_STYLE)
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    return page.encode(), f"default-src 'none'; style-src 'sha256-{digest}'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
