//! What the tests run in a cluster beside the product: llama-server with a tiny model, a gateway, a load.
//!
//! | module | owns |
//! |---|---|
//! | [`gguf`], [`tiny_model`] | a model of random weights that llama-server loads |
//! | [`gateway`] | holds requests while no server is there, and shows them as a queue |
//! | [`load`] | keeps a number of completions under way |

mod exchange;
pub mod gateway;
pub mod gguf;
pub mod load;
pub mod tiny_model;
