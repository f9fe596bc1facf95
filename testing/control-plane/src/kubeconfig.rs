//! Kubeconfig files. They are written as JSON, which every reader of YAML takes.

use std::{fs, path::Path};

use anyhow::Context;
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::certificates::Identity;

/// Whom a kubeconfig logs in as.
pub(crate) enum Login<'a> {
    /// A client certificate.
    Certificate(&'a Identity),
    /// A bearer token.
    Token(&'a str),
}

/// Writes a kubeconfig that holds everything inline, so it can be copied elsewhere.
pub(crate) fn write(path: &Path, server: &str, ca_pem: &str, login: &Login<'_>) -> anyhow::Result<()> {
    let user = match login {
        Login::Certificate(identity) => json!({
            "client-certificate-data": BASE64_STANDARD.encode(&identity.certificate),
            "client-key-data": BASE64_STANDARD.encode(&identity.key),
        }),
        Login::Token(token) => json!({ "token": token }),
    };
    let config: Value = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "test",
            "cluster": { "server": server, "certificate-authority-data": BASE64_STANDARD.encode(ca_pem) },
        }],
        "users": [{ "name": "test", "user": user }],
        "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
        "current-context": "test",
    });
    fs::write(path, format!("{config:#}\n")).with_context(|| format!("failed to write {}", path.display()))
}
