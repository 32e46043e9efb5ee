"""The files that commands leave for one another (docs/format.md).

``schema`` says what each kind of file holds, ``atomic`` puts files in place whole or not at all, ``storage`` writes
and reads any kind by its schema, ``model`` and ``results`` turn the arrays into objects.  Import the modules
themselves: this package imports nothing, so that what needs no HDF5 does not load it.
"""
