//! What both roles need of HTTP: client block, server, reload, shutdown.
