//! A real Kubernetes cluster on one Linux machine: control plane, nodes in namespaces of their own, DNS.
