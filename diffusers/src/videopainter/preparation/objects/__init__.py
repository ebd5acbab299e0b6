"""Objects in clips: found, followed, judged, described."""
