//! What an answer to a GET of a Secret means: pure.

use infmon_evaluation::NamedCredentials;
use infmon_evaluation::cluster::SecretReading;
use infmon_evaluation::credentials::{Missing, SecretData, not_got};
use k8s_openapi::api::core::v1::Secret;
use std::sync::Arc;

/// Characters of a client's error that are told.
const WORDS_MAX: usize = 200;

/// What came of one GET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The Secret as it is now, in order or not; or there is none, or it may not be read. What was known before is over.
    Told(SecretReading),
    /// Nobody knows: the API server was away or failed. What was known before may stay for a while.
    Passing(String),
}

impl Answer {
    pub(super) fn passing(namespace: &str, name: &str, words: &str) -> Self {
        let words: String = words.chars().filter(|c| !c.is_control()).take(WORDS_MAX).collect();
        Self::Passing(not_got(namespace, name, Missing::Answer(&words)))
    }

    /// Why there are no credentials.
    pub(super) fn words(&self) -> Option<&str> {
        match self {
            Self::Told(SecretReading::Unusable(words)) | Self::Passing(words) => Some(words),
            Self::Told(_) => None,
        }
    }
}

/// Judges the answer of the API server.
pub(super) fn judge(namespace: &str, name: &str, got: kube::Result<String>) -> Answer {
    let unusable = |missing| Answer::Told(SecretReading::Unusable(not_got(namespace, name, missing)));
    let text = match got {
        Ok(text) => text,
        Err(kube::Error::Api(status)) if status.code == 404 => return unusable(Missing::Secret),
        Err(kube::Error::Api(status)) if status.code == 403 => return unusable(Missing::Permission),
        Err(error) => return Answer::passing(namespace, name, &error.to_string()),
    };
    // The error of the parser may hold a part of the text.
    let Ok(secret) = serde_json::from_str::<Secret>(&text) else {
        return Answer::passing(namespace, name, "the answer of the API server is no Secret");
    };
    let data = secret.data.unwrap_or_default();
    let read = NamedCredentials::read(&SecretData {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        kind: secret.type_.unwrap_or_default(),
        labels: secret.metadata.labels.unwrap_or_default(),
        annotations: secret.metadata.annotations.unwrap_or_default(),
        data: data.into_iter().map(|(key, value)| (key, value.0)).collect(),
    });
    Answer::Told(match read {
        Ok(named) => SecretReading::Usable(Arc::new(named)),
        Err(words) => SecretReading::Unusable(words),
    })
}
