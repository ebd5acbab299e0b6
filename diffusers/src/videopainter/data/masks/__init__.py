"""Which pixels are to be painted: opening what holds masks, and views of them."""
