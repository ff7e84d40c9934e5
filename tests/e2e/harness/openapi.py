"""Reading an OpenAPI document."""

import re

import jsonschema


def resolved(document, schema):
    """The schema with the components that it refers to."""
    return {**schema, "components": document.get("components", {})}


def dereferenced(document, value):
    """What a reference stands for."""
    while "$ref" in value:
        node = document
        for part in value["$ref"].removeprefix("#/").split("/"):
            node = node[part]
        value = node
    return value


def operation(document, method, path):
    """The template of a path, and what is said of the method there. A literal path wins over one with parameters."""
    path = path.split("?")[0]
    for template in sorted(document["paths"], key=lambda template: template.count("{")):
        methods = document["paths"][template]
        if re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template)), path) and method.lower() in methods:
            return template, methods[method.lower()]
    raise AssertionError(f"{method} {path} is not described")


def as_described(document, method, path, answer):
    """The answer is one that the description names, in its form; answers the template of the path."""
    template, described = operation(document, method, path)
    stated = described["responses"].get(str(answer.status))
    assert stated, f"{method} {template} answered {answer.status}, which its description does not name: {answer}"
    stated = dereferenced(document, stated)
    if "content" in stated:
        assert answer.type in stated["content"], (method, template, answer)
        jsonschema.validate(answer.json, resolved(document, stated["content"][answer.type]["schema"]))
    else:
        assert answer.raw == b"", (method, template, answer)
    return template
