"""`folder_paths`: where ComfyUI keeps what it empties at its next start."""

import tempfile

temporary = tempfile.gettempdir()


def get_temp_directory() -> str:
    return temporary
