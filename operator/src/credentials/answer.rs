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
    Passing {
        /// For the conditions: our own words alone.
        words: String,
        /// For the log: what the client says.
        detail: String,
    },
}

/// Why there are no credentials, as far as two answers are told apart by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Something about the Secret, in words.
    Told(String),
    /// A fault that passes, in whatever words: addresses and ports in them change with every try.
    Passing,
}

impl Answer {
    pub(super) fn passing(namespace: &str, name: &str, words: &str, detail: &str) -> Self {
        Self::Passing {
            words: not_got(namespace, name, Missing::Answer(words)),
            detail: detail.chars().filter(|c| !c.is_control()).take(WORDS_MAX).collect(),
        }
    }

    /// Why there are no credentials.
    pub(super) fn cause(&self) -> Option<Cause> {
        match self {
            Self::Told(SecretReading::Unusable(words)) => Some(Cause::Told(words.clone())),
            Self::Told(_) => None,
            Self::Passing { .. } => Some(Cause::Passing),
        }
    }

    /// The same for the log.
    pub(super) fn for_log(&self) -> Option<String> {
        match self {
            Self::Told(SecretReading::Unusable(words)) => Some(words.clone()),
            Self::Told(_) => None,
            Self::Passing { words, detail } => Some(format!("{words} ({detail})")),
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
        Err(kube::Error::Api(status)) => {
            let words = format!("the API server answered {}", status.code);
            return Answer::passing(namespace, name, &words, &status.message);
        }
        Err(error) => {
            let words = "the API server could not be asked (see the operator's log)";
            return Answer::passing(namespace, name, words, &error.to_string());
        }
    };
    // The error of the parser may hold a part of the text.
    let Ok(secret) = serde_json::from_str::<Secret>(&text) else {
        return Answer::passing(
            namespace,
            name,
            "the answer of the API server is no Secret",
            "not shown",
        );
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
