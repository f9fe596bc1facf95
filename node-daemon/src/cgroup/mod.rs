//! The control groups of the pods of a node: whose a path is, where a pod's is, and what its memory counters say.
//!
//! Reading them takes no privilege: the files are open to everybody, and the tree is mounted read-only.

pub(crate) mod counters;
pub(crate) mod memory;
pub(crate) mod path;
pub(crate) mod tree;
