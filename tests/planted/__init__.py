"""Bugs that are planted to see whether the tests find them. Each stands in a file ``NN_name.bug``:

    what a reader should know
    test: tests/unit/engines/shim/test_program.py::test_without_go_nothing_runs
    === leptond/engines/shim/program.py
    --- the code as it is
    +++ the code with the bug

They are put into a copy of the program that is thrown away; the program itself knows nothing of them."""
