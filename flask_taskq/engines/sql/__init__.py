"""The common parts of SQL engines: tables, statements, and conversions between rows and
records.

A job has one row in ``job``, which is rarely changed. It also has one narrow row in ``live``
until it is over, and then one row in ``outcome``. A claim or an outcome therefore does not
write the message again, and a long history does not slow down access to jobs that are not over.
"""
