"""What providers have beside answers of models, passed on: embeddings, media, files, batches, vector stores."""
