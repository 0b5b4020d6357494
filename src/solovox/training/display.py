"""How far a run is: a bar on a terminal, a line now and then elsewhere."""

from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Display:
    """A run's progress on stderr while this context is open.

    Args:
        total: steps in all.
        done: steps done before.
        hidden: whether to show nothing, as all processes but one do.
    """

    def __init__(self, total: int, done: int, hidden: bool = False) -> None:
        self.console = Console(stderr=True, quiet=hidden, soft_wrap=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self.bar = Progress(
            *columns,
            TimeRemainingColumn(),
            console=self.console,
            disable=hidden or not self.console.is_terminal,
        )
        self.task = self.bar.add_task("training", total=total, completed=done)
        self.total = total

    def __enter__(self) -> "Display":
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def advance(self, step: int) -> None:
        """Move on to a step."""
        self.bar.update(self.task, completed=step)

    def tell(self, step: int, values: Mapping[str, float]) -> None:
        """Show numbers by name."""
        text = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        if self.console.is_terminal:
            self.bar.update(self.task, description=text)
        else:
            self.console.print(f"{step}/{self.total}  {text}", highlight=False)
