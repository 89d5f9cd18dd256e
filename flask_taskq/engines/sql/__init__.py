"""What engines on SQL share: the tables, the statements, and the way between rows and records.

A job is one row in ``job``, written once, and one narrow row in ``live`` as long as it is not
over, and then one in ``outcome``. So neither a claim nor an outcome writes the message again,
and a long history is not in the way of what is alive.
"""
