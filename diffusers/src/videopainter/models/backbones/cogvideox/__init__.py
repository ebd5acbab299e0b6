"""CogVideoX: 1.0 (2B, 5B, 5B-I2V) and 1.5 (5B, 5B-I2V)."""
