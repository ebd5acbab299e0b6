"""Families of video backbones: what differs between them is asked here, by training and inference alike."""
