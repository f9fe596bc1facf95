//! What the tests run in a cluster beside the product: llama-server with a tiny model, a gateway, a load.
//!
//! | module | owns |
//! |---|---|
//! | [`gguf`], [`tiny_model`] | a model of random weights that llama-server loads |
//! | [`llama_root`], [`apt_sources`] | llama-server of Debian, with what it needs and no more |
//! | [`images`] | container images of all this |
//! | [`gateway`] | holds requests while no server is there, and shows them as a queue |
//! | [`load`] | keeps a number of completions under way |

pub mod apt_sources;
mod exchange;
pub mod gateway;
pub mod gguf;
pub mod images;
pub mod llama_root;
pub mod load;
pub mod tiny_model;
