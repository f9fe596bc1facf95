//! Inference servers that serve real metric bodies over HTTP, with the load set from outside
