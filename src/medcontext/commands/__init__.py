"""The public functions: each is `medcontext NAME` on the command line and `medcontext.name` in Python.

What a function needs is imported when it is called, for torch and MONAI take seconds and `--help` should not.
"""
