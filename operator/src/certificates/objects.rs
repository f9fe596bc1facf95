//! The watches: Secret, ConfigMap and APIServices, each by its name alone.

use std::{fmt::Debug, time::Duration};

use futures::{StreamExt, TryStreamExt};
use kube::{
    Api, Resource, ResourceExt,
    runtime::{WatchStreamExt, watcher, watcher::Event},
};
use serde::de::DeserializeOwned;

use super::plan::Known;

/// A watch is begun anew when it has been silent for so long: a connection that died without a word would otherwise hide a
/// rotation. The list costs one object.
const SILENCE: Duration = Duration::from_secs(600);

/// Tells `changed` of every change of the object called `name`. Does not end.
pub(super) async fn follow<K>(api: Api<K>, name: &str, mut changed: impl FnMut(Known<K>))
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Default,
{
    let kind = K::kind(&K::DynamicType::default()).into_owned();
    loop {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut events = watcher(api.clone(), config).default_backoff().boxed();
        let mut is_listed = false;
        while let Ok(event) = tokio::time::timeout(SILENCE, events.try_next()).await {
            match event {
                Ok(Some(Event::Init)) => is_listed = false,
                Ok(Some(Event::InitApply(object))) if object.name_any() == name => {
                    is_listed = true;
                    changed(Known::Present(object));
                }
                Ok(Some(Event::InitDone)) if !is_listed => changed(Known::Absent),
                Ok(Some(Event::Apply(object))) if object.name_any() == name => changed(Known::Present(object)),
                Ok(Some(Event::Delete(object))) if object.name_any() == name => changed(Known::Absent),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => tracing::warn!(%error, "failed to watch {kind} {name}"),
            }
        }
    }
}
