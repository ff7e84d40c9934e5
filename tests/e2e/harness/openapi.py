"""Reading an OpenAPI document."""

import re


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
