"""`comfy_api.latest`: what a node declares is kept and checked as ComfyUI's own classes take it."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any


@dataclass
class Input:
    id: str
    display_name: str | None = None
    optional: bool = False
    tooltip: str | None = None
    advanced: bool | None = None
    io_type = ""


@dataclass
class Widget(Input):
    default: Any = None

    def check(self, value: Any) -> None:
        assert isinstance(value, self.kind), f"{self.id}: {value!r}"

    kind = object


@dataclass
class BooleanInput(Widget):
    io_type, kind = "BOOLEAN", bool


@dataclass
class IntInput(Widget):
    min: int | None = None
    max: int | None = None
    step: int | None = None
    control_after_generate: bool | None = None
    io_type, kind = "INT", int

    def check(self, value: Any) -> None:
        super().check(value)
        assert isinstance(self.min, int) and isinstance(self.max, int)
        assert self.min <= value <= self.max, f"{self.id}: {value} is not within {self.min} to {self.max}"


@dataclass
class FloatInput(Widget):
    min: float | None = None
    max: float | None = None
    step: float | None = None
    round: float | bool | None = None
    io_type, kind = "FLOAT", float

    def check(self, value: Any) -> None:
        super().check(value)
        assert isinstance(self.min, float) and isinstance(self.max, float)
        assert self.min <= value <= self.max, f"{self.id}: {value} is not within {self.min} to {self.max}"


@dataclass
class StringInput(Widget):
    multiline: bool = False
    placeholder: str | None = None
    io_type, kind = "STRING", str


@dataclass
class ComboInput(Widget):
    options: list[str] = field(default_factory=list)
    io_type, kind = "COMBO", str

    def check(self, value: Any) -> None:
        assert value in self.options, f"{self.id}: {value!r} is none of {self.options}"


@dataclass
class Output:
    id: str | None = None
    display_name: str | None = None
    tooltip: str | None = None
    io_type = ""


def Custom(io_type: str) -> SimpleNamespace:
    """A type of one's own: values go from node to node as they are."""
    return SimpleNamespace(
        Input=type("Input", (Input,), {"io_type": io_type}), Output=type("Output", (Output,), {"io_type": io_type})
    )


@dataclass
class Schema:
    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list[Input] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    description: str = ""
    is_output_node: bool = False

    def __post_init__(self) -> None:
        names = [one.id for one in self.inputs]
        assert len(names) == len(set(names)), f"{self.node_id}: an input twice in {names}"
        for one in self.inputs:
            if isinstance(one, Widget):
                one.check(one.default)


class ComfyNode:
    @classmethod
    def define_schema(cls) -> Schema:
        raise NotImplementedError

    @classmethod
    def execute(cls, **kwargs: Any) -> NodeOutput:
        raise NotImplementedError


class NodeOutput:
    def __init__(self, *args: Any, ui: Any = None) -> None:
        self.args, self.ui = args, ui


class ComfyExtension:
    async def get_node_list(self) -> list[type[ComfyNode]]:
        raise NotImplementedError


io = SimpleNamespace(
    Input=Input,
    Output=Output,
    Custom=Custom,
    Schema=Schema,
    ComfyNode=ComfyNode,
    NodeOutput=NodeOutput,
    Boolean=SimpleNamespace(Input=BooleanInput, Output=type("Output", (Output,), {"io_type": "BOOLEAN"})),
    Int=SimpleNamespace(Input=IntInput, Output=type("Output", (Output,), {"io_type": "INT"})),
    Float=SimpleNamespace(Input=FloatInput, Output=type("Output", (Output,), {"io_type": "FLOAT"})),
    String=SimpleNamespace(Input=StringInput, Output=type("Output", (Output,), {"io_type": "STRING"})),
    Combo=SimpleNamespace(Input=ComboInput, Output=type("Output", (Output,), {"io_type": "COMBO"})),
    Image=Custom("IMAGE"),
    Mask=Custom("MASK"),
)
