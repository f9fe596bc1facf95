//! The gRPC stream between node daemon and operator: messages, client, server
