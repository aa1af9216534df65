"""The main job on real input: index a directory, lose the server half way, lose nothing.

::

    run         the client: starts the server, the operation, the crash, and checks what came out
    process     the server process, as the client starts, kills and stops it
    follow      the operation and its children as the client sees them
    view        bars for a terminal, lines for anything else
    report      the summary at the end
    check       the same digest, computed by other code
    server      what runs in the server process: gRPC, HTTP and the worker over one store
    handlers    the two handlers: a parent that suspends on its children, and the child
    indexing    files to counts and digests
"""
