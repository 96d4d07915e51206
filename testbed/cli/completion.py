"""`testbed completion`: the script with which a shell completes commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that makes SHELL complete commands and options.

    \b
    bash   testbed completion bash > /etc/bash_completion.d/testbed
    zsh    testbed completion zsh > "${fpath[1]}/_testbed"
    fish   testbed completion fish > ~/.config/fish/completions/testbed.fish
    """
    from testbed import console

    root = ctx.find_root()
    maker = get_completion_class(shell)
    assert maker is not None, "click knows every shell that is a choice here"
    console.print_text(maker(root.command, {}, root.info_name or "", "_TESTBED_COMPLETE").source())


COMMANDS = (completion,)
