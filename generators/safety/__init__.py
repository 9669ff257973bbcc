"""Rows that teach safety: an instruction in the picture, another organ, what no image answers.

A lesson (`lessons`) is a question about an image with what is right and the clause of the policy
that says so. `instruction`, `elsewhere` and `unanswerable` make them in groups, in which neither
the words of a text nor an option gives away what is right; `inscription` writes into a picture.
"""
