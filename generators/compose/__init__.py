"""Questions of several steps, composed from facts of an image; their answers are computed.

`program` holds facts, expressions over them and how they are evaluated; `facts` reads facts from
rows, labels and truths, `measures` from a segmentation; `words` and `writer` put a program into
English; `forms` says which programs some facts allow, `balance` which of them is taken, so that no
answer can be guessed from a question's words; `composer` joins these.
"""
