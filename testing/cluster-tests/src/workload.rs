//! Namespaces and what runs in them.

use anyhow::{Context, ensure};
use infmon_end_to_end::eventually;
use serde_json::json;
use std::time::Duration;

use crate::Session;

/// A namespace with everything in it may take this long to go: pods have grace periods.
const GONE: Duration = Duration::from_secs(120);

/// A namespace of one test. It is deleted when the test is done with it.
#[derive(Debug)]
pub struct Namespace {
    session: &'static Session,
    name: String,
}

impl Namespace {
    /// Makes it; one that a test before left over goes first. Its pods must meet the level `restricted` of the Pod Security Standards.
    ///
    /// # Errors
    /// When the API server refuses, or the one left over does not go.
    pub fn create(session: &'static Session, name: &str) -> anyhow::Result<Self> {
        let namespace = Self::named(session, name);
        namespace.delete()?;
        session.api().create(
            "/api/v1/namespaces",
            &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
                "name": name,
                "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
            }}),
        )?;
        Ok(namespace)
    }

    /// One that exists, or not.
    #[must_use]
    pub fn named(session: &'static Session, name: &str) -> Self {
        Self {
            session,
            name: name.to_owned(),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Applies YAML documents in it.
    ///
    /// # Errors
    /// When the API server refuses one.
    pub fn apply(&self, yaml: &str) -> anyhow::Result<()> {
        self.session.apply(&self.name, yaml)
    }

    /// Runs kubectl in it and returns what it prints.
    ///
    /// # Errors
    /// When it fails; with what it wrote to standard error.
    pub fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut with_namespace = arguments.to_vec();
        with_namespace.extend(["--namespace", &self.name]);
        self.session.kubectl(&with_namespace)
    }

    /// Waits until a Deployment has so many ready replicas, no more and no less.
    ///
    /// # Errors
    /// With what it has at the end of the time.
    pub fn wait_for_replicas(&self, deployment: &str, replicas: u64, limit: Duration) -> anyhow::Result<()> {
        let path = format!("/apis/apps/v1/namespaces/{}/deployments/{deployment}", self.name);
        eventually(&format!("{replicas} replicas of {deployment}"), limit, || {
            let object = self.session.api().get(&path)?;
            let status = &object["status"];
            let count = |field: &str| status[field].as_u64().unwrap_or(0);
            ensure!(
                count("readyReplicas") == replicas && count("replicas") == replicas,
                "spec.replicas {}, status {status}",
                object["spec"]["replicas"]
            );
            Ok(())
        })
    }

    /// Deletes it and waits until it is gone.
    ///
    /// # Errors
    /// When something in it does not go; what, is said.
    pub fn delete(&self) -> anyhow::Result<()> {
        let path = format!("/api/v1/namespaces/{}", self.name);
        if !self.session.api().exists(&path)? {
            return Ok(());
        }
        self.session.api().delete(&path)?;
        eventually(&format!("namespace {} gone", self.name), GONE, || {
            let answer = self.session.api().ask(&path)?;
            ensure!(answer.status == 404, "{}", answer.body);
            Ok(())
        })
        .with_context(|| format!("namespace {} does not delete cleanly", self.name))
    }
}
