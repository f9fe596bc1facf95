//! A real Kubernetes cluster on one Linux machine.
//!
//! etcd, kube-apiserver, kube-controller-manager and kube-scheduler run in a network namespace of their own. Each node is a network,
//! mount and process namespace with a containerd, a kubelet and a kube-proxy in it, so that nothing of the machine is changed: its
//! firewall, its kernel settings, its `/var/lib/kubelet`. The machine itself gets one network interface, one route to the pods and a
//! folder of control groups per node, which [`down`](Cluster::down) takes away again. Several clusters run beside each other, and
//! beside any other Kubernetes on the machine.
//!
//! One process, the supervisor, is the parent of everything; the kernel ends the rest when it ends, however it ends.
//!
//! | module | owns |
//! |---|---|
//! | [`requirements`] | what a machine must have, and the packages to install where something is missing |
//! | [`cluster`] | up, down, what is there |
//! | [`supervisor`] | the process that starts the parts and holds them |
//! | [`node`] | one node: its folder, its configuration, its processes, programs run in it |
//! | [`network`] | namespaces, addresses and routes |
//! | [`control_groups`] | the folders of control groups, version 1 and 2 |
//! | [`images`] | the images that the cluster itself needs |
//! | [`simulated_gpus`] | GPUs that do not exist: the NVML stand-in and a device plugin |
//! | [`traces`] | what a cluster may leave on a machine |
//! | [`pod_processes`] | the processes of a pod, as the machine sees them |

pub mod cluster;
pub mod control_groups;
pub mod images;
pub mod network;
pub mod node;
pub mod pod_processes;
pub mod requirements;
pub mod simulated_gpus;
pub mod supervisor;
pub mod traces;

pub use cluster::{Cluster, Settings, Wish};
pub use node::Node;
