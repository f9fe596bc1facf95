//! The certificates of the servers, made and rotated by the operator itself.
