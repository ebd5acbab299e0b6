"""Points, boxes or words -> mask tracks: a tracker without weights, and SAM 2, SAM 3 and Grounding DINO."""
