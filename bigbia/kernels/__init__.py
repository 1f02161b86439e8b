"""Block kernels: NumPy in, NumPy out, one block. They import nothing of bigbia."""
