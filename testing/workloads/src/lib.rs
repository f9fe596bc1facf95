//! What the tests run in a cluster beside the product: llama-server with a tiny model, a gateway, a load.

pub mod gguf;
pub mod tiny_model;
