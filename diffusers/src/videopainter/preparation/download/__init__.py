"""Files from lists of links and from the hub: resumed, retried, checked, and what cannot be had listed."""
