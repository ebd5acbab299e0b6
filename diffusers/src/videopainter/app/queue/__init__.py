"""Who does the long work: worker processes, and what each kind of job does there."""
