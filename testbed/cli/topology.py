"""`testbed validate`, `graph` and `schema`: what can be said about a file without root."""

from __future__ import annotations

import click

from testbed.cli.options import format_option, one_file, topology_options


@click.command()
@topology_options
@format_option
def validate(file: str | None, topology: str | None, format: str) -> None:
    """Check a topology and show what it resolves to.

    FILE is a path, the name of a shipped topology (pair, line, cell, highway), or - for stdin.
    Makes nothing and needs no rights. Ends with 2, and one line that names the place, where the
    file is not right.
    """
    from testbed import console
    from testbed.loader import load_topology

    loaded = load_topology(one_file(file, topology))
    if format == "json":
        console.print_json(loaded.to_json())
        return
    neighbours, hops = loaded.neighbours(), loaded.hops_to_rsu()
    console.print_table(
        ("node", "kind", "hears", "hops", "ipv4", "ipv6", "mac"),
        (
            (
                node.name,
                node.kind,
                ", ".join(sorted(neighbours[node.name])) or None,
                hops[node.name],
                str(node.ipv4),
                str(node.ipv6),
                node.mac,
            )
            for node in loaded.nodes
        ),
    )
    console.note(
        f"{loaded.name}: {len(loaded.rsus)} RSU, {len(loaded.obus)} OBU, "
        f"{len(loaded.links)} links, {len(loaded.segments)} segments: valid"
    )


@click.command()
@topology_options
@click.option(
    "--format",
    type=click.Choice(("mermaid", "dot")),
    default="mermaid",
    show_default=True,
    help="Language of the drawing.",
)
def graph(file: str | None, topology: str | None, format: str) -> None:
    """Draw who hears whom, as Mermaid or Graphviz text on stdout."""
    from testbed import console
    from testbed import graph as drawing
    from testbed.loader import load_topology

    loaded = load_topology(one_file(file, topology))
    draw = drawing.mermaid if format == "mermaid" else drawing.dot
    console.print_text(draw(loaded))


@click.command()
@click.argument("what", type=click.Choice(("topology", "scenario")))
def schema(what: str) -> None:
    """Print the JSON Schema of a file format.

    Editors check and complete with it.
    """
    from testbed import console
    from testbed.schema import schema_for

    console.print_json(schema_for(what))


COMMANDS = (validate, graph, schema)
