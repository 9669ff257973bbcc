"""What a run takes, worked out before anything starts: no model is loaded and no row is read.

`models` finds what is known of a model, `shapes` counts its weights and operations, `images` its
tokens of a picture, `lengths` those of the longest prompt; `memory` has what a GPU holds, `sizes`
rows and steps, `cost` the measured rates. `stages` has what each stage holds and what would make it
fit, `hours` its time, `disk` what is written. `report` puts them together for a configuration.
"""
