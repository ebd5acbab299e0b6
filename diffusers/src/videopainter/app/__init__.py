"""The app without its page: projects in folders, objects and masks, fills, and the queue of all long work."""
