//! OCI images without Docker: layers, configuration, archive, and what a binary needs of the system.
