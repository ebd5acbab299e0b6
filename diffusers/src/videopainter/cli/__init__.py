"""What the doors (infer, evaluate, app) share: options, runs, error lines."""
