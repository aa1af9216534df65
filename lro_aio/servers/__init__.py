"""Servers over a ``Client``: they only translate.

::

    grpc      the google.longrunning.Operations service on grpc.aio, and ErrorInterceptor for your own methods
    fastapi   the same over HTTP, and the resume endpoints, as FastAPI routers       (extra: fastapi)
    resume    the resume endpoints as a plain ASGI application
    oidc      who may call them: OidcVerifier                                        (extra: workflows)
    verifying what a verifier is, and how it is asked

    calls     what gRPC and HTTP share: the calls of the service, with access control
    errors    what every server answers for an exception
    http      proto3 JSON, AIP-193 bodies, request bodies
    azure     the same in Azure's style: status monitors and their errors
    events    server-sent events
    legacy    operation_from_context and operation_from_request: the Go package's way to resume

Import each module by itself: importing this package loads none of them.
"""
