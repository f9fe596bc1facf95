//! Kubernetes Events on transitions of conditions.
//!
//! Written here rather than with a recorder that folds equal events: it keeps the note of the first one, and the numbers of ours are in
//! the note.

use crate::world::MonitorKey;
use infmon_evaluation::status::Transition;
use infmon_runtime::deadline;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use std::time::Duration;

/// Longest note that the API server accepts, bytes.
const NOTE_MAX: usize = 1024;

/// The Event of a transition.
#[must_use]
pub fn event(
    key: &MonitorKey,
    uid: Option<&str>,
    transition: &Transition,
    instance: &str,
    wall_clock: jiff::Timestamp,
) -> Event {
    let mut note = format!(
        "{}={}: {}",
        transition.kind,
        transition.outcome.as_str(),
        transition.message
    );
    while note.len() > NOTE_MAX {
        note.pop();
    }
    let mut instance = instance.to_owned();
    instance.truncate(128);
    Event {
        metadata: ObjectMeta {
            // Like every recorder: the object's name and a moment.
            name: Some(format!(
                "{}.{:x}.{}",
                key.name,
                wall_clock.as_nanosecond(),
                transition.kind.to_ascii_lowercase()
            )),
            namespace: Some(key.namespace.clone()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(wall_clock)),
        action: Some(transition.kind.clone()),
        reason: Some(transition.reason.clone()),
        note: Some(note),
        type_: Some(if transition.warning { "Warning" } else { "Normal" }.to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some("inferencemonitor.io/v1alpha1".into()),
            kind: Some("InferenceMonitor".into()),
            name: Some(key.name.clone()),
            namespace: Some(key.namespace.clone()),
            uid: uid.map(str::to_owned),
            ..ObjectReference::default()
        }),
        reporting_controller: Some("inferencemonitor.io/operator".into()),
        reporting_instance: Some(instance),
        ..Event::default()
    }
}

/// Writes Events; one that fails is logged and left, since the condition tells the same.
pub async fn publish(client: &kube::Client, events: Vec<Event>) {
    for event in events {
        let Some(namespace) = event.metadata.namespace.clone() else {
            continue;
        };
        let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
        let outcome = deadline(
            "event",
            Duration::from_secs(10),
            api.create(&PostParams::default(), &event),
        )
        .await;
        let error: Box<dyn std::error::Error + Send + Sync> = match outcome {
            Ok(Ok(_)) => continue,
            Ok(Err(error)) => error.into(),
            Err(error) => error.into(),
        };
        tracing::warn!(%error, reason = event.reason, "failed to write an event");
    }
}
