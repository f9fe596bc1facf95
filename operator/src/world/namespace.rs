//! Pods, Services and named Secrets of one namespace.

use infmon_evaluation::cluster::{Namespace, Pod, SecretReading, ServiceAddress};
use std::collections::{BTreeMap, BTreeSet};

/// One EndpointSlice, pruned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointSliceView {
    /// Service it belongs to (label `kubernetes.io/service-name`).
    pub service: String,
    /// Addresses; each carries the ports of the slice.
    pub addresses: Vec<ServiceAddress>,
}

/// Pods, EndpointSlices and the Secrets that monitors name, of one namespace.
#[derive(Clone, Debug, Default)]
pub struct NamespaceView {
    pods: BTreeMap<String, Pod>,
    slices: BTreeMap<String, EndpointSliceView>,
    secrets: BTreeMap<String, SecretReading>,
}

impl NamespaceView {
    /// Returns whether anything that decisions look at changed.
    pub(super) fn apply_pod(&mut self, pod: Pod) -> bool {
        if self.pods.get(&pod.name) == Some(&pod) {
            return false;
        }
        self.pods.insert(pod.name.clone(), pod);
        true
    }

    pub(super) fn delete_pod(&mut self, name: &str) -> bool {
        self.pods.remove(name).is_some()
    }

    pub(super) fn retain_pods(&mut self, present: &BTreeSet<String>) {
        self.pods.retain(|name, _| present.contains(name));
    }

    pub(super) fn apply_slice(&mut self, name: &str, slice: EndpointSliceView) -> bool {
        if self.slices.get(name) == Some(&slice) {
            return false;
        }
        self.slices.insert(name.to_owned(), slice);
        true
    }

    pub(super) fn delete_slice(&mut self, name: &str) -> bool {
        self.slices.remove(name).is_some()
    }

    pub(super) fn retain_slices(&mut self, present: &BTreeSet<String>) {
        self.slices.retain(|name, _| present.contains(name));
    }

    pub(super) fn apply_secret(&mut self, name: &str, reading: SecretReading) -> bool {
        if self.secrets.get(name) == Some(&reading) {
            return false;
        }
        self.secrets.insert(name.to_owned(), reading);
        true
    }

    pub(super) fn forget_secret(&mut self, name: &str) -> bool {
        self.secrets.remove(name).is_some()
    }
}

impl Namespace for NamespaceView {
    fn pods(&self) -> Box<dyn Iterator<Item = &Pod> + '_> {
        Box::new(self.pods.values())
    }

    fn service(&self, name: &str) -> Option<Vec<ServiceAddress>> {
        let mut slices = self.slices.values().filter(|slice| slice.service == name).peekable();
        slices.peek()?;
        Some(slices.flat_map(|slice| slice.addresses.iter().cloned()).collect())
    }

    fn secret(&self, name: &str) -> SecretReading {
        self.secrets.get(name).cloned().unwrap_or_default()
    }
}
