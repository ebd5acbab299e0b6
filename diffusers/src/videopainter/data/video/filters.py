"""libavfilter's chains of filters, for pictures one by one."""

from __future__ import annotations

import av
from av.filter import Graph

# Flags of `scale`: exact rounding, and colour of its own for every pixel.
EXACT = "accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"


def filter_graph(picture: av.VideoFrame, *filters: tuple[str, dict[str, str]], threads: int = 1) -> Graph:
    """A chain of filters, each a name and options, for pictures such as this one (`described`)."""
    graph = Graph()
    graph.threads = threads
    last = graph.add("buffer", described(picture))
    for name, options in filters:
        following = graph.add(name, **options)
        last.link_to(following)
        last = following
    last.link_to(graph.add("buffersink"))
    graph.configure()
    return graph


def through(graph: Graph, picture: av.VideoFrame) -> av.VideoFrame:
    """What a graph makes of one picture."""
    if picture.pts is None:
        picture.pts = 0
    graph.push(picture)
    made = graph.pull()
    assert isinstance(made, av.VideoFrame)
    return made


def described(picture: av.VideoFrame) -> str:
    """Arguments of the filter that takes such pictures in."""
    return (
        f"width={picture.width}:height={picture.height}:pix_fmt={picture.format.name}:time_base=1/1000:pixel_aspect=1/1"
        f":colorspace={int(picture.colorspace)}:range={int(picture.color_range)}"
    )
