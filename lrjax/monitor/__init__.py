"""What is my learning rate doing? Instruments, a monitor of a training, and sweeps that suggest a rate."""
