//! An InferenceMonitor and what the API server shows of it.

use anyhow::{Context, ensure};
use infmon_crds::GROUP;
use serde_json::{Value, json};
use std::time::Duration;

use crate::{Answer, Api, polling::eventually};

/// A condition of a monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Reason.
    pub reason: String,
    /// Message.
    pub message: String,
}

/// A monitor.
#[derive(Debug, Clone)]
pub struct Monitor {
    api: Api,
    namespace: String,
    name: String,
}

impl Monitor {
    /// One that was applied by other means.
    pub fn existing(api: &Api, namespace: &str, name: &str) -> Self {
        Self {
            api: api.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Applies a monitor of the pods with the label `app`; `more` is merged into its spec.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub fn apply(api: &Api, namespace: &str, name: &str, app: &str, more: &Value) -> anyhow::Result<Self> {
        let mut spec = json!({"endpoints": [{
            "name": "servers",
            "pods": {"selector": {"matchLabels": {"app": app}}, "port": "http"},
        }]});
        for (key, value) in more.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        let monitor = Self::existing(api, namespace, name);
        let object = json!({
            "apiVersion": format!("{GROUP}/v1alpha1"), "kind": "InferenceMonitor",
            "metadata": {"name": name, "namespace": namespace, "labels": {"app": app}},
            "spec": spec,
        });
        // Right after the installation the CRD is not served for a moment.
        eventually("the CRD served", Duration::from_secs(20), || {
            monitor.api.apply(&monitor.path(), &object)
        })?;
        Ok(monitor)
    }

    /// Its path in the API.
    pub fn path(&self) -> String {
        format!(
            "/apis/{GROUP}/v1alpha1/namespaces/{}/inferencemonitors/{}",
            self.namespace, self.name
        )
    }

    /// The object.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn get(&self) -> anyhow::Result<Value> {
        self.api.get(&self.path())
    }

    /// Deletes it.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn delete(&self) -> anyhow::Result<()> {
        self.api.delete(&self.path())
    }

    /// A condition as it is now.
    ///
    /// # Errors
    /// When it is not there.
    pub fn condition(&self, kind: &str) -> anyhow::Result<Condition> {
        let object = self.get()?;
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.iter().find(|condition| condition["type"] == kind);
        let found = found.with_context(|| format!("{} has no condition {kind}", self.name))?;
        let field = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
        Ok(Condition {
            status: field("status"),
            reason: field("reason"),
            message: field("message"),
        })
    }

    /// Waits until a condition has a status.
    ///
    /// # Errors
    /// With the condition as it is at the end of the time.
    pub fn wait_for(&self, kind: &str, status: &str, limit: Duration) -> anyhow::Result<Condition> {
        eventually(&format!("{kind}={status} of {}", self.name), limit, || {
            let condition = self.condition(kind)?;
            ensure!(condition.status == status, "{kind} is {condition:?}");
            Ok(condition)
        })
    }

    /// The path of one of its metrics.
    pub fn metric_path(&self, version: &str, metric: &str) -> String {
        format!(
            "/apis/custom.metrics.k8s.io/{version}/namespaces/{}/inferencemonitors.{GROUP}/{}/{metric}",
            self.namespace, self.name
        )
    }

    /// Reads a metric through the API server.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn metric(&self, metric: &str) -> anyhow::Result<Answer> {
        self.api.ask(&self.metric_path("v1beta2", metric))
    }
}

/// The one value of a MetricValueList.
///
/// # Errors
/// When the answer is an error or has not exactly one item.
pub fn value(answer: Answer) -> anyhow::Result<String> {
    let list = answer.json()?;
    let items = list["items"].as_array().context("no items")?;
    ensure!(items.len() == 1, "{list}");
    Ok(items[0]["value"].as_str().context("no value")?.to_owned())
}

/// A quantity of the metrics API as a number: they come whole or in thousandths.
///
/// # Errors
/// When it is neither.
pub fn number(quantity: &str) -> anyhow::Result<f64> {
    Ok(match quantity.strip_suffix('m') {
        Some(thousandths) => thousandths.parse::<f64>()? / 1000.0,
        None => quantity.parse()?,
    })
}
