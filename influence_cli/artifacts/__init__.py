"""The files that commands leave for one another (docs/format.md).

``schema`` says what each kind of file holds (``entries``, ``json_keys`` how that is checked), ``storage`` writes and
reads any kind by its schema, ``opening`` and ``digests`` see to it that nothing is read which was not written,
``atomic`` and ``lock`` put files in place whole or not at all, ``model``, ``dataset``, ``results`` and ``selection``
turn the arrays into objects.  Import the modules
themselves: this package imports nothing, so that what needs no HDF5 does not load it.
"""
