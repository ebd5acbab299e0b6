"""What a language model does here, behind one interface: describe, rewrite, invent. Needs neither key nor network."""
