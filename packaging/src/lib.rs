//! OCI images without Docker: layers, configuration, archive, and what a binary needs of the system.
//!
//! | module | owns |
//! |---|---|
//! | `oci` | layers, configuration and archives, for any image; the same input gives the same bytes |
//! | `libraries` | the shared libraries that a program needs, and where an image must have them |
//! | `product` | the images of this product: what is in them and how they run |

pub mod libraries;
pub mod oci;
pub mod product;
