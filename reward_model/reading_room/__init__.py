"""The reading room: a page on which experts judge rows and pairs, each answer on disk at once.

`server` is the page's other end, `record` what of a workspace is read there, `queue` what a reader
is shown next, `answers` what may be answered, `pictures` what is drawn, `access` who gets in.
"""
