"""Whatever a worker imports, it computes on one core."""

from tests.workers import cap_threads

cap_threads()
