"""Writes what the clients know of the API from its description: types and methods, in Rust and in
Python. `--check` says what would change, and fails if anything would.

The description is the gateway's own, as its tests keep it.
"""

import json
import keyword
import pathlib
import re
import subprocess
import sys
import textwrap

ROOT = pathlib.Path(__file__).parent.parent
DESCRIPTION = ROOT / "crates/gateway/tests/it/snapshots/it__api_description__openapi.snap"
RUST = ROOT / "crates/client/src"
PYTHON = ROOT / "clients/python/python/zapbus"

# Written by hand: what is said of them is more than their shape.
BY_HAND = {
    "Event", "EventInstance", "Problem", "Fault", "PostEvent", "PostEvents", "IngestAnswer",
    "IngestResult", "Received",
}

# What operations are called, where the name of the resource is cut off theirs.
NAMES = {
    "show_account": "get", "rename_account": "rename",
    "list_audit": "audit", "list_backups": "backups", "take_backup": "take_backup",
    "show_backup": "backup", "show_cluster": "cluster", "show_health": "health",
    "show_delivery": "get", "retry_deliveries": "retry_matching", "retry_delivery": "retry",
    "show_destination": "get", "change_destination": "update",
    "rotate_destination_secret": "rotate_secret", "list_runs": "runs", "show_run": "run",
    "change_run": "change_run", "show_destination_statistics": "statistics",
    "list_instance_destinations": "list_of", "create_instance_destination": "create_for",
    "list_event_types": "types", "list_events": "list_all", "show_event": "get",
    "list_instance_events": "list", "show_instance": "get", "change_instance": "update",
    "show_instance_statistics": "statistics", "show_source": "get", "set_source": "set",
    "show_account_source": "get_of_account", "set_account_source": "set_of_account",
    "list_subscribers": "subscribers", "show_subscriber": "subscriber",
    "delete_subscriber": "delete_subscriber", "create_ticket": "create_ticket",
}
RESOURCES = {
    "accounts": "account", "credentials": "credential", "instances": "instance",
    "sources": "source", "events": "event", "destinations": "destination",
    "deliveries": "delivery", "realtime": "", "operations": "",
}
# Not for a client, or with methods of their own.
LEFT_OUT = {"post_events", "stream_instance", "stream_all"}

HEAD = "Made from the description of the API by clients/generate.py: do not change it by hand."


def load():
    text = DESCRIPTION.read_text()
    document = json.loads(text[text.index("\n---\n") + 5:])
    return document["paths"], document["components"]["schemas"]


PATHS, SCHEMAS = load()


def snake(name):
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def camel(name):
    return "".join(part.capitalize() for part in name.split("_"))


def reference(schema):
    return schema["$ref"].split("/")[-1] if "$ref" in schema else None


def without_null(schema):
    """The schema, and whether null is allowed."""
    if isinstance(schema, bool):
        return {}, False
    if isinstance(schema.get("type"), list):
        kinds = [kind for kind in schema["type"] if kind != "null"]
        rest = {**schema, "type": kinds[0] if kinds else "null"}
        return rest, "null" in schema["type"]
    for join in ("oneOf", "anyOf"):
        if join in schema and any(one.get("type") == "null" for one in schema[join]):
            others = [one for one in schema[join] if one.get("type") != "null"]
            if len(others) == 1:
                return {**others[0], "description": others[0].get("description")
                        or schema.get("description")}, True
    if "allOf" in schema:
        first, nullable = without_null(schema["allOf"][0])
        said = schema["allOf"][-1].get("description") or first.get("description")
        return {**first, "description": said}, nullable
    return schema, False


def merged(schema):
    """An object whose parts are joined."""
    if "allOf" not in schema:
        return schema
    properties, required = {}, []
    for part in schema["allOf"]:
        part, nullable = without_null(part)
        if reference(part):
            part = SCHEMAS[reference(part)]
        properties.update(part.get("properties", {}))
        required += [] if nullable else part.get("required", [])
    return {**schema, "type": "object", "properties": properties, "required": required}


def objects():
    """Every schema that is an object of ours, by name."""
    for name, schema in SCHEMAS.items():
        if name in BY_HAND or name.startswith("Page_") or isinstance(schema, bool):
            continue
        whole = merged(schema)
        if "properties" in whole:
            yield name, whole


def used_in_requests():
    seen, waiting = set(), []
    for _, _, operation in operations():
        body = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if body:
            waiting.append(body["schema"])
    while waiting:
        schema = waiting.pop()
        if isinstance(schema, bool):
            continue
        name = reference(schema)
        if name and name not in seen:
            seen.add(name)
            waiting.append(SCHEMAS[name])
        for join in ("oneOf", "anyOf", "allOf"):
            waiting += schema.get(join, [])
        waiting += schema.get("properties", {}).values()
        if "items" in schema:
            waiting.append(schema["items"])
    return seen


def operations():
    for path, item in PATHS.items():
        if not path.startswith("/v1/"):
            continue
        for method, operation in item.items():
            if operation["operationId"] not in LEFT_OUT:
                yield path, method.upper(), operation


def method_name(operation):
    name = operation["operationId"]
    if name in NAMES:
        return NAMES[name]
    word = RESOURCES[operation["tags"][0]]
    for ending in (f"_{word}", f"_{operation['tags'][0]}"):
        name = name.removesuffix(ending)
    return name


class Call:
    """An operation, as both languages see it."""

    def __init__(self, path, method, operation):
        self.id = operation["operationId"]
        self.name = method_name(operation)
        self.method = method
        self.summary = " ".join(operation["summary"].split())
        self.tag = operation["tags"][0]
        self.segments = path.strip("/").split("/")
        parameters = operation.get("parameters", [])
        self.path = [(p["name"], p["schema"]) for p in parameters if p["in"] == "path"]
        self.query = [p for p in parameters if p["in"] == "query"]
        self.keyed = any(p["name"] == "Idempotency-Key" for p in parameters)
        body = operation.get("requestBody", {}).get("content", {}).get("application/json")
        self.body = reference(without_null(body["schema"])[0]) if body else None
        answers = []
        for status, answer in operation["responses"].items():
            if status.startswith("2"):
                content = answer.get("content", {}).get("application/json")
                answers.append(reference(content["schema"]) if content else None)
        self.answers = answers
        self.rows = None
        if len(answers) == 1 and answers[0]:
            name = answers[0]
            if name.startswith("Page_"):
                self.rows = name.removeprefix("Page_")
            elif name in ("DeliveryPage", "EventPage"):
                self.rows = name.removesuffix("Page")
        if self.rows:
            self.query = [p for p in self.query if p["name"] not in ("limit", "wait")]


# ---------------------------------------------------------------------------- Rust


def rust_doc(text, indent=""):
    text = " ".join((text or "").split())
    text = text[:1].upper() + text[1:]
    text = re.sub(r"(?<![<`(])(https?://[^\s`)]+)", r"<\1>", text)
    # Not a link of rustdoc.
    text = re.sub(r"(?<!`)\[(?=[^\]]*\](?!\())", r"\\[", text)
    lines = textwrap.wrap(text or "Not described.", 94 - len(indent), break_long_words=False)
    return "".join(f"{indent}/// {line}\n" for line in lines)


def rust_type(schema):
    schema, nullable = without_null(schema)
    name = reference(schema)
    kind = schema.get("type")
    if name in ("Event", "EventInstance", "Fault"):
        found = f"crate::{name}" if name != "EventInstance" else "Value"
    elif name == "Problem":
        found = "Value"
    elif name:
        found = name
    elif kind == "array":
        found = f"Vec<{rust_type(schema.get('items', {}))}>"
    elif kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        found = f"BTreeMap<String, {rust_type(schema['additionalProperties'])}>"
    elif kind == "string":
        found = "String"
    elif kind == "boolean":
        found = "bool"
    elif kind == "number":
        found = "f64"
    elif kind == "integer":
        size = "32" if schema.get("format") == "int32" else "64"
        found = ("u" if schema.get("minimum") == 0 else "i") + size
    else:
        found = "Value"
    return f"Option<{found}>" if nullable and found != "Value" else found


def rust_field(name):
    if name == "type":
        return "kind"
    return f"r#{name}" if name in ("ref", "move", "match") else name


def rust_struct(name, schema, in_request):
    required = set(schema.get("required", []))
    out = rust_doc(schema.get("description"))
    derives = "Debug, Clone, PartialEq, Deserialize, Serialize"
    out += f"#[derive({derives}{', Default' if in_request else ''})]\n"
    if not in_request:
        out += "#[non_exhaustive]\n"
    out += f"pub struct {name} {{\n"
    for key, value in schema["properties"].items():
        found = rust_type(value)
        described = without_null(value)[0].get("description") or (
            value.get("description") if isinstance(value, dict) else None)
        if reference(without_null(value)[0]) and not described:
            described = SCHEMAS[reference(without_null(value)[0])].get("description")
        out += rust_doc(described, "    ")
        said = []
        if rust_field(key).removeprefix("r#") != key:
            said.append(f'rename = "{key}"')
        if key not in required:
            said.append("default")
            if not found.startswith("Option<") and found != "Value":
                found = f"Option<{found}>"
            said.append('skip_serializing_if = "Value::is_null"' if found == "Value"
                        else 'skip_serializing_if = "Option::is_none"')
        if said:
            out += f"    #[serde({', '.join(said)})]\n"
        out += f"    pub {rust_field(key)}: {found},\n"
    return out + "}\n\n"


def rust_open_enum(name, schema):
    variants = ", ".join(f'{camel(value)} = "{value}"' for value in schema["enum"])
    described = (schema.get("description") or name).rstrip(".")
    return f"open_enum! {{\n{rust_doc(described + '.', '    ')}    {name} {{ {variants} }}\n}}\n\n"


def rust_models():
    requests = used_in_requests()
    out = f"//! The bodies of requests and answers.\n//!\n//! {HEAD}\n\n"
    out += "use std::collections::BTreeMap;\n\nuse serde::{Deserialize, Serialize};\n"
    out += "use serde_json::Value;\n\nuse crate::open_enum::open_enum;\n\n"
    whole = dict(objects())
    for name, schema in SCHEMAS.items():
        if name in whole:
            out += rust_struct(name, whole[name], name in requests and name != "ChannelConfig")
        elif isinstance(schema, dict) and "enum" in schema:
            out += rust_open_enum(name, schema)
    variants = SCHEMAS["ChannelConfig"]["oneOf"]
    names = []
    for variant in variants:
        kind = variant["properties"]["type"]["enum"][0]
        fields = {key: value for key, value in variant["properties"].items() if key != "type"}
        required = [key for key in variant["required"] if key != "type"]
        inner = {**variant, "properties": fields, "required": required}
        out += rust_struct(f"{camel(kind)}Channel", inner, True)
        names.append((kind, camel(kind)))
    out += "/// Where a destination sends to.\n"
    out += "#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]\n"
    out += '#[serde(tag = "type", rename_all = "snake_case")]\n#[non_exhaustive]\n'
    out += "pub enum ChannelConfig {\n"
    for kind, camelled in names:
        article = "An" if kind[0] in "aeiou" else "A"
        out += f"    /// {article} {kind} destination.\n    {camelled}({camelled}Channel),\n"
    out += "    /// One that this version does not know.\n    #[serde(untagged)]\n"
    out += "    Other(Value),\n}\n\n"
    out += "impl Default for ChannelConfig {\n    fn default() -> Self {\n"
    out += "        Self::Webhook(WebhookChannel::default())\n    }\n}\n\n"
    out += rust_doc(SCHEMAS["Paste"]["description"])
    out += "#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]\n"
    out += "#[serde(untagged)]\n#[non_exhaustive]\npub enum Paste {\n"
    for one in SCHEMAS["Paste"]["oneOf"]:
        name = reference(one)
        out += rust_doc(one["description"], "    ")
        out += f"    {name.removesuffix('Paste')}({name}),\n"
    out += "}\n\n"
    out += "/// What a replay answers.\n#[derive(Debug, Clone, PartialEq, Deserialize)]\n"
    out += "#[serde(untagged)]\n#[non_exhaustive]\npub enum Replay {\n"
    out += "    /// It has begun.\n    Begun(Run),\n"
    out += "    /// What it would send: a dry run.\n    Counted(ReplayCount),\n}\n"
    return out


def rust_resources():
    out = f"//! The resources of the API.\n//!\n//! {HEAD}\n\n"
    out += "use http::Method;\n\nuse crate::{Client, Error, Event, Pages, model::*, "
    out += "transport::Call};\n\n"
    calls = [Call(*operation) for operation in operations()]
    options = ""
    out += "impl Client {\n"
    for tag in RESOURCES:
        out += f"    /// See [`{camel(tag)}`].\n"
        out += f"    pub fn {tag}(&self) -> {camel(tag)}<'_> {{\n"
        out += f"        {camel(tag)} {{ client: self, key: None }}\n    }}\n\n"
    out += "}\n\n"
    for tag in RESOURCES:
        mine = [call for call in calls if call.tag == tag]
        keyed = any(call.keyed for call in mine)
        out += f"/// What the API offers under `{tag}`.\n#[derive(Debug, Clone)]\n"
        out += f"pub struct {camel(tag)}<'a> {{\n    client: &'a Client,\n"
        if not keyed:
            out += "    #[expect(dead_code, reason = \"nothing here is made twice\")]\n"
        out += "    key: Option<String>,\n}\n\n"
        out += f"impl {camel(tag)}<'_> {{\n"
        if keyed:
            out += (
                "    /// Under a key of your own: a repeat with it, of this process or another, "
                "does\n    /// nothing twice for a day. Without, each call makes one.\n"
                "    #[must_use]\n"
                "    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {\n"
                "        self.key = Some(key.into());\n        self\n    }\n\n"
            )
        for call in mine:
            method, option = rust_method(call)
            out += method
            options += option
        out += "}\n\n"
    return out + options


def rust_method(call):
    # Where a list begins is said to its pages.
    query = [p for p in call.query if not (call.rows and p["name"] == "after")]
    options = ""
    out = rust_doc(call.summary, "    ")
    arguments = "".join(
        f", {name}: {'&str' if schema.get('type') == 'string' else rust_type(schema)}"
        for name, schema in call.path)
    if query:
        name = camel(call.id)
        arguments += f", query: &{name}"
        options = f"/// Parameters of [`{camel(call.tag)}::{call.name}`].\n"
        options += "#[derive(Debug, Clone, PartialEq, Default)]\n"
        options += f"pub struct {name} {{\n"
        for parameter in query:
            found = rust_type(parameter["schema"])
            found = found if found.startswith("Option<") else f"Option<{found}>"
            options += rust_doc(parameter.get("description"), "    ")
            options += f"    pub {rust_field(parameter['name'])}: {found},\n"
        options += "}\n\n"
    if call.body:
        arguments += f", body: &{call.body}"
    if len(call.answers) > 1:
        answer = "Replay"
    else:
        answer = call.answers[0] or "()"
    segments = []
    for segment in call.segments:
        inner = segment.strip("{}")
        if segment == inner:
            segments.append(f'"{segment}"')
        elif dict(call.path)[inner].get("type") == "string":
            segments.append(inner)
        else:
            segments.append(f"&{inner}.to_string()")
    built = f"Call::new(Method::{call.method}, &[{', '.join(segments)}])"
    for parameter in query:
        field = rust_field(parameter["name"])
        schema, _ = without_null(parameter["schema"])
        value = f"query.{field}"
        value += ".as_deref()" if schema.get("type") == "string" else ""
        built += f'.query("{parameter["name"]}", {value})'
    if call.body:
        built += ".json(body)?"
    if call.keyed:
        built += ".keyed(self.key.as_deref())?"
    if call.rows:
        rows = call.rows
        out += f"    pub fn {call.name}(&self{arguments}) -> Pages<{rows}> {{\n"
        out += f"        Pages::new(self.client.clone(), {built})\n    }}\n\n"
        return out, options
    out += "    ///\n    /// # Errors\n    ///\n"
    out += "    /// Whatever the gateway refuses, and that it cannot be reached.\n"
    if answer.startswith("Page_"):
        answer = f"Page<{answer.removeprefix('Page_')}>"
    out += f"    pub async fn {call.name}(&self{arguments}) -> Result<{answer}, Error> {{\n"
    verb = "command" if answer == "()" else "call"
    out += f"        self.client.{verb}({built}).await\n    }}\n\n"
    return out, options


def rustfmt(text):
    done = subprocess.run(
        ["rustfmt", "--edition", "2024", "--config-path", str(ROOT / "rustfmt.toml"), "--emit", "stdout"],
        input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr + text[:0])
    return done.stdout


# -------------------------------------------------------------------------- Python


def python_type(schema):
    schema, nullable = without_null(schema)
    name = reference(schema)
    kind = schema.get("type")
    if name == "ChannelConfig":
        found = "ChannelConfig"
    elif name in ("Event", "EventInstance", "Problem", "Fault"):
        found = "builtins.dict[str, Any]"
    elif name and isinstance(SCHEMAS[name], dict) and "enum" in SCHEMAS[name]:
        found = name
    elif name:
        found = name
    elif "enum" in schema:
        found = "Union[Literal[" + ", ".join(f'"{v}"' for v in schema["enum"]) + "], str]"
    elif kind == "array":
        found = f"builtins.list[{python_type(schema.get('items', {}))}]"
    elif kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        found = f"builtins.dict[str, {python_type(schema['additionalProperties'])}]"
    else:
        found = {"string": "str", "boolean": "bool", "number": "float", "integer": "int",
                 "object": "builtins.dict[str, Any]"}.get(kind, "Any")
    return f"Optional[{found}]" if nullable and found != "Any" else found


def python_doc(text, indent):
    text = " ".join((text or "Not described.").split())
    text = (text[:1].upper() + text[1:]).replace("\\", "\\\\")
    lines = textwrap.wrap(text, 94 - len(indent), break_long_words=False)
    if len(lines) == 1:
        return f'{indent}"""{lines[0]}"""\n'
    return f'{indent}"""' + f"\n{indent}".join(lines) + f'\n{indent}"""\n'


def python_dict(name, schema):
    required = set(schema.get("required", []))
    fields = {key: python_type(value) for key, value in schema["properties"].items()}
    must = {key: kind for key, kind in fields.items() if key in required}
    may = {key: kind for key, kind in fields.items() if key not in required}
    out = ""
    if any(keyword.iskeyword(key) for key in fields):
        # A class cannot have a member of that name.
        quoted = "".join(f'        "{key}": {kind!r},\n' for key, kind in fields.items())
        out += f'{name} = TypedDict(\n    "{name}",\n    {{\n{quoted}    }},\n    total=False,\n)\n'
        return out + python_doc(schema.get("description"), "") + "\n\n"
    base = "TypedDict"
    if must and may:
        base = f"_{name}Required"
        out += f"class {base}(TypedDict):\n"
        out += "".join(f"    {key}: {kind}\n" for key, kind in must.items()) + "\n\n"
    out += f"class {name}({base}{', total=False' if may else ''}):\n"
    out += python_doc(schema.get("description"), "    ") + "\n"
    members = may if must and may else fields
    out += "".join(f"    {key}: {kind}\n" for key, kind in members.items())
    return out + "\n\n"


def python_models():
    out = f'"""The bodies of requests and answers, as typed dictionaries: what a later version adds is in them\ntoo.\n\n{HEAD}\n"""\n\n'
    out += "from __future__ import annotations\n\nimport builtins\n"
    out += "from typing import Any, Literal, Optional, TypedDict, Union\n\n"
    whole = dict(objects())
    enums, dicts = "", ""
    for name, schema in SCHEMAS.items():
        if name in whole:
            dicts += python_dict(name, whole[name])
        elif isinstance(schema, dict) and "enum" in schema:
            values = ", ".join(f'"{value}"' for value in schema["enum"])
            enums += f"{name} = Union[Literal[{values}], str]\n"
            enums += python_doc(schema.get("description"), "") + "\n"
    channels = []
    for variant in SCHEMAS["ChannelConfig"]["oneOf"]:
        kind = variant["properties"]["type"]["enum"][0]
        inner = {**variant, "properties": dict(variant["properties"])}
        dicts += python_dict(f"{camel(kind)}Channel", inner).replace(
            f'Union[Literal["{kind}"], str]', f'Literal["{kind}"]')
        channels.append(f'"{camel(kind)}Channel"')
    union = f"ChannelConfig = Union[{', '.join(channels)}]\n"
    union += '"""Where a destination sends to."""\n\n'
    union += 'Paste = Union["MetaPaste", "BridgePaste"]\n"""What to enter upstream."""\n\n\n'
    return out + enums + union + dicts.rstrip() + "\n"


def broken(before, parts, after, indent):
    """A call or a signature, on one line if it fits, else with a line for each of its parts."""
    line = f"{indent}{before}({', '.join(parts)}){after}"
    if len(line) <= 100:
        return line + "\n"
    inner = "".join(f"{indent}    {part},\n" for part in parts)
    # What stands after a star belongs to it.
    inner = inner.replace(f"{indent}    *, ", f"{indent}    *,\n{indent}    ")
    return f"{indent}{before}(\n{inner}{indent}){after}\n"


def python_argument(name):
    return f"{name}_" if keyword.iskeyword(name) else name


def python_resources():
    calls = [Call(*operation) for operation in operations()]
    out = f'"""The resources of the API, awaited and waited for.\n\n{HEAD}\n"""\n\n'
    out += "from __future__ import annotations\n\n"
    out += "from collections.abc import Mapping, Sequence\n"
    out += "from typing import Any, Literal, Optional, Union, cast\n\n"
    out += "from . import models\nfrom ._events import Event\n"
    out += "from ._pages import AsyncPages, Pages\n"
    out += "from ._transport import AsyncTransport, Transport, given, given_body\n"
    for awaited in (True, False):
        for tag in RESOURCES:
            prefix = "Async" if awaited else ""
            out += f"\n\nclass {prefix}{camel(tag)}:\n"
            out += f'    """What the API offers under ``{tag}``."""\n\n'
            out += f"    def __init__(self, transport: {prefix}Transport) -> None:\n"
            out += "        self._transport = transport\n"
            for call in calls:
                if call.tag == tag:
                    out += "\n" + python_method(call, awaited)
    return out


def in_models(kind):
    """A type, seen from another module."""
    return re.sub(r"\b([A-Z][A-Za-z0-9]+)\b",
                  lambda m: f"models.{m[1]}" if m[1] in SCHEMAS and m[1] not in BY_HAND else m[1],
                  kind)


def python_method(call, awaited):
    arguments = ["self"]
    for name, schema in call.path:
        arguments.append(f"{python_argument(name)}: {in_models(python_type(schema))}")
    optional, query, body = [], [], []
    for parameter in call.query:
        kind, _ = without_null(parameter["schema"])
        argument = python_argument(parameter["name"])
        found = in_models(python_type(kind))
        if parameter["name"] == "types":
            found = "Union[str, Sequence[str]]"
        optional.append(f"{argument}: Optional[{found}] = None")
        query.append(f'"{parameter["name"]}": {argument}')
    if call.body:
        schema = dict(objects()).get(call.body) or SCHEMAS[call.body]
        required = set(schema.get("required", []))
        for name, value in schema["properties"].items():
            argument = python_argument(name)
            kind = in_models(python_type(value)).replace("builtins.list[", "Sequence[")
            kind = kind.replace("builtins.dict[", "Mapping[")
            body.append(f'"{name}": {argument}')
            if name in required:
                arguments.append(f"*, {argument}: {kind}" if not any(
                    a.startswith("*") for a in arguments) else f"{argument}: {kind}")
            else:
                kind = kind if kind.startswith("Optional[") or kind == "Any" else f"Optional[{kind}]"
                optional.append(f"{argument}: {kind} = None")
    if call.keyed:
        optional.append("idempotency_key: Optional[str] = None")
    if call.rows:
        optional.append("limit: Optional[int] = None")
    if optional and not any(a.startswith("*") for a in arguments):
        optional[0] = f"*, {optional[0]}"
    arguments += optional
    path = ", ".join(
        f'"{segment}"' if not segment.startswith("{") else
        (python_argument(segment.strip("{}")) if
         dict(call.path)[segment.strip("{}")].get("type") == "string"
         else f"str({python_argument(segment.strip('{}'))})")
        for segment in call.segments)
    doc = python_doc(call.summary, "        ")
    asked = "[]"
    if query:
        asked = broken("given", [f"{{{', '.join(query)}}}"], "", "").strip()
        if "\n" in asked:
            inner = "".join(f"                {part},\n" for part in query)
            asked = f"given({{\n{inner}            }})"
    if call.rows:
        pages = "AsyncPages" if awaited else "Pages"
        row = "Event" if call.rows == "Event" else f"models.{call.rows}"
        out = broken(f"def {call.name}", arguments, f" -> {pages}[{row}]:", "    ") + doc
        read = "Event.of" if call.rows == "Event" else "None"
        parts = ["self._transport", f"[{path}]", asked, "limit", read]
        return out + broken(f"return {pages}", parts, "", "        ")
    answer = "None"
    if len(call.answers) > 1:
        answer = "Union[models.Run, models.ReplayCount]"
    elif call.answers[0]:
        name = call.answers[0]
        answer = name if name == "Event" else f"models.{name}"
    start, wait = ("async def", "await ") if awaited else ("def", "")
    out = broken(f"{start} {call.name}", arguments, f" -> {answer}:", "    ") + doc
    parts = [f'"{call.method}"', f"[{path}]", asked]
    if call.body:
        fields = ", ".join(body)
        if len(fields) > 70:
            inner = "".join(f"                {part},\n" for part in body)
            parts.append(f"given_body({{\n{inner}            }})")
        else:
            parts.append(f"given_body({{{fields}}})")
    if call.keyed:
        parts += ["key=idempotency_key", "keyed=True"]
    before = f"{wait}self._transport.ask"
    if answer == "None":
        return out + broken(before, parts, "", "        ")
    out += broken(f"answer = {before}", parts, "", "        ")
    read = "Event.of(answer)" if answer == "Event" else f"cast({answer}, answer)"
    return out + f"        return {read}\n"


def main():
    files = {
        RUST / "model.rs": rustfmt(rust_models()),
        RUST / "resources.rs": rustfmt(rust_resources()),
        PYTHON / "models.py": python_models(),
        PYTHON / "_resources.py": python_resources(),
    }
    changed = [path for path, text in files.items()
               if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv:
        for path in changed:
            print(f"{path.relative_to(ROOT)} is not what the description says: "
                  "run python3 clients/generate.py", file=sys.stderr)
        sys.exit(bool(changed))
    for path in changed:
        path.write_text(files[path])
        print(path.relative_to(ROOT))


main()
