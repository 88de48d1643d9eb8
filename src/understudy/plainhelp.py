"""How the help of a command reads."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand


class PlainHelp(TyperCommand):
    """A command whose help says `FOOTAGE...` where Typer would say `{FOOTAGE}... <list[Path]>`: Python's types help nobody."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The words of the usage line."""
        return [piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write what the arguments and the options are."""
        records = [(each.param_type_name, each.get_help_record(ctx)) for each in self.get_params(ctx)]
        arguments = [(record[0].partition(" <")[0], record[1]) for kind, record in records if record and kind == "argument"]
        options = [record for kind, record in records if record and kind == "option"]
        for title, lines in (("Arguments", arguments), ("Options", options)):
            if lines:
                with formatter.section(title):
                    formatter.write_dl(lines)
