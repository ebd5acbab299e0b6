"""The page: layout, what its controls call, and the same steps as an API. Needs gradio; nothing is decided here."""
