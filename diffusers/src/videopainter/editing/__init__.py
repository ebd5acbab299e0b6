"""Editing by instruction: what is asked for in words becomes captions, a filled first frame, and a run as any other."""
