//! What engines tell beside their metrics: `/props` and `/slots` of llama-server, `/v1/loads` of SGLang, `/info` of TGI, `/v1/models` of trtllm-serve.

use super::body::is_json;
use super::failure::Failure;
use super::fields::{Fields, NAMES};
use super::http::Client;
use super::note;
use super::source::Source;
use super::text::View;
use super::{Inspect, Url};
use infmon_engines::{
    Engine, EngineSample, merge_info, merge_loads, merge_model_list, merge_props, merge_slots, read_info, read_loads,
    read_model_list, read_props, read_slots,
};

/// `/slots` of a server with many slots and long prompts in older builds; as much as a node daemon reads.
const LIMIT_BYTES: usize = 1 << 20;

/// What lies beside the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Second {
    Props,
    Slots,
    Loads,
    Info,
    Models,
}

impl Second {
    const ALL: [Self; 5] = [Self::Props, Self::Slots, Self::Loads, Self::Info, Self::Models];

    /// In the order in which they are asked: `/slots` wakes a server that sleeps, and `/props` tells whether it does.
    const fn of(engine: Option<Engine>) -> &'static [Self] {
        match engine {
            Some(Engine::LlamaCpp) => &[Self::Props, Self::Slots],
            Some(Engine::Sglang) => &[Self::Loads],
            Some(Engine::Tgi) => &[Self::Info],
            Some(Engine::TensorRtLlm) => &[Self::Models],
            _ => &[],
        }
    }

    const fn server(self) -> &'static str {
        match self {
            Self::Props | Self::Slots => "llama-server",
            Self::Loads => "SGLang",
            Self::Info => "TGI",
            Self::Models => "trtllm-serve",
        }
    }

    /// The option that gives it; empty where it is only asked of a server.
    const fn flag(self) -> &'static str {
        match self {
            Self::Props => "--props",
            Self::Slots => "--slots",
            Self::Loads => "--loads",
            Self::Info | Self::Models => "",
        }
    }

    /// Older servers do not have it, and it is an extra: that it fails is not told.
    const fn is_extra(self) -> bool {
        matches!(self, Self::Props | Self::Info | Self::Models)
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Props => "/props",
            Self::Slots => "/slots",
            Self::Loads => "/v1/loads",
            Self::Info => "/info",
            Self::Models => "/v1/models",
        }
    }

    /// The fields that it is looked for; what else it tells is an extra.
    const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Props | Self::Info | Self::Models => &[],
            Self::Slots => &["maxConcurrency", "kvCacheUsage"],
            Self::Loads => &["maxConcurrency", "kvCacheCapacityTokens"],
        }
    }

    const fn given(self, args: &Inspect) -> Option<&Source> {
        match self {
            Self::Props => args.props.as_ref(),
            Self::Slots => args.slots.as_ref(),
            Self::Loads => args.loads.as_ref(),
            Self::Info | Self::Models => None,
        }
    }

    /// Adds the second body to the sample of the first.
    fn merge(self, sample: &mut EngineSample, body: &[u8]) -> Result<(), String> {
        match self {
            Self::Props => {
                let props = read_props(body).ok_or("this is not what llama-server answers on /props")?;
                merge_props(sample, &props);
            }
            Self::Slots => merge_slots(sample, &read_slots(body).map_err(|error| error.to_string())?),
            Self::Loads => {
                let loads = read_loads(body).ok_or("this is not what SGLang answers on /v1/loads")?;
                merge_loads(sample, &loads);
            }
            Self::Info => merge_info(sample, &read_info(body).ok_or("this is not what TGI answers on /info")?),
            Self::Models => merge_model_list(sample, &read_model_list(body).ok_or("this is no list of models")?),
        }
        Ok(())
    }
}

/// Adds to `view`, which is that of `body`, what its engine tells only elsewhere: as the arguments say, or beside the metrics of a server.
pub(super) async fn add(
    view: &mut View,
    client: &Client,
    args: &Inspect,
    source: &Source,
    body: &[u8],
) -> Result<(), Failure> {
    let needed = Second::of(view.sample.engine_behind());
    for other in Second::ALL.into_iter().filter(|other| !needed.contains(other)) {
        if let Some(given) = other.given(args) {
            let (flag, server) = (other.flag(), other.server());
            note(&format!(
                "{given}: {flag} is left out, the metrics are not those of {server}"
            ));
        }
    }
    for &second in needed {
        if let Some(given) = second.given(args) {
            let more = given.read(client).await?;
            merge(view, second, &more).map_err(|words| Failure::Malformed(format!("{given}: {words}")))?;
            continue;
        }
        // The body may be the second one itself, in place of metrics that are off.
        if is_json(body) {
            continue;
        }
        match source {
            Source::Server(url) => ask(view, client, second, url).await,
            Source::Stdin | Source::File(_) => hint(view, second),
        }
    }
    Ok(())
}

/// Adds the slots of one model of a router; what is no list of slots tells nothing.
pub(super) fn add_slots(view: &mut View, slots: &[u8]) {
    let _ = merge(view, Second::Slots, slots);
}

fn merge(view: &mut View, second: Second, body: &[u8]) -> Result<(), String> {
    let before = Fields::of(&view.sample);
    second.merge(&mut view.sample, body)?;
    let after = Fields::of(&view.sample);
    for field in NAMES.into_iter().filter(|name| before.get(name) != after.get(name)) {
        view.fed(field, second.path());
    }
    Ok(())
}

async fn ask(view: &mut View, client: &Client, second: Second, metrics: &Url) {
    let sleeps = view.sample.sleeping == Some(true) && view.sample.running == Some(0.0);
    if second == Second::Slots && sleeps {
        view.next
            .push("the server sleeps, and /slots would wake it: it is not asked".to_owned());
        return;
    }
    match fetch(view, client, second, metrics).await {
        Err(words) if !second.is_extra() => view.next.push(words),
        _ => {}
    }
}

async fn fetch(view: &mut View, client: &Client, second: Second, metrics: &Url) -> Result<(), String> {
    let (flag, path) = (second.flag(), second.path());
    let url = metrics.beside_metrics(path).ok_or_else(|| {
        format!("name the URL of {path} with {flag}: it is looked for only beside a path that ends with /metrics")
    })?;
    let body = client.get(&url, LIMIT_BYTES).await?;
    merge(view, second, &body).map_err(|words| format!("{url}: {words}"))
}

fn hint(view: &mut View, second: Second) {
    let known = Fields::of(&view.sample);
    let absent = second.fields().iter().copied().filter(|name| known.get(name).is_none());
    let absent: Vec<&str> = absent.collect();
    if !absent.is_empty() {
        view.next.push(format!(
            "{} with what {} answers on {} adds {}",
            second.flag(),
            second.server(),
            second.path(),
            absent.join(" and ")
        ));
    }
}
