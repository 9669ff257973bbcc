"""What a run takes, worked out before anything starts: no model is loaded and no row is read.

`models` finds what is known of a model, `shapes` counts its weights and operations, `images` its
tokens of a picture, `lengths` those of the longest prompt; `memory` has what a GPU holds, `sizes`
rows and steps, `cost` time and disk. `report` puts them together for a configuration and says what
cannot fit, and which setting to change.
"""
