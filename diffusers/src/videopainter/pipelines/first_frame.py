# INTERFACE FIRST (being filled in)
# def check_filler(name: str) -> None: """Fast, imports no torch: InputError in one line."""
# def make_filler(name: str, *, dtype=None, device=None) -> FirstFrameFiller
