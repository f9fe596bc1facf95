//! The certificates and keys of one control plane, made fresh for each.

use std::{fs, net::Ipv4Addr, path::Path};

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

/// The names and addresses a server certificate of the plane is good for.
const SERVER_NAMES: [&str; 7] = [
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "127.0.0.1",
    "10.96.0.1",
];

/// A certificate authority that can sign client and server certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its private key, both in PEM.
#[derive(Debug)]
pub(crate) struct Identity {
    /// The certificate.
    pub(crate) certificate: String,
    /// The private key (PKCS#8).
    pub(crate) key: String,
}

impl Authority {
    /// Makes a self-signed authority.
    pub(crate) fn new(common_name: &str) -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(common_name, None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)
            .with_context(|| format!("failed to make the certificate authority {common_name}"))?;
        Ok(Self(issuer))
    }

    /// The authority's own certificate.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Signs a client certificate: Kubernetes reads the user from the common name and the group from the organization.
    pub(crate) fn client(&self, user: &str, group: Option<&str>) -> anyhow::Result<Identity> {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(user, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    /// Signs a server certificate for these names and addresses. A kubelet's also names the group `system:nodes`.
    pub(crate) fn server(&self, common_name: &str, group: Option<&str>, names: &[&str]) -> anyhow::Result<Identity> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = subject(common_name, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params)
    }

    fn sign(&self, mut params: CertificateParams) -> anyhow::Result<Identity> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params
            .signed_by(&key, &self.0)
            .context("failed to sign a certificate")?;
        Ok(Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

impl Identity {
    /// Writes `<name>.crt` and `<name>.key`.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> anyhow::Result<()> {
        write(folder, &format!("{name}.crt"), &self.certificate)?;
        write(folder, &format!("{name}.key"), &self.key)
    }
}

/// Writes every file the servers read (see `plan`) and returns the authority that signs clients. `address` is where nodes reach
/// the apiserver.
pub(crate) fn write_all(folder: &Path, address: Ipv4Addr) -> anyhow::Result<Authority> {
    fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))?;
    let authority = Authority::new("test-control-plane")?;
    write(folder, "ca.crt", &authority.pem())?;
    let address = address.to_string();
    let mut names = SERVER_NAMES.to_vec();
    names.push(&address);
    for (user, name) in [
        ("kube-apiserver", "apiserver"),
        ("kube-controller-manager", "controller-manager"),
    ] {
        authority.server(user, None, &names)?.write(folder, name)?;
    }
    authority
        .client("kube-apiserver-kubelet-client", Some("system:masters"))?
        .write(folder, "apiserver-kubelet-client")?;

    let front_proxy = Authority::new("test-front-proxy")?;
    write(folder, "front-proxy-ca.crt", &front_proxy.pem())?;
    front_proxy
        .client("front-proxy-client", None)?
        .write(folder, "front-proxy-client")?;

    let service_accounts = KeyPair::generate()?;
    write(folder, "service-accounts.key", &service_accounts.serialize_pem())?;
    write(folder, "service-accounts.pub", &service_accounts.public_key_pem())?;
    Ok(authority)
}

fn subject(common_name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, common_name);
    name
}

fn write(folder: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let path = folder.join(name);
    fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))
}
