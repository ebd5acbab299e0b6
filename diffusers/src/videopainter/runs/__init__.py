"""One inpainting run: options, samples, plan, results and the records beside them."""
