"""Models and weights in files, and objects as dictionaries, by Keras' names."""
