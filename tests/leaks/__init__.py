"""Whatever ends, and however it ends, nothing stays behind."""
