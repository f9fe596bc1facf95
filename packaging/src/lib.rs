//! OCI images without Docker: layers, configuration, archive, and what a binary needs of the system.
//!
//! | module | owns |
//! |---|---|
//! | `oci` | layers, configuration and archives, for any image; the same input gives the same bytes |

pub mod oci;
