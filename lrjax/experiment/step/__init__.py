"""The pure training step and its engines. Read train_step.py first."""
