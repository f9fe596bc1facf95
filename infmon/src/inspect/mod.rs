//! `infmon inspect`: what the product sees in a body.
//!
//! A [`source`](Source) gives a body; `body` takes it apart with the same code as a node daemon; `json` and `text` show it. Standard
//! output has the result alone, everything else goes to standard error, and the exit code tells the rest.

mod args;
mod body;
mod failure;
mod families;
mod fields;
mod http;
mod json;
mod server;
mod source;
mod text;
mod tls;
mod url;

pub use args::Inspect;
pub use failure::USAGE;
pub use source::Source;
pub use url::Url;

use failure::Failure;
use infmon_engines::{Engine, FieldSource, Slots, merge_slots, read_slots};
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use text::View;

/// Runs `infmon inspect`.
///
/// # Errors
/// When the result cannot be written. A body that shows nothing is no error here: it is told, and is in the exit code.
pub async fn inspect(args: Inspect) -> anyhow::Result<ExitCode> {
    let view = match view(&args).await {
        Ok(view) => view,
        Err(failure) => {
            note(&failure.to_string());
            return Ok(failure.exit_code());
        }
    };
    if args.json {
        // What a person reads in the text goes beside the JSON.
        if !view.missing.is_empty() {
            note(&format!("{}: missing {}", view.name, view.missing.join(", ")));
        }
        view.next.iter().for_each(|next| note(next));
        print(&json::of(&view.sample)?)?;
    } else {
        print(view.text().as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn view(args: &Inspect) -> Result<View, Failure> {
    if args.body == Source::Stdin && args.slots == Some(Source::Stdin) {
        return Err(Failure::Usage(
            "standard input is one body: save one of the two in a file",
        ));
    }
    let (source, body) = match &args.body {
        Source::Server(url) => {
            let (url, body) = server::metrics(url, args.engine).await.map_err(Failure::Unread)?;
            (Source::Server(url), body)
        }
        source => (source.clone(), source.read().await?),
    };
    let name = source.to_string();
    let inspection = body::look(&name, &body, args.engine)?;
    let mut view = View {
        name,
        sample: inspection.reading.sample,
        sources: inspection.fields,
        missing: inspection.reading.missing,
        next: Vec::new(),
        ignored: inspection.ignored,
    };
    if !inspection.reading.hint.is_empty() {
        view.next.push(inspection.reading.hint);
    }
    add_slots(&mut view, args.slots.as_ref(), &source).await?;
    Ok(view)
}

/// Adds what llama-server tells only on /slots.
async fn add_slots(view: &mut View, given: Option<&Source>, metrics: &Source) -> Result<(), Failure> {
    let is_llama = view.sample.engine == Some(Engine::LlamaCpp);
    match (given, metrics) {
        (Some(given), _) if !is_llama => {
            note(&format!("{given}: --slots is left out, the metrics are not those of llama-server"));
        }
        (Some(given), _) => {
            let body = given.read().await?;
            let slots = read_slots(&body).map_err(|error| Failure::Malformed(format!("{given}: {error}")))?;
            merge(view, &slots);
        }
        (None, Source::Server(url)) if is_llama => match server::slots(url).await {
            Ok(slots) => merge(view, &slots),
            Err(words) => view.next.push(words),
        },
        (None, _) if is_llama => view.next.push(
            "add --slots with what llama-server answers on /slots: maxConcurrency and kvCacheUsage are told there alone"
                .to_owned(),
        ),
        (None, _) => {}
    }
    Ok(())
}

fn merge(view: &mut View, slots: &Slots) {
    let known = view.sample.kv_cache_usage.is_some();
    merge_slots(&mut view.sample, slots);
    let mut fed = |field| {
        view.sources.push(FieldSource {
            field,
            names: vec!["/slots".to_owned()],
            series: 1,
        });
    };
    fed("maxConcurrency");
    if !known && view.sample.kv_cache_usage.is_some() {
        fed("kvCacheUsage");
    }
}

/// Says something beside the result.
fn note(words: &str) {
    let _ = writeln!(io::stderr(), "infmon: {words}");
}

/// Writes the result. Who reads no further (`| head`) has what was wanted.
fn print(result: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(result).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
