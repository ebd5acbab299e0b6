"""Raw videos become clips, stage by stage; a record per row and stage, so that a run that was ended goes on."""
