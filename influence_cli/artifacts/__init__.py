"""The files in which commands store their results for one another (docs/format.md).

``schema`` says what each kind of file holds (``entries`` and ``json_keys`` how that is checked), ``storage`` writes and
reads any kind by its schema, ``opening`` and ``digests`` ensure that only what was written is read, ``atomic`` and
``lock`` put files in place whole or not at all, and ``model``, ``dataset``, ``results`` and ``selection`` convert the
arrays to objects.  Import the modules themselves: this package imports nothing, so that code without HDF5 does not load
it.
"""
