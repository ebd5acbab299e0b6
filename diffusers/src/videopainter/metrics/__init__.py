"""What results are measured by: pixels, perception, consistency of objects, and what simple methods would have done.

All functions take whole clips, (T, H, W, 3), uint8 or float in 0..1, and boolean masks (T, H, W), True = count.
"""
