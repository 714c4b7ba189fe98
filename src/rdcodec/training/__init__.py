"""Training: data in memory, seeded batches, one loop for CPU and CUDA, checkpoints, export."""
