"""Other servers of embeddings, measured in turn with Velo."""
