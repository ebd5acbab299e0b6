"""Data: downloaded, unpacked, checked, and built from raw videos in VPData's layout."""
