"""The numerical core: NumPy and SciPy arrays in, arrays out.  It knows no file, terminal or option.

Shapes, everywhere: m rows, d features, D = d + 1 with an intercept (else d), K outputs of the model, P parameters,
G groups (or right-hand sides), T test rows.  Stacks of parameters are (P, G), a column a group, Fortran-ordered
where it matters, so that one column is contiguous.
"""
