//! The node daemon: samples GPUs, scrapes the inference servers of its node, reports; no Kubernetes client
