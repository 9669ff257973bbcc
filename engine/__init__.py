"""What every stage stands on."""

VERSION = "0.1.0"  # of Triptych: its distribution's too
