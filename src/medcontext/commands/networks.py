"""The networks that have a name."""

from medcontext.console import console


def networks() -> None:
    """List the networks that --network knows by name, with their presets."""
    from medcontext.listing import network_lines

    for line in network_lines():
        console.print(line, markup=True, soft_wrap=True)
