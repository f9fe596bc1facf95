//! The second body that two engines need: `/slots` of llama-server, `/v1/loads` of SGLang.

use super::failure::Failure;
use super::fields::{Fields, NAMES};
use super::http;
use super::note;
use super::source::Source;
use super::text::View;
use super::{Inspect, Url};
use infmon_engines::{Engine, EngineSample, FieldSource, merge_loads, merge_slots, read_loads, read_slots};

/// `/slots` of a server with many slots and long prompts in older builds; as much as a node daemon reads.
const LIMIT_BYTES: usize = 1 << 20;

/// What lies beside the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Second {
    Slots,
    Loads,
}

impl Second {
    const fn of(engine: Option<Engine>) -> Option<Self> {
        match engine {
            Some(Engine::LlamaCpp) => Some(Self::Slots),
            Some(Engine::Sglang) => Some(Self::Loads),
            _ => None,
        }
    }

    const fn server(self) -> &'static str {
        match self {
            Self::Slots => "llama-server",
            Self::Loads => "SGLang",
        }
    }

    const fn flag(self) -> &'static str {
        match self {
            Self::Slots => "--slots",
            Self::Loads => "--loads",
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Slots => "/slots",
            Self::Loads => "/v1/loads",
        }
    }

    const fn fields(self) -> [&'static str; 2] {
        match self {
            Self::Slots => ["maxConcurrency", "kvCacheUsage"],
            Self::Loads => ["maxConcurrency", "kvCacheCapacityTokens"],
        }
    }

    const fn given(self, args: &Inspect) -> Option<&Source> {
        match self {
            Self::Slots => args.slots.as_ref(),
            Self::Loads => args.loads.as_ref(),
        }
    }

    /// Adds the second body to the sample of the first.
    fn merge(self, sample: &mut EngineSample, body: &[u8]) -> Result<(), String> {
        match self {
            Self::Slots => merge_slots(sample, &read_slots(body).map_err(|error| error.to_string())?),
            Self::Loads => {
                let loads = read_loads(body).ok_or("this is not what SGLang answers on /v1/loads")?;
                merge_loads(sample, &loads);
            }
        }
        Ok(())
    }
}

/// Adds to `view`, which is that of `body`, what its engine tells only elsewhere: as the arguments say, or beside the metrics of a server.
pub(super) async fn add(view: &mut View, args: &Inspect, source: &Source, body: &[u8]) -> Result<(), Failure> {
    let second = Second::of(view.sample.engine);
    for other in [Second::Slots, Second::Loads] {
        if let Some(given) = other.given(args)
            && second != Some(other)
        {
            let (flag, server) = (other.flag(), other.server());
            note(&format!(
                "{given}: {flag} is left out, the metrics are not those of {server}"
            ));
        }
    }
    let Some(second) = second else { return Ok(()) };
    if let Some(given) = second.given(args) {
        let more = given.read().await?;
        return merge(view, second, &more).map_err(|words| Failure::Malformed(format!("{given}: {words}")));
    }
    // The body may be the second one itself, in place of metrics that are off.
    if second.merge(&mut EngineSample::default(), body).is_ok() {
        return Ok(());
    }
    match source {
        Source::Server(url) => {
            if let Err(words) = fetch(view, second, url).await {
                view.next.push(words);
            }
        }
        Source::Stdin | Source::File(_) => hint(view, second),
    }
    Ok(())
}

fn merge(view: &mut View, second: Second, body: &[u8]) -> Result<(), String> {
    let before = Fields::of(&view.sample);
    second.merge(&mut view.sample, body)?;
    let after = Fields::of(&view.sample);
    let added = NAMES.into_iter().filter(|name| before.get(name) != after.get(name));
    view.sources.extend(added.map(|field| FieldSource {
        field,
        names: vec![second.path().to_owned()],
        series: 1,
    }));
    Ok(())
}

async fn fetch(view: &mut View, second: Second, metrics: &Url) -> Result<(), String> {
    let (flag, path) = (second.flag(), second.path());
    let url = metrics.beside_metrics(path).ok_or_else(|| {
        format!("name the URL of {path} with {flag}: it is looked for only beside a path that ends with /metrics")
    })?;
    let body = http::get(&url, LIMIT_BYTES).await?;
    merge(view, second, &body).map_err(|words| format!("{url}: {words}"))
}

fn hint(view: &mut View, second: Second) {
    let known = Fields::of(&view.sample);
    let absent = second.fields().into_iter().filter(|name| known.get(name).is_none());
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
