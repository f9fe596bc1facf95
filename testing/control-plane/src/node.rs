//! What a node needs to join a control plane.

use std::{net::Ipv4Addr, path::PathBuf};

use crate::{kubeconfig::Login, plan::Plan};

/// Files of one node, all in the plane's folder.
#[derive(Debug, Clone)]
pub struct NodeCredentials {
    /// The kubelet's login, as `system:node:NAME`.
    pub kubelet_kubeconfig: PathBuf,
    /// The certificate of the kubelet's own API, for the node's name and address.
    pub kubelet_certificate: PathBuf,
    /// Its private key.
    pub kubelet_key: PathBuf,
    /// kube-proxy's login.
    pub proxy_kubeconfig: PathBuf,
    /// The authority that signed all of them, and the clients that the kubelet lets in.
    pub authority: PathBuf,
}

impl Plan {
    pub(crate) fn node_credentials(&self, node: &str, address: Ipv4Addr) -> anyhow::Result<NodeCredentials> {
        let certificates = self.folder().join("certificates");
        let user = format!("system:node:{node}");
        let group = Some("system:nodes");
        let client = self.authority().client(&user, group)?;
        let serving = format!("kubelet-{node}");
        let address = address.to_string();
        self.authority()
            .server(&user, group, &[node, &address])?
            .write(&certificates, &serving)?;
        let proxy = self.authority().client("system:kube-proxy", None)?;
        Ok(NodeCredentials {
            kubelet_kubeconfig: self.write_kubeconfig(&serving, &Login::Certificate(&client))?,
            kubelet_certificate: certificates.join(format!("{serving}.crt")),
            kubelet_key: certificates.join(format!("{serving}.key")),
            proxy_kubeconfig: self.write_kubeconfig("kube-proxy", &Login::Certificate(&proxy))?,
            authority: certificates.join("ca.crt"),
        })
    }
}
