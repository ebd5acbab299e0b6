"""Models: context encoder, backbone that accepts its features, ID-resample attention."""
