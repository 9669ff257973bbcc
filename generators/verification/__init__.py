"""What models say of a question before it is judged: the figures that `generators.filters` read."""
