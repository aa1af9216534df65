"""What is measured: one program per file, each run as a process of its own (``programs.common``)."""
