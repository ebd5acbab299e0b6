"""`comfy.model_management`: whether the user pressed stop."""


class InterruptProcessingException(Exception):
    """What ComfyUI knows as "stopped by the user", not as a fault of the node."""


_stopped = False


def interrupt_current_processing(value: bool = True) -> None:
    global _stopped
    _stopped = value


def processing_interrupted() -> bool:
    return _stopped


def throw_exception_if_processing_interrupted() -> None:
    """Raises once where the user pressed stop."""
    global _stopped
    if _stopped:
        _stopped = False
        raise InterruptProcessingException
