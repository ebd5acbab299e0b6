"""`comfy.utils`: the bar on a node; `shown` remembers what bars showed."""

shown: list[tuple[int, int, object]] = []


class ProgressBar:
    def __init__(self, total: int) -> None:
        self.total = total

    def update_absolute(self, value: int, total: int | None = None, preview: object = None) -> None:
        shown.append((value, self.total, preview))
