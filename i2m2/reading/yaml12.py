"""YAML as version 1.2 reads it: `010` is ten, `1e-3` a number, `1:30` and `no` are texts.

PyYAML follows version 1.1, takes the later one of two equal keys, and does not end where a file
refers to itself.
"""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode

from i2m2.files import Plain

MOST_NODES = 100_000  # of a file, with every alias written out
# ValueError: an integer of thousands of digits; KeyError, AttributeError: `!!bool maybe`, say
UNREADABLE = (yaml.YAMLError, ValueError, KeyError, AttributeError, OverflowError)
TAG = "tag:yaml.org,2002:"
RESOLVERS = {  # those of the core schema, by the characters they begin with; << merges mappings
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    "merge": (r"<<", ["<"]),
}


class YamlError(ValueError):
    """A text that is no YAML, or gives a key twice; says where."""


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: Plain = {}

    def compose_node(self, parent: Node | None, index: object) -> Node:
        is_alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        if is_alias and node.end_mark is None:
            line = node.start_mark.line + 1
            raise YamlError(f"what begins in line {line} refers to itself")
        return node

    def compose_mapping_node(self, anchor: str | None) -> MappingNode:
        node = super().compose_mapping_node(anchor)
        keys = [key for key, _ in node.value if isinstance(key, ScalarNode)]
        lines: dict[str, int] = {}
        for key in keys:
            line = key.start_mark.line + 1
            if key.value in lines:
                raise YamlError(f"{key.value} occurs twice (lines {lines[key.value]} and {line})")
            lines[key.value] = line
        return node

    def get_single_node(self) -> Node | None:
        node = super().get_single_node()
        if node is not None and _size(node, {}) > MOST_NODES:
            raise YamlError("its aliases make it too large")
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes what either version would not read as a text."""


def _size(node: Node, known: dict[int, int]) -> int:
    """Number of nodes, with every alias written out."""
    if not isinstance(node, CollectionNode):
        return 1
    if id(node) not in known:
        children = node.value
        if isinstance(node, MappingNode):
            children = [child for pair in node.value for child in pair]
        known[id(node)] = 1 + sum(_size(child, known) for child in children)
    return known[id(node)]


def _integer(loader: _Loader, node: ScalarNode) -> int:
    text = loader.construct_scalar(node)
    return int(text, 0) if text.startswith(("0o", "0x")) else int(text)


for _name, (_pattern, _first) in RESOLVERS.items():
    for _kind in (_Loader, _Dumper):
        _kind.add_implicit_resolver(f"{TAG}{_name}", re.compile(f"^(?:{_pattern})$"), _first)
_Loader.add_constructor(f"{TAG}int", _integer)


def load_yaml(text: str) -> Any:
    """What a text says. YamlError, in one line, for one that is no YAML."""
    try:
        return yaml.load(text, _Loader)
    except YamlError:
        raise
    except RecursionError:
        raise YamlError("it is nested too deeply") from None
    except UNREADABLE as error:
        raise YamlError(f"not valid YAML: {' '.join(str(error).split())}") from None


def dump_yaml(values: Plain) -> str:
    """Plain values as a text that both versions of YAML read as the same, keys in their order."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False)
