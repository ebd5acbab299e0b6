"""What the controls of each step call."""
