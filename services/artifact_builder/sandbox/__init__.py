"""Programs that are not ours, run so that they can harm neither the builder nor the next build."""
