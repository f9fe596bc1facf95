//! The API server, path by path, blocking.

use anyhow::{Context, bail};
use http::{Method, Request, header};
use http_body_util::BodyExt;
use kube::{
    Client, Config,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::Value;
use std::{path::Path, time::Duration};
use tokio::runtime::Handle;

const ANSWER: Duration = Duration::from_secs(15);

/// What a server answered, whatever it was.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Body.
    pub body: String,
}

impl Answer {
    /// The body of a success.
    ///
    /// # Errors
    /// With status and body of anything else.
    pub fn success(self) -> anyhow::Result<String> {
        if (200..300).contains(&self.status) {
            return Ok(self.body);
        }
        bail!("HTTP {}: {}", self.status, self.body.trim())
    }

    /// The body of a success as JSON.
    ///
    /// # Errors
    /// As for [`success`](Self::success), and when it is not JSON.
    pub fn json(self) -> anyhow::Result<Value> {
        let body = self.success()?;
        serde_json::from_str(&body).with_context(|| format!("not JSON: {body}"))
    }

    /// `message` of a Status object; the body where it is none.
    pub fn message(&self) -> String {
        let status: Value = serde_json::from_str(&self.body).unwrap_or_default();
        status["message"].as_str().unwrap_or(&self.body).to_owned()
    }
}

/// A client of the API server with one identity.
#[derive(Clone)]
pub struct Api {
    client: Client,
    runtime: Handle,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Api")
    }
}

impl Api {
    /// A client that logs in as a kubeconfig says.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn new(kubeconfig: &Path, runtime: &Handle) -> anyhow::Result<Self> {
        let file = Kubeconfig::read_from(kubeconfig)?;
        let client = runtime.block_on(async {
            let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
            // A test wants to see each answer.
            config.default_retry = false;
            anyhow::Ok(Client::try_from(config)?)
        })?;
        Ok(Self {
            client,
            runtime: runtime.clone(),
        })
    }

    /// Any request; only a broken connection is an error.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn send(&self, method: Method, path: &str, kind: &str, body: String) -> anyhow::Result<Answer> {
        self.runtime.block_on(self.send_async(method, path, kind, body))
    }

    /// [`send`](Self::send) for async callers.
    ///
    /// # Errors
    /// As there.
    pub async fn send_async(&self, method: Method, path: &str, kind: &str, body: String) -> anyhow::Result<Answer> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, kind)
            .header(header::ACCEPT, "application/json")
            .body(Body::from(body.into_bytes()))?;
        tokio::time::timeout(ANSWER, async {
            let response = self.client.send(request).await?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await?.to_bytes();
            Ok(Answer {
                status,
                body: String::from_utf8_lossy(&body).into_owned(),
            })
        })
        .await
        .with_context(|| format!("{path}: no answer in time"))?
    }

    /// GET, whatever the answer.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn ask(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(Method::GET, path, "application/json", String::new())
    }

    /// Reads an object.
    ///
    /// # Errors
    /// When the answer is no success.
    pub fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(path)?.json().with_context(|| format!("GET {path}"))
    }

    /// `items` of a list.
    ///
    /// # Errors
    /// When the answer is no list.
    pub fn list(&self, path: &str) -> anyhow::Result<Vec<Value>> {
        let mut list = self.get(path)?;
        match list["items"].take() {
            Value::Array(items) => Ok(items),
            other => bail!("{path} is no list: {other}"),
        }
    }

    /// Creates an object.
    ///
    /// # Errors
    /// When the answer is no success.
    pub fn create(&self, path: &str, object: &Value) -> anyhow::Result<Value> {
        let body = object.to_string();
        let answer = self.send(Method::POST, path, "application/json", body)?;
        answer.json().with_context(|| format!("POST {path}"))
    }

    /// Changes an object by a merge patch.
    ///
    /// # Errors
    /// When the answer is no success.
    pub fn merge(&self, path: &str, patch: &Value) -> anyhow::Result<Value> {
        let answer = self.send(Method::PATCH, path, "application/merge-patch+json", patch.to_string())?;
        answer.json().with_context(|| format!("PATCH {path}"))
    }

    /// Applies an object by server-side apply and takes over what others own.
    ///
    /// # Errors
    /// When the answer is no success.
    pub fn apply(&self, path: &str, object: &Value) -> anyhow::Result<Value> {
        let query = format!("{path}?fieldManager=end-to-end&force=true");
        let answer = self.send(
            Method::PATCH,
            &query,
            "application/apply-patch+yaml",
            object.to_string(),
        )?;
        answer.json().with_context(|| format!("apply {path}"))
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// When the answer is no success.
    pub fn delete(&self, path: &str) -> anyhow::Result<()> {
        let answer = self.send(Method::DELETE, path, "application/json", String::new())?;
        answer.success().with_context(|| format!("DELETE {path}"))?;
        Ok(())
    }

    /// Whether there is an object.
    ///
    /// # Errors
    /// When the answer is neither a success nor 404.
    pub fn exists(&self, path: &str) -> anyhow::Result<bool> {
        let answer = self.ask(path)?;
        if answer.status == 404 {
            return Ok(false);
        }
        answer.success()?;
        Ok(true)
    }
}
