//! From `helm install` to `helm uninstall`, as the README tells it.
use infmon_cluster_tests as _;
